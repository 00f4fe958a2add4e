"""An HTTP request and the hand that answers it, the same for HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

# Source: net/http DetectContentType.
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def has_body(status: int) -> bool:
    """Whether an answer of this status may have a body."""
    return status >= 200 and status not in (204, 304)


def with_type(headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
    """The headers with a Content-Type, guessed as Go does it for what etcd answers: text or bytes."""
    if not body or "Content-Type" in headers or "Content-Encoding" in headers:
        return headers
    is_text = _BINARY.search(body[:512]) is None
    return {**headers, "Content-Type": "text/plain; charset=utf-8" if is_text else "application/octet-stream"}


class HttpRequest:
    """A request whose body has come in whole."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        *,
        version: str,
        secure: bool,
        peer_name: str,
        peer_address: str,
    ) -> None:
        self.method = method
        self.target = target
        path, _, query = target.partition("?")
        self.path = path
        self.query = query
        self.headers = headers
        """Lower-case names; a name that came more than once has its values joined with ", "."""
        self.body = body
        self.version = version
        self.secure = secure
        self.peer_name = peer_name
        self.peer_address = peer_address


class HttpResponder(Protocol):
    """Answers one request, at once or bit by bit."""

    on_close: Callable[[], None] | None
    """Called when the client went away before the answer was complete."""
    on_writable: Callable[[], None] | None
    """Called when `pending_bytes` falls below 64 KiB again."""

    @property
    def pending_bytes(self) -> int:
        """Queued behind the client."""

    def has_room(self, most: int) -> bool:
        """Whether more should be written that can wait elsewhere, see `Stream.has_room`."""

    @property
    def closed(self) -> bool:
        """The answer is complete, or nobody is there to read it."""

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer; its length is added."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose length is not known yet."""

    def write(self, chunk: bytes) -> None: ...

    def end(self) -> None: ...
