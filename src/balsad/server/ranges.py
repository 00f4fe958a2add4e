"""A RangeRequest's filters, order and limit, applied to what mvcc found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from balsad.server.answers import range_answer
from balsad.wire import read_uvarint, skip_field

if TYPE_CHECKING:
    from balsad.mvcc import KeyMeta, RangeResult
    from balsad.proto import rpc_pb2

_NONE, _ASCEND, _DESCEND = 0, 1, 2
_KEY, _VERSION, _CREATE, _MOD, _VALUE = 0, 1, 2, 3, 4


_Row = tuple[Any, bytes]


class RangeView(Protocol):
    """What a range is asked of: the store, or a write txn that sees its own writes."""

    def range(
        self,
        key: bytes,
        end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult: ...


def field_of(kv: bytes, tag: int) -> bytes:
    """A length-delimited field of KeyValue bytes, b"" when it is not there."""
    pos = 0
    end = len(kv)
    while pos < end:
        found, pos = read_uvarint(kv, pos)
        if found == tag:
            size, pos = read_uvarint(kv, pos)
            return kv[pos : pos + size]
        pos = skip_field(kv, pos, found)
    return b""


def value_of(kv: bytes) -> bytes:
    return field_of(kv, 0x2A)


def lease_of(kv: bytes) -> int:
    pos = 0
    end = len(kv)
    while pos < end:
        tag, pos = read_uvarint(kv, pos)
        if tag == 0x30:
            lease, _ = read_uvarint(kv, pos)
            return lease - (1 << 64) if lease >> 63 else lease
        pos = skip_field(kv, pos, tag)
    return 0


def without_value(kv: bytes) -> bytes:
    """The KeyValue as `keys_only` gives it."""
    pos = 0
    end = len(kv)
    while pos < end:
        start = pos
        tag, pos = read_uvarint(kv, pos)
        pos = skip_field(kv, pos, tag)
        if tag == 0x2A:
            return kv[:start] + kv[pos:]
    return kv


def _sort_like_go(items: list[_Row], less: Callable[[_Row, _Row], bool]) -> None:
    """Sort in place, leaving ties where Go 1.16's sort.Sort leaves them among up to twelve items.

    Clients do compare two servers' lists, and etcd's order of ties is whatever
    its sort makes of it: up to twelve items one pass with gap six, then
    insertion. Above that one order of ties is as good as another.
    """
    size = len(items)
    for at in range(6, size):
        if less(items[at], items[at - 6]):
            items[at], items[at - 6] = items[at - 6], items[at]
    for start in range(1, size):
        at = start
        while at > 0 and less(items[at], items[at - 1]):
            items[at], items[at - 1] = items[at - 1], items[at]
            at -= 1


def _ordered(kvs: list[bytes], metas: list[KeyMeta], target: int, *, descending: bool) -> list[bytes]:
    if target == _KEY:
        # mvcc gives keys in ascending order, and no two are equal.
        return kvs[::-1] if descending else kvs
    sort_keys: list[Any]
    if target == _VALUE:
        sort_keys = [value_of(kv) for kv in kvs]
    else:
        place = {_VERSION: 3, _CREATE: 2, _MOD: 0}.get(target)
        if place is None:
            return kvs
        sort_keys = [meta[place] for meta in metas]
    rows: list[_Row] = list(zip(sort_keys, kvs, strict=True))
    if len(rows) > 12:
        rows.sort(key=_sort_key, reverse=descending)
    elif descending:
        _sort_like_go(rows, _greater)
    else:
        _sort_like_go(rows, _less)
    return [kv for _, kv in rows]


def _sort_key(row: _Row) -> Any:
    return row[0]


def _less(a: _Row, b: _Row) -> bool:
    return bool(a[0] < b[0])


def _greater(a: _Row, b: _Row) -> bool:
    return bool(a[0] > b[0])


def answer_range(view: RangeView, request: rpc_pb2.RangeRequest, header: Callable[[int], bytes]) -> bytes:
    """The RangeResponse to `request`; `header` makes field 1 for the revision it is answered at.

    Raises: CompactedError, FutureRevError.
    """
    order: int = request.sort_order
    limit = request.limit
    max_mod, min_mod = request.max_mod_revision, request.min_mod_revision
    max_create, min_create = request.max_create_revision, request.min_create_revision
    filtered = bool(max_mod or min_mod or max_create or min_create)
    # Sorting and filtering need all rows; otherwise one more than asked tells `more`.
    fetch = limit + 1 if limit > 0 and order == _NONE and not filtered else 0
    result = view.range(
        request.key,
        request.range_end,
        revision=request.revision,
        limit=fetch,
        count_only=request.count_only,
    )
    kvs, metas = result.kvs, result.metas
    if filtered:
        keep = [
            at
            for at, meta in enumerate(metas)
            if not (max_mod and meta[0] > max_mod)
            and not (min_mod and meta[0] < min_mod)
            and not (max_create and meta[2] > max_create)
            and not (min_create and meta[2] < min_create)
        ]
        kvs = [kvs[at] for at in keep]
        metas = [metas[at] for at in keep]
    if request.sort_target != _KEY and order == _NONE:
        order = _ASCEND
    if order != _NONE and len(kvs) > 1:
        kvs = _ordered(kvs, metas, request.sort_target, descending=order == _DESCEND)
    more = limit > 0 and len(kvs) > limit
    if more:
        kvs = kvs[:limit]
    if request.keys_only:
        kvs = [without_value(kv) for kv in kvs]
    return range_answer(header(result.revision), kvs, more=more, count=result.count)
