"""The files of a write-ahead log: their names, which of them to read, when they may go.

    0000000000000000-0000000000000000.wal      sequence number and index of the first entry in it,
    0000000000000001-0000000000003a2f.wal      both in hexadecimal
    0.tmp or 1.tmp                             the next segment, space already allocated

Source: etcd server/wal/util.go, client/pkg/fileutil/purge.go.
"""

from __future__ import annotations

import os
import re
import time
from typing import Final

from balsad.env import Disk
from balsad.storage.errors import StorageError, os_error

SEGMENT_BYTES: Final = 64_000_000

_NAME: Final = re.compile(r"([0-9a-fA-F]{1,16})-([0-9a-fA-F]{1,16})\.wal")

_LOCK_TRIES: Final = 100
_LOCK_PAUSE_S: Final = 0.02


class WalNotFoundError(StorageError):
    """No segment, or not the ones needed to begin at the wanted index."""


class WalLockedError(StorageError):
    """Another process holds the log."""


class Segment:
    """One file of the log; `fd` is -1 while it is not open."""

    __slots__ = ("fd", "index", "path", "sequence")

    def __init__(self, path: str, sequence: int, index: int, fd: int = -1) -> None:
        self.path = path
        self.sequence = sequence
        self.index = index
        self.fd = fd


def segment_name(sequence: int, index: int) -> str:
    return f"{sequence:016x}-{index:016x}.wal"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Sequence number and first index, or None when this is no segment's name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


def wal_exists(disk: Disk, path: str) -> bool:
    """Whether the folder holds a log."""
    return disk.is_dir(path) and any(name.endswith(".wal") for name in disk.listdir(path))


def list_segments(disk: Disk, path: str) -> list[Segment]:
    """All segments in the folder, oldest first. Raises WalNotFoundError when there is none."""
    try:
        names = disk.listdir(path)
    except OSError as error:
        raise WalNotFoundError(path, f"open: {(error.strerror or '').lower()}") from error
    segments: list[Segment] = []
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is not None:
            segments.append(Segment(os.path.join(path, name), parsed[0], parsed[1]))
    if not segments:
        raise WalNotFoundError(path, "wal: file not found")
    return segments


def segments_from(disk: Disk, path: str, index: int) -> list[Segment]:
    """The segments that hold what comes after `index`, oldest first.

    Raises: WalNotFoundError when the log begins later or a segment is missing.
    """
    segments = list_segments(disk, path)
    first = next((at for at in range(len(segments) - 1, -1, -1) if segments[at].index <= index), -1)
    if first < 0:
        raise WalNotFoundError(path, f"wal: file not found: nothing reaches back to index {index}")
    segments = segments[first:]
    previous = 0
    for segment in segments:
        # Like etcd, nothing is asked of the segment after number 0.
        if previous and segment.sequence != previous + 1:
            raise WalNotFoundError(segment.path, f"wal: file not found: the segment after {previous:016x} is missing")
        previous = segment.sequence
    return segments


def open_locked(disk: Disk, path: str, flags: int) -> int:
    """Open a file and lock it. Raises WalLockedError or StorageError."""
    try:
        fd = disk.open(path, flags)
    except OSError as error:
        raise os_error(path, "open", error) from error
    try:
        disk.lock(fd)
    except BlockingIOError as error:
        disk.close(fd)
        raise WalLockedError(path, "fileutil: file already locked") from error
    except OSError as error:
        disk.close(fd)
        raise os_error(path, "flock", error) from error
    return fd


def open_patiently(disk: Disk, path: str) -> int:
    """Open and lock a segment; a server that was killed may have left its helper a last sync to finish."""
    for _try in range(_LOCK_TRIES):
        try:
            return open_locked(disk, path, os.O_RDWR)
        except WalLockedError:
            time.sleep(_LOCK_PAUSE_S)
    return open_locked(disk, path, os.O_RDWR)


def write_all(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    """pwrite until all is written. Raises OSError."""
    written = disk.pwrite(fd, data, offset)
    while written < len(data):
        written += disk.pwrite(fd, data[written:], offset + written)


def purge_files(disk: Disk, path: str, suffix: str, keep: int) -> list[str]:
    """Remove the oldest files that end in `suffix` until `keep` are left; gives the paths removed.

    It stops at the first file that somebody has locked: a log in use keeps its segments.
    """
    names = [name for name in disk.listdir(path) if name.endswith(suffix)]
    purged: list[str] = []
    for name in names[: max(0, len(names) - keep)]:
        file = os.path.join(path, name)
        try:
            fd = open_locked(disk, file, os.O_WRONLY)
        except StorageError:
            break
        try:
            disk.unlink(file)
        except OSError as error:
            raise os_error(file, "unlink", error) from error
        finally:
            disk.close(fd)
        purged.append(file)
    return purged
