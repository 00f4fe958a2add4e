"""Reading a write-ahead log: record by record over its segments, every checksum verified.

Where reading ends says how the log ended:

    END      a length field of zero, or the end of the last file: the whole log was read
    torn     WalTornError: the last record of the last file is cut off or has a sector of zeros;
             the machine went down while it was written, `repair` cuts it away
    broken   any other WalError: the file does not hold what was once written

Source: etcd server/wal/decoder.go, wal.go.
"""

from __future__ import annotations

import os
from typing import Final

from balsad.checksum import crc32c
from balsad.env import Disk
from balsad.raft.codec import decode_entry_at, decode_hard_state
from balsad.raft.messages import Entry, HardState
from balsad.storage.errors import StorageError, os_error
from balsad.storage.wal.record import (
    CRC,
    ENTRY,
    FRAME_HEAD_BYTES,
    METADATA,
    SNAPSHOT,
    STATE,
    WalSnapshot,
    decode_frame_head,
    decode_wal_snapshot,
    is_torn,
    locate_data,
)
from balsad.storage.wal.segments import Segment, list_segments, segments_from
from balsad.wire import WireError

END: Final = 0  # what Decoder.next gives instead of a record type when the log is over

_CHUNK_BYTES: Final = 1 << 20
_NO_FRAME: Final = bytes(FRAME_HEAD_BYTES)


class WalError(StorageError):
    """The log does not hold what was once written to it."""


class WalTornError(WalError):
    """The log's last record was not written whole; `repair` helps."""


class WalCrcError(WalError):
    """A checksum does not fit."""


class WalMetadataConflictError(WalError):
    """Two segments say they belong to different members."""


class WalSnapshotMismatchError(WalError):
    """The log knows the wanted index under another term."""


class WalSnapshotNotFoundError(WalError):
    """The log has no record of the snapshot it should be read from."""


class WalGapError(WalError):
    """An entry is missing."""


class Replay:
    """All that a log holds after its starting point."""

    __slots__ = ("entries", "hard_state", "metadata")

    def __init__(self, metadata: bytes, hard_state: HardState, entries: list[Entry]) -> None:
        self.metadata = metadata
        self.hard_state = hard_state
        self.entries = entries


class Decoder:
    """Record after record of a row of segments.

    After `next`, `data` is the record's content, `start` and `offset` its
    beginning and end in the current segment, `crc` the running checksum.
    """

    __slots__ = (
        "_at",
        "_base",
        "_buffer",
        "_data_at",
        "_data_end",
        "_disk",
        "_fd",
        "_own_fd",
        "_segments",
        "_stop_when_torn",
        "crc",
        "offset",
        "start",
    )

    def __init__(self, disk: Disk, segments: list[Segment], *, stop_when_torn: bool = False) -> None:
        """Segments that are not open (`fd` -1) are opened for reading when their turn comes."""
        self._disk = disk
        self._segments = segments
        self._stop_when_torn = stop_when_torn
        self._at = -1
        self._fd = -1
        self._own_fd = False
        self._buffer = b""
        self._base = 0  # where the buffer begins in the file
        self.start = 0
        self.offset = 0
        self.crc = 0
        # Where the record's content is in the buffer.
        self._data_at = 0
        self._data_end = 0

    @property
    def data(self) -> bytes:
        return self._buffer[self._data_at : self._data_end]

    @property
    def path(self) -> str:
        """The segment being read."""
        return self._segments[max(0, self._at)].path

    def close(self) -> None:
        """Close what this decoder opened itself."""
        if self._own_fd:
            self._disk.close(self._fd)
            self._own_fd = False
        self._fd = -1

    def next(self) -> int:
        """The type of the next record, its content in `data`; END when there is none. Raises WalError."""
        try:
            return self._next()
        except WalTornError:
            if self._stop_when_torn:
                return END
            raise

    def _next(self) -> int:
        if self._at < 0 and not self._next_segment():
            return END
        while True:
            have = self._available(self.offset, FRAME_HEAD_BYTES)
            at = self.offset - self._base
            if have == FRAME_HEAD_BYTES:
                if self._buffer[at : at + FRAME_HEAD_BYTES] != _NO_FRAME:
                    break
            elif have:
                raise self._cut_off("wal: the file ends in a length field")
            if not self._next_segment():
                return END
        size, padding = decode_frame_head(self._buffer, at)
        total = size + padding
        begin = self.offset + FRAME_HEAD_BYTES
        if total > _CHUNK_BYTES and total > self._disk.size(self._fd) - begin:
            raise self._cut_off(f"wal: max entry size limit exceeded: a record of {size} bytes goes beyond the file")
        if self._available(begin, total) < total:
            raise self._cut_off(f"wal: the file ends in a record of {size} bytes")
        at = begin - self._base
        try:
            kind, crc, data_at, data_end = locate_data(self._buffer, at, at + size)
        except WireError as error:
            broken = WalError(self.path, f"wal: no record: {error}", offset=self.offset)
            raise self._torn_or(broken, at, total) from error
        if kind == END:
            # Not the end of the log, though it looks like it from outside.
            broken = WalError(self.path, "wal: unexpected block type 0", offset=self.offset)
            raise self._torn_or(broken, at, total)
        if kind != CRC:
            expected = crc32c(memoryview(self._buffer)[data_at:data_end], self.crc)
            if crc != expected:
                broken = WalCrcError(
                    self.path, f"wal: crc mismatch: expected {expected:08x}, found {crc:08x}", offset=self.offset
                )
                raise self._torn_or(broken, at, total)
        # A decoder that has read nothing yet takes any checksum to begin with.
        elif self.crc and self.crc != crc:
            raise WalCrcError(
                self.path,
                f"wal: crc mismatch: the segment should carry on {self.crc:08x}, found {crc:08x}",
                offset=self.offset,
            )
        self.crc = crc
        self._data_at = data_at
        self._data_end = data_end
        self.start = self.offset
        self.offset = begin + total
        return kind

    def _is_last(self) -> bool:
        return self._at == len(self._segments) - 1

    def _cut_off(self, reason: str) -> WalError:
        if self._is_last():
            return WalTornError(self.path, reason, offset=self.offset)
        return WalError(self.path, reason, offset=self.offset)

    def _torn_or(self, error: WalError, at: int, total: int) -> WalError:
        """The error, or that the record is torn: only the log's last file can be."""
        if self._is_last() and is_torn(self._buffer[at : at + total], self.offset + FRAME_HEAD_BYTES):
            return WalTornError(self.path, "wal: torn record: part of it was never written", offset=self.offset)
        return error

    def _next_segment(self) -> bool:
        if self._is_last():
            return False
        self.close()
        self._at += 1
        segment = self._segments[self._at]
        self._fd = segment.fd
        if self._fd < 0:
            try:
                self._fd = self._disk.open(segment.path, os.O_RDONLY)
            except OSError as error:
                raise os_error(segment.path, "open", error) from error
            self._own_fd = True
        self._buffer = b""
        self._base = 0
        self.start = 0
        self.offset = 0
        return True

    def _available(self, offset: int, count: int) -> int:
        """Bring up to `count` bytes from `offset` into the buffer; how many are there, `count` at the most."""
        have = self._base + len(self._buffer) - offset
        if have >= count:
            return count
        # What is left of the buffer is read once more: less work than joining it to what comes.
        wanted = max(_CHUNK_BYTES, count)
        parts: list[bytes] = []
        have = 0
        try:
            while have < count:
                chunk = self._disk.pread(self._fd, wanted - have, offset + have)
                if not chunk:
                    break
                parts.append(chunk)
                have += len(chunk)
        except OSError as error:
            raise os_error(self.path, "read", error, offset=offset + have) from error
        self._buffer = parts[0] if len(parts) == 1 else b"".join(parts)
        self._base = offset
        return min(have, count)

    # The content of the record just read.

    def entry(self) -> Entry:
        try:
            return decode_entry_at(self._buffer, self._data_at, self._data_end)
        except WireError as error:
            raise self.error(f"wal: no entry: {error}") from error

    def hard_state(self) -> HardState:
        try:
            return decode_hard_state(self.data)
        except WireError as error:
            raise self.error(f"wal: no hard state: {error}") from error

    def snapshot(self) -> WalSnapshot:
        try:
            return decode_wal_snapshot(self.data)
        except WireError as error:
            raise self.error(f"wal: no snapshot record: {error}") from error

    def error(self, reason: str) -> WalError:
        """That this record is wrong."""
        return WalError(self.path, reason, offset=self.start)


def replay(decoder: Decoder, start: WalSnapshot) -> Replay:
    """Read a log to its end; an entry that was overwritten later is left out.

    Entries above the HardState's commit may still be overwritten: nobody may apply them yet.
    Raises: WalTornError, and WalError's other kinds where the log is not what etcd writes.
    """
    metadata: bytes | None = None
    hard_state = HardState()
    entries: list[Entry] = []
    found = False
    first = start.index + 1
    while True:
        kind = decoder.next()
        if kind == ENTRY:
            entry = decoder.entry()
            place = entry.index - first
            if place == len(entries):
                entries.append(entry)
            elif place > len(entries):
                raise WalGapError(
                    decoder.path,
                    f"wal: slice bounds out of range: expected index {first + len(entries)} or less, "
                    f"found {entry.index}",
                    offset=decoder.start,
                )
            elif place >= 0:
                # A new leader's entry: what stood here and after it was never committed.
                del entries[place:]
                entries.append(entry)
        elif kind == STATE:
            hard_state = decoder.hard_state()
        elif kind == METADATA:
            if metadata is not None and metadata != decoder.data:
                raise WalMetadataConflictError(
                    decoder.path,
                    f"wal: conflicting metadata found: expected {metadata.hex()}, found {decoder.data.hex()}",
                    offset=decoder.start,
                )
            metadata = decoder.data
        elif kind == SNAPSHOT:
            snapshot = decoder.snapshot()
            if snapshot.index == start.index:
                if snapshot.term != start.term:
                    raise WalSnapshotMismatchError(
                        decoder.path,
                        f"wal: snapshot mismatch: expected index {start.index} in term {start.term}, "
                        f"found term {snapshot.term}",
                        offset=decoder.start,
                    )
                found = True
        elif kind == END:
            break
        elif kind != CRC:
            raise decoder.error(f"unexpected block type {kind}")
    if not found:
        raise WalSnapshotNotFoundError(decoder.path, f"wal: snapshot not found: index {start.index}, term {start.term}")
    return Replay(metadata or b"", hard_state, entries)


def read_log(disk: Disk, path: str, start: WalSnapshot) -> Replay:
    """What a log holds after `start`, without locking it; a torn end is passed over.

    Raises: WalNotFoundError, WalError. Source: etcd OpenForRead and ReadAll.
    """
    decoder = Decoder(disk, segments_from(disk, path, start.index), stop_when_torn=True)
    try:
        return replay(decoder, start)
    finally:
        decoder.close()


def valid_snapshot_entries(disk: Disk, path: str) -> list[WalSnapshot]:
    """The log's snapshot records that are committed, oldest first.

    A .snap file counts only if it is among them: it may have been written and
    its record lost. Raises: WalNotFoundError, WalError.
    """
    decoder = Decoder(disk, list_segments(disk, path), stop_when_torn=True)
    snapshots: list[WalSnapshot] = []
    commit = 0
    try:
        while True:
            kind = decoder.next()
            if kind == SNAPSHOT:
                snapshots.append(decoder.snapshot())
            elif kind == STATE:
                commit = decoder.hard_state().commit
            elif kind == END:
                break
    finally:
        decoder.close()
    return [snapshot for snapshot in snapshots if snapshot.index <= commit]
