"""A RangeRequest's filters, order and limit, applied to what mvcc found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from balsad.server.answers import HeaderBytes, range_answer
from balsad.wire import read_uvarint, skip_field

if TYPE_CHECKING:
    from balsad.mvcc import KeyMeta, RangeResult, Store
    from balsad.proto import rpc_pb2

_NONE, _ASCEND, _DESCEND = 0, 1, 2
DESCEND: Final = _DESCEND
BY_KEY: Final = 0
_KEY, _VERSION, _CREATE, _MOD, _VALUE = 0, 1, 2, 3, 4


# Bytes of an answer that is kept for those who ask the same, and of all that are kept.
ANSWER_KEPT_MIN: Final = 16 << 10
ANSWERS_KEPT_MAX: Final = 4 << 20

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
    sort_keys = sort_keys_of(target, kvs, metas)
    if sort_keys is None:
        return kvs
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


class LargeAnswers:
    """Large answers to ranges, kept as long as nothing is written: whoever asks the same gets the same bytes.

    Many clients that ask for one long range at once, as they do after a restart, cost one answer, in time and in
    memory while they read it.
    """

    __slots__ = ("_answers", "_backend", "_header", "_revision", "_size", "_store", "_term")

    def __init__(self, store: Store, header: HeaderBytes) -> None:
        self._store = store
        self._header = header
        self._answers: dict[bytes, bytes] = {}
        self._size = 0
        # What the answers hang on.
        self._revision = -1
        self._term = -1
        self._backend: object = None

    def find(self, raw: bytes) -> bytes | None:
        """The answer to a request with these bytes, if it was given before and is still right."""
        if not self._answers:
            return None
        store = self._store
        if (
            self._revision != store.current_revision
            or self._term != self._header.term
            or self._backend is not store.backend
        ):
            self._answers.clear()
            self._size = 0
            return None
        return self._answers.get(raw)

    def answer(self, raw: bytes, request: rpc_pb2.RangeRequest) -> bytes:
        """The RangeResponse to `request`, whose bytes are `raw`. Raises: CompactedError, FutureRevError."""
        found = self.find(raw)
        if found is not None:
            return found
        answer = answer_range(self._store, request, self._header.at)
        self.keep(raw, request, answer)
        return answer

    def keep(self, raw: bytes, request: rpc_pb2.RangeRequest, answer: bytes) -> None:
        """Keep an answer that is right as long as nothing is written."""
        self.find(raw)  # which lets go of those that are right no more
        store = self._store
        size = len(answer)
        # A past revision may be compacted, which is no write.
        if ANSWER_KEPT_MIN <= size <= ANSWERS_KEPT_MAX and request.revision <= 0:
            if self._size + size > ANSWERS_KEPT_MAX:
                self._answers.clear()
                self._size = 0
            self._answers[raw] = answer
            self._size += size
            self._revision = store.current_revision
            self._term = self._header.term
            self._backend = store.backend


def answer_range(view: RangeView, request: rpc_pb2.RangeRequest, header: Callable[[int], bytes]) -> bytes:
    """The RangeResponse to `request`; `header` makes field 1 for the revision it is answered at.

    Raises: CompactedError, FutureRevError.
    """
    result = view.range(
        request.key,
        request.range_end,
        revision=request.revision,
        limit=fetched(request),
        count_only=request.count_only,
    )
    return compose(request, header(result.revision), result.kvs, result.metas, result.count)


def fetched(request: rpc_pb2.RangeRequest) -> int:
    """How many rows of the range are needed, 0 for all of them."""
    # Sorting and filtering need all; otherwise one more than asked tells `more`.
    is_plain = request.sort_order == _NONE and not _is_filtered(request)
    return request.limit + 1 if request.limit > 0 and is_plain else 0


def _is_filtered(request: rpc_pb2.RangeRequest) -> bool:
    return bool(
        request.max_mod_revision
        or request.min_mod_revision
        or request.max_create_revision
        or request.min_create_revision
    )


def pass_filters(
    request: rpc_pb2.RangeRequest, kvs: list[bytes], metas: list[KeyMeta]
) -> tuple[list[bytes], list[KeyMeta]]:
    """Those rows that have the revisions that were asked for."""
    if not _is_filtered(request):
        return kvs, metas
    max_mod, min_mod = request.max_mod_revision, request.min_mod_revision
    max_create, min_create = request.max_create_revision, request.min_create_revision
    keep = [
        at
        for at, meta in enumerate(metas)
        if not (max_mod and meta[0] > max_mod)
        and not (min_mod and meta[0] < min_mod)
        and not (max_create and meta[2] > max_create)
        and not (min_create and meta[2] < min_create)
    ]
    return [kvs[at] for at in keep], [metas[at] for at in keep]


def order_of(request: rpc_pb2.RangeRequest) -> int:
    """0 as mvcc gives them, 1 ascending, 2 descending."""
    order: int = request.sort_order
    return _ASCEND if request.sort_target != _KEY and order == _NONE else order


def sort_keys_of(target: int, kvs: list[bytes], metas: list[KeyMeta]) -> list[Any] | None:
    """By what rows are sorted; None when they stay as they are, which is in the order of their keys."""
    if target == _VALUE:
        return [value_of(kv) for kv in kvs]
    place = {_VERSION: 3, _CREATE: 2, _MOD: 0}.get(target)
    return None if place is None else [meta[place] for meta in metas]


def compose(request: rpc_pb2.RangeRequest, header: bytes, kvs: list[bytes], metas: list[KeyMeta], count: int) -> bytes:
    """The RangeResponse to `request` for what was found: filtered, in order, and no more of it than asked."""
    limit = request.limit
    kvs, metas = pass_filters(request, kvs, metas)
    order = order_of(request)
    if order != _NONE and len(kvs) > 1:
        kvs = _ordered(kvs, metas, request.sort_target, descending=order == _DESCEND)
    more = limit > 0 and len(kvs) > limit
    if more:
        kvs = kvs[:limit]
    if request.keys_only:
        kvs = [without_value(kv) for kv in kvs]
    return range_answer(header, kvs, more=more, count=count)
