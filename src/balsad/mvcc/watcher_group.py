"""Watchers, and groups of them that know who watches a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.interval_tree import IntervalTree

if TYPE_CHECKING:
    from balsad.mvcc.watch import WatchStream

SYNCED: Final = 0
UNSYNCED: Final = 1
VICTIM: Final = 2
GONE: Final = 3


class Watcher:
    """One watch. `min_revision`: it was told everything before that and nothing from there on."""

    __slots__ = (
        "end",
        "id",
        "key",
        "min_revision",
        "no_delete",
        "no_put",
        "start_revision",
        "state",
        "stream",
    )

    def __init__(
        self,
        stream: WatchStream,
        watch_id: int,
        key: bytes,
        end: bytes,
        start_revision: int,
        no_put: bool,
        no_delete: bool,
    ) -> None:
        self.stream = stream
        self.id = watch_id
        self.key = key
        self.end = end
        self.start_revision = start_revision
        self.min_revision = start_revision
        self.no_put = no_put
        self.no_delete = no_delete
        self.state = UNSYNCED


class WatcherGroup:
    """Watchers by what they watch: single keys in a dict, ranges in a tree that equal ranges share."""

    __slots__ = ("_by_key", "_ranges", "size")

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._ranges: IntervalTree[dict[Watcher, None]] = IntervalTree()
        self.size = 0

    def add(self, watcher: Watcher) -> None:
        if watcher.end == b"":
            together = self._by_key.get(watcher.key)
            if together is None:
                together = self._by_key[watcher.key] = {}
        else:
            together = self._ranges.get(watcher.key, watcher.end)
            if together is None:
                together = {}
                self._ranges.insert(watcher.key, watcher.end, together)
        together[watcher] = None
        self.size += 1

    def remove(self, watcher: Watcher) -> None:
        if watcher.end == b"":
            together = self._by_key[watcher.key]
            del together[watcher]
            if not together:
                del self._by_key[watcher.key]
        else:
            found = self._ranges.get(watcher.key, watcher.end)
            assert found is not None
            del found[watcher]
            if not found:
                self._ranges.remove(watcher.key, watcher.end)
        self.size -= 1

    def watching(self, key: bytes) -> list[Watcher]:
        """Who watches the key; a list of its own, the group may change while it is walked."""
        together = self._by_key.get(key)
        found = [] if together is None else list(together)
        if len(self._ranges):
            for others in self._ranges.stab(key):
                found.extend(others)
        return found

    def all(self) -> list[Watcher]:
        found: list[Watcher] = []
        for together in self._by_key.values():
            found.extend(together)
        for _, _, together in self._ranges.items():
            found.extend(together)
        return found
