"""The write-ahead log: what it takes in is on disk before anybody hears of it.

    create ──────────────────────────────► writing ──► closed
    open ──► reading ── read_all ────────►    │
                                              └── a failed write or sync ──► failed: refuses everything

A batch is encoded into one buffer, written with one call and synced with one
fdatasync. When a segment has grown to its size, the next one, prepared
beforehand, takes over: old segment synced, head of the new one (checksum,
metadata, HardState) written and synced, then renamed to its name.

Source: etcd server/wal/wal.go, file_pipeline.go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from balsad.env import Disk
from balsad.raft.messages import Entry, HardState
from balsad.stand_in import mypyc_attr
from balsad.storage.errors import StorageError, os_error
from balsad.storage.wal.options import AUTO, HELPER, NO_SYNC, WalOptions
from balsad.storage.wal.record import (
    CRC,
    METADATA,
    SNAPSHOT,
    WalSnapshot,
    encode_batch,
    encode_record,
    encode_wal_snapshot,
    frame_record,
)
from balsad.storage.wal.repair import repair
from balsad.storage.wal.replay import Decoder, Replay, WalTornError, replay
from balsad.storage.wal.segments import (
    Segment,
    open_locked,
    open_patiently,
    segment_name,
    segments_from,
    wal_exists,
    write_all,
)
from balsad.storage.wal.sync_choice import INLINE_SECONDS_MAX, SyncChoice
from balsad.storage.wal.sync_way import SyncWay
from balsad.storage.wal.waiter import measure_sync

# Where a file has only been allocated, a write also changes what the file system notes of its extents, and the sync
# waits for its journal. So zeros go ahead of the log, to the next multiple of this: syncing a batch of 17 kB took
# 0.11 ms instead of 0.18, and one in 700 single puts pays for all. Large batches gain less than the zeros cost.
_ZEROS_BYTES: Final = 256 * 1024
_ZEROS_BATCH_MAX: Final = 64 * 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class Wal:
    """A log being written, or about to be read."""

    def __init__(self, disk: Disk, path: str, options: WalOptions | None = None) -> None:
        """For `create` and `open` only."""
        self._disk = disk
        self._options = WalOptions() if options is None else options
        self._segment_bytes = self._options.segment_bytes
        self._on_sync = self._options.on_sync
        self._on_write = self._options.on_write
        self._clock = self._options.clock
        self._no_sync = self._options.sync == NO_SYNC
        self._way = SyncWay(self._options.make_waiter, self._clock)
        self._segments: list[Segment] = []
        self._decoder: Decoder | None = None
        self._start = WalSnapshot()
        self._fd = -1  # the last segment's
        self._offset = 0  # where the next record goes
        self._zeroed = 0  # up to where the segment has been written, with records and then zeros
        self._crc = 0
        self._metadata = b""
        self._state = HardState()
        self._last_index = 0
        self._next: Segment | None = None  # the one prepared
        self._next_number = 0
        self._done: Callable[[], None] | None = None
        # Who wait for records: of those that the sync under way covers, and of those that came after it had begun.
        self._covered: list[Callable[[], None]] = []
        self._uncovered: list[Callable[[], None]] = []
        self._cutting: Segment | None = None  # the segment the waiter is moving to
        self._error: StorageError | None = None
        self._closed = False
        self.path = path
        # Hears of a write or sync that failed after `save` had returned.
        self.failed: Callable[[StorageError], None] | None = None

    def on_watch(self, watch: Callable[[int, bool], None]) -> None:
        """Have `watch` told of a `fileno` that is to be watched from now on (True), or no more (False)."""
        self._way.watch = watch

    # Beginning

    @classmethod
    def create(cls, disk: Disk, path: str, metadata: bytes, options: WalOptions | None = None) -> Wal:
        """A new log with nothing in it but its member's metadata.

        It is made aside and renamed, so a crash leaves all of it or nothing.
        Raises: StorageError, also when there is a log already.
        """
        if wal_exists(disk, path):
            raise StorageError(path, "file already exists")
        wal = cls(disk, path, options)
        aside = f"{path.rstrip('/')}.tmp"
        try:
            if disk.exists(aside):
                for name in disk.listdir(aside):
                    disk.unlink(os.path.join(aside, name))
            disk.makedirs(aside)
            wal._begin(aside, metadata)
            disk.sync_dir(aside)
            if disk.exists(path):
                # Left-overs of a log go; where there is anything else, the rename refuses.
                for name in disk.listdir(path):
                    if name.endswith((".tmp", ".broken")):
                        disk.unlink(os.path.join(path, name))
            disk.rename(aside, path)
            disk.sync_dir(os.path.dirname(path.rstrip("/")) or ".")
        except OSError as error:
            wal.abandon()
            raise os_error(path, "create", error) from error
        except StorageError:
            wal.abandon()
            raise
        wal._segments[0].path = os.path.join(path, segment_name(0, 0))
        wal._ready()
        return wal

    def _begin(self, folder: str, metadata: bytes) -> None:
        path = os.path.join(folder, segment_name(0, 0))
        segment = Segment(path, 0, 0)
        segment.fd = open_locked(self._disk, path, os.O_RDWR | os.O_CREAT)
        self._segments.append(segment)
        self._fd = segment.fd
        self._metadata = metadata
        self._disk.fallocate(segment.fd, 0, self._segment_bytes)
        head = frame_record(CRC, 0, b"")
        record, self._crc = encode_record(METADATA, metadata, 0)
        head += record
        record, self._crc = encode_record(SNAPSHOT, encode_wal_snapshot(WalSnapshot()), self._crc)
        self._write(head + record)
        if not self._no_sync:
            # Its name in the folder must be durable as well as its bytes.
            self._disk.fsync(segment.fd)

    def abandon(self) -> None:
        """Let go of all files without another write or sync."""
        if self._closed:
            return
        self._done = None
        self._closed = True
        self._way.close()
        for segment in self._segments:
            self._disk.close(segment.fd)
        if self._next is not None:
            self._disk.close(self._next.fd)

    @classmethod
    def open(cls, disk: Disk, path: str, start: WalSnapshot, options: WalOptions | None = None) -> Wal:
        """The log as it lies on disk, locked; `read_all` must come before any write.

        Raises: WalNotFoundError, WalLockedError.
        """
        wal = cls(disk, path, options)
        wal._start = start
        for segment in segments_from(disk, path, start.index):
            try:
                segment.fd = open_patiently(disk, segment.path)
            except StorageError:
                wal.abandon()
                raise
            wal._segments.append(segment)
        wal._decoder = Decoder(disk, wal._segments)
        return wal

    @classmethod
    def open_and_read(
        cls, disk: Disk, path: str, start: WalSnapshot, options: WalOptions | None = None
    ) -> tuple[Wal, Replay]:
        """Open a log and read it; a torn end is repaired, once.

        Raises: WalNotFoundError, WalLockedError, WalError. Source: etcd server/etcdserver/storage.go readWAL.
        """
        for repaired in (False, True):
            wal = cls.open(disk, path, start, options)
            try:
                return wal, wal.read_all()
            except WalTornError:
                wal.close()
                if repaired:
                    raise
                repair(disk, path)
            except StorageError:
                wal.close()
                raise
        raise AssertionError("not reached")

    def read_all(self) -> Replay:
        """All that was written after the starting point; from now on the log takes more.

        Raises: WalTornError, which `repair` can mend once this Wal is closed; WalError; StorageError.
        """
        decoder = self._decoder
        assert decoder is not None, "a log is read once, after it was opened"
        result = replay(decoder, self._start)
        self._decoder = None
        tail = self._segments[-1]
        self._fd = tail.fd
        self._offset = self._zeroed = decoder.offset
        self._crc = decoder.crc
        self._metadata = result.metadata
        self._state = result.hard_state
        self._last_index = result.entries[-1].index if result.entries else self._start.index
        # Behind a length field of zero may lie what a crash left of later writes. Partly
        # overwritten it would be taken for broken records, so it goes.
        try:
            size = self._disk.size(tail.fd)
            self._disk.ftruncate(tail.fd, self._offset)
            size = max(size, self._segment_bytes)
            if size > self._offset:
                self._disk.fallocate(tail.fd, self._offset, size - self._offset)
            if not self._no_sync:
                # Were the truncation lost in a crash but not the records written after it,
                # the old bytes would follow the new ones.
                self._disk.fdatasync(tail.fd)
        except OSError as error:
            raise os_error(tail.path, "preallocate", error, offset=self._offset) from error
        self._ready()
        return result

    def _ready(self) -> None:
        """Find out who waits for the disk, and lay the next segment ready."""
        how = self._options.sync
        if how == AUTO:
            try:
                seconds = measure_sync(self._disk, self._fd, self._offset, self._clock)
            except OSError as error:
                raise os_error(self._segments[-1].path, "fdatasync", error, offset=self._offset) from error
            self._way.choice = SyncChoice(by_helper=seconds > INLINE_SECONDS_MAX)
            if seconds > INLINE_SECONDS_MAX:
                how = HELPER
        if how == HELPER:
            try:
                self._way.start_now(self._fd)
            except OSError as error:
                if self._options.sync == HELPER:
                    raise os_error(self.path, "start of the helper process", error) from error
        self._prepare_next()

    # Writing

    def save(
        self,
        hard_state: HardState | None,
        entries: list[Entry],
        must_sync: bool = True,
        done: Callable[[], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Append entries and then the HardState, each if there is one.

        With `done` None it returns when all is on disk. Otherwise `done` is called once it is: before `save` returns on
        a fast disk, having called `meanwhile` while that wrote, from `on_readable` on a slow one; nothing may be saved,
        nor seen of `meanwhile`, until then. A new commit index alone needs no sync (`must_sync` False); entries, term
        and vote get theirs always. Raises: StorageError, and ever after; a sync that fails later is told to `failed`.
        """
        if self._error is not None:
            raise self._error
        assert self._fd >= 0 and not self._closed, "the log was not read, or is closed"
        assert self._done is None, "the save before this one is not done"
        if hard_state is not None and hard_state.is_empty():
            hard_state = None
        if entries or hard_state is not None:
            begin = self._offset
            data, crc = encode_batch(entries, hard_state, self._crc)
            self._write(data, must_sync or bool(entries))
            self._crc = crc
            if entries:
                self._last_index = entries[-1].index
                must_sync = True
            if hard_state is not None:
                if hard_state.term != self._state.term or hard_state.vote != self._state.vote:
                    must_sync = True
                self._state = hard_state
            if self._offset >= self._segment_bytes:
                if self._cut(done):
                    return
            elif must_sync:
                waiter = self._way.helper(self._fd) if done is not None else None
                if waiter is not None:
                    self._begin_wait(done)
                    waiter.sync()
                    return
                if meanwhile is not None and not self._no_sync:
                    self._disk.begin_write(self._fd, begin, self._offset - begin)
                    meanwhile()
                self._sync()
        if done is not None:
            done()

    def _begin_wait(self, done: Callable[[], None] | None) -> None:
        """The helper is to sync all that was written so far."""
        self._done = done
        self._covered.extend(self._uncovered)
        self._uncovered.clear()

    def save_snapshot(self, snapshot: WalSnapshot, done: Callable[[], None] | None = None) -> None:
        """Record that the log may be read from here on; with `done` None it returns when that is on disk.

        It may come while a save is under way: then `done` is called after the sync of one that follows, else at once.
        Raises: StorageError.
        """
        if self._error is not None:
            raise self._error
        assert self._fd >= 0 and not self._closed, "the log was not read, or is closed"
        if snapshot.index and snapshot.conf_state is None:
            raise ValueError(f"saved (not-initial) snapshot is missing ConfState: {snapshot!r}")
        self._settle_cut()
        record, crc = encode_record(SNAPSHOT, encode_wal_snapshot(snapshot), self._crc)
        self._write(record)
        self._crc = crc
        self._last_index = max(self._last_index, snapshot.index)
        if done is not None:
            self._uncovered.append(done)
            if self._done is not None:
                return
        self._sync_uncovered()

    def sync(self) -> None:
        """Return when all that was written is on disk. Raises StorageError."""
        if self._error is not None:
            raise self._error
        self._settle_cut()
        self._sync()

    def _write(self, data: bytes, with_zeros: bool = False) -> None:
        begin = self._offset
        end = begin + len(data)
        zeros = 0
        if with_zeros and end > self._zeroed:
            zeros = self._zeros_after(begin, end)
        try:
            written = self._disk.pwrite(self._fd, data + bytes(zeros) if zeros else data, begin)
            if begin + written < end:
                write_all(self._disk, self._fd, data[written:], begin + written)
        except OSError as error:
            self._fail(os_error(self._segments[-1].path, "write", error, offset=begin))
            # Half a batch would look like a broken record to the next start. Nobody was told of it.
            try:
                self._disk.ftruncate(self._fd, begin)
            except OSError:
                pass
            assert self._error is not None
            raise self._error from error
        self._offset = end
        if self._on_write is not None:
            self._on_write(len(data))

    def _zeros_after(self, begin: int, end: int) -> int:
        """How many zeros go behind a batch; behind the log they say that it ends."""
        target = min((end // _ZEROS_BYTES + 1) * _ZEROS_BYTES, self._segment_bytes)
        if end - begin > _ZEROS_BATCH_MAX or target <= end or self._no_sync:
            return 0
        self._zeroed = target
        return target - end

    def _sync(self) -> None:
        if self._no_sync:
            return
        began = self._clock()
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            failure = os_error(self._segments[-1].path, "fdatasync", error)
            self._fail(failure)
            raise failure from error
        self._note_sync(self._clock() - began)

    def _note_sync(self, seconds: float) -> None:
        self._way.note(seconds)
        if self._on_sync is not None:
            self._on_sync(seconds)

    def _fail(self, error: StorageError) -> None:
        """After a failed write or sync nobody knows what is on disk: nothing more goes in."""
        self._error = error
        self._done = None

    # The disk-wait seam

    def fileno(self) -> int:
        """What the event loop must watch for reading, calling `on_readable`; -1 when nothing needs it."""
        return self._way.fileno()

    def expect_rush(self, for_s: float) -> None:
        """Much else is going to be written to the disk for so many seconds: no save is to wait for that itself."""
        if not self._closed:
            self._way.expect_rush(for_s, self._fd)

    def on_readable(self) -> None:
        """The helper is through: call `done`, or `failed`."""
        waiter = self._way.waiter
        if waiter is None:
            return
        if self._way.is_starting:
            self._way.started(self.path)
            return
        try:
            seconds = waiter.result(self._segments[-1].path)
            if self._cutting is not None:
                self._adopt()
        except StorageError as error:
            told = self._error is not None
            self._fail(error)
            if self.failed is not None and not told:
                self.failed(error)
            return
        done = self._done
        if done is None:
            return
        self._done = None
        if seconds:
            self._note_sync(seconds)
        covered, self._covered = self._covered, []
        done()
        for told_of in covered:
            told_of()
        if self._uncovered and not self._is_saving() and self._error is None:
            try:
                self._sync_uncovered()
            except StorageError as error:
                if self.failed is not None:
                    self.failed(error)

    def _is_saving(self) -> bool:
        # Asked in a call: the compiled form holds `_done` for None where it was set to that, whoever was called since.
        return self._done is not None

    def _sync_uncovered(self) -> None:
        self._sync()
        uncovered, self._uncovered = self._uncovered, []
        for told_of in uncovered:
            told_of()

    def _settle_cut(self) -> None:
        """Wait here for a change of segment that is under way; its `done` comes from the event loop still."""
        if self._cutting is None:
            return
        waiter = self._way.waiter
        assert waiter is not None
        try:
            seconds = waiter.result(self._segments[-1].path)
            self._adopt()
        except StorageError as error:
            self._fail(error)
            raise
        self._note_sync(seconds)
        waiter.nudge()

    # Segments

    def _cut(self, done: Callable[[], None] | None) -> bool:
        """Move to the next segment; True when the helper is at it and will call `done`."""
        old = self._segments[-1]
        if self._next is None:
            self._prepare_next(must=True)
        new = self._next
        assert new is not None
        self._next = None
        aside = new.path
        new.sequence = old.sequence + 1
        new.index = self._last_index + 1
        new.path = os.path.join(self.path, segment_name(new.sequence, new.index))
        head = frame_record(CRC, self._crc, b"")
        record, crc = encode_record(METADATA, self._metadata, self._crc)
        head += record
        if not self._state.is_empty():
            record, crc = encode_batch([], self._state, crc)
            head += record
        try:
            # What is preallocated and not used goes back to the disk.
            self._disk.ftruncate(old.fd, self._offset)
            write_all(self._disk, new.fd, head, 0)
            waiter = self._way.helper(old.fd) if done is not None else None
            if waiter is not None:
                folder = self._disk.open(self.path, os.O_RDONLY)
                self._crc = crc
                self._offset = len(head)
                self._begin_wait(done)
                self._cutting = new
                waiter.cut(new.fd, folder, aside, new.path)
                self._disk.close(folder)
                return True
            if not self._no_sync:
                self._sync()
                self._disk.fdatasync(new.fd)
            self._disk.rename(aside, new.path)
            self._disk.sync_dir(self.path)
        except OSError as error:
            failure = os_error(new.path, "move to the next segment", error)
            self._fail(failure)
            raise failure from error
        self._crc = crc
        self._offset = len(head)
        self._cutting = new
        self._adopt()
        if self._way.waiter is not None:
            self._way.waiter.use(self._fd)
        return False

    def _adopt(self) -> None:
        """The new segment has its name: it is the last one now."""
        new = self._cutting
        assert new is not None
        self._cutting = None
        self._segments.append(new)
        self._fd = new.fd
        self._zeroed = 0
        if self._on_write is not None:
            self._on_write(self._offset)
        self._prepare_next()

    def _prepare_next(self, must: bool = False) -> None:
        """Allocate the segment after this one, so that the change costs no time.

        Unless it `must` succeed, a disk without the space is found out again when the segment is needed.
        """
        path = os.path.join(self.path, f"{self._next_number % 2}.tmp")
        fd = -1
        try:
            fd = open_locked(self._disk, path, os.O_RDWR | os.O_CREAT)
            # What an interrupted change left in it must not follow our head of it.
            self._disk.ftruncate(fd, 0)
            self._disk.fallocate(fd, 0, self._segment_bytes)
        except (OSError, StorageError) as error:
            if fd >= 0:
                self._disk.close(fd)
            if must:
                failure = error if isinstance(error, StorageError) else os_error(path, "preallocate", error)
                self._fail(failure)
                raise failure from error
            return
        self._next_number += 1
        self._next = Segment(path, 0, 0, fd)

    def release_lock_to(self, index: int) -> None:
        """Let go of the segments that hold only entries before `index`, so that they may be purged.

        Of those that begin before `index` the newest is kept: it may hold `index` itself.
        """
        segments = self._segments
        keep = len(segments) - 1
        for at, segment in enumerate(segments):
            if segment.index >= index:
                keep = at - 1
                break
        if keep <= 0:
            return
        for segment in segments[:keep]:
            self._disk.close(segment.fd)
        del segments[:keep]

    @property
    def metadata(self) -> bytes:
        return self._metadata

    @property
    def segment_paths(self) -> list[str]:
        """The segments this log holds the lock of, oldest first."""
        return [segment.path for segment in self._segments]

    @property
    def is_inline(self) -> bool:
        """Whether `save` itself waits for the disk, as things are."""
        return self._way.is_inline

    def close(self) -> None:
        """Sync what is written and let go of all files; a log that failed is only let go of. Raises StorageError."""
        if self._closed:
            return
        try:
            if self._error is None and self._fd >= 0:
                self._settle_cut()
                self._sync()
        finally:
            self._done = None
            self._closed = True
            self._way.close()
            for segment in self._segments:
                self._disk.close(segment.fd)
            if self._next is not None:
                self._disk.unlink(self._next.path)
                self._disk.close(self._next.fd)
