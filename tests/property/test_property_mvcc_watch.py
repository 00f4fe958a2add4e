"""What etcd promises watchers: ordered, each event once, no gap, whole revisions, whatever becomes of the reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from balsad.errors import RequestError
from balsad.mvcc import PROGRESS_ID, Event, NoLeases, Store, WatchBatch, WatchStream, catch_up, watch
from balsad.proto import kv_pb2
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import Change, Delete, Model, Put, apply, in_range

KEYS = [b"a", b"ab", b"b", b"c"]
keys = st.sampled_from(KEYS)
ends = st.sampled_from([b"", b"", b"\0", b"b", b"c", b"d"])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that a short history takes many passes."""
    monkeypatch.setattr(catch_up, "REVISIONS_PER_BATCH", 3)
    monkeypatch.setattr(catch_up, "ROWS_PER_PASS", 5)
    monkeypatch.setattr(catch_up, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(catch_up, "EVENTS_PER_PASS", 7)
    monkeypatch.setattr(catch_up, "BYTES_PER_BATCH", 60)
    monkeypatch.setattr(catch_up, "BYTES_PER_PASS", 120)
    monkeypatch.setattr(watch, "WATCHERS_PER_PASS", 2)
    yield


class Reader:
    """A client stream with room for a few batches, and what its watches were told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.room = 4
        self.told: dict[int, list[WatchBatch]] = {}
        self.expected_from: dict[int, int] = {}
        self.interest: dict[int, tuple[bytes, bytes, bool, bool]] = {}
        self.cancelled: set[int] = set()
        self.over: dict[int, int] = {}
        self.stream: WatchStream = store.watchers.open(self.take)
        self.quiet = False

    def take(self, watch_id: int, batch: WatchBatch) -> bool:
        assert not self.quiet, "the sink was called inside watch()"
        if self.room == 0:
            return False
        self.room -= 1
        if watch_id == PROGRESS_ID:
            for each in self.interest:
                self.told[each].append(batch)
            return True
        assert watch_id not in self.cancelled
        assert watch_id not in self.over
        if batch.compact_revision:
            assert batch.compact_revision == self.store.compact_revision
            self.over[watch_id] = batch.compact_revision
        self.told[watch_id].append(batch)
        return True


class Watching(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.store = Store(self.backend, leases=NoLeases(), compaction_batch=3)
        self.store.restore()
        self.model = Model()
        self.readers = [Reader(self.store), Reader(self.store)]

    @rule(key=keys, value=st.sampled_from([b"", b"v", b"x" * 100]))
    def put(self, key: bytes, value: bytes) -> None:
        self.model.apply([Put(key, value)])
        apply(self.store, [Put(key, value)])

    @rule(first=keys, second=keys, gone=keys, end=ends)
    def txn(self, first: bytes, second: bytes, gone: bytes, end: bytes) -> None:
        ops: list[Put | Delete] = [Delete(gone, end)]
        ops += [Put(key, b"t") for key in {first: 0, second: 0} if not in_range(key, gone, end)]
        self.model.apply(ops)
        apply(self.store, ops)

    @rule(
        which=st.integers(0, 1),
        key=keys,
        end=ends,
        back=st.integers(-3, 30),
        from_now=st.booleans(),
        watch_id=st.sampled_from([0, 0, 0, 5, 6]),
        filters=st.sampled_from([(False, False), (False, False), (True, False), (False, True), (True, True)]),
    )
    def watch(
        self, which: int, key: bytes, end: bytes, back: int, from_now: bool, watch_id: int, filters: tuple[bool, bool]
    ) -> None:
        reader = self.readers[which]
        start = 0 if from_now else max(1, self.store.current_revision + 1 - back)
        reader.quiet = True
        try:
            given_id = reader.stream.watch(key, end, start, watch_id, *filters)
        except RequestError as error:
            assert "duplicate" in error.text or (end not in (b"", b"\0") and key >= end)
            return
        finally:
            reader.quiet = False
        assert given_id == watch_id or not watch_id
        reader.told[given_id] = []
        reader.cancelled.discard(given_id)
        reader.over.pop(given_id, None)
        reader.interest[given_id] = (key, end, *filters)
        reader.expected_from[given_id] = start or self.store.current_revision + 1

    @rule(which=st.integers(0, 1), pick=st.integers(0, 9))
    def cancel(self, which: int, pick: int) -> None:
        reader = self.readers[which]
        was_open = pick in reader.interest and pick not in reader.over
        assert reader.stream.cancel(pick) == was_open
        if was_open:
            reader.cancelled.add(pick)
            del reader.interest[pick]

    @rule(which=st.integers(0, 1), room=st.integers(0, 5))
    def read(self, which: int, room: int) -> None:
        self.readers[which].room = room

    @rule(which=st.integers(0, 1))
    def resume(self, which: int) -> None:
        self.readers[which].stream.resume()

    @rule()
    def sync(self) -> None:
        assert self.store.watchers.sync_step() == self.store.watchers.wants_sync

    @rule()
    def retry(self) -> None:
        self.store.watchers.retry_victims()

    @rule(which=st.integers(0, 1), pick=st.integers(0, 9), everything=st.booleans())
    def progress(self, which: int, pick: int, everything: bool) -> None:
        reader = self.readers[which]
        for each in [each for each in reader.over if each in reader.interest]:
            del reader.interest[each]
        if everything:
            reader.stream.progress_if_synced()
        else:
            reader.stream.request_progress(pick)

    @precondition(lambda self: self.store.current_revision > 3)
    @rule(back=st.integers(0, 10))
    def compact(self, back: int) -> None:
        revision = self.store.current_revision - back
        if revision > self.store.compact_revision:
            job = self.store.compact(revision)
            self.model.compacted = revision
            while not job.step():
                pass

    @rule(data=st.booleans())
    def replace_backend(self, data: bool) -> None:
        """A follower that fell behind goes on with the leader's file."""
        self.store.replace_backend(self.backend.copy() if data else self.backend)
        self.backend = self.store.backend  # type: ignore[assignment]

    @invariant()
    def nobody_was_told_anything_wrong(self) -> None:
        for reader in self.readers:
            for watch_id in reader.interest:
                self.check(reader, watch_id)

    @invariant()
    def counts_add_up(self) -> None:
        hub = self.store.watchers
        open_watches = sum(len(reader.stream.watchers) for reader in self.readers)
        unsynced = sum(len(reader.stream.unsynced) for reader in self.readers)
        held = sum(reader.stream.held is not None for reader in self.readers)
        assert hub.watcher_count == open_watches == hub.synced.size + unsynced + held
        assert hub.slow_count == unsynced + held
        assert len(hub.synced.all()) == hub.synced.size

    def teardown(self) -> None:
        """Once they read again, everybody gets everything."""
        hub = self.store.watchers
        for reader in self.readers:
            reader.room = 1 << 30
        hub.retry_victims()
        for _ in range(2000):
            if not hub.wants_sync:
                break
            hub.sync_step()
        assert not hub.wants_sync
        assert not hub.wants_retry
        assert hub.slow_count == 0
        for reader in self.readers:
            for watch_id in reader.interest:
                self.check(reader, watch_id)
                if watch_id not in reader.over:
                    told = [event for batch in reader.told[watch_id] for event in batch.events]
                    assert len(told) == len(self.expected(reader, watch_id))
            reader.stream.close()
        assert (hub.watcher_count, hub.stream_count) == (0, 0)

    def expected(self, reader: Reader, watch_id: int) -> list[Change]:
        key, end, no_put, no_delete = reader.interest[watch_id]
        return [
            change
            for change in self.model.changes
            if change.main >= reader.expected_from[watch_id]
            and in_range(change.key, key, end)
            and not (no_delete if change.is_delete else no_put)
        ]

    def check(self, reader: Reader, watch_id: int) -> None:
        """What it was told so far is how its history begins, in whole revisions."""
        expected = self.expected(reader, watch_id)
        told = 0
        for batch in reader.told[watch_id]:
            for event in batch.events:
                change = expected[told]
                told += 1
                assert (event.mod_revision, event.key, event.is_delete) == (change.main, change.key, change.is_delete)
                assert shown(event) == change
            if batch.events:
                assert told == len(expected) or expected[told].main > expected[told - 1].main
                assert batch.revision >= batch.events[-1].mod_revision
            elif not batch.compact_revision:
                assert told == len(expected) or expected[told].main > batch.revision
        if watch_id in reader.over:
            assert reader.expected_from[watch_id] < reader.over[watch_id]


def shown(event: Event) -> Change:
    """The change that an encoded event tells of; it does not tell the sub revision."""
    decoded = kv_pb2.Event.FromString(event.encoded)
    kv = decoded.kv
    is_delete = decoded.type == kv_pb2.Event.DELETE
    assert not decoded.HasField("prev_kv")
    return _AnySub(kv.mod_revision, 0, kv.key, is_delete, kv.create_revision, kv.version, kv.value, kv.lease)


class _AnySub(Change):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and self[2:] == other[2:] and self[0] == other[0]

    __hash__ = None  # type: ignore[assignment]


TestWatching = Watching.TestCase
TestWatching.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)


@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(st.one_of(st.builds(Put, keys, st.binary(max_size=3)), st.builds(Delete, keys)), max_size=20),
    compact_at=st.floats(0, 1),
)
def test_prev_kv_is_the_value_one_revision_earlier_unless_compacted(
    changes: list[Put | Delete], compact_at: float
) -> None:
    """etcd serverWatchStream.sendLoop: a Range at mod_revision - 1, nothing when that is compacted."""
    store = Store(MemoryBackend(), leases=NoLeases())
    store.restore()
    model = Model()
    events: list[Event] = []

    def take(_: int, batch: WatchBatch) -> bool:
        events.extend(batch.events)
        return True

    store.watchers.open(take).watch(b"\0", b"\0", 0)
    for change in changes:
        model.apply([change])
        apply(store, [change])
    compacted = int(compact_at * store.current_revision)
    store.compact(compacted)

    for event in events:
        decoded = kv_pb2.Event.FromString(event.encoded_with_prev(store))

        before = model.at(event.mod_revision - 1).get(event.key)
        visible = before is not None and event.mod_revision - 1 >= compacted
        assert decoded.HasField("prev_kv") == visible
        if before is not None and visible:
            assert decoded.prev_kv.SerializeToString() == before.stored()
