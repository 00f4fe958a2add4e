"""/v2/members and /v2/machines: who is in the cluster, and changing that.

Source: etcd server/etcdserver/api/v2http/client.go (membersHandler), httptypes/member.go, etcdhttp WriteError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad import go_json
from balsad.api.web import Handler, refuse
from balsad.api.web.answers import METHOD_NOT_ALLOWED
from balsad.errors import (
    MemberExistError,
    MemberNotFoundError,
    PeerURLExistError,
    RequestError,
)
from balsad.membership import Member, format_id, new_member, parse_id, parse_urls
from balsad.observe import get_logger
from balsad.transport import HttpRequest, HttpResponder

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.server.v2_auth import V2Auth

_log = get_logger(__name__)

PREFIX: Final = "/v2/members"
_JSON: Final = {"Content-Type": "application/json"}
_METHODS: Final = ("GET", "POST", "DELETE", "PUT")
NO_CREDENTIALS: Final = "Insufficient credentials"
# As membership itself calls these; gRPC has other words for them.
_TEXTS: Final[dict[type[RequestError], str]] = {
    MemberExistError: "membership: ID exists",
    PeerURLExistError: "membership: peerURL exists",
}


def message(responder: HttpResponder, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    """An error as the members API gives it. Source: httptypes.HTTPError."""
    responder.respond(status, {**(headers or {}), **_JSON}, f'{{"message":{go_json.quote(text)}}}'.encode())


def machines_page(service: Service) -> Handler:
    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if request.method not in ("GET", "HEAD"):
            refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": "GET,HEAD"})
            return
        urls = sorted(url for member in service.members() for url in member.client_urls)
        responder.respond(200, {}, ", ".join(urls).encode())

    return page


def member_json(member: Member) -> str:
    # etcd copies the URLs into slices that it has made, so one that has published none yet says [], not null
    client_urls = go_json.string_array(member.client_urls) if member.client_urls else "[]"
    return (
        f'{{"id":"{format_id(member.id)}","name":{go_json.quote(member.name)},'
        f'"peerURLs":{go_json.string_array(member.peer_urls)},"clientURLs":{client_urls}}}'
    )


class MembersPage:
    def __init__(self, service: Service, auth: V2Auth) -> None:
        self._service = service
        self._auth = auth
        self._headers = {"X-Etcd-Cluster-Id": format_id(service.cluster_id)}

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if request.method not in _METHODS:
            refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": ",".join(_METHODS)})
            return
        if request.method == "GET":
            self._go_on(request, responder)
            return

        def done(may: bool) -> None:
            if may:
                self._go_on(request, responder)
            elif not responder.closed:
                message(responder, 401, NO_CREDENTIALS)

        self._auth.run(
            self._auth.allow_root(request),
            done,
            lambda _: message(responder, 500, "Internal Server Error", self._headers),
        )

    def _go_on(self, request: HttpRequest, responder: HttpResponder) -> None:
        if responder.closed:
            return
        name = request.path.removeprefix(PREFIX).removeprefix("/")
        try:
            if request.method == "GET":
                self._get(name, responder)
            elif request.method == "POST":
                self._add(request, responder)
            else:
                self._change(name, request, responder)
        except RequestError as error:
            self._fail(responder, error)

    def _respond(self, responder: HttpResponder, status: int, body: str) -> None:
        responder.respond(status, {**self._headers, **_JSON}, f"{body}\n".encode())

    def _fail(self, responder: HttpResponder, error: RequestError) -> None:
        if responder.closed:
            return
        text = _TEXTS.get(type(error))
        if text is not None:
            message(responder, 409, text, self._headers)
            return
        _log.warning("v2 members request failed", extra={"error": error.text})
        message(responder, 500, "Internal Server Error", self._headers)

    def _get(self, name: str, responder: HttpResponder) -> None:
        if not name:
            members = ",".join(member_json(member) for member in self._service.members())
            self._respond(responder, 200, f'{{"members":[{members}]}}')
        elif name == "leader":
            leader = self._service.cluster.member(self._service.leader)
            if leader is None:
                message(responder, 503, "During election", self._headers)
            else:
                self._respond(responder, 200, member_json(leader))
        else:
            message(responder, 404, "Not found", self._headers)

    def _add(self, request: HttpRequest, responder: HttpResponder) -> None:
        urls = self._peer_urls(request, responder)
        if urls is None:
            return
        member = new_member("", urls, "", now_s=int(self._service.env.clock.time()))

        def done(error: RequestError | None) -> None:
            if error is not None:
                self._fail(responder, error)
            elif not responder.closed:
                self._respond(responder, 201, member_json(member))

        self._service.member_changes.add(member, done)

    def _change(self, name: str, request: HttpRequest, responder: HttpResponder) -> None:
        if not name:
            refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", self._headers)
            return
        try:
            member_id = parse_id(name)
        except ValueError:
            message(responder, 404, f"No such member: {name}", self._headers)
            return
        changes = self._service.member_changes
        if request.method == "DELETE":
            changes.remove(member_id, self._finisher(responder, member_id))
            return
        urls = self._peer_urls(request, responder)
        if urls is not None:
            changes.update(member_id, urls, self._finisher(responder, member_id))

    def _finisher(self, responder: HttpResponder, member_id: int) -> Callable[[RequestError | None], None]:
        def done(error: RequestError | None) -> None:
            if responder.closed:
                return
            if error is None:
                responder.respond(204, self._headers, b"")
            elif isinstance(error, MemberNotFoundError):
                if self._service.cluster.is_removed(member_id):
                    message(responder, 410, f"Member permanently removed: {format_id(member_id)}", self._headers)
                else:
                    message(responder, 404, f"No such member: {format_id(member_id)}", self._headers)
            else:
                self._fail(responder, error)

        return done

    def _peer_urls(self, request: HttpRequest, responder: HttpResponder) -> tuple[str, ...] | None:
        """The peer URLs of the request's JSON; None when it was answered with what is wrong with it."""
        kind = request.headers.get("content-type", "")
        if ";" in kind:
            kind = kind.partition(";")[0].lower().strip()
        if kind != "application/json":
            text = f"Bad Content-Type {kind}, accept application/json"
            message(responder, 415, text, self._headers)
            return None
        try:
            body = go_json.loads(request.body)
            if not isinstance(body, dict):
                raise ValueError("expected a JSON object")
            listed = next((body[name] for name in body if name.lower() == "peerurls"), None) or []
            if not isinstance(listed, list) or not all(isinstance(url, str) for url in listed):
                raise ValueError("expected a list of URLs in peerURLs")
            return parse_urls(listed)
        except (ValueError, RecursionError) as error:
            message(responder, 400, str(error), self._headers)
            return None
