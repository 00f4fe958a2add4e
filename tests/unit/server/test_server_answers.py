"""Answers put together from bytes are what protobuf would have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.server.answers import (
    EMPTY_HEADER,
    HeaderBytes,
    delete_answer,
    inner_header,
    put_answer,
    range_answer,
    txn_answer,
)

u64 = st.integers(1, (1 << 64) - 1)
revisions = st.one_of(st.integers(0, 300), st.integers(0, (1 << 63) - 1))
kvs = st.builds(
    kv_pb2.KeyValue,
    key=st.binary(min_size=1, max_size=5),
    value=st.sampled_from([b"", b"v", bytes(127), bytes(128), bytes(20_000)]),
    create_revision=st.integers(1, 300),
    mod_revision=st.integers(1, 1 << 40),
    version=st.integers(1, 5),
    lease=st.integers(-(1 << 63), (1 << 63) - 1),
)


def header_of(cluster: int, member: int, revision: int, term: int) -> rpc.ResponseHeader:
    return rpc.ResponseHeader(cluster_id=cluster, member_id=member, revision=revision, raft_term=term)


@given(cluster=u64, member=u64, revision=revisions, term=st.integers(0, 1 << 40))
def test_headers(cluster: int, member: int, revision: int, term: int) -> None:
    header = HeaderBytes(cluster_id=cluster, member_id=member)
    header.set_term(term)
    expected = rpc.PutResponse(header=header_of(cluster, member, revision, term)).SerializeToString()

    assert header.at(revision) == expected
    assert header.at(revision) == expected


@given(revision=revisions, steps=st.lists(st.sampled_from((1, 2, 127, 128, 16383, 16384)), max_size=20))
def test_headers_of_revisions_that_follow_each_other(revision: int, steps: list[int]) -> None:
    header = HeaderBytes(cluster_id=1, member_id=2)
    header.set_term(3)
    for step in (0, *steps):
        revision = min(revision + step, (1 << 63) - 1)
        expected = rpc.PutResponse(header=header_of(1, 2, revision, 3)).SerializeToString()
        assert header.at(revision) == expected


def test_a_header_follows_the_term_at_once() -> None:
    header = HeaderBytes(cluster_id=1, member_id=2)
    header.set_term(7)
    before = header.at(5)

    header.set_term(300)

    assert rpc.PutResponse.FromString(header.at(5)).header.raft_term == 300
    assert rpc.PutResponse.FromString(before).header.raft_term == 7


@given(revision=revisions)
def test_inner_headers(revision: int) -> None:
    expected = rpc.PutResponse()
    expected.header.revision = revision
    expected.header.SetInParent()
    assert inner_header(revision) == expected.SerializeToString()


HEADER = header_of(1, 2, 3, 4)
HEADER_BYTES = rpc.PutResponse(header=HEADER).SerializeToString()


@given(previous=st.one_of(st.none(), kvs))
def test_puts(previous: kv_pb2.KeyValue | None) -> None:
    expected = rpc.PutResponse(header=HEADER, prev_kv=previous)
    raw = None if previous is None else previous.SerializeToString()
    assert put_answer(HEADER_BYTES, raw) == expected.SerializeToString()


@given(deleted=st.integers(0, 1 << 40), previous=st.lists(kvs, max_size=4))
def test_deletes(deleted: int, previous: list[kv_pb2.KeyValue]) -> None:
    expected = rpc.DeleteRangeResponse(header=HEADER, deleted=deleted, prev_kvs=previous)
    assert delete_answer(HEADER_BYTES, deleted, [kv.SerializeToString() for kv in previous]) == (
        expected.SerializeToString()
    )


@given(found=st.lists(kvs, max_size=4), more=st.booleans(), count=st.integers(0, 1 << 40))
def test_ranges(found: list[kv_pb2.KeyValue], more: bool, count: int) -> None:
    expected = rpc.RangeResponse(header=HEADER, kvs=found, more=more, count=count)
    assert range_answer(HEADER_BYTES, [kv.SerializeToString() for kv in found], more=more, count=count) == (
        expected.SerializeToString()
    )


operations = st.one_of(
    st.builds(lambda found: rpc.ResponseOp(response_range=rpc.RangeResponse(kvs=found)), st.lists(kvs, max_size=2)),
    st.builds(lambda kv: rpc.ResponseOp(response_put=rpc.PutResponse(prev_kv=kv)), kvs),
    st.builds(
        lambda deleted: rpc.ResponseOp(response_delete_range=rpc.DeleteRangeResponse(deleted=deleted)),
        st.integers(0, 500),
    ),
    st.just(rpc.ResponseOp(response_txn=rpc.TxnResponse(succeeded=True))),
)


@given(succeeded=st.booleans(), responses=st.lists(operations, max_size=4))
def test_txns(succeeded: bool, responses: list[rpc.ResponseOp]) -> None:
    expected = rpc.TxnResponse(header=HEADER, succeeded=succeeded, responses=responses)
    parts = []
    for response in responses:
        kind = response.WhichOneof("response")
        assert kind is not None
        number = rpc.ResponseOp.DESCRIPTOR.fields_by_name[kind].number
        parts.append((number, getattr(response, kind).SerializeToString()))
    assert txn_answer(HEADER_BYTES, succeeded, parts) == expected.SerializeToString()


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_header_is_there_all_the_same(count: int) -> None:
    assert rpc.RangeResponse.FromString(range_answer(EMPTY_HEADER, [], more=False, count=count)).HasField("header")
