"""A range of very many keys, read between turns of the event loop, as it was when it was asked for.

It reads at one revision, so what is written meanwhile changes nothing. A compaction that would take that revision away
has the job go to its end first; when the whole store is replaced by a later one, it begins anew.

    keys a b c d e f g, two at a time: | a b | c d | e f | g |     each piece begins behind the last key before it
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from balsad.mvcc.revision import KeyMeta
    from balsad.mvcc.store import Store

_AT_ONCE_MIN: Final = 64


class RangeJob:
    """As Store.range, but with an end. To be closed when it is not stepped to its end."""

    def __init__(self, store: Store, key: bytes, end: bytes, *, revision: int, limit: int, count_only: bool) -> None:
        """Raises: CompactedError, FutureRevError."""
        self.kvs: list[bytes] = []
        self.metas: list[KeyMeta] = []
        self.count = 0
        self.read_at = 0
        """The revision that is read."""
        self.current = 0
        """The store's revision when it began."""
        self._store = store
        self._key = key
        self._end = end
        self._revision = revision
        self._limit = limit
        self._count_only = count_only
        self._index = store.index
        self._next = key
        self._ended = False
        self._begin()
        store.range_jobs.append(self)

    def _begin(self) -> None:
        store = self._store
        store.check_readable(self._revision if self._revision > 0 else store.current_revision)
        self.current = store.current_revision
        self.read_at = self._revision if self._revision > 0 else self.current
        self.kvs = []
        self.metas = []
        self._index = store.index
        self._next = self._key
        # The last revision's keys are counted without looking at any.
        is_newest = self.read_at == self.current == store.head
        self.count = store.index.count(self._key, self._end) if is_newest else 0
        self._counts = not is_newest

    def close(self) -> None:
        """Nobody wants the outcome any more, or it is there."""
        self._ended = True
        if self in self._store.range_jobs:
            self._store.range_jobs.remove(self)

    def finish(self) -> None:
        """Go to the end in one piece, if there is anything left to go on with."""
        if self._store.index is self._index:
            while not self.step(sys.maxsize >> 1):
                pass

    def step(self, count: int) -> bool:
        """Look at `count` keys, and as many that were deleted; True at the end.

        Raises: CompactedError, FutureRevError, but only after the store was replaced.
        """
        if self._ended:
            return True
        store = self._store
        if store.index is not self._index:
            self._begin()
        index = self._index
        count = max(count, _AT_ONCE_MIN)
        stop = self._end
        is_last = True
        for keys in (index.live_sorted, index.dead_sorted):
            found = keys.between(self._next, stop, count)
            if len(found) == count:
                stop = found[-1] + b"\0"
                is_last = False
        keys_there, metas, number = index.select(self._next, stop, self.read_at, 0)
        if self._counts:
            self.count += number
        if not self._count_only:
            limit = self._limit
            if limit and len(self.kvs) + number > limit:
                del keys_there[limit - len(self.kvs) :]
                del metas[len(keys_there) :]
            self.kvs += store.values(keys_there, metas)
            self.metas += metas
            if limit and len(self.kvs) >= limit and not self._counts:
                is_last = True
        if is_last:
            self.close()
        self._next = stop
        return is_last
