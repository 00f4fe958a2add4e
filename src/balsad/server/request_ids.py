"""Request ids, unique over members and restarts.

An id is the low two bytes of the member id, five bytes of Unix milliseconds at
start, and a counter that may run into the milliseconds.

Source: etcd pkg/idutil.
"""

from __future__ import annotations

from typing import Final

_SUFFIX_BITS: Final = 48
_SUFFIX_MASK: Final = (1 << _SUFFIX_BITS) - 1


class RequestIds:
    __slots__ = ("_prefix", "_suffix")

    def __init__(self, member_id: int, *, unix_ms: int) -> None:
        self._prefix = (member_id & 0xFFFF) << _SUFFIX_BITS
        self._suffix = (unix_ms & ((1 << 40) - 1)) << 8

    def next(self) -> int:
        suffix = (self._suffix + 1) & _SUFFIX_MASK
        self._suffix = suffix
        return self._prefix | suffix
