"""Request ids, unique over members and restarts.

An id is the low two bytes of the member id, five bytes of Unix milliseconds at
start, and a counter that may run into the milliseconds.

Source: etcd pkg/idutil.
"""

from __future__ import annotations

from typing import Final

from balsad.wire import MORE, uvarint

_SUFFIX_BITS: Final = 48
_SUFFIX_MASK: Final = (1 << _SUFFIX_BITS) - 1


class RequestIds:
    __slots__ = ("_head", "_high", "_prefix", "_rest", "_suffix")

    def __init__(self, member_id: int, *, unix_ms: int) -> None:
        self._prefix = (member_id & 0xFFFF) << _SUFFIX_BITS
        self._suffix = (unix_ms & ((1 << 40) - 1)) << 8
        # Of the field with an id, what stands before and behind the id's low 14 bits, while the others stay the same.
        self._high = -1
        self._head = b""
        self._rest = b""

    def next(self) -> int:
        suffix = (self._suffix + 1) & _SUFFIX_MASK
        self._suffix = suffix
        return self._prefix | suffix

    def next_field(self) -> tuple[int, bytes]:
        """A new id, and the field `header` of an InternalRaftRequest that bears nothing but this id."""
        suffix = (self._suffix + 1) & _SUFFIX_MASK
        self._suffix = suffix
        request_id = self._prefix | suffix
        if suffix >> 14 != self._high:
            if request_id < 16384:
                return request_id, id_field(request_id)
            self._high = suffix >> 14
            self._rest = uvarint(request_id >> 14)
            self._head = b"\xa2\x06%c\x08" % (len(self._rest) + 3)
        return request_id, b"%b%b%b" % (self._head, MORE[suffix & 16383], self._rest)


def id_field(request_id: int) -> bytes:
    """The field `header` of an InternalRaftRequest with this id."""
    digits = uvarint(request_id)
    return b"\xa2\x06%c\x08%b" % (len(digits) + 1, digits)
