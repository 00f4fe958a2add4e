"""What the house needs of the world outside: time, chance, a disk.

`real.py` gives the operating system's; a simulator gives its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back."""

    def time(self) -> float:
        """Unix seconds."""


class Random(Protocol):
    def randrange(self, stop: int) -> int: ...

    def token_bytes(self, count: int) -> bytes:
        """Bytes that an adversary cannot guess."""


class Mapping(Protocol):
    """A read-only view of a file; slicing, with a step or without, copies out `bytes`."""

    def __getitem__(self, index: slice, /) -> bytes: ...

    def __len__(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """The file operations the house uses, as the `os` module names them. All raise OSError."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int: ...

    def close(self, fd: int) -> None: ...

    def read(self, fd: int, count: int) -> bytes: ...

    def pread(self, fd: int, count: int, offset: int) -> bytes: ...

    def write(self, fd: int, data: bytes) -> int:
        """May write less than all of `data`, as write(2)."""

    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...

    def begin_write(self, fd: int, offset: int, count: int) -> None:
        """Have the disk begin with what was written there, and wait for nothing: a hint, which promises nothing."""

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int: ...

    def fsync(self, fd: int) -> None: ...

    def fdatasync(self, fd: int) -> None: ...

    def ftruncate(self, fd: int, length: int) -> None: ...

    def fallocate(self, fd: int, offset: int, length: int) -> None: ...

    def size(self, fd: int) -> int:
        """The file's length in bytes."""

    def seek(self, fd: int, offset: int) -> None: ...

    def lock(self, fd: int) -> None:
        """Take an exclusive flock without waiting. Raises BlockingIOError when somebody holds it."""

    def map(self, fd: int, length: int) -> Mapping:
        """Map the first `length` bytes read-only; length 0 means the whole file."""

    def exists(self, path: str) -> bool: ...

    def is_dir(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """Names in `path`, sorted."""

    def makedirs(self, path: str, mode: int = 0o700) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None:
        """fsync the folder, so that a rename in it is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    clock: Clock
    random: Random
    disk: Disk
