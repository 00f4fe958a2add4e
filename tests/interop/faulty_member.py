"""A balsad whose disk fails once a file appears: `python -m tests.interop.faulty_member FAULT ARGS...`.

FAULT is JSON:
    {"op": "pwrite", "path": "/wal/", "errno": 28, "when": FILE}    calls of `op` on paths with that in them fail
    {..., "after": 0.3}                                             and they take so many seconds
    {"short": 100}                                                  every write takes only so many bytes
    {"wait": "helper"}                                              a process of its own waits for the log's disk
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import balsad.main
from balsad.__main__ import main
from balsad.env import Env
from balsad.env.real import RealClock, RealDisk, RealRandom
from balsad.server.member import Member
from balsad.storage.wal import HELPER, INLINE, WalOptions
from tests.interop.servers import Program


class FaultyDisk(RealDisk):
    """The real disk, until the fault begins."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self._op = fault.get("op", "")
        self._part = fault.get("path", "")
        self._errno = fault.get("errno", errno.EIO)
        self._when = fault.get("when", "")
        self._short = fault.get("short", 0)
        self._after_s = fault.get("after", 0.0)
        self._paths: dict[int, str] = {}

    def _check(self, op: str, path: str) -> None:
        if op == self._op and self._part in path and os.path.exists(self._when):
            time.sleep(self._after_s)
            raise OSError(self._errno, os.strerror(self._errno))

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._check("open", path)
        fd = super().open(path, flags, mode)
        self._paths[fd] = path
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self._check("write", self._paths[fd])
        return os.write(fd, data[: self._short] if self._short else data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._check("pwrite", self._paths[fd])
        return os.pwrite(fd, data[: self._short] if self._short else data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        self._check("pwritev", self._paths[fd])
        if self._short:
            return os.pwrite(fd, b"".join(buffers)[: self._short], offset)
        return os.pwritev(fd, buffers, offset)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, min(count, self._short) if self._short else count, offset)

    def fsync(self, fd: int) -> None:
        self._check("fsync", self._paths[fd])
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync", self._paths[fd])
        os.fdatasync(fd)

    def ftruncate(self, fd: int, length: int) -> None:
        self._check("ftruncate", self._paths[fd])
        os.ftruncate(fd, length)

    def fallocate(self, fd: int, offset: int, length: int) -> None:
        self._check("fallocate", self._paths[fd])
        super().fallocate(fd, offset, length)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        self._check("makedirs", path)
        super().makedirs(path, mode)

    def rename(self, old: str, new: str) -> None:
        self._check("rename", new)
        os.rename(old, new)


def faulty(**fault: Any) -> Program:
    """A balsad with this fault."""
    return Program("balsad", (sys.executable, "-m", "tests.interop.faulty_member", json.dumps(fault)))


def _fix_waiter(how: str) -> None:
    usual = Member.wal_options

    def wal_options(member: Member) -> WalOptions:
        options = usual(member)
        options.sync = how
        return options

    Member.wal_options = wal_options  # type: ignore[assignment,method-assign]


def run() -> int:
    fault = json.loads(sys.argv[1])
    env = Env(clock=RealClock(), random=RealRandom(), disk=FaultyDisk(fault))
    balsad.main.real_env = lambda: env  # type: ignore[attr-defined]
    # Who waits for the log's disk is measured otherwise; a fault needs to know.
    _fix_waiter(HELPER if fault.get("wait") == "helper" else INLINE)
    return main(["etcd", *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(run())
