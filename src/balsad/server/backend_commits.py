"""The backend's own beat: what was applied reaches the db file every 100 ms, or after 10,000 writes.

Pages are built in slices between turns of the event loop; the waiting for the
disk happens in a thread, since nobody waits for it here: durability is the
WAL's, and `consistent_index` in the same commit says where replay begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.server.disposal import Disposal

if TYPE_CHECKING:
    from balsad.storage import Backend, CommitJob


class BackendCommits:
    def __init__(
        self,
        backend: Backend,
        *,
        interval_s: float,
        operations_max: int,
        failed: Callable[[BaseException], None],
        observed: Callable[[float, float, float], None],
    ) -> None:
        """`observed` is told how many seconds each commit took: all of it, building its pages, writing them."""
        self._backend = backend
        self._interval_s = interval_s
        self.operations_max = operations_max
        self.begun = 0
        """Commits so far, with the one under way."""
        self._failed = failed
        self._observed = observed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._job: CommitJob | None = None
        self._began = 0.0
        self._built_s = 0.0
        self._flush_began = 0.0
        self._flush_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._disposal = Disposal()
        self._committed: list[Callable[[], None]] = []  # wait for the commit under way
        self._next: list[Callable[[], None]] = []  # wait for one that has yet to begin
        self._is_telling = False
        self._held = False
        self._holder: Callable[[], None] | None = None  # waits for the one under way, to hold back the next
        self._arm()

    def _arm(self) -> None:
        if self._held:
            holder, self._holder = self._holder, None
            if holder is not None:
                holder()
        elif self._next:
            self._begin()
        else:
            self._timer = self._loop.call_later(self._interval_s, self._begin)

    def commit_then(self, done: Callable[[], None]) -> None:
        """Call `done` once all that is written to the backend now is on disk, with no commit under way."""
        self._next.append(done)
        self._begin_early()

    def hold(self, held: Callable[[], None]) -> None:
        """Begin no commit before `release`; call `held` as soon as none is under way."""
        assert not self._held
        self._held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._job is None:
            held()
        else:
            self._holder = held

    def release(self) -> None:
        """Commits may go on."""
        self._held = False
        self._holder = None
        if self._job is None and not self._stopped:
            self._arm()
            self.after_batch()

    @property
    def pending_ops(self) -> int:
        """Changes that wait for the next commit."""
        return self._backend.pending_ops

    @property
    def is_behind(self) -> bool:
        """Whether as much waits for the next commit as makes it begin early."""
        pending = self._backend.pending_ops
        # A limit below one is passed by nothing at all: then nobody would ever be done waiting.
        return pending > 0 and pending >= self.operations_max

    def after_batch(self) -> None:
        """A batch was applied: commit now if the pending writes have grown large."""
        pending = self._backend.pending_ops
        if pending and pending >= self.operations_max:
            self._begin_early()

    def _begin_early(self) -> None:
        if self._job is None and not self._held and not self._stopped and not self._is_telling:
            if self._timer is not None:
                self._timer.cancel()
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        if self._job is not None or self._held or self._stopped:
            return
        try:
            self._began = time.perf_counter()
            # Entries that change nothing leave nothing pending, and yet a snapshot wants the db as far as they are.
            self._job = self._backend.commit_job(with_hooks=bool(self._next))
        except Exception as error:
            self._failed(error)
            return
        self._committed, self._next = self._next, []
        if self._job is None:
            self._end(None)
            return
        self.begun += 1
        self._built_s = self._flush_s = 0.0
        self._idle.clear()
        self._loop.call_soon(self._step)

    def _step(self) -> None:
        job = self._job
        if job is None:
            return
        began = time.perf_counter()
        try:
            if not job.step():
                self._built_s += time.perf_counter() - began
                self._loop.call_soon(self._step)
                return
        except Exception as error:
            self._end(error)
            return
        self._flush_began = time.perf_counter()
        self._built_s += self._flush_began - began
        flushed = self._loop.run_in_executor(None, job.flush)
        flushed.add_done_callback(self._flushed)

    def _flushed(self, flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        self._flush_s = time.perf_counter() - self._flush_began
        if error is None:
            job = self._job
            assert job is not None
            try:
                job.finish()
            except Exception as finish_error:
                error = finish_error
            else:
                if job.is_large:
                    self._disposal.take(job)
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        was_empty = self._job is None
        self._job = None
        self._idle.set()
        if error is not None:
            self._failed(error)
            return
        if not was_empty:
            self._observed(time.perf_counter() - self._began, self._built_s, self._flush_s)
        committed, self._committed = self._committed, []
        # Who of them wants another commit has it when all are told: the others count on that none is under way.
        self._is_telling = True
        try:
            for done in committed:
                done()
        except Exception as failure:
            self._failed(failure)
            return
        finally:
            self._is_telling = False
        if not self._stopped:
            self._arm()
            self.after_batch()

    def halt(self) -> None:
        """Begin no further commit."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def stop(self) -> None:
        """Begin no further commit and wait for the one under way."""
        self.halt()
        await self._idle.wait()
