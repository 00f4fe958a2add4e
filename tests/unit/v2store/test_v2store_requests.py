"""The v2 requests of the raft log."""

from __future__ import annotations

import pytest

from balsad.errors import UnknownError
from balsad.proto import etcdserver_pb2, raft_internal_pb2, rpc_pb2
from balsad.v2store import (
    ClusterVersionPut,
    Event,
    MemberAttributesPut,
    Request,
    Store,
    V2Error,
    apply_request,
    decode_request,
    encode_request,
    errors,
    is_request,
)
from balsad.wire import WireError

FULL = Request(
    id=2**64 - 1,
    method="PUT",
    path="/1/ä",
    val="v",
    dir=True,
    prev_value="p",
    prev_index=7,
    prev_exist=False,
    expiration=-5,
    wait=True,
    since=9,
    recursive=True,
    sorted=True,
    quorum=True,
    time=11,
    stream=True,
    refresh=True,
)


@pytest.mark.parametrize("request_", [FULL, Request(), Request(method="SYNC", time=2**62)])
def test_requests_are_read_back(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


def test_requests_are_the_protocol_buffer() -> None:
    message = etcdserver_pb2.Request.FromString(encode_request(FULL))

    assert (message.ID, message.Method, message.Path, message.Val) == (2**64 - 1, "PUT", "/1/ä", "v")
    assert (message.PrevExist, message.Expiration, message.Time, message.Refresh) == (False, -5, 11, True)
    assert message.SerializeToString() == encode_request(FULL)


def test_every_field_but_the_optional_ones_is_written() -> None:
    """As gogo-protobuf writes fields that can't be null."""
    assert encode_request(Request()).hex(" ") == (
        "08 00 12 00 1a 00 22 00 28 00 32 00 38 00 48 00 50 00 58 00 60 00 68 00 70 00 78 00 80 01 00"
    )


def test_unknown_fields_are_skipped() -> None:
    assert decode_request(b"\xa0\x06\x07" + encode_request(FULL)) == FULL


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x05PUT", b"\x0a\x00", b"\x10\x00", b"\xa2\x06\x09x"])
def test_broken_requests_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_request(data)


def test_bare_requests_are_told_from_internal_ones() -> None:
    put = rpc_pb2.PutRequest(key=b"GET", value=b"PUT")
    inner = etcdserver_pb2.Request(ID=1, Method="PUT", Path="/1/a")
    internal = [
        raft_internal_pb2.InternalRaftRequest(ID=1, put=put),
        raft_internal_pb2.InternalRaftRequest(ID=1, v2=inner),
        raft_internal_pb2.InternalRaftRequest(v2=inner),
        raft_internal_pb2.InternalRaftRequest(header=raft_internal_pb2.RequestHeader(ID=1)),
    ]

    assert not any(is_request(message.SerializeToString()) for message in internal)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "QGET", "SYNC"):
        assert is_request(encode_request(Request(id=7, method=method)))
    assert not is_request(b"") and not is_request(b"\x08\x01\x12")


def apply(store: Store, **fields: object) -> object:
    return apply_request(store, Request(**fields), now_ns=0)  # type: ignore[arg-type]


def test_methods_choose_the_operation() -> None:
    """etcd TestApplyRequest in server_test.go."""
    store = Store()
    seen = [
        apply(store, method="PUT", path="/1/a", val="1"),
        apply(store, method="PUT", path="/1/a", val="2", prev_exist=True),
        apply(store, method="PUT", path="/1/b", val="1", prev_exist=False),
        apply(store, method="PUT", path="/1/a", val="3", prev_value="2"),
        apply(store, method="PUT", path="/1/a", val="4", prev_index=4, prev_exist=True),
        apply(store, method="POST", path="/1/q", val="1"),
        apply(store, method="QGET", path="/1/a"),
        apply(store, method="DELETE", path="/1/a", prev_value="4"),
        apply(store, method="DELETE", path="/1/b"),
        apply(store, method="PUT", path="/1/t", expiration=10**18),
    ]

    assert [event.action for event in seen if isinstance(event, Event)] == [
        "set", "update", "create", "compareAndSwap", "compareAndSwap", "create", "get", "compareAndDelete", "delete",
        "set",
    ]  # fmt: skip
    assert apply(store, method="SYNC", time=10**18) is None
    refused = apply(store, method="QGET", path="/1/t")
    assert isinstance(refused, V2Error) and refused.code == errors.KEY_NOT_FOUND


def test_not_existing_wins_over_comparing() -> None:
    store = Store()

    created = apply(store, method="PUT", path="/1/a", val="1", prev_exist=False, prev_value="x")

    assert isinstance(created, Event) and created.action == "create"


def test_unknown_methods_are_refused() -> None:
    refused = apply(Store(), method="GET", path="/1/a")

    assert isinstance(refused, UnknownError) and refused.text == "etcdserver: unknown method"


def test_what_membership_keeps_is_handed_to_it() -> None:
    store = Store()

    assert apply(store, method="PUT", path="/0/members/8e9E/attributes", val="{}") == MemberAttributesPut(
        member_id=0x8E9E, value="{}"
    )
    assert apply(store, method="PUT", path="/0/version", val="3.5.0") == ClusterVersionPut(version="3.5.0")
    assert store.current_index == 0


def test_a_clients_key_does_not_pass_for_a_members() -> None:
    """etcd's pattern has no anchors: this key stops its server."""
    store = Store()

    event = apply(store, method="PUT", path="/1/0/members/abc/attributes", val="{}")

    assert isinstance(event, Event) and event.node.key == "/1/0/members/abc/attributes"
