"""gRPC calls on behalf of users, and two servers that are asked the same and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from balsad.proto import auth_pb2
from balsad.proto import rpc_pb2 as rpc

TIMEOUT_S = 10.0
ROOT = ("root", "rpw")

RESPONSES: dict[str, Any] = {
    "KV/Range": rpc.RangeResponse,
    "KV/Put": rpc.PutResponse,
    "KV/DeleteRange": rpc.DeleteRangeResponse,
    "KV/Txn": rpc.TxnResponse,
    "KV/Compact": rpc.CompactionResponse,
    "Lease/LeaseGrant": rpc.LeaseGrantResponse,
    "Lease/LeaseRevoke": rpc.LeaseRevokeResponse,
    "Lease/LeaseTimeToLive": rpc.LeaseTimeToLiveResponse,
    "Lease/LeaseLeases": rpc.LeaseLeasesResponse,
    "Cluster/MemberList": rpc.MemberListResponse,
    "Cluster/MemberAdd": rpc.MemberAddResponse,
    "Cluster/MemberRemove": rpc.MemberRemoveResponse,
    "Cluster/MemberUpdate": rpc.MemberUpdateResponse,
    "Cluster/MemberPromote": rpc.MemberPromoteResponse,
    "Maintenance/Alarm": rpc.AlarmResponse,
    "Maintenance/Defragment": rpc.DefragmentResponse,
    "Maintenance/Hash": rpc.HashResponse,
    "Maintenance/HashKV": rpc.HashKVResponse,
    "Maintenance/MoveLeader": rpc.MoveLeaderResponse,
    "Maintenance/Status": rpc.StatusResponse,
    "Auth/AuthEnable": rpc.AuthEnableResponse,
    "Auth/AuthDisable": rpc.AuthDisableResponse,
    "Auth/AuthStatus": rpc.AuthStatusResponse,
    "Auth/Authenticate": rpc.AuthenticateResponse,
    "Auth/UserAdd": rpc.AuthUserAddResponse,
    "Auth/UserGet": rpc.AuthUserGetResponse,
    "Auth/UserList": rpc.AuthUserListResponse,
    "Auth/UserDelete": rpc.AuthUserDeleteResponse,
    "Auth/UserChangePassword": rpc.AuthUserChangePasswordResponse,
    "Auth/UserGrantRole": rpc.AuthUserGrantRoleResponse,
    "Auth/UserRevokeRole": rpc.AuthUserRevokeRoleResponse,
    "Auth/RoleAdd": rpc.AuthRoleAddResponse,
    "Auth/RoleGet": rpc.AuthRoleGetResponse,
    "Auth/RoleList": rpc.AuthRoleListResponse,
    "Auth/RoleDelete": rpc.AuthRoleDeleteResponse,
    "Auth/RoleGrantPermission": rpc.AuthRoleGrantPermissionResponse,
    "Auth/RoleRevokePermission": rpc.AuthRoleRevokePermissionResponse,
}


class AuthCalls:
    """One channel to one member; `token` and other metadata go with each call as told."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = (
            grpc.insecure_channel(address, options=options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=options)
        )

    def close(self) -> None:
        self.channel.close()

    def call(self, method: str, request: Any, token: str | None = None, **metadata: str) -> Any:
        """The response. Raises: grpc.RpcError."""
        stub = self.channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=RESPONSES[method].FromString,
        )
        sent = list(metadata.items()) + ([("token", token)] if token is not None else [])
        return stub(request, timeout=TIMEOUT_S, metadata=sent)

    def outcome(self, method: str, request: Any, token: str | None = None, **metadata: str) -> Any:
        """The response without what differs between two members, or code and words of the refusal."""
        try:
            response = self.call(method, request, token, **metadata)
        except grpc.RpcError as refusal:
            return refusal.code().name, refusal.details()
        header = response.header
        header.cluster_id = header.member_id = header.raft_term = 0
        if method == "Auth/Authenticate":
            response.token = "given" if response.token else ""
        return response

    def login(self, name: str, password: str) -> str:
        token: str = self.call("Auth/Authenticate", rpc.AuthenticateRequest(name=name, password=password)).token
        return token

    def watch(self, request: rpc.WatchCreateRequest, token: str | None = None) -> rpc.WatchResponse:
        """The first answer to one watch."""
        stub = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )
        metadata = [("token", token)] if token is not None else []
        answers = stub(iter([rpc.WatchRequest(create_request=request)]), timeout=TIMEOUT_S, metadata=metadata)
        answer: rpc.WatchResponse = next(answers)
        answers.cancel()
        return answer

    # What most tests begin with.

    def add_user(self, name: str, password: str, *roles: str, token: str | None = None) -> None:
        self.call("Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password=password), token)
        for role in roles:
            self.call("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=role), token)

    def add_role(self, name: str, *permissions: auth_pb2.Permission, token: str | None = None) -> None:
        self.call("Auth/RoleAdd", rpc.AuthRoleAddRequest(name=name), token)
        for permission in permissions:
            request = rpc.AuthRoleGrantPermissionRequest(name=name, perm=permission)
            self.call("Auth/RoleGrantPermission", request, token)

    def enable(self) -> None:
        """Add root and turn authentication on."""
        self.add_user(*ROOT, "root")
        self.call("Auth/AuthEnable", rpc.AuthEnableRequest())


@contextlib.contextmanager
def connect(address: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[AuthCalls]:
    calls = AuthCalls(address, credentials)
    try:
        yield calls
    finally:
        calls.close()
