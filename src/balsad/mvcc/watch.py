"""Who is told of which change, and what becomes of those who cannot keep up.

                 watch(start in the past)
                          |
                          v       caught up
    watch(now or later)  UNSYNCED ----------> SYNCED --- told by every write as it ends
             |            ^   |                 |  ^
             |            |   | its sink        |  |  its sink is full
             |   the held |   | is full         v  |  (or its stream is blocked already: UNSYNCED)
             |   batch    |   +-------------> VICTIM
             |   went out +----------------------+
             +--------------------------------> SYNCED

A sink that says "full" blocks its stream. The one batch it refused is held with
the stream, as long as all of them hold little; every other watcher of a blocked
stream keeps nothing but the revision to resume from, and is read for again from
the file. So a client that does not read costs one batch at most however much it
watches. What a watcher that is behind is told begins with the question how much
its client has room for: nothing is read and held for one that has none.

Source: etcd server/mvcc watchable_store.go, watcher.go and watcher_group.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import RequestError
from balsad.mvcc.catch_up import CatchUp
from balsad.mvcc.event import Event, WatchBatch
from balsad.mvcc.watcher_group import GONE, SYNCED, UNSYNCED, VICTIM, Watcher, WatcherGroup

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

AUTO_WATCH_ID: Final = 0
PROGRESS_ID: Final = -1

WATCHERS_PER_PASS: Final = 512

HELD_BYTES_MAX: Final = 32 << 20
"""Of all batches together that were refused; beyond it they are read again."""
ROOMY: Final = 1 << 60

Sink = Callable[[int, WatchBatch], bool]
Room = Callable[[], int]


class DuplicateWatchIdError(RequestError):
    message = "mvcc: duplicate watch ID provided on the WatchStream"


class EmptyWatchRangeError(RequestError):
    message = "mvcc: watcher range is empty"


class WatchHub:
    """All watchers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.synced = WatcherGroup()
        self.stream_count = 0
        self.watcher_count = 0
        self.event_count = 0
        # In the order in which they are served; a pass moves those it served to the end.
        self._behind: dict[WatchStream, None] = {}
        self._blocked: dict[WatchStream, None] = {}
        self.held_bytes = 0
        self._catch_up = CatchUp(store)

    @property
    def slow_count(self) -> int:
        """Watchers that are not synced."""
        return self.watcher_count - self.synced.size

    @property
    def pending_count(self) -> int:
        """Events that are held for clients that have no room for them."""
        return sum([len(stream.held[1].events) for stream in self._blocked if stream.held is not None])

    @property
    def wants_sync(self) -> bool:
        """Whether sync_step has something to do."""
        return bool(self._behind)

    @property
    def wants_retry(self) -> bool:
        """Whether retry_victims has something to do."""
        return bool(self._blocked)

    def open(self, sink: Sink, room: Room = lambda: ROOMY) -> WatchStream:
        """A stream whose watchers share one sink.

        `room` tells how many bytes of what happened before the sink would take now, 0 to be asked again later. A
        single revision is given to it whole, also when it is larger than that.

        The sink is called with (watch_id, batch) and answers whether it took the batch. It
        must not call back into the hub, but for `resume`.
        """
        self.stream_count += 1
        return WatchStream(self, sink, room)

    def notify(self, events: list[Event], revision: int) -> None:
        """Tell the synced watchers of a write that just ended: all its events, in order."""
        if len(events) == 1:
            event = events[0]
            shared: WatchBatch | None = None
            for watcher in self.synced.watching(event.key):
                if revision < watcher.min_revision or (watcher.no_delete if event.is_delete else watcher.no_put):
                    continue
                if shared is None:
                    shared = WatchBatch(revision, events)
                self._tell(watcher, shared, revision)
            return
        batches: dict[Watcher, WatchBatch] = {}
        for event in events:
            for watcher in self.synced.watching(event.key):
                if revision < watcher.min_revision or (watcher.no_delete if event.is_delete else watcher.no_put):
                    continue
                batch = batches.get(watcher)
                if batch is None:
                    batch = batches[watcher] = WatchBatch(revision, [])
                batch.events.append(event)
        for watcher, batch in batches.items():
            self._tell(watcher, batch, revision)

    @property
    def wants_sync_soon(self) -> bool:
        """Whether the last sync_step did less than it may, as it had very many to tell."""
        return self._catch_up.is_cut_short

    def sync_step(self) -> bool:
        """Let watchers that are behind catch up a bounded piece; True when more could be done at once."""
        chosen = self._choose()
        if chosen:
            store = self._store
            ready: list[Watcher] = []
            for watcher in chosen:
                if watcher.stream.is_blocked:
                    continue
                if watcher.min_revision < store.compact_revision:
                    self._end_compacted(watcher, store.compact_revision)
                elif watcher.min_revision > store.current_revision:
                    self._make_synced(watcher)
                elif watcher.stream.room() <= 0:
                    self._block(watcher.stream)
                else:
                    ready.append(watcher)
            self._catch_up.run(self, ready)
        return bool(self._behind)

    def retry_victims(self) -> bool:
        """Offer every blocked stream the batch it refused; True when one took it."""
        moved = False
        for stream in list(self._blocked):
            moved = self.retry(stream) or moved
        return moved

    def retry(self, stream: WatchStream) -> bool:
        if not stream.is_blocked or stream.is_offering:
            return False
        held = stream.held
        if held is None:
            if stream.room() <= 0:
                return False
            self._unblock(stream)
            return True
        watcher, batch = held
        if batch.compact_revision:
            # There may have been another compaction since.
            batch = WatchBatch(0, [], self._store.compact_revision)
        # Taking the batch may make room at once, of which the sink tells before it returns.
        stream.is_offering = True
        taken = stream.sink(watcher.id, batch)
        stream.is_offering = False
        if not taken:
            return False
        self.event_count += len(batch.events)
        self._unblock(stream)
        if batch.compact_revision:
            watcher.state = GONE
            self.watcher_count -= 1
            del stream.watchers[watcher.id]
        elif watcher.min_revision > self._store.current_revision:
            self._make_synced(watcher)
        else:
            self._make_unsynced(watcher)
        return True

    def restart(self) -> None:
        """Before the store's content is replaced by a later one: all catch up from what they were told."""
        told = self._store.current_revision + 1
        for watcher in self.synced.all():
            watcher.min_revision = max(watcher.min_revision, told)
            self.synced.remove(watcher)
            self._make_unsynced(watcher)

    def add(self, watcher: Watcher) -> None:
        self.watcher_count += 1
        current = self._store.current_revision
        if watcher.start_revision == 0 or watcher.start_revision > current:
            watcher.min_revision = max(watcher.start_revision, current + 1)
            self._make_synced(watcher)
        else:
            self._make_unsynced(watcher)

    def drop(self, watcher: Watcher) -> None:
        """Take a watcher out of wherever it is."""
        stream = watcher.stream
        if watcher.state == SYNCED:
            self.synced.remove(watcher)
        elif watcher.state == UNSYNCED:
            self._leave_unsynced(watcher)
        elif watcher.state == VICTIM:
            self._unblock(stream)
        else:
            return
        watcher.state = GONE
        self.watcher_count -= 1

    def leave(self, stream: WatchStream) -> None:
        """The stream is closed, its watchers are gone."""
        self.stream_count -= 1
        if stream.is_blocked:
            self._unblock(stream)

    def caught_up(self, watcher: Watcher, events: list[Event], min_revision: int) -> bool:
        """Tell an unsynced watcher what it missed before `min_revision`, or as much as it has room for.

        False when its sink is full.
        """
        current = self._store.current_revision
        if events:
            room = watcher.stream.room()
            if room <= 0:
                self._block(watcher.stream)
                return False
            taken = _fitting(events, room)
            if taken < len(events):
                min_revision = events[taken].mod_revision
                events = events[:taken]
        watcher.min_revision = min_revision
        if events:
            batch = WatchBatch(current, events)
            if not watcher.stream.sink(watcher.id, batch):
                self._leave_unsynced(watcher)
                self._hold(watcher, batch)
                return False
            self.event_count += len(events)
        if min_revision > current:
            self._make_synced(watcher)
        return True

    def _tell(self, watcher: Watcher, batch: WatchBatch, revision: int) -> None:
        stream = watcher.stream
        if stream.is_blocked:
            watcher.min_revision = revision
            self.synced.remove(watcher)
            self._make_unsynced(watcher)
            return
        watcher.min_revision = revision + 1
        if stream.sink(watcher.id, batch):
            self.event_count += len(batch.events)
        else:
            self.synced.remove(watcher)
            self._hold(watcher, batch)

    def _end_compacted(self, watcher: Watcher, compact_revision: int) -> None:
        stream = watcher.stream
        batch = WatchBatch(0, [], compact_revision)
        if stream.sink(watcher.id, batch):
            stream.forget(watcher)
        else:
            self._leave_unsynced(watcher)
            self._hold(watcher, batch)

    def _hold(self, watcher: Watcher, batch: WatchBatch) -> None:
        """Keep what the sink refused, or only in which revision to begin again. The watcher is in no group."""
        stream = watcher.stream
        size = _size(batch)
        self._block(stream)
        if size and self.held_bytes + size > HELD_BYTES_MAX:
            watcher.min_revision = batch.events[0].mod_revision
            self._make_unsynced(watcher)
            return
        watcher.state = VICTIM
        stream.held = (watcher, batch)
        self.held_bytes += size

    def _block(self, stream: WatchStream) -> None:
        stream.is_blocked = True
        self._blocked[stream] = None
        self._behind.pop(stream, None)

    def _unblock(self, stream: WatchStream) -> None:
        if stream.held is not None:
            self.held_bytes -= _size(stream.held[1])
            stream.held = None
        stream.is_blocked = False
        del self._blocked[stream]
        if stream.unsynced:
            self._behind[stream] = None

    def _make_synced(self, watcher: Watcher) -> None:
        if watcher in watcher.stream.unsynced:
            self._leave_unsynced(watcher)
        watcher.state = SYNCED
        self.synced.add(watcher)

    def _make_unsynced(self, watcher: Watcher) -> None:
        stream = watcher.stream
        watcher.state = UNSYNCED
        stream.unsynced[watcher] = None
        if not stream.is_blocked:
            self._behind[stream] = None

    def _leave_unsynced(self, watcher: Watcher) -> None:
        stream = watcher.stream
        del stream.unsynced[watcher]
        if not stream.unsynced:
            self._behind.pop(stream, None)

    def _choose(self) -> list[Watcher]:
        """Watchers for one pass; they and their streams go to the end of the line."""
        chosen: list[Watcher] = []
        for stream in list(self._behind):
            for watcher in stream.unsynced:
                chosen.append(watcher)
                if len(chosen) == WATCHERS_PER_PASS:
                    break
            del self._behind[stream]
            self._behind[stream] = None
            if len(chosen) == WATCHERS_PER_PASS:
                break
        for watcher in chosen:
            unsynced = watcher.stream.unsynced
            del unsynced[watcher]
            unsynced[watcher] = None
        return chosen


class WatchStream:
    """The watchers of one client stream."""

    __slots__ = (
        "_closed",
        "_hub",
        "_next_id",
        "held",
        "is_blocked",
        "is_offering",
        "room",
        "sink",
        "unsynced",
        "watchers",
    )

    def __init__(self, hub: WatchHub, sink: Sink, room: Room) -> None:
        self._hub = hub
        self._next_id = 0
        self._closed = False
        self.sink = sink
        self.room = room
        self.watchers: dict[int, Watcher] = {}
        self.unsynced: dict[Watcher, None] = {}
        # Until the sink has room again nobody here is told anything.
        self.is_blocked = False
        # The batch that the sink refused, and for whom.
        self.held: tuple[Watcher, WatchBatch] | None = None
        self.is_offering = False

    def watch(
        self,
        key: bytes,
        end: bytes,
        start_revision: int,
        watch_id: int = AUTO_WATCH_ID,
        no_put: bool = False,
        no_delete: bool = False,
    ) -> int:
        """Begin to watch and give the watch id. Nothing reaches the sink before this returns.

        `end` is as on the wire: b"" the key alone, b"\\0" no end. start_revision 0 is from now on.

        A negative one is from the beginning, or canceled as compacted when that is gone.

        Raises: EmptyWatchRangeError, DuplicateWatchIdError.
        """
        if end not in (b"", b"\0") and key >= end:
            raise EmptyWatchRangeError
        if watch_id == AUTO_WATCH_ID:
            while self._next_id in self.watchers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        elif watch_id in self.watchers:
            raise DuplicateWatchIdError
        watcher = Watcher(self, watch_id, key, end, start_revision, no_put, no_delete)
        self.watchers[watch_id] = watcher
        self._hub.add(watcher)
        return watch_id

    def cancel(self, watch_id: int) -> bool:
        """Stop a watch; False when there is none with this id."""
        watcher = self.watchers.get(watch_id)
        if watcher is None:
            return False
        self.forget(watcher)
        return True

    def request_progress(self, watch_id: int) -> bool:
        """Send the watch a progress notification if it is synced; whether it was sent."""
        watcher = self.watchers.get(watch_id)
        if watcher is None or not self._is_told(watcher):
            return False
        return self.sink(watch_id, WatchBatch(self._hub._store.current_revision, []))

    def progress_if_synced(self) -> bool:
        """Send one progress notification with id -1 if all watches of the stream are synced.

        False when they are not or the sink is full: try again. A stream without watches is told nothing.
        """
        for watcher in self.watchers.values():
            # One that waits for a revision to come has missed nothing up to now.
            if watcher.state != SYNCED:
                return False
        return not self.watchers or self.sink(PROGRESS_ID, WatchBatch(self._hub._store.current_revision, []))

    def resume(self) -> bool:
        """The sink has room again: offer what it refused, without waiting for retry_victims."""
        return self._hub.retry(self)

    def close(self) -> None:
        for watcher in list(self.watchers.values()):
            self.forget(watcher)
        if not self._closed:
            self._closed = True
            self._hub.leave(self)

    def forget(self, watcher: Watcher) -> None:
        del self.watchers[watcher.id]
        self._hub.drop(watcher)

    def _is_told(self, watcher: Watcher) -> bool:
        """Whoever listed at the current revision and watches from the next one on, as a Kubernetes API server does, is
        told: its client goes on from the revision it was told plus one, which is where it began. Further ahead that
        would be too early. 3.5.1 tells them, too; 3.5.28 tells neither.
        """
        return watcher.state == SYNCED and self._hub._store.current_revision >= watcher.start_revision - 1


def _size(batch: WatchBatch) -> int:
    return sum([len(event.kv) for event in batch.events])


def _fitting(events: list[Event], room: int) -> int:
    """How many of these are of whole revisions and take no more than `room` bytes; those of the first in any case."""
    fitting = size = 0
    for at, event in enumerate(events):
        if at and event.mod_revision != events[at - 1].mod_revision:
            fitting = at
        size += len(event.kv)
        if size > room and fitting:
            return fitting
    return len(events)
