"""One random history for balsad and the real etcd: answers, errors, events and hashes must be the same bytes.

Each rule asks both the same and compares. Both live through all examples, as
long as nothing went wrong; after a difference the next one, which is to be
shorter, begins with new ones. INTEROP_EXAMPLES sets how many are tried.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import balsad, real, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

KEYS = [b"a", b"aa", b"ab", b"b", b"b\x00", b"c", b"\xff", b"\xff\xff"]
keys = st.sampled_from(KEYS)
ends = st.sampled_from([b"", b"", b"\0", b"b", b"c", b"\xff", b"a"])
values = st.sampled_from([b"", b"1", b"2", b"\x00\xff", b"x" * 300])
LEASES = [1, 2, 0x7FFFFFFFFFFFFFFF]
no_or_lease = st.sampled_from([0, 0, 0, *LEASES, 99])
flags = st.booleans()
back = st.integers(-2, 12)
"""How far back from the present a revision lies; below 0 it is in the future."""

puts = st.builds(
    rpc.PutRequest,
    key=st.sampled_from([*KEYS, *KEYS, b""]),
    value=values,
    lease=no_or_lease,
    prev_kv=flags,
    ignore_value=st.sampled_from([False, False, False, True]),
    ignore_lease=st.sampled_from([False, False, False, True]),
)
deletes = st.builds(rpc.DeleteRangeRequest, key=keys, range_end=ends, prev_kv=flags)
ranges = st.builds(
    rpc.RangeRequest,
    key=st.sampled_from([*KEYS, b"\0", b""]),
    range_end=ends,
    limit=st.sampled_from([0, 0, 1, 2, 3, 100]),
    sort_order=st.sampled_from([0, 1, 2]),
    sort_target=st.sampled_from([0, 1, 2, 3, 4]),
    serializable=flags,
    keys_only=flags,
    count_only=flags,
    min_mod_revision=st.sampled_from([0, 0, 0, 5]),
    max_mod_revision=st.sampled_from([0, 0, 0, 2**40]),
    min_create_revision=st.sampled_from([0, 0, 0, 5]),
    max_create_revision=st.sampled_from([0, 0, 0, 3]),
)
compares = st.one_of(
    st.builds(
        rpc.Compare, key=keys, range_end=ends, target=st.just(0), result=st.integers(0, 3), version=st.integers(0, 3)
    ),
    st.builds(rpc.Compare, key=keys, target=st.just(3), result=st.integers(0, 3), value=values),
    st.builds(rpc.Compare, key=keys, range_end=ends, target=st.just(4), result=st.integers(0, 3), lease=no_or_lease),
    st.builds(rpc.Compare, key=keys, target=st.just(1), result=st.integers(0, 3), create_revision=st.integers(0, 40)),
    st.builds(rpc.Compare, key=keys, target=st.just(2), result=st.integers(0, 3), mod_revision=st.integers(0, 40)),
)
simple_ops = st.one_of(
    st.builds(lambda request: rpc.RequestOp(request_put=request), puts),
    st.builds(lambda request: rpc.RequestOp(request_delete_range=request), deletes),
    st.builds(lambda request: rpc.RequestOp(request_range=request), ranges),
)


def txns(ops: st.SearchStrategy[rpc.RequestOp]) -> st.SearchStrategy[rpc.TxnRequest]:
    some = st.lists(ops, max_size=3)
    return st.builds(rpc.TxnRequest, compare=st.lists(compares, max_size=2), success=some, failure=some)


nested_ops = st.one_of(
    simple_ops, simple_ops, st.builds(lambda request: rpc.RequestOp(request_txn=request), txns(simple_ops))
)


def comparable(answer: Any) -> Any:
    """The answer without what two clusters can't have in common."""
    if answer.HasField("header"):
        answer.header.cluster_id = 0
        answer.header.member_id = 0
        answer.header.raft_term = 0
    return answer


class Pair:
    """The two servers."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._lives = 0
        self.agree = False
        """Whether the last example ended well."""
        self.begin()

    def begin(self) -> None:
        """Start with two new servers on two new data dirs."""
        self._stack.close()
        self._lives += 1
        folder = self._folder / str(self._lives)
        folder.mkdir()
        enter = self._stack.enter_context
        self.ours = enter(connect(enter(start(balsad(), folder / "ours")).address))
        self.theirs = enter(connect(enter(start(real(), folder / "theirs")).address))
        self.revision = 1
        self.deleting: set[int] = set()
        """Revisions that deleted something."""
        self.agree = True
        self.differ = False

    def compare(self, ours: Any, theirs: Any, question: str) -> None:
        if ours != theirs:
            self.differ = True
            pytest.fail(f"{question}\nours: {ours}\ntheirs: {theirs}")

    def ask(self, method: str, request: Any, response: Any) -> Any:
        """The answer of both, or None when both refused; fails where they differ."""
        theirs = one_answer(self.theirs, method, request, response)
        ours = one_answer(self.ours, method, request, response)
        self.compare(ours, theirs, f"{method}\n{request}")
        if isinstance(theirs, tuple):
            return None
        return theirs

    def write(self, method: str, request: Any, response: Any) -> Any:
        answer = self.ask(method, request, response)
        if answer is not None:
            if answer.header.revision > self.revision and deletes_something(answer):
                self.deleting.add(answer.header.revision)
            self.revision = answer.header.revision
        return answer


def one_answer(client: V3, method: str, request: Any, response: Any) -> Any:
    try:
        return comparable(client.call(method, request, response))
    except grpc.RpcError as error:
        return error.code(), error.details()  # type: ignore[attr-defined]


def deletes_something(answer: Any) -> bool:
    if isinstance(answer, rpc.DeleteRangeResponse):
        return answer.deleted > 0
    if isinstance(answer, rpc.TxnResponse):
        return any(deletes_something(getattr(one, str(one.WhichOneof("response")))) for one in answer.responses)
    return isinstance(answer, rpc.LeaseRevokeResponse)


class History(RuleBasedStateMachine):
    pair: Pair

    @initialize()
    def empty(self) -> None:
        """Like a fresh store, but for its history."""
        pair = self.pair
        if not pair.agree:
            pair.begin()
        pair.agree = False
        for lease_id in pair.theirs.leases():
            pair.write("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id), rpc.LeaseRevokeResponse)
        pair.write("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0"), rpc.DeleteRangeResponse)

    def at(self, distance: int) -> int:
        return max(self.pair.revision - distance, 0)

    @rule(request=puts)
    def put(self, request: rpc.PutRequest) -> None:
        self.pair.write("KV/Put", request, rpc.PutResponse)

    @rule(request=deletes)
    def delete(self, request: rpc.DeleteRangeRequest) -> None:
        self.pair.write("KV/DeleteRange", request, rpc.DeleteRangeResponse)

    @rule(request=ranges, distance=back, is_past=flags)
    def range(self, request: rpc.RangeRequest, distance: int, is_past: bool) -> None:
        if is_past:
            request.revision = self.at(distance)
        self.pair.ask("KV/Range", request, rpc.RangeResponse)

    @rule(request=txns(nested_ops))
    def txn(self, request: rpc.TxnRequest) -> None:
        self.pair.write("KV/Txn", request, rpc.TxnResponse)

    @rule(lease_id=st.sampled_from([*LEASES, -1]), ttl=st.sampled_from([600, 3600, 0, 9_000_000_001]))
    def grant(self, lease_id: int, ttl: int) -> None:
        self.pair.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl), rpc.LeaseGrantResponse)
        if ttl == 0:
            # It lives for a second: it would end between two questions, for one of the two first.
            self.pair.write("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id), rpc.LeaseRevokeResponse)

    @rule(lease_id=st.sampled_from(LEASES))
    def revoke(self, lease_id: int) -> None:
        self.pair.write("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id), rpc.LeaseRevokeResponse)

    @rule(lease_id=st.sampled_from(LEASES))
    def lease_keys(self, lease_id: int) -> None:
        ours, theirs = self.pair.ours.lease_keys(lease_id), self.pair.theirs.lease_keys(lease_id)
        self.pair.compare(
            (ours.grantedTTL, sorted(ours.keys), ours.TTL < 0),
            (theirs.grantedTTL, sorted(theirs.keys), theirs.TTL < 0),
            f"LeaseTimeToLive {lease_id}",
        )

    @rule(distance=st.integers(-1, 20))
    def compact(self, distance: int) -> None:
        revision = self.at(distance)
        if revision in self.pair.deleting:
            # 3.5.1 drops the tombstone at the compacted revision, later ones and we keep it.
            return
        request = rpc.CompactionRequest(revision=revision, physical=True)
        self.pair.ask("KV/Compact", request, rpc.CompactionResponse)

    @rule(distance=st.integers(-1, 20), is_past=flags)
    def hash(self, distance: int, is_past: bool) -> None:
        revision = self.at(distance) if is_past else 0
        self.pair.ask("Maintenance/HashKV", rpc.HashKVRequest(revision=revision), rpc.HashKVResponse)

    @rule(
        key=keys,
        end=ends,
        distance=st.integers(0, 15),
        prev_kv=flags,
        filters=st.sampled_from([[], [], [0], [1]]),
    )
    def watch(self, key: bytes, end: bytes, distance: int, prev_kv: bool, filters: list[int]) -> None:
        """All events since a revision; the last one is made for it, so that both know where to end."""
        if end not in (b"", b"\0") and end <= key:
            end = b""
        start_revision = max(self.at(distance), 1)
        self.pair.write("KV/Put", rpc.PutRequest(key=key, value=b"the last"), rpc.PutResponse)
        if filters == [0]:
            self.pair.write("KV/DeleteRange", rpc.DeleteRangeRequest(key=key), rpc.DeleteRangeResponse)
        request = rpc.WatchCreateRequest(
            key=key, range_end=end, start_revision=start_revision, prev_kv=prev_kv, filters=filters
        )
        ours = watched(self.pair.ours, request, self.pair.revision)
        theirs = watched(self.pair.theirs, request, self.pair.revision)
        self.pair.compare(ours, theirs, f"Watch\n{request}")

    @rule(now=st.integers(0, 9))
    def defragment(self, now: int) -> None:
        if now == 9:
            self.pair.ask("Maintenance/Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse)

    def teardown(self) -> None:
        """What is left is the same, also what no rule looked at."""
        if self.pair.differ:
            return
        self.pair.ask("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"), rpc.RangeResponse)
        self.pair.ask("Maintenance/HashKV", rpc.HashKVRequest(), rpc.HashKVResponse)
        self.pair.compare(self.pair.ours.leases(), self.pair.theirs.leases(), "LeaseLeases")
        self.pair.agree = True


def watched(client: V3, request: rpc.WatchCreateRequest, last: int) -> Any:
    """The events up to revision `last`, or why the watch was cancelled."""
    watch = client.watch(request)
    try:
        created = watch.next()
        assert created.created
        if created.canceled:
            return "cancelled at once", created.compact_revision, created.cancel_reason
        events: list[Any] = []
        while not events or events[-1].kv.mod_revision < last:
            answer = watch.next()
            if answer.canceled:
                return "cancelled", answer.compact_revision, answer.cancel_reason
            before = events[-1].kv.mod_revision if events else 0
            assert all(event.kv.mod_revision > before for event in answer.events), "half a revision"
            events += answer.events
        return events
    finally:
        watch.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(tmp_path, stack)


def test_the_same_history_gives_the_same_answers(pair: Pair) -> None:
    class Bound(History):
        pass

    Bound.pair = pair
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Bound,
        settings=settings(
            max_examples=int(os.environ.get("INTEROP_EXAMPLES", "25")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
