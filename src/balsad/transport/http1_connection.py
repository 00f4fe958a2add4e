"""The server's end of an HTTP/1.1 connection: a small strict parser and one answer at a time.

    request line ──> headers ──> body ──> handler ──(answer complete)──> next request line
                                                └──(Connection: close)──> closed

Requests that are pipelined wait until the one before them is answered, and after some of them for the next turn of
the loop, so that one client does not keep the others waiting.

Source: RFC 9112; words and header order as Go's net/http server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from balsad.transport.http import HttpRequest, has_body, with_type
from balsad.transport.http1_request import (
    BadRequestError,
    ChunkedBody,
    RequestHead,
    UnknownProtocolError,
    error_answer,
    head_end,
    parse_head,
    parse_request_line,
)
from balsad.transport.http2_base import READ_S_MAX

if TYPE_CHECKING:
    from balsad.transport.faces import Sink
    from balsad.transport.rpc_server import RpcServer

READING_HEAD: Final = 0
READING_BODY: Final = 1
ANSWERING: Final = 2
CLOSED: Final = 3

OUT_PIECES_MAX: Final = 64
WRITABLE_MARK: Final = 64 * 1024
REQUESTS_PER_TURN_MAX: Final = 64
PIECE_BYTES: Final = 16 << 10
"""What is read of a chunked body before anybody looks at the time: it may be of thousands of chunks."""
# What is read ahead of requests that wait for the one before them.
AHEAD_BYTES_MAX: Final = 64 * 1024
REQUEST_LINE_MAX: Final = 4096  # what is looked at to tell HTTP/1 from something else

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Http1Connection:
    """One client."""

    def __init__(self, server: RpcServer, sink: Sink, *, secure: bool, peer_name: str, peer_address: str) -> None:
        self.server = server
        self.sink = sink
        self.secure = secure
        self.peer_name = peer_name
        self.peer_address = peer_address
        self.limits = server.limits
        self.state = READING_HEAD
        self.buffered = b""
        self.searched = 0
        self.line_seen = False
        self.head: RequestHead | None = None
        self.chunked: ChunkedBody | None = None
        self.body = bytearray()
        self.body_left = 0
        self.answer: Http1Answer | None = None
        self.out: list[bytes] = []
        self.is_dirty = False
        self.in_batch = False
        self.served = 0
        self.is_waiting = False
        """For the next turn of the loop, with requests that are here already."""
        self.paused = False
        self.queued: list[bytes] = []
        self.queued_bytes = 0
        self.draining = False
        self.closing = False
        self.timer_tick = 0

    # What the event loop calls.

    def connection_made(self, transport: Any) -> None:
        """Only called when this object is the socket's first protocol."""

    def connection_lost(self, error: Exception | None) -> None:
        self.state = CLOSED
        self.server.connections.pop(self, None)
        self._drop_queued()
        self._disarm()
        answer = self.answer
        self.answer = None
        if answer is not None:
            answer.lost()

    def eof_received(self) -> bool:
        # The client may have finished asking and still be listening, though not to an answer without an end.
        answer = self.answer
        if answer is not None and not answer.started and not self.secure:
            self.closing = True
            return True
        return False

    def pause_writing(self) -> None:
        # A client that does not read is not read from either.
        self.paused = True
        if self.state != CLOSED:
            self.sink.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self.state == CLOSED:
            return
        self._read_on()
        if self.queued:
            before = self.queued_bytes
            self.out += self.queued
            self._drop_queued()
            self.flush()
            answer = self.answer
            if before > WRITABLE_MARK and answer is not None and answer.on_writable is not None:
                answer.on_writable()
        self._advance()

    def data_received(self, data: bytes) -> None:
        if self.state == CLOSED:
            return
        self.buffered = self.buffered + data if self.buffered else data
        if self.state == ANSWERING:
            if len(self.buffered) > AHEAD_BYTES_MAX:
                self.sink.pause_reading()
            return
        self._advance()

    def on_timer(self) -> None:
        """A request's head has taken too long."""
        self.timer_tick = 0
        if self.state in (READING_HEAD, READING_BODY):
            self.close()

    # What answers and the server call.

    def mark(self) -> None:
        if not self.in_batch and not self.is_dirty:
            self.is_dirty = True
            self.server.add_dirty(self)

    def flush(self) -> None:
        self.is_dirty = False
        out = self.out
        if out and self.state != CLOSED:
            data = b"".join(out)
            out.clear()
            self.sink.write(data)

    def send(self, data: bytes) -> None:
        """Write, or queue behind a full socket."""
        if self.paused:
            if self.queued_bytes > self.limits.queue_bytes_max:
                self.abort()
                return
            self.queued.append(data)
            self.queued_bytes += len(data)
            self.server.held_bytes += len(data)
            if self.server.held_bytes > self.limits.held_bytes_max:
                self.server.make_room()
        else:
            self.out.append(data)
            self.mark()

    def answered(self, keep: bool) -> None:
        """The answer under way is complete."""
        self.answer = None
        self.head = None
        if self.state == CLOSED:
            return
        if not keep or self.closing or self.draining:
            self._close_after_output()
            return
        self.state = READING_HEAD
        self._read_on()
        if not self.in_batch and self.buffered and not self.is_waiting:
            # Whoever answered is in the midst of something: what the next request asks for must not see half of it.
            self._wait_a_turn()

    def drain(self) -> None:
        self.draining = True
        if self.answer is None:
            self.close()

    @property
    def held_bytes(self) -> int:
        return self.queued_bytes

    def _drop_queued(self) -> None:
        self.queued.clear()
        self.server.held_bytes -= self.queued_bytes
        self.queued_bytes = 0

    def abort(self) -> None:
        self.state = CLOSED
        self._drop_queued()
        self.sink.abort()

    def close(self) -> None:
        if self.state != CLOSED:
            self.flush()
            self.state = CLOSED
            self._disarm()
            self.sink.close()

    def _close_after_output(self) -> None:
        self.out += self.queued
        self._drop_queued()
        self.close()

    # Requests.

    def _advance(self) -> None:
        """Serve the requests that are complete, so many a turn."""
        if self.in_batch or self.is_waiting:
            return
        self.in_batch = True
        self.served = 0
        started = self.server.stopwatch() if self.buffered else 0.0
        try:
            while self.buffered and not self.paused and self.state in (READING_HEAD, READING_BODY):
                if self.served >= REQUESTS_PER_TURN_MAX:
                    self._wait_a_turn()
                    break
                if len(self.out) >= OUT_PIECES_MAX:
                    self.flush()
                    continue
                if self.state == READING_HEAD:
                    if not self._read_head():
                        break
                elif not self._read_body():
                    break
                elif self.server.stopwatch() - started > READ_S_MAX:
                    self._wait_a_turn()
                    break
        except BadRequestError as error:
            self.out.append(error_answer(error))
            self.close()
        except UnknownProtocolError:
            # On a port without TLS etcd tells protocols apart by the first line and hangs up on what it does not know.
            if self.secure:
                self.out.append(error_answer(BadRequestError("400 Bad Request")))
            self.close()
        finally:
            self.in_batch = False
        if started and not self.is_waiting and self.state != CLOSED and self.server.stopwatch() - started > READ_S_MAX:
            self._wait_a_turn()
        # A head must come in reasonable time; a body may take as long as it keeps coming.
        if self.state == READING_BODY:
            self._disarm()
            self._arm()
        elif self.state == READING_HEAD and self.buffered:
            self._arm()
        else:
            self._disarm()
        self.flush()

    def _wait_a_turn(self) -> None:
        self.is_waiting = True
        self.sink.pause_reading()
        assert self.server.scheduler is not None
        self.server.scheduler.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.is_waiting = False
        if self.state != CLOSED:
            self._read_on()
            self._advance()

    def _read_on(self) -> None:
        """Read again, unless there is another reason not to."""
        if not self.paused and not self.is_waiting:
            self.sink.resume_reading()

    def _read_head(self) -> bool:
        data = self.buffered
        if not self.line_seen:
            # The first line tells at once whether this is HTTP/1 at all.
            stop = data.find(b"\n", 0, REQUEST_LINE_MAX)
            if stop < 0:
                if len(data) >= REQUEST_LINE_MAX:
                    raise UnknownProtocolError
                return False
            parse_request_line(data[:stop].removesuffix(b"\r"))
            self.line_seen = True
        stop = head_end(data, self.searched)
        if stop < 0:
            if len(data) > self.limits.http_header_bytes_max:
                raise BadRequestError("431 Request Header Fields Too Large")
            self.searched = max(0, len(data) - 3)
            return False
        self.searched = 0
        self.line_seen = False
        if stop > self.limits.http_header_bytes_max:
            raise BadRequestError("431 Request Header Fields Too Large")
        self.buffered = data[stop:]
        head = self.head = parse_head(data[:stop])
        if head.length > self.limits.http_body_bytes_max:
            raise BadRequestError("413 Request Entity Too Large")
        expect = head.headers.get("expect", "").lower()
        if expect == "100-continue":
            if head.is_chunked or head.length:
                self.out.append(CONTINUE)
        elif expect:
            answer = Http1Answer(self, head)
            answer.keep_alive = False
            answer.respond(417, {"Connection": "close"}, b"")
            return False
        self.chunked = ChunkedBody(self.limits.http_body_bytes_max) if head.is_chunked else None
        self.body.clear()
        self.body_left = head.length
        self.state = READING_BODY
        if not head.is_chunked and not head.length:
            self._dispatch(b"")
        return True

    def _read_body(self) -> bool:
        data = self.buffered
        if self.chunked is not None:
            piece = data if len(data) <= PIECE_BYTES else data[:PIECE_BYTES]
            done, pos = self.chunked.feed(piece, 0)
            self.buffered = data[pos:]
            # One piece: a list of many small ones would cost many times what it holds.
            for part in self.chunked.parts:
                self.body += part
            self.chunked.parts.clear()
            if not done:
                return 0 < pos < len(data) and piece is not data
            self._dispatch(bytes(self.body))
            return True
        part = data[: self.body_left]
        self.body += part
        self.body_left -= len(part)
        self.buffered = data[len(part) :]
        if self.body_left:
            return False
        self._dispatch(bytes(self.body))
        return True

    def _dispatch(self, body: bytes) -> None:
        head = self.head
        assert head is not None
        self.state = ANSWERING
        self.served += 1
        self.body.clear()
        self.chunked = None
        request = HttpRequest(
            head.method,
            head.target,
            head.headers,
            body,
            version=head.version,
            secure=self.secure,
            peer_name=self.peer_name,
            peer_address=self.peer_address,
        )
        answer = self.answer = Http1Answer(self, head)
        if head.target == "*" and head.method == "OPTIONS":
            answer.respond(200, {"Content-Length": "0"}, b"")
            return
        self.server.http(request, answer)

    def _arm(self) -> None:
        if not self.timer_tick:
            self.timer_tick = self.server.arm(self, self.limits.http_header_timeout_s)

    def _disarm(self) -> None:
        if self.timer_tick:
            self.server.disarm(self, self.timer_tick)
            self.timer_tick = 0


def reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status code {status}"


class Http1Answer:
    """The answer to one request (an HttpResponder)."""

    def __init__(self, connection: Http1Connection, head: RequestHead) -> None:
        self.connection = connection
        self.is_head = head.method == "HEAD"
        self.is_old = head.version == "HTTP/1.0"
        self.keep_alive = head.keep_alive and not connection.draining
        self.closed = False
        self.started = False
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def pending_bytes(self) -> int:
        return self.connection.queued_bytes

    def has_room(self, most: int) -> bool:
        pending = self.connection.queued_bytes
        return pending <= WRITABLE_MARK or (pending <= most and not self.connection.server.is_crowded)

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer; its length is added."""
        if self.closed or self.started:
            return
        self.started = True
        bodiless = not has_body(status)
        head = self._head(status, headers, None if bodiless else body, False)
        self.connection.send(head if self.is_head or bodiless else head + body)
        self._finish()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose length is not known yet."""
        if self.closed or self.started:
            return
        self.started = True
        if self.is_old:
            # HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
            self.keep_alive = False
        self.connection.send(self._head(status, headers, None, not self.is_old))

    def write(self, chunk: bytes) -> None:
        if self.closed or not chunk or self.is_head:
            return
        self.connection.send(chunk if self.is_old else b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def end(self) -> None:
        if self.closed:
            return
        if not self.is_old and not self.is_head:
            self.connection.send(b"0\r\n\r\n")
        self._finish()

    def lost(self) -> None:
        """The client has gone away."""
        if not self.closed:
            self.closed = True
            if self.on_close is not None:
                self.on_close()

    def _finish(self) -> None:
        self.closed = True
        self.connection.answered(self.keep_alive)

    def _head(self, status: int, headers: Mapping[str, str], body: bytes | None, chunked: bool) -> bytes:
        lines = [f"HTTP/1.{0 if self.is_old else 1} {status} {reason(status)}"]
        for name in sorted(headers):
            lines.append(f"{name}: {headers[name]}")
        if "Date" not in headers:
            lines.append(f"Date: {formatdate(self.connection.server.wall_clock(), usegmt=True)}")
        if body is not None:
            if "Content-Length" not in headers:
                lines.append(f"Content-Length: {len(body)}")
            if "Content-Type" not in headers and "Content-Type" in (guessed := with_type(headers, body)):
                lines.append(f"Content-Type: {guessed['Content-Type']}")
        if "Connection" not in headers:
            if self.is_old:
                if self.keep_alive:
                    lines.append("Connection: keep-alive")
            elif not self.keep_alive:
                lines.append("Connection: close")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
