"""Defragmentation beside commits: nothing is lost, the file is dense, and each step is small."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.storage import Backend, DefragJob, Next, StorageError, defrag, defragment, schema
from balsad.storage.bolt import check
from balsad.storage.bolt.page import used_size
from tests.unit.storage.bolt_history import History

KEY = schema.KEY


def rev(main: int) -> bytes:
    return schema.encode_revision(main, 0)


def filled(path: Path, count: int = 3000, value_bytes: int = 256) -> Backend:
    """Half of what was put is deleted again, here and there."""
    backend = Backend.open(RealDisk(), str(path / "db"), sync=False)
    backend.create_bucket(KEY)
    backend.create_bucket(schema.META)
    rnd = random.Random(1)
    for number in range(count):
        backend.put(KEY, rev(number), rnd.randbytes(value_bytes))
    backend.commit()
    for number in rnd.sample(range(count), count // 2):
        backend.delete(KEY, rev(number))
    backend.commit()
    return backend


def content(backend: Backend) -> dict[bytes, list[tuple[bytes, bytes]]]:
    return {name: backend.scan(name, b"", None) for name in (KEY, schema.META)}


def finish(job: DefragJob, following: Next = Next.STEP) -> int:
    """All that is left; gives the number of steps."""
    steps = 0
    while following is not Next.CLOSE:
        if following is Next.FLUSH:
            job.flush()
        following = job.switch() if following is Next.SWITCH else job.step()
        steps += 1
    job.close()
    return steps


def test_what_is_committed_meanwhile_is_in_the_new_file(tmp_path: Path) -> None:
    backend = filled(tmp_path)
    old = backend.database
    inode = (tmp_path / "db").stat().st_ino
    job = DefragJob(backend, leaves_per_step=5)
    rnd = random.Random(2)
    new = 10_000
    commits = 0
    following = Next.STEP
    while following is not Next.SWITCH:
        if following is Next.FLUSH:
            job.flush()
        if commits < 30:
            commits += 1
            for _ in range(20):
                new += 1
                backend.put(KEY, rev(new), rnd.randbytes(300))
                backend.delete(KEY, rev(rnd.randrange(new)))
            backend.put(schema.META, b"%d" % commits, b"")
            if commits == 7:
                backend.create_bucket(schema.AUTH)
            backend.commit()
        following = job.step()
    backend.put(KEY, rev(99_999), b"is not committed yet")
    before = content(backend)

    assert job.switch() is Next.FLUSH
    assert backend.database is not old
    assert content(backend) == before
    job.flush()
    assert job.step() is Next.CLOSE
    job.close()
    backend.commit()

    assert (tmp_path / "db").stat().st_ino != inode
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.close()
    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert content(again) == before
    assert again.has_bucket(schema.AUTH)
    assert check(again.database.view, again.database.freelist, strict=True) == []
    again.close()


def test_a_bucket_that_goes_meanwhile_and_comes_again_is_as_it_came(tmp_path: Path) -> None:
    backend = filled(tmp_path)
    for number in range(50):
        backend.put(schema.META, b"old %d" % number, bytes(100))
    backend.commit()
    job = DefragJob(backend)
    backend.put(schema.META, b"before the end", b"")
    backend.commit()
    backend.delete_bucket(schema.META)
    backend.create_bucket(schema.META)
    backend.put(schema.META, b"new", b"1")
    backend.delete_bucket(KEY)
    finish(job)

    assert backend.scan(schema.META, b"", None) == [(b"new", b"1")]
    assert not backend.has_bucket(KEY)
    backend.close()
    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert again.scan(schema.META, b"", None) == [(b"new", b"1")]
    assert not again.has_bucket(KEY)
    again.close()


def test_no_step_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step goes over so many leaves or branches; what waits for the disk is left to `flush`."""
    backend = filled(tmp_path, 40_000, 100)
    leaves = sum(1 for _ in backend.database.view.leaves(backend.database.view.buckets[KEY].root))
    monkeypatch.setattr(defrag, "BUFFER_BYTES", 100_000)
    job = DefragJob(backend, leaves_per_step=20)
    writer = job._writer
    seen = 0
    following = Next.STEP
    flushes = 0
    while following is not Next.SWITCH:
        if following is Next.FLUSH:
            flushes += 1
            job.flush()
            seen = 0
        following = job.step()
        assert writer.buffered - seen <= 60 * 4096
        assert writer.buffered <= 100_000 + 60 * 4096
        seen = writer.buffered
    steps = finish(job, following)

    assert steps < 10, "after the switch next to nothing is left"
    assert flushes > leaves * 4096 // 2 // 400_000
    backend.close()


def test_what_was_committed_meanwhile_is_caught_up_with_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the copying took: to copy and sort all that was put in it would be felt."""
    backend = filled(tmp_path)
    monkeypatch.setattr(defrag, "CATCH_UP_CHANGES", 100)
    job = DefragJob(backend, leaves_per_step=5)
    for commit in range(40):
        for number in range(30):
            backend.put(KEY, rev(20_000 + commit * 30 + number), b"v")
        backend.commit()
    before = content(backend)

    pieces: list[int] = []
    following = Next.STEP
    while following is not Next.SWITCH:
        if following is Next.FLUSH:
            job.flush()
        following = job.step()
        copy = job._copy
        if copy is not None and copy.committing and copy.commit_count == len(pieces):
            pieces.append(sum(len(overlay.changes) for overlay in copy.in_flight.values()))
    finish(job, following)

    assert pieces == [120] * 10
    assert content(backend) == before
    backend.close()


def test_one_commit_of_very_much_is_caught_up_with_in_pieces_and_as_one(tmp_path: Path) -> None:
    """One transaction may delete a million keys; no state of the file may hold half of it."""
    backend = filled(tmp_path)
    job = DefragJob(backend)
    for number in range(50_000):
        backend.put(KEY, rev(20_000 + number), b"v")
    backend.commit()
    backend.put(KEY, rev(20_000), b"later")
    backend.commit()
    before = content(backend)

    most = taken = 0
    following = Next.STEP
    while following is not Next.SWITCH:
        if following is Next.FLUSH:
            job.flush()
        following = job.step()
        if job._copy is not None:
            most = max(most, job._copy.pending_ops - taken)
            taken = job._copy.pending_ops
            if job._copy.committing and job._copy.commit_count == 0:
                assert sum(len(overlay.changes) for overlay in job._copy.in_flight.values()) >= 50_000
    finish(job, following)

    assert most <= 20_003  # and three buckets
    assert content(backend) == before
    backend.close()


def leaf_bodies(backend: Backend) -> list[bytes]:
    """The leaves without their numbers."""
    view = backend.database.view
    return [page[8:] for page in view.leaves(view.buckets[KEY].root)]


def test_leaves_are_dense_and_full_ones_are_taken_as_they_are(tmp_path: Path) -> None:
    backend = filled(tmp_path, 20_000)
    for number in range(20_000, 40_000):
        backend.put(KEY, rev(number), bytes(256))  # appended: these are full
    backend.commit()
    before = content(backend)
    old = leaf_bodies(backend)
    defragment(backend)

    assert content(backend) == before
    new = leaf_bodies(backend)
    item = 17 + 16 + 256
    # But for a few where full ones begin, no leaf has room for another item below nine tenths.
    assert sum(used_size(bytes(8) + page) + item <= 3686 for page in new) <= len(new) // 100
    assert len(set(old) & set(new)) > 20_000 // 12 - 20
    assert backend.size == backend.size_in_use == (tmp_path / "db").stat().st_size
    defragment(backend)
    assert content(backend) == before
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.close()


def test_random_histories(tmp_path: Path) -> None:
    defrags = 0
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        history = History(RealDisk(), str(tmp_path / str(seed) / "db"), seed + 70)
        for _ in range(25):
            history.write()
            history.commit()
            history.compare()
            history.disturb()
        defrags += history.defrags
        history.backend.commit()
        history.compare()
        history.close()
        assert [path.name for path in (tmp_path / str(seed)).iterdir()] == ["db"]
    assert defrags > 4


def test_another_file_in_its_place_ends_it(tmp_path: Path) -> None:
    backend = filled(tmp_path)
    (tmp_path / "other").mkdir()
    other = filled(tmp_path / "other", 100)
    other.close()
    (tmp_path / "other" / "db").rename(tmp_path / "received")
    job = DefragJob(backend, leaves_per_step=5)
    job.step()

    backend.replace(str(tmp_path / "received"))

    with pytest.raises(StorageError, match="was replaced while it was defragmented"):
        job.step()
    job.close()
    job.close()
    assert len(backend.scan(KEY, b"", None)) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "other"]
    defragment(backend)
    assert len(backend.scan(KEY, b"", None)) == 50
    backend.close()


def test_given_up_half_way_it_leaves_nothing(tmp_path: Path) -> None:
    backend = filled(tmp_path)
    for steps in (0, 1, 3, 30, 300):
        job = DefragJob(backend, leaves_per_step=5)
        following = Next.STEP
        for _ in range(steps):
            if following is Next.FLUSH:
                job.flush()
            following = job.step()
        job.close()
        assert [path.name for path in tmp_path.iterdir()] == ["db"]
        assert backend.open_readers == 0
        backend.put(KEY, rev(steps), b"again")
        backend.commit()
        assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.close()
