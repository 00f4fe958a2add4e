"""Which path of the gateway calls which method.

Source: etcd rpc.proto, v3lock.proto, v3election.proto (google.api.http) as 3.5.1 binds them; the hash of the keys has a
path of its own since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from balsad.proto import rpc_pb2 as rpc
from balsad.proto import v3election_pb2 as election
from balsad.proto import v3lock_pb2 as lock


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    """/package.Service/Method"""
    request: type[Message]
    answer: type[Message]
    has_many_answers: bool = False
    has_many_requests: bool = False
    stays_open: bool = False
    """The end of the requests is not the end of the call."""


_UNARY: Final = {
    "Auth": {
        "auth/authenticate": "Authenticate",
        "auth/disable": "AuthDisable",
        "auth/enable": "AuthEnable",
        "auth/role/add": "RoleAdd",
        "auth/role/delete": "RoleDelete",
        "auth/role/get": "RoleGet",
        "auth/role/grant": "RoleGrantPermission",
        "auth/role/list": "RoleList",
        "auth/role/revoke": "RoleRevokePermission",
        "auth/status": "AuthStatus",
        "auth/user/add": "UserAdd",
        "auth/user/changepw": "UserChangePassword",
        "auth/user/delete": "UserDelete",
        "auth/user/get": "UserGet",
        "auth/user/grant": "UserGrantRole",
        "auth/user/list": "UserList",
        "auth/user/revoke": "UserRevokeRole",
    },
    "Cluster": {
        "cluster/member/add": "MemberAdd",
        "cluster/member/list": "MemberList",
        "cluster/member/promote": "MemberPromote",
        "cluster/member/remove": "MemberRemove",
        "cluster/member/update": "MemberUpdate",
    },
    "KV": {
        "kv/compaction": "Compact",
        "kv/deleterange": "DeleteRange",
        "kv/put": "Put",
        "kv/range": "Range",
        "kv/txn": "Txn",
    },
    "Lease": {
        "kv/lease/leases": "LeaseLeases",
        "kv/lease/revoke": "LeaseRevoke",
        "kv/lease/timetolive": "LeaseTimeToLive",
        "lease/grant": "LeaseGrant",
        "lease/leases": "LeaseLeases",
        "lease/revoke": "LeaseRevoke",
        "lease/timetolive": "LeaseTimeToLive",
    },
    "Maintenance": {
        "maintenance/alarm": "Alarm",
        "maintenance/defragment": "Defragment",
        "maintenance/downgrade": "Downgrade",
        "maintenance/hash": "Hash",
        "maintenance/hashkv": "HashKV",
        "maintenance/status": "Status",
        "maintenance/transfer-leadership": "MoveLeader",
    },
}


def _routes() -> dict[str, Route]:
    services = rpc.DESCRIPTOR.services_by_name
    found: dict[str, Route] = {}
    for service, methods in _UNARY.items():
        for path, name in methods.items():
            method = (
                services[service].methods_by_name.get(name) or services[service].methods_by_name[f"{service}{name}"]
            )
            found[f"/v3/{path}"] = Route(
                f"/etcdserverpb.{service}/{method.name}",
                getattr(rpc, method.input_type.name),
                getattr(rpc, method.output_type.name),
            )
    found["/v3/maintenance/snapshot"] = Route(
        "/etcdserverpb.Maintenance/Snapshot", rpc.SnapshotRequest, rpc.SnapshotResponse, has_many_answers=True
    )
    found["/v3/lease/keepalive"] = Route(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        rpc.LeaseKeepAliveRequest,
        rpc.LeaseKeepAliveResponse,
        has_many_answers=True,
        has_many_requests=True,
    )
    found["/v3/watch"] = Route(
        "/etcdserverpb.Watch/Watch",
        rpc.WatchRequest,
        rpc.WatchResponse,
        has_many_answers=True,
        has_many_requests=True,
        stays_open=True,
    )
    for service, request, answer in (
        ("v3lockpb.Lock/Lock", lock.LockRequest, lock.LockResponse),
        ("v3lockpb.Lock/Unlock", lock.UnlockRequest, lock.UnlockResponse),
        ("v3electionpb.Election/Campaign", election.CampaignRequest, election.CampaignResponse),
        ("v3electionpb.Election/Proclaim", election.ProclaimRequest, election.ProclaimResponse),
        ("v3electionpb.Election/Leader", election.LeaderRequest, election.LeaderResponse),
        ("v3electionpb.Election/Resign", election.ResignRequest, election.ResignResponse),
        ("v3electionpb.Election/Observe", election.LeaderRequest, election.LeaderResponse),
    ):
        name = service.rpartition(".")[2].lower()
        found[f"/v3/{name}"] = Route(f"/{service}", request, answer, has_many_answers=name.endswith("observe"))
    return found


ROUTES: Final = _routes()
