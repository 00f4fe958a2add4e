"""Request ids, quotas and alarms."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balsad.observe.metrics import Metrics
from balsad.proto import raft_internal_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.server.alarms import CORRUPT, NOSPACE, Alarms
from balsad.server.counts import observe_sync
from balsad.server.quota import DEFAULT_BYTES, KEY_COST, Quota, txn_cost
from balsad.server.request_ids import RequestIds, id_field
from balsad.storage import Backend, StorageError, schema
from tests.property.memory_disk import MemoryDisk

# Request ids


def test_ids_are_etcds() -> None:
    """Source: etcd pkg/idutil/id_test.go."""
    ids = RequestIds(0x12, unix_ms=0x3456)
    assert ids.next() == 0x0012000000345601
    assert [ids.next() for _ in range(3)] == [0x0012000000345602 + step for step in range(3)]


@given(
    first=st.integers(0, (1 << 64) - 1),
    second=st.integers(0, (1 << 64) - 1),
    at=st.integers(0, 1 << 44),
    later_ms=st.integers(1, 1 << 20),
)
def test_ids_of_other_members_and_later_starts_differ(first: int, second: int, at: int, later_ms: int) -> None:
    mine = RequestIds(first, unix_ms=at)
    issued = {mine.next() for _ in range(200)}
    assert all(0 < request_id < 1 << 64 for request_id in issued)
    again = RequestIds(first, unix_ms=at + later_ms)
    assert issued.isdisjoint(again.next() for _ in range(200))
    if first & 0xFFFF != second & 0xFFFF:
        other = RequestIds(second, unix_ms=at)
        assert issued.isdisjoint(other.next() for _ in range(200))


def test_the_counter_wraps_within_its_bits() -> None:
    ids = RequestIds(1, unix_ms=(1 << 40) - 1)
    found = [ids.next() for _ in range(600)]
    assert len(set(found)) == 600
    assert all(request_id >> 48 == 1 for request_id in found)


@given(
    member=st.integers(0, (1 << 64) - 1), at=st.integers(0, 1 << 44), taken=st.lists(st.integers(0, 9000), max_size=6)
)
@example(member=0, at=0, taken=[16000, 200])
def test_the_field_of_an_id_says_the_id(member: int, at: int, taken: list[int]) -> None:
    """Whatever was taken without a field in between."""
    ids = RequestIds(member, unix_ms=at)
    for count in (0, *taken):
        for _ in range(count):
            ids.next()
        request_id, field = ids.next_field()
        request = raft_internal_pb2.InternalRaftRequest.FromString(field)
        assert request_id == request.header.ID
        assert request.SerializeToString() == field == id_field(request_id)


def memory_backend() -> Backend:
    backend = Backend.open(MemoryDisk(), "/db")
    schema.create_all_buckets(backend)
    return backend


# Quotas


def quota(size: int, limit: int) -> Quota:
    backend = memory_backend()
    backend._size = size
    return Quota(backend, limit)


def test_limits() -> None:
    """0 is the default of 2 GiB, less than 0 no limit; what fits exactly does not fit. Source: etcd quota.go."""
    assert quota(1 << 40, -1).available(1 << 40)
    assert quota(0, 0).limit_bytes == DEFAULT_BYTES == 2 << 30
    assert quota(DEFAULT_BYTES - 10, 0).available(9)
    assert not quota(DEFAULT_BYTES - 10, 0).available(10)
    assert not quota(100, 50).available(0)


def put(size: int) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=b"k", value=bytes(size)))


def test_a_txn_costs_its_dearer_branch() -> None:
    other = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k"))
    inner = rpc.RequestOp(request_txn=rpc.TxnRequest(success=[put(5000)]))
    assert txn_cost(rpc.TxnRequest(success=[put(10), put(20)], failure=[put(25)])) == 2 * (KEY_COST + 1) + 30
    assert txn_cost(rpc.TxnRequest(success=[put(1)], failure=[put(900)])) == KEY_COST + 901
    assert txn_cost(rpc.TxnRequest(success=[other, inner])) == 0
    assert txn_cost(rpc.TxnRequest()) == 0


# Alarms


def test_alarms_come_back_from_the_bucket() -> None:
    backend = memory_backend()
    alarms = Alarms(backend)
    alarms.activate(7, NOSPACE)
    alarms.activate(0, CORRUPT)
    alarms.activate(1 << 63, NOSPACE)

    again = Alarms(backend)

    assert sorted((alarm.memberID, alarm.alarm) for alarm in again.get()) == [(0, 2), (7, 1), (1 << 63, 1)]
    assert (again.nospace, again.corrupt) == (True, True)
    again.deactivate(7, NOSPACE)
    again.deactivate(0, CORRUPT)
    third = Alarms(backend)
    assert [(alarm.memberID, alarm.alarm) for alarm in third.get()] == [(1 << 63, 1)]
    assert (third.nospace, third.corrupt) == (True, False)


@pytest.mark.parametrize("key", [b"\xff", b"\x08", b"\x2a\x01a"])
def test_rows_that_are_no_alarms(key: bytes) -> None:
    backend = memory_backend()
    backend.put(schema.ALARM, key, b"")
    with pytest.raises(StorageError, match="bucket alarm"):
        Alarms(backend)


def test_a_sync_that_takes_a_second_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Source: etcd wal.sync (warnSyncDuration)."""
    metrics = Metrics()
    observe = observe_sync(metrics)
    for seconds in (0.9, 1.5):
        observe(seconds)

    assert [record.getMessage() for record in caplog.records] == ["slow fdatasync"]
    assert metrics.wal_fsync_s.total == 2.4
