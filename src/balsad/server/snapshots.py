"""Raft snapshots: every so many entries the log is cut short, and old files go.

    v2 tree saved, in slices --> backend committed --> .snap file --> WAL snapshot record --> log compacted
        --> WAL segments released

Files are written and removed in a thread: what waits for the disk there keeps nobody waiting.

Source: etcd server/etcdserver/server.go (snapshot, purgeFile).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.raft import Snapshot, SnapshotOutOfDateError
from balsad.storage import StorageError
from balsad.storage.wal import WalSnapshot, purge_files

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.raft import MemoryLog
    from balsad.server.apply.dispatch import Applier
    from balsad.server.backend_commits import BackendCommits
    from balsad.server.tree_saves import TreeSaves
    from balsad.storage import DataDir, Snapshotter
    from balsad.storage.wal import Wal

log = logging.getLogger(__name__)

PURGE_INTERVAL_S: Final = 30.0
ENTRIES_AT_ONCE: Final = 5000


class Snapshots:
    def __init__(
        self,
        *,
        applier: Applier,
        log_storage: MemoryLog,
        saves: TreeSaves,
        wal: Wal,
        snapshotter: Snapshotter,
        commits: BackendCommits,
        disk: Disk,
        data_dir: DataDir,
        count: int,
        catchup_entries: int,
        snaps_max: int,
        wals_max: int,
        last_index: int,
        failed: Callable[[BaseException], None],
        observed: Callable[[float], None],
    ) -> None:
        """`observed` is told how many seconds each .snap file took."""
        self._observed = observed
        self._began = 0.0
        self._applier = applier
        self._log_storage = log_storage
        self._saves = saves
        self._wal = wal
        self._snapshotter = snapshotter
        self._commits = commits
        self._disk = disk
        self._data_dir = data_dir
        self._count = count
        self._catchup_entries = catchup_entries
        self._snaps_max = snaps_max
        self._wals_max = wals_max
        self._last_index = last_index
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._saving: Snapshot | None = None
        self._next: Snapshot | None = None
        self._purging = False
        self._stopped = False

    @property
    def is_idle(self) -> bool:
        """Whether no file is being written."""
        return self._saving is None

    def note(self, index: int) -> None:
        """A snapshot at `index` came from elsewhere."""
        self._last_index = max(self._last_index, index)

    def after_batch(self) -> None:
        """Entries were applied: begin a snapshot if there are enough of them."""
        applier = self._applier
        index = applier.applied_index
        if index - self._last_index <= self._count:
            return
        log.info(
            "triggering snapshot",
            extra={
                "local-member-applied-index": index,
                "local-member-snapshot-index": self._last_index,
                "local-member-snapshot-count": self._count,
            },
        )
        self._last_index = index
        term, conf_state = applier.applied_term, applier.conf_state

        def saved(data: bytes) -> None:
            # The db must hold what the snapshot stands for before the log is let go.
            snapshot = Snapshot(index, term, conf_state, data)
            self._commits.commit_then(lambda: self._save(snapshot))

        self._saves.save(saved)

    def _save(self, snapshot: Snapshot) -> None:
        if self._stopped:
            return
        if self._saving is not None:
            self._next = snapshot  # one after the other, as their records in the log
            return
        try:
            self._log_storage.create_snapshot(snapshot.index, snapshot.conf_state, snapshot.data)
        except SnapshotOutOfDateError:
            return  # while the db was committed, a newer one came from the leader
        self._saving = snapshot
        self._began = self._loop.time()
        self._loop.run_in_executor(None, self._snapshotter.save, snapshot).add_done_callback(self._saved)

    def _saved(self, saved: asyncio.Future[None]) -> None:
        snapshot, self._saving = self._saving, None
        assert snapshot is not None
        if self._stopped:
            return
        error = saved.exception()
        if error is not None:
            self._failed(error)
            return
        self._observed(self._loop.time() - self._began)
        try:
            self._record(snapshot)
        except StorageError as failure:
            self._failed(failure)
            return
        waiting, self._next = self._next, None
        if waiting is not None:
            self._save(waiting)

    def _record(self, snapshot: Snapshot) -> None:
        """The file is there: say so in the log, and let go of what came before."""
        if self._log_storage.snapshot().index != snapshot.index:
            return  # while it was written, a newer one came from the leader
        record = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        self._wal.save_snapshot(record, lambda: self._recorded(snapshot))

    def _recorded(self, snapshot: Snapshot) -> None:
        if self._stopped or self._log_storage.snapshot().index != snapshot.index:
            return
        self._wal.release_lock_to(snapshot.index)
        log.info("saved snapshot", extra={"snapshot-index": snapshot.index})
        # Followers that are a little behind are served from the entries kept.
        keep_from = max(1, snapshot.index - self._catchup_entries)
        if keep_from > self._log_storage.first_index():
            self._compact_log(keep_from)

    def _compact_log(self, keep_from: int) -> None:
        """Forget the entries up to `keep_from`: to free them all in one turn of the loop would be felt."""
        first = self._log_storage.first_index()
        if self._stopped or keep_from < first:
            return  # a snapshot came from the leader, and no entry is older
        index = min(keep_from, first - 1 + ENTRIES_AT_ONCE)
        self._log_storage.compact(index)
        if index < keep_from:
            self._loop.call_soon(self._compact_log, keep_from)
        else:
            log.info("compacted Raft logs", extra={"compact-index": keep_from})

    def stop(self) -> None:
        """Begin and finish no more of them; what is half done is as if it had never been begun."""
        self._stopped = True

    def begin_purge(self) -> None:
        """Do `purge` in a thread: to remove a log segment may take the disk as long as to write it."""
        if not self._purging and not self._stopped:
            self._purging = True
            self._loop.run_in_executor(None, self.purge).add_done_callback(self._purged)

    def _purged(self, purged: asyncio.Future[None]) -> None:
        self._purging = False
        error = purged.exception()
        if error is not None and not self._stopped:
            self._failed(error)

    def purge(self) -> None:
        """Remove the oldest snapshots and released WAL segments over the numbers to keep."""
        if self._snaps_max:
            for path in self._snapshotter.purge(self._snaps_max):
                log.info("purged", extra={"path": path})
        if self._wals_max:
            for path in purge_files(self._disk, self._data_dir.wal, ".wal", self._wals_max):
                log.info("purged", extra={"path": path})
