"""Entries applied: by whichever way they come the store is the same, and so are the answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsad.env.real import RealDisk
from balsad.errors import RequestTimedOutError
from balsad.membership import Attributes, encode_attributes
from balsad.proto import membership_pb2, raft_internal_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.raft import ConfChange, ConfChangeType, Entry, EntryType, HardState, codec
from balsad.server.apply.put_entry import PutReader
from balsad.server.member import Member
from balsad.server.propose import Pending, plain_put
from balsad.server.publish import v2_put
from balsad.storage.wal import Wal, WalSnapshot
from tests.unit.server.server_kit import in_loop, still
from tests.unit.storage.bolt_disks import MappingDisk

ACTIVATE, DEACTIVATE = 1, 2
NOSPACE, CORRUPT = 1, 2
NO_SPACE = (8, "etcdserver: mvcc: database space exceeded")
CORRUPTED = (15, "etcdserver: corrupt cluster")


def put(key: bytes, value: bytes = b"1", **fields: Any) -> rpc.PutRequest:
    return rpc.PutRequest(key=key, value=value, **fields)


def put_op(key: bytes, value: bytes = b"1") -> rpc.RequestOp:
    return rpc.RequestOp(request_put=put(key, value))


def state_of(member: Member) -> tuple[Any, ...]:
    """All that a snapshot of the v3 state would hold."""
    member.booted.backend.commit()
    return (
        member.store.hash_by_revision(0).hash,
        member.store.current_revision,
        member.store.compact_revision,
        [(lease.id, lease.ttl_s, lease.sorted_keys()) for lease in member.lessor.leases()],
        [(alarm.memberID, alarm.alarm) for alarm in member.alarms.get()],
        member.applier.consistent_index,
        member.applier.consistent_term,
    )


# One history, three ways


keys = st.sampled_from([b"a", b"b", b"c", b"dd"])
requests = st.one_of(
    st.tuples(st.just("put"), st.builds(put, keys, st.sampled_from([b"1", b"22", b"", bytes(200)]))),
    st.tuples(st.just("put"), st.builds(put, keys, st.sampled_from([b"1", b"22"]))),
    st.tuples(st.just("put"), st.builds(put, keys, lease=st.sampled_from([0, 5, 6]), prev_kv=st.booleans())),
    st.tuples(st.just("put"), st.builds(rpc.PutRequest, key=keys, ignore_value=st.just(True))),
    st.tuples(
        st.just("delete_range"),
        st.builds(
            rpc.DeleteRangeRequest, key=keys, range_end=st.sampled_from([b"", b"c", b"\0"]), prev_kv=st.booleans()
        ),
    ),
    st.tuples(
        st.just("txn"),
        st.builds(
            rpc.TxnRequest,
            compare=st.lists(st.builds(rpc.Compare, key=keys, version=st.integers(0, 1)), max_size=1),
            success=st.lists(st.builds(put_op, keys), max_size=2, unique_by=lambda op: op.request_put.key),
            failure=st.lists(
                st.builds(lambda key: rpc.RequestOp(request_range=rpc.RangeRequest(key=key)), keys), max_size=2
            ),
        ),
    ),
    st.tuples(st.just("lease_grant"), st.builds(rpc.LeaseGrantRequest, ID=st.sampled_from([5, 6]), TTL=st.just(60))),
    st.tuples(st.just("lease_revoke"), st.builds(rpc.LeaseRevokeRequest, ID=st.sampled_from([5, 6]))),
    st.tuples(st.just("compaction"), st.builds(rpc.CompactionRequest, revision=st.integers(0, 20))),
    st.tuples(
        st.just("alarm"),
        st.builds(
            rpc.AlarmRequest,
            action=st.sampled_from([0, ACTIVATE, DEACTIVATE, DEACTIVATE]),
            memberID=st.just(3),
            alarm=st.sampled_from([0, NOSPACE, CORRUPT]),
        ),
    ),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=st.lists(requests, max_size=25))
def test_all_ways_lead_to_the_same_state_and_answers(history: list[tuple[str, Any]]) -> None:
    """As its proposer applies an entry, decoded or as raw bytes; as a follower does; in slices; as a restart does."""
    states, answers = [], []

    async def scenario(way: str) -> None:
        async with still(f"/{way}", way=way, disk=MappingDisk(), quota_backend_bytes=-1) as feed:
            answers.append([feed.result(field, request) for field, request in history])
            states.append(state_of(feed.member))
        async with still(f"/{way}-again", disk=MappingDisk()) as fresh:
            for entry in feed.log:
                fresh.member.applier.apply([entry], {})
            states.append(state_of(fresh.member))

    for way in ("plain", "decoded", "bytes", "sliced"):
        in_loop(scenario(way))

    assert all(state == states[0] for state in states)
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_a_batch_is_its_entries_one_by_one(tmp_path: Path) -> None:
    """Runs of plain puts among others, in one call or in many."""

    async def scenario(name: str, together: bool) -> None:
        async with still(tmp_path / name, way="plain") as feed:
            entries: list[Entry] = []
            waiting: dict[int, Pending] = {}
            calls: list[Any] = []
            for number in range(40):
                field: str
                request: Any
                field, request = "put", put(b"k%d" % (number % 7), b"v%d" % number)
                if number % 9 == 4:
                    field, request = "delete_range", rpc.DeleteRangeRequest(key=b"k", range_end=b"k3")
                entry, pending, call = feed.entry(field, request)
                entry.index += len(entries)
                entries.append(entry)
                waiting[pending.id] = pending
                calls.append(call)
            if together:
                feed.member.applier.apply(entries, waiting)
            else:
                for entry in entries:
                    feed.member.applier.apply([entry], waiting)
            assert not waiting
            results.append(([call.messages for call in calls], state_of(feed.member)))

    results: list[Any] = []
    in_loop(scenario("one", True))
    in_loop(scenario("many", False))

    assert results[0] == results[1]
    assert all(len(messages) == 1 for messages in results[0][0])


# Once, and once only


def test_entries_the_backend_has_do_not_touch_it_again(tmp_path: Path) -> None:
    """After a restart the v2 tree and the members take every entry again; keys, leases and alarms take none twice."""

    async def first() -> None:
        async with still(tmp_path) as feed:
            member = feed.member
            member_id = member.service.member_id
            feed.apply("put", put(b"a"))
            feed.apply("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60))
            attributes = Attributes(name="published", client_urls=("http://c:1",))
            data = v2_put(77, f"/0/members/{member_id:x}/attributes", encode_attributes(attributes))
            entry = Entry(EntryType.NORMAL, 2, member.applier.applied_index + 1, data)
            member.applier.apply([entry], {})
            feed.log.append(entry)
            feed.apply("put", put(b"a", b"2"))
            seen.append((state_of(member), feed.log, member_id))

    async def again() -> None:
        async with still(tmp_path) as feed:  # feeds all that is in the log
            member = feed.member
            state, log, member_id = seen[0]
            assert state_of(member) == state
            assert member.applier.applied_index == log[-1].index
            published = member.booted.cluster.member(member_id)
            assert published is not None and published.name == "published"
            assert member.booted.tree.current_index == 2

    seen: list[Any] = []
    in_loop(first())
    # What the applier was fed is not in the log: a log as long as the backend needs stands in for it.
    lengthen_log(tmp_path, seen[0][1])
    in_loop(again())


def lengthen_log(folder: Path, entries: list[Entry]) -> None:
    wal, replay = Wal.open_and_read(RealDisk(), str(folder / "data/member/wal"), WalSnapshot())
    wal.save(HardState(2, 0, replay.hard_state.commit), entries)
    wal.close()


def test_an_entry_applied_before_is_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path) as feed:
            feed.apply("put", put(b"a"))
            applier = feed.member.applier
            feed.member.applier.apply([feed.log[-1]], {})
            assert feed.member.store.current_revision == 2
            with pytest.raises(AssertionError, match="was applied last"):
                applier.apply([Entry(EntryType.NORMAL, 2, applier.applied_index + 2, b"")], {})

    in_loop(scenario())


@pytest.mark.parametrize("way", ["plain", "decoded", "bytes"])
def test_who_was_told_that_it_took_too_long_is_not_told_again(tmp_path: Path, way: str) -> None:
    """The entry is applied all the same."""

    async def scenario() -> None:
        async with still(tmp_path, way=way) as feed:
            applier = feed.member.applier
            for number, kind in enumerate((None, CORRUPT, NOSPACE)):
                if kind is not None:
                    feed.apply("alarm", rpc.AlarmRequest(action=ACTIVATE, memberID=3, alarm=kind))  # type: ignore[arg-type]
                entry, pending, call = feed.entry("put", put(b"k%d" % number))
                pending.resolve(RequestTimedOutError())
                applier.apply([entry], {})
                assert call.answers == 1
                if kind is not None:
                    feed.apply("alarm", rpc.AlarmRequest(action=DEACTIVATE, memberID=3, alarm=kind))  # type: ignore[arg-type]
            assert feed.member.store.get(b"k0") is not None
            applier.quota.limit_bytes = 1
            entry, pending, call = feed.entry("put", put(b"full"))
            pending.resolve(RequestTimedOutError())
            applier.apply([entry], {})
            assert call.answers == 1

    in_loop(scenario())


# Judges


@pytest.mark.parametrize("way", ["plain", "decoded", "bytes"])
def test_nospace_stops_what_takes_space(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with still(tmp_path, way=way) as feed:
            feed.apply("put", put(b"a"))
            feed.apply("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60))
            feed.apply("alarm", rpc.AlarmRequest(action=ACTIVATE, memberID=3, alarm=NOSPACE))

            assert feed.result("put", put(b"b")) == NO_SPACE
            assert feed.result("put", put(b"b", prev_kv=True)) == NO_SPACE
            assert feed.result("txn", rpc.TxnRequest(success=[put_op(b"b")])) == NO_SPACE
            assert feed.result("txn", rpc.TxnRequest(failure=[put_op(b"b")])) == NO_SPACE
            assert feed.result("lease_grant", rpc.LeaseGrantRequest(ID=6, TTL=60)) == NO_SPACE
            assert feed.member.store.current_revision == 2
            # Nested puts cost nothing: so etcd counts.
            nested = rpc.RequestOp(request_txn=rpc.TxnRequest(success=[put_op(b"nested")]))
            for field, request in (
                ("txn", rpc.TxnRequest(success=[nested])),
                ("delete_range", rpc.DeleteRangeRequest(key=b"a")),
                ("lease_revoke", rpc.LeaseRevokeRequest(ID=5)),
                ("compaction", rpc.CompactionRequest(revision=2)),
            ):
                assert isinstance(feed.result(field, request), bytes), field

            feed.apply("alarm", rpc.AlarmRequest(action=DEACTIVATE, memberID=3, alarm=NOSPACE))
            assert isinstance(feed.result("put", put(b"b")), bytes)

    in_loop(scenario())


@pytest.mark.parametrize("way", ["plain", "decoded", "bytes"])
def test_corrupt_stops_everything_and_goes_before_nospace(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with still(tmp_path, way=way) as feed:
            for kind in (NOSPACE, CORRUPT):
                feed.apply("alarm", rpc.AlarmRequest(action=ACTIVATE, memberID=3, alarm=kind))  # type: ignore[arg-type]
            for field, request in (
                ("put", put(b"b")),
                ("put", put(b"b", prev_kv=True)),
                ("delete_range", rpc.DeleteRangeRequest(key=b"a")),
                ("txn", rpc.TxnRequest(success=[put_op(b"b")])),
                ("compaction", rpc.CompactionRequest(revision=1)),
                ("lease_grant", rpc.LeaseGrantRequest(ID=6, TTL=60)),
                ("lease_revoke", rpc.LeaseRevokeRequest(ID=5)),
            ):
                assert feed.result(field, request) == CORRUPTED, field
            feed.apply("alarm", rpc.AlarmRequest(action=DEACTIVATE, memberID=3, alarm=CORRUPT))
            assert feed.result("put", put(b"b")) == NO_SPACE
            assert feed.member.store.current_revision == 1

    in_loop(scenario())


@pytest.mark.parametrize("way", ["plain", "decoded", "bytes"])
def test_over_quota_a_put_is_applied_and_refused(tmp_path: Path, way: str) -> None:
    """How much room a member has must not decide what the store holds, or members would differ. Like etcd."""

    async def scenario() -> None:
        async with still(tmp_path, way=way, quota_backend_bytes=1) as feed:
            asked: list[Any] = []
            feed.member.applier.raise_nospace = asked.append
            call = feed.apply("put", put(b"a"))
            assert feed.member.store.get(b"a") is not None
            # Answered once the alarm went through the log, not before.
            assert call.status is None
            asked[0]()
            assert call.status == NO_SPACE
            for field, request in (
                ("txn", rpc.TxnRequest(success=[put_op(b"b")])),
                ("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60)),
            ):
                call = feed.apply(field, request)
                assert call.status is None
                asked[-1]()
                assert call.status == NO_SPACE
            assert len(asked) == 3
            assert feed.member.lessor.lookup(5) is not None
            assert feed.member.store.get(b"b") is not None

    in_loop(scenario())


def test_the_quota_is_exact(tmp_path: Path) -> None:
    """Size + cost must stay below the limit; both ways of a put count alike. Source: quota.go."""

    async def scenario(way: str) -> None:
        async with still(tmp_path / way, way=way) as feed:
            member = feed.member
            member.booted.backend.commit()
            request = put(b"key", bytes(1000))
            cost = 256 + 3 + 1000
            quota = member.applier.quota
            for room, expected in ((cost - 1, False), (cost, False), (cost + 1, True)):
                quota.limit_bytes = member.booted.backend.size + room
                assert isinstance(feed.result("put", request), bytes) == expected, (way, room)
            quota.limit_bytes = -1
            assert isinstance(feed.result("put", request), bytes)

    for way in ("plain", "decoded"):
        in_loop(scenario(way))


@pytest.mark.parametrize("way", ["plain", "decoded"])
def test_a_txn_costs_what_its_dearer_branch_puts(tmp_path: Path, way: str) -> None:
    """One over the quota is applied all the same, and refused; so is whatever deletes when it is full already."""

    async def scenario() -> None:
        async with still(tmp_path, way=way, quota_backend_bytes=-1) as feed:
            member = feed.member
            member.booted.backend.commit()
            dear = rpc.TxnRequest(success=[put_op(b"key", bytes(10)), put_op(b"b")], failure=[put_op(b"c", bytes(900))])
            cost = 256 + 1 + 900
            quota = member.applier.quota
            for room, expected in ((cost - 1, False), (cost, False), (cost + 1, True)):
                quota.limit_bytes = member.booted.backend.size + room
                revision = member.store.current_revision
                assert isinstance(feed.result("txn", dear), bytes) == expected, room
                assert member.store.current_revision == revision + 1
            quota.limit_bytes = 0
            delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"key"))
            assert feed.result("txn", rpc.TxnRequest(success=[delete])) == (
                8,
                "etcdserver: mvcc: database space exceeded",
            )

    in_loop(scenario())


@pytest.mark.parametrize("way", ["plain", "decoded", "bytes"])
def test_a_txn_while_there_are_alarms(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with still(tmp_path, way=way) as feed:
            member = feed.member
            puts = rpc.TxnRequest(success=[put_op(b"a")])
            deletes = rpc.TxnRequest(
                success=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"a"))],
            )
            member.alarms.activate(2, 1)
            assert feed.result("txn", puts) == (8, "etcdserver: mvcc: database space exceeded")
            assert isinstance(feed.result("txn", deletes), bytes)
            member.alarms.activate(2, 2)
            assert feed.result("txn", deletes) == (15, "etcdserver: corrupt cluster")
            assert member.store.current_revision == 1
            assert member.applier.applied_index == member.applier.consistent_index

    in_loop(scenario())


# Leases


def test_leases(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path) as feed:
            store = feed.member.store
            granted = feed.result("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60))
            assert isinstance(granted, bytes)
            answer = rpc.LeaseGrantResponse.FromString(granted)
            assert (answer.ID, answer.TTL, answer.header.revision, answer.header.raft_term) == (5, 60, 1, 2)
            assert feed.result("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60)) == (
                9,
                "etcdserver: lease already exists",
            )
            assert feed.result("put", put(b"x", lease=6)) == (5, "etcdserver: requested lease not found")
            for key in (b"c", b"a", b"b"):
                feed.apply("put", put(key, lease=5))
            feed.apply("put", put(b"b", b"2"))  # hangs on it no longer
            assert store.current_revision == 5

            revoked = feed.result("lease_revoke", rpc.LeaseRevokeRequest(ID=5))
            assert isinstance(revoked, bytes)

            assert rpc.LeaseRevokeResponse.FromString(revoked).header.revision == 6
            assert store.range(b"\0", b"\0").metas == [store.meta(b"b")]
            assert feed.result("lease_revoke", rpc.LeaseRevokeRequest(ID=5)) == (
                5,
                "etcdserver: requested lease not found",
            )

    in_loop(scenario())


def test_a_checkpoint_shortens_what_is_left_after_the_next_election(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path, enable_lease_checkpoint=True) as feed:
            feed.apply("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=600))
            checkpoint = rpc.LeaseCheckpoint(ID=5, remaining_TTL=40)
            unknown = rpc.LeaseCheckpoint(ID=404, remaining_TTL=40)

            result = feed.result("lease_checkpoint", rpc.LeaseCheckpointRequest(checkpoints=[unknown, checkpoint]))

            assert isinstance(result, bytes)
            lessor = feed.member.lessor
            lessor.promote(0.0, 1_000.0)
            assert lessor.remaining(5, 1_000.0) == 40

    in_loop(scenario())


# Alarms


def alarm_list(result: Any) -> list[tuple[int, int]]:
    return [(alarm.memberID, alarm.alarm) for alarm in rpc.AlarmResponse.FromString(result).alarms]


def test_alarms_are_raised_once_and_stand_until_all_members_are_out_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path) as feed:

            def alarm(action: int, member_id: int = 0, kind: int = 0) -> Any:
                request = rpc.AlarmRequest(action=action, memberID=member_id, alarm=kind)  # type: ignore[arg-type]
                return feed.result("alarm", request)

            assert alarm_list(alarm(ACTIVATE, 3, NOSPACE)) == [(3, NOSPACE)]
            assert alarm_list(alarm(ACTIVATE, 3, NOSPACE)) == [(3, NOSPACE)]
            assert alarm_list(alarm(ACTIVATE, 4, NOSPACE)) == [(4, NOSPACE)]
            assert alarm_list(alarm(ACTIVATE, 4, CORRUPT)) == [(4, CORRUPT)]
            assert alarm_list(alarm(ACTIVATE, 4, 0)) == []
            assert alarm(ACTIVATE, 4, 9)[0] == 2
            assert alarm_list(alarm(0)) == [(3, NOSPACE), (4, NOSPACE), (4, CORRUPT)]
            assert alarm_list(alarm(0, 0, CORRUPT)) == [(4, CORRUPT)]
            assert alarm_list(alarm(DEACTIVATE, 3, NOSPACE)) == [(3, NOSPACE)]
            assert alarm_list(alarm(DEACTIVATE, 3, NOSPACE)) == []
            assert feed.member.alarms.nospace
            alarm(DEACTIVATE, 4, CORRUPT)
            alarm(DEACTIVATE, 4, NOSPACE)
            assert not feed.member.alarms.nospace
            assert not feed.member.alarms.corrupt
            assert alarm_list(alarm(0)) == []
            assert alarm(7)[0] == 2

    in_loop(scenario())


# Members and the cluster


def conf_change(member: Member, change: ConfChange) -> Entry:
    return Entry(EntryType.CONF_CHANGE, 2, member.applier.applied_index + 1, codec.encode_conf_change(change))


def test_a_change_of_members_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path) as feed:
            member = feed.member
            before = member.applier.conf_state
            heard: list[Any] = []
            change = ConfChange(ConfChangeType.REMOVE_NODE, 404, b"")
            change.id = 55
            member.applier.apply([conf_change(member, change)], {55: Pending(55, None, heard.append)})
            assert member.applier.conf_state == before
            assert member.applier.consistent_index == member.applier.applied_index
            assert heard[0].text == "etcdserver: member not found"

    in_loop(scenario())


def test_cluster_requests_of_later_etcds(tmp_path: Path) -> None:
    """3.6 sets version and attributes by requests of v3, where 3.5 writes v2 ones."""

    async def scenario() -> None:
        async with still(tmp_path) as feed:
            cluster = feed.member.booted.cluster
            feed.apply("cluster_version_set", membership_pb2.ClusterVersionSetRequest(ver="3.5.0"))
            attributes = membership_pb2.Attributes(name="late", client_urls=["http://c:1"])
            feed.apply(
                "cluster_member_attr_set",
                membership_pb2.ClusterMemberAttrSetRequest(member_ID=cluster.local_id, member_attributes=attributes),
            )
            assert str(cluster.version) == "3.5.0"
            late = cluster.member(cluster.local_id)
            assert late is not None and late.name == "late"
            feed.apply("put", put(b"a"))
            assert feed.member.store.current_revision == 2

    in_loop(scenario())


def test_the_first_entry_of_a_leader_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path) as feed:
            told = []
            feed.member.applier.on_empty_entry = lambda: told.append(True)
            index = feed.member.applier.applied_index + 1
            feed.member.applier.apply([Entry(EntryType.NORMAL, 9, index, b"")], {})
            assert told == [True]
            assert (feed.member.applier.consistent_index, feed.member.applier.consistent_term) == (index, 9)

    in_loop(scenario())


def test_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with still(tmp_path, way="plain") as feed:
            feed.apply("put", put(b"a"))
            feed.apply("put", put(b"a", prev_kv=True))
            feed.apply("delete_range", rpc.DeleteRangeRequest(key=b"a"))
            feed.apply("txn", rpc.TxnRequest(success=[put_op(b"b")]))
            feed.apply("lease_grant", rpc.LeaseGrantRequest(ID=5, TTL=60))
            feed.apply("lease_revoke", rpc.LeaseRevokeRequest(ID=5))
            counts = feed.member.applier.counts
            # The put that wants the previous value does two things at once.
            assert (counts.puts, counts.deletes, counts.txns, counts.ranges, counts.put_bytes) == (3, 1, 1, 1, 6)
            assert (counts.leases_granted, counts.leases_revoked) == (1, 1)

    in_loop(scenario())


def test_no_space_is_asked_for_by_entries_nobody_waits_for(tmp_path: Path) -> None:
    """A follower that runs full says so as well."""

    async def scenario() -> None:
        async with still(tmp_path, way="bytes", quota_backend_bytes=1) as feed:
            asked: list[Any] = []
            feed.member.applier.raise_nospace = asked.append
            entry, _, _ = feed.entry("put", put(b"a"))
            feed.member.applier.apply([entry], {})
            assert len(asked) == 1
            asked[0]()

    in_loop(scenario())


def test_every_request_that_the_log_may_hold_is_known(tmp_path: Path) -> None:
    """Whatever a member of another kind or version proposed: it changes something, is refused, or is nothing to us.

    What is not known to one member and is to others would part them.
    """

    async def scenario() -> None:
        async with still(tmp_path) as feed:
            for descriptor in raft_internal_pb2.InternalRaftRequest.DESCRIPTOR.fields:
                if descriptor.name in ("header", "ID", "v2", "range"):
                    continue  # a range changes nothing, and nobody here proposes one
                message = getattr(raft_internal_pb2.InternalRaftRequest(), descriptor.name)
                if descriptor.name == "cluster_version_set":
                    message.ver = "3.5.0"
                elif descriptor.name == "cluster_member_attr_set":
                    message.member_ID = feed.member.service.member_id
                elif descriptor.name == "downgrade_version_test":
                    message.ver = "3.4.0"

                result = feed.result(descriptor.name, message)

                assert result is not None, descriptor.name
                assert "is not served by this member" not in str(result), descriptor.name

    in_loop(scenario())


def test_puts_of_other_members_are_read_as_protobuf_reads_them() -> None:
    """The short way takes those that are a key and a value, and knows their bytes from all that is anything else."""
    chance = random.Random(7)
    reader = PutReader()
    taken = 0
    for number in range(4000):
        message = raft_internal_pb2.InternalRaftRequest()
        message.put.key = bytes(chance.randrange(1, 140))
        size = chance.choice((0, 1, 127, 128, 16383, 16384)) if number % 20 == 0 else chance.randrange(200)
        message.put.value = chance.randbytes(size)
        message.header.ID = chance.getrandbits(chance.randrange(1, 65))
        data = bytearray(message.SerializeToString())
        if number % 2:
            data[chance.randrange(len(data))] = chance.randrange(256)
        if number % 8 == 3:
            del data[chance.randrange(len(data)) :]
        found = reader.read(bytes(data))
        if found is None:
            continue
        taken += 1
        request_id, raw, key, value_at = found
        read = raft_internal_pb2.InternalRaftRequest.FromString(bytes(data))
        assert [field.name for field, _ in read.ListFields()] == ["put", "header"]
        assert [field.name for field, _ in read.header.ListFields()] == ["ID"]
        assert (read.header.ID, read.put.SerializeToString(), read.put.key) == (request_id, raw, key)
        assert plain_put(raw) == (key, value_at)
    assert taken > 1000


def test_a_run_of_other_members_puts_is_applied_at_once(tmp_path: Path) -> None:
    """It is told of as one; whoever waits for one that came back from the leader is answered."""

    async def scenario() -> None:
        async with still(tmp_path, way="bytes") as feed:
            applier = feed.member.applier
            first, mine, call = feed.entry("put", put(b"a", b"one"))
            others = [feed.entry("put", put(b"b", bytes(size)))[0] for size in (1, 300)]
            for behind, entry in enumerate(others, 1):
                entry.index += behind
            told: list[tuple[object, ...]] = []
            applier.on_applied = lambda *what: told.append((*what[:3], what[4]))
            before = (applier.counts.puts, applier.counts.put_bytes)
            applier.apply([first, *others], {mine.id: mine})
            assert told == [("v3", "Put", True, 3)]
            assert (applier.counts.puts - before[0], applier.counts.put_bytes - before[1]) == (3, 4 + 2 + 301)
            assert call.messages == [feed.member.applier.header.at(2)]
            assert applier.applied_index == applier.consistent_index == others[-1].index
            assert feed.member.store.current_revision == 4

    in_loop(scenario())
