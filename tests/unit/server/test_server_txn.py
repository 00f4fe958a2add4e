"""Compares, branches and nests; what a txn sees of itself; the revisions its answers name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.errors import CompactedError, FutureRevError, KeyNotFoundError, LeaseNotFoundError
from balsad.lease import Lessor
from balsad.mvcc import Store
from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.server.answers import inner_header
from balsad.server.apply import txn as txns
from balsad.server.apply.tally import Tally
from balsad.storage import schema
from tests.unit.mvcc.memory_backend import MemoryBackend

LEASE = 7


class World:
    def __init__(self) -> None:
        memory = MemoryBackend()
        schema.create_all_buckets(memory)
        self.lessor = Lessor(1, memory)
        self.lessor.grant(LEASE, 100, 0.0)
        self.store = Store(memory, leases=self.lessor)
        self.store.restore()

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        write = self.store.write()
        write.put(key, value, lease)
        return write.end()

    def apply(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        return rpc.TxnResponse.FromString(txns.apply(self.store, self.lessor, request, inner_header, Tally()))

    def read(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        return rpc.TxnResponse.FromString(txns.read(self.store, request, inner_header, Tally()))

    def all(self) -> dict[bytes, bytes]:
        found = self.store.range(b"\0", b"\0").kvs
        return {kv.key: kv.value for kv in map(kv_pb2.KeyValue.FromString, found)}


def put(key: bytes, value: bytes = b"", **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, **fields))


def get(key: bytes, **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, **fields))


def delete(key: bytes, end: bytes = b"", **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end, **fields))


def nest(
    *success: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = (), compare: tuple[rpc.Compare, ...] = ()
) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(compare=compare, success=success, failure=failure))


def txn(*success: rpc.RequestOp, **fields: Any) -> rpc.TxnRequest:
    return rpc.TxnRequest(success=success, **fields)


# Compares


def holds(world: World, **compare: Any) -> bool:
    return world.read(rpc.TxnRequest(compare=[rpc.Compare(**compare)])).succeeded


EQUAL, GREATER, LESS, NOT_EQUAL = 0, 1, 2, 3


@given(
    stored=st.one_of(st.none(), st.binary(max_size=2)),
    wanted=st.binary(max_size=2),
    result=st.integers(0, 3),
)
def test_values_compare_as_bytes(stored: bytes | None, wanted: bytes, result: int) -> None:
    world = World()
    if stored is not None:
        world.put(b"k", stored)

    found = holds(world, key=b"k", target=rpc.Compare.VALUE, result=result, value=wanted)

    if stored is None:
        assert not found  # a missing key's value is not even unequal
    else:
        assert found == [stored == wanted, stored > wanted, stored < wanted, stored != wanted][result]


TARGETS = {
    rpc.Compare.VERSION: ("version", 2),
    rpc.Compare.CREATE: ("create_revision", 2),
    rpc.Compare.MOD: ("mod_revision", 3),
    rpc.Compare.LEASE: ("lease", LEASE),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("result", [EQUAL, GREATER, LESS, NOT_EQUAL])
@pytest.mark.parametrize("there", [True, False])
def test_numbers_compare_and_what_is_missing_counts_as_zero(target: int, result: int, there: bool) -> None:
    world = World()
    name, stored = TARGETS[target]  # type: ignore[index]
    if there:
        world.put(b"k", b"1")
        world.put(b"k", b"2", LEASE)
    else:
        stored = 0

    for wanted in (0, stored - 1, stored, stored + 1):
        found = holds(world, key=b"k", target=target, result=result, **{name: wanted})
        assert found == [stored == wanted, stored > wanted, stored < wanted, stored != wanted][result], wanted


def test_every_key_of_a_range_must_hold() -> None:
    world = World()
    world.put(b"a", b"1")
    world.put(b"b", b"2")

    assert holds(world, key=b"a", range_end=b"c", target=rpc.Compare.VERSION, version=1)
    assert not holds(world, key=b"a", range_end=b"c", target=rpc.Compare.VALUE, value=b"1")
    assert holds(world, key=b"a", range_end=b"c", target=rpc.Compare.VALUE, result=LESS, value=b"3")
    assert holds(world, key=b"a", range_end=b"\0", target=rpc.Compare.CREATE, result=GREATER, create_revision=1)
    assert not holds(world, key=b"x", range_end=b"z", target=rpc.Compare.VALUE, result=NOT_EQUAL, value=b"1")
    assert holds(world, key=b"x", range_end=b"z", target=rpc.Compare.VERSION, version=0)


def test_all_compares_must_hold_and_none_always_does() -> None:
    world = World()
    world.put(b"a", b"1")
    yes = rpc.Compare(key=b"a", target=rpc.Compare.VALUE, value=b"1")
    no = rpc.Compare(key=b"a", target=rpc.Compare.VALUE, value=b"2")

    assert world.read(rpc.TxnRequest()).succeeded
    assert world.read(rpc.TxnRequest(compare=[yes, yes])).succeeded
    assert not world.read(rpc.TxnRequest(compare=[yes, no])).succeeded


def test_unknown_targets_are_equal_and_unknown_results_hold() -> None:
    """Source: compareKV, whose switches have no default."""
    world = World()
    world.put(b"a", b"1")

    assert holds(world, key=b"a", target=9, result=EQUAL)
    assert not holds(world, key=b"a", target=9, result=LESS)
    assert holds(world, key=b"a", target=rpc.Compare.VALUE, result=9, value=b"other")


# Branches


def test_the_branch_that_was_chosen_runs_and_no_other() -> None:
    world = World()
    no = rpc.Compare(key=b"a", target=rpc.Compare.VERSION, version=5)

    first = world.apply(txn(put(b"yes"), failure=[put(b"no")]))
    second = world.apply(txn(put(b"x"), failure=[put(b"no", b"1")], compare=[no]))

    assert (first.succeeded, second.succeeded) == (True, False)
    assert world.all() == {b"yes": b"", b"no": b"1"}


def test_nested_branches_are_chosen_before_anything_is_written() -> None:
    """Source: compareToPath: the inner compare sees the state before the txn."""
    world = World()
    there = rpc.Compare(key=b"a", target=rpc.Compare.VERSION, result=GREATER, version=0)

    answer = world.apply(txn(put(b"a"), nest(put(b"inner"), failure=(put(b"outer"),), compare=(there,))))

    assert not answer.responses[1].response_txn.succeeded
    assert set(world.all()) == {b"a", b"outer"}


def test_nests_within_nests_side_by_side() -> None:
    """Each nest finds its own branch."""
    world = World()
    world.put(b"t", b"1")
    yes = (rpc.Compare(key=b"t", target=rpc.Compare.VALUE, value=b"1"),)
    no = (rpc.Compare(key=b"t", target=rpc.Compare.VALUE, value=b"2"),)

    answer = world.apply(
        txn(
            nest(
                nest(put(b"a"), failure=(put(b"b"),), compare=no),
                nest(put(b"c"), failure=(put(b"d"),), compare=yes),
                compare=yes,
            ),
            nest(put(b"e"), failure=(nest(put(b"f"), compare=yes), nest(put(b"g"))), compare=no),
            put(b"h"),
        )
    )

    assert set(world.all()) == {b"t", b"b", b"c", b"f", b"g", b"h"}
    outer = answer.responses
    assert [inner.response_txn.succeeded for inner in outer[0].response_txn.responses] == [False, True]
    assert not outer[1].response_txn.succeeded
    assert len(outer[1].response_txn.responses) == 2
    assert {kv_of(world, key).mod_revision for key in (b"b", b"c", b"f", b"g", b"h")} == {3}


def kv_of(world: World, key: bytes) -> kv_pb2.KeyValue:
    raw = world.store.get(key)
    assert raw is not None
    return kv_pb2.KeyValue.FromString(raw)


# What it sees of itself


def test_ranges_see_what_was_written_before_them_in_the_same_txn() -> None:
    world = World()
    world.put(b"a", b"old")

    answer = world.apply(
        txn(get(b"a"), put(b"a", b"new", prev_kv=True), get(b"a"), delete(b"b"), get(b"a", revision=2))
    )

    before, written, after, _, past = answer.responses
    assert before.response_range.kvs[0].value == b"old"
    assert written.response_put.prev_kv.value == b"old"
    assert after.response_range.kvs[0].value == b"new"
    assert past.response_range.kvs[0].value == b"old"
    # The revision each of them was answered at.
    assert before.response_range.header.revision == 2
    assert written.response_put.header.revision == 3
    assert after.response_range.header.revision == 3
    assert answer.header.revision == 3


def test_delete_then_put_of_one_key() -> None:
    """An open end passes the check for keys changed twice, in etcd and so here: "delete all, then put"."""
    world = World()
    for key in (b"a", b"b", b"c"):
        world.put(key, b"old")

    answer = world.apply(txn(delete(b"a", b"\0", prev_kv=True), put(b"b", b"new"), get(b"a", range_end=b"\0")))

    assert answer.responses[0].response_delete_range.deleted == 3
    assert [kv.key for kv in answer.responses[2].response_range.kvs] == [b"b"]
    assert world.all() == {b"b": b"new"}
    kv = kv_of(world, b"b")
    assert (kv.create_revision, kv.mod_revision, kv.version) == (5, 5, 1)
    assert answer.header.revision == 5


def test_put_then_delete_of_one_key() -> None:
    world = World()

    answer = world.apply(txn(put(b"a", b"1"), delete(b"a", b"\0", prev_kv=True), get(b"a")))

    deleted = answer.responses[1].response_delete_range
    assert (deleted.deleted, deleted.prev_kvs[0].value) == (1, b"1")
    assert answer.responses[2].response_range.count == 0
    assert world.all() == {}
    assert answer.header.revision == 2


def test_a_put_that_keeps_the_value_of_a_key_deleted_in_the_same_txn() -> None:
    """The check passed before; the real etcd panics here. The put goes on with nothing to keep."""
    world = World()
    world.put(b"a", b"old", LEASE)

    answer = world.apply(txn(delete(b"a", b"\0"), put(b"a", ignore_value=True, ignore_lease=True)))

    assert answer.header.revision == 3
    assert (kv_of(world, b"a").value, kv_of(world, b"a").lease) == (b"", 0)


def test_ignore_value_and_lease_keep_them() -> None:
    world = World()
    world.put(b"a", b"1", LEASE)

    world.apply(txn(put(b"a", ignore_value=True)))
    assert (kv_of(world, b"a").value, kv_of(world, b"a").lease) == (b"1", 0)

    world.put(b"a", b"1", LEASE)
    world.apply(txn(put(b"a", b"2", ignore_lease=True)))
    assert (kv_of(world, b"a").value, kv_of(world, b"a").lease) == (b"2", LEASE)


# Revisions


def test_headers_of_a_txn_that_changes_nothing() -> None:
    world = World()
    world.put(b"a", b"1")

    answer = world.apply(txn(delete(b"none"), get(b"a"), nest(delete(b"none"))))

    assert answer.header.revision == 2
    assert world.store.current_revision == 2
    assert answer.responses[0].response_delete_range.header.revision == 2
    inner = answer.responses[2].response_txn
    assert inner.HasField("header")
    assert inner.header.revision == 0


def test_the_revision_of_a_delete_after_a_change_is_the_new_one() -> None:
    world = World()

    answer = world.apply(txn(delete(b"none"), put(b"a"), delete(b"none")))

    revisions = [response.response_delete_range.header.revision for response in answer.responses]
    assert (revisions[0], revisions[2]) == (1, 2)


# Refusals leave no trace


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (put(b"none", ignore_value=True), KeyNotFoundError),
        (put(b"none", ignore_lease=True), KeyNotFoundError),
        (put(b"b", lease=99), LeaseNotFoundError),
        (put(b"none", ignore_value=True, lease=99), KeyNotFoundError),
        (get(b"a", revision=1000), FutureRevError),
        (get(b"a", revision=1), CompactedError),
        (nest(put(b"none", ignore_value=True)), KeyNotFoundError),
        (nest(nest(get(b"a", revision=1000))), FutureRevError),
    ],
)
def test_a_refused_txn_changes_nothing(operation: rpc.RequestOp, error: type[Exception]) -> None:
    world = World()
    world.put(b"a", b"1")
    world.put(b"a", b"2")
    world.store.compact(3)

    with pytest.raises(error):
        world.apply(txn(put(b"first"), operation))

    assert world.all() == {b"a": b"2"}
    assert world.store.current_revision == 3
    assert world.put(b"next", b"") == 4


def test_a_refusal_in_the_branch_not_taken_does_not_matter() -> None:
    world = World()

    world.apply(txn(put(b"a"), failure=[put(b"none", ignore_value=True), get(b"a", revision=1000)]))

    assert set(world.all()) == {b"a"}


def test_reads_are_refused_in_a_read_only_txn_too() -> None:
    world = World()
    with pytest.raises(FutureRevError):
        world.read(txn(get(b"a", revision=5)))


# Kinds


def test_what_is_read_only() -> None:
    """Source: isTxnReadonly: a nested txn counts as a write."""
    assert txns.is_readonly(rpc.TxnRequest())
    assert txns.is_readonly(txn(get(b"a"), failure=[get(b"b")]))
    assert not txns.is_readonly(txn(get(b"a"), failure=[put(b"b")]))
    assert not txns.is_readonly(txn(nest(get(b"a"))))
    assert not txns.is_readonly(txn(delete(b"a")))


def test_what_is_serializable() -> None:
    assert txns.is_serializable(rpc.TxnRequest())
    assert txns.is_serializable(txn(get(b"a", serializable=True)))
    assert not txns.is_serializable(txn(get(b"a", serializable=True), failure=[get(b"a")]))
