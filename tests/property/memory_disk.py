"""A disk in memory that can lose its power: what was not synced may be there, in part, or not."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from balsad.env import Mapping

SECTOR = 512


class PowerCut(BaseException):
    """The machine went off; no `except Exception` stops it."""


class Inode:
    """A file: what is on the platter, and what was done to it since the last sync."""

    def __init__(self) -> None:
        self.content = bytearray()  # as the running system sees it
        self.durable = bytearray()
        self.pending: list[tuple[str, int, bytes]] = []
        self.locked_by: int | None = None

    def sync(self) -> None:
        self.durable[:] = self.content
        self.pending.clear()

    def after_cut(self, rnd: random.Random, tears: bool = False) -> Inode:
        """What a reboot finds: of each unsynced write any of its sectors, of unsynced truncations any.

        With `tears` a sector may be there in part, up to any byte of it, as no disk promises it will not.
        """
        survivor = Inode()
        data = survivor.content
        data[:] = self.durable
        keep = rnd.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        for kind, offset, written in self.pending:
            if kind == "truncate":
                if rnd.random() < keep:
                    resize(data, offset)
                continue
            at = 0
            while at < len(written):
                end = min(len(written), at + SECTOR - (offset + at) % SECTOR)
                if rnd.random() < keep:
                    until = rnd.randint(at, end) if tears and rnd.random() < 0.2 else end
                    if len(data) < offset + until:
                        resize(data, offset + until)
                    data[offset + at : offset + until] = written[at:until]
                at = end
        survivor.durable[:] = data
        return survivor


def resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


class MemoryMapping:
    """Shows what is written meanwhile, as a shared mapping does."""

    def __init__(self, inode: Inode, length: int) -> None:
        self.inode = inode
        self.length = length

    def __getitem__(self, index: slice, /) -> bytes:
        start, stop, _ = index.indices(self.length)
        return bytes(self.inode.content[start:stop])

    def __len__(self) -> int:
        return self.length

    def close(self) -> None:
        pass


class MemoryDisk:
    """env.Disk over dicts. Folders are ordered journals: a cut keeps a prefix of the changes not yet synced."""

    def __init__(self) -> None:
        self.names: dict[str, Inode | None] = {"/": None}  # None is a folder
        self.journal: list[dict[str, Inode | None]] = [dict(self.names)]  # states since the last sync of a folder
        self.open_files: dict[int, Inode] = {}
        self.positions: dict[int, int] = {}
        self.next_fd = 100
        self.operations = 0
        self.cut_at = -1  # the operation before which the power goes

    def restart(self, rnd: random.Random, tears: bool = False) -> MemoryDisk:
        """The disk after a reboot; with `tears` sectors may be there in part."""
        disk = MemoryDisk()
        names = rnd.choice(self.journal)
        reborn: dict[int, Inode] = {}
        disk.names = {}
        for name, inode in names.items():
            if inode is None:
                disk.names[name] = None
            else:
                if id(inode) not in reborn:
                    reborn[id(inode)] = inode.after_cut(rnd, tears)
                disk.names[name] = reborn[id(inode)]
        disk.journal = [dict(disk.names)]
        return disk

    def _step(self) -> None:
        if 0 <= self.cut_at <= self.operations:
            raise PowerCut
        self.operations += 1

    def _changed_names(self) -> None:
        self.journal.append(dict(self.names))

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._step()
        if path not in self.names:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(2, "No such file or directory", path)
            if os.path.dirname(path) not in self.names:
                raise FileNotFoundError(2, "No such file or directory", path)
            self.names[path] = Inode()
            self._changed_names()
        inode = self.names[path]
        if inode is None:
            inode = Inode()
        elif flags & os.O_TRUNC:
            inode.content.clear()
            inode.pending.append(("truncate", 0, b""))
        self.next_fd += 1
        self.open_files[self.next_fd] = inode
        self.positions[self.next_fd] = 0
        return self.next_fd

    def close(self, fd: int) -> None:
        inode = self.open_files.pop(fd)
        if inode.locked_by == fd:
            inode.locked_by = None

    def read(self, fd: int, count: int) -> bytes:
        chunk = self.pread(fd, count, self.positions[fd])
        self.positions[fd] += len(chunk)
        return chunk

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return bytes(self.open_files[fd].content[offset : offset + count])

    def write(self, fd: int, data: bytes) -> int:
        self.pwrite(fd, data, self.positions[fd])
        self.positions[fd] += len(data)
        return len(data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._step()
        inode = self.open_files[fd]
        if len(inode.content) < offset + len(data):
            resize(inode.content, offset + len(data))
        inode.content[offset : offset + len(data)] = data
        inode.pending.append(("write", offset, bytes(data)))
        return len(data)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return self.pwrite(fd, b"".join(buffers), offset)

    def fsync(self, fd: int) -> None:
        self._step()
        self.open_files[fd].sync()

    fdatasync = fsync

    def begin_write(self, fd: int, offset: int, count: int) -> None:
        """What was written may survive a cut anyway."""

    def ftruncate(self, fd: int, length: int) -> None:
        self._step()
        inode = self.open_files[fd]
        resize(inode.content, length)
        inode.pending.append(("truncate", length, b""))

    def fallocate(self, fd: int, offset: int, length: int) -> None:
        if len(self.open_files[fd].content) < offset + length:
            self.ftruncate(fd, offset + length)

    def size(self, fd: int) -> int:
        return len(self.open_files[fd].content)

    def seek(self, fd: int, offset: int) -> None:
        self.positions[fd] = offset

    def lock(self, fd: int) -> None:
        inode = self.open_files[fd]
        if inode.locked_by is not None:
            raise BlockingIOError
        inode.locked_by = fd

    def map(self, fd: int, length: int) -> Mapping:
        return MemoryMapping(self.open_files[fd], length)

    def exists(self, path: str) -> bool:
        return path in self.names

    def is_dir(self, path: str) -> bool:
        return path in self.names and self.names[path] is None

    def listdir(self, path: str) -> list[str]:
        if not self.is_dir(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        prefix = path.rstrip("/") + "/"
        return sorted(name[len(prefix) :] for name in self.names if name.startswith(prefix) and name != prefix)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        self._step()
        self.names.setdefault(path, None)
        self._changed_names()

    def rename(self, old: str, new: str) -> None:
        self._step()
        if old not in self.names:
            raise FileNotFoundError(2, "No such file or directory", old)
        moved = {
            new + name[len(old) :]: inode
            for name, inode in self.names.items()
            if name == old or name.startswith(old + "/")
        }
        for name in [name for name in self.names if name == old or name.startswith(old + "/")]:
            del self.names[name]
        self.names.update(moved)
        self._changed_names()

    def unlink(self, path: str) -> None:
        self._step()
        if path not in self.names:
            raise FileNotFoundError(2, "No such file or directory", path)
        del self.names[path]
        self._changed_names()

    def sync_dir(self, path: str) -> None:
        self._step()
        self.journal = [dict(self.names)]
