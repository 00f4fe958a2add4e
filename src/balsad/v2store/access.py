"""Users and roles of the v2 API as values: how they are stored, changed, and what they may do.

    /2/enabled        true or false
    /2/users/NAME     {"user":"NAME","password":"$2a$...","roles":["reader"]}
    /2/roles/NAME     {"role":"NAME","permissions":{"kv":{"read":["/r/*"],"write":[]}}}

A pattern is a key, or with `*` at its end the beginning of keys. The role `root` may do everything and is stored
nowhere. A list that was never set (None) is written `null` and is another value than an empty one, as in Go.

Source: etcd server/etcdserver/api/v2auth/auth.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from balsad import go_json

ROOT: Final = "root"
GUEST: Final = "guest"

Names: TypeAlias = tuple[str, ...] | None


class AuthRefusalError(Exception):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def conflict(text: str) -> AuthRefusalError:
    return AuthRefusalError(409, f"auth: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Patterns of keys that may be read, and of those that may be written."""

    read: Names = None
    write: Names = None

    @property
    def is_empty(self) -> bool:
        return not self.read and not self.write

    def granted(self, more: Permissions) -> Permissions:
        """Raises AuthRefusalError for what is granted already."""
        return Permissions(
            read=_with(self.read, more.read, "read"),
            write=_with(self.write, more.write, "write"),
        )

    def revoked(self, less: Permissions) -> Permissions:
        return Permissions(read=_without(self.read, less.read), write=_without(self.write, less.write))

    def allow(self, key: str, *, write: bool, recursive: bool = False) -> bool:
        """`recursive`: everything that begins with the key, which takes a pattern with a star."""
        for pattern in (self.write if write else self.read) or ():
            if pattern.endswith("*"):
                if key.startswith(pattern[:-1]):
                    return True
            elif not recursive and pattern == key:
                return True
        return False

    def encode(self) -> str:
        return f'{{"kv":{{"read":{_names_json(self.read)},"write":{_names_json(self.write)}}}}}'


_ALL: Final = Permissions(read=("/*",), write=("/*",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A stored role, or what a client asks for: `grant` and `revoke` are None where they are not mentioned."""

    name: str = ""
    permissions: Permissions = Permissions()
    grant: Permissions | None = None
    revoke: Permissions | None = None

    def merged(self, change: Role) -> Role:
        """This role with the change's grants and revokes. Raises AuthRefusalError."""
        permissions = self.permissions
        if change.grant is not None:
            permissions = permissions.granted(change.grant)
        if change.revoke is not None:
            permissions = permissions.revoked(change.revoke)
        return Role(name=self.name, permissions=permissions)

    def allows(self, key: str, *, write: bool, recursive: bool = False) -> bool:
        return self.name == ROOT or self.permissions.allow(key, write=write, recursive=recursive)

    def encode(self) -> str:
        parts = [f'"role":{go_json.quote(self.name)}', f'"permissions":{self.permissions.encode()}']
        if self.grant is not None:
            parts.append(f'"grant":{self.grant.encode()}')
        if self.revoke is not None:
            parts.append(f'"revoke":{self.revoke.encode()}')
        return f"{{{','.join(parts)}}}"


ROOT_ROLE: Final = Role(name=ROOT, permissions=_ALL)
GUEST_ROLE: Final = Role(name=GUEST, permissions=_ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A stored user, whose `password` is a bcrypt hash, or what a client asks for."""

    name: str = ""
    password: str = ""
    roles: Names = None
    grant: Names = None
    revoke: Names = None

    def with_root_role(self) -> User:
        """The user `root` always has the role of that name."""
        roles = self.roles or ()
        return self if ROOT in roles else replace(self, roles=(*roles, ROOT))

    def merged(self, change: User, hashed: str) -> User:
        """This user with the change's grants and revokes, and `hashed` if it is not empty. Raises AuthRefusalError."""
        roles = set(self.roles or ())
        for role in change.grant or ():
            if role in roles:
                raise conflict(f"Granting duplicate role {role} for user {change.name}")
            roles.add(role)
        for role in change.revoke or ():
            if role not in roles:
                raise conflict(f"Revoking ungranted role {role} for user {change.name}")
            roles.remove(role)
        return User(name=self.name, password=hashed or self.password, roles=_in_order(roles))

    def encode(self) -> str:
        parts = [f'"user":{go_json.quote(self.name)}']
        if self.password:
            parts.append(f'"password":{go_json.quote(self.password)}')
        parts.append(f'"roles":{_names_json(self.roles)}')
        if self.grant:
            parts.append(f'"grant":{_names_json(self.grant)}')
        if self.revoke:
            parts.append(f'"revoke":{_names_json(self.revoke)}')
        return f"{{{','.join(parts)}}}"


def decode_user(text: str) -> User:
    """Raises ValueError."""
    found = _fields(_first_value(text), "user", "password", "roles", "grant", "revoke")
    return User(
        name=_text(found.get("user")),
        password=_text(found.get("password")),
        roles=_names(found.get("roles")),
        grant=_names(found.get("grant")),
        revoke=_names(found.get("revoke")),
    )


def decode_role(text: str) -> Role:
    """Raises ValueError."""
    found = _fields(_first_value(text), "role", "permissions", "grant", "revoke")
    grant, revoke = found.get("grant"), found.get("revoke")
    return Role(
        name=_text(found.get("role")),
        permissions=_permissions(found.get("permissions")),
        grant=None if grant is None else _permissions(grant),
        revoke=None if revoke is None else _permissions(revoke),
    )


def _first_value(text: str) -> object:
    """Go's Decoder reads one value and does not look at what is behind it."""
    try:
        value: object = json.JSONDecoder().raw_decode(text.lstrip(" \t\r\n"))[0]
    except RecursionError as error:
        raise ValueError("too deep") from error
    return value


def _fields(value: object, *names: str) -> dict[str, object]:
    """An object's fields of these names, in whatever case; nothing for null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return {name.lower(): one for name, one in value.items() if name.lower() in names and one is not None}


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def _names(value: object) -> Names:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return tuple(_text(one) for one in value)


def _permissions(value: object) -> Permissions:
    found = _fields(_fields(value, "kv").get("kv"), "read", "write")
    return Permissions(read=_names(found.get("read")), write=_names(found.get("write")))


def _in_order(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=go_json.byte_order))


def _with(names: Names, more: Names, kind: str) -> tuple[str, ...]:
    found = set(names or ())
    for name in more or ():
        if name in found:
            raise conflict(f"Granting duplicate {kind} permission {name}")
        found.add(name)
    return _in_order(found)


def _without(names: Names, less: Names) -> tuple[str, ...]:
    return _in_order(set(names or ()) - set(less or ()))


def _names_json(names: Names) -> str:
    return "null" if names is None else f"[{','.join(go_json.quote(name) for name in names)}]"
