"""Transactions: compares first, against the state before; then one branch, in order, at one revision.

Source: etcd server/etcdserver/apply.go (compareToPath, checkRequests, applyTxn).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import CompactedError, FutureRevError
from balsad.server.answers import EMPTY_HEADER, inner_header, txn_answer
from balsad.server.apply import kv
from balsad.server.ranges import RangeView, answer_range, lease_of, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from balsad.lease import Lessor
    from balsad.mvcc import Store, WriteTxn
    from balsad.proto import rpc_pb2
    from balsad.server.apply.tally import Tally

_RANGE, _PUT, _DELETE, _TXN = 1, 2, 3, 4

_VERSION: Final = 0
_CREATE: Final = 1
_MOD: Final = 2
_VALUE: Final = 3
_LEASE: Final = 4

_EQUAL: Final = 0
_GREATER: Final = 1
_LESS: Final = 2
_NOT_EQUAL: Final = 3


def is_readonly(request: rpc_pb2.TxnRequest) -> bool:
    """Whether nothing but ranges stands in it; a nested txn counts as a write, as in etcd."""
    return all(
        operation.WhichOneof("request") == "request_range"
        for branch in (request.success, request.failure)
        for operation in branch
    )


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    return all(
        operation.request_range.serializable for branch in (request.success, request.failure) for operation in branch
    )


class Path:
    """Which branch every txn of a nest takes, decided before anything is changed; `compared` tells how many compares
    it took."""

    __slots__ = ("compared", "inner", "succeeded")

    def __init__(self, succeeded: bool, inner: list[Path], compared: int) -> None:
        self.succeeded = succeeded
        self.inner = inner
        self.compared: int = compared + sum([path.compared for path in inner])


def _branch(request: rpc_pb2.TxnRequest, path: Path) -> Sequence[rpc_pb2.RequestOp]:
    return request.success if path.succeeded else request.failure


def choose(view: RangeView, request: rpc_pb2.TxnRequest) -> Path:
    succeeded = True
    compared = 0
    for compare in request.compare:
        compared += 1
        if not _holds(view, compare):
            succeeded = False
            break
    operations = request.success if succeeded else request.failure
    return Path(
        succeeded,
        [
            choose(view, operation.request_txn)
            for operation in operations
            if operation.WhichOneof("request") == "request_txn"
        ],
        compared,
    )


def _holds(view: RangeView, compare: rpc_pb2.Compare) -> bool:
    found = view.range(compare.key, compare.range_end)
    if not found.kvs:
        # A missing value equals nothing, not even the empty one.
        return compare.target != _VALUE and _compared(compare, (0, 0, 0, 0), b"")
    return all(_compared(compare, meta, stored) for meta, stored in zip(found.metas, found.kvs, strict=True))


def _compared(compare: rpc_pb2.Compare, meta: Sequence[int], stored: bytes) -> bool:
    target = compare.target
    if target == _VALUE:
        value = value_of(stored)
        wanted = compare.value
        order = (value > wanted) - (value < wanted)
    else:
        if target == _VERSION:
            have, want = meta[3], compare.version
        elif target == _CREATE:
            have, want = meta[2], compare.create_revision
        elif target == _MOD:
            have, want = meta[0], compare.mod_revision
        elif target == _LEASE:
            have, want = lease_of(stored), compare.lease
        else:
            have = want = 0
        order = (have > want) - (have < want)
    result = compare.result
    if result == _EQUAL:
        return order == 0
    if result == _NOT_EQUAL:
        return order != 0
    if result == _GREATER:
        return order > 0
    if result == _LESS:
        return order < 0
    return True


def _each(request: rpc_pb2.TxnRequest, path: Path, check: Callable[[rpc_pb2.RequestOp], None]) -> None:
    inner = iter(path.inner)
    for operation in _branch(request, path):
        if operation.WhichOneof("request") == "request_txn":
            _each(operation.request_txn, next(inner), check)
        else:
            check(operation)


def _check_ranges(store: Store, request: rpc_pb2.TxnRequest, path: Path) -> None:
    current, compacted = store.current_revision, store.compact_revision

    def check(operation: rpc_pb2.RequestOp) -> None:
        if operation.WhichOneof("request") != "request_range":
            return
        revision = operation.request_range.revision
        if revision == 0:
            return
        if revision > current:
            raise FutureRevError
        if revision < compacted:
            raise CompactedError

    _each(request, path, check)


def begin_read(store: Store, request: rpc_pb2.TxnRequest, tally: Tally) -> tuple[Path, Sequence[rpc_pb2.RequestOp]]:
    """Which branch a txn of ranges alone takes, and the ranges. Raises: CompactedError, FutureRevError."""
    path = choose(store, request)
    _check_ranges(store, request, path)
    operations = _branch(request, path)
    tally.add(path.compared + len(operations))
    return path, operations


def read(store: Store, request: rpc_pb2.TxnRequest, header: Callable[[int], bytes], tally: Tally) -> bytes:
    """The TxnResponse to a txn of ranges alone. Raises: CompactedError, FutureRevError."""
    path, operations = begin_read(store, request, tally)
    responses = [(_RANGE, answer_range(store, operation.request_range, inner_header)) for operation in operations]
    return txn_answer(header(store.current_revision), path.succeeded, responses)


def apply(
    store: Store, lessor: Lessor, request: rpc_pb2.TxnRequest, header: Callable[[int], bytes], tally: Tally
) -> bytes:
    """The TxnResponse to a txn with writes, done.

    Raises: KeyNotFoundError, LeaseNotFoundError, CompactedError, FutureRevError; then nothing was changed.
    """
    path = choose(store, request)

    txn = store.write()
    try:

        def check(operation: rpc_pb2.RequestOp) -> None:
            if operation.WhichOneof("request") == "request_put":
                kv.check_put(txn, lessor, operation.request_put)

        _each(request, path, check)
        _check_ranges(store, request, path)
        responses = _run(txn, request, path, tally)
        _count(request, path, tally)
    finally:
        revision = txn.end()
    return txn_answer(header(revision), path.succeeded, responses)


def _run(txn: WriteTxn, request: rpc_pb2.TxnRequest, path: Path, tally: Tally) -> list[tuple[int, bytes]]:
    responses: list[tuple[int, bytes]] = []
    inner = iter(path.inner)
    for operation in _branch(request, path):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            responses.append((_RANGE, answer_range(txn, operation.request_range, inner_header)))
        elif kind == "request_put":
            responses.append((_PUT, kv.put_in_txn(txn, operation.request_put, tally)))
        elif kind == "request_delete_range":
            responses.append((_DELETE, kv.delete_in_txn(txn, operation.request_delete_range)))
        elif kind == "request_txn":
            inner_path = next(inner)
            nested = _run(txn, operation.request_txn, inner_path, tally)
            responses.append((_TXN, txn_answer(EMPTY_HEADER, inner_path.succeeded, nested)))
    return responses


def _count(request: rpc_pb2.TxnRequest, path: Path, tally: Tally) -> None:
    """Compares and checks read the state before, which is a txn of its own."""
    before = [path.compared]
    done = [0, 0, 0]

    def count(operation: rpc_pb2.RequestOp) -> None:
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            done[0] += 1
        elif kind == "request_put":
            put = operation.request_put
            done[0] += kv.asks_first(put)
            done[1] += 1
            before[0] += put.ignore_value or put.ignore_lease
        elif kind == "request_delete_range":
            done[0] += operation.request_delete_range.prev_kv
            done[2] += 1

    _each(request, path, count)
    tally.add(before[0])
    tally.add(done[0], done[1], done[2])
