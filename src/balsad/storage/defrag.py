"""Writing the db file anew, without its free pages, while it is read and committed to.

    copy       the leaves of one pinned state go into a temporary file; what is committed meanwhile is noted
    catch up   what was noted is committed to the new file, and what was noted during that, and so on
    switch     when nothing is left to note, and no commit is under way: rename, and go on with the new file
    settle     the folder is synced; until then nothing may be committed, for a power cut can bring back the old file

Both files are whole: a crash leaves one of them under the name, and the other is removed at the next open.

Source: etcd server/mvcc/backend/backend.go (defrag), which holds all locks meanwhile.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from balsad.storage.backend import Backend
from balsad.storage.bolt.bulk import BulkWriter
from balsad.storage.bolt.db import Database, lock
from balsad.storage.bolt.page import may_hold_buckets
from balsad.storage.bolt.tree import View
from balsad.storage.commit_job import CommitJob
from balsad.storage.errors import StorageError, os_error
from balsad.storage.overlay import Changes, Overlay

log = logging.getLogger(__name__)

STEP_LEAVES: Final = 200
_STEP_BRANCHES: Final = 50
_STEP_CHANGES: Final = 20_000
BUFFER_BYTES: Final = 4 << 20
CATCH_UP_CHANGES: Final = 50_000
"""What was committed meanwhile is committed to the new file in pieces of so many changes, and one commit's more."""


class Next(Enum):
    """What a DefragJob wants to have done."""

    STEP = "step"
    FLUSH = "flush, in whichever thread, and step then"
    SWITCH = "switch, unless a commit is under way"
    CLOSE = "close; all is done"


class DefragJob:
    """One defragmentation. `step` says what is to be called next; any of it may raise StorageError: `close` it then."""

    def __init__(self, backend: Backend, *, leaves_per_step: int | None = None) -> None:
        """Begins with the state that the last commit left. Raises: StorageError."""
        assert backend.on_commit is None, "a defragmentation is under way"
        self._backend = backend
        self._leaves_per_step = STEP_LEAVES if leaves_per_step is None else leaves_per_step
        self._disk = disk = backend.disk
        self._sync = backend.sync
        self._old = backend.database
        number = 0
        while disk.exists(f"{backend.path}.tmp.{number}"):
            number += 1
        self._temporary = f"{backend.path}.tmp.{number}"
        self._fd = self._create()
        self._view: View | None = self._old.pin()
        self._bytes_before = (backend.size, backend.size_in_use)
        log.info("defragmenting", extra={"path": backend.path, **_sizes(*self._bytes_before)})
        self._writer = BulkWriter(disk, self._temporary, self._fd, self._view.page_size)
        self._names = sorted(self._view.buckets, reverse=True)
        self._leaves: Iterator[bytes] | None = None  # of the bucket under way
        self._is_copied = False
        self._copy: Backend | None = None
        self._commit: CommitJob | None = None
        # Of each commit since: the buckets that had gone before it, and what it changed.
        self._since: deque[tuple[list[bytes], dict[bytes, Changes]]] = deque()
        self._is_overtaken = False
        self._is_switched = False
        self._flush: Callable[[], None] | None = None
        self._known = set(self._view.buckets)
        self._release: Callable[[], None] | None = None
        backend.on_commit = self._on_commit
        backend.on_replace = self._on_replace

    def _create(self) -> int:
        disk, path = self._disk, self._temporary
        try:
            fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise os_error(path, "open", error) from error
        try:
            lock(disk, path, fd)
        except BaseException:
            disk.close(fd)
            self._remove()
            raise
        return fd

    # ---- what happens to the old file meanwhile

    def _on_commit(self, in_flight: dict[bytes, Overlay]) -> None:
        """A commit has ended, with these changes."""
        names = self._backend.database.view.buckets
        gone = sorted(self._known - names.keys())
        self._known = set(names)
        self._since.append((gone, {name: overlay.changes for name, overlay in in_flight.items()}))

    def _on_replace(self) -> None:
        """Another file has taken the place of the old one."""
        self._is_overtaken = True

    # ---- going on

    def step(self) -> Next:
        """Do a bounded piece of what is to be done in memory. Raises: StorageError."""
        if self._is_switched:
            return Next.CLOSE if self._flush is None else Next.FLUSH
        if self._is_overtaken:
            raise StorageError(self._temporary, "the database was replaced while it was defragmented")
        if self._flush is not None:
            return Next.FLUSH
        if not self._is_copied:
            return self._copy_some()
        if self._copy is None:
            return self._open_copy()
        return self._catch_up(self._copy)

    def flush(self) -> None:
        """Do what waits for the disk; in any thread, and nothing else of this job meanwhile. Raises: StorageError."""
        assert self._flush is not None
        self._flush()
        self._flush = None

    def _copy_some(self) -> Next:
        view, writer = self._view, self._writer
        assert view is not None
        if self._leaves is None:
            if not self._names:
                writer.finish()
                self._is_copied = True
                return self._to_flush(self._finish_copy)
            name = self._names[-1]
            bucket = view.buckets[name]
            writer.begin_bucket(name, bucket.sequence)
            if bucket.root:
                self._leaves = view.leaves(bucket.root)
            else:
                writer.add_leaf(bucket.inline)
                self._leaves = iter(())
        for _ in range(self._leaves_per_step):
            page = next(self._leaves, None)
            if page is None:
                if writer.end_bucket(_STEP_BRANCHES):
                    self._names.pop()
                    self._leaves = None
                break
            if may_hold_buckets(page):
                raise view.broken(int.from_bytes(page[:8], "little"), "plain keys", "a bucket inside a bucket")
            writer.add_leaf(page)
        return self._to_flush(writer.write_out) if writer.buffered >= BUFFER_BYTES else Next.STEP

    def _to_flush(self, flush: Callable[[], None]) -> Next:
        self._flush = flush
        return Next.FLUSH

    def _finish_copy(self) -> None:
        self._writer.write_out()
        try:
            if self._sync:
                self._disk.fsync(self._fd)
        except OSError as error:
            raise os_error(self._temporary, "fsync", error) from error

    def _open_copy(self) -> Next:
        self._unpin()
        # It has no free pages, so none have to be looked for.
        database = Database(self._disk, self._temporary, self._fd, sync=self._sync)
        self._copy = Backend(self._disk, self._temporary, database, sync=self._sync)
        return Next.STEP

    def _catch_up(self, copy: Backend) -> Next:
        """Commit to the new file what was committed to the old one."""
        commit = self._commit
        if commit is None:
            if not self._take_over_noted(copy):
                return Next.STEP
            if not self._since:
                for name in self._backend.database.view.buckets:
                    copy.create_bucket(name)
            self._commit = copy.commit_job()
            return Next.STEP if self._since or self._commit is not None else Next.SWITCH
        if not commit.step():
            return Next.STEP
        if not commit.is_flushed:
            return self._to_flush(commit.flush)
        commit.finish()
        self._commit = None
        return Next.STEP

    def _take_over_noted(self, copy: Backend) -> bool:
        """Put some of what was noted into the new file's pending changes; True when they are to be committed.

        That is at the end of a commit to the old file only: what is half of one must never be the state of a file.
        """
        taken = 0
        while self._since and copy.pending_ops < CATCH_UP_CHANGES:
            gone, changed = self._since[0]
            while gone:
                copy.delete_bucket(gone.pop())
            while changed:
                name, changes = changed.popitem()
                copy.create_bucket(name)
                pending = copy.pending_of(name)
                while changes and taken < _STEP_CHANGES:
                    key, value = changes.popitem()
                    pending[key] = value
                    taken += 1
                if changes:
                    changed[name] = changes
                    return False
            self._since.popleft()
        return True

    def switch(self) -> Next:
        """Go on with the new file, after `step` said so and without a commit under way; until `close` none may begin.

        Raises: StorageError.
        """
        backend, copy = self._backend, self._copy
        assert copy is not None and not self._since and not backend.committing
        if self._is_overtaken:
            return Next.STEP
        try:
            self._disk.rename(self._temporary, backend.path)
        except OSError as error:
            raise os_error(self._temporary, "rename", error) from error
        self._is_switched = True
        self._detach()
        copy.database.path = backend.path
        backend.take_over(copy.database)
        size, in_use = self._bytes_before
        log.info(
            "finished defragmenting directory",
            extra={
                "path": backend.path,
                "current-db-size-bytes-diff": backend.size - size,
                "current-db-size-in-use-bytes-diff": backend.size_in_use - in_use,
                **_sizes(backend.size, backend.size_in_use),
            },
        )
        self._release = self._old.retire()
        return self._to_flush(self._settle)

    def _settle(self) -> None:
        database = self._backend.database
        try:
            if self._sync:
                self._disk.sync_dir(os.path.dirname(self._backend.path) or ".")
        except OSError as error:
            # After a power cut the old file may be back: nothing may be promised on top of the new one.
            database.failure = os_error(self._backend.path, "fsync of its folder", error)
            raise database.failure from error
        finally:
            if self._release is not None:
                self._release()  # to give up a large file takes a while, too

    def _detach(self) -> None:
        self._backend.on_commit = None
        self._backend.on_replace = None

    def _unpin(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            self._old.unpin(view)

    def close(self) -> None:
        """Let go of everything; a new file that is not in use yet is removed."""
        self._unpin()
        if self._is_switched:
            return
        self._is_switched = True
        self._flush = None
        self._detach()
        if self._copy is not None:
            self._copy.abandon()
        else:
            self._disk.close(self._fd)
        self._remove()

    def _remove(self) -> None:
        try:
            self._disk.unlink(self._temporary)
        except OSError:
            pass  # the next open removes it


def _sizes(size: int, in_use: int) -> dict[str, int]:
    return {"current-db-size-bytes": size, "current-db-size-in-use-bytes": in_use}


def defragment(backend: Backend) -> None:
    """Commit what is pending and do all of it, at once. Open snapshots keep the old file.

    Raises: StorageError; when it was the new file that failed, the old one is still in use.
    """
    backend.commit()
    job = DefragJob(backend)
    try:
        following = Next.STEP
        while following is not Next.CLOSE:
            if following is Next.FLUSH:
                job.flush()
            following = job.switch() if following is Next.SWITCH else job.step()
    finally:
        job.close()
