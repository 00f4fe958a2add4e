"""Users, roles and permissions. Source: etcd client/v3 auth.go."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from balsad.client import messages as m
from balsad.client.kv import Key, key_range, to_bytes

if TYPE_CHECKING:
    from balsad.client.channel import Channel
    from balsad.client.codec import Message

R = TypeVar("R", bound="Message")


class Auth:
    """`client.auth`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def _call(
        self, name: str, request: Message, kind: type[R], timeout: float | None, *, repeatable: bool = False
    ) -> R:
        deadline = None if timeout is None else self._channel.loop.time() + timeout
        path = f"/etcdserverpb.Auth/{name}"
        return await self._channel.unary(path, request, kind, deadline=deadline, repeatable=repeatable)

    async def authenticate(self, name: str, password: str, *, timeout: float | None = None) -> m.AuthenticateResponse:
        """A token for a user. Raises AuthFailedError, AuthNotEnabledError."""
        request = m.AuthenticateRequest(name=name, password=password)
        return await self._call("Authenticate", request, m.AuthenticateResponse, timeout)

    async def enable(self, *, timeout: float | None = None) -> m.AuthEnableResponse:
        """Ask everybody for a user from now on. Raises RootUserNotExistError, RootRoleNotExistError."""
        return await self._call("AuthEnable", m.AuthEnableRequest(), m.AuthEnableResponse, timeout)

    async def disable(self, *, timeout: float | None = None) -> m.AuthDisableResponse:
        return await self._call("AuthDisable", m.AuthDisableRequest(), m.AuthDisableResponse, timeout)

    async def status(self, *, timeout: float | None = None) -> m.AuthStatusResponse:
        return await self._call("AuthStatus", m.AuthStatusRequest(), m.AuthStatusResponse, timeout)

    async def user_add(
        self, name: str, password: str = "", *, no_password: bool = False, timeout: float | None = None
    ) -> m.AuthUserAddResponse:
        request = m.AuthUserAddRequest(name=name, password=password, options=m.UserAddOptions(no_password=no_password))
        return await self._call("UserAdd", request, m.AuthUserAddResponse, timeout)

    async def user_delete(self, name: str, *, timeout: float | None = None) -> m.AuthUserDeleteResponse:
        return await self._call("UserDelete", m.AuthUserDeleteRequest(name=name), m.AuthUserDeleteResponse, timeout)

    async def user_get(self, name: str, *, timeout: float | None = None) -> m.AuthUserGetResponse:
        request = m.AuthUserGetRequest(name=name)
        return await self._call("UserGet", request, m.AuthUserGetResponse, timeout, repeatable=True)

    async def user_list(self, *, timeout: float | None = None) -> m.AuthUserListResponse:
        request = m.AuthUserListRequest()
        return await self._call("UserList", request, m.AuthUserListResponse, timeout, repeatable=True)

    async def user_change_password(
        self, name: str, password: str, *, timeout: float | None = None
    ) -> m.AuthUserChangePasswordResponse:
        request = m.AuthUserChangePasswordRequest(name=name, password=password)
        return await self._call("UserChangePassword", request, m.AuthUserChangePasswordResponse, timeout)

    async def user_grant_role(
        self, user: str, role: str, *, timeout: float | None = None
    ) -> m.AuthUserGrantRoleResponse:
        request = m.AuthUserGrantRoleRequest(user=user, role=role)
        return await self._call("UserGrantRole", request, m.AuthUserGrantRoleResponse, timeout)

    async def user_revoke_role(
        self, user: str, role: str, *, timeout: float | None = None
    ) -> m.AuthUserRevokeRoleResponse:
        request = m.AuthUserRevokeRoleRequest(name=user, role=role)
        return await self._call("UserRevokeRole", request, m.AuthUserRevokeRoleResponse, timeout)

    async def role_add(self, name: str, *, timeout: float | None = None) -> m.AuthRoleAddResponse:
        return await self._call("RoleAdd", m.AuthRoleAddRequest(name=name), m.AuthRoleAddResponse, timeout)

    async def role_delete(self, name: str, *, timeout: float | None = None) -> m.AuthRoleDeleteResponse:
        return await self._call("RoleDelete", m.AuthRoleDeleteRequest(role=name), m.AuthRoleDeleteResponse, timeout)

    async def role_get(self, name: str, *, timeout: float | None = None) -> m.AuthRoleGetResponse:
        request = m.AuthRoleGetRequest(role=name)
        return await self._call("RoleGet", request, m.AuthRoleGetResponse, timeout, repeatable=True)

    async def role_list(self, *, timeout: float | None = None) -> m.AuthRoleListResponse:
        request = m.AuthRoleListRequest()
        return await self._call("RoleList", request, m.AuthRoleListResponse, timeout, repeatable=True)

    async def role_grant_permission(
        self,
        role: str,
        permission: int,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        from_key: bool = False,
        timeout: float | None = None,
    ) -> m.AuthRoleGrantPermissionResponse:
        """Let a role read or write a range (Permission.READ, WRITE, READWRITE)."""
        first, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
        request = m.AuthRoleGrantPermissionRequest(
            name=role, perm=m.Permission(permType=permission, key=first, range_end=end)
        )
        return await self._call("RoleGrantPermission", request, m.AuthRoleGrantPermissionResponse, timeout)

    async def role_revoke_permission(
        self, role: str, key: Key, range_end: Key = b"", *, timeout: float | None = None
    ) -> m.AuthRoleRevokePermissionResponse:
        request = m.AuthRoleRevokePermissionRequest(role=role, key=to_bytes(key), range_end=to_bytes(range_end))
        return await self._call("RoleRevokePermission", request, m.AuthRoleRevokePermissionResponse, timeout)
