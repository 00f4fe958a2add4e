"""Disks for the store's tests: one that fails on order, one that also maps files in memory."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from balsad.env.real import RealDisk
from tests.property.memory_disk import Inode, MemoryDisk


class FaultyDisk(RealDisk):
    """The real disk, but operation number `countdown` of kind `operation` fails with `error`.

    `short` makes every write take only so many bytes at a time.
    """

    def __init__(self) -> None:
        self.operation = ""
        self.countdown = 0
        self.error = 0
        self.short = 0
        self.calls: list[str] = []

    def fail(self, operation: str, error: int, *, countdown: int = 1) -> None:
        self.operation, self.error, self.countdown = operation, error, countdown

    def _called(self, operation: str) -> None:
        self.calls.append(operation)
        if operation == self.operation:
            self.countdown -= 1
            if self.countdown == 0:
                raise OSError(self.error, os.strerror(self.error))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._called("pwrite")
        return os.pwrite(fd, data[: self.short] if self.short else data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        self._called("pwritev")
        if self.short:
            return os.pwrite(fd, b"".join(buffers)[: self.short], offset)
        return os.pwritev(fd, buffers, offset)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        self._called("pread")
        return os.pread(fd, min(count, self.short) if self.short else count, offset)

    def fsync(self, fd: int) -> None:
        self._called("fsync")
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        self._called("fdatasync")
        os.fdatasync(fd)

    def ftruncate(self, fd: int, length: int) -> None:
        self._called("ftruncate")
        os.ftruncate(fd, length)

    def rename(self, old: str, new: str) -> None:
        self._called("rename")
        os.rename(old, new)

    def sync_dir(self, path: str) -> None:
        self._called("sync_dir")
        super().sync_dir(path)


class MemoryMapping:
    """What mmap shows: the file as it is now, writes to come included."""

    def __init__(self, inode: Inode, length: int) -> None:
        self._inode = inode
        self._length = length or len(inode.content)

    def __getitem__(self, index: slice, /) -> bytes:
        start, stop, step = index.indices(self._length)
        return bytes(self._inode.content[start:stop:step])

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        self._length = 0


class MappingDisk(MemoryDisk):
    """The disk in memory that can lose its power, with maps."""

    def map(self, fd: int, length: int) -> MemoryMapping:
        return MemoryMapping(self.open_files[fd], length)

    def restart(self, rnd: random.Random, tears: bool = False) -> MappingDisk:
        plain = super().restart(rnd, tears)
        disk = MappingDisk()
        disk.names = plain.names
        disk.journal = plain.journal
        return disk
