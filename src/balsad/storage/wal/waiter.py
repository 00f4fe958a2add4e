"""Who waits for a slow disk: a helper process.

A thread would have to win the interpreter back from a busy event loop after
each system call (40 ms and more at the 99th percentile); a process does not.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from balsad.env import Disk
from balsad.storage.errors import StorageError

_PROBES: Final = 5
_ANSWER: Final = struct.Struct("<Bid")
_STEPS: Final = ("", "fdatasync", "fdatasync of the next segment", "rename", "fsync of the folder")


class Waiter(Protocol):
    """Waits for one thing at a time; `fileno` becomes readable when it has happened."""

    def fileno(self) -> int: ...

    def use(self, fd: int) -> None:
        """`fd` is the log's last segment from now on."""

    def sync(self) -> None:
        """Begin to fdatasync the last segment."""

    def cut(self, fd: int, folder_fd: int, old_path: str, new_path: str) -> None:
        """Begin to move to the next segment: sync both, rename, sync the folder."""

    def nudge(self) -> None:
        """Become readable soon, with nothing done."""

    def result(self, path: str) -> float:
        """Wait for the end of what was begun; the seconds its fdatasync took. Raises StorageError about `path`."""

    def close(self) -> None: ...


class HelperProcess:
    """A Waiter that is a process of its own; see `sync_helper`."""

    def __init__(self) -> None:
        """Raises OSError when no process can be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("sync_helper.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(program), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._socket.fileno()

    def use(self, fd: int) -> None:
        self._send(b"T", [fd])

    def sync(self) -> None:
        self._send(b"S", [])

    def cut(self, fd: int, folder_fd: int, old_path: str, new_path: str) -> None:
        self._send(b"C" + os.fsencode(old_path) + b"\0" + os.fsencode(new_path), [fd, folder_fd])

    def nudge(self) -> None:
        self._send(b"E", [])

    def _send(self, packet: bytes, fds: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [packet], fds)
        except OSError:
            pass  # it is gone; `result` finds out and says so

    def result(self, path: str) -> float:
        try:
            packet = self._socket.recv(64)
        except OSError:
            packet = b""
        if len(packet) != _ANSWER.size:
            # An error that the kernel has told the helper it will not tell us again,
            # so syncing once more ourselves would prove nothing.
            raise StorageError(path, "the process that syncs the log is gone")
        step, failure, seconds = _ANSWER.unpack(packet)
        if step:
            raise StorageError(path, f"{_STEPS[step]}: {os.strerror(failure).lower()}")
        return float(seconds)

    def close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure_sync(disk: Disk, fd: int, offset: int, clock: Callable[[], float]) -> float:
    """Seconds that a write and fdatasync at `offset` takes when the disk is not busy with others.

    What the disk itself costs decides; whoever else uses it only makes a probe longer.
    It writes zeros, so `offset` must be where the log ends: there they say that nothing follows.
    """
    zeros = bytes(512)
    seconds: list[float] = []
    for probe in range(_PROBES):
        began = clock()
        disk.pwrite(fd, zeros, offset + probe * len(zeros))
        disk.fdatasync(fd)
        seconds.append(clock() - began)
    return min(seconds)
