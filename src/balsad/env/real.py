"""The operating system as an Env."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Sequence

from balsad.env.protocols import Env, Mapping
from balsad.env.writeback import begin_write


class RealClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


class RealRandom:
    randrange = staticmethod(secrets.randbelow)
    token_bytes = staticmethod(secrets.token_bytes)


class RealDisk:
    """os, with the file operations of env.Disk."""

    close = staticmethod(os.close)
    read = staticmethod(os.read)
    pread = staticmethod(os.pread)
    write = staticmethod(os.write)
    pwrite = staticmethod(os.pwrite)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(os.fdatasync)
    begin_write = staticmethod(begin_write)
    ftruncate = staticmethod(os.ftruncate)
    exists = staticmethod(os.path.exists)
    is_dir = staticmethod(os.path.isdir)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def fallocate(self, fd: int, offset: int, length: int) -> None:
        os.posix_fallocate(fd, offset, length)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def seek(self, fd: int, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)

    def lock(self, fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def map(self, fd: int, length: int) -> Mapping:
        return mmap.mmap(fd, length, prot=mmap.PROT_READ)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        # os.makedirs gives `mode` to the last folder only; etcd gives it to all it makes.
        old = os.umask(0o777 & ~mode)
        try:
            os.makedirs(path, mode, exist_ok=True)
        finally:
            os.umask(old)

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def real_env() -> Env:
    """The world as it is."""
    return Env(clock=RealClock(), random=RealRandom(), disk=RealDisk())
