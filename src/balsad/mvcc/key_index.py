"""Which revisions every key has, in memory.

Newest revisions of live keys are in `live`; everything older, and every
tombstone, is in `history`, oldest first. Most keys have no history, so a
compaction and an old read touch only those that have.

Worked example: put 2, put 3, delete 4, put 5 of key k leaves

    live[k]    = (5, 0, 5, 1)                                  (mod, sub, create, version)
    history[k] = [(2, 0, 2, 1), (3, 0, 2, 2), (4, 0, 0, 0)]    version 0: the tombstone

    at revision 3: (3, 0, 2, 2)    at 4: nothing    compacted at 3: history[k][0] goes
    compacted at 4: the tombstone stays, as etcd keeps one at the compact revision itself
    compacted at 5: no history left

Source: etcd server/mvcc key_index.go and index.go.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import islice, repeat
from typing import Final

from balsad.mvcc.revision import SUB_MAX, KeyMeta
from balsad.mvcc.sorted_keys import SortedKeys

_NO_HISTORY: Final[list[KeyMeta]] = []


class KeyIndex:
    """Ranges are given as on the wire: `end` b"" is the key alone, b"\\0" no end."""

    __slots__ = ("dead", "dead_sorted", "history", "live", "live_sorted")

    def __init__(self) -> None:
        self.live: dict[bytes, KeyMeta] = {}
        self.history: dict[bytes, list[KeyMeta]] = {}
        self.live_sorted = SortedKeys()
        # Keys with a tombstone in their history. They may be alive again.
        self.dead: set[bytes] = set()
        self.dead_sorted = SortedKeys()

    def shed(self, count: int) -> int:
        """Let go of about `count` keys of an index that is of no use any more; gives of how many, 0 at its end."""
        # What gives the memory back is the last to hold a key, or its revisions.
        shed = self.live_sorted.shed(count) or self.dead_sorted.shed(count)
        while shed < count and self.dead:
            self.dead.pop()
            shed += 1
        history = self.history
        while shed < count and history:
            key, metas = history.popitem()
            if len(metas) > count:
                # One key may have had a million revisions.
                del metas[-count:]
                history[key] = metas
                return shed + count
            shed += len(metas)
        while shed < count and self.live:
            self.live.popitem()
            shed += 1
        return shed

    def put(self, key: bytes, main: int, sub: int) -> KeyMeta:
        """Record a put; gives the key's new meta."""
        live = self.live
        previous = live.get(key)
        if previous is None:
            self.live_sorted.add(key)
            meta = (main, sub, main, 1)
        else:
            self.supersede(key, previous)
            meta = (main, sub, previous[2], previous[3] + 1)
        live[key] = meta
        return meta

    def supersede(self, key: bytes, previous: KeyMeta) -> None:
        history = self.history.get(key)
        if history is None:
            self.history[key] = [previous]
        else:
            history.append(previous)

    def tombstone(self, key: bytes, main: int, sub: int) -> None:
        """Record the delete of a live key."""
        previous = self.live.pop(key)
        self.live_sorted.remove(key)
        self.supersede(key, previous)
        self.supersede(key, (main, sub, 0, 0))
        if key not in self.dead:
            self.dead.add(key)
            self.dead_sorted.add(key)

    def tombstone_all(self, keys: list[bytes], main: int, sub: int) -> None:
        """Record the delete of many live keys, given in order, in consecutive sub revisions from `sub` on."""
        self.live_sorted.remove_all(keys)
        self._tombstone_all(keys, main, sub)

    def tombstone_between(self, key: bytes, end: bytes, keys: list[bytes], main: int, sub: int) -> None:
        """As `tombstone_all`, of all keys of a range, which are `keys`."""
        self.live_sorted.remove_between(key, end)
        self._tombstone_all(keys, main, sub)

    def _tombstone_all(self, keys: list[bytes], main: int, sub: int) -> None:
        live = self.live
        history = self.history
        dead = self.dead
        # Loops in C: this is what most of a large delete is.
        previous = map(live.pop, keys)
        tombstones = zip(repeat(main), range(sub, sub + len(keys)), repeat(0), repeat(0), strict=False)
        changes: Iterable[tuple[KeyMeta, KeyMeta]] = zip(previous, tombstones, strict=False)
        if history.keys().isdisjoint(keys):
            history.update(zip(keys, map(list, changes), strict=False))
        else:
            for key, both in zip(keys, changes, strict=True):
                older = history.get(key)
                if older is None:
                    history[key] = list(both)
                else:
                    older.extend(both)
        if not dead.isdisjoint(keys):
            keys = [key for key in keys if key not in dead]
        dead.update(keys)
        self.dead_sorted.add_all(keys)

    def restored(self) -> None:
        """Sort the keys after `live` and `history` were filled from the file."""
        self.live_sorted.reset(self.live)
        self.dead_sorted.reset(self.dead)

    def at(self, key: bytes, revision: int) -> KeyMeta | None:
        """The change of the key that a reader at `revision` sees."""
        meta = self.live.get(key)
        if meta is not None and meta[0] <= revision:
            return meta
        history = self.history.get(key)
        if history is None:
            return None
        place = bisect_right(history, (revision, SUB_MAX, 0, 0)) - 1
        if place < 0 or not history[place][3]:
            return None
        return history[place]

    def count(self, key: bytes, end: bytes) -> int:
        """How many live keys a range has now."""
        if end == b"":
            return 1 if key in self.live else 0
        return self.live_sorted.count(key, end)

    def keys(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The live keys of a range now, in order."""
        if end == b"":
            return [key] if key in self.live else []
        return self.live_sorted.between(key, end, limit)

    def select(self, key: bytes, end: bytes, revision: int, limit: int) -> tuple[list[bytes], list[KeyMeta], int]:
        """Keys and metas that a reader at an older revision sees, and how many there are without the limit."""
        keys: list[bytes] = []
        metas: list[KeyMeta] = []
        count = 0
        live = self.live
        for candidate in self._ever(key, end):
            meta = live.get(candidate)
            # Most keys did not change since: spare them the call.
            if meta is None or meta[0] > revision:
                meta = self.at(candidate, revision)
                if meta is None:
                    continue
            count += 1
            if not limit or count <= limit:
                keys.append(candidate)
                metas.append(meta)
        return keys, metas, count

    def _ever(self, key: bytes, end: bytes) -> Iterable[bytes]:
        """All keys of a range that live now or have a tombstone, in order."""
        if end == b"":
            return [key]
        live = self.live_sorted.between(key, end, 0)
        dead = self.dead_sorted.between(key, end, 0)
        if not dead:
            return live
        alive = self.live
        live.extend(gone for gone in dead if gone not in alive)
        live.sort()
        return live

    def changes(self, key: bytes, since: int, limit: int) -> list[KeyMeta]:
        """Puts and tombstones of a key at or after a revision, oldest first.

        About `limit` of them: a main revision is never cut in two.
        """
        history = self.history.get(key, _NO_HISTORY)
        start = bisect_left(history, (since, 0, 0, 0))
        stop = start + limit
        while start < stop < len(history) and history[stop][0] == history[stop - 1][0]:
            stop += 1
        found = history[start:stop]
        meta = self.live.get(key)
        if meta is not None and meta[0] >= since and stop >= len(history):
            if len(found) < limit or found[-1][0] == meta[0]:
                found.append(meta)
        return found

    def any_at(self, revision: int) -> bool:
        """Whether a reader at `revision` sees any key at all."""
        for meta in self.live.values():
            if meta[0] <= revision:
                return True
        return any(self.at(key, revision) is not None for key in self.history)

    def any_tombstone_at(self, revision: int) -> bool:
        """Whether a key was deleted in exactly this revision."""
        for key in self.dead:
            history = self.history[key]
            place = bisect_right(history, (revision, SUB_MAX, 0, 0)) - 1
            if place >= 0 and history[place][0] == revision and not history[place][3]:
                return True
        return False

    def oldest_histories(self, count: int) -> list[bytes]:
        """The first `count` keys with history, in the order in which they came to have it."""
        return list(islice(self.history, count))

    def compact_oldest(self, key: bytes, revision: int) -> list[KeyMeta]:
        """As `compact`, of the first key with history; when it keeps some, it is the last from now on."""
        gone = self.compact(key, revision)
        kept = self.history.pop(key, None)
        if kept is not None:
            self.history[key] = kept
        return gone

    def compact(self, key: bytes, revision: int) -> list[KeyMeta]:
        """Forget what no reader at `revision` or later can see of a key; gives what was forgotten.

        A tombstone at `revision` itself stays: a watcher may start there.
        """
        history = self.history.get(key)
        if history is None:
            return []
        meta = self.live.get(key)
        if meta is not None and meta[0] <= revision:
            gone = history
            history = []
        else:
            place = bisect_right(history, (revision, SUB_MAX, 0, 0)) - 1
            if place < 0:
                return []
            newest = history[place]
            if not newest[3] and newest[0] < revision:
                place += 1
            if not place:
                return []
            gone = history[:place]
            del history[:place]
        if not history:
            del self.history[key]
        if key in self.dead and all(change[3] for change in history):
            self.dead.discard(key)
            self.dead_sorted.remove(key)
        return gone
