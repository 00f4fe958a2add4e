"""Where log lines go: file descriptors, files that rotate, the systemd journal.

Source: etcd server/embed/config_logging.go, gopkg.in/natefinch/lumberjack.v2, go-systemd journal.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

JOURNAL: Final = "systemd/journal"
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
_PRIORITIES: Final = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7))
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Sink(Protocol):
    def write(self, line: bytes, level: int) -> None:
        """Never raises: a log that cannot be written must not stop the member."""

    def close(self) -> None: ...


class RotationLimits(Protocol):
    """When a file is put aside; zeros mean no limit."""

    @property
    def max_size_mb(self) -> int: ...
    @property
    def max_age_days(self) -> int: ...
    @property
    def max_backups(self) -> int: ...
    @property
    def local_time(self) -> bool: ...
    @property
    def compress(self) -> bool: ...


def open_sink(output: str, rotation: RotationLimits | None = None) -> Sink:
    """Raises: OSError, with a sentence that names the output."""
    if output == "stderr":
        return FdSink(2)
    if output == "stdout":
        return FdSink(1)
    if output == JOURNAL:
        return JournalSink()
    path = unquote(urlsplit(output).path) if output.startswith("file://") else output
    try:
        if rotation is not None:
            return RotatingSink(path, rotation)
        return FdSink(os.open(path, _APPEND, 0o644), owned=True)
    except OSError as problem:
        raise OSError(f'couldn\'t open sink "{output}": open {path}: {(problem.strerror or "").lower()}') from None


class FdSink:
    __slots__ = ("_fd", "_owned")

    def __init__(self, fd: int, *, owned: bool = False) -> None:
        self._fd = fd
        self._owned = owned

    def write(self, line: bytes, level: int) -> None:
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError:
            pass

    def close(self) -> None:
        if self._owned:
            os.close(self._fd)


class RotatingSink:
    """A file that is renamed to `name-2026-11-22T09-52-40.117.log` when a line would make it too long.

    Old ones are compressed and removed beside the member's work, in a thread.
    """

    def __init__(self, path: str, limits: RotationLimits) -> None:
        self._path = Path(path)
        self._limits = limits
        self._size_max = max(limits.max_size_mb, 1) * 1024 * 1024
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._fd = os.open(path, _APPEND, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._sweeping = threading.Lock()

    def write(self, line: bytes, level: int) -> None:
        try:
            if self._size and self._size + len(line) > self._size_max:
                self._rotate()
            self._size += len(line)
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._fd)

    def _rotate(self) -> None:
        now = time.time()
        clock = time.localtime(now) if self._limits.local_time else time.gmtime(now)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", clock) + f".{int(now % 1 * 1000):03d}"
        os.rename(self._path, self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        fd = os.open(self._path, _APPEND, 0o600)
        os.close(self._fd)
        self._fd = fd
        self._size = 0
        if self._limits.compress or self._limits.max_backups or self._limits.max_age_days:
            threading.Thread(target=self.sweep, name="log rotation", daemon=True).start()

    def sweep(self) -> None:
        """Remove the old files that are too many or too old, compress the rest if told to."""
        with self._sweeping, contextlib.suppress(OSError):
            backups = sorted(self._backups(), reverse=True)
            kept = backups[: self._limits.max_backups] if self._limits.max_backups else backups
            if self._limits.max_age_days:
                oldest = time.time() - self._limits.max_age_days * 86_400
                kept = [path for path in kept if path.stat().st_mtime >= oldest]
            for path in backups:
                if path not in kept:
                    path.unlink(missing_ok=True)
                elif self._limits.compress and path.suffix != ".gz":
                    _compress(path)

    def _backups(self) -> list[Path]:
        name = f"{self._path.stem}-????-??-??T??-??-??.???{self._path.suffix}"
        return [*self._path.parent.glob(name), *self._path.parent.glob(f"{name}.gz")]


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    with path.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()


class JournalSink:
    """The journal's own datagram protocol; lines that do not fit go to stderr."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError as problem:
            self._socket.close()
            raise OSError(f"dial unixgram {path}: connect: {(problem.strerror or '').lower()}") from None
        self._identifier = Path(sys.argv[0]).name.encode("utf-8", "surrogateescape")

    def write(self, line: bytes, level: int) -> None:
        priority = next(number for least, number in _PRIORITIES if level >= least)
        message = line.rstrip(b"\n")
        # A value is either one line after `=`, or a length in eight bytes after a line break.
        entry = (
            b"MESSAGE\n"
            + struct.pack("<Q", len(message))
            + message
            + b"\nPRIORITY=%d\nSYSLOG_IDENTIFIER=%s\n" % (priority, self._identifier)
        )
        try:
            self._socket.send(entry)
        except OSError:
            FdSink(2).write(line, level)

    def close(self) -> None:
        self._socket.close()
