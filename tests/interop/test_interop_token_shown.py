"""A token that nobody has is refused also while authentication is off, as a client that outlived it may show one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.auth_calls import ROOT, AuthCalls, connect
from tests.interop.servers import Member, balsad, fetch, real, start

PUT = rpc.PutRequest(key=b"a", value=b"b")
GET = rpc.RangeRequest(key=b"a")
CALLS: list[tuple[str, Any]] = [
    ("KV/Put", PUT),
    ("KV/Put", rpc.PutRequest(key=b"a", prev_kv=True)),
    ("KV/Put", rpc.PutRequest()),
    ("KV/Range", GET),
    ("KV/Range", rpc.RangeRequest(key=b"a", serializable=True)),
    ("KV/Range", rpc.RangeRequest(key=b"a", range_end=b"z")),
    ("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"a")),
    ("KV/Txn", rpc.TxnRequest(success=[rpc.RequestOp(request_range=GET)])),
    ("KV/Txn", rpc.TxnRequest(success=[rpc.RequestOp(request_put=PUT)])),
    ("KV/Compact", rpc.CompactionRequest(revision=1)),
    ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=100, ID=5)),
    ("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=9)),
    ("Lease/LeaseLeases", rpc.LeaseLeasesRequest()),
    ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=5)),
    ("Cluster/MemberUpdate", rpc.MemberUpdateRequest(ID=5, peerURLs=["http://localhost:1"])),
    ("Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=5)),
    ("Maintenance/Alarm", rpc.AlarmRequest()),
    ("Maintenance/Defragment", rpc.DefragmentRequest()),
    ("Auth/AuthStatus", rpc.AuthStatusRequest()),
    ("Auth/UserAdd", rpc.AuthUserAddRequest(name="u", password="p")),
    ("Auth/UserDelete", rpc.AuthUserDeleteRequest(name="u")),
    ("Auth/AuthDisable", rpc.AuthDisableRequest()),
]
SHOWN: list[dict[str, str]] = [
    {},
    {"token": "abc.1"},
    {"token": "abc"},
    {"token": ""},
    {"authorization": "Bearer abc.1"},
]


def told(calls: AuthCalls, member: Member) -> list[Any]:
    answers: list[Any] = []
    for metadata in SHOWN:
        answers += [(method, metadata, calls.outcome(method, request, **metadata)) for method, request in CALLS]
    watched = [calls.watch(rpc.WatchCreateRequest(key=b"a"), token) for token in (None, "abc.1")]
    answers += [(one.created, one.canceled, one.cancel_reason) for one in watched]
    with pytest.raises(grpc.RpcError) as hashed:
        calls.call("Maintenance/HashKV", rpc.HashKVRequest(), "abc.1")
    answers.append((hashed.value.code(), hashed.value.details()))
    status, body, _ = fetch(
        f"{member.client_url}/v3/kv/range", "POST", b'{"key":"YQ=="}', {"Authorization": "Basic dTpwdw=="}
    )
    answers.append((status, body))
    # Whoever was root while authentication was on is nobody afterwards.
    calls.enable()
    token = calls.login(*ROOT)
    answers.append(calls.outcome("KV/Put", PUT, token))
    answers.append(calls.outcome("Auth/AuthDisable", rpc.AuthDisableRequest(), token))
    answers += [calls.outcome("KV/Range", GET, token), calls.outcome("KV/Put", PUT, token)]
    return answers


def test_a_token_of_nobody_is_refused_while_authentication_is_off(tmp_path: Path) -> None:
    answers: list[list[Any]] = []
    for name, who in (("ours", balsad()), ("theirs", real())):
        with start(who, tmp_path / name) as member, connect(member.address) as calls:
            answers.append(told(calls, member))
    for ours, theirs in zip(*answers, strict=True):
        assert ours == theirs
