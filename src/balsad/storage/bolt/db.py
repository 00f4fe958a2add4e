"""A bbolt file: opened, created, committed to, read by pinned readers.

The order of a commit is what makes it safe: grow and fsync, write new pages (never onto one that the last state
reaches), fdatasync, write the meta page, fdatasync. Whatever is lost on the way, the older meta still holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from balsad.env.protocols import Disk, Mapping
from balsad.storage.bolt.errors import DatabaseLockedError
from balsad.storage.bolt.freelist import Freelist, freelist_of, read_freelist_page
from balsad.storage.bolt.meta import NO_FREELIST, Meta, encode_meta, read_metas
from balsad.storage.bolt.page import (
    DEFAULT_PAGE_SIZE,
    FREELIST,
    HEADER,
    LEAF,
)
from balsad.storage.bolt.reach import unreachable_pages
from balsad.storage.bolt.runs import read_all_leaves
from balsad.storage.bolt.tree import View
from balsad.storage.bolt.tx import WriteTx
from balsad.storage.errors import StorageError, os_error

GROW_STEP: Final = 16 << 20
"""A file past its first MiB grows by this much or a sixteenth, so that few commits pay for an fsync and a new map."""
_EXACT_BELOW: Final = 1 << 20


def write_all(disk: Disk, path: str, fd: int, buffers: list[bytes], offset: int) -> None:
    """pwritev until all is written. Raises: StorageError."""
    total = sum(map(len, buffers))
    try:
        written = disk.pwritev(fd, buffers, offset)
        if written < total:
            rest = b"".join(buffers)
            while written < total:
                count = disk.pwrite(fd, rest[written:], offset + written)
                if count <= 0:
                    raise StorageError(path, f"pwrite: wrote {written} of {total} bytes", offset=offset)
                written += count
    except OSError as error:
        raise os_error(path, "write", error, offset=offset) from error


def empty_database(page_size: int = DEFAULT_PAGE_SIZE) -> bytes:
    """The bytes of a database without buckets, as bbolt makes it."""
    pages = b""
    for page_id in (0, 1):
        meta = Meta(page_size=page_size, root=3, sequence=0, freelist=2, high_water=4, txid=page_id)
        pages += encode_meta(page_id, meta, page_id)
    pages += HEADER.pack(2, FREELIST, 0, 0).ljust(page_size, b"\0")
    return pages + HEADER.pack(3, LEAF, 0, 0).ljust(page_size, b"\0")


class Database:
    """The open file. One owner; only `write` may run beside it in another thread."""

    __slots__ = ("_disk", "_fd", "_file_size", "_freelist", "_open", "_pinned", "_sync", "failure", "path", "view")

    def __init__(self, disk: Disk, path: str, fd: int, *, sync: bool) -> None:
        self.path = path
        self._disk = disk
        self._fd = fd
        self._sync = sync
        self._open = True
        self._pinned: list[View] = []
        self.failure: StorageError | None = None
        meta = read_metas(disk, fd, path)
        self._file_size = disk.size(fd)
        self.view = View(path, meta, self._map())
        self.view.load_buckets()
        # None until the free pages are known.
        self._freelist: Freelist | None = Freelist()

    @staticmethod
    def open(
        disk: Disk, path: str, *, read_only: bool = False, sync: bool = True, free_pages_later: bool = False
    ) -> Database:
        """Open the file; make it when it is missing or empty.

        `read_only` takes no lock, changes nothing and finds no free pages. Without `sync` nothing is ever synced.
        `free_pages_later`: they are found when `find_free_pages` is called, or else by the first commit; a bucket that
        is read by runs until then spares most of the work.
        Raises: DatabaseLockedError, CorruptDatabaseError, StorageError.
        """
        try:
            flags = os.O_RDONLY if read_only else os.O_RDWR
            if not read_only and not disk.exists(path):
                _create(disk, path, sync=sync)
            fd = disk.open(path, flags, 0o600)
        except OSError as error:
            raise os_error(path, "open", error) from error
        try:
            if not read_only:
                lock(disk, path, fd)
                if disk.size(fd) == 0:
                    write_all(disk, path, fd, [empty_database()], 0)
                    if sync:
                        disk.fdatasync(fd)
            database = Database(disk, path, fd, sync=sync)
            if not read_only:
                database._freelist = None
                database.view.plain_leaves = bytearray(database.view.high_water)
                if not free_pages_later:
                    database.find_free_pages()
        except OSError as error:
            disk.close(fd)
            raise os_error(path, "open", error) from error
        except BaseException:
            disk.close(fd)
            raise
        return database

    def _map(self) -> Mapping:
        return self._disk.map(self._fd, self._file_size)

    @property
    def freelist(self) -> Freelist:
        """Which pages are free. Raises: CorruptDatabaseError, when it has to be found out first."""
        if self._freelist is None:
            self._freelist = self._load_freelist()
            self.view.plain_leaves = None
        return self._freelist

    @property
    def knows_free_pages(self) -> bool:
        return self._freelist is not None

    def find_free_pages(self) -> None:
        """Read the stored freelist, or find what no bucket reaches, unless it is known.

        Raises: CorruptDatabaseError.
        """
        assert self.freelist is not None

    def _load_freelist(self) -> Freelist:
        view = self.view
        page_id = view.meta.freelist
        if page_id == NO_FREELIST:
            if view.plain_leaves is not None:
                read_all_leaves(view, self.read)
            return freelist_of(unreachable_pages(view))
        offset = page_id * view.page_size
        overflow = int.from_bytes(view.mapping[offset + 12 : offset + 16], "little")
        page = view.mapping[offset : offset + (overflow + 1) * view.page_size]
        return freelist_of(read_freelist_page(self.path, page_id, page, view.page_size, view.high_water))

    # ---- writing

    def write(self, tx: WriteTx) -> None:
        """Bring a sealed transaction to the disk: pages, barrier, meta, barrier. May run in another thread.

        Raises: StorageError; after that nothing is written any more, because what a failed sync left behind on the
        disk is unknown.
        """
        if self.failure is not None:
            raise self.failure
        disk, path, fd = self._disk, self.path, self._fd
        action = "ftruncate"
        try:
            need = tx.high_water * tx.page_size
            if need > self._file_size:
                size = need
                if need > _EXACT_BELOW:
                    step = max(GROW_STEP, (need >> 4) // GROW_STEP * GROW_STEP)
                    size = (need + step - 1) // step * step
                disk.ftruncate(fd, size)
                action = "fsync"
                if self._sync:
                    disk.fsync(fd)
                self._file_size = size
            for offset, pages in tx.writes():
                write_all(disk, path, fd, pages, offset)
            action = "fdatasync"
            if self._sync:
                disk.fdatasync(fd)
            offset, meta = tx.meta_page()
            write_all(disk, path, fd, [meta], offset)
            if self._sync:
                disk.fdatasync(fd)
        except OSError as error:
            self.failure = os_error(path, action, error)
            raise self.failure from error
        except StorageError as error:
            self.failure = error
            raise

    def publish(self, tx: WriteTx) -> None:
        """Make a written transaction the state that is read."""
        old = self.view
        mapping = old.mapping
        if tx.high_water * tx.page_size > len(mapping):
            mapping = self._map()
        view = View(self.path, tx.meta, mapping)
        view.buckets = tx.buckets
        branches = old.branches
        old.branches = {}
        for page_id, _ in tx.freed:
            branches.pop(page_id, None)
        branches.update(tx.branches)
        view.branches = branches
        self.view = view
        self._unmap(old.mapping)
        self.freelist.freed(tx.txid, tx.freed)

    def _unmap(self, mapping: Mapping) -> None:
        """Close a map that no view uses any more. Left to chance, it would keep the file open, and with that locked."""
        if mapping is not self.view.mapping and not any(view.mapping is mapping for view in self._pinned):
            mapping.close()

    # ---- readers

    def pin(self) -> View:
        """The current state, kept readable until `unpin`."""
        view = View(self.path, self.view.meta, self.view.mapping)
        view.buckets = self.view.buckets
        self.freelist.readers.append(view.txid)
        self._pinned.append(view)
        return view

    def unpin(self, view: View) -> None:
        """Let go of a pinned state; its pages must not be read any more."""
        self.freelist.readers.remove(view.txid)
        self._pinned.remove(view)
        self._unmap(view.mapping)
        if not self._open and not self._pinned:
            self._release()

    def read(self, count: int, offset: int) -> bytes:
        """Bytes of the file, without a fault on the map. Raises: StorageError."""
        try:
            return self._disk.pread(self._fd, count, offset)
        except OSError as error:
            raise os_error(self.path, "read", error, offset=offset) from error

    def close(self) -> None:
        """Give the file back; pinned readers may finish first."""
        if self._open:
            self._open = False
            if not self._pinned:
                self._release()

    def retire(self) -> Callable[[], None] | None:
        """As `close`, but what takes long is left to the caller, to be done in any thread: None when nothing is.

        Then pinned readers are left, and the last of them does it.
        """
        if not self._open:
            return None
        self._open = False
        return None if self._pinned else self._release

    def _release(self) -> None:
        self.view.mapping.close()
        self._disk.close(self._fd)


def lock(disk: Disk, path: str, fd: int) -> None:
    """Raises: DatabaseLockedError."""
    try:
        disk.lock(fd)
    except BlockingIOError as error:
        raise DatabaseLockedError(path) from error
    except OSError as error:
        raise os_error(path, "flock", error) from error


def _create(disk: Disk, path: str, *, sync: bool) -> None:
    """Make an empty database whole or not at all: through a temporary file."""
    temporary = f"{path}.tmp.0"
    fd = disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(disk, temporary, fd, [empty_database()], 0)
        if sync:
            disk.fsync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, path)
    if sync:
        disk.sync_dir(os.path.dirname(path) or ".")
