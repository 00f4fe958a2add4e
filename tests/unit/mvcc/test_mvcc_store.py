"""The store's corners: write txns, reads beside them, leases, the value cache, hashes kept by compactions."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from balsad.env.real import real_env
from balsad.errors import CompactedError, FutureRevError
from balsad.lease import Lessor
from balsad.mvcc import NoLeases, Store, StoreBackend, changed_since, key_of, lease_of, value_of
from balsad.mvcc.key_index import KeyIndex
from balsad.mvcc.restore import FREEZE_KEYS_MIN
from balsad.mvcc.revision import KEY_BUCKET, revision_key
from balsad.mvcc.value_cache import ENTRY_OVERHEAD, ValueCache
from balsad.storage import Backend, StorageError
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import Delete, Model, Op, Put, apply, put


def open_store(backend: StoreBackend | None = None, *, hash_compactions: bool = False) -> Store:
    store = Store(backend or MemoryBackend(), leases=NoLeases(), hash_compactions=hash_compactions, compaction_batch=3)
    store.restore()
    return store


@pytest.fixture
def store() -> Store:
    return open_store()


def values(kvs: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(key_of(kv), value_of(kv)) for kv in kvs]


def test_an_empty_store_is_at_revision_1(store: Store) -> None:
    assert (store.current_revision, store.compact_revision) == (1, -1)
    assert store.range(b"\0", b"\0").count == 0
    assert put(store, b"a") == 2


def test_nobody_sees_a_txn_before_its_end(store: Store) -> None:
    put(store, b"a", b"1")
    put(store, b"b", b"1")

    txn = store.write()
    txn.put(b"a", b"2")
    txn.delete_range(b"b")
    txn.put(b"c", b"2")

    assert values(store.range(b"\0", b"\0").kvs) == [(b"a", b"1"), (b"b", b"1")]
    assert store.range(b"\0", b"\0", count_only=True).count == 2
    assert [value_of(store.get(key) or b"\x0a\0") for key in (b"a", b"b", b"c")] == [b"1", b"1", b""]
    assert [store.meta(key) for key in (b"a", b"c")] == [(2, 0, 2, 1), None]
    with pytest.raises(FutureRevError):
        store.range(b"a", revision=4)
    assert txn.end() == 4
    assert values(store.range(b"\0", b"\0").kvs) == [(b"a", b"2"), (b"c", b"2")]
    assert values(store.range(b"\0", b"\0", revision=3).kvs) == [(b"a", b"1"), (b"b", b"1")]


def test_a_txn_sees_its_own_writes(store: Store) -> None:
    put(store, b"a", b"1")
    put(store, b"b", b"1")

    txn = store.write()
    assert (txn.revision, txn.range(b"\0", b"\0").revision) == (3, 3)
    txn.put(b"a", b"2", 5)
    assert txn.delete_range(b"b", b"z") == 1
    assert txn.delete_range(b"b", b"z") == 0

    assert values(txn.range(b"\0", b"\0").kvs) == [(b"a", b"2")]
    assert values(txn.range(b"\0", b"\0", revision=3).kvs) == [(b"a", b"1"), (b"b", b"1")]
    assert txn.range(b"\0", b"\0", revision=4, count_only=True).count == 1
    assert (txn.revision, txn.meta(b"a"), txn.get(b"b"), txn.lease_of(b"a")) == (4, (4, 0, 2, 2), None, 5)
    with pytest.raises(FutureRevError):
        txn.range(b"a", revision=5)
    assert (txn.change_count, txn.end()) == (2, 4)


def test_changes_of_one_txn_count_up_in_sub(store: Store) -> None:
    put(store, b"c")
    put(store, b"d")

    txn = store.write()
    txn.put(b"b", b"")
    txn.delete_range(b"c", b"e")
    txn.put(b"a", b"")
    txn.end()

    rows = store.backend.scan(b"key", (4).to_bytes(8, "big"), None)
    assert [(key[16], key[17:], key_of(kv)) for key, kv in rows] == [
        (0, b"", b"b"),
        (1, b"t", b"c"),
        (2, b"t", b"d"),
        (3, b"", b"a"),
    ]
    assert rows[1][1] == b"\x0a\x01c"


def test_a_second_txn_waits_for_the_first(store: Store) -> None:
    txn = store.write()
    txn.put(b"a", b"")

    with pytest.raises(AssertionError):
        store.write()


def test_a_deleted_key_begins_again_at_version_1(store: Store) -> None:
    put(store, b"a")
    put(store, b"a")
    apply(store, [Delete(b"a")])
    put(store, b"a")

    assert store.meta(b"a") == (5, 0, 5, 1)
    assert [store.range(b"a", revision=r).metas for r in (2, 3, 4)] == [[(2, 0, 2, 1)], [(3, 0, 2, 2)], []]


def test_a_range_whose_end_is_not_after_its_key_is_empty(store: Store) -> None:
    put(store, b"b")
    put(store, b"b")

    for revision in (0, 2):
        assert store.range(b"b", b"b", revision=revision).count == 0
        assert store.range(b"c", b"a", revision=revision, count_only=True).count == 0
        assert store.range(b"a", b"\0", revision=revision).count == 1


def test_a_put_moves_its_key_between_leases() -> None:
    backend = MemoryBackend()
    lessor = Lessor(1, backend)
    lessor.recover()
    lessor.grant(3, 10, 0.0)
    lessor.grant(-4, 10, 0.0)
    store = Store(backend, leases=lessor)
    store.restore()

    for lease in (3, -4, -4, 0, 3):
        put(store, b"a", b"v", lease)
        kv = store.get(b"a")
        assert kv is not None
        assert (lessor.lease_of(b"a"), lease_of(kv), value_of(kv)) == (lease, lease, b"v")
    apply(store, [Delete(b"a")])
    assert lessor.lease_by_key == {}
    put(store, b"a")
    assert lessor.lease_by_key == {}


def test_a_lease_that_is_gone_is_not_attached_by_a_restart() -> None:
    """etcd logs an error and goes on."""
    backend = MemoryBackend()
    lessor = Lessor(1, backend)
    lessor.recover()
    lessor.grant(3, 10, 0.0)
    lessor.grant(4, 10, 0.0)
    store = Store(backend, leases=lessor)
    store.restore()
    put(store, b"a", b"", 3)
    put(store, b"b", b"", 4)
    backend.delete(b"lease", (3).to_bytes(8, "big"))
    lessor.recover()

    store.restore()

    assert lessor.lease_by_key == {b"b": 4}


def test_compact_refuses_what_is_compacted_and_what_is_not_yet(store: Store) -> None:
    put(store, b"a")
    put(store, b"a")

    with pytest.raises(FutureRevError):
        store.compact(4)
    store.compact(3)
    with pytest.raises(CompactedError):
        store.compact(3)
    with pytest.raises(CompactedError):
        store.range(b"a", revision=2)
    assert store.range(b"a", revision=3).count == 1
    assert store.get_at(b"a", 2) is None


def test_compactions_run_one_after_the_other(store: Store) -> None:
    for _ in range(40):
        put(store, b"a")
    first, second = store.compact(10), store.compact(30)

    steps = 0
    while not second.step():
        steps += 1
        assert not second.finished

    assert first.finished
    assert (first.deleted, second.deleted) == (8, 20)
    assert steps > 8
    assert store.backend.get(b"meta", b"finishedCompactRev") == store.backend.get(b"meta", b"scheduledCompactRev")


def test_the_revision_does_not_go_back_when_a_compaction_took_the_last_row() -> None:
    """etcd issue 17780: the newest revision was a delete, compacted by a patch that kept no tombstone."""
    backend = MemoryBackend()
    store = open_store(backend)
    put(store, b"a")
    apply(store, [Delete(b"a")])
    store.compact(3)
    backend.buckets[b"key"].clear()

    assert open_store(backend).current_revision == 3


def test_a_tombstone_whose_put_was_compacted_is_taken_in() -> None:
    backend = MemoryBackend()
    store = open_store(backend)
    put(store, b"a")
    apply(store, [Delete(b"a")])
    job = store.compact(3)
    while not job.step():
        pass

    again = open_store(backend)

    assert again.range(b"\0", b"\0", revision=3).count == 0
    put(again, b"a")
    assert again.meta(b"a") == (4, 0, 4, 1)
    later = again.compact(4)
    while not later.step():
        pass
    assert [key[7] for key, _ in backend.scan(b"key", b"", None)] == [4]


def test_a_key_that_looks_like_its_own_numbers_is_not_taken_for_them() -> None:
    """A restart looks for the numbers of a first put behind short keys only; long ones may hold the same bytes."""
    backend = MemoryBackend()
    store = open_store(backend)
    key = (b"abc" + b"\x10\x03\x18\x03\x20\x01" * 60)[:360]
    put(store, key)
    put(store, key)
    job = store.compact(3)
    while not job.step():
        pass

    assert open_store(backend).meta(key) == (3, 0, 2, 2)


def test_compactions_keep_the_hash_that_members_compare() -> None:
    """etcd 3.5.5 scheduleCompaction: over all rows since the last compaction and what that one kept."""
    store = open_store(hash_compactions=True)
    model = Model()
    history: list[list[Op]] = [[Put(b"a", b"%d" % i), Put(b"%d" % (i % 7), b"")] for i in range(20)]
    history[13] = [Delete(b"3"), Delete(b"a")]
    for txn in history:
        apply(store, txn)
        model.apply(txn)
    first = model.hash(9, -1, model.changes)
    second = model.hash(15, 9, model.changes)
    for revision in (9, 15):
        job = store.compact(revision)
        while not job.step():
            pass

    kept = [store.hash_by_revision(revision) for revision in (9, 15)]

    assert [(result.hash, result.revision, result.compact_revision) for result in kept] == [
        (first, 9, -1),
        (second, 15, 9),
    ]
    assert kept[0].current_revision == store.current_revision == 21
    with pytest.raises(CompactedError):
        store.hash_by_revision(8)
    assert len(store.hashes) == 2


def test_only_the_ten_newest_hashes_are_kept() -> None:
    store = open_store(hash_compactions=True)
    for _ in range(15):
        job = store.compact(put(store, b"a"))
        while not job.step():
            pass

    assert [result.revision for result in store.hashes.all()] == list(range(7, 17))


def test_a_compaction_begun_before_the_last_one_finished_keeps_no_hash() -> None:
    """Its rows may be gone already: the hash would differ from that of other members."""
    store = open_store(hash_compactions=True)
    for _ in range(9):
        put(store, b"a")
    store.compact(5)
    job = store.compact(8)
    while not job.step():
        pass

    assert [result.revision for result in store.hashes.all()] == [5]


def test_a_hash_in_slices_is_not_disturbed_by_writes_and_begins_anew_after_a_compaction(store: Store) -> None:
    for i in range(5000):
        put(store, b"%d" % (i % 1000), b"%d" % i)
    revision = store.current_revision
    expected = store.hash_by_revision(0).hash
    job = store.hash_job(0)
    job.step()
    put(store, b"7", b"new")
    apply(store, [Delete(b"8")])
    while not job.step():
        pass
    assert (job.result.hash, job.result.revision, job.result.current_revision) == (expected, revision, revision + 2)

    job = store.hash_job(revision)
    job.step()
    store.compact(4000)
    while not job.step():
        pass
    assert job.result.hash == store.hash_by_revision(revision).hash != expected

    job = store.hash_job(revision)
    store.compact(revision + 1)
    with pytest.raises(CompactedError):
        job.step()


def test_the_cache_counts_its_bytes_and_keeps_to_its_bound() -> None:
    cache = ValueCache(10 * (ENTRY_OVERHEAD + 50))
    for i in range(300):
        cache.put(b"%d" % (i % 40), b"x" * (i % 90))
        cache.drop(b"%d" % (i * 7 % 50))
        assert cache.size == sum(len(kv) + ENTRY_OVERHEAD for kv in cache.kvs.values())
        assert cache.size <= cache.size_max


def test_a_put_counts_what_it_caches() -> None:
    store = Store(MemoryBackend(), leases=NoLeases(), cache_bytes_max=2000)
    store.restore()
    for i in range(300):
        put(store, b"%d" % (i % (4 if i < 150 else 40)), b"x" * (i % 90))
        cache = store.cache
        assert cache.size == sum(len(kv) + ENTRY_OVERHEAD for kv in cache.kvs.values()) <= 2000


@pytest.mark.parametrize("cache_bytes_max", [0, 1 << 20])
def test_values_are_read_wherever_they_are(tmp_path_factory: pytest.TempPathFactory, cache_bytes_max: int) -> None:
    """Cached, waiting for the commit, being committed, in the file."""
    backend = Backend.open(real_env().disk, str(tmp_path_factory.mktemp("db") / "db"))
    store = Store(backend, leases=NoLeases(), cache_bytes_max=cache_bytes_max)
    store.restore()
    put(store, b"a", b"1")
    backend.commit()
    put(store, b"b", b"2")
    job = backend.commit_job()
    assert job is not None
    put(store, b"c", b"3")

    expected = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert values(store.range(b"\0", b"\0").kvs) == expected
    assert [value_of(store.get(key) or b"") for key, _ in expected] == [b"1", b"2", b"3"]
    job.complete()
    backend.commit()
    assert values(store.range(b"\0", b"\0").kvs) == expected
    assert store.hash_by_revision(0).hash == open_store(backend).hash_by_revision(0).hash
    backend.close()


def test_revisions_of_any_size_are_stored_as_protobuf_has_them(store: Store) -> None:
    """Varints of one to five bytes in every number."""
    model = Model()
    for revision in (120, 16380, 2097150, 268435454):
        store.current_revision = store.head = model.revision = revision
        for _ in range(5):
            for op in (Put(b"k", b"v" * 130), Put(b"k" * 200)):
                apply(store, [op])
                model.apply([op])

    rows = [(key, kv) for key, kv in store.backend.scan(b"key", b"", None)]
    assert rows == [(change.row_key(), change.stored()) for change in model.changes]


@pytest.mark.parametrize(
    ("row_key", "kv"),
    [
        (b"\0" * 7 + b"\2_" + b"\0" * 8, b"\x0a"),
        (b"short", b"\x0a\x01a"),
        (b"\0" * 7 + b"\2_" + b"\0" * 8, b"\x12\x01a\x10"),
    ],
)
def test_a_broken_row_says_where_it_is(row_key: bytes, kv: bytes) -> None:
    backend = MemoryBackend()
    open_store(backend)
    backend.put(b"key", row_key, kv)

    with pytest.raises(StorageError, match=f"^memory: bucket key, row {row_key.hex()}: expected .* found {kv.hex()}$"):
        open_store(backend)


@pytest.mark.parametrize("name", [b"finishedCompactRev", b"scheduledCompactRev"])
def test_a_broken_revision_of_a_compaction_is_named(name: bytes) -> None:
    """Found by fuzzing: it ended in a struct.error."""
    backend = MemoryBackend()
    open_store(backend)
    backend.put(b"meta", name, b"12")

    with pytest.raises(StorageError, match=f"^memory: bucket meta, {name.decode()}: expected a revision, found 3132$"):
        open_store(backend)


def test_a_row_that_only_the_index_knows_is_named() -> None:
    """Without its underscore a revision is read all the same, and then not found."""
    backend = MemoryBackend()
    put(open_store(backend), b"a")
    (kv,) = backend.buckets[b"key"].values()
    assert kv is not None
    backend.put(b"key", revision_key(3, 0).replace(b"_", b"-"), kv.replace(b"a", b"b", 1))
    store = open_store(backend)

    with pytest.raises(StorageError, match=f"^memory: bucket key has no row {revision_key(3, 0).hex()}"):
        store.get(b"b")


def with_steps(job_step: Callable[[], bool]) -> int:
    steps = 1
    while not job_step():
        steps += 1
    return steps


def test_a_compaction_goes_in_batches(store: Store) -> None:
    """So that nobody waits for it: etcd's compaction-batch-limit."""
    for i in range(300):
        put(store, b"%d" % (i % 50))
    rows_before = len(store.backend.scan(b"key", b"", None))
    job = store.compact(250)
    assert len(store.backend.scan(b"key", b"", None)) == rows_before

    assert with_steps(job.step) > job.deleted // 3
    assert len(store.backend.scan(b"key", b"", None)) == rows_before - job.deleted == 300 - 200 + 1


def test_the_collector_never_looks_through_a_large_store_that_was_restored() -> None:
    """Nor do puts bring the table of its keys back into its sight; a small store is left to it."""
    backend = MemoryBackend()
    store = open_store(backend)
    for i in range(FREEZE_KEYS_MIN - 1):
        store.put(b"%06d" % i, b"\x0a\x06%06d" % i, b"\x01v", 0)
    gc.unfreeze()
    try:
        small = open_store(backend)
        assert gc.get_freeze_count() == 0
        assert any(seen is small.index.live for seen in gc.get_objects())
        put(store, b"one more")
        large = open_store(backend)
        assert gc.get_freeze_count() > 0

        gc.collect()
        put(large, b"000000")
        put(large, b"new")

        assert not any(seen is large.index.live for seen in gc.get_objects())
        assert gc.is_tracked(large.index.live)
    finally:
        gc.unfreeze()


def test_no_step_of_a_compaction_is_longer_for_a_key_or_a_transaction_of_very_many_revisions() -> None:
    """Steps are bounded by revisions: one key may have had them all, one transaction may have made them all."""
    store = open_store()
    for i in range(500):
        put(store, b"hot", b"%d" % i)
    for i in range(200):
        put(store, b"%03d" % i)
    txn = store.write()
    txn.delete_range(b"0", b"2")
    txn.end()
    last = put(store, b"hot")
    rows = len(store.backend.scan(b"key", b"", None))
    job = store.compact(last)

    steps, batch = 0, 3
    while True:
        keys, grouped, deleted = job._keys_left, job.grouped, job.deleted
        if job.step():
            break
        steps += 1
        assert keys - job._keys_left <= 4 * batch
        assert job.grouped - grouped <= 4 * batch
        assert job.deleted - deleted <= batch
        if steps == 20:
            # What happens meanwhile is not forgotten, and costs this compaction nothing.
            for i in range(150, 200):
                put(store, b"%03d" % i)
            put(store, b"hot")

    assert steps > (500 + 400) // batch
    assert job.deleted == job.grouped == 900
    assert len(store.backend.scan(b"key", b"", None)) == rows - 900 + 51
    assert store.index.history == {b"hot": [(last, 0, 2, 501)]}


@pytest.mark.parametrize("bound", ["BYTES_AT_ONCE", "ROWS_AT_ONCE"])
def test_pages_of_an_older_revision_read_a_bounded_piece_of_what_came_since(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Too much for one page is left to the next; far too much, and all keys are walked. The answers are the same."""
    monkeypatch.setattr(changed_since, bound, 100 if bound == "BYTES_AT_ONCE" else 20)
    monkeypatch.setattr(changed_since, "REVISIONS_AT_ONCE", 400)
    backend = MemoryBackend()
    backend.create_bucket(b"key")
    backend.create_bucket(b"meta")
    store = Store(backend, leases=NoLeases())
    store.restore()
    for number in range(200):
        store.put(b"%03d" % number, b"\x0a\x03%03d" % number, b"\x01v", 0)
    revision = store.current_revision
    for number in range(0, 200, 2):
        write = store.write()
        write.delete_range(b"%03d" % number)
        write.end()
    remembered = []
    for _ in range(6):
        page = store.range(b"0", b"\0", revision=revision, limit=10)
        assert (page.count, len(page.kvs)) == (200, 10)
        remembered.append(store._changed._read_to)
    assert remembered == sorted(remembered)
    assert remembered[0] < remembered[-1] == store.current_revision
    assert store.range(b"0", b"\0", limit=10).count == 100
    for number in range(500):
        store.put(b"%03d" % number, b"\x0a\x03%03d" % number, b"\x01w", 0)
    assert store.range(b"0", b"\0", revision=revision, limit=10).count == 200
    assert store._changed._read_to < store.current_revision


@pytest.mark.parametrize("count", [10, 64, 700, 4000])
def test_many_keys_deleted_together_leave_the_index_as_one_by_one(count: int) -> None:
    """Whether few or most of all keys go, and some of them for the second time."""
    together, one_by_one = KeyIndex(), KeyIndex()
    keys = [b"key %05d" % number for number in range(4000)]
    doomed = keys[100 : 100 + count]
    for index in (together, one_by_one):
        for main, key in enumerate(keys, 2):
            index.put(key, main, 0)
        index.tombstone(doomed[5], 5000, 0)
        index.put(doomed[5], 5001, 0)

    together.tombstone_all(doomed, 6000, 3)
    for sub, key in enumerate(doomed, 3):
        one_by_one.tombstone(key, 6000, sub)

    for index in (together, one_by_one):
        index.put(keys[101], 6001, 0)
    assert together.live == one_by_one.live
    assert together.history == one_by_one.history
    assert together.dead == one_by_one.dead
    for key, end in ((b"", b"\0"), (keys[50], keys[120]), (keys[0], keys[3999])):
        assert together.keys(key, end, 0) == one_by_one.keys(key, end, 0)
        assert together.count(key, end) == one_by_one.count(key, end)
        for revision in (4500, 5500, 6000):
            assert together.select(key, end, revision, 0) == one_by_one.select(key, end, revision, 0)


def test_a_restart_finds_every_revision_of_every_key() -> None:
    """Puts over puts, deletes, long keys, many keys of one transaction."""
    backend = MemoryBackend()
    store = open_store(backend)
    long = b"k" * 300
    for round_number in range(3):
        for key in (b"a", b"b", long):
            put(store, key, b"%d" % round_number)
    apply(store, [Delete(b"a"), Delete(long)])
    put(store, b"a", b"again")

    again = open_store(backend.copy())

    assert again.current_revision == store.current_revision
    assert again.index.live == store.index.live
    assert again.index.history == store.index.history
    assert again.index.dead == store.index.dead
    assert {key: len(changes) for key, changes in again.index.history.items()} == {b"a": 4, b"b": 2, long: 4}


@pytest.mark.parametrize(
    ("name", "kv"),
    [
        (revision_key(2, 0)[:16], b"\x0a\x01a\x10\x02\x18\x02\x20\x01"),
        (revision_key(2, 0), b"\x0a\x7fa\x10\x02\x18\x02\x20\x01"),
        (revision_key(2, 0), b"\x12\x01a\x10\x02\x18\x02\x20\x01"),
        (revision_key(2, 0), b"\x0a"),
        (revision_key(2, 0), b"\x0a\x01a\x10\xff"),
    ],
)
def test_a_broken_row_is_named(name: bytes, kv: bytes) -> None:
    backend = MemoryBackend()
    backend.create_bucket(KEY_BUCKET)
    backend.put(KEY_BUCKET, name, kv)

    with pytest.raises(StorageError, match=f"memory: bucket key, row {name.hex()}: expected .*, found {kv.hex()}"):
        open_store(backend)
