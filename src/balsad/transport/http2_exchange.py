"""A plain HTTP request that came over HTTP/2, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING

from balsad.transport.frames import DATA, FLAG_END_STREAM, frame, header_frames
from balsad.transport.header_block import encode, status_field
from balsad.transport.http import HttpRequest, has_body, with_type
from balsad.transport.stream import Stream

if TYPE_CHECKING:
    from balsad.transport.http2_base import Http2Base
    from balsad.transport.methods import Headers

# Fields that belong to a connection, which HTTP/2 has no use for.
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))


class Http2Exchange(Stream):
    """One request and its answer (an HttpResponder)."""

    on_close: Callable[[], None] | None = None
    started: bool = False
    is_head: bool = False

    def __init__(self, connection: Http2Base, stream_id: int, headers: Headers) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.headers = headers
        self.body = bytearray()

    # What the connection says.

    def on_data(self, data: bytes) -> None:
        if len(self.body) + len(data) > self.connection.limits.http_body_bytes_max:
            self.drop_received()
            self.respond(413, {"Content-Type": "text/plain; charset=utf-8"}, b"413 Request Entity Too Large")
            return
        self.body += data
        self.connection.count_partial(len(data))

    def on_half_close(self) -> None:
        self.recv_closed = True
        if self.closed:
            return
        body = bytes(self.body)
        self.drop_received()
        method = "GET"
        fields: dict[str, str] = {}
        for name, value in self.headers.fields:
            text = value.decode("utf-8", "surrogateescape")
            if name == b":method":
                method = text
            elif name[:1] != b":":
                key = name.decode("latin-1")
                separator = "; " if key == "cookie" else ", "
                fields[key] = fields[key] + separator + text if key in fields else text
        if self.headers.authority:
            fields.setdefault("host", self.headers.authority)
        self.is_head = method == "HEAD"
        connection = self.connection
        request = HttpRequest(
            method,
            self.headers.path,
            fields,
            body,
            version="HTTP/2.0",
            secure=connection.secure,
            peer_name=connection.peer_name,
            peer_address=connection.peer_address,
        )
        connection.server.http(request, self)

    def on_gone(self) -> None:
        self.drop_received()
        if not self.closed:
            self.closed = True
            if self.on_close is not None:
                self.on_close()

    # What the application says.

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer; its length is added."""
        if self.closed or self.started:
            return
        self.started = True
        headers = with_type(headers, body)
        if self.is_head or not body or not has_body(status):
            self.end_with(self._head(status, headers, len(body), True))
            return
        self.connection.out.append(self._head(status, headers, len(body), False))
        self.queue(b"", body)
        self._end_body()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose length is not known yet."""
        if self.closed or self.started:
            return
        self.started = True
        self.connection.out.append(self._head(status, headers, None, False))
        self.connection.mark()

    def write(self, chunk: bytes) -> None:
        if chunk and not self.closed and not self.is_head:
            self.queue(b"", chunk)

    def end(self) -> None:
        """The answer is complete."""
        if not self.closed:
            self._end_body()

    def _end_body(self) -> None:
        self.end_with(frame(DATA, FLAG_END_STREAM, self.stream_id, b""))

    def _head(self, status: int, headers: Mapping[str, str], length: int | None, is_all: bool) -> bytes:
        fields: list[tuple[bytes, bytes]] = []
        for name in sorted(headers):
            key = name.lower()
            if key not in _HOP_BY_HOP and key not in ("date", "content-length"):
                fields.append((key.encode("latin-1"), headers[name].encode("utf-8", "surrogateescape")))
        if length is not None and has_body(status):
            fields.append((b"content-length", b"%d" % length))
        fields.append((b"date", formatdate(self.connection.server.wall_clock(), usegmt=True).encode()))
        return header_frames(self.stream_id, status_field(status) + encode(fields), is_all)

    def drop_received(self) -> None:
        self.connection.count_partial(-len(self.body))
        self.body = bytearray()
