"""Users and their roles, roles and their permissions, and whether anybody asks for them.

    off --enable (root exists and has role root)--> on --disable--> off

The auth revision, from 1, grows by one with every change of users or roles and
with disable. Whoever is named in the log at an older revision than the store's
is refused: what they may do has been decided anew.

    auth       authEnabled: one byte, 1 or 0; authRevision: u64, big-endian
    authUsers  name -> authpb.User
    authRoles  name -> authpb.Role

Source: etcd server/auth/store.go of 3.5.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from balsad.auth.identity import Identity
from balsad.auth.passwords import COST_DEFAULT, SALT_BYTES, decode_hash, hash_password, new_salt
from balsad.auth.permissions import Grants, insert_permission
from balsad.auth.tokens import Tokens
from balsad.errors import (
    AuthFailedError,
    AuthNotEnabledError,
    AuthOldRevisionError,
    InvalidAuthMgmtError,
    InvalidAuthTokenError,
    PermissionDeniedError,
    PermissionNotGivenError,
    PermissionNotGrantedError,
    RoleAlreadyExistError,
    RoleEmptyError,
    RoleNotFoundError,
    RoleNotGrantedError,
    RootRoleNotExistError,
    RootUserNotExistError,
    UnknownError,
    UserAlreadyExistError,
    UserEmptyError,
    UserNotFoundError,
)
from balsad.proto import auth_pb2
from balsad.storage import StorageError, schema

ROOT: Final = "root"
"""The name of the user, and of the role, that may do everything."""

NO_PASSWORD_USER: Final = "auth: authentication failed, password was given for no password user"
_LAST: Final = b"\xff"

MessageT = TypeVar("MessageT", bound=Message)


class AuthBackend(Protocol):
    """The part of `storage.Backend` that users and roles are kept in."""

    path: str

    def create_bucket(self, bucket: bytes) -> None: ...

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None: ...

    def delete(self, bucket: bytes, key: bytes) -> None: ...

    def get(self, bucket: bytes, key: bytes) -> bytes | None: ...

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]: ...


class AuthStore:
    """Refusals are raised as RequestError; then nothing has changed."""

    def __init__(self, backend: AuthBackend, tokens: Tokens, *, bcrypt_cost: int = COST_DEFAULT) -> None:
        self.tokens = tokens
        self.bcrypt_cost = bcrypt_cost
        self.enabled = False
        self.revision = 0
        self.on_switch: Callable[[], None] | None = None  # `enabled` has changed
        self._backend = backend
        # What is worked out of the stored users; any change empties it.
        self._grants: dict[str, Grants | None] = {}

    def recover(self) -> None:
        """Read what the backend holds, which may have become another's. Raises: StorageError."""
        backend = self._backend
        for bucket in (schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES):
            backend.create_bucket(bucket)
        stored = backend.get(schema.AUTH, schema.AUTH_REVISION)
        if stored is not None and len(stored) != 8:
            raise StorageError(backend.path, f"bucket auth, authRevision: expected 8 bytes, found {len(stored)}")
        self.revision = int.from_bytes(stored or b"", "big")
        self._grants.clear()
        if self.revision == 0:
            self._bump()
        self._switch(backend.get(schema.AUTH, schema.AUTH_ENABLED) == b"\x01")

    # On and off.

    def enable(self) -> bool:
        """Begin to ask everybody for permission; False when that was so already.

        Raises: RootUserNotExistError, RootRoleNotExistError.
        """
        if self.enabled:
            return False
        root = self._user(ROOT)
        if root is None:
            raise RootUserNotExistError
        if ROOT not in root.roles:
            raise RootRoleNotExistError
        self._backend.put(schema.AUTH, schema.AUTH_ENABLED, b"\x01")
        self._switch(True)
        return True

    def disable(self) -> bool:
        """Stop asking, and forget all tokens; False when nobody was asked anyway."""
        if not self.enabled:
            return False
        self._backend.put(schema.AUTH, schema.AUTH_ENABLED, b"\x00")
        self._bump()
        self._switch(False)
        return True

    def _switch(self, enabled: bool) -> None:
        self.enabled = enabled
        if enabled:
            self.tokens.enable()
        else:
            self.tokens.disable()
        if self.on_switch is not None:
            self.on_switch()

    # Users.

    def add_user(
        self,
        name: str,
        *,
        password: str = "",
        hashed_password: str = "",
        options: auth_pb2.UserAddOptions | None = None,
    ) -> None:
        """`password` in the clear comes only from the log of an etcd before 3.5.

        Raises: UserEmptyError, UserAlreadyExistError, UnknownError.
        """
        if not name:
            raise UserEmptyError
        if self._user(name) is not None:
            raise UserAlreadyExistError
        user = auth_pb2.User(name=name.encode())
        # Present even when it says nothing: its two bytes are on disk.
        user.options.SetInParent()
        if options is not None:
            user.options.CopyFrom(options)
        if not user.options.no_password:
            user.password = self._chosen_password(name, password, hashed_password)
        self._put_user(user)
        self._bump()

    def delete_user(self, name: str) -> list[str]:
        """The roles the user had. Raises: InvalidAuthMgmtError, UserNotFoundError."""
        if self.enabled and name == ROOT:
            raise InvalidAuthMgmtError
        user = self._existing_user(name)
        self._backend.delete(schema.AUTH_USERS, name.encode())
        self._bump()
        self.tokens.invalidate_user(name)
        return list(user.roles)

    def change_password(self, name: str, *, password: str = "", hashed_password: str = "") -> list[str]:
        """The roles of the user. Raises: UserNotFoundError, UnknownError."""
        user = self._existing_user(name)
        if user.options.no_password:
            user.password = b""
        else:
            user.password = self._chosen_password(name, password, hashed_password)
        self._put_user(user)
        self._bump()
        self.tokens.invalidate_user(name)
        return list(user.roles)

    def _chosen_password(self, name: str, password: str, hashed_password: str) -> bytes:
        if password and not hashed_password:
            # The log of an older etcd left the hashing to each member. The salt need be unique, not secret.
            seed = hashlib.sha256(name.encode() + self.revision.to_bytes(8, "big")).digest()
            return hash_password(password.encode(), new_salt(seed[:SALT_BYTES], self.bcrypt_cost))
        hashed = decode_hash(hashed_password)
        if hashed is None:
            raise UnknownError(NO_PASSWORD_USER)
        return hashed

    def grant_role(self, name: str, role: str) -> bool:
        """False when the user has the role already. Raises: UserNotFoundError, RoleNotFoundError."""
        user = self._existing_user(name)
        # The role root need not exist to be granted.
        if role != ROOT and self._role(role) is None:
            raise RoleNotFoundError
        if role in user.roles:
            return False
        roles = sorted([*user.roles, role])
        del user.roles[:]
        user.roles.extend(roles)
        self._put_user(user)
        self._bump()
        return True

    def revoke_role(self, name: str, role: str) -> None:
        """Raises: InvalidAuthMgmtError, UserNotFoundError, RoleNotGrantedError."""
        if self.enabled and name == ROOT and role == ROOT:
            raise InvalidAuthMgmtError
        user = self._existing_user(name)
        if not _drop_role(user, role):
            raise RoleNotGrantedError
        self._put_user(user)
        self._bump()

    def user_roles(self, name: str) -> list[str]:
        """Raises: UserNotFoundError."""
        return list(self._existing_user(name).roles)

    def user_names(self) -> list[str]:
        return [_text(user.name) for user in self._all(schema.AUTH_USERS, auth_pb2.User)]

    # Roles.

    def add_role(self, name: str) -> None:
        """Raises: RoleEmptyError, RoleAlreadyExistError."""
        if not name:
            raise RoleEmptyError
        if self._role(name) is not None:
            raise RoleAlreadyExistError
        self._put_role(auth_pb2.Role(name=name.encode()))
        self._bump()

    def delete_role(self, name: str) -> None:
        """Also takes it from all who have it. Raises: InvalidAuthMgmtError, RoleNotFoundError."""
        if self.enabled and name == ROOT:
            raise InvalidAuthMgmtError
        self._existing_role(name)
        self._backend.delete(schema.AUTH_ROLES, name.encode())
        for user in self._all(schema.AUTH_USERS, auth_pb2.User):
            if _drop_role(user, name):
                self._put_user(user)
        self._bump()

    def grant_permission(self, name: str, permission: auth_pb2.Permission | None) -> None:
        """Raises: PermissionNotGivenError, RoleNotFoundError."""
        if permission is None:
            raise PermissionNotGivenError
        role = self._existing_role(name)
        new = auth_pb2.Permission(permType=permission.permType, key=permission.key, range_end=permission.range_end)
        permissions = list(role.keyPermission)
        insert_permission(permissions, new)
        self._put_role(auth_pb2.Role(name=role.name, keyPermission=permissions))
        self._bump()

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """Raises: RoleNotFoundError, PermissionNotGrantedError."""
        role = self._existing_role(name)
        kept = [each for each in role.keyPermission if each.key != key or each.range_end != range_end]
        if len(kept) == len(role.keyPermission):
            raise PermissionNotGrantedError
        self._put_role(auth_pb2.Role(name=role.name, keyPermission=kept))
        self._bump()

    def role_permissions(self, name: str) -> list[auth_pb2.Permission]:
        """Raises: RoleNotFoundError."""
        return list(self._existing_role(name).keyPermission)

    def role_names(self) -> list[str]:
        return [_text(role.name) for role in self._all(schema.AUTH_ROLES, auth_pb2.Role)]

    # Logging in.

    def password_of(self, name: str) -> tuple[bytes, int]:
        """The hash to compare a password with, and the revision at which it was right.

        Raises: AuthNotEnabledError, AuthFailedError, UnknownError.
        """
        if not self.enabled:
            raise AuthNotEnabledError
        user = self._user(name)
        if user is None:
            raise AuthFailedError
        if user.options.no_password:
            raise UnknownError(NO_PASSWORD_USER)
        return user.password, self.revision

    def authenticate(self, name: str, *, prefix: str, index: int, now: float, unix_now: float) -> str:
        """The token of a user whose password was found right by the member that proposed the login.

        Raises: AuthNotEnabledError, AuthFailedError, UnknownError.
        """
        if not self.enabled:
            raise AuthNotEnabledError
        user = self._user(name)
        if user is None or user.options.no_password:
            raise AuthFailedError
        return self.tokens.assign(name, self.revision, prefix=prefix, index=index, now=now, unix_now=unix_now)

    def identify(self, token: str, *, now: float, unix_now: float) -> Identity:
        """Raises: InvalidAuthTokenError."""
        identity = self.tokens.identify(token, self.revision, now=now, unix_now=unix_now)
        if identity is None:
            raise InvalidAuthTokenError
        return identity

    # Who may.

    def check_put(self, who: Identity, key: bytes) -> None:
        """Raises: UserEmptyError, AuthOldRevisionError, PermissionDeniedError; so do those below."""
        grants = self._judged(who)
        if grants is not None and not grants.may_write(key, b""):
            raise PermissionDeniedError

    def check_range(self, who: Identity, key: bytes, end: bytes) -> None:
        grants = self._judged(who)
        if grants is not None and not grants.may_read(key, end):
            raise PermissionDeniedError

    def check_delete_range(self, who: Identity, key: bytes, end: bytes) -> None:
        grants = self._judged(who)
        if grants is not None and not grants.may_write(key, end):
            raise PermissionDeniedError

    def _judged(self, who: Identity) -> Grants | None:
        """What `who` may do; None while nobody is asked."""
        if not self.enabled:
            return None
        if who.revision == 0:
            raise UserEmptyError
        if who.revision < self.revision:
            raise AuthOldRevisionError
        grants = self._grants_of(who.username)
        if grants is None:
            raise PermissionDeniedError
        return grants

    def check_admin(self, who: Identity) -> None:
        """Raises: UserEmptyError, UserNotFoundError, PermissionDeniedError."""
        if not self.enabled:
            return
        if not who.username:
            raise UserEmptyError
        grants = self._grants_of(who.username)
        if grants is None:
            raise UserNotFoundError
        if not grants.is_root:
            raise PermissionDeniedError

    def has_role(self, name: str, role: str) -> bool:
        user = self._user(name)
        return user is not None and role in user.roles

    def _grants_of(self, name: str) -> Grants | None:
        if name in self._grants:
            return self._grants[name]
        user = self._user(name)
        grants = None
        if user is not None:
            grants = Grants(is_root=ROOT in user.roles)
            for role_name in user.roles:
                role = self._role(role_name)
                if role is not None:
                    for permission in role.keyPermission:
                        grants.add(permission)
            self._grants[name] = grants
        return grants

    # Rows of the backend.

    def _bump(self) -> None:
        self.revision += 1
        self._backend.put(schema.AUTH, schema.AUTH_REVISION, self.revision.to_bytes(8, "big"))
        self._grants.clear()

    def _read(self, bucket: bytes, name: bytes, row: bytes, message: type[MessageT]) -> MessageT:
        try:
            return message.FromString(row)
        except DecodeError as error:
            reason = f"bucket {bucket.decode()}, {name!r}: expected an authpb.{message.__name__}, found {row[:40]!r}"
            raise StorageError(self._backend.path, reason) from error

    def _get(self, bucket: bytes, name: str, message: type[MessageT]) -> MessageT | None:
        # No row has an empty name, and an empty key is none to ask a bucket for.
        key = name.encode()
        row = self._backend.get(bucket, key) if key else None
        return None if row is None else self._read(bucket, key, row, message)

    def _all(self, bucket: bytes, message: type[MessageT]) -> list[MessageT]:
        rows = self._backend.scan(bucket, b"\0", _LAST)
        return [self._read(bucket, name, row, message) for name, row in rows]

    def _user(self, name: str) -> auth_pb2.User | None:
        return self._get(schema.AUTH_USERS, name, auth_pb2.User)

    def _existing_user(self, name: str) -> auth_pb2.User:
        user = self._user(name)
        if user is None:
            raise UserNotFoundError
        return user

    def _put_user(self, user: auth_pb2.User) -> None:
        self._backend.put(schema.AUTH_USERS, user.name, user.SerializeToString())

    def _role(self, name: str) -> auth_pb2.Role | None:
        return self._get(schema.AUTH_ROLES, name, auth_pb2.Role)

    def _existing_role(self, name: str) -> auth_pb2.Role:
        role = self._role(name)
        if role is None:
            raise RoleNotFoundError
        return role

    def _put_role(self, role: auth_pb2.Role) -> None:
        self._backend.put(schema.AUTH_ROLES, role.name, role.SerializeToString())


def _drop_role(user: auth_pb2.User, role: str) -> bool:
    """Take the role from the user; False when there is nothing to take."""
    kept = [each for each in user.roles if each != role]
    if len(kept) == len(user.roles):
        return False
    del user.roles[:]
    user.roles.extend(kept)
    return True


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
