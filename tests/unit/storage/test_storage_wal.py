"""The write-ahead log: created, written, cut, read, repaired, purged, and refusing what is broken."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.storage import StorageError
from balsad.storage.wal import (
    HELPER,
    INLINE,
    NO_SYNC,
    SEGMENT_BYTES,
    Wal,
    WalCrcError,
    WalError,
    WalGapError,
    WalLockedError,
    WalMetadataConflictError,
    WalNotFoundError,
    WalOptions,
    WalSnapshot,
    WalSnapshotMismatchError,
    WalSnapshotNotFoundError,
    WalTornError,
    purge_files,
    read_log,
    repair,
    valid_snapshot_entries,
    wal_exists,
)
from balsad.storage.wal import segments as wal_segments
from balsad.storage.wal import writer as wal_writer
from balsad.storage.wal.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, encode_record
from balsad.storage.wal.replay import Decoder
from balsad.storage.wal.segments import Segment, parse_segment_name, segment_name

DISK: Disk = RealDisk()
WHOSE = b"\x08\x01\x10\x02"
SMALL = WalOptions(sync=INLINE, segment_bytes=4096)
VOTERS = ConfState(voters=(1,))


def entry(index: int, term: int = 1, data: bytes | None = None) -> Entry:
    return Entry(0, term, index, b"entry %d" % index if data is None else data)


def entries(first: int, last: int, term: int = 1, size: int = 100) -> list[Entry]:
    return [entry(index, term, bytes([index % 255 + 1]) * size) for index in range(first, last + 1)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "wal")


def reopen(path: str, start: WalSnapshot | None = None) -> tuple[Wal, HardState, list[Entry]]:
    wal, replay = Wal.open_and_read(DISK, path, start or WalSnapshot(), SMALL)
    return wal, replay.hard_state, replay.entries


def many_segments(path: str) -> Wal:
    """A log of seven or so segments, 100 entries, with snapshots at 30 and 60."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    for index in range(1, 101):
        wal.save(HardState(1, 1, index - 1), entries(index, index, size=200))
        if index in (30, 60):
            wal.save_snapshot(WalSnapshot(index, 1, VOTERS))
    return wal


# Creating


def test_a_new_log_has_etcds_files_and_modes(path: str) -> None:
    old = os.umask(0o022)
    try:
        wal = Wal.create(DISK, path, WHOSE)
    finally:
        os.umask(old)

    first = os.path.join(path, "0000000000000000-0000000000000000.wal")
    assert sorted(os.listdir(path)) == ["0.tmp", os.path.basename(first)]
    assert os.stat(first).st_size == SEGMENT_BYTES == 64_000_000
    assert os.stat(first).st_mode & 0o777 == 0o600
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert not os.path.exists(f"{path}.tmp")
    wal.close()
    assert os.listdir(path) == [os.path.basename(first)]


def test_no_log_is_made_over_another(path: str) -> None:
    Wal.create(DISK, path, WHOSE, SMALL).close()

    with pytest.raises(StorageError, match="file already exists"):
        Wal.create(DISK, path, WHOSE, SMALL)


def test_what_an_interrupted_creation_left_is_replaced(path: str) -> None:
    os.makedirs(f"{path}.tmp")
    Path(f"{path}.tmp", segment_name(0, 0)).write_bytes(b"half")
    os.makedirs(path)
    Path(path, "0.tmp").write_bytes(b"half")

    Wal.create(DISK, path, WHOSE, SMALL).close()

    assert read_log(DISK, path, WalSnapshot()).metadata == WHOSE
    assert not os.path.exists(f"{path}.tmp")


def test_a_folder_with_other_things_in_it_is_not_replaced(path: str) -> None:
    os.makedirs(path)
    Path(path, "letters.txt").write_text("mine")

    with pytest.raises(StorageError):
        Wal.create(DISK, path, WHOSE, SMALL)
    assert Path(path, "letters.txt").read_text() == "mine"


# Writing and reading


def test_what_was_saved_reads_back(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save(HardState(1, 7, 0), [entry(1), entry(2, data=b"")])
    wal.save(HardState(1, 7, 2), [], must_sync=False)
    wal.save(None, [entry(3)])
    wal.close()

    wal, hard_state, found = reopen(path)

    assert hard_state == HardState(1, 7, 2)
    assert found == [entry(1), entry(2, data=b""), entry(3)]
    assert wal.metadata == WHOSE
    wal.save(HardState(2, 1, 3), [entry(4, 2)])
    wal.close()
    assert read_log(DISK, path, WalSnapshot()).entries[-1] == entry(4, 2)


def test_a_log_of_nothing(path: str) -> None:
    Wal.create(DISK, path, WHOSE, SMALL).close()

    wal, hard_state, found = reopen(path)

    assert (hard_state, found) == (HardState(), [])
    wal.close()


def test_a_later_entry_overwrites_and_ends_what_followed(path: str) -> None:
    """Raft paper figure 7: another leader's entries replace those never committed."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), entries(1, 5))
    wal.save(HardState(2, 2, 0), [entry(3, 2)])
    wal.close()

    wal, _hard_state, found = reopen(path)

    assert [(each.index, each.term) for each in found] == [(1, 1), (2, 1), (3, 2)]
    wal.close()


def test_segments_are_cut_and_chained(path: str) -> None:
    wal = many_segments(path)
    paths = wal.segment_paths
    wal.close()

    sizes = [os.stat(each).st_size for each in paths]
    heads = [parse_segment_name(os.path.basename(each)) for each in paths]
    assert len(paths) > 4
    assert [head[0] for head in heads if head] == list(range(len(paths)))
    assert all(4096 <= size < 4096 + 600 for size in sizes[:-1])  # cut back to what is used
    wal, hard_state, found = reopen(path)
    assert [each.index for each in found] == list(range(1, 101))
    assert hard_state == HardState(1, 1, 99)
    # Each segment is named after the first entry in it.
    for head in heads[1:]:
        assert head is not None
        assert found[head[1] - 1].index == head[1]
    wal.close()


def test_a_segment_begins_with_checksum_metadata_and_state(path: str) -> None:
    """So it can be read once those before it are gone."""
    wal = many_segments(path)
    first, second = wal.segment_paths[:2]
    wal.close()
    decoder = Decoder(DISK, [Segment(first, 0, 0)])
    kinds = []
    while kind := decoder.next():
        kinds.append(kind)
    carried = decoder.crc
    decoder.close()

    decoder = Decoder(DISK, [Segment(second, 1, 0)])

    assert kinds[:3] == [CRC, METADATA, SNAPSHOT]
    assert (decoder.next(), decoder.crc) == (CRC, carried)
    assert (decoder.next(), decoder.data) == (METADATA, WHOSE)
    assert decoder.next() == STATE
    index = decoder.hard_state().commit + 1
    assert decoder.next() == ENTRY
    assert decoder.entry().index == index + 1
    decoder.close()


def test_reading_begins_at_a_snapshot(path: str) -> None:
    many_segments(path).close()

    wal, _hard_state, found = reopen(path, WalSnapshot(60, 1))

    assert [each.index for each in found] == list(range(61, 101))
    assert (parse_segment_name(os.path.basename(wal.segment_paths[0])) or (0, 0))[1] <= 61
    wal.close()


def test_the_tail_is_allocated_again_and_clean(path: str) -> None:
    """Zeros end the log, whatever a crash left behind them."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), entries(1, 3))
    end = wal._offset
    wal.close()
    segment = wal.segment_paths[0]
    with open(segment, "r+b") as file:
        file.seek(end + 16)
        file.write(b"left over" * 20)

    wal, _hard_state, found = reopen(path)

    assert len(found) == 3
    with open(segment, "rb") as file:
        assert not any(file.read()[end:])
    assert os.stat(segment).st_size == 4096
    wal.close()


def test_snapshots_of_the_log(path: str) -> None:
    """Only what the last HardState covers counts."""
    wal = many_segments(path)
    wal.save_snapshot(WalSnapshot(100, 1, VOTERS))
    wal.close()

    found = valid_snapshot_entries(DISK, path)

    assert [(each.index, each.term) for each in found] == [(0, 0), (30, 1), (60, 1)]
    assert found[1].conf_state == VOTERS


def test_a_snapshot_without_its_members_is_refused(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)

    with pytest.raises(ValueError, match="missing ConfState"):
        wal.save_snapshot(WalSnapshot(5, 1))
    wal.close()


def test_the_index_goes_on_after_a_snapshot_from_the_leader(path: str) -> None:
    """A follower that got a snapshot has no entries before it; the next segment is named right."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save_snapshot(WalSnapshot(500, 3, VOTERS))
    wal.save(HardState(3, 1, 500), [])
    wal.save(None, [entry(501, 3, bytes(4096))])
    wal.save(None, [entry(502, 3)])
    assert os.path.basename(wal.segment_paths[1]) == segment_name(1, 502)
    wal.close()

    wal, hard_state, found = reopen(path, WalSnapshot(500, 3))

    assert ([each.index for each in found], hard_state.commit) == ([501, 502], 500)
    wal.close()


# Syncing


class CountingDisk(RealDisk):
    """Counts, and fails where told."""

    def __init__(self) -> None:
        self.syncs = 0
        self.fail_sync: OSError | None = None
        self.fail_write: OSError | None = None
        self.short_writes = False

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.syncs += 1
        if self.fail_sync is not None:
            raise self.fail_sync
        os.fdatasync(fd)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:  # type: ignore[override]
        if self.fail_write is not None:
            os.pwrite(fd, data[: len(data) // 2], offset)
            raise self.fail_write
        if self.short_writes and len(data) > 7:
            return os.pwrite(fd, data[:7], offset)
        return os.pwrite(fd, data, offset)


@pytest.mark.parametrize(
    ("hard_state", "batch", "syncs"),
    [
        (HardState(1, 1, 1), [], 0),  # a new commit index may be lost
        (HardState(2, 1, 0), [], 1),
        (HardState(1, 2, 0), [], 1),
        (None, [entry(2)], 1),
        (HardState(1, 1, 1), [entry(2)], 1),
        (None, [], 0),
        (HardState(), [], 0),
    ],
)
def test_what_must_be_synced(path: str, hard_state: HardState | None, batch: list[Entry], syncs: int) -> None:
    """Source: etcd raft MustSync."""
    disk = CountingDisk()
    wal = Wal.create(disk, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), [entry(1)])
    disk.syncs = 0

    wal.save(hard_state, batch, must_sync=False)

    assert disk.syncs == syncs
    wal.close()


class NotingDisk(RealDisk):
    """Says what was done to files, in which order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int, int]] = []

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:  # type: ignore[override]
        self.done.append(("write", offset, len(data)))
        return os.pwrite(fd, data, offset)

    def begin_write(self, fd: int, offset: int, count: int) -> None:  # type: ignore[override]
        self.done.append(("begin", offset, count))
        super().begin_write(fd, offset, count)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.done.append(("sync", 0, 0))
        os.fdatasync(fd)


def test_work_is_done_between_the_write_and_the_sync(path: str) -> None:
    disk = NotingDisk()
    wal = Wal.create(disk, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), [entry(1)])
    before = wal._offset
    disk.done.clear()

    wal.save(None, [entry(2)], True, lambda: disk.done.append(("done", 0, 0)), lambda: disk.done.append(("work", 0, 0)))

    size = wal._offset - before
    assert disk.done == [
        ("write", before, size),
        ("begin", before, size),
        ("work", 0, 0),
        ("sync", 0, 0),
        ("done", 0, 0),
    ]
    wal.close()


@pytest.mark.parametrize("sync", [HELPER, NO_SYNC])
def test_no_work_is_done_ahead_of_a_sync_that_others_do(path: str, sync: str) -> None:
    """The event loop goes on while a helper waits for the disk: nobody may find what is not there yet."""
    wal = Wal.create(DISK, path, WHOSE, WalOptions(sync=sync))
    worked: list[str] = []
    wal.save(HardState(1, 1, 0), [entry(1)], True, lambda: None, lambda: worked.append("ahead"))
    assert worked == []
    wal.abandon()


def test_a_change_of_segment_is_not_waited_for_with_work(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, WalOptions(sync=INLINE, segment_bytes=1000))
    worked: list[str] = []
    wal.save(HardState(1, 1, 0), [entry(1, 1, bytes(2000))], True, lambda: None, lambda: worked.append("ahead"))
    assert len(wal.segment_paths) == 2
    assert worked == []
    wal.close()


def test_hooks_hear_of_syncs_and_bytes(path: str) -> None:
    seconds: list[float] = []
    counts: list[int] = []
    ticks = iter(range(100))
    options = WalOptions(sync=INLINE, on_sync=seconds.append, on_write=counts.append, clock=lambda: float(next(ticks)))
    wal = Wal.create(DISK, path, WHOSE, options)
    counts.clear()
    before = wal._offset

    wal.save(HardState(1, 1, 0), [entry(1)])

    assert seconds == [1.0]
    assert counts == [wal._offset - before]
    wal.close()


class SizesDisk(RealDisk):
    """Notes how much is written where."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:  # type: ignore[override]
        self.written.append((offset, len(data)))
        return os.pwrite(fd, data, offset)


def test_zeros_go_ahead_of_the_log_once_in_a_while(path: str) -> None:
    """They say that the log ends, and stay within the space allocated."""
    disk = SizesDisk()
    segment_bytes = wal_writer._ZEROS_BYTES + 8192
    wal = Wal.create(disk, path, WHOSE, WalOptions(sync=INLINE, segment_bytes=segment_bytes))
    begin = wal._offset
    disk.written.clear()
    wal.save(HardState(1, 1, 0), [entry(1)])
    second = wal._offset
    wal.save(None, [entry(2)])
    third = wal._offset
    assert disk.written == [(begin, wal_writer._ZEROS_BYTES - begin), (second, third - second)]

    wal.save(None, [entry(3, data=bytes(wal_writer._ZEROS_BATCH_MAX))])  # written as it is
    for index in range(4, 12):
        wal.save(None, [entry(index, data=bytes(25_000))])
    assert wal._offset < segment_bytes
    assert max(offset + size for offset, size in disk.written) == segment_bytes
    assert os.path.getsize(wal.segment_paths[0]) == segment_bytes
    wal.close()

    assert [found.index for found in read_log(DISK, path, WalSnapshot()).entries] == list(range(1, 12))
    wal, _hard_state, found = reopen(path)
    assert len(found) == 11
    wal.close()


def test_without_sync_nothing_waits(path: str) -> None:
    """--unsafe-no-fsync"""
    disk = CountingDisk()
    wal = Wal.create(disk, path, WHOSE, WalOptions(sync=NO_SYNC, segment_bytes=4096))
    for index in range(1, 60):
        wal.save(HardState(1, 1, index), entries(index, index))
    wal.close()

    assert disk.syncs == 0
    assert len(read_log(DISK, path, WalSnapshot()).entries) == 59


def test_short_writes_are_continued(path: str) -> None:
    disk = CountingDisk()
    disk.short_writes = True
    wal = Wal.create(disk, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), entries(1, 5))
    wal.close()

    assert read_log(DISK, path, WalSnapshot()).entries == entries(1, 5)


@pytest.mark.parametrize("where", ["fail_sync", "fail_write"])
def test_after_a_failure_the_log_takes_nothing_more(path: str, where: str) -> None:
    """Nobody knows what is on disk after a failed sync; the next one would lie."""
    disk = CountingDisk()
    wal = Wal.create(disk, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), [entry(1)])
    setattr(disk, where, OSError(errno.EIO, os.strerror(errno.EIO)))

    with pytest.raises(StorageError, match=r"0000000000000000-0000000000000000\.wal.*input/output error"):
        wal.save(None, [entry(2, data=bytes(1000))])
    setattr(disk, where, None)
    with pytest.raises(StorageError, match="input/output error"):
        wal.save(None, [entry(3)])
    with pytest.raises(StorageError, match="input/output error"):
        wal.save_snapshot(WalSnapshot(1, 1, VOTERS))
    wal.close()
    wal, _hard_state, found = reopen(path)
    assert found[0] == entry(1)
    assert len(found) <= 2
    wal.close()


def test_a_full_disk_leaves_no_half_batch(path: str) -> None:
    disk = CountingDisk()
    wal = Wal.create(disk, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 0), [entry(1)])
    disk.fail_write = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="no space left on device"):
        wal.save(None, entries(2, 9))
    wal.close()

    assert read_log(DISK, path, WalSnapshot()).entries == [entry(1)]


# Locks, purging


def test_a_log_has_one_writer(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_segments, "_LOCK_TRIES", 1)
    wal = Wal.create(DISK, path, WHOSE, SMALL)

    with pytest.raises(WalLockedError, match=r"0000000000000000-0000000000000000\.wal: fileutil: file already locked"):
        Wal.open(DISK, path, WalSnapshot(), SMALL)
    with pytest.raises(WalLockedError):
        repair(DISK, path)
    assert read_log(DISK, path, WalSnapshot()).metadata == WHOSE  # readers need no lock
    wal.close()
    Wal.open(DISK, path, WalSnapshot(), SMALL).close()


def test_release_lock_and_purge(path: str) -> None:
    wal = many_segments(path)
    held = wal.segment_paths
    assert purge_files(DISK, path, ".wal", 2) == []  # all in use

    wal.release_lock_to(60)

    kept = wal.segment_paths
    first = [parse_segment_name(os.path.basename(each)) or (0, 0) for each in kept]
    assert first[0][1] < 60 <= first[1][1]  # the newest that begins before 60 may hold it
    assert purge_files(DISK, path, ".wal", 2) == held[: len(held) - len(kept)]
    assert wal.segment_paths == kept
    wal.close()
    wal, _hard_state, found = reopen(path, WalSnapshot(60, 1))
    assert found[-1].index == 100
    wal.close()
    with pytest.raises(WalNotFoundError, match="nothing reaches back to index 30"):
        Wal.open(DISK, path, WalSnapshot(30, 1), SMALL)


@pytest.mark.parametrize(("index", "dropped"), [(0, 0), (1, 0), (10**6, -1)])
def test_release_lock_at_the_edges(path: str, index: int, dropped: int) -> None:
    wal = many_segments(path)
    held = wal.segment_paths

    wal.release_lock_to(index)

    assert wal.segment_paths == (held[-1:] if dropped == -1 else held[dropped:])
    wal.close()


def test_purging_keeps_the_newest(path: str) -> None:
    wal = many_segments(path)
    held = wal.segment_paths
    wal.close()

    assert purge_files(DISK, path, ".wal", 2) == held[:-2]
    assert purge_files(DISK, path, ".wal", 2) == []


# Broken logs


def broken(path: str, change: Callable[[bytearray], None], segment: int = -1) -> str:
    """A log of four segments, one of them changed."""
    wal = many_segments(path)
    file = wal.segment_paths[segment]
    wal.close()
    data = bytearray(Path(file).read_bytes())
    change(data)
    Path(file).write_bytes(data)
    return file


def end_of_log(data: bytearray) -> int:
    return len(bytes(data).rstrip(b"\0")) + 7 & ~7


def test_no_log_at_all(path: str) -> None:
    with pytest.raises(WalNotFoundError, match="no such file or directory"):
        Wal.open(DISK, path, WalSnapshot(), SMALL)
    os.makedirs(path)
    with pytest.raises(WalNotFoundError, match="wal: file not found"):
        Wal.open(DISK, path, WalSnapshot(), SMALL)
    assert not wal_exists(DISK, path)


def test_a_missing_segment(path: str) -> None:
    wal = many_segments(path)
    os.unlink(wal.segment_paths[2])
    wal.close()

    with pytest.raises(WalNotFoundError, match="the segment after 0000000000000001 is missing"):
        Wal.open(DISK, path, WalSnapshot(), SMALL)


def test_a_flipped_bit_is_found_and_placed(path: str) -> None:
    def flip(data: bytearray) -> None:
        data[1000] ^= 1

    file = broken(path, flip, 1)

    with pytest.raises(WalCrcError, match=r"offset \d+: wal: crc mismatch: expected [0-9a-f]{8}, found") as caught:
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)
    assert caught.value.path == file
    assert caught.value.offset is not None
    assert 700 < caught.value.offset <= 1000
    with pytest.raises(WalCrcError):
        valid_snapshot_entries(DISK, path)


def test_a_segment_of_another_log(path: str, tmp_path: Path) -> None:
    """Its checksums carry on from elsewhere."""
    wal = many_segments(path)
    third = wal.segment_paths[2]
    wal.close()
    other = Wal.create(DISK, str(tmp_path / "other"), WHOSE, SMALL)
    for index in range(1, 101):
        other.save(HardState(1, 1, index - 1), entries(index, index, size=201))
    shutil.copy(other.segment_paths[2], third)
    other.close()

    with pytest.raises(WalCrcError, match="the segment should carry on"):
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)


def appended(path: str, kind: int, data: bytes) -> None:
    """A log that ends with a record its writer would not write."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save(HardState(1, 1, 2), entries(1, 2))
    record, _crc = encode_record(kind, data, wal._crc)
    wal._write(record)
    wal.close()


def test_two_members_metadata(path: str) -> None:
    appended(path, METADATA, b"\x08\x09\x10\x02")

    with pytest.raises(WalMetadataConflictError, match="conflicting metadata found"):
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)


def test_a_gap_between_entries(path: str) -> None:
    appended(path, ENTRY, b"\x08\x00\x10\x01\x18\x09")

    with pytest.raises(WalGapError, match="expected index 3 or less, found 9"):
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)


def test_a_type_of_record_nobody_knows(path: str) -> None:
    appended(path, 9, b"?")

    with pytest.raises(WalError, match="unexpected block type 9"):
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)


def test_an_entry_that_is_none(path: str) -> None:
    appended(path, ENTRY, b"\x08")

    with pytest.raises(WalError, match="wal: no entry"):
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)


def test_a_snapshot_the_log_does_not_know(path: str) -> None:
    many_segments(path).close()

    with pytest.raises(WalSnapshotNotFoundError):
        Wal.open_and_read(DISK, path, WalSnapshot(31, 1), SMALL)
    with pytest.raises(WalSnapshotMismatchError, match="expected index 30 in term 2, found term 1"):
        Wal.open_and_read(DISK, path, WalSnapshot(30, 2), SMALL)


# Torn ends


@pytest.mark.parametrize(("lost", "left"), [(8, 100), (100, 99), (300, 98), (599, 97)])
def test_a_cut_off_end_is_repaired(path: str, lost: int, left: int) -> None:
    """Source: etcd server/wal/repair_test.go."""

    def cut(data: bytearray) -> None:
        del data[end_of_log(data) - lost :]

    file = broken(path, cut)
    size = os.stat(file).st_size
    assert len(read_log(DISK, path, WalSnapshot()).entries) == left  # a reader stops before it

    wal = Wal.open(DISK, path, WalSnapshot(), SMALL)
    with pytest.raises(WalTornError, match="the file ends in a record"):
        wal.read_all()
    wal.close()
    assert repair(DISK, path) == file

    assert os.stat(f"{file}.broken").st_size == size
    assert os.stat(file).st_size < size
    wal, _hard_state, found = reopen(path)
    assert len(found) == left
    wal.save(None, entries(len(found) + 1, len(found) + 1))
    wal.close()
    assert len(read_log(DISK, path, WalSnapshot()).entries) == len(found) + 1
    assert repair(DISK, path) is None


def test_a_sector_that_was_never_written_is_repaired(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, WalOptions(sync=INLINE, segment_bytes=20000))
    wal.save(HardState(1, 1, 0), entries(1, 3))
    begin = wal._offset
    wal.save(None, [entry(4, data=b"x" * 3000)])
    wal.close()
    with open(wal.segment_paths[0], "r+b") as file:
        file.seek((begin + 1024) // 512 * 512)
        file.write(bytes(512))

    wal, _hard_state, found = reopen(path)

    assert found == entries(1, 3)
    assert os.path.exists(f"{wal.segment_paths[0]}.broken")
    wal.close()


def test_an_end_torn_in_an_older_segment_is_no_torn_end(path: str) -> None:
    """Nothing was written after a torn record, so later segments prove it is damage."""

    def cut(data: bytearray) -> None:
        del data[end_of_log(data) - 100 :]

    file = broken(path, cut, 1)

    with pytest.raises(WalError) as caught:
        Wal.open_and_read(DISK, path, WalSnapshot(), SMALL)
    assert caught.value.path == file
    assert not isinstance(caught.value, WalTornError)


def test_an_absurd_length_is_refused_without_reading_it(path: str) -> None:
    def lengthen(data: bytearray) -> None:
        data[end_of_log(data) : end_of_log(data) + 8] = b"\xf8\xff\xff\xff\xff\xff\xff\x00"

    broken(path, lengthen)

    wal = Wal.open(DISK, path, WalSnapshot(), SMALL)
    with pytest.raises(WalTornError, match="max entry size limit exceeded"):
        wal.read_all()
    wal.close()


@pytest.mark.parametrize("name", ["x.wal", "1.tmp", "0000000000000000-0000000000000000.wal.broken", "0-0.wa", "-.wal"])
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_segment_name(name) is None
