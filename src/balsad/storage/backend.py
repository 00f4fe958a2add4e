"""The live store: a bbolt file behind a batch of pending writes.

    put, delete --> pending --commit_job()--> in flight --step(), flush(), finish()--> the file's state
    get, scan   <-- pending, else             in flight, else                          the file's state

What was put is read back at once, and is on disk once a commit ended; until then the write-ahead log stands for it.
A commit is three parts, so that it never holds up the event loop: `step` builds a bounded piece of the new pages,
`flush` writes and syncs (in a thread, if wished), `finish` shows the new state. Puts and reads go on meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Final

from balsad.env.protocols import Disk
from balsad.storage import schema
from balsad.storage.bolt.db import Database
from balsad.storage.bolt.digest import ContentHashJob
from balsad.storage.bolt.errors import BucketNotFoundError
from balsad.storage.bolt.page import KEY_SIZE_MAX
from balsad.storage.bolt.runs import LeafRun, leaf_runs
from balsad.storage.bolt.snapshot import BackendSnapshot
from balsad.storage.bolt.tree import Stretch, stretch_of
from balsad.storage.bolt.tx import WriteTx
from balsad.storage.commit_job import CommitJob
from balsad.storage.errors import StorageError, os_error
from balsad.storage.overlay import Changes, Overlay

BATCH_LIMIT: Final = 10_000
_CHANGED_AT_ONCE: Final = 1000


class Backend:
    """See the module's head. One thread owns it."""

    __slots__ = (
        "_created",
        "_job",
        "_pending",
        "_size",
        "_size_in_use",
        "_takers",
        "batch_limit",
        "before_commit",
        "commit_count",
        "database",
        "disk",
        "in_flight",
        "on_commit",
        "on_replace",
        "path",
        "sync",
    )

    def __init__(
        self, disk: Disk, path: str, database: Database, *, batch_limit: int = BATCH_LIMIT, sync: bool = True
    ) -> None:
        self.disk = disk
        self.sync = sync
        self.path = path
        self.database = database
        self.batch_limit = batch_limit
        self.before_commit: list[Callable[[], None]] = []
        self.commit_count = 0
        # A defragmentation wants to know what is committed meanwhile, and whether the file is replaced.
        self.on_commit: Callable[[dict[bytes, Overlay]], None] | None = None
        self.on_replace: Callable[[], None] | None = None
        self.in_flight: dict[bytes, Overlay] = {}
        self._pending: dict[bytes, Overlay] = {name: Overlay({}) for name in database.view.buckets}
        self._created: list[bytes] = []
        self._takers: dict[bytes, Callable[[Changes], None]] = {}
        self._job: CommitJob | None = None
        self._size = 0
        self._size_in_use = 0
        self._note_size()

    @staticmethod
    def open(
        disk: Disk, path: str, *, batch_limit: int = BATCH_LIMIT, sync: bool = True, free_pages_later: bool = False
    ) -> Backend:
        """Open the database file, or make it; unfinished defrag files beside it are removed.

        Without `sync` a power cut may lose or break it (etcd's --unsafe-no-fsync). `free_pages_later`: see Database.
        Raises: DatabaseLockedError, CorruptDatabaseError, StorageError.
        """
        database = Database.open(disk, path, sync=sync, free_pages_later=free_pages_later)
        folder, name = os.path.split(path)
        try:
            for other in disk.listdir(folder or "."):
                if other.startswith(f"{name}.tmp."):
                    disk.unlink(os.path.join(folder, other))
        except OSError as error:
            database.close()
            raise os_error(path, "remove temporary files", error) from error
        return Backend(disk, path, database, batch_limit=batch_limit, sync=sync)

    # ---- writing

    def create_bucket(self, bucket: bytes) -> None:
        """Make a bucket, unless there is one."""
        if bucket not in self._pending:
            self._renew(bucket)
            self._created.append(bucket)

    def _renew(self, bucket: bytes) -> None:
        """Begin anew with the bucket's pending changes; what they were is left as it is."""
        overlay = self._pending[bucket] = Overlay({})
        taker = self._takers.get(bucket)
        if taker is not None:
            taker(overlay.changes)

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        """Set a key. Raises: BucketNotFoundError."""
        assert 0 < len(key) <= KEY_SIZE_MAX
        try:
            self._pending[bucket].changes[key] = value
        except KeyError:
            raise BucketNotFoundError(self.path, bucket) from None

    def delete(self, bucket: bytes, key: bytes) -> None:
        """Remove a key, whether it is there or not. Raises: BucketNotFoundError."""
        self.pending_of(bucket)[key] = None

    def delete_bucket(self, bucket: bytes) -> None:
        """Remove a bucket with all keys, whether it is there or not. Commits what is pending, and itself."""
        if bucket in self._pending:
            self.commit()
            tx, release = self._begin()
            tx.delete_bucket(bucket)
            del self._pending[bucket]
            self._job = CommitJob(self, tx, release, [])
            self._job.complete()

    def pending_overlay(self, bucket: bytes) -> Overlay:
        """Raises: BucketNotFoundError."""
        try:
            return self._pending[bucket]
        except KeyError:
            raise BucketNotFoundError(self.path, bucket) from None

    def pending_of(self, bucket: bytes) -> Changes:
        """The changes of a bucket that no commit has taken yet, for writing into directly: key to value, or to None.

        The next commit takes it, and there is another one then. Entries may be set, never taken out.
        Raises: BucketNotFoundError.
        """
        try:
            return self._pending[bucket].changes
        except KeyError:
            raise BucketNotFoundError(self.path, bucket) from None

    def lend_pending(self, bucket: bytes, take: Callable[[Changes], None]) -> None:
        """Call `take` with what `pending_of` gives, now and whenever that is another dict; one taker for a bucket.

        Raises: BucketNotFoundError.
        """
        take(self.pending_of(bucket))
        self._takers[bucket] = take

    @property
    def pending_ops(self) -> int:
        """Changes that no commit has taken; the owner commits when they reach `batch_limit`."""
        count = len(self._created)
        for overlay in self._pending.values():
            count += len(overlay.changes)
        return count

    # ---- reading

    def has_bucket(self, bucket: bytes) -> bool:
        return bucket in self._pending

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        """The value of a key, or None. Raises: BucketNotFoundError."""
        try:
            changes = self._pending[bucket].changes
        except KeyError:
            raise BucketNotFoundError(self.path, bucket) from None
        if key in changes:
            return changes[key]
        if self.in_flight:
            overlay = self.in_flight.get(bucket)
            if overlay is not None and key in overlay.changes:
                return overlay.changes[key]
        view = self.database.view
        return view.get(bucket, key) if bucket in view.buckets else None

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]:
        """The items from `start` up to but without `end` (None: to the last), ascending; `limit` 0 is no limit.

        Raises: BucketNotFoundError.
        """
        try:
            pending = self._pending[bucket]
        except KeyError:
            raise BucketNotFoundError(self.path, bucket) from None
        view = self.database.view
        in_file = bucket in view.buckets
        overlay = self.in_flight.get(bucket)
        if in_file and overlay is None and not pending.changes:
            keys, values = view.scan(bucket, start, end, limit)
            return list(zip(keys, values, strict=True))
        items: list[tuple[bytes, bytes]] = []
        while True:
            # A stretch that begins at `start`: as far as the file's keys go that the limit asks for, and no further
            # than so many changes; a reader of few old keys does not pay for all that waits to be committed.
            wanted = limit - len(items) if limit else 0
            changes_max = 2 * wanted + 64 if limit else sys.maxsize
            keys, values = view.scan(bucket, start, end, wanted) if in_file else ([], [])
            stop = keys[-1] + b"\0" if wanted and len(keys) == wanted else end
            changes: Changes = {}
            if overlay is not None:
                stop = overlay.collect(start, stop, changes_max, changes)
            stop = pending.collect(start, stop, changes_max, changes)
            merged: Changes = dict(zip(keys, values, strict=True))
            merged.update(changes)
            for key in sorted(merged):
                if stop is not None and key >= stop:
                    break
                value = merged[key]
                if value is not None:
                    items.append((key, value))
                    if len(items) == limit:
                        return items
            if stop is None or stop == end:
                return items
            start = stop

    def stretches(self, bucket: bytes) -> Iterator[Stretch]:
        """All items of a bucket in order, many at a time, hardly unpacked; nobody may write meanwhile.

        Raises: BucketNotFoundError, CorruptDatabaseError.
        """
        view = self.database.view
        if bucket in view.buckets and bucket not in self.in_flight and not self.pending_of(bucket):
            return view.stretches(bucket)
        items = self.scan(bucket, b"", None)
        return iter((stretch_of([key for key, _ in items], [value for _, value in items]),))

    def runs(self, bucket: bytes, key_size: int) -> Iterator[LeafRun] | None:
        """All items of a bucket as `leaf_runs` gives them, if all are in the file; nobody may write meanwhile.

        Raises: BucketNotFoundError, CorruptDatabaseError.
        """
        view = self.database.view
        if bucket in view.buckets and bucket not in self.in_flight and not self.pending_of(bucket):
            return leaf_runs(view, bucket, key_size, self.database.read)
        return None

    def stretches_between(
        self, bucket: bytes, start: bytes, end: bytes, page_bytes: int
    ) -> tuple[list[Stretch], bytes | None]:
        """The next items from `start` up to but without `end`, and the key from which to go on: None at the end.

        As many as are on leaves of so many bytes, or a limited number of those not yet in the file.
        Raises: BucketNotFoundError, CorruptDatabaseError.
        """
        pending = self.pending_overlay(bucket)
        overlay = self.in_flight.get(bucket)
        view = self.database.view
        found: list[Stretch] = []
        following: bytes | None = None
        if bucket in view.buckets:
            found, following = view.stretches_between(bucket, start, end, page_bytes)
        stop = end if following is None else following
        if pending.touches(start, stop) or (overlay is not None and overlay.touches(start, stop)):
            items = self.scan(bucket, start, stop, _CHANGED_AT_ONCE)
            if len(items) == _CHANGED_AT_ONCE:
                following = items[-1][0] + b"\0"
            found = [stretch_of([key for key, _ in items], [value for _, value in items])]
        return found, following

    # ---- committing

    @property
    def committing(self) -> bool:
        """Whether a commit job is not finished yet."""
        return self._job is not None

    def commit_job(self, *, with_hooks: bool = False) -> CommitJob | None:
        """Start a commit of all that is pending; None when there is nothing. Only one at a time.

        `with_hooks` asks the hooks also when nothing else is pending: they may have something to add.
        Raises: StorageError when an earlier write failed: this backend will never commit again.
        """
        self._check()
        assert self._job is None, "a commit is under way"
        if not self.pending_ops and not with_hooks:
            return None
        self._run_hooks()
        return self._start() if self.pending_ops else None

    def _check(self) -> None:
        if self.database.failure is not None:
            raise self.database.failure

    def _begin(self) -> tuple[WriteTx, list[tuple[int, int]]]:
        freelist = self.database.freelist
        tx = WriteTx(self.database.view, freelist)
        return tx, freelist.begin(tx.txid)

    def _run_hooks(self) -> None:
        for hook in self.before_commit:
            hook()

    def _start(self) -> CommitJob:
        tx, release = self._begin()
        for name in self._created:
            tx.create_bucket(name)
        self._created = []
        names: list[bytes] = []
        for name, overlay in self._pending.items():
            if overlay.changes:
                self.in_flight[name] = overlay
                names.append(name)
        for name in names:
            self._renew(name)
        job = CommitJob(self, tx, release, names)
        self._job = job
        return job

    def finished(self, job: CommitJob, tx: WriteTx) -> list[Changes]:
        """For CommitJob alone: take over the state it wrote. Gives the changes that nobody needs any more."""
        assert job is self._job
        self.database.publish(tx)
        in_flight, self.in_flight = self.in_flight, {}
        self._job = None
        self.commit_count += 1
        self._note_size()
        if self.on_commit is not None:
            self.on_commit(in_flight)
            return []
        return [overlay.changes for overlay in in_flight.values()]

    def commit(self) -> None:
        """Bring all that was put to the disk, before returning. A job under way is finished first.

        Raises: StorageError.
        """
        self._check()
        if self._job is not None:
            self._job.complete()
        self._run_hooks()
        if self.pending_ops:
            self._start().complete()

    # ---- the file as a whole

    def _note_size(self) -> None:
        database = self.database
        view = database.view
        self._size = view.high_water * view.page_size
        self._size_in_use = -1
        if database.knows_free_pages:
            self._size_in_use = self._size - database.freelist.free_count * view.page_size

    @property
    def size(self) -> int:
        """Bytes of all pages that were ever allocated: etcd's dbSize."""
        return self._size

    @property
    def size_in_use(self) -> int:
        """`size` without the pages that were free after the last commit: etcd's dbSizeInUse."""
        if self._size_in_use < 0:
            self.find_free_pages()
        return self._size_in_use

    def find_free_pages(self) -> None:
        """What `free_pages_later` left, if no commit has done it. Raises: CorruptDatabaseError."""
        self.database.find_free_pages()
        self._note_size()

    @property
    def open_readers(self) -> int:
        """Open snapshots."""
        return len(self.database.freelist.readers)

    def snapshot(self) -> BackendSnapshot:
        """The database as it is now, pinned; commits first. Close it soon: it keeps replaced pages from reuse."""
        self.commit()
        return BackendSnapshot(self.database)

    def committed_snapshot(self) -> BackendSnapshot:
        """As `snapshot`, but as the last commit left it: nothing has to be written first."""
        return BackendSnapshot(self.database)

    def hash_job(self) -> ContentHashJob:
        """The work of `hash`, in slices, over the database as the last commit left it; to be closed."""
        return ContentHashJob(self.database, schema.HASH_IGNORED)

    def hash(self) -> int:
        """crc32c over all buckets but the keys of `meta` that differ between members; commits first.

        Source: etcd Maintenance.Hash.
        """
        self.commit()
        job = self.hash_job()
        try:
            while not job.step():
                pass
            return job.value
        finally:
            job.close()

    def take_over(self, database: Database) -> None:
        """Go on with another file of the same content, which stands under this one's path already. For DefragJob alone.

        No commit may be under way; the old file is the caller's to retire.
        """
        assert self._job is None, "a commit is under way"
        self.database = database
        self._note_size()

    def replace(self, path: str) -> None:
        """Go on with the database file at `path`, which takes the place of this one's.

        What is pending is dropped, for the other file is later; open snapshots keep the old one. No commit may be
        under way. Raises: StorageError; when the other file cannot be opened, the old one is still in use.
        """
        retired = self.replace_by(Backend(self.disk, path, Database.open(self.disk, path, sync=self.sync)))
        if retired is not None:
            retired()

    def replace_by(self, other: Backend) -> Callable[[], None] | None:
        """As `replace`, by the file of a backend to which nothing was written, and which is used no more.

        Gives what is left to be done to the old file, in any thread; None when open snapshots keep it.
        Raises: StorageError; then the other file is closed, and the old one still in use.
        """
        assert self._job is None, "a commit is under way"
        database = other.database
        try:
            self.disk.rename(other.path, self.path)
            if self.sync:
                self.disk.sync_dir(os.path.dirname(self.path) or ".")
        except OSError as error:
            database.close()
            raise os_error(other.path, "rename", error) from error
        database.path = database.view.path = self.path
        old = self.database
        self.database = database
        retired = old.retire()
        if self.on_replace is not None:
            self.on_replace()
        self._created = []
        for overlay in self._pending.values():
            overlay.clear()
        for name in self._pending:
            if name not in database.view.buckets:
                self._created.append(name)
        for name in database.view.buckets:
            if name not in self._pending:
                self._pending[name] = Overlay({})
        self._note_size()
        return retired

    def refuse(self, error: Exception) -> None:
        """Commit nothing any more: what is pending may be nowhere else."""
        if self.database.failure is None:
            if isinstance(error, StorageError):
                self.database.failure = error
            else:
                self.database.failure = StorageError(self.path, f"nothing is stored after: {error}")

    def abandon(self) -> None:
        """Give the file back without another write. No commit may be under way elsewhere."""
        self.database.close()

    def close(self) -> None:
        """Commit what is pending, unless a write failed before, and give the file back."""
        try:
            if self.database.failure is None:
                self.commit()
        finally:
            self.database.close()
