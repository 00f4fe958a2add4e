"""Watch streams: ids, refusals, starts in the past and in the future, readers that do not read."""

from __future__ import annotations

import pytest

from balsad.mvcc import (
    PROGRESS_ID,
    DuplicateWatchIdError,
    EmptyWatchRangeError,
    Event,
    NoLeases,
    Store,
    WatchBatch,
    WatchStream,
)
from balsad.mvcc.catch_up import BYTES_PER_BATCH, EVENTS_PER_PASS, REVISIONS_PER_BATCH, ROWS_PER_PASS
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import put


class Inbox:
    """A sink that can be full."""

    def __init__(self, store: Store) -> None:
        self.batches: list[tuple[int, WatchBatch]] = []
        self.full = False
        self.stream: WatchStream = store.watchers.open(self.take)

    def take(self, watch_id: int, batch: WatchBatch) -> bool:
        if self.full:
            return False
        self.batches.append((watch_id, batch))
        return True

    def revisions(self, watch_id: int = 0) -> list[int]:
        return [event.mod_revision for event in self.events(watch_id)]

    def events(self, watch_id: int = 0) -> list[Event]:
        return [event for to, batch in self.batches if to == watch_id for event in batch.events]


@pytest.fixture
def store() -> Store:
    store = Store(MemoryBackend(), leases=NoLeases())
    store.restore()
    return store


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def sync(store: Store) -> int:
    """Passes until nothing is left to do."""
    passes = 0
    while store.watchers.wants_sync:
        store.watchers.sync_step()
        passes += 1
        assert passes < 10_000
    return passes


def compact(store: Store, revision: int) -> None:
    job = store.compact(revision)
    while not job.step():
        pass


def test_ids_are_given_from_0_and_pass_over_those_in_use(inbox: Inbox) -> None:
    stream = inbox.stream
    assert [stream.watch(b"a", b"", 0), stream.watch(b"a", b"", 0, 2), stream.watch(b"a", b"", 0)] == [0, 2, 1]
    assert stream.watch(b"a", b"", 0) == 3

    assert stream.cancel(1)
    assert not stream.cancel(1)
    assert stream.watch(b"a", b"", 0, 1) == 1


def test_refusals_have_the_words_of_etcd(inbox: Inbox) -> None:
    inbox.stream.watch(b"a", b"", 0, 7)

    with pytest.raises(DuplicateWatchIdError, match=r"^mvcc: duplicate watch ID provided on the WatchStream$"):
        inbox.stream.watch(b"b", b"", 0, 7)
    with pytest.raises(EmptyWatchRangeError, match=r"^mvcc: watcher range is empty$"):
        inbox.stream.watch(b"b", b"b", 0)
    assert inbox.stream.watch(b"b", b"\0", 0) == 0


def test_one_event_is_shared_by_all_who_see_it(store: Store, inbox: Inbox) -> None:
    """Encoding it once is what makes thousands of watchers of one key affordable."""
    other = Inbox(store)
    inbox.stream.watch(b"a", b"", 0)
    inbox.stream.watch(b"a", b"b", 0)
    other.stream.watch(b"\0", b"\0", 0)

    put(store, b"a", b"v")

    events = [batch.events[0] for _, batch in inbox.batches + other.batches]
    assert len(events) == 3
    assert events[0] is events[1] is events[2]
    assert events[0].encoded is events[2].encoded


def test_a_txn_is_one_batch_and_one_revision(store: Store, inbox: Inbox) -> None:
    put(store, b"gone")
    inbox.stream.watch(b"\0", b"\0", 0)
    inbox.stream.watch(b"\0", b"\0", 0, no_delete=True)

    txn = store.write()
    txn.put(b"b", b"")
    txn.delete_range(b"gone")
    txn.put(b"a", b"")
    assert inbox.batches == []
    txn.end()

    assert [(to, batch.revision, [(e.key, e.is_delete) for e in batch.events]) for to, batch in inbox.batches] == [
        (0, 3, [(b"b", False), (b"gone", True), (b"a", False)]),
        (1, 3, [(b"b", False), (b"a", False)]),
    ]


def test_a_txn_without_effect_tells_nobody(store: Store, inbox: Inbox) -> None:
    inbox.stream.watch(b"\0", b"\0", 0)

    txn = store.write()
    assert txn.delete_range(b"\0", b"\0") == 0
    assert txn.end() == 1

    assert inbox.batches == []


def test_a_start_in_the_future_is_quiet_until_it_comes(store: Store, inbox: Inbox) -> None:
    inbox.stream.watch(b"a", b"", 4)
    for _ in range(4):
        put(store, b"a")

    assert inbox.revisions() == [4, 5]


def test_a_start_in_the_future_does_not_hold_up_progress(store: Store, inbox: Inbox) -> None:
    """Nothing up to now can have been missed by it."""
    inbox.stream.watch(b"a", b"", 4)

    assert inbox.stream.progress_if_synced()
    assert [watch_id for watch_id, _ in inbox.batches] == [PROGRESS_ID]


@pytest.mark.parametrize("end", [b"", b"b"])
def test_a_negative_start_is_from_the_beginning(store: Store, inbox: Inbox, end: bytes) -> None:
    put(store, b"a")
    inbox.stream.watch(b"a", end, -1)

    sync(store)

    assert inbox.revisions() == [2]
    compact(store, 2)
    inbox.stream.watch(b"a", end, -1)
    sync(store)
    assert inbox.batches[-1][1].compact_revision == 2


def test_a_start_in_the_past_is_told_what_it_missed_and_then_goes_on(store: Store, inbox: Inbox) -> None:
    for _ in range(3):
        put(store, b"a")
    inbox.stream.watch(b"a", b"", 3)
    inbox.stream.watch(b"a", b"b", 2)
    put(store, b"a")
    assert inbox.batches == []

    sync(store)
    put(store, b"a")

    assert (inbox.revisions(0), inbox.revisions(1)) == ([3, 4, 5, 6], [2, 3, 4, 5, 6])
    assert [batch.revision for _, batch in inbox.batches] == [5, 5, 6, 6]


def test_progress_is_told_only_when_nothing_is_missing(store: Store, inbox: Inbox) -> None:
    put(store, b"a")
    assert inbox.stream.progress_if_synced()
    assert inbox.batches == []  # a stream without watches is told nothing
    inbox.stream.watch(b"x", b"", 1)

    assert not inbox.stream.progress_if_synced()
    assert not inbox.stream.request_progress(0)
    sync(store)
    assert inbox.stream.request_progress(0)
    assert inbox.stream.progress_if_synced()

    assert [(to, batch.revision, batch.events) for to, batch in inbox.batches] == [(0, 2, []), (-1, 2, [])]
    assert not inbox.stream.request_progress(9)
    inbox.full = True
    assert not inbox.stream.progress_if_synced()


def test_progress_is_told_to_who_watches_from_the_next_revision_on(store: Store, inbox: Inbox) -> None:
    put(store, b"a")
    inbox.stream.watch(b"x", b"", 3)
    inbox.stream.watch(b"x", b"", 4)

    assert inbox.stream.request_progress(0)
    # A client that was told goes on from there when it connects again, and would hear of what it never asked for.
    assert not inbox.stream.request_progress(1)
    put(store, b"a")
    assert inbox.stream.request_progress(1)

    assert [(to, batch.revision) for to, batch in inbox.batches] == [(0, 2), (1, 3)]


@pytest.mark.parametrize("end", [b"", b"b"])
def test_a_compacted_start_ends_the_watch(store: Store, inbox: Inbox, end: bytes) -> None:
    for _ in range(9):
        put(store, b"a")
    compact(store, 6)
    inbox.stream.watch(b"a", end, 5)
    inbox.stream.watch(b"a", end, 6)

    sync(store)

    assert [(b.revision, b.events, b.compact_revision) for to, b in inbox.batches if to == 0] == [(0, [], 6)]
    assert inbox.revisions(1) == [6, 7, 8, 9, 10]
    assert not inbox.stream.cancel(0)
    assert inbox.stream.progress_if_synced()
    assert store.watchers.watcher_count == 1


@pytest.mark.parametrize("end", [b"", b"b"])
def test_a_watch_from_the_compact_revision_is_told_of_the_delete_there(store: Store, inbox: Inbox, end: bytes) -> None:
    """etcd 3.5.16: a compaction at a tombstone keeps it; earlier patches lost the event."""
    put(store, b"a")
    txn = store.write()
    txn.delete_range(b"a")
    txn.end()
    put(store, b"b")
    compact(store, 3)
    inbox.stream.watch(b"a", end, 3)

    sync(store)

    assert [(event.mod_revision, event.is_delete) for event in inbox.events()] == [(3, True)]


def test_a_reader_that_does_not_read_costs_one_batch_however_much_it_watches(store: Store, inbox: Inbox) -> None:
    other = Inbox(store)
    for i in range(100):
        inbox.stream.watch(b"a", b"b%d" % i, 0)
    other.stream.watch(b"a", b"", 0)
    inbox.full = True

    for _ in range(50):
        put(store, b"a", b"v")
        sync(store)
        assert not store.watchers.retry_victims()

    hub = store.watchers
    assert inbox.stream.held is not None
    assert len(inbox.stream.held[1].events) == 1
    assert (hub.slow_count, hub.watcher_count, hub.wants_sync, hub.wants_retry) == (100, 101, False, True)
    assert other.revisions() == list(range(2, 52))

    inbox.full = False
    assert inbox.stream.resume()
    sync(store)
    put(store, b"a", b"v")

    assert all(inbox.revisions(i) == list(range(2, 53)) for i in range(100))
    assert hub.slow_count == 0


def test_a_sink_that_has_room_again_as_it_takes_a_batch_is_given_it_once(store: Store, inbox: Inbox) -> None:
    """What it is given may leave at once, and then it says so before it answers."""
    inbox.stream.watch(b"a", b"", 0)
    inbox.full = True
    put(store, b"a", b"1")
    assert inbox.stream.held is not None

    def take(watch_id: int, batch: WatchBatch) -> bool:
        inbox.batches.append((watch_id, batch))
        assert not inbox.stream.resume()
        return True

    inbox.stream.sink = take
    assert inbox.stream.resume()
    put(store, b"a", b"2")

    assert inbox.revisions() == [2, 3]
    assert inbox.stream.held is None


def test_a_cancelled_victim_lets_the_others_of_its_stream_go_on(store: Store, inbox: Inbox) -> None:
    inbox.stream.watch(b"a", b"", 0)
    inbox.stream.watch(b"a", b"", 0)
    inbox.full = True
    put(store, b"a")
    put(store, b"a")
    inbox.full = False

    inbox.stream.cancel(0)
    sync(store)

    assert [to for to, _ in inbox.batches] == [1]
    assert inbox.revisions(1) == [2, 3]


def test_a_stream_closed_while_full_leaves_nothing_behind(store: Store, inbox: Inbox) -> None:
    put(store, b"a")
    inbox.stream.watch(b"a", b"", 0)
    inbox.stream.watch(b"a", b"", 1)
    inbox.full = True
    put(store, b"a")

    inbox.stream.close()
    inbox.stream.close()

    hub = store.watchers
    assert (hub.watcher_count, hub.stream_count, hub.wants_sync, hub.wants_retry, hub.synced.size) == (
        (0, 0, False, False, 0)
    )
    put(store, b"a")
    assert inbox.batches == []


@pytest.mark.parametrize("end", [b"", b"b"])
def test_batches_of_the_past_are_bounded_by_revisions(store: Store, inbox: Inbox, end: bytes) -> None:
    """etcd watchBatchMaxRevs."""
    count = 2 * REVISIONS_PER_BATCH + 5
    for _ in range(count):
        put(store, b"a")
    inbox.stream.watch(b"a", end, 1)

    sync(store)

    sizes = [len(batch.events) for _, batch in inbox.batches]
    assert sum(sizes) == count
    assert max(sizes) == REVISIONS_PER_BATCH
    assert inbox.revisions() == list(range(2, count + 2))


@pytest.mark.parametrize("end", [b"", b"b"])
def test_batches_of_the_past_are_bounded_by_bytes(store: Store, inbox: Inbox, end: bytes) -> None:
    size = BYTES_PER_BATCH // 4
    for _ in range(20):
        put(store, b"a", b"x" * size)
    inbox.stream.watch(b"a", end, 1)

    sync(store)

    assert inbox.revisions() == list(range(2, 22))
    assert max(len(batch.events) for _, batch in inbox.batches) <= 4


def test_one_far_behind_does_not_keep_those_waiting_who_miss_little(store: Store, inbox: Inbox) -> None:
    far, near = Inbox(store), inbox
    for _ in range(5 * ROWS_PER_PASS):
        put(store, b"a")
    far.stream.watch(b"b", b"c", 1)
    near.stream.watch(b"a", b"b", store.current_revision - 2)

    store.watchers.sync_step()
    store.watchers.sync_step()

    assert len(near.events()) == 3
    assert not far.stream.progress_if_synced()
    assert sync(store) >= 3
    assert far.stream.progress_if_synced()


@pytest.mark.parametrize("end", [b"", b"b"])
def test_a_pass_for_many_watches_is_bounded_by_what_all_are_told(store: Store, inbox: Inbox, end: bytes) -> None:
    count, watches = 1000, 60
    for _ in range(count):
        put(store, b"a")
    for _ in range(watches):
        inbox.stream.watch(b"a", end, 1)

    told: list[int] = []
    while store.watchers.wants_sync:
        before = sum(len(batch.events) for _, batch in inbox.batches)
        store.watchers.sync_step()
        told.append(sum(len(batch.events) for _, batch in inbox.batches) - before)
        assert store.watchers.wants_sync_soon == store.watchers.wants_sync

    assert sum(told) == count * watches
    assert EVENTS_PER_PASS <= max(told) <= EVENTS_PER_PASS * 5 // 4


def test_a_pass_takes_its_time_from_many_watches_in_turn(store: Store) -> None:
    """Of ten thousand watches in the past none is left out."""
    for i in range(5):
        put(store, b"%d" % i)
    inboxes = [Inbox(store) for _ in range(10)]
    for inbox in inboxes:
        for _ in range(300):
            inbox.stream.watch(b"4", b"", 1)

    passes = sync(store)

    assert passes >= 3000 // 512
    assert all(len(inbox.batches) == 300 for inbox in inboxes)
    assert store.watchers.slow_count == 0


def test_watches_catch_up_from_the_file_that_replaced_ours(store: Store, inbox: Inbox) -> None:
    """etcd watchableStore.Restore: a follower far behind was sent the leader's file."""
    backend = MemoryBackend()
    leader = Store(backend, leases=NoLeases())
    leader.restore()
    for target in (store, leader):
        put(target, b"a")
    inbox.stream.watch(b"a", b"b", 0)
    inbox.stream.watch(b"a", b"b", 1)
    inbox.stream.watch(b"a", b"b", 100)
    sync(store)
    for _ in range(3):
        put(leader, b"a")

    store.replace_backend(backend)
    sync(store)
    put(store, b"a")

    assert inbox.revisions(0) == [3, 4, 5, 6]
    assert inbox.revisions(1) == [2, 3, 4, 5, 6]
    assert inbox.revisions(2) == []
    assert store.watchers.slow_count == 0
