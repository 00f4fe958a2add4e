"""Permission to apply what is in the log, and the requests that change who has it.

Every member asks again when it applies an entry, by the name and the auth
revision in the entry's header: what counts is what the user may do at that
place in the log.

Source: etcd server/etcdserver/apply_auth.go of 3.5.1; nested txns, and puts
within a txn, are checked as later patch releases do, which leave no way
around a missing permission.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from balsad.auth import Identity
from balsad.proto import auth_pb2, raft_internal_pb2, rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from balsad.auth import AuthStore
    from balsad.env import Clock
    from balsad.lease import Lessor

log = logging.getLogger(__name__)

_FOR_ANYBODY: Final = frozenset(("authenticate", "auth_user_get", "auth_role_get"))
"""All other requests about users and roles are root's; these two gets look for themselves who asks."""


class AuthApplier:
    def __init__(self, store: AuthStore, lessor: Lessor, clock: Clock) -> None:
        """`clock` only says how long a token lives on this member; it decides nothing about the store."""
        self.store = store
        self._lessor = lessor
        self._clock = clock
        self._requests: dict[str, Callable[[Any], Message]] = {
            "auth_enable": self._enable,
            "auth_disable": self._disable,
            "auth_status": self._status,
            "auth_user_add": self._add_user,
            "auth_user_delete": self._delete_user,
            "auth_user_change_password": self._change_password,
            "auth_user_grant_role": self._grant_role,
            "auth_user_revoke_role": self._revoke_role,
            "auth_user_list": self._list_users,
            "auth_role_add": self._add_role,
            "auth_role_delete": self._delete_role,
            "auth_role_grant_permission": self._grant_permission,
            "auth_role_revoke_permission": self._revoke_permission,
            "auth_role_list": self._list_roles,
        }

    # What others may do with keys. All raise RequestError, and nothing while authentication is off.

    def check_put(self, who: Identity, request: rpc_pb2.PutRequest) -> None:
        self.store.check_put(who, request.key)
        # Whoever hangs a key on a lease must be able to revoke it.
        self._check_lease(who, request.lease)
        if request.prev_kv:
            self.store.check_range(who, request.key, b"")

    def check_delete_range(self, who: Identity, request: rpc_pb2.DeleteRangeRequest) -> None:
        self.store.check_delete_range(who, request.key, request.range_end)
        if request.prev_kv:
            self.store.check_range(who, request.key, request.range_end)

    def check_txn(self, who: Identity, request: rpc_pb2.TxnRequest) -> None:
        for compare in request.compare:
            self.store.check_range(who, compare.key, compare.range_end)
        self._check_operations(who, request.success)
        self._check_operations(who, request.failure)

    def _check_operations(self, who: Identity, operations: Iterable[rpc_pb2.RequestOp]) -> None:
        for operation in operations:
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                self.store.check_range(who, operation.request_range.key, operation.request_range.range_end)
            elif kind == "request_put":
                self.check_put(who, operation.request_put)
            elif kind == "request_delete_range":
                self.check_delete_range(who, operation.request_delete_range)
            elif kind == "request_txn":
                self.check_txn(who, operation.request_txn)

    def check_revoke(self, who: Identity, request: rpc_pb2.LeaseRevokeRequest) -> None:
        self._check_lease(who, request.ID)

    def _check_lease(self, who: Identity, lease_id: int) -> None:
        lease = self._lessor.lookup(lease_id) if lease_id else None
        if lease is not None:
            for key in lease.sorted_keys():
                self.store.check_put(who, key)

    # Users and roles.

    def apply(self, field: str, request: Any, who: Identity, *, index: int) -> bytes | None:
        """The answer without its header to a request of this service, None for any other. Raises: RequestError."""
        handler = self._requests.get(field)
        if handler is not None:
            self.store.check_admin(who)
            return handler(request).SerializeToString()
        if field == "authenticate":
            return self._authenticate(request, index).SerializeToString()
        if field == "auth_user_get":
            return self._get_user(request, who).SerializeToString()
        if field == "auth_role_get":
            return self._get_role(request, who).SerializeToString()
        return None

    def _enable(self, request: rpc_pb2.AuthEnableRequest) -> Message:
        if self.store.enable():
            log.info("enabled authentication")
        else:
            log.info("authentication is already enabled; ignored auth enable request")
        return rpc_pb2.AuthEnableResponse()

    def _disable(self, request: rpc_pb2.AuthDisableRequest) -> Message:
        if self.store.disable():
            log.info("disabled authentication")
        return rpc_pb2.AuthDisableResponse()

    def _status(self, request: rpc_pb2.AuthStatusRequest) -> Message:
        return rpc_pb2.AuthStatusResponse(enabled=self.store.enabled, authRevision=self.store.revision)

    def _authenticate(self, request: raft_internal_pb2.InternalAuthenticateRequest, index: int) -> Message:
        clock = self._clock
        token = self.store.authenticate(
            request.name, prefix=request.simple_token, index=index, now=clock.monotonic(), unix_now=clock.time()
        )
        return rpc_pb2.AuthenticateResponse(token=token)

    def _add_user(self, request: rpc_pb2.AuthUserAddRequest) -> Message:
        self.store.add_user(
            request.name,
            password=request.password,
            hashed_password=request.hashedPassword,
            options=request.options if request.HasField("options") else None,
        )
        log.info("added a user", extra={"user-name": request.name})
        return rpc_pb2.AuthUserAddResponse()

    def _delete_user(self, request: rpc_pb2.AuthUserDeleteRequest) -> Message:
        roles = self.store.delete_user(request.name)
        log.info("deleted a user", extra={"user-name": request.name, "user-roles": roles})
        return rpc_pb2.AuthUserDeleteResponse()

    def _change_password(self, request: rpc_pb2.AuthUserChangePasswordRequest) -> Message:
        roles = self.store.change_password(
            request.name, password=request.password, hashed_password=request.hashedPassword
        )
        log.info("changed a password of a user", extra={"user-name": request.name, "user-roles": roles})
        return rpc_pb2.AuthUserChangePasswordResponse()

    def _grant_role(self, request: rpc_pb2.AuthUserGrantRoleRequest) -> Message:
        if self.store.grant_role(request.user, request.role):
            log.info(
                "granted a role to a user",
                extra={
                    "user-name": request.user,
                    "user-roles": self.store.user_roles(request.user),
                    "added-role-name": request.role,
                },
            )
        else:
            log.warning(
                "ignored grant role request to a user",
                extra={
                    "user-name": request.user,
                    "user-roles": self.store.user_roles(request.user),
                    "duplicate-role-name": request.role,
                },
            )
        return rpc_pb2.AuthUserGrantRoleResponse()

    def _revoke_role(self, request: rpc_pb2.AuthUserRevokeRoleRequest) -> Message:
        self.store.revoke_role(request.name, request.role)
        log.info(
            "revoked a role from a user",
            extra={
                "user-name": request.name,
                "new-user-roles": self.store.user_roles(request.name),
                "revoked-role-name": request.role,
            },
        )
        return rpc_pb2.AuthUserRevokeRoleResponse()

    def _get_user(self, request: rpc_pb2.AuthUserGetRequest, who: Identity) -> Message:
        if request.name != who.username:
            self.store.check_admin(who)
        return rpc_pb2.AuthUserGetResponse(roles=self.store.user_roles(request.name))

    def _list_users(self, request: rpc_pb2.AuthUserListRequest) -> Message:
        return rpc_pb2.AuthUserListResponse(users=self.store.user_names())

    def _add_role(self, request: rpc_pb2.AuthRoleAddRequest) -> Message:
        self.store.add_role(request.name)
        log.info("created a role", extra={"role-name": request.name})
        return rpc_pb2.AuthRoleAddResponse()

    def _delete_role(self, request: rpc_pb2.AuthRoleDeleteRequest) -> Message:
        self.store.delete_role(request.role)
        log.info("deleted a role", extra={"role-name": request.role})
        return rpc_pb2.AuthRoleDeleteResponse()

    def _grant_permission(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> Message:
        permission = request.perm if request.HasField("perm") else None
        self.store.grant_permission(request.name, permission)
        kind: int = request.perm.permType
        names = auth_pb2.Permission.Type.DESCRIPTOR.values_by_number
        log.info(
            "granted/updated a permission to a user",
            extra={"user-name": request.name, "permission-name": names[kind].name if kind in names else ""},
        )
        return rpc_pb2.AuthRoleGrantPermissionResponse()

    def _revoke_permission(self, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> Message:
        self.store.revoke_permission(request.role, request.key, request.range_end)
        log.info(
            "revoked a permission on range",
            extra={
                "role-name": request.role,
                "key": request.key.decode("utf-8", "replace"),
                "range-end": request.range_end.decode("utf-8", "replace"),
            },
        )
        return rpc_pb2.AuthRoleRevokePermissionResponse()

    def _get_role(self, request: rpc_pb2.AuthRoleGetRequest, who: Identity) -> Message:
        if not self.store.has_role(who.username, request.role):
            self.store.check_admin(who)
        return rpc_pb2.AuthRoleGetResponse(perm=self.store.role_permissions(request.role))

    def _list_roles(self, request: rpc_pb2.AuthRoleListRequest) -> Message:
        return rpc_pb2.AuthRoleListResponse(roles=self.store.role_names())
