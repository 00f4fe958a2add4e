"""Who may ask: hosts that plain HTTP may name, origins that may read, certificates the gateway would ignore.

All HTTP requests of clients come through here first.
Source: etcd server/embed/serve.go accessController.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from balsad.api.web.answers import BAD_REQUEST, MISDIRECTED_REQUEST, OK, Handler, refuse
from balsad.go_quote import quote_go
from balsad.observe import get_logger
from balsad.transport import HttpRequest, HttpResponder

_log = get_logger(__name__)


class AccessRules(Protocol):
    """The part of ServerConfig that is asked here."""

    def allows_host(self, host: str) -> bool: ...

    def allows_origin(self, origin: str) -> bool: ...


class AccessController:
    def __init__(self, rules: AccessRules, handler: Handler, *, refuses_names: Callable[[], bool]) -> None:
        """`refuses_names`: whether a certificate's name on the JSON gateway shall be refused, because authentication
        by certificate is on and would not see it."""
        self._rules = rules
        self._handler = handler
        self._refuses_names = refuses_names

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if request.path.startswith("/v3beta/"):
            request.path = "/v3/" + request.path.removeprefix("/v3beta/")
        if not request.secure:
            host = host_name(request.headers.get("host", ""))
            if not self._rules.allows_host(host):
                _log.warning("rejecting HTTP request to prevent DNS rebinding attacks", extra={"host": host})
                refuse(responder, MISDIRECTED_REQUEST, _rebinding_text(host))
                return
        elif request.peer_name and request.path.startswith("/v3/") and self._refuses_names():
            refuse(
                responder,
                BAD_REQUEST,
                "CommonName of client sending a request against gateway will be ignored and not used as expected",
            )
            return
        origin = "*"
        if not self._rules.allows_origin("*"):
            origin = request.headers.get("origin", "")
        if origin == "*" or self._rules.allows_origin(origin):
            responder = HeaderResponder(
                responder,
                {
                    "Access-Control-Allow-Headers": "accept, content-type, authorization",
                    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
                    "Access-Control-Allow-Origin": origin,
                },
            )
        if request.method == "OPTIONS":
            responder.respond(OK, {}, b"")
            return
        self._handler(request, responder)


class HeaderResponder:
    """A responder whose answers carry some headers more."""

    def __init__(self, responder: HttpResponder, headers: Mapping[str, str]) -> None:
        self._responder = responder
        self._headers = headers

    @property
    def on_close(self) -> Callable[[], None] | None:
        return self._responder.on_close

    @on_close.setter
    def on_close(self, callback: Callable[[], None] | None) -> None:
        self._responder.on_close = callback

    @property
    def on_writable(self) -> Callable[[], None] | None:
        return self._responder.on_writable

    @on_writable.setter
    def on_writable(self, callback: Callable[[], None] | None) -> None:
        self._responder.on_writable = callback

    @property
    def pending_bytes(self) -> int:
        return self._responder.pending_bytes

    def has_room(self, most: int) -> bool:
        return self._responder.has_room(most)

    @property
    def closed(self) -> bool:
        return self._responder.closed

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._responder.respond(status, {**self._headers, **headers}, body)

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._responder.start(status, {**self._headers, **headers})

    def write(self, chunk: bytes) -> None:
        self._responder.write(chunk)

    def end(self) -> None:
        self._responder.end()


def host_name(host: str) -> str:
    """The Host header without its port. Source: etcd pkg/httputil GetHostname."""
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port or (":" in name and not (name.startswith("[") and name.endswith("]"))):
        return host
    return name.removeprefix("[").removesuffix("]")


def _rebinding_text(host: str) -> str:
    return f"""
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {quote_go(host)}

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
"""
