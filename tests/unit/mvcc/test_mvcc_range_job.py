"""A range that is read bit by bit gives what it gave when it was asked for, whatever happens meanwhile."""

from __future__ import annotations

import random

import pytest

from balsad.config.form import is_compiled
from balsad.errors import CompactedError
from balsad.mvcc import NoLeases, RangeJob, RangeResult, Store, range_job
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import put


def new_store(backend: MemoryBackend | None = None) -> Store:
    store = Store(backend or MemoryBackend(), leases=NoLeases())
    store.restore()
    return store


def change(store: Store, chances: random.Random) -> None:
    key = b"%03d" % chances.randrange(400)
    what = chances.randrange(12)
    if what < 8:
        put(store, key)
        return
    write = store.write()
    write.delete_range(key, b"%03d" % (int(key) + chances.choice((1, 1, 40))))
    write.end()


def found(result: RangeResult | RangeJob) -> tuple[list[bytes], list[object], int]:
    return list(result.kvs), list(result.metas), result.count


@pytest.mark.parametrize("seed", range(40))
def test_it_reads_what_a_range_at_once_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_job, "_AT_ONCE_MIN", 1)
    chances = random.Random(seed)
    store = new_store()
    for _ in range(300):
        change(store, chances)
    jobs: list[tuple[RangeJob, tuple[list[bytes], list[object], int]]] = []
    ended = 0
    for _ in range(400):
        if len(jobs) < 3:
            first = b"%03d" % chances.randrange(400)
            end = chances.choice((b"\0", b"%03d" % chances.randrange(400), b"9"))
            oldest = max(store.compact_revision, 1)
            revision = chances.choice((0, 0, chances.randrange(oldest, store.current_revision + 1)))
            limit = chances.choice((0, 0, 1, 5, 60))
            count_only = chances.random() < 0.2
            job = RangeJob(store, first, end, revision=revision, limit=limit, count_only=count_only)
            wanted = store.range(first, end, revision=revision, limit=limit, count_only=count_only)
            jobs.append((job, found(wanted)))
            assert job.current == wanted.revision
        if chances.random() < 0.03 and store.current_revision > store.compact_revision + 5:
            compaction = store.compact(chances.randrange(max(store.compact_revision, 1) + 1, store.current_revision))
            while not compaction.step():
                pass
        change(store, chances)
        for pair in tuple(jobs):
            job, before = pair
            if job.step(chances.choice((1, 7, 50))):
                assert found(job) == before
                jobs.remove(pair)
                ended += 1
    assert ended > 20
    for job, _ in jobs:
        job.close()
    assert store.range_jobs == []


@pytest.mark.skipif(is_compiled(), reason="compiled modules do not ask a method that was put in another's place")
def test_a_step_is_bounded_also_among_deleted_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store()
    for number in range(3000):
        put(store, b"%05d" % number)
    revision = store.current_revision
    write = store.write()
    write.delete_range(b"00100", b"02900")
    write.end()
    looked_at: list[int] = []
    select = type(store.index).select

    def counted(index: object, *args: object) -> object:
        outcome = select(index, *args)  # type: ignore[arg-type]
        looked_at.append(len(outcome[0]))
        return outcome

    monkeypatch.setattr(type(store.index), "select", counted)
    for at, count in ((revision, 3000), (0, 200)):
        looked_at.clear()
        job = RangeJob(store, b"0", b"1", revision=at, limit=0, count_only=False)
        while not job.step(200):
            pass
        assert job.count == len(job.kvs) == count
        # As many that live, and as many that do not.
        assert max(looked_at) <= 400
        assert sum(looked_at) == count


def test_it_begins_anew_when_the_store_is_replaced() -> None:
    backend = MemoryBackend()
    store = new_store(backend)
    for number in range(300):
        put(store, b"%05d" % number)
    newest = RangeJob(store, b"0", b"\0", revision=0, limit=0, count_only=False)
    old = RangeJob(store, b"0", b"\0", revision=20, limit=0, count_only=False)
    assert not newest.step(100)
    assert not old.step(100)
    other = backend.copy()
    ahead = new_store(other)
    write = ahead.write()
    write.delete_range(b"00000", b"00150")
    write.end()
    compaction = ahead.compact(ahead.current_revision)
    while not compaction.step():
        pass
    store.replace_backend(other)
    newest.finish()
    assert newest.kvs
    while not newest.step(100):
        pass
    assert found(newest) == found(ahead.range(b"0", b"\0"))
    assert newest.current == ahead.current_revision
    with pytest.raises(CompactedError):
        old.step(100)
