"""Cutting off what a crash left half-written at the end of a log.

Source: etcd server/wal/repair.go.
"""

from __future__ import annotations

import os
from typing import Final

from balsad.env import Disk
from balsad.storage.errors import os_error
from balsad.storage.wal.replay import END, Decoder, WalTornError
from balsad.storage.wal.segments import list_segments, open_locked, write_all

_CHUNK_BYTES: Final = 1 << 20


def repair(disk: Disk, path: str) -> str | None:
    """Truncate a torn last record, after a copy of the segment was laid aside as `.broken`.

    Gives the path of the segment that was cut, None when the log was whole.
    Raises: WalLockedError while somebody writes the log, WalError where it is broken otherwise.
    """
    # The last segment is read alone, as etcd does: its first record says what checksum it carries on.
    segment = list_segments(disk, path)[-1]
    segment.fd = open_locked(disk, segment.path, os.O_RDWR)
    try:
        decoder = Decoder(disk, [segment])
        try:
            while decoder.next() != END:
                pass
        except WalTornError:
            _copy(disk, segment.fd, f"{segment.path}.broken")
            try:
                disk.ftruncate(segment.fd, decoder.offset)
                disk.fsync(segment.fd)
            except OSError as error:
                raise os_error(segment.path, "truncate", error, offset=decoder.offset) from error
            disk.sync_dir(path)
            return segment.path
        return None
    finally:
        disk.close(segment.fd)


def _copy(disk: Disk, source: int, path: str) -> None:
    try:
        target = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            offset = 0
            while chunk := disk.pread(source, _CHUNK_BYTES, offset):
                write_all(disk, target, chunk, offset)
                offset += len(chunk)
            disk.fsync(target)
        finally:
            disk.close(target)
    except OSError as error:
        raise os_error(path, "write", error) from error
