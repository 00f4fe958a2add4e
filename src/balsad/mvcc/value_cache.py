"""KeyValue bytes of live keys in memory, bounded by bytes.

The cache is never asked what is true: what it lacks is read from the backend.
"""

from __future__ import annotations

from itertools import islice, repeat
from typing import Final

# What an entry costs beside its value: dict slot, bytes objects, the key's share.
ENTRY_OVERHEAD: Final = 120
CACHE_BYTES_MAX: Final = 256 << 20
_EVICTED_AT_ONCE: Final = 256


class ValueCache:
    """`kvs` holds the current KeyValue of keys, oldest first; whoever writes to it keeps `size` true."""

    __slots__ = ("kvs", "size", "size_max")

    def __init__(self, size_max: int) -> None:
        self.kvs: dict[bytes, bytes] = {}
        self.size = 0
        self.size_max = size_max

    def shed(self, count: int) -> int:
        """Let go of up to `count` values of a cache that is of no use any more; gives of how many."""
        kvs = self.kvs
        shed = 0
        while kvs and shed < count:
            kvs.popitem()
            shed += 1
        return shed

    def put(self, key: bytes, kv: bytes) -> None:
        old = self.kvs.get(key)
        self.kvs[key] = kv
        if old is None:
            self.size += len(kv) + ENTRY_OVERHEAD
        else:
            self.size += len(kv) - len(old)
        if self.size > self.size_max:
            self.evict()

    def drop(self, key: bytes) -> None:
        old = self.kvs.pop(key, None)
        if old is not None:
            self.size -= len(old) + ENTRY_OVERHEAD

    def drop_all(self, keys: list[bytes]) -> None:
        kvs = self.kvs
        before = len(kvs)
        gone = list(map(kvs.pop, keys, repeat(b"")))
        self.size -= sum(map(len, gone)) + ENTRY_OVERHEAD * (before - len(kvs))

    def evict(self) -> None:
        """Make room, from the longest held on."""
        # A dict whose first entries are gone is walked over them again by every
        # look at its front; taking many at a time keeps that cheap.
        kvs = self.kvs
        enough = self.size_max - self.size_max // 8
        while self.size > self.size_max and kvs:
            for key in list(islice(kvs, _EVICTED_AT_ONCE)):
                self.size -= len(kvs.pop(key)) + ENTRY_OVERHEAD
                if self.size <= enough:
                    break
