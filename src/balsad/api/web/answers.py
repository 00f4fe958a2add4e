"""Short answers as Go's net/http gives them."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Final

from balsad.transport import HttpRequest, HttpResponder

Handler = Callable[[HttpRequest, HttpResponder], None]

OK: Final = 200
MOVED_PERMANENTLY: Final = 301
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
MISDIRECTED_REQUEST: Final = 421
SERVICE_UNAVAILABLE: Final = 503

TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
PLAIN: Final = {**TEXT, "X-Content-Type-Options": "nosniff"}


def refuse(responder: HttpResponder, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    """Source: http.Error."""
    responder.respond(status, {**(headers or {}), **PLAIN}, f"{text}\n".encode())


def not_found(_request: HttpRequest, responder: HttpResponder) -> None:
    refuse(responder, NOT_FOUND, "404 page not found")


def allows_get_only(request: HttpRequest, responder: HttpResponder) -> bool:
    """Whether the request is a GET; others are answered here."""
    if request.method == "GET":
        return True
    refuse(responder, METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": "GET"})
    return False


def redirect(request: HttpRequest, responder: HttpResponder, location: str) -> None:
    """Source: http.Redirect."""
    headers = {"Location": location}
    body = ""
    if request.method in ("GET", "HEAD"):
        headers["Content-Type"] = "text/html; charset=utf-8"
    if request.method == "GET":
        body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'
    responder.respond(MOVED_PERMANENTLY, headers, body.encode())
