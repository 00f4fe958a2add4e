"""Response messages, put together from bytes that are there already.

A ResponseHeader differs between two answers of one member in its revision
alone (and the term, once an election), so the rest is made once. Stored
KeyValue bytes go into an answer as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from balsad.wire import LAST, MORE, uvarint, varint

EMPTY_HEADER: Final = b"\x0a\x00"

# Tag and size of the field `kvs` of a range's answer.
KV_HEADS_MAX: Final = 2048
KV_HEADS: Final = [b"\x12" + LAST[size] for size in range(KV_HEADS_MAX)]


class HeaderBytes:
    """The bytes of field 1, `header`, of every response of this member."""

    __slots__ = ("_after", "_before", "_cached", "_cached_revision", "_high", "_stem", "_tail", "term")

    def __init__(self, *, cluster_id: int, member_id: int) -> None:
        self._stem = b"\x08" + uvarint(cluster_id) + b"\x10" + uvarint(member_id)
        self.term = -1
        self._tail = b""
        # What stands before and behind a revision's low 14 bits, while the others stay the same.
        self._high = -1
        self._before = b""
        self._after = b""
        self._cached = b""
        self._cached_revision = -1
        self.set_term(0)

    def set_term(self, term: int) -> None:
        """Headers name this raft term from now on."""
        if term == self.term:
            return
        self.term = term
        self._tail = b"\x20" + uvarint(term) if term else b""
        self._high = -1
        self._cached_revision = -1

    def at(self, revision: int) -> bytes:
        """The header with `revision`; 0 leaves the field out, as protobuf does."""
        if revision == self._cached_revision:
            return self._cached
        high = revision >> 14
        if high != self._high:
            self._note_high(high)
        if high:
            header = b"%b%b%b" % (self._before, MORE[revision & 16383], self._after)
        else:
            number = b"\x18" + LAST[revision] if revision else b""
            header = b"\x0a%b%b%b%b" % (
                uvarint(len(self._stem) + len(number) + len(self._tail)),
                self._stem,
                number,
                self._tail,
            )
        self._cached = header
        self._cached_revision = revision
        return header

    def _note_high(self, high: int) -> None:
        self._high = high
        digits = uvarint(high)
        size = len(self._stem) + 3 + len(digits) + len(self._tail)
        self._before = b"\x0a%b%b\x18" % (uvarint(size), self._stem)
        self._after = digits + self._tail


def inner_header(revision: int) -> bytes:
    """The header of an operation inside a txn: it names the revision alone."""
    if revision == 0:
        return EMPTY_HEADER
    digits = b"\x18" + uvarint(revision)
    return b"\x0a" + uvarint(len(digits)) + digits


def put_answer(header: bytes, previous: bytes | None) -> bytes:
    if previous is None:
        return header
    return header + b"\x12" + uvarint(len(previous)) + previous


def delete_answer(header: bytes, deleted: int, previous: Sequence[bytes]) -> bytes:
    tail = b"\x10" + uvarint(deleted) if deleted else b""
    return b"%b%b%b" % (header, tail, delete_rows(previous)) if previous else header + tail


def delete_rows(previous: Sequence[bytes]) -> bytes:
    """Some of the KeyValues in a DeleteRangeResponse."""
    parts: list[bytes] = []
    for kv in previous:
        parts.append(b"\x1a" + uvarint(len(kv)))
        parts.append(kv)
    return b"".join(parts)


def range_rows(kvs: Sequence[bytes]) -> bytes:
    """Some of the rows of a RangeResponse."""
    parts = [b""] * (2 * len(kvs))
    parts[::2] = [KV_HEADS[len(kv)] if len(kv) < KV_HEADS_MAX else b"\x12" + uvarint(len(kv)) for kv in kvs]
    parts[1::2] = kvs
    return b"".join(parts)


def range_answer(header: bytes, kvs: Sequence[bytes], *, more: bool, count: int) -> bytes:
    tail = b"\x18\x01" if more else b""
    if count:
        tail += b"\x20" + varint(count)
    if not kvs:
        return header + tail
    parts = [header] * (2 * len(kvs) + 2)
    parts[1:-1:2] = [KV_HEADS[len(kv)] if len(kv) < KV_HEADS_MAX else b"\x12" + uvarint(len(kv)) for kv in kvs]
    parts[2:-1:2] = kvs
    parts[-1] = tail
    return b"".join(parts)


def txn_answer(header: bytes, succeeded: bool, responses: Sequence[tuple[int, bytes]]) -> bytes:
    """`responses`: the field number in ResponseOp (1 range, 2 put, 3 delete, 4 txn) and the message."""
    parts = [header]
    if succeeded:
        parts.append(b"\x10\x01")
    for field, message in responses:
        parts.append(_response_head(field, len(message)))
        parts.append(message)
    return b"".join(parts)


def _response_head(field: int, size: int) -> bytes:
    digits = uvarint(size)
    return b"\x1a" + uvarint(1 + len(digits) + size) + bytes((field << 3 | 2,)) + digits


def range_response_head(size: int) -> bytes:
    """What stands before a RangeResponse of so many bytes in a TxnResponse."""
    return _response_head(1, size)
