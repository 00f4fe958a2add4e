"""etcdserverpb.Auth: users, roles, permissions, logging in.

Everything goes through the log, reads too; who may is decided where it is applied.

Source: etcd server/etcdserver/api/v3rpc/auth.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.api.v3.door import Door, decode
from balsad.proto import rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from balsad.server.service import Service
    from balsad.transport import Call, RpcServer

_FORWARDED: Final[dict[str, tuple[str, type[Message]]]] = {
    "AuthEnable": ("auth_enable", rpc_pb2.AuthEnableRequest),
    "AuthDisable": ("auth_disable", rpc_pb2.AuthDisableRequest),
    "AuthStatus": ("auth_status", rpc_pb2.AuthStatusRequest),
    "UserGet": ("auth_user_get", rpc_pb2.AuthUserGetRequest),
    "UserList": ("auth_user_list", rpc_pb2.AuthUserListRequest),
    "UserDelete": ("auth_user_delete", rpc_pb2.AuthUserDeleteRequest),
    "UserGrantRole": ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest),
    "UserRevokeRole": ("auth_user_revoke_role", rpc_pb2.AuthUserRevokeRoleRequest),
    "RoleAdd": ("auth_role_add", rpc_pb2.AuthRoleAddRequest),
    "RoleGet": ("auth_role_get", rpc_pb2.AuthRoleGetRequest),
    "RoleList": ("auth_role_list", rpc_pb2.AuthRoleListRequest),
    "RoleDelete": ("auth_role_delete", rpc_pb2.AuthRoleDeleteRequest),
    "RoleGrantPermission": ("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionRequest),
    "RoleRevokePermission": ("auth_role_revoke_permission", rpc_pb2.AuthRoleRevokePermissionRequest),
}
"""Method: its field in the log's entries, and its request."""


class AuthApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    def register(self, server: RpcServer) -> None:
        prefix = "/etcdserverpb.Auth/"
        for name, (field, message) in _FORWARDED.items():
            server.unary(prefix + name, _Forward(self._service, self._door, field, message))
        server.unary(prefix + "Authenticate", self.authenticate)
        server.unary(prefix + "UserAdd", self.user_add)
        server.unary(prefix + "UserChangePassword", self.user_change_password)

    def authenticate(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.passwords.authenticate(call, decode(rpc_pb2.AuthenticateRequest, raw))

    def user_add(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.passwords.add_user(call, decode(rpc_pb2.AuthUserAddRequest, raw))

    def user_change_password(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.passwords.change_password(call, decode(rpc_pb2.AuthUserChangePasswordRequest, raw))


class _Forward:
    """The handler of a method that goes into the log as it came."""

    def __init__(self, service: Service, door: Door, field: str, message: type[Message]) -> None:
        self._service = service
        self._door = door
        self._field = field
        self._message = message

    def __call__(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.auth_request(self._field, decode(self._message, raw), call)
