"""An HTTP request and the hand that answers it, the same for HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


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

    @property
    def closed(self) -> bool:
        """The answer is complete, or nobody is there to read it."""

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer; its length is added."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose length is not known yet."""

    def write(self, chunk: bytes) -> None: ...

    def end(self) -> None: ...
