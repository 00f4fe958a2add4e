"""Ranges of so many keys that others would wait for the answer: a slice of one of them in every turn of the loop.

range --(few keys)--> answered at once
      --(many)------> RangeJob --step, one turn after the other, in turn with other ranges--> composed --> answered
                         ^
      --(the same, and nothing was written since)--+ joins it
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from balsad.errors import RequestError
from balsad.merge_sort import MergeSort
from balsad.mvcc import RangeJob
from balsad.server.answers import HeaderBytes, range_answer, range_rows
from balsad.server.ranges import (
    BY_KEY,
    DESCEND,
    LargeAnswers,
    compose,
    fetched,
    order_of,
    pass_filters,
    sort_keys_of,
    without_value,
)

if TYPE_CHECKING:
    from balsad.mvcc import KeyMeta, Store
    from balsad.proto import rpc_pb2
    from balsad.transport import Call

KEYS_MIN: Final = 10_000
"""A range of so many keys is read bit by bit: at once it would take 20 ms or more."""
AT_ONCE: Final = 2000
_COUNTED_FOR: Final = 4
"""So many keys are counted in the time that one takes to be read."""


class Reading(Protocol):
    """A RangeJob, or some of them."""

    @property
    def current(self) -> int: ...

    def close(self) -> None: ...


class _Running:
    __slots__ = ("calls", "job", "raw", "request", "work")

    def __init__(
        self, job: Reading, work: Iterator[bytes], raw: bytes, request: rpc_pb2.RangeRequest | None, call: Call
    ) -> None:
        self.job = job
        self.work = work
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
        # While a long write is under way, what there is now is what there was before it.
        revision = request.revision if request.revision > 0 else store.current_revision
        is_few = request.count_only or 0 < fetched(request) < self.keys_min
        is_old = store.compact_revision <= revision < store.head
        if (is_few and not is_old) or store.size_of(request.key, end, revision) < self.keys_min:
            return False
        return not (is_few and store.knows_what_changed_since(revision))

    def keys_of(self, request: rpc_pb2.RangeRequest) -> int:
        """How many keys have to be looked at, at most."""
        end = request.range_end
        if not end:
            return 1
        store = self._store
        revision = request.revision
        few = 0 if request.count_only else fetched(request)
        size = store.size_of(request.key, end, revision)
        if not request.count_only and not few:
            return size
        is_old = store.compact_revision <= revision < store.head and revision > 0
        return size if is_old and not store.knows_what_changed_since(revision) else min(size, few)

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
        self._run(_Running(job, self._work(job, request), raw, request, call))

    def begin_work(self, call: Call, job: Reading, work: Iterator[bytes]) -> None:
        """Answer `call` with the last that `work` gives, in turn with ranges; `job` is closed if it breaks off."""
        self._run(_Running(job, work, b"", None, call))

    def _run(self, running: _Running) -> None:
        if not self._running:
            self._loop.call_soon(self._step)
        self._running.append(running)

    def _step(self) -> None:
        running = self._running.popleft()
        job = running.job
        running.calls = [call for call in running.calls if not call.closed]
        if not running.calls:
            job.close()
            if self._running:
                self._loop.call_soon(self._step)
        else:
            try:
                answer = next(running.work)
                if answer:
                    self._answer(running, answer)
                else:
                    self._running.append(running)
            except RequestError as refusal:
                job.close()
                for call in running.calls:
                    call.fail(refusal.code, refusal.text)
            except Exception:
                # What is broken stops the member; a compaction shall not stumble over it as well.
                job.close()
                raise
            finally:
                if self._running:
                    self._loop.call_soon(self._step)
            self._flush()

    def _answer(self, running: _Running, answer: bytes) -> None:
        if running.request is not None and running.job.current == self._store.current_revision:
            self._large.keep(running.raw, running.request, answer)
        for call in running.calls:
            call.respond(answer)

    def _work(self, job: RangeJob, request: rpc_pb2.RangeRequest) -> Iterator[bytes]:
        """Nothing after each slice, the answer in the end. Raises: CompactedError, FutureRevError."""
        parts = yield from self.parts(job, request)
        yield b"".join(parts)

    def parts(
        self, job: RangeJob, request: rpc_pb2.RangeRequest, header: bytes = b""
    ) -> Generator[bytes, None, list[bytes]]:
        """Nothing after each slice; returns the answer, in parts, with another `header` if need be.

        Raises: CompactedError, FutureRevError.
        """
        at_once = self.at_once
        while not job.step(at_once * _COUNTED_FOR if request.count_only else at_once):
            yield b""
        kvs, metas = job.kvs, job.metas
        if len(kvs) > at_once:
            yield b""
            kept: list[bytes] = []
            kept_metas: list[KeyMeta] = []
            for start in range(0, len(kvs), at_once):
                some = pass_filters(request, kvs[start : start + at_once], metas[start : start + at_once])
                kept += some[0]
                kept_metas += some[1]
                yield b""
            kvs, metas = kept, kept_metas
        header = header or self._header.at(job.current)
        if len(kvs) <= at_once:
            return [compose(request, header, kvs, metas, job.count)]
        is_descending = order_of(request) == DESCEND
        if request.sort_target == BY_KEY:
            kvs = kvs[::-1] if is_descending else kvs
        else:
            # Ties stay as they are.
            sign = -1 if is_descending else 1
            rows: list[tuple[Any, int]] = []
            for start in range(0, len(kvs), at_once):
                sort_keys = sort_keys_of(
                    request.sort_target, kvs[start : start + at_once], metas[start : start + at_once]
                )
                if sort_keys is None:
                    break
                rows += [(sort_key, sign * (start + at)) for at, sort_key in enumerate(sort_keys)]
                yield b""
            if rows:
                sort = MergeSort(rows)
                while not sort.step(at_once):
                    yield b""
                in_order: list[bytes] = []
                for stretch in sort.stretches[::-1] if is_descending else sort.stretches:
                    places = [sign * at for _, at in stretch]
                    in_order += [kvs[at] for at in (places[::-1] if is_descending else places)]
                    yield b""
                kvs = in_order
        more = 0 < request.limit < len(kvs)
        if more:
            kvs = kvs[: request.limit]
        parts = [header]
        for start in range(0, len(kvs), at_once):
            some_kvs = kvs[start : start + at_once]
            if request.keys_only:
                some_kvs = [without_value(kv) for kv in some_kvs]
            parts.append(range_rows(some_kvs))
            yield b""
        parts.append(range_answer(b"", [], more=more, count=job.count))
        return parts
