"""The backend: pending writes, sliced commits, snapshots, defrag, hashes, failing disks."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.storage import (
    Backend,
    BucketNotFoundError,
    CorruptDatabaseError,
    DatabaseLockedError,
    StorageError,
    defragment,
    schema,
)
from balsad.storage.bolt import Database, check, hash_contents
from tests.unit.storage.bolt_disks import FaultyDisk
from tests.unit.storage.bolt_history import BUCKETS, History, content_hash, leaf_ids, snapshot_bytes

KEY = schema.KEY


def rev(main: int) -> bytes:
    return schema.encode_revision(main, 0)


def open_backend(path: Path, disk: RealDisk | None = None, *, sync: bool = False) -> Backend:
    backend = Backend.open(disk or RealDisk(), str(path / "db"), sync=sync)
    backend.create_bucket(KEY)
    backend.create_bucket(schema.META)
    return backend


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    return open_backend(tmp_path)


# ---- pending, in flight, file


def test_a_key_is_read_back_at_once_and_at_every_stage(backend: Backend) -> None:
    backend.put(KEY, rev(2), b"two")
    assert backend.get(KEY, rev(2)) == b"two"
    job = backend.commit_job()
    assert job is not None

    backend.put(KEY, rev(3), b"three")
    assert not job.step()
    seen = [backend.get(KEY, rev(number)) for number in (1, 2, 3)]
    while not job.step():
        pass
    job.flush()
    assert [backend.get(KEY, rev(number)) for number in (1, 2, 3)] == seen == [None, b"two", b"three"]
    job.finish()

    assert [backend.get(KEY, rev(number)) for number in (1, 2, 3)] == seen
    assert backend.database.view.get(KEY, rev(2)) == b"two"
    assert backend.database.view.get(KEY, rev(3)) is None
    assert backend.scan(KEY, rev(0), None) == [(rev(2), b"two"), (rev(3), b"three")]


def test_a_later_change_hides_an_earlier_one(backend: Backend) -> None:
    backend.put(KEY, b"k", b"in the file")
    backend.commit()
    backend.put(KEY, b"k", b"in flight")
    job = backend.commit_job()
    assert job is not None
    assert backend.get(KEY, b"k") == b"in flight"

    backend.delete(KEY, b"k")
    assert backend.get(KEY, b"k") is None
    assert backend.scan(KEY, b"", None) == []
    job.complete()
    assert backend.get(KEY, b"k") is None
    backend.commit()
    assert backend.database.view.get(KEY, b"k") is None


def test_scan_joins_all_three_within_bounds_and_limit(backend: Backend) -> None:
    for number in range(0, 90, 3):
        backend.put(KEY, rev(number), b"file")
    backend.commit()
    for number in range(1, 90, 3):
        backend.put(KEY, rev(number), b"flight")
    backend.delete(KEY, rev(30))
    job = backend.commit_job()
    assert job is not None
    for number in range(2, 90, 3):
        backend.put(KEY, rev(number), b"pending")
    backend.delete(KEY, rev(31))
    backend.put(KEY, rev(33), b"pending")

    keys = [number for number in range(90) if number not in (30, 31)]
    assert [key for key, _ in backend.scan(KEY, b"", None)] == [rev(number) for number in keys]
    found = backend.scan(KEY, rev(28), rev(36), 5)
    assert found == [
        (rev(28), b"flight"),
        (rev(29), b"pending"),
        (rev(32), b"pending"),
        (rev(33), b"pending"),
        (rev(34), b"flight"),
    ]
    assert backend.scan(KEY, rev(36), rev(28)) == []
    job.complete()
    assert backend.scan(KEY, rev(28), rev(36), 5) == found


def test_a_limited_scan_gathers_stretch_by_stretch(backend: Backend) -> None:
    """Long rows of deleted keys, in the file and waiting, lie before the first live ones."""
    for number in range(3000):
        backend.put(KEY, rev(number), b"file")
    backend.commit()
    for number in range(1500):
        backend.delete(KEY, rev(number))
    for number in range(5000, 7000):
        backend.delete(KEY, rev(number))
    job = backend.commit_job()
    assert job is not None
    for number in range(1000, 2500):
        backend.delete(KEY, rev(number))
    backend.put(KEY, rev(400), b"back")
    backend.put(KEY, rev(8000), b"last")

    live = [400, *range(2500, 3000), 8000]
    for limit in (1, 2, 10, 501, 502, 503, 0):
        found = [key for key, _ in backend.scan(KEY, b"", None, limit)]
        assert found == [rev(number) for number in live][: limit or None]
    assert backend.scan(KEY, rev(401), rev(2500), 3) == []
    job.complete()


def test_a_commit_takes_the_pending_dict_and_lends_another(backend: Backend) -> None:
    lent: list[dict[bytes, bytes | None]] = []
    backend.lend_pending(KEY, lent.append)
    pending = lent[-1]
    pending[rev(5)] = b"five"
    assert backend.pending_ops == 3  # and two new buckets
    assert backend.scan(KEY, b"", None) == [(rev(5), b"five")]

    backend.commit()
    assert backend.pending_ops == 0
    pending = lent[-1]
    assert len(lent) == 2
    assert backend.pending_of(KEY) is pending
    pending[rev(7)] = b"seven"
    pending[rev(6)] = b"six"
    assert backend.scan(KEY, b"", None) == [(rev(5), b"five"), (rev(6), b"six"), (rev(7), b"seven")]
    pending[rev(4)] = b"four"
    assert backend.scan(KEY, b"", None, 2) == [(rev(4), b"four"), (rev(5), b"five")]


def test_a_missing_bucket_is_an_error(backend: Backend) -> None:
    for ask in (
        lambda: backend.get(b"none", b"k"),
        lambda: backend.put(b"none", b"k", b"v"),
        lambda: backend.delete(b"none", b"k"),
        lambda: backend.scan(b"none", b"", None),
        lambda: backend.pending_of(b"none"),
        lambda: backend.lend_pending(b"none", lambda _: None),
    ):
        with pytest.raises(BucketNotFoundError, match="there is no bucket 'none'"):
            ask()
    assert not backend.has_bucket(b"none")


def test_a_bucket_goes_with_its_keys(backend: Backend) -> None:
    backend.put(schema.META, b"k", b"v")
    backend.delete_bucket(schema.META)
    backend.delete_bucket(b"none")
    assert not backend.has_bucket(schema.META)

    backend.create_bucket(schema.META)
    assert backend.get(schema.META, b"k") is None
    backend.commit()
    assert backend.scan(schema.META, b"", None) == []
    assert check(backend.database.view, backend.database.freelist, strict=True) == []


# ---- commits


def test_hooks_run_at_the_start_of_a_commit_and_their_puts_are_in_it(backend: Backend) -> None:
    calls: list[int] = []

    def hook() -> None:
        calls.append(backend.pending_ops)
        backend.put(schema.META, schema.CONSISTENT_INDEX, schema.encode_u64(len(calls)))

    backend.commit()
    backend.before_commit.append(hook)
    assert backend.commit_job() is None
    assert calls == []
    backend.put(KEY, rev(2), b"")
    backend.commit()

    assert calls == [1]
    assert backend.database.view.get(schema.META, schema.CONSISTENT_INDEX) == schema.encode_u64(1)


def test_what_hooks_add_is_committed_alone_when_they_are_asked_for(backend: Backend) -> None:
    """A raft snapshot names an index that the db must have reached, also if the last entries changed no key."""
    backend.commit()
    backend.before_commit.append(lambda: backend.put(schema.META, schema.CONSISTENT_INDEX, schema.encode_u64(7)))

    job = backend.commit_job(with_hooks=True)

    assert job is not None
    job.complete()
    assert backend.database.view.get(schema.META, schema.CONSISTENT_INDEX) == schema.encode_u64(7)


def test_a_large_batch_is_built_in_many_steps(backend: Backend) -> None:
    """What one step does is bounded: by changes where they scatter, by bytes where values are large."""
    pending = backend.pending_of(KEY)
    for number in range(10_000):
        pending[rev(number)] = bytes(50)
    appending = backend.commit_job()
    assert appending is not None
    steps = 1
    while not appending.step():
        steps += 1
    appending.complete()
    for number in range(0, 10_000, 5):
        backend.delete(KEY, rev(number))
    scattered = backend.commit_job()
    assert scattered is not None
    more_steps = 1
    while not scattered.step():
        more_steps += 1
    scattered.complete()
    for number in range(20_000, 20_010):
        backend.put(KEY, rev(number), bytes(1_000_000))
    large = backend.commit_job()
    assert large is not None
    large_steps = 1
    while not large.step():
        large_steps += 1
    large.complete()

    assert steps >= 10
    assert more_steps >= 2000 // 100
    assert large_steps >= 5
    assert check(backend.database.view, backend.database.freelist, strict=True) == []


class ComparedKey(bytes):
    """Counts how often any of them is compared."""

    compared = 0

    def __lt__(self, other: object) -> bool:
        ComparedKey.compared += 1
        return bytes.__lt__(self, other)  # type: ignore[operator]

    __hash__ = bytes.__hash__


def test_very_many_changes_are_put_in_order_in_pieces(backend: Backend) -> None:
    """One transaction may bring a million, and nobody else is served while a step lasts."""
    pending = backend.pending_of(KEY)
    count = 60_000
    for number in range(count):
        pending[ComparedKey(rev(2 + number * 7919 % count))] = b"v"
    job = backend.commit_job()
    assert job is not None
    most = 0
    done = False
    while not done:
        ComparedKey.compared = 0
        done = job.step()
        most = max(most, ComparedKey.compared)
    job.complete()

    assert count < most < 16 * 20_000  # all at once: some 900,000
    assert [key for key, _ in backend.scan(KEY, b"", None)] == [rev(number) for number in range(2, count + 2)]
    assert check(backend.database.view, backend.database.freelist, strict=True) == []


def test_the_memory_of_a_large_commit_is_given_back_in_pieces(backend: Backend) -> None:
    backend.put(KEY, rev(1), b"v")
    job = backend.commit_job()
    assert job is not None
    job.complete()
    assert not job.is_large

    for number in range(60_000):
        backend.put(KEY, rev(2 + number), b"v")
    job = backend.commit_job()
    assert job is not None
    job.complete()
    backend.put(KEY, rev(70_000), b"later")

    assert job.is_large
    pieces = [job.shed(1000)]
    while pieces[-1]:
        pieces.append(job.shed(1000))
    assert max(pieces) == 1000
    assert sum(pieces) > 60_000
    assert not job.is_large
    assert len(backend.scan(KEY, b"", None)) == 60_002


def test_a_commit_finishes_the_job_under_way(backend: Backend) -> None:
    backend.put(KEY, rev(2), b"two")
    job = backend.commit_job()
    assert job is not None
    assert backend.committing
    backend.put(KEY, rev(3), b"three")

    backend.commit()

    assert not backend.committing
    assert backend.database.view.get(KEY, rev(3)) == b"three"
    assert job.step()
    job.flush()
    job.finish()
    assert backend.commit_count == 2
    assert backend.pending_ops == 0


def test_flush_in_a_thread_beside_puts_and_reads_while_the_file_grows(tmp_path: Path) -> None:
    backend = open_backend(tmp_path)
    model: dict[bytes, bytes] = {}
    number = 0
    for batch in range(12):
        for _ in range(800):
            number += 1
            model[rev(number)] = backend.pending_of(KEY)[rev(number)] = bytes([number % 256]) * 2000
        job = backend.commit_job()
        assert job is not None
        while not job.step():
            pass
        writing = threading.Thread(target=job.flush)
        writing.start()
        for probe in range(1, number, 50 + batch):
            assert backend.get(KEY, rev(probe)) == model[rev(probe)]
        number += 1
        model[rev(number)] = b"meanwhile"
        backend.put(KEY, rev(number), b"meanwhile")
        writing.join()
        job.finish()

    assert dict(backend.scan(KEY, b"", None)) == model
    assert backend.size > 16 << 20
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.close()


def test_everything_is_there_after_close_and_open(tmp_path: Path) -> None:
    backend = open_backend(tmp_path, sync=True)
    backend.put(KEY, rev(2), b"two")
    backend.close()

    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert again.get(KEY, rev(2)) == b"two"
    assert again.has_bucket(schema.META)
    again.close()


def test_the_barriers_stand_where_they_must(tmp_path: Path) -> None:
    disk = FaultyDisk()
    backend = open_backend(tmp_path, disk, sync=True)
    backend.commit()
    backend.put(KEY, rev(2), bytes(20_000))
    disk.calls.clear()

    backend.commit()

    assert disk.calls[:2] == ["ftruncate", "fsync"]
    assert set(disk.calls[2:-3]) == {"pwritev"}
    assert disk.calls[-3:] == ["fdatasync", "pwritev", "fdatasync"]
    backend.close()


def test_sizes_are_etcds(backend: Backend) -> None:
    backend.commit()
    for number in range(2000):
        backend.put(KEY, rev(number), bytes(1000))
    backend.commit()
    size = backend.size
    assert 2_600_000 < size < 3_000_000  # three to a page
    assert size % 4096 == 0

    for number in range(2000):
        backend.delete(KEY, rev(number))
    backend.commit()
    backend.put(KEY, rev(1), b"")
    backend.commit()

    assert backend.size >= size
    assert backend.size_in_use < size // 10


# ---- the file as a whole


def test_a_snapshot_keeps_its_content_through_later_commits(tmp_path: Path) -> None:
    history = History(RealDisk(), str(tmp_path / "db"), 11)
    history.write()
    snapshot = history.backend.snapshot()
    model = {name: dict(items) for name, items in history.model.items()}
    assert history.backend.open_readers == 1
    for _ in range(6):
        history.write()
        history.backend.commit()
        history.compare()
    defragment(history.backend)
    history.write()
    history.backend.commit()
    history.backend.close()

    data = snapshot_bytes(snapshot, 7777)
    snapshot.close()
    assert len(data) == snapshot.size
    (tmp_path / "sent").write_bytes(data)
    sent = Database.open(RealDisk(), str(tmp_path / "sent"))
    assert hash_contents(sent.view).value == content_hash(model)
    assert check(sent.view, sent.freelist, strict=True) == []
    sent.close()


def test_a_snapshot_has_two_fresh_metas(backend: Backend) -> None:
    """Source: bbolt Tx.WriteTo: both of the same state, the second a transaction older."""
    backend.put(KEY, rev(2), b"")
    snapshot = backend.snapshot()

    metas = snapshot.read(0, 8192)
    assert int.from_bytes(metas[64:72], "little") == snapshot.txid
    assert int.from_bytes(metas[4096 + 64 : 4096 + 72], "little") == snapshot.txid - 1
    assert metas[4096] == 1
    assert snapshot.read(snapshot.size, 10) == b""
    assert len(snapshot.read(snapshot.size - 5, 10)) == 5
    snapshot.close()
    snapshot.close()
    assert backend.open_readers == 0


def test_a_long_snapshot_does_not_make_the_file_grow_without_end(backend: Backend) -> None:
    for number in range(3000):
        backend.put(KEY, rev(number), bytes(300))
    snapshot = backend.snapshot()
    for number in range(3000, 3300):
        backend.put(KEY, rev(number), bytes(300))
        backend.commit()

    assert backend.size < 2 * snapshot.size
    snapshot.close()


def test_defrag_gives_free_pages_back_and_keeps_all_else(tmp_path: Path) -> None:
    history = History(RealDisk(), str(tmp_path / "db"), 5)
    for _ in range(8):
        history.write()
        history.backend.commit()
    for key in sorted(history.model[KEY])[::2]:
        history.delete(KEY, key)
    backend = history.backend
    before = backend.hash()

    defragment(backend)

    assert backend.size_in_use == backend.size == (tmp_path / "db").stat().st_size
    assert backend.hash() == before
    history.compare()
    history.write()
    history.backend.commit()
    history.compare()
    backend.close()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_defrag_of_next_to_nothing(backend: Backend) -> None:
    defragment(backend)
    assert backend.scan(KEY, b"", None) == []
    backend.delete_bucket(KEY)
    backend.delete_bucket(schema.META)
    defragment(backend)
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.create_bucket(KEY)
    backend.put(KEY, rev(1), b"one")
    backend.commit()
    assert backend.get(KEY, rev(1)) == b"one"


def test_the_hash_leaves_out_what_differs_between_members(backend: Backend) -> None:
    backend.put(KEY, rev(2), b"two")
    schema.write_consistent_index(backend, 5, 2)
    before = backend.hash()

    schema.write_consistent_index(backend, 9, 3)
    assert backend.hash() == before
    backend.put(schema.META, b"confState", b"{}")
    assert backend.hash() != before


def test_a_hash_in_slices_is_of_the_moment_it_began(backend: Backend) -> None:
    for number in range(4000):
        backend.put(KEY, rev(number), bytes(1000))
    before = backend.hash()
    pages = backend.size_in_use // 4096

    job = backend.hash_job()
    steps = 1
    while not job.step():
        steps += 1
        backend.put(KEY, rev(steps), b"changed")
        backend.put(KEY, rev(4000 + steps), bytes(5000))
        backend.commit()
    assert steps >= pages // 500 > 1
    assert job.value == before != backend.hash()
    assert backend.open_readers == 1
    job.close()
    job.close()
    assert backend.open_readers == 0


def test_what_the_last_commit_left_is_pinned_without_another(backend: Backend) -> None:
    backend.put(KEY, rev(2), b"two")
    backend.commit()
    backend.put(KEY, rev(3), b"three")
    commits = backend.commit_count

    snapshot = backend.committed_snapshot()
    assert (backend.commit_count, backend.pending_ops) == (commits, 1)
    assert b"two" in snapshot.read(0, snapshot.size)
    assert b"three" not in snapshot.read(0, snapshot.size)
    snapshot.close()


def test_the_hash_of_everything_is_over_names_keys_and_values(tmp_path: Path) -> None:
    history = History(RealDisk(), str(tmp_path / "db"), 3)
    for _ in range(3):
        history.write()
    history.backend.commit()

    found = hash_contents(history.backend.database.view)
    assert found.value == content_hash(history.model)
    assert found.item_count == sum(len(history.model[name]) for name in BUCKETS)
    history.close()


# ---- what goes wrong


def test_a_second_owner_is_told_so(tmp_path: Path) -> None:
    backend = open_backend(tmp_path)
    backend.commit()
    with pytest.raises(DatabaseLockedError, match="another process is using it"):
        open_backend(tmp_path)

    # The lock outlasts growth and defrag, and ends with close.
    for number in range(3000):
        backend.put(KEY, rev(number), bytes(2000))
    backend.commit()
    defragment(backend)
    with pytest.raises(DatabaseLockedError):
        open_backend(tmp_path)
    backend.close()
    open_backend(tmp_path).close()


def test_leftovers_of_a_defrag_are_removed_at_open(tmp_path: Path) -> None:
    for name in ("db.tmp.0", "db.tmp.123456", "other.tmp.1", "db.tmpx"):
        (tmp_path / name).write_bytes(b"half")

    open_backend(tmp_path).close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.tmpx", "other.tmp.1"]


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    open_backend(tmp_path).close()
    assert Backend.open(RealDisk(), str(tmp_path / "db")).has_bucket(KEY)


@pytest.mark.parametrize(
    ("operation", "error", "countdown", "said"),
    [
        ("ftruncate", errno.EIO, 1, "ftruncate: input/output error"),
        ("fsync", errno.EIO, 1, "fsync: input/output error"),
        ("pwritev", errno.ENOSPC, 1, "write: no space left on device"),
        ("fdatasync", errno.EIO, 1, "fdatasync: input/output error"),
        ("pwritev", errno.EIO, -1, "write: input/output error"),
        ("fdatasync", errno.ENOSPC, 2, "fdatasync: no space left on device"),
    ],
)
def test_after_a_failed_write_nothing_is_written_any_more(
    tmp_path: Path, operation: str, error: int, countdown: int, said: str
) -> None:
    disk = FaultyDisk()
    backend = open_backend(tmp_path, disk, sync=True)
    backend.put(KEY, rev(2), b"two")
    backend.commit()
    backend.put(KEY, rev(3), bytes(20_000))
    backend.put(KEY, rev(4), b"four")
    if countdown < 0:  # the last write, that of the meta
        disk.calls.clear()
        probe = FaultyDisk()
        (tmp_path / "probe").mkdir()
        other = open_backend(tmp_path / "probe", probe, sync=True)
        other.put(KEY, rev(2), b"two")
        other.commit()
        probe.calls.clear()
        other.put(KEY, rev(3), bytes(20_000))
        other.put(KEY, rev(4), b"four")
        other.commit()
        other.close()
        countdown = probe.calls.count(operation)
    disk.fail(operation, error, countdown=countdown)

    with pytest.raises(StorageError, match=said) as caught:
        backend.commit()
    assert str(tmp_path / "db") in str(caught.value)
    disk.calls.clear()
    with pytest.raises(StorageError, match=said):
        backend.commit()
    with pytest.raises(StorageError, match=said):
        backend.commit_job()
    with pytest.raises(StorageError, match=said):
        backend.snapshot()
    with pytest.raises(StorageError, match=said):
        defragment(backend)
    assert backend.get(KEY, rev(4)) == b"four"
    assert backend.scan(KEY, b"", rev(3)) == [(rev(2), b"two")]
    backend.close()
    assert disk.calls == []

    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert check(again.database.view, again.database.freelist, strict=True) == []
    assert [key for key, _ in again.scan(KEY, b"", None)] in ([rev(2)], [rev(2), rev(3), rev(4)])
    again.close()


@pytest.mark.parametrize("short", [1, 100, 5000])
def test_short_writes_and_reads_are_carried_on(tmp_path: Path, short: int) -> None:
    disk = FaultyDisk()
    backend = open_backend(tmp_path, disk)
    disk.short = short
    items = [(rev(number), bytes(200)) for number in range(30)]
    for key, value in items:
        backend.put(KEY, key, value)
    snapshot = backend.snapshot()

    data = snapshot.read(0, snapshot.size)
    snapshot.close()
    assert data[8192:] == (tmp_path / "db").read_bytes()[8192 : snapshot.size]
    backend.close()
    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert again.scan(KEY, b"", None) == items
    again.close()


def test_a_disk_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    class Full(FaultyDisk):
        def pwrite(self, fd: int, data: bytes, offset: int) -> int:
            return 0

    disk = Full()
    backend = open_backend(tmp_path, disk)
    disk.short = 100
    backend.put(KEY, rev(2), b"two")

    with pytest.raises(StorageError, match="pwrite: wrote 100 of"):
        backend.commit()
    backend.close()


@pytest.mark.parametrize("operation", ["pwritev", "fsync", "rename"])
def test_a_failed_defrag_leaves_the_old_file_in_use(tmp_path: Path, operation: str) -> None:
    disk = FaultyDisk()
    backend = open_backend(tmp_path, disk, sync=True)
    backend.put(KEY, rev(2), b"two")
    backend.commit()
    disk.fail(operation, errno.ENOSPC)

    with pytest.raises(StorageError, match="no space left on device") as caught:
        defragment(backend)

    assert "db.tmp.0" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    backend.put(KEY, rev(3), b"three")
    backend.commit()
    assert len(backend.scan(KEY, b"", None)) == 2
    backend.close()


def test_a_defrag_whose_rename_may_be_lost_ends_the_commits(tmp_path: Path) -> None:
    disk = FaultyDisk()
    backend = open_backend(tmp_path, disk, sync=True)
    backend.put(KEY, rev(2), b"two")
    backend.commit()
    disk.fail("sync_dir", errno.EIO)

    with pytest.raises(StorageError, match="fsync of its folder: input/output error"):
        defragment(backend)
    backend.put(KEY, rev(3), b"three")
    with pytest.raises(StorageError, match="fsync of its folder"):
        backend.commit()
    backend.close()

    again = Backend.open(RealDisk(), str(tmp_path / "db"))
    assert again.scan(KEY, b"", None) == [(rev(2), b"two")]
    again.close()


def test_a_page_found_broken_while_building_ends_the_commits(tmp_path: Path) -> None:
    backend = open_backend(tmp_path)
    for number in range(1000):
        backend.put(KEY, rev(number), bytes(200))
    backend.commit()
    view = backend.database.view
    page_id = leaf_ids(view, KEY)[3]
    with open(tmp_path / "db", "r+b") as file:
        file.seek(page_id * 4096)
        file.write(b"\xff")
    for number in range(1000):
        backend.delete(KEY, rev(number))

    with pytest.raises(CorruptDatabaseError, match=f"page {page_id} is broken"):
        backend.commit()
    with pytest.raises(CorruptDatabaseError):
        backend.commit()
    backend.close()
