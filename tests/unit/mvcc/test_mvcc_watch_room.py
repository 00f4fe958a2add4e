"""Clients who do not read what happened before they came: it stays in the store, and is given as there is room."""

from __future__ import annotations

import pytest

from balsad.mvcc import NoLeases, Store, WatchBatch, WatchStream
from balsad.mvcc.watch import HELD_BYTES_MAX
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import put

VALUE = b"v" * 100


class Client:
    """Takes what it has room for."""

    def __init__(self, store: Store, room: int) -> None:
        self.room = room
        self.refuses = False
        self.batches: list[WatchBatch] = []
        self.stream: WatchStream = store.watchers.open(self.take, lambda: self.room)

    def take(self, watch_id: int, batch: WatchBatch) -> bool:
        if self.refuses:
            return False
        self.batches.append(batch)
        return True

    @property
    def revisions(self) -> list[int]:
        return [event.mod_revision for batch in self.batches for event in batch.events]


@pytest.fixture
def store() -> Store:
    store = Store(MemoryBackend(), leases=NoLeases())
    store.restore()
    return store


def sync(store: Store) -> None:
    for _ in range(1000):
        if not store.watchers.wants_sync:
            return
        store.watchers.sync_step()
    raise AssertionError("it does not end")


@pytest.mark.parametrize("end", [b"", b"b"])
def test_who_has_no_room_is_not_told_of_the_past_and_nothing_is_held_for_him(store: Store, end: bytes) -> None:
    for _ in range(10):
        put(store, b"a", VALUE)
    client = Client(store, 0)
    client.stream.watch(b"a", end, 1)

    sync(store)
    put(store, b"a", VALUE)
    hub = store.watchers
    assert (client.batches, client.stream.held, hub.held_bytes) == ([], None, 0)
    assert (hub.slow_count, hub.wants_sync, hub.wants_retry, hub.retry_victims()) == (1, False, True, False)

    client.room = 1 << 20
    assert hub.retry_victims()
    sync(store)
    put(store, b"a", VALUE)
    assert client.revisions == list(range(2, 14))
    assert (hub.slow_count, hub.wants_retry) == (0, False)


class CountingBackend(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self.scans = 0

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]:
        self.scans += 1
        return super().scan(bucket, start, end, limit)


def test_who_has_no_room_is_not_read_for() -> None:
    backend = CountingBackend()
    store = Store(backend, leases=NoLeases())
    store.restore()
    put(store, b"a", VALUE)
    client = Client(store, 0)
    client.stream.watch(b"a", b"b", 1)
    before = backend.scans

    sync(store)
    assert backend.scans == before

    client.room = 1 << 20
    assert store.watchers.retry_victims()
    sync(store)
    assert backend.scans > before
    assert client.revisions == [2]


@pytest.mark.parametrize("end", [b"", b"b"])
def test_the_past_comes_in_pieces_of_the_room_there_is(store: Store, end: bytes) -> None:
    for _ in range(10):
        put(store, b"a", VALUE)
    client = Client(store, 300)
    client.stream.watch(b"a", end, 1)

    sync(store)

    assert client.revisions == list(range(2, 12))
    assert [len(batch.events) for batch in client.batches] == [2] * 5


def test_a_revision_is_never_split_however_little_room_there_is(store: Store) -> None:
    for _ in range(3):
        txn = store.write()
        for number in range(4):
            txn.put(b"a%d" % number, VALUE)
        txn.end()
    client = Client(store, 1)
    client.stream.watch(b"a", b"b", 1)

    sync(store)

    assert [[event.mod_revision for event in batch.events] for batch in client.batches] == [[2] * 4, [3] * 4, [4] * 4]


def test_refused_batches_are_held_up_to_a_bound_and_read_again_beyond_it(store: Store) -> None:
    clients = [Client(store, 1 << 30) for _ in range(40)]
    for client in clients:
        client.stream.watch(b"a", b"", 0)
        client.refuses = True
    put(store, b"a", b"v" * (1 << 20))
    put(store, b"a", b"v")

    hub = store.watchers
    held = [client for client in clients if client.stream.held is not None]
    assert 0 < len(held) < len(clients)
    assert (HELD_BYTES_MAX >> 1) < hub.held_bytes <= HELD_BYTES_MAX
    assert hub.pending_count == len(held)

    for client in clients:
        client.refuses = False
    assert hub.retry_victims()
    sync(store)
    put(store, b"a", b"v")
    assert (hub.held_bytes, hub.pending_count) == (0, 0)
    assert all(client.revisions == [2, 3, 4] for client in clients)


def test_a_client_who_leaves_takes_what_was_held_for_him_along(store: Store) -> None:
    put(store, b"a", VALUE)
    held, behind = Client(store, 1 << 20), Client(store, 0)
    held.stream.watch(b"a", b"", 0)
    held.refuses = True
    behind.stream.watch(b"a", b"", 1)
    put(store, b"a", VALUE)
    sync(store)
    hub = store.watchers
    assert hub.held_bytes > 0

    held.stream.close()
    behind.stream.close()

    assert (hub.held_bytes, hub.wants_retry, hub.wants_sync, hub.watcher_count) == (0, False, False, 0)
