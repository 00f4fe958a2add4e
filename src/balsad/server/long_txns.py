"""Txns of ranges alone that look at so many keys that others would wait: all ranges at one revision, bit by bit.

compares, which branch --at once--> a RangeJob for each range, all of the present revision
                                    --step, one after the other, in turn with long ranges--> one answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from balsad.mvcc import RangeJob
from balsad.server.answers import inner_header, range_response_head, txn_answer
from balsad.server.apply.txn import begin_read
from balsad.server.plain_txn import RANGE as LISTED
from balsad.server.ranges import answer_range, fetched

if TYPE_CHECKING:
    from balsad.mvcc import Store
    from balsad.proto import rpc_pb2
    from balsad.server.apply.tally import Tally
    from balsad.server.long_ranges import LongRanges
    from balsad.server.plain_txn import Operation, PlainTxn
    from balsad.transport import Call


def _ranges_of(operations: list[Operation]) -> list[rpc_pb2.RangeRequest]:
    return [operation[6] for operation in operations if operation[0] == LISTED]


class _Jobs:
    """The ranges of one txn; as long as they are not closed, no compaction takes away what they read."""

    __slots__ = ("current", "jobs")

    def __init__(self, current: int) -> None:
        self.current = current
        self.jobs: list[RangeJob] = []

    def close(self) -> None:
        for job in self.jobs:
            job.close()


class LongTxns:
    def __init__(self, store: Store, header: Callable[[int], bytes], tally: Tally, long: LongRanges) -> None:
        self._store = store
        self._header = header
        self._tally = tally
        self._long = long

    def is_long(self, request: rpc_pb2.TxnRequest) -> bool:
        """Whether a branch has to look at so many keys. Of a txn that only reads."""
        return self._is_large() and (
            self._is_long([operation.request_range for operation in request.success])
            or self._is_long([operation.request_range for operation in request.failure])
        )

    def is_long_plain(self, txn: PlainTxn) -> bool:
        """As `is_long`."""
        return self._is_large() and (self._is_long(_ranges_of(txn.success)) or self._is_long(_ranges_of(txn.failure)))

    def _is_large(self) -> bool:
        return self._store.key_count + len(self._store.index.dead) >= self._long.keys_min

    def _is_long(self, ranges: list[rpc_pb2.RangeRequest]) -> bool:
        return sum(map(self._long.keys_of, ranges)) >= self._long.keys_min

    def begin(self, call: Call, request: rpc_pb2.TxnRequest) -> None:
        """Answer `call` later. Raises: CompactedError, FutureRevError."""
        store = self._store
        path, operations = begin_read(store, request, self._tally)
        jobs = _Jobs(store.current_revision)
        ranges: list[tuple[rpc_pb2.RangeRequest, RangeJob | bytes]] = []
        for operation in operations:
            one = operation.request_range
            if not one.range_end:
                ranges.append((one, answer_range(store, one, inner_header)))
                continue
            # Of the present revision also for those whose turn comes after others have written.
            revision = one.revision if one.revision > 0 else jobs.current
            job = RangeJob(
                store, one.key, one.range_end, revision=revision, limit=fetched(one), count_only=one.count_only
            )
            jobs.jobs.append(job)
            ranges.append((one, job))
        self._long.begin_work(call, jobs, self._work(jobs, path.succeeded, ranges))

    def _work(
        self, jobs: _Jobs, succeeded: bool, ranges: list[tuple[rpc_pb2.RangeRequest, RangeJob | bytes]]
    ) -> Iterator[bytes]:
        header = inner_header(jobs.current)
        # All that is long is joined once, in the end.
        parts = [txn_answer(self._header(jobs.current), succeeded, [])]
        for request, job in ranges:
            if isinstance(job, bytes):
                answer = [job]
            else:
                answer = yield from self._long.parts(job, request, header)
                yield b""
            parts.append(range_response_head(sum(map(len, answer))))
            parts += answer
        jobs.close()
        yield b"".join(parts)
