"""An ordered set of keys that is cheap to add to.

New keys wait in a short unsorted list, and are sorted in before anybody asks
for order: adding keys one by one to the sorted list would be most of what a put
of a new key costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from sortedcontainers import SortedList

OPEN_END: Final = b"\0"

# Longer, and the one put that sorts them in would be felt; shorter, and little is saved.
FRESH_MAX: Final = 512


class SortedKeys:
    """Ranges are given as on the wire: `end` b"\\0" means no end."""

    __slots__ = ("_fresh", "_sorted")

    def __init__(self) -> None:
        self._fresh: list[bytes] = []
        self._sorted: Any = SortedList()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._fresh)

    def reset(self, keys: Iterable[bytes]) -> None:
        """Hold these keys and no others."""
        self._fresh = []
        self._sorted = SortedList(keys)

    def take_stretches(self, stretches: list[list[bytes]]) -> None:
        """Hold what these lists hold and nothing else: each in order, none empty, one behind the other."""
        # What SortedList does with a list of keys, but for the cutting, which for a million takes long.
        keys = SortedList()
        keys._lists = stretches
        keys._maxes = [stretch[-1] for stretch in stretches]
        keys._len = sum(map(len, stretches))
        self._fresh = []
        self._sorted = keys

    def shed(self, count: int) -> int:
        """Let go of about `count` keys of a set that is of no use any more; gives of how many."""
        self._fresh = []
        lists = self._sorted._lists
        shed = 0
        while lists and shed < count:
            shed += len(lists.pop())
        return shed

    def add(self, key: bytes) -> None:
        """Take a key that is not in the set."""
        fresh = self._fresh
        fresh.append(key)
        if len(fresh) >= FRESH_MAX:
            self._settle()

    def remove(self, key: bytes) -> None:
        """Drop a key that is in the set."""
        if self._fresh:
            self._settle()
        self._sorted.remove(key)

    def remove_all(self, keys: list[bytes]) -> None:
        """Drop many keys that are in the set; much quicker than one by one when they are a good part of it."""
        if self._fresh:
            self._settle()
        if 8 * len(keys) < len(self._sorted):
            for key in keys:
                self._sorted.remove(key)
        else:
            gone = set(keys)
            self._sorted = SortedList([key for key in self._sorted if key not in gone])

    def add_all(self, keys: list[bytes]) -> None:
        """Take many keys, none of which is in the set."""
        self._fresh.extend(keys)
        self._settle()

    def count(self, key: bytes, end: bytes) -> int:
        if self._fresh:
            self._settle()
        keys = self._sorted
        stop: int = len(keys) if end == OPEN_END else keys.bisect_left(end)
        start: int = keys.bisect_left(key)
        return stop - start if stop > start else 0

    def between(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The keys of the range in order, the first `limit` of them unless it is 0."""
        if self._fresh:
            self._settle()
        if end == OPEN_END:
            keys = self._sorted.irange(key)
        elif end <= key:
            return []
        else:
            keys = self._sorted.irange(key, end, (True, False))
        return list(islice(keys, limit)) if limit else list(keys)

    def _settle(self) -> None:
        self._sorted.update(self._fresh)
        self._fresh = []
