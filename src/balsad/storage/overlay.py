"""Changes of a bucket that are not in the file yet."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice

Changes = dict[bytes, bytes | None]
"""Key to value, or to None: deleted."""


class Overlay:
    """Changes of one bucket that are not in the file yet; `keys` gives them sorted, kept up as `changes` grows."""

    __slots__ = ("_sorted", "changes")

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self._sorted: list[bytes] = []

    def keys(self) -> list[bytes]:
        # A dict keeps the order of insertion, and nothing is ever taken out of `changes` one by one: the keys that
        # came since the last look are its last ones.
        known = len(self._sorted)
        added = len(self.changes) - known
        if added < 0:
            self._sorted = []
            added = len(self.changes)
        if added:
            self._sorted.extend(reversed(list(islice(reversed(self.changes), added))))
            self._sorted.sort()  # in time linear to its length when the new keys come after the old
        return self._sorted

    def clear(self) -> None:
        self.changes.clear()
        self._sorted = []

    def touches(self, start: bytes, end: bytes) -> bool:
        """Whether a key from `start` up to but without `end` is changed."""
        if not self.changes:
            return False
        keys = self.keys()
        first = bisect_left(keys, start)
        return first < len(keys) and keys[first] < end

    def collect(self, start: bytes, end: bytes | None, changes_max: int, found: Changes) -> bytes | None:
        """Add the first changes from `start` up to but without `end`; gives the key before which all are in."""
        keys = self.keys()
        first = bisect_left(keys, start)
        last = len(keys) if end is None else bisect_left(keys, end)
        if last - first > changes_max:
            last = first + changes_max
            end = keys[last]
        changes = self.changes
        for i in range(first, last):
            key = keys[i]
            found[key] = changes[key]
        return end
