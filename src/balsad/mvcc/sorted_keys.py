"""An ordered set of keys that is cheap to add to.

New keys wait in a short unsorted list, and are sorted in before anybody asks
for order: adding keys one by one to the sorted list would be most of what a put
of a new key costs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Final

from sortedcontainers import SortedList

OPEN_END: Final = b"\0"

# Longer, and the one put that sorts them in would be felt; shorter, and little is saved.
FRESH_MAX: Final = 512
_LIST_KEYS: Final = 1000
_MANY_OF_A_LIST: Final = 20
"""So many keys of the thousand of one list: looking through all of it is quicker than finding each."""


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
        """Drop keys that are in the set, given in order; of many that are near each other not one by one."""
        if self._fresh:
            self._settle()
        keys_there = self._sorted
        lists, maxes = keys_there._lists, keys_there._maxes
        place = 0
        while place < len(keys):
            at = bisect_left(maxes, keys[place])
            end = bisect_right(keys, maxes[at], place)
            if end - place < _MANY_OF_A_LIST:
                # This may cut the lists anew.
                for key in keys[place:end]:
                    keys_there.remove(key)
            else:
                gone = set(keys[place:end])
                left = [key for key in lists[at] if key not in gone]
                if left:
                    lists[at] = left
                    maxes[at] = left[-1]
                else:
                    del lists[at], maxes[at]
                keys_there._len -= end - place
                del keys_there._index[:]
            place = end

    def remove_between(self, key: bytes, end: bytes) -> None:
        """Drop the keys of a range: whole lists of them at once."""
        if self._fresh:
            self._settle()
        keys = self._sorted
        lists, maxes = keys._lists, keys._maxes
        first = bisect_left(maxes, key)
        last = len(lists) if end == OPEN_END else bisect_left(maxes, end)
        if first == len(lists) or last < first:
            return
        before = lists[first][: bisect_left(lists[first], key)]
        after: list[bytes] = []
        if last < len(lists):
            after = lists[last][bisect_left(lists[last], end) :]
        touched = lists[first : last + 1]
        both = before + after
        # Many short lists are worse than a few long ones.
        kept = [both] if len(both) <= _LIST_KEYS else [before, after]
        kept = [some for some in kept if some]
        if first == last and len(both) >= len(touched[0]):
            return
        lists[first : last + 1] = kept
        maxes[first : last + 1] = [some[-1] for some in kept]
        keys._len -= sum(map(len, touched)) - len(both)
        del keys._index[:]

    def add_all(self, keys: list[bytes]) -> None:
        """Take keys, given in order, none of which is in the set: whole lists of them at once."""
        if self._fresh:
            self._settle()
        if not keys:
            return
        there = self._sorted
        lists, maxes = there._lists, there._maxes
        first = bisect_left(maxes, keys[0])
        stop = bisect_left(maxes, keys[-1], first)
        if stop < len(lists) and lists[stop][0] < keys[-1]:
            stop += 1
        if first == stop and first and len(keys) < _LIST_KEYS // 2:
            first -= 1
        touched = lists[first:stop]
        # What is in order already is merged in time linear to its length.
        merged = sorted(chain(*touched, keys)) if touched else keys
        pieces = [merged[at : at + _LIST_KEYS] for at in range(0, len(merged), _LIST_KEYS)]
        lists[first:stop] = pieces
        maxes[first:stop] = [piece[-1] for piece in pieces]
        there._len += len(keys)
        del there._index[:]

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
