"""/v2/auth: users, roles, and whether anybody is asked who he is.

Source: etcd server/etcdserver/api/v2http/client_auth.go.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from balsad import go_json
from balsad.api.v2.members import NO_CREDENTIALS, message
from balsad.api.web import Handler, refuse
from balsad.api.web.answers import METHOD_NOT_ALLOWED
from balsad.errors import RequestError
from balsad.membership import format_id
from balsad.observe import get_logger
from balsad.transport import HttpRequest, HttpResponder
from balsad.v2store import V2Error
from balsad.v2store.access import AuthRefusalError, Role, User, decode_role, decode_user

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.server.v2_auth import Failure, Flow, V2Auth

_log = get_logger(__name__)

PREFIX: Final = "/v2/auth"
_JSON: Final = {"Content-Type": "application/json"}
_INVALID_JSON: Final = "Invalid JSON in request body."


class AuthPages:
    def __init__(self, service: Service, auth: V2Auth) -> None:
        self._service = service
        self._auth = auth
        self._headers = {"X-Etcd-Cluster-Id": format_id(service.cluster_id)}

    def mounts(self) -> dict[str, Handler]:
        return {
            f"{PREFIX}/enable": self._switch,
            f"{PREFIX}/roles": self._roles,
            f"{PREFIX}/roles/": self._roles,
            f"{PREFIX}/users": self._users,
            f"{PREFIX}/users/": self._users,
        }

    # ---- what the pages have in common

    def _is_refused(self, request: HttpRequest, responder: HttpResponder, *methods: str) -> bool:
        """Whether it was answered already: no such method, or a cluster too old, or not yet agreed on its version."""
        if not self._service.cluster_version:
            message(responder, 500, "Not capable of accessing auth feature during rolling upgrades.")
            return True
        if request.method in methods:
            return False
        refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": ",".join(methods)})
        return True

    def _answer(self, request: HttpRequest, responder: HttpResponder, flow: Flow[tuple[int, str]]) -> None:
        """Answer with what the flow gives, if it is root who asks; a GET of /enable is anybody's."""

        def whole() -> Flow[tuple[int, str]]:
            is_open = request.method == "GET" and request.path == f"{PREFIX}/enable"
            if not is_open and not (yield from self._auth.allow_root(request)):
                return 401, ""
            return (yield from flow)

        def done(answer: tuple[int, str]) -> None:
            if responder.closed:
                return
            status, text = answer
            if status == 401:
                message(responder, 401, NO_CREDENTIALS)
                return
            responder.respond(status, {**self._headers, **_JSON}, f"{text}\n".encode() if text else b"")

        self._auth.run(whole(), done, lambda failure: self._fail(responder, failure))

    def _fail(self, responder: HttpResponder, failure: Failure) -> None:
        if responder.closed:
            return
        if isinstance(failure, AuthRefusalError):
            message(responder, failure.status, failure.text, self._headers)
        elif isinstance(failure, V2Error):
            headers = {**_JSON, **self._headers, "X-Etcd-Index": str(failure.index)}
            responder.respond(failure.status, headers, failure.encode() + b"\n")
        else:
            assert isinstance(failure, RequestError)
            _log.warning("v2 auth request failed", extra={"error": failure.text})
            message(responder, 500, "Internal Server Error", self._headers)

    def _name(self, request: HttpRequest, responder: HttpResponder) -> str | None:
        """The name behind /users/ or /roles/, empty for all of them; None when the path was refused."""
        path = unquote(request.path, errors="surrogateescape")[len(PREFIX) :]
        pieces = posixpath.normpath(path).split("/")
        if len(pieces) == 2:
            return ""
        if len(pieces) == 3:
            return pieces[2]
        message(responder, 400, "Invalid path")
        return None

    # ---- the pages

    def _switch(self, request: HttpRequest, responder: HttpResponder) -> None:
        if self._is_refused(request, responder, "GET", "PUT", "DELETE"):
            return

        def flow() -> Flow[tuple[int, str]]:
            if request.method == "GET":
                return 200, f'{{"enabled":{str(self._auth.is_enabled()).lower()}}}'
            yield from self._auth.enable() if request.method == "PUT" else self._auth.disable()
            return 200, ""

        self._answer(request, responder, flow())

    def _roles(self, request: HttpRequest, responder: HttpResponder) -> None:
        name = self._name(request, responder)
        if name is None or self._is_refused(request, responder, "GET", *(("PUT", "DELETE") if name else ())):
            return
        auth = self._auth

        def flow() -> Flow[tuple[int, str]]:
            if not name:
                roles = ",".join(auth.role(one).encode() for one in auth.roles())
                return 200, f'{{"roles":[{roles}]}}'
            if request.method == "GET":
                return 200, auth.role(name).encode()
            if request.method == "DELETE":
                yield from auth.delete_role(name)
                return 200, ""
            return (yield from self._put_role(name, request))

        self._answer(request, responder, flow())

    def _put_role(self, name: str, request: HttpRequest) -> Flow[tuple[int, str]]:
        try:
            asked = decode_role(request.body.decode("utf-8", "replace"))
        except ValueError as error:
            raise AuthRefusalError(400, _INVALID_JSON) from error
        if asked.name != name:
            raise AuthRefusalError(400, "Role JSON name does not match the name in the URL")
        if all(change is None or change.is_empty for change in (asked.grant, asked.revoke)):
            return 201, (yield from self._auth.create_role(asked)).encode()
        if not asked.permissions.is_empty:
            raise AuthRefusalError(400, "Role JSON contains both permissions and grant/revoke")
        return 200, (yield from self._auth.update_role(asked)).encode()

    def _users(self, request: HttpRequest, responder: HttpResponder) -> None:
        name = self._name(request, responder)
        if name is None or self._is_refused(request, responder, "GET", *(("PUT", "DELETE") if name else ())):
            return
        auth = self._auth

        def flow() -> Flow[tuple[int, str]]:
            if not name:
                users = [self._with_roles(auth.user(one), skip_missing=True) for one in auth.users()]
                return 200, f'{{"users":{"[" + ",".join(users) + "]" if users else "null"}}}'
            if request.method == "GET":
                return 200, self._with_roles(auth.user(name), skip_missing=False)
            if request.method == "DELETE":
                yield from auth.delete_user(name)
                return 200, ""
            return (yield from self._put_user(name, request))

        self._answer(request, responder, flow())

    def _with_roles(self, user: User, *, skip_missing: bool) -> str:
        roles: list[Role] = []
        for name in user.roles or ():
            try:
                roles.append(self._auth.role(name))
            except (AuthRefusalError, V2Error):
                if not skip_missing:
                    raise
        listed = f',"roles":[{",".join(role.encode() for role in roles)}]' if roles else ""
        return f'{{"user":{go_json.quote(user.name)}{listed}}}'

    def _put_user(self, name: str, request: HttpRequest) -> Flow[tuple[int, str]]:
        auth = self._auth
        try:
            asked = decode_user(request.body.decode("utf-8", "replace"))
        except ValueError as error:
            raise AuthRefusalError(400, _INVALID_JSON) from error
        if asked.name != name:
            raise AuthRefusalError(400, "User JSON name does not match the name in the URL")
        is_new = False
        if asked.grant or asked.revoke:
            if asked.roles:
                raise AuthRefusalError(400, "User JSON contains both roles and grant/revoke")
            user = yield from auth.update_user(asked)
        elif asked.roles:
            user = yield from auth.create_user(asked)
        else:
            user, is_new = yield from auth.create_or_update_user(asked)
        shown = User(name=user.name, roles=user.roles, grant=user.grant, revoke=user.revoke)
        return 201 if is_new else 200, shown.encode()
