"""Users and roles of the v2 API: kept in the v2 tree, changed through the log, asked before keys are touched.

    a flow is a generator: it yields what it needs and is resumed with what came of it
        Request   goes through the log     Event back, V2Error or RequestError thrown in
        Hash      bcrypt, in a thread      the hash back
        Check     bcrypt, in a thread      whether it is the password

    may ROLE do it?   authentication off            yes
                      no Authorization              the client's certificate, if that may speak for it; else guest
                      Authorization: Basic ...      the user's roles, if the password is right

Source: etcd server/etcdserver/api/v2auth/auth.go, auth_requests.go, v2http/client_auth.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from balsad.auth import SALT_BYTES, hash_password, matches, new_salt
from balsad.errors import RequestError
from balsad.observe import get_logger
from balsad.v2store import Event, Request, V2Error, errors
from balsad.v2store.access import (
    GUEST,
    GUEST_ROLE,
    ROOT,
    ROOT_ROLE,
    AuthRefusalError,
    Role,
    User,
    conflict,
    decode_role,
    decode_user,
)

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.server.v2_requests import V2Answer, V2Requests
    from balsad.transport import HttpRequest

_PREFIX: Final = "/2"
_BCRYPT_COST: Final = 10
log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hash:
    password: str


@dataclass(frozen=True, slots=True)
class Check:
    password: bytes
    hashed: str


Flow: TypeAlias = Generator[Request | Hash | Check, Any, T]
Failure: TypeAlias = AuthRefusalError | V2Error | RequestError


class V2Auth:
    def __init__(self, service: Service, requests: V2Requests, *, client_cert_auth: bool) -> None:
        self._service = service
        self._requests = requests
        self._client_cert_auth = client_cert_auth
        self._has_folders = False

    # ---- running a flow

    def run(self, flow: Flow[T], done: Callable[[T], None], failed: Callable[[Failure], None]) -> None:
        """Carry it out: what needs no waiting at once."""
        self._resume(flow, None, done, failed)

    def _resume(
        self, flow: Flow[T], answer: object, done: Callable[[T], None], failed: Callable[[Failure], None]
    ) -> None:
        def go_on(answer: object) -> None:
            self._resume(flow, answer, done, failed)

        while True:
            try:
                wish = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
            except StopIteration as end:
                done(end.value)
                return
            except (AuthRefusalError, V2Error, RequestError) as refusal:
                failed(refusal)
                return
            try:
                if isinstance(wish, Request):
                    self._requests.submit(wish, go_on)
                else:
                    self._compute(wish, go_on)
            except RequestError as error:
                answer = error
                continue
            return

    def _compute(self, wish: Hash | Check, done: Callable[[object], None]) -> None:
        """Raises TooManyRequestsError."""
        passwords = self._service.passwords
        if isinstance(wish, Check):
            password, hashed = wish.password, wish.hashed.encode()
            passwords.in_thread(lambda: matches(password, hashed), done)
            return
        secret = wish.password.encode("utf-8", "surrogateescape")
        salt = new_salt(self._service.env.random.token_bytes(SALT_BYTES), _BCRYPT_COST)
        passwords.in_thread(lambda: hash_password(secret, salt).decode(), done)

    # ---- the tree

    def _read(self, path: str) -> Event:
        """What this member has. Raises V2Error."""
        return self._requests.read(Request(path=_PREFIX + path))

    def _ask(self, method: str, path: str, **fields: Any) -> Generator[Request, V2Answer, Event]:
        answer = yield Request(method=method, path=_PREFIX + path, **fields)
        if not isinstance(answer, Event):
            raise answer
        return answer

    def _ensure_folders(self) -> Flow[None]:
        if self._has_folders:
            return
        wanted: list[tuple[str, dict[str, Any]]] = [(path, {"dir": True}) for path in ("", "/users/", "/roles/")]
        for path, fields in [*wanted, ("/enabled", {"val": "false"})]:
            try:
                yield from self._ask("PUT", path, prev_exist=False, **fields)
            except V2Error as error:
                if error.code != errors.NODE_EXIST:
                    raise
        self._has_folders = True

    def _put(self, path: str, text: str, *, exists: bool) -> Flow[None]:
        yield from self._ensure_folders()
        yield from self._ask("PUT", path, val=text, prev_exist=exists)

    def _delete(self, path: str) -> Flow[None]:
        yield from self._ensure_folders()
        yield from self._ask("DELETE", path, prev_exist=True)

    def _names(self, path: str) -> list[str]:
        """Raises V2Error."""
        try:
            nodes = self._read(path).node.nodes
        except V2Error as error:
            if error.code != errors.KEY_NOT_FOUND:
                raise
            return []
        return sorted(node.key.rpartition("/")[2] for node in nodes or ())

    # ---- reading

    def is_enabled(self) -> bool:
        try:
            return self._read("/enabled").node.value == "true"
        except V2Error:
            return False

    def users(self) -> list[str]:
        return self._names("/users")

    def roles(self) -> list[str]:
        return sorted([ROOT, *self._names("/roles")])

    def user(self, name: str) -> User:
        """Raises AuthRefusalError, V2Error."""
        _refuse_path(name, "User")
        try:
            return _stored_user(self._read(f"/users/{name}"))
        except V2Error as error:
            raise _missing(error, f"User {name} does not exist.") from error

    def role(self, name: str) -> Role:
        """Raises AuthRefusalError, V2Error."""
        if name == ROOT:
            return ROOT_ROLE
        _refuse_path(name, "Role")
        try:
            return _stored_role(self._read(f"/roles/{name}"))
        except V2Error as error:
            raise _missing(error, f"Role {name} does not exist.") from error

    def _agreed_user(self, name: str) -> Flow[User]:
        try:
            return _stored_user((yield from self._ask("QGET", f"/users/{name}")))
        except V2Error as error:
            raise _missing(error, f"User {name} does not exist.") from error

    def _agreed_role(self, name: str) -> Flow[Role]:
        try:
            return _stored_role((yield from self._ask("QGET", f"/roles/{name}")))
        except V2Error as error:
            raise _missing(error, f"Role {name} does not exist.") from error

    # ---- users

    def create_user(self, user: User) -> Flow[User]:
        if user.name == ROOT:
            user = user.with_root_role()
        if not user.password:
            raise AuthRefusalError(400, f"auth: Cannot create user {user.name} with an empty password")
        hashed = yield Hash(user.password)
        made = User(name=user.name, password=hashed, roles=user.roles, grant=user.grant, revoke=user.revoke)
        try:
            yield from self._put(f"/users/{user.name}", made.encode(), exists=False)
        except V2Error as error:
            if error.code == errors.NODE_EXIST:
                raise conflict(f"User {user.name} already exists.") from error
            raise
        log.info("created a user", extra={"user-name": user.name})
        return made

    def create_or_update_user(self, user: User) -> Flow[tuple[User, bool]]:
        """The user, and whether it is new."""
        try:
            yield from self._agreed_user(user.name)
        except (AuthRefusalError, V2Error, RequestError):
            return (yield from self.create_user(user)), True
        return (yield from self.update_user(user)), False

    def update_user(self, change: User) -> Flow[User]:
        before = yield from self._agreed_user(change.name)
        hashed = (yield Hash(change.password)) if change.password else ""
        after = before.merged(change, hashed)
        if after == before:
            raise AuthRefusalError(400, "auth: User not updated. Use grant/revoke/password to update the user.")
        yield from self._put(f"/users/{change.name}", after.encode(), exists=True)
        log.info("updated a user", extra={"user-name": change.name})
        return after

    def delete_user(self, name: str) -> Flow[None]:
        if name == ROOT and self.is_enabled():
            raise AuthRefusalError(403, "auth: Cannot delete root user while auth is enabled.")
        try:
            yield from self._delete(f"/users/{name}")
        except V2Error as error:
            raise _missing(error, f"User {name} does not exist") from error
        log.info("deleted a user", extra={"user-name": name})

    # ---- roles

    def create_role(self, role: Role) -> Flow[Role]:
        _refuse_root(role.name)
        try:
            yield from self._put(f"/roles/{role.name}", role.encode(), exists=False)
        except V2Error as error:
            if error.code == errors.NODE_EXIST:
                raise conflict(f"Role {role.name} already exists.") from error
            raise
        log.info("created a new role", extra={"role-name": role.name})
        return role

    def update_role(self, change: Role) -> Flow[Role]:
        _refuse_root(change.name)
        before = yield from self._agreed_role(change.name)
        after = before.merged(change)
        if after == before:
            raise AuthRefusalError(400, "auth: Role not updated. Use grant/revoke to update the role.")
        yield from self._put(f"/roles/{change.name}", after.encode(), exists=True)
        log.info("updated a new role", extra={"role-name": change.name})
        return after

    def delete_role(self, name: str) -> Flow[None]:
        _refuse_root(name)
        try:
            yield from self._delete(f"/roles/{name}")
        except V2Error as error:
            raise _missing(error, f"Role {name} doesn't exist.") from error
        log.info("delete a new role", extra={"role-name": name})

    # ---- on and off

    def enable(self) -> Flow[None]:
        if self.is_enabled():
            raise conflict("already enabled")
        try:
            yield from self._agreed_user(ROOT)
        except (AuthRefusalError, V2Error, RequestError) as error:
            raise conflict("No root user available, please create one") from error
        try:
            yield from self._agreed_role(GUEST)
        except (AuthRefusalError, V2Error, RequestError):
            log.info("no guest role access found; creating default", extra={"role-name": GUEST})
            yield from self.create_role(GUEST_ROLE)
        yield from self._put("/enabled", "true", exists=True)
        log.info("enabled auth")

    def disable(self) -> Flow[None]:
        if not self.is_enabled():
            raise conflict("already disabled")
        yield from self._put("/enabled", "false", exists=True)
        log.info("disabled auth")

    # ---- who may what

    def allow_root(self, request: HttpRequest) -> Flow[bool]:
        """Whether the request is one of somebody with the role root."""
        if not self.is_enabled():
            return True
        if not request.headers.get("authorization") and self._client_cert_auth:
            user = self._user_of_certificate(request)
        else:
            user = yield from self._user_of_password(request)
        if user is None:
            return False
        if ROOT in (user.roles or ()):
            return True
        log.warning(
            "a user does not have root role for resource",
            extra={"root-user": user.name, "root-role-name": ROOT, "resource-path": request.path},
        )
        return False

    def allow_key(self, request: HttpRequest, key: str, *, recursive: bool) -> Flow[bool]:
        """Whether the request may read or, by its method, write the key."""
        if not self.is_enabled():
            return True
        write = request.method not in ("GET", "HEAD")
        user: User | None
        if request.headers.get("authorization"):
            user = yield from self._user_of_password(request)
            if user is None:
                return False
        else:
            user = self._user_of_certificate(request) if self._client_cert_auth else None
            if user is None:
                return self._allows_guest(key, write=write)
        for name in user.roles or ():
            try:
                if self.role(name).allows(key, write=write, recursive=recursive):
                    return True
            except (AuthRefusalError, V2Error):
                continue
        log.warning("invalid access for user on key", extra={"user-name": user.name, "key": key})
        return False

    def _allows_guest(self, key: str, *, write: bool) -> bool:
        try:
            if self.role(GUEST).allows(key, write=write):
                return True
        except (AuthRefusalError, V2Error):
            return False
        log.warning("invalid access for a guest role on key", extra={"role-name": GUEST, "key": key})
        return False

    def _user_of_certificate(self, request: HttpRequest) -> User | None:
        if not request.secure or not request.peer_name:
            return None
        try:
            return self.user(request.peer_name)
        except (AuthRefusalError, V2Error):
            return None

    def _user_of_password(self, request: HttpRequest) -> Flow[User | None]:
        given = _basic_auth(request.headers.get("authorization", ""))
        if given is None:
            log.warning("malformed basic auth encoding")
            return None
        name, password = given
        try:
            user = self.user(name)
        except (AuthRefusalError, V2Error):
            return None
        if (yield Check(password, user.password)):
            return user
        log.warning("incorrect password", extra={"user-name": name})
        return None


def _basic_auth(header: str) -> tuple[str, bytes] | None:
    """Name and password of `Basic ...`, None for what is no such header. Source: Go net/http parseBasicAuth."""
    kind, _, rest = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(rest, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name.decode("utf-8", "surrogateescape"), password) if colon else None


def _missing(error: V2Error, text: str) -> AuthRefusalError | V2Error:
    return AuthRefusalError(404, f"auth: {text}") if error.code == errors.KEY_NOT_FOUND else error


def _refuse_path(name: str, what: str) -> None:
    """A name that leads elsewhere in the tree names nobody.

    Unlike etcd's: there, whoever may write a key may write a user into it, and log in as `../../1/KEY`.
    """
    if "/" in name:
        raise AuthRefusalError(404, f"auth: {what} {name} does not exist.")


def _refuse_root(name: str) -> None:
    if name == ROOT:
        raise AuthRefusalError(403, f"auth: Cannot modify role {name}: is root role.")


def _stored_user(event: Event) -> User:
    try:
        user = decode_user(event.node.value or "")
    except ValueError as error:
        raise V2Error(errors.RAFT_INTERNAL, "a user that is no JSON") from error
    return user.with_root_role() if user.name == ROOT else user


def _stored_role(event: Event) -> Role:
    try:
        return decode_role(event.node.value or "")
    except ValueError as error:
        raise V2Error(errors.RAFT_INTERNAL, "a role that is no JSON") from error
