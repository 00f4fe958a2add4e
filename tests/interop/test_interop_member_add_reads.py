"""From one voter to two: who was alone has to ask a quorum from the very change on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import HeldPort, program, programs, start
from tests.interop.v3 import connect


@pytest.mark.real
@pytest.mark.parametrize("who", programs())
def test_a_linearizable_read_waits_for_the_second_voter(who: str, tmp_path: Path) -> None:
    """Source: etcd linearizableReadLoop: a read index wants a quorum of the voters there are now."""
    absent = HeldPort()
    questions: list[tuple[str, Any, Any]] = [
        ("KV/Range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse),
        (
            "KV/Txn",
            rpc.TxnRequest(success=[rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))]),
            rpc.TxnResponse,
        ),
        ("Cluster/MemberList", rpc.MemberListRequest(linearizable=True), rpc.MemberListResponse),
    ]
    with start(program(who), tmp_path / "data") as member, connect(member.address) as v3:
        v3.put(b"a", b"1")
        assert v3.range(b"a").count == 1
        url = f"http://127.0.0.1:{absent.number}"
        v3.call("Cluster/MemberAdd", rpc.MemberAddRequest(peerURLs=[url]), rpc.MemberAddResponse)

        for method, question, answer in questions:
            with pytest.raises(grpc.RpcError):
                v3.call(method, question, answer, timeout=0.5)
        assert v3.range(b"a", serializable=True).count == 1
        listed = v3.call("Cluster/MemberList", rpc.MemberListRequest(), rpc.MemberListResponse)
        assert len(listed.members) == 2
