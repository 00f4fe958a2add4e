"""Defragmentations of the db file, one after the other, while the member goes on serving.

    requested --> the backend commits --> DefragJob copies and catches up, a slice in each turn of the loop,
    its disk work in a thread --> commits are held back --> what the last one brought --> switch --> commits go on

Source: etcd server/etcdserver/api/v3rpc/maintenance.go (Defragment); etcd's serves nobody meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.storage import DefragJob, Next, StorageError

if TYPE_CHECKING:
    from balsad.server.backend_commits import BackendCommits
    from balsad.storage import Backend

log = logging.getLogger(__name__)


class Defrags:
    def __init__(
        self,
        backend: Backend,
        commits: BackendCommits,
        *,
        failed: Callable[[BaseException], None],
        expect_rush: Callable[[], None],
        observed: Callable[[float], None],
    ) -> None:
        """`failed` hears of what the member can't survive, `expect_rush` that much is about to be written.

        `observed` is told how many seconds each took.
        """
        self._observed = observed
        self._began = 0.0
        self._backend = backend
        self._expect_rush = expect_rush
        self._commits = commits
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._job: DefragJob | None = None
        self._waiting: deque[tuple[Callable[[], None], Callable[[str], None]]] = deque()
        self._holds = False
        self._flushed: asyncio.Future[None] | None = None
        self._stopped = False

    @property
    def is_running(self) -> bool:
        return bool(self._waiting)

    def start(self, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Write the db file anew, after whatever was asked for before; `failed` is told why it can't be."""
        self._waiting.append((done, failed))
        self._expect_rush()
        if len(self._waiting) == 1:
            self._commits.commit_then(self._begin)

    async def stop(self) -> None:
        """Give up what is not finished; the old file stays in use."""
        self._stopped = True
        if self._flushed is not None:
            await asyncio.wait([self._flushed])
        if self._job is not None:
            self._job.close()
            self._job = None

    def _begin(self) -> None:
        if self._stopped:
            return
        log.info("starting defragment")
        self._began = time.perf_counter()
        try:
            self._job = DefragJob(self._backend)
        except StorageError as error:
            self._end(error)
            return
        self._loop.call_soon(self._step)

    def _step(self) -> None:
        job = self._job
        if job is None or self._stopped:
            return
        try:
            self._go_on(job, job.step())
        except Exception as error:
            self._end(error)

    def _go_on(self, job: DefragJob, following: Next) -> None:
        if following is Next.SWITCH:
            if not self._holds:
                self._holds = True
                self._commits.hold(self._step)
                return
            following = job.switch()
        if following is Next.STEP:
            self._loop.call_soon(self._step)
        elif following is Next.FLUSH:
            self._expect_rush()
            self._flushed = self._loop.run_in_executor(None, job.flush)
            self._flushed.add_done_callback(self._on_flushed)
        else:
            self._end(None)

    def _on_flushed(self, flushed: asyncio.Future[None]) -> None:
        self._flushed = None
        if self._stopped:
            return
        error = flushed.exception()
        if error is not None:
            self._end(error)
        else:
            self._step()

    def _end(self, error: BaseException | None) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.close()
        done, failed = self._waiting[0]
        if isinstance(error, StorageError):
            log.warning("failed to defragment", extra={"error": str(error)})
            failed(str(error))
        elif error is not None:
            self._failed(error)
            return
        else:
            log.info("finished defragment")
            self._observed(time.perf_counter() - self._began)
            done()
        self._waiting.popleft()
        if self._holds:
            self._holds = False
            self._commits.release()
        if self._waiting:
            self._commits.commit_then(self._begin)
