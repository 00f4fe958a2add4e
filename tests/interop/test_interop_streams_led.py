"""Streams whose clients require a leader end when their member has lost it; those of others live on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.clusters import cluster
from tests.interop.servers import Program, balsad, real
from tests.interop.v3 import V3, connect

STRICT = (("hasleader", "true"),)


def streams(v3: V3, metadata: Any) -> list[Any]:
    """A watch that watches, one that never said what, a stream of renewals; each with its requests open."""
    opened: list[Any] = []
    for method, first, response in (
        ("Watch/Watch", [rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))], rpc.WatchResponse),
        ("Watch/Watch", [], rpc.WatchResponse),
        ("Lease/LeaseKeepAlive", [], rpc.LeaseKeepAliveResponse),
    ):
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in first:
            requests.put(request)
        stub = v3.channel.stream_stream(
            f"/etcdserverpb.{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )
        opened.append(stub(iter(requests.get, None), metadata=metadata))
    assert next(opened[0]).created
    return opened


@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", [balsad, real], ids=["ours", "theirs"])
def test_streams_that_require_a_leader_end_without_one(program: Callable[[], Program], tmp_path: Path) -> None:
    with cluster(tmp_path, dict.fromkeys(("m0", "m1", "m2"), program())) as one:
        one.make_leader("m0")
        with connect(f"127.0.0.1:{one.seat('m1').client.number}") as v3:
            strict, easy = streams(v3, STRICT), streams(v3, ())
            for name in ("m0", "m2"):
                one.members.pop(name).kill()
            for stream in strict:
                with pytest.raises(grpc.RpcError) as ended:
                    next(stream)
                assert (ended.value.code().name, ended.value.details()) == ("UNAVAILABLE", "etcdserver: no leader")
            assert [stream.is_active() for stream in easy] == [True] * 3
            for stream in easy:
                stream.cancel()
