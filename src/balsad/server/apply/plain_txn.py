"""Plain txns, applied and answered: to the byte what `apply.txn` makes of the same requests.

Source: etcd server/etcdserver/apply.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.errors import CompactedError, FutureRevError, LeaseNotFoundError
from balsad.mvcc import lease_of, value_of
from balsad.server.answers import inner_header
from balsad.server.plain_txn import (
    CREATE,
    DELETE,
    GET,
    LEASE,
    MOD,
    PUT,
    RANGE,
    VALUE,
    Compare,
    Operation,
    PlainTxn,
    length_bytes,
)
from balsad.server.ranges import answer_range
from balsad.wire import uvarint

if TYPE_CHECKING:
    from balsad.lease import Lessor
    from balsad.mvcc import Store
    from balsad.server.apply.tally import Tally


def read(store: Store, txn: PlainTxn, header: Callable[[int], bytes], tally: Tally) -> bytes:
    """The TxnResponse to a txn of ranges alone. Raises: CompactedError, FutureRevError."""
    compared = _hold(store, txn.compares)
    succeeded = compared >= 0
    operations = txn.success if succeeded else txn.failure
    revision = store.current_revision
    _check_ranges(store, operations)
    tally.add(abs(compared) + len(operations))
    parts = [header(revision)]
    if succeeded:
        parts.append(b"\x10\x01")
    _read_all(store, operations, inner_header(revision), parts)
    return b"".join(parts)


def apply(store: Store, lessor: Lessor, txn: PlainTxn, header: Callable[[int], bytes], tally: Tally) -> bytes:
    """The TxnResponse to a txn with writes, done.

    Raises: LeaseNotFoundError, CompactedError, FutureRevError; then nothing was changed.
    """
    compared = _hold(store, txn.compares)
    succeeded = compared >= 0
    operations = txn.success if succeeded else txn.failure
    puts = deletes = previous = put_bytes = 0
    for operation in operations:
        kind = operation[0]
        if kind == PUT:
            puts += 1
            lease = operation[4]
            if lease and not lessor.exists(lease):
                raise LeaseNotFoundError
            size = len(operation[3])
            if size:
                size -= 1 if size <= 128 else length_bytes(operation[3])
            put_bytes += len(operation[1]) + size
        elif kind == DELETE:
            deletes += 1
        else:
            continue
        if operation[5]:
            previous += 1
    if len(operations) > puts + deletes:
        _check_ranges(store, operations)
    # As `tally.add` twice, without the calls.
    if compared < 0:
        compared = -compared
    done = len(operations) + previous
    tally.ranges += compared + done - puts - deletes
    if puts:
        tally.puts += puts
        tally.put_bytes += put_bytes
    if deletes:
        tally.deletes += deletes
    if compared > 1:
        tally.txns += 1
    if done > 1:
        tally.txns += 1
    head = header(store.current_revision)
    parts = [head, b"\x10\x01"] if succeeded else [head]
    if puts == 1 and not deletes:
        parts[0] = header(_put_one(store, operations, parts))
    elif puts or deletes:
        parts[0] = header(_write_all(store, operations, parts))
    else:
        _read_all(store, operations, inner_header(store.current_revision), parts)
    return b"".join(parts)


def _hold(store: Store, compares: list[Compare]) -> int:
    """How many were looked at: all of them, when they hold; else less than 0."""
    looked = 0
    for target, result, key, number, value in compares:
        looked += 1
        if target == VALUE:
            kv = store.get(key)
            if kv is None:
                # A missing value equals nothing, not even the empty one.
                return -looked
            found = value_of(kv)
            order = (found > value) - (found < value)
        else:
            have = 0
            if target == LEASE:
                kv = store.get(key)
                if kv is not None:
                    have = lease_of(kv)
            else:
                meta = store.meta(key)
                if meta is not None:
                    have = meta[0] if target == MOD else meta[2] if target == CREATE else meta[3]
            order = (have > number) - (have < number)
        if result == 0:
            if order:
                return -looked
        elif result == 1:
            if order <= 0:
                return -looked
        elif result == 2:
            if order >= 0:
                return -looked
        elif not order:
            return -looked
    return looked


def _check_ranges(store: Store, operations: list[Operation]) -> None:
    for operation in operations:
        if operation[0] == RANGE:
            revision = operation[6].revision
            if revision == 0:
                continue
            if revision > store.current_revision:
                raise FutureRevError
            if revision < store.compact_revision:
                raise CompactedError


def _read_all(view: Store, operations: list[Operation], inner: bytes, parts: list[bytes]) -> None:
    for operation in operations:
        if operation[0] == GET:
            _add_found(parts, inner, view.get(operation[1]))
        else:
            _add(parts, GET, answer_range(view, operation[6], inner_header))


def _put_one(store: Store, operations: list[Operation], parts: list[bytes]) -> int:
    """Of several operations one is a put, the others read; gives the revision it makes."""
    inner = b""
    for kind, key, key_field, value_field, lease, wants_previous, request in operations:
        if kind == PUT:
            previous = store.get(key) if wants_previous else None
            inner = inner_header(store.put(key, key_field, value_field, lease))
            _add_put(parts, inner, previous)
            continue
        if kind == GET:
            _add_found(parts, inner or inner_header(store.current_revision), store.get(key))
        else:
            _add(parts, GET, answer_range(store, request, inner_header))
    return store.current_revision


def _write_all(store: Store, operations: list[Operation], parts: list[bytes]) -> int:
    """Any operations, at one revision; gives that."""
    txn = store.write()
    try:
        for kind, key, field, value_field, lease, flag, request in operations:
            if kind == PUT:
                previous = txn.get(key) if flag else None
                _add_put(parts, inner_header(txn.put_fields(key, field, value_field, lease)), previous)
            elif kind == GET:
                _add_found(parts, inner_header(txn.revision), txn.get(key))
            elif kind == DELETE:
                gone = txn.range(key, field).kvs if flag else []
                deleted = txn.delete_range(key, field)
                _add_delete(parts, inner_header(txn.revision), deleted, gone)
            else:
                _add(parts, GET, answer_range(txn, request, inner_header))
    finally:
        revision = txn.end()
    return revision


# ResponseOps: 1a length, then the kind's tag and length around the response itself.


def _add(parts: list[bytes], tag: int, message: bytes) -> None:
    size = uvarint(len(message))
    parts.append(b"\x1a%b%c%b" % (uvarint(1 + len(size) + len(message)), tag, size))
    parts.append(message)


def _add_put(parts: list[bytes], inner: bytes, previous: bytes | None) -> None:
    if previous is None:
        size = len(inner)
        parts.append(b"\x1a%c\x12%c%b" % (size + 2, size, inner))
    else:
        _add(parts, PUT, b"%b\x12%b%b" % (inner, uvarint(len(previous)), previous))


def _add_found(parts: list[bytes], inner: bytes, kv: bytes | None) -> None:
    """The RangeResponse of one key."""
    if kv is None:
        size = len(inner)
        parts.append(b"\x1a%c\x0a%c%b" % (size + 2, size, inner))
        return
    size = len(kv)
    kv_size = uvarint(size)
    length = len(inner) + 3 + len(kv_size) + size
    op_size = uvarint(length)
    parts.append(b"\x1a%b\x0a%b%b\x12%b" % (uvarint(length + 1 + len(op_size)), op_size, inner, kv_size))
    parts.append(kv)
    parts.append(b"\x20\x01")


def _add_delete(parts: list[bytes], inner: bytes, deleted: int, previous: list[bytes]) -> None:
    pieces = [inner]
    if deleted:
        pieces.append(b"\x10" + uvarint(deleted))
    for kv in previous:
        pieces.append(b"\x1a" + uvarint(len(kv)))
        pieces.append(kv)
    _add(parts, DELETE, b"".join(pieces))
