"""Reading what unsynced watchers missed, a bounded piece at a time.

A watch on one key asks the index for the key's revisions. Watches on ranges
share one pass over the `key` bucket, from the lowest revision that any of them
still needs; but those much further back than the one whose turn it is wait for
theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.mvcc.event import Event, delete_event, put_event
from balsad.mvcc.key_value import key_of
from balsad.mvcc.revision import is_tombstone, meta_key, unpack_revision
from balsad.mvcc.rows import RowReader
from balsad.mvcc.watcher_group import Watcher, WatcherGroup

if TYPE_CHECKING:
    from balsad.mvcc.store import Store
    from balsad.mvcc.watch import WatchHub

# Of one batch, as in etcd.
REVISIONS_PER_BATCH: Final = 1000
# A batch ends with the revision that passes this. etcd has no such bound.
BYTES_PER_BATCH: Final = 1 << 20
# Of one pass: more would be felt by those who wait for the loop.
ROWS_PER_PASS: Final = 4096
ROWS_AT_ONCE: Final = 128
BYTES_PER_PASS: Final = 16 << 20
EVENTS_PER_PASS: Final = 4096
"""Told to all watchers together: what one row costs is theirs more than its own."""
_ROWS_AT_ONCE_MIN: Final = 8


class _Missed:
    """What one watcher is to be told."""

    __slots__ = ("events", "last", "next_revision", "revisions", "size")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.last = 0
        self.revisions = 0
        self.size = 0
        # Where the rest begins once the batch is full.
        self.next_revision = 0

    def add(self, event: Event) -> None:
        if self.next_revision:
            return
        if event.mod_revision > self.last:
            if self.revisions >= REVISIONS_PER_BATCH or self.size >= BYTES_PER_BATCH:
                self.next_revision = event.mod_revision
                return
            self.revisions += 1
            self.last = event.mod_revision
        self.events.append(event)
        self.size += len(event.kv)


class CatchUp:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = 0
        self.is_cut_short = False
        """Whether the last pass ended early because of many watchers, so that the next should come soon."""

    def run(self, hub: WatchHub, watchers: list[Watcher]) -> None:
        """One pass for these watchers, none of which is compacted, synced or of a blocked stream."""
        ranges: list[Watcher] = []
        size = told = 0
        self.is_cut_short = False
        for watcher in watchers:
            if watcher.end != b"":
                ranges.append(watcher)
            elif told >= EVENTS_PER_PASS:
                self.is_cut_short = True
            elif size < BYTES_PER_PASS and not watcher.stream.is_blocked:
                missed = self._key(hub, watcher)
                size += missed.size
                told += len(missed.events)
        if ranges:
            self._ranges(hub, ranges)

    def _key(self, hub: WatchHub, watcher: Watcher) -> _Missed:
        """Tell a watcher of a single key; gives what it was told."""
        store = self._store
        missed = _Missed()
        metas = store.index.changes(watcher.key, watcher.min_revision, REVISIONS_PER_BATCH + 1)
        while metas and metas[-1][0] > store.current_revision:
            metas.pop()  # of a write that has not ended
        for meta in metas:
            if watcher.no_put if meta[3] else watcher.no_delete:
                continue
            kv = store.load(meta_key(meta))
            if meta[3]:
                missed.add(put_event(watcher.key, kv, meta[0]))
            else:
                missed.add(delete_event(watcher.key, kv, meta[0]))
            if missed.next_revision:
                break
        next_revision = missed.next_revision
        if not next_revision:
            next_revision = metas[-1][0] + 1 if len(metas) > REVISIONS_PER_BATCH else store.current_revision + 1
        hub.caught_up(watcher, missed.events, next_revision)
        return missed

    def _ranges(self, hub: WatchHub, watchers: list[Watcher]) -> None:
        store = self._store
        current = store.current_revision
        # They set the place in turn, so that one far behind does not keep all others waiting.
        self._turn += 1
        near = watchers[self._turn % len(watchers)].min_revision - REVISIONS_PER_BATCH
        start = min(watcher.min_revision for watcher in watchers if watcher.min_revision >= near)
        joined = WatcherGroup()
        missed: dict[Watcher, _Missed] = {}
        for watcher in watchers:
            if watcher.min_revision >= start:
                joined.add(watcher)
                missed[watcher] = _Missed()
        rows_at_once = min(ROWS_AT_ONCE, max(_ROWS_AT_ONCE_MIN, EVENTS_PER_PASS // (4 * len(missed))))
        # A negative start is no place in the bucket.
        reader = RowReader(store.backend, max(start, 0), current, rows_at_once)
        rows_read = size = told = 0
        while not reader.done and rows_read < ROWS_PER_PASS and size < BYTES_PER_PASS:
            if told >= EVENTS_PER_PASS:
                self.is_cut_short = True
                break
            for row_key, kv in reader.whole_rows():
                rows_read += 1
                size += len(kv)
                key = key_of(kv)
                interested = joined.watching(key)
                if interested:
                    told += len(interested)
                    _note(interested, missed, row_key, key, kv)
        read_to = reader.read_to
        for watcher, piece in missed.items():
            if watcher.min_revision <= read_to and not watcher.stream.is_blocked:
                hub.caught_up(watcher, piece.events, piece.next_revision or read_to + 1)


def _note(watchers: list[Watcher], missed: dict[Watcher, _Missed], row_key: bytes, key: bytes, kv: bytes) -> None:
    """Add one bucket row to what these watchers missed; they share the event."""
    main: int = unpack_revision(row_key)[0]
    is_delete = is_tombstone(row_key)
    event: Event | None = None
    for watcher in watchers:
        if main < watcher.min_revision or (watcher.no_delete if is_delete else watcher.no_put):
            continue
        if event is None:
            event = delete_event(key, kv, main) if is_delete else put_event(key, kv, main)
        missed[watcher].add(event)
