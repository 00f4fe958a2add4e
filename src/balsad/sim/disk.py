"""Disks in memory that are slow, full, broken, and that lose their power.

    Volume   what is there from one life of a member to the next: folders and files, each with
             what a running system sees, and what is on the platter
    SimDisk  env.Disk over it, for one life of a member

A write is on the platter once its file was synced; a name once its folder was. When the power
goes, of all that came after, any part may be there: nothing, everything, what was written up to
some moment, or any of its sectors. When only the process ends, the running system still has it all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from balsad.sim.loop import Dead

if TYPE_CHECKING:
    import random

    from balsad.sim.loop import Process

SECTOR: Final = 512

WRITE: Final = 0
TRUNCATE: Final = 1
ALLOCATE: Final = 2


class File:
    """Bytes as the running system has them, as the platter has them, and the way from one to the other."""

    __slots__ = ("allocated", "content", "length", "lock_owner", "platter", "platter_length", "unsynced")

    def __init__(self) -> None:
        self.content = bytearray()  # behind its end, up to `length`, there are zeros
        self.length = 0
        self.allocated = 0  # a full disk takes writes up to here
        self.platter = bytearray()
        self.platter_length = 0
        self.unsynced: list[tuple[int, int, bytes]] = []
        self.lock_owner: object = None

    def read(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self.length - offset))
        found = bytes(self.content[offset : offset + count])
        return found if len(found) == count else found + bytes(count - len(found))

    def write(self, offset: int, data: bytes) -> None:
        _patch(self.content, offset, data)
        self.length = max(self.length, offset + len(data))
        self.allocated = max(self.allocated, offset + len(data))
        self.unsynced.append((WRITE, offset, data))

    def truncate(self, length: int) -> None:
        del self.content[length:]
        self.length = length
        self.allocated = min(self.allocated, length)
        self.unsynced.append((TRUNCATE, length, b""))

    def allocate(self, length: int) -> None:
        self.allocated = max(self.allocated, length)
        if length > self.length:
            self.length = length
            self.unsynced.append((ALLOCATE, length, b""))

    def sync(self, count: int | None = None) -> None:
        """Bring the first `count` unsynced changes to the platter, or all."""
        done = self.unsynced if count is None else self.unsynced[:count]
        for change in done:
            self._settle(change)
        self.unsynced = [] if count is None else self.unsynced[count:]

    def _settle(self, change: tuple[int, int, bytes]) -> None:
        kind, offset, data = change
        if kind == WRITE:
            _patch(self.platter, offset, data)
            self.platter_length = max(self.platter_length, offset + len(data))
        elif kind == TRUNCATE:
            del self.platter[offset:]
            self.platter_length = offset
        else:
            self.platter_length = max(self.platter_length, offset)

    def after_cut(self, rnd: random.Random) -> File:
        """What is found when the power is back."""
        survivors = self.unsynced
        how = rnd.randrange(4)
        if how == 0:
            survivors = []
        elif how >= 2 and survivors:
            chance = 0.0
            if how == 2:
                # All up to a moment, and of what was under way then, a part.
                at = rnd.randrange(len(survivors) + 1)
                whole, torn = survivors[:at], survivors[at : at + 1]
                chance = rnd.random()
            else:
                whole, torn = [], survivors
                chance = rnd.choice((0.2, 0.5, 0.9))
            survivors = whole + [part for change in torn for part in _some_of(change, chance, rnd)]
        for change in survivors:
            self._settle(change)
        found = File()
        found.content = bytearray(self.platter)
        found.platter = self.platter
        found.length = found.platter_length = found.allocated = self.platter_length
        return found


def _patch(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _some_of(change: tuple[int, int, bytes], chance: float, rnd: random.Random) -> list[tuple[int, int, bytes]]:
    """Each sector of a write with this chance, in any order of fate."""
    kind, offset, data = change
    if kind != WRITE:
        return [change] if rnd.random() < chance else []
    parts: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
        if rnd.random() < chance:
            parts.append((WRITE, offset + at, data[at:end]))
        at = end
    return parts


class Folder:
    """Names, and every state of them since they were last synced."""

    __slots__ = ("history", "names")

    def __init__(self) -> None:
        self.names: dict[str, File | Folder] = {}
        self.history: list[dict[str, File | Folder]] = [{}]

    def changed(self) -> None:
        self.history.append(dict(self.names))

    def sync(self) -> None:
        self.history = [dict(self.names)]

    def after_cut(self, rnd: random.Random, found: dict[int, File]) -> Folder:
        folder = Folder()
        for name, node in rnd.choice(self.history).items():
            if isinstance(node, Folder):
                folder.names[name] = node.after_cut(rnd, found)
            else:
                # A file may be found under two names, its old one and its new one.
                if id(node) not in found:
                    found[id(node)] = node.after_cut(rnd)
                folder.names[name] = found[id(node)]
        folder.sync()
        return folder


class Volume:
    """A member's disk, with what it suffers from. Times are seconds on average."""

    def __init__(self) -> None:
        self.root = Folder()
        self.write_s = 0.000_02
        self.sync_s = 0.000_2
        self.is_full = False
        self.lies = False  # says it has synced what it has not
        self.short_writes = 0.0  # the chance that a write takes less than it was given
        # The next operation of this kind, on a path that holds this text, fails with this error.
        self.failure: tuple[str, str, int] | None = None
        self.failed = False  # it has, or it is full and somebody noticed
        self.cut_in = 0  # operations until the power goes; 0: it stays

    def cut(self, rnd: random.Random) -> None:
        """The power goes, and comes back."""
        self.root = self.root.after_cut(rnd, {})
        self.cut_in = 0

    def unlock(self) -> None:
        """Nobody has a file open any more."""
        pending = [self.root]
        while pending:
            for node in pending.pop().names.values():
                if isinstance(node, Folder):
                    pending.append(node)
                else:
                    node.lock_owner = None

    def mend(self) -> None:
        """All is as it should be with the disk from now on."""
        self.write_s, self.sync_s = 0.000_02, 0.000_2
        self.is_full = self.failed = False
        self.failure = None
        self.cut_in = 0


class SimMapping:
    """What mmap shows: the file as it is now, later writes included."""

    def __init__(self, file: File, length: int) -> None:
        self._file = file
        self._length = length or file.length

    def __getitem__(self, index: slice, /) -> bytes:
        start, stop, step = index.indices(self._length)
        return self._file.read(start, stop - start)[::step]

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        self._length = 0


class SimDisk:
    """env.Disk over a volume."""

    def __init__(
        self, volume: Volume, process: Process, rnd: random.Random, on_power_cut: Callable[[], None] | None = None
    ) -> None:
        """`on_power_cut` hears that the power went in the midst of an operation."""
        self.volume = volume
        self._process = process
        self._random = rnd
        self._on_power_cut = on_power_cut
        self._open: dict[int, tuple[File | Folder, str]] = {}
        self._positions: dict[int, int] = {}
        self._next_fd = 100

    # What happens to every operation.

    def _step(self, operation: str, path: str, seconds: float) -> None:
        """Something is about to be changed."""
        if self._process.is_dead:
            raise Dead
        volume = self.volume
        if seconds:
            self._process.spend(seconds * self._random.expovariate(1.0))
        if volume.cut_in:
            volume.cut_in -= 1
            if not volume.cut_in:
                if self._on_power_cut is not None:
                    self._on_power_cut()
                raise Dead
        failure = volume.failure
        if failure is not None and failure[0] == operation and failure[1] in path:
            volume.failure = None
            volume.failed = True
            raise OSError(failure[2], os.strerror(failure[2]), path)

    def _need_room(self, file: File, end: int, path: str) -> None:
        if self.volume.is_full and end > file.allocated:
            self.volume.failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _folder(self, path: str) -> tuple[Folder, str]:
        """The folder that `path` is in, and its name there."""
        *parents, name = [part for part in path.split("/") if part]
        folder = self.volume.root
        for parent in parents:
            node = folder.names.get(parent)
            if not isinstance(node, Folder):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            folder = node
        return folder, name

    def _node(self, path: str) -> File | Folder | None:
        node: File | Folder | None = self.volume.root
        for part in path.split("/"):
            if part:
                node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def _file(self, fd: int) -> tuple[File, str]:
        if self._process.is_dead:
            raise Dead
        try:
            node, path = self._open[fd]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return node, path

    # Files.

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        if self._process.is_dead:
            raise Dead
        node = self._node(path)
        if node is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            folder, name = self._folder(path)
            self._step("create", path, 0.0)
            node = folder.names[name] = File()
            folder.changed()
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        elif flags & os.O_TRUNC and isinstance(node, File):
            node.truncate(0)
        self._next_fd += 1
        self._open[self._next_fd] = (node, path)
        self._positions[self._next_fd] = 0
        return self._next_fd

    def close(self, fd: int) -> None:
        if fd not in self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        node, _ = self._open.pop(fd)
        if isinstance(node, File) and node.lock_owner == (self, fd):
            node.lock_owner = None

    def read(self, fd: int, count: int) -> bytes:
        chunk = self.pread(fd, count, self._positions[fd])
        self._positions[fd] += len(chunk)
        return chunk

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self._file(fd)[0].read(offset, count)

    def write(self, fd: int, data: bytes) -> int:
        count = self.pwrite(fd, data, self._positions[fd])
        self._positions[fd] += count
        return count

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        file, path = self._file(fd)
        self._step("write", path, self.volume.write_s)
        if self.volume.short_writes and self._random.random() < self.volume.short_writes:
            # At the end of some sector: a process that is killed amid a write leaves whole ones behind.
            sectors = (offset + len(data) - 1) // SECTOR - offset // SECTOR
            if sectors:
                data = data[: (offset // SECTOR + self._random.randint(1, sectors)) * SECTOR - offset]
        self._need_room(file, offset + len(data), path)
        file.write(offset, bytes(data))
        return len(data)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return self.pwrite(fd, b"".join(buffers), offset)

    def fsync(self, fd: int) -> None:
        node, path = self._open[fd]
        if isinstance(node, Folder):
            self._step("sync", path, self.volume.sync_s)
            node.sync()
            return
        file, path = self._file(fd)
        try:
            self._step("sync", path, self.volume.sync_s)
        except OSError:
            # The system counts the pages as clean now, so that no later sync brings them to the platter.
            file.unsynced = []
            raise
        if not self.volume.lies:
            file.sync()

    fdatasync = fsync

    def begin_write(self, fd: int, offset: int, count: int) -> None:
        """What was written may survive a power cut anyway."""

    def ftruncate(self, fd: int, length: int) -> None:
        file, path = self._file(fd)
        self._step("truncate", path, self.volume.write_s)
        if length > file.length:
            file.length = length
            file.unsynced.append((ALLOCATE, length, b""))
        else:
            file.truncate(length)

    def fallocate(self, fd: int, offset: int, length: int) -> None:
        file, path = self._file(fd)
        self._step("allocate", path, self.volume.write_s)
        self._need_room(file, offset + length, path)
        file.allocate(offset + length)

    def size(self, fd: int) -> int:
        return self._file(fd)[0].length

    def seek(self, fd: int, offset: int) -> None:
        self._positions[fd] = offset

    def lock(self, fd: int) -> None:
        file, _ = self._file(fd)
        if file.lock_owner is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        file.lock_owner = (self, fd)

    def map(self, fd: int, length: int) -> SimMapping:
        return SimMapping(self._file(fd)[0], length)

    # Names.

    def exists(self, path: str) -> bool:
        return self._node(path) is not None

    def is_dir(self, path: str) -> bool:
        return isinstance(self._node(path), Folder)

    def listdir(self, path: str) -> list[str]:
        node = self._node(path)
        if not isinstance(node, Folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return sorted(node.names)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        folder = self.volume.root
        for part in path.split("/"):
            if not part:
                continue
            node = folder.names.get(part)
            if node is None:
                self._step("create", path, 0.0)
                node = folder.names[part] = Folder()
                folder.changed()
            elif isinstance(node, File):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            folder = node

    def rename(self, old: str, new: str) -> None:
        source, source_name = self._folder(old)
        target, target_name = self._folder(new)
        node = source.names.get(source_name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        there = target.names.get(target_name)
        if isinstance(there, Folder) and (isinstance(node, File) or there.names):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new)
        self._step("rename", new, self.volume.write_s)
        del source.names[source_name]
        target.names[target_name] = node
        target.changed()
        if source is not target:
            source.changed()

    def unlink(self, path: str) -> None:
        folder, name = self._folder(path)
        if name not in folder.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._step("unlink", path, self.volume.write_s)
        del folder.names[name]
        folder.changed()

    def sync_dir(self, path: str) -> None:
        node = self._node(path)
        if not isinstance(node, Folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._step("sync", path, self.volume.sync_s)
        if not self.volume.lies:
            node.sync()

    # For the helper that syncs the log.

    def file_of(self, fd: int) -> File:
        return self._file(fd)[0]

    def folder_of(self, fd: int) -> Folder:
        node = self._open[fd][0]
        assert isinstance(node, Folder)
        return node
