"""Keys of a namespace towards members and towards clients. Source: etcd client/v3/namespace."""

from __future__ import annotations

import pytest

from balsad.errors import EmptyKeyError
from balsad.proto import kv_pb2, rpc_pb2
from balsad.proxy.namespace import Namespace


@pytest.mark.parametrize(
    ("prefix", "given", "wanted"),
    [
        (b"ns/", (b"a", b""), (b"ns/a", b"")),
        (b"ns/", (b"a", b"c"), (b"ns/a", b"ns/c")),
        (b"ns/", (b"\0", b"\0"), (b"ns/\0", b"ns0")),
        (b"n\xff", (b"a", b"\0"), (b"n\xffa", b"o")),
        (b"\xff\xff", (b"a", b"\0"), (b"\xff\xffa", b"\0")),
    ],
)
def test_ranges_that_members_see(prefix: bytes, given: tuple[bytes, bytes], wanted: tuple[bytes, bytes]) -> None:
    assert Namespace(prefix).inside(*given) == wanted


def test_a_missing_key_is_not_hidden_by_the_prefix() -> None:
    for enter, request in (
        (Namespace(b"ns/").enter, rpc_pb2.RangeRequest()),
        (Namespace(b"ns/").enter_put, rpc_pb2.PutRequest(value=b"v")),
    ):
        with pytest.raises(EmptyKeyError):
            enter(request)  # type: ignore[operator]


def test_txns_are_entered_and_left_to_the_innermost() -> None:
    def put(key: bytes) -> rpc_pb2.RequestOp:
        return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key))

    request = rpc_pb2.TxnRequest(
        compare=[rpc_pb2.Compare(key=b"a", range_end=b"\0")],
        success=[
            rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=[put(b"b")])),
            rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"c", range_end=b"d")),
        ],
        failure=[rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"e"))],
    )
    namespace = Namespace(b"n/")
    namespace.enter_txn(request)
    assert (request.compare[0].key, request.compare[0].range_end) == (b"n/a", b"n0")
    assert request.success[0].request_txn.success[0].request_put.key == b"n/b"
    assert request.success[1].request_range.range_end == b"n/d"
    assert request.failure[0].request_delete_range.key == b"n/e"

    pair = kv_pb2.KeyValue(key=b"n/b")
    answer = rpc_pb2.TxnResponse(
        responses=[
            rpc_pb2.ResponseOp(
                response_txn=rpc_pb2.TxnResponse(
                    responses=[rpc_pb2.ResponseOp(response_put=rpc_pb2.PutResponse(prev_kv=pair))]
                )
            ),
            rpc_pb2.ResponseOp(response_range=rpc_pb2.RangeResponse(kvs=[pair])),
            rpc_pb2.ResponseOp(response_delete_range=rpc_pb2.DeleteRangeResponse(prev_kvs=[pair])),
        ]
    )
    namespace.leave_txn(answer)
    assert answer.responses[0].response_txn.responses[0].response_put.prev_kv.key == b"b"
    assert answer.responses[1].response_range.kvs[0].key == b"b"
    assert answer.responses[2].response_delete_range.prev_kvs[0].key == b"b"


def test_of_a_leases_keys_those_of_others_are_not_told() -> None:
    assert Namespace(b"n/").own([b"n/a", b"m/b", b"n", b"n/"]) == [b"a", b""]
