"""Who answers a path: exact ones before folders, longer folders before shorter, paths cleaned first.

    /health      exactly that
    /v3/         everything below it; /v3 itself is sent there

Source: Go net/http ServeMux.
"""

from __future__ import annotations

import posixpath
from typing import Final
from urllib.parse import quote, unquote

from balsad.api.web.answers import BAD_REQUEST, Handler, not_found, redirect
from balsad.transport import HttpRequest, HttpResponder

_UNESCAPED: Final = "/:@!$&'()*+,;=~"


class Mux:
    def __init__(self) -> None:
        self._exact: dict[str, Handler] = {}
        self._folders: list[tuple[str, Handler]] = []

    def add(self, pattern: str, handler: Handler) -> None:
        """Let `handler` answer `pattern`, and all that is below it when it ends in a slash."""
        self._exact[pattern] = handler
        if pattern.endswith("/"):
            self._folders.append((pattern, handler))
            self._folders.sort(key=lambda folder: -len(folder[0]))

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if request.target == "*":
            # Source: Go ServeMux.ServeHTTP.
            responder.respond(BAD_REQUEST, {"Connection": "close"}, b"")
            return
        path = unquote(request.path)
        clean = clean_path(path)
        if request.method != "CONNECT":
            if clean not in self._exact and f"{clean}/" in self._exact:
                clean += "/"
            if clean != path:
                query = f"?{request.query}" if request.query else ""
                redirect(request, responder, quote(clean, safe=_UNESCAPED) + query)
                return
        self._find(clean)(request, responder)

    def _find(self, path: str) -> Handler:
        handler = self._exact.get(path)
        if handler is not None:
            return handler
        for folder, below in self._folders:
            if path.startswith(folder):
                return below
        return not_found


def clean_path(path: str) -> str:
    """Without `//`, `.` and `..`; a slash at the end stays. Source: net/http cleanPath."""
    if not path:
        return "/"
    clean = posixpath.normpath(path if path.startswith("/") else f"/{path}")
    if clean.startswith("//"):  # POSIX keeps two leading slashes
        clean = clean[1:]
    if path.endswith("/") and clean != "/":
        clean += "/"
    return clean
