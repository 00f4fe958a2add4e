"""One request to the peer port and the hand that answers it, at once or without an end.

Source: words and header order as Go's net/http; etcd httptypes/errors.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Protocol

from balsad.go_json import quote
from balsad.transport.http import has_body, with_type
from balsad.transport.http1_connection import reason
from balsad.transport.http1_request import RequestHead

if TYPE_CHECKING:
    from balsad.peer.http_server import PeerConnection

SNAPSHOT_BYTES_MAX: Final = 1 << 40


class PeerRequest:
    """A request's head."""

    __slots__ = ("headers", "method", "path", "query", "remote_address")

    def __init__(self, head: RequestHead, remote_address: str) -> None:
        self.method = head.method
        self.path, _, self.query = head.target.partition("?")
        self.headers = head.headers
        """Lower-case names."""
        self.remote_address = remote_address


class BodyReader(Protocol):
    """Takes a body piece by piece."""

    def feed(self, data: bytes) -> None: ...

    def end(self) -> None:
        """That was all; now it is answered."""

    def lost(self) -> None:
        """The client went away, or its body is broken."""


Handler = Callable[[PeerRequest, bytes, "PeerAnswer"], None]
"""Answers a request whose body is there, now or later."""


class Route:
    """Who answers a path: `handler` with the whole body, or `begin` as soon as the head is there.

    `begin` gives the reader of the body, or answers at once and gives None.
    """

    __slots__ = ("begin", "body_bytes_max", "handler")

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        begin: Callable[[PeerRequest, PeerAnswer], BodyReader | None] | None = None,
        body_bytes_max: int = 64 << 10,
    ) -> None:
        self.handler = handler
        self.begin = begin
        self.body_bytes_max = SNAPSHOT_BYTES_MAX if begin is not None else body_bytes_max


class OutgoingStream:
    """An answer without an end: what is written goes out as one chunk, at once."""

    def __init__(self, connection: PeerConnection, is_chunked: bool) -> None:
        self._connection = connection
        self._is_chunked = is_chunked
        self.on_lost: Callable[[str], None] | None = None
        """Called once when the other side is gone, with the reason."""
        self.on_writable: Callable[[], None] | None = None
        """Called when the socket takes more again after `is_full`."""

    @property
    def is_full(self) -> bool:
        """The socket takes no more for now; what is written all the same waits in memory."""
        return self._connection.is_full

    @property
    def unsent_bytes(self) -> int:
        return self._connection.unsent_bytes

    def write(self, data: bytes) -> None:
        self._connection.write_now(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def close(self) -> None:
        """End the answer in order."""
        self.on_lost = self.on_writable = None
        if self._is_chunked:
            self._connection.write_now(b"0\r\n\r\n")
        self._connection.close()

    def abort(self) -> None:
        self.on_lost = self.on_writable = None
        self._connection.abort()


class PeerAnswer:
    """The hand that answers one request."""

    __slots__ = ("_connection", "_is_head", "_is_old", "headers", "is_done", "keep")

    def __init__(self, connection: PeerConnection, head: RequestHead) -> None:
        self._connection = connection
        self._is_head = head.method == "HEAD"
        self._is_old = head.version == "HTTP/1.0"
        self.keep = head.keep_alive
        """Whether the connection may serve another request after this one."""
        self.headers: dict[str, str] = {}
        """Headers that whatever is answered will have."""
        self.is_done = False
        """It is answered, or nobody is there to hear."""

    def respond(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """The whole answer."""
        if self.is_done:
            return
        self.is_done = True
        if not self._connection.answer_later(lambda: self._respond(status, body, headers)):
            self._respond(status, body, headers)

    def _respond(self, status: int, body: bytes, headers: Mapping[str, str] | None) -> None:
        connection = self._connection
        keep = self.keep and connection.may_keep()
        fields = {**self.headers, **(headers or {})}
        lines = self._lines(status, fields)
        if has_body(status):
            lines.append(f"Content-Length: {len(body)}")
            if "Content-Type" not in fields and body:
                lines.append(f"Content-Type: {with_type(fields, body)['Content-Type']}")
        # What is usual for the version goes without saying.
        if keep == self._is_old:
            lines.append("Connection: keep-alive" if keep else "Connection: close")
        data = _head_bytes(lines)
        if has_body(status) and not self._is_head:
            data += body
        connection.write_now(data)
        connection.answered(keep)

    def fail(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Source: Go's http.Error."""
        self.respond(
            status,
            f"{text}\n".encode(),
            {
                **(headers or {}),
                "Content-Type": "text/plain; charset=utf-8",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def fail_as_json(self, status: int, message: str) -> None:
        """Source: etcd httptypes.HTTPError."""
        body = f'{{"message":{quote(message)}}}'
        self.respond(status, body.encode("utf-8", "surrogateescape"), {"Content-Type": "application/json"})

    def allows(self, request: PeerRequest, method: str) -> bool:
        """Whether the request has this method; others are answered here."""
        if request.method == method:
            return True
        self.fail(405, "Method Not Allowed", {"Allow": method})
        return False

    def start_stream(self) -> OutgoingStream | None:
        """Begin an answer without an end; None when nobody is there any more."""
        if self.is_done:
            return None
        self.is_done = True
        lines = self._lines(200, self.headers)
        if not self._is_old:
            lines.append("Transfer-Encoding: chunked")
        return self._connection.start_stream(_head_bytes(lines), not self._is_old)

    def break_off(self) -> None:
        """Close the connection without another word."""
        self.is_done = True
        self._connection.abort()

    def _lines(self, status: int, headers: Mapping[str, str]) -> list[str]:
        lines = [f"HTTP/1.{0 if self._is_old else 1} {status} {reason(status)}"]
        lines += [f"{name}: {value}" for name, value in sorted(headers.items())]
        lines.append(f"Date: {formatdate(usegmt=True)}")
        return lines


def _head_bytes(lines: list[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
