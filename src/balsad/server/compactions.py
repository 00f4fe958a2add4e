"""Compactions under way: a batch of revisions at a time, with pauses, so that requests go on.

Source: etcd server/mvcc/kvstore_compaction.go (1000 revisions, then 10 ms).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from balsad.mvcc import CompactionJob
    from balsad.server.backend_commits import BackendCommits

log = logging.getLogger(__name__)


_BEHIND_S: Final = 0.002
_FREED_MANY: Final = 500


class Compactions:
    """Runs CompactionJobs one after the other."""

    def __init__(
        self,
        commits: BackendCommits,
        *,
        pause_s: float,
        failed: Callable[[BaseException], None],
        stepped: Callable[[CompactionJob, float], None],
        finished: Callable[[CompactionJob, float], None],
    ) -> None:
        """`stepped` is told how many seconds each piece took, `finished` how many each compaction did."""
        self._stepped = stepped
        self._finished = finished
        self._began: dict[CompactionJob, float] = {}
        self._commits = commits
        self._pause_s = pause_s
        self._failed = failed
        self._jobs: list[CompactionJob] = []
        self._waiting: list[tuple[CompactionJob, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        # What was deleted for the commit to come, which is the one after so many.
        self._deleted = 0
        self._commits_begun = commits.begun
        self._loop = asyncio.get_running_loop()

    @property
    def is_running(self) -> bool:
        return bool(self._jobs)

    def start(self, job: CompactionJob) -> None:
        self._jobs.append(job)
        self._began[job] = time.perf_counter()
        if self._timer is None:
            self._timer = self._loop.call_later(0, self._step)

    def when_done(self, done: Callable[[], None]) -> None:
        """Call `done` once all that is scheduled now is gone from the disk."""
        if self._jobs:
            self._waiting.append((self._jobs[-1], done))
        else:
            self._commits.commit_then(done)

    def replace(self, jobs: Iterable[CompactionJob]) -> None:
        """The store has become another, with these compactions to do. Who waits for one before is told after them."""
        waiting = [done for _, done in self._waiting]
        self.stop()
        for job in jobs:
            self.start(job)
        for done in waiting:
            self.when_done(done)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._jobs.clear()
        self._began.clear()
        self._waiting.clear()

    def _step(self) -> None:
        self._timer = None
        commits = self._commits
        if commits.begun != self._commits_begun:
            self._commits_begun = commits.begun
            self._deleted = 0
        if self._deleted >= commits.operations_max and commits.is_behind:
            # What is deleted faster than it is committed would pile up, and the one commit of it all be long. Puts
            # alone, which may fill every commit, do not keep it waiting.
            commits.after_batch()
            self._timer = self._loop.call_later(max(self._pause_s, _BEHIND_S), self._step)
            return
        began = time.perf_counter()
        try:
            job = self._jobs[0]
            before, grouped = commits.pending_ops, job.grouped
            finished = job.step()
            self._deleted += commits.pending_ops - before
            if job.grouped - grouped >= _FREED_MANY:
                # The collector counts what is freed against what was made meanwhile, and would have its next turn when
                # all is over, with what all puts since have left in one piece.
                gc.collect(1)
            self._stepped(self._jobs[0], time.perf_counter() - began)
            if not finished:
                self._timer = self._loop.call_later(self._pause_s, self._step)
                return
            job = self._jobs.pop(0)
            self._finished(job, time.perf_counter() - self._began.pop(job))
            if self._jobs:
                self._timer = self._loop.call_later(0, self._step)
            finished_for = [done for waits_for, done in self._waiting if waits_for is job]
            self._waiting = [pair for pair in self._waiting if pair[0] is not job]
            for done in finished_for:
                # A crash must not bring back what the caller was told is gone.
                self._commits.commit_then(done)
        except Exception as error:
            self._failed(error)
