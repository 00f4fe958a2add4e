"""Ranges of so many keys that others would wait for the answer: a slice of one of them in every turn of the loop.

range --(few keys)--> answered at once
      --(many)------> RangeJob --step, one turn after the other, in turn with other ranges--> composed --> answered
                         ^
      --(the same, and nothing was written since)--+ joins it
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import RequestError
from balsad.mvcc import RangeJob
from balsad.server.answers import HeaderBytes
from balsad.server.ranges import LargeAnswers, compose, fetched

if TYPE_CHECKING:
    from balsad.mvcc import Store
    from balsad.proto import rpc_pb2
    from balsad.transport import Call

KEYS_MIN: Final = 10_000
"""A range of so many keys is read bit by bit: at once it would take 20 ms or more."""
AT_ONCE: Final = 2000
_COUNTED_FOR: Final = 4
"""So many keys are counted in the time that one takes to be read."""


class _Running:
    __slots__ = ("calls", "job", "raw", "request")

    def __init__(self, job: RangeJob, raw: bytes, request: rpc_pb2.RangeRequest, call: Call) -> None:
        self.job = job
        self.raw = raw
        self.request = request
        self.calls = [call]


class LongRanges:
    def __init__(self, store: Store, header: HeaderBytes, large: LargeAnswers, *, flush: Callable[[], None]) -> None:
        """`flush` writes what was answered."""
        self.keys_min = KEYS_MIN
        self.at_once = AT_ONCE
        self._store = store
        self._header = header
        self._large = large
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._running: deque[_Running] = deque()

    def is_long(self, request: rpc_pb2.RangeRequest) -> bool:
        """Whether so many keys have to be looked at."""
        end = request.range_end
        store = self._store
        if not end or store.key_count + len(store.index.dead) < self.keys_min:
            return False
        revision = request.revision
        is_few = request.count_only or 0 < fetched(request) < self.keys_min
        is_old = store.compact_revision <= revision < store.head and revision > 0
        if (is_few and not is_old) or store.size_of(request.key, end, revision) < self.keys_min:
            return False
        return not (is_few and store.knows_what_changed_since(revision))

    def begin(self, call: Call, raw: bytes, request: rpc_pb2.RangeRequest) -> None:
        """Answer `call` later. Raises: CompactedError, FutureRevError."""
        for running in self._running:
            if running.raw == raw and running.job.current == self._store.current_revision:
                running.calls.append(call)
                return
        job = RangeJob(
            self._store,
            request.key,
            request.range_end,
            revision=request.revision,
            limit=fetched(request),
            count_only=request.count_only,
        )
        if not self._running:
            self._loop.call_soon(self._step)
        self._running.append(_Running(job, raw, request, call))

    def _step(self) -> None:
        running = self._running.popleft()
        job = running.job
        running.calls = [call for call in running.calls if not call.closed]
        if not running.calls:
            job.close()
        else:
            try:
                at_once = self.at_once * _COUNTED_FOR if running.request.count_only else self.at_once
                if job.step(at_once):
                    self._answer(running)
                else:
                    self._running.append(running)
            except RequestError as refusal:
                job.close()
                for call in running.calls:
                    call.fail(refusal.code, refusal.text)
            self._flush()
        if self._running:
            self._loop.call_soon(self._step)

    def _answer(self, running: _Running) -> None:
        job, request = running.job, running.request
        answer = compose(request, self._header.at(job.current), job.kvs, job.metas, job.count)
        if job.current == self._store.current_revision:
            self._large.keep(running.raw, request, answer)
        for call in running.calls:
            call.respond(answer)
