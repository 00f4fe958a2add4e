"""Which methods there are, and how each goes on to a member.

    passed on as it came           Auth, Maintenance, Lock, Election, LeaseGrant, LeaseKeepAlive
    passed on, codes lost          KV (`kv`), the rest of Lease and Cluster: see `upstream.end`
    answered here                  MemberList, when there is an address to advertise

Source: etcd server/proxy/grpcproxy; etcdmain/grpc_proxy.go newGRPCProxyServer.
"""

from __future__ import annotations

from typing import Final

from balsad.client.grpc_status import OK, Status
from balsad.errors import UnknownError
from balsad.proxy.upstream import Passage, Upstream, end
from balsad.transport import Call, RpcServer

_PB: Final = "/etcdserverpb."
PASSED: Final = (
    *(f"{_PB}Maintenance/{name}" for name in ("Alarm", "Status", "Defragment", "Hash", "HashKV", "MoveLeader")),
    f"{_PB}Maintenance/Downgrade",
    *(f"{_PB}Auth/{name}" for name in ("AuthEnable", "AuthDisable", "AuthStatus", "Authenticate")),
    *(f"{_PB}Auth/User{name}" for name in ("Add", "Get", "List", "Delete", "ChangePassword", "GrantRole")),
    f"{_PB}Auth/UserRevokeRole",
    *(f"{_PB}Auth/Role{name}" for name in ("Add", "Get", "List", "Delete", "GrantPermission", "RevokePermission")),
    f"{_PB}Lease/LeaseGrant",
    "/v3lockpb.Lock/Lock",
    "/v3lockpb.Lock/Unlock",
    *(f"/v3electionpb.Election/{name}" for name in ("Campaign", "Proclaim", "Leader", "Resign")),
)
TOLD_BY_WORDS: Final = (
    *(f"{_PB}Lease/{name}" for name in ("LeaseRevoke", "LeaseLeases")),
    *(f"{_PB}Cluster/Member{name}" for name in ("Add", "Remove", "Update")),
)
STREAMS: Final = (
    f"{_PB}Lease/LeaseKeepAlive",
    f"{_PB}Maintenance/Snapshot",
    "/v3electionpb.Election/Observe",
)


class NotImplementedHereError(UnknownError):
    message = "not implemented"


def register(server: RpcServer, upstream: Upstream) -> None:
    """Serve by asking members; KV and Watch have modules of their own."""

    def passed(call: Call, message: bytes) -> None:
        upstream.pass_on(call, message, lambda status, answer: _answer(call, status, answer, is_told_apart=True))

    def told_by_words(call: Call, message: bytes) -> None:
        upstream.pass_on(call, message, lambda status, answer: _answer(call, status, answer, is_told_apart=False))

    for path in PASSED:
        server.unary(path, passed)
    for path in TOLD_BY_WORDS:
        server.unary(path, told_by_words)
    for path in STREAMS:
        server.stream(path, lambda call: Passage(upstream, call))
    server.unary(f"{_PB}Cluster/MemberPromote", _member_promote)


def _answer(call: Call, status: Status, answer: bytes, *, is_told_apart: bool) -> None:
    if status.code == OK:
        call.respond(answer)
    else:
        end(call, status, is_told_apart=is_told_apart)


def _member_promote(_call: Call, _message: bytes) -> None:
    raise NotImplementedHereError
