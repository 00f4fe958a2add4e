"""The HTTP/1.1 server of the peer port: bodies as they come, answers without an end.

    head ──> body ──> handler ──(answered)──> next head
      │        └──> BodyReader, who takes it piece by piece
      └──(refused)──> the rest of the body is thrown away ──(at its end)──> answered, next head
                                      └──(more than 256 KiB)──> answered, closed soon after
    handler ──start_stream──> endless answer, until either side closes

Nobody may keep a connection by saying nothing for five seconds, as on etcd's peer port.
The clients' server of `transport` takes whole bodies only; a database of many gigabytes comes in here.

Source: etcd embed (servePeers), client/pkg/transport timeout_listener.go; words and header order as Go's net/http.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from balsad.peer.exchange import BodyReader, OutgoingStream, PeerAnswer, PeerRequest, Route
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
from balsad.transport.revocation import presented_serials

if TYPE_CHECKING:
    from balsad.peer.listener import PeerListener

HEAD_BYTES_MAX: Final = 64 << 10
REQUEST_LINE_MAX: Final = 4096
SILENCE_S_MAX: Final = 5.0
WRITE_BUFFER_HIGH: Final = 1 << 20
WRITE_BUFFER_LOW: Final = 256 << 10
LINGER_S: Final = 0.5
DISCARD_BYTES_MAX: Final = 256 << 10
HTTP2_PREFACE: Final = b"PRI * HTTP/2.0"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_AT_HEAD: Final = 0
_AT_BODY: Final = 1
_ANSWERING: Final = 2
_STREAMING: Final = 3
_LINGERING: Final = 4
_CLOSED: Final = 5


class PeerConnection(asyncio.Protocol):
    """One client of the peer port."""

    def __init__(self, listener: PeerListener) -> None:
        self._listener = listener
        self._loop = listener.loop
        self._transport: Any = None
        self._fileno = -1
        self._address = ""
        self._state = _AT_HEAD
        self._is_first = True
        self._is_half_closed = False
        self._buffered = b""
        self._searched = 0
        self._head: RequestHead | None = None
        self._route: Route | None = None
        self._answer: PeerAnswer | None = None
        self._chunks: ChunkedBody | None = None
        self._body_left = 0
        self._body: list[bytes] = []
        self._reader: BodyReader | None = None
        self._postponed: Callable[[], None] | None = None
        self._discard_left = 0
        self._in_batch = False
        self._stream: OutgoingStream | None = None
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_full = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH, low=WRITE_BUFFER_LOW)
        peer = transport.get_extra_info("peername")
        host = ""
        if isinstance(peer, tuple):
            host = peer[0]
            self._address = f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}"
        else:
            self._address = "@"
        if not self._listener.welcome(self):
            self._state = _CLOSED
            self._transport.abort()
            return
        if transport.get_extra_info("ssl_object") is None:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                self._fileno = sock.fileno()
        else:
            shown = presented_serials(transport.get_extra_info("ssl_object"))
            self._listener.check_certificate(self, transport.get_extra_info("peercert") or {}, host, shown)
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(SILENCE_S_MAX, self._check_silence)

    def connection_lost(self, error: Exception | None) -> None:
        self._lose("EOF" if error is None else str(error) or type(error).__name__)

    def eof_received(self) -> bool:
        # The client has said all and may still be listening for the answer.
        self._is_half_closed = True
        return self._state == _ANSWERING

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        stream = self._stream
        if stream is not None and stream.on_writable is not None:
            stream.on_writable()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        state = self._state
        if state >= _STREAMING:
            return  # nothing more is asked here
        self._buffered = self._buffered + data if self._buffered else data
        if state == _ANSWERING:
            if len(self._buffered) > HEAD_BYTES_MAX:
                self._transport.pause_reading()
            return
        self._advance()

    # What answers and streams call.

    @property
    def unsent_bytes(self) -> int:
        size: int = self._transport.get_write_buffer_size()
        return size

    def write_now(self, data: bytes) -> None:
        """Hand the bytes to the kernel in this very moment if it takes them.

        uvloop would send them at the end of the turn, after the leader's own
        fsync: too late for the followers to write meanwhile.
        """
        if self._state == _CLOSED:
            return
        if self._fileno >= 0 and not self._transport.get_write_buffer_size():
            try:
                sent = os.write(self._fileno, data)
            except OSError:
                sent = 0  # full, or broken: the event loop will find out
            if sent == len(data):
                return
            data = data[sent:]
        self._transport.write(data)

    def answer_later(self, respond: Callable[[], None]) -> bool:
        """Whether the answer, given before the body has come in, waits until it has, as with Go."""
        if self._state != _AT_BODY or self._postponed is not None:
            return False
        self._drop_body(keep_framing=True)
        if self._body_left > DISCARD_BYTES_MAX:
            return False
        self._discard_left = DISCARD_BYTES_MAX
        self._postponed = respond
        return True

    def may_keep(self) -> bool:
        """Whether the connection can be used again: its request was read to the end."""
        return self._state == _ANSWERING and not self._is_half_closed and not self._listener.is_closing

    def answered(self, keep: bool) -> None:
        self._answer = None
        if self._state == _CLOSED:
            return
        if keep:
            self._state = _AT_HEAD
            self._heard_at = self._loop.time()
            self._transport.resume_reading()
            if not self._in_batch and self._buffered:
                self._advance()
        elif self._state == _ANSWERING:
            self.close()
        else:
            # To close now would reset the connection before the client has read why. Hear it out for a moment.
            self._drop_body()
            self._state = _LINGERING
            self._buffered = b""
            self._loop.call_later(LINGER_S, self.close)

    def start_stream(self, head: bytes, is_chunked: bool) -> OutgoingStream | None:
        if self._state == _CLOSED:
            return None
        self.write_now(head)
        self._answer = None
        self._state = _STREAMING
        self._buffered = b""
        self._stop_timer()
        self._transport.resume_reading()
        stream = self._stream = OutgoingStream(self, is_chunked)
        return stream

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._transport.pause_reading()

    def resume(self) -> None:
        if self._state != _CLOSED:
            self._heard_at = self._loop.time()
            self._transport.resume_reading()

    def close(self) -> None:
        if self._state != _CLOSED:
            self._transport.close()
            self._lose("closed")

    def abort(self) -> None:
        if self._state != _CLOSED:
            self._transport.abort()
            self._lose("closed")

    def finish(self) -> None:
        """Close now if nothing is being answered, else afterwards."""
        if self._state != _ANSWERING:
            self.close()

    # Reading.

    def _advance(self) -> None:
        """Serve as many requests as are complete."""
        if self._in_batch:
            return
        self._in_batch = True
        try:
            while self._buffered and self._state in (_AT_HEAD, _AT_BODY):
                if self._state == _AT_HEAD:
                    if not self._read_head():
                        break
                elif not self._read_body():
                    break
        except BadRequestError as error:
            self._transport.write(error_answer(error))
            self.close()
        except UnknownProtocolError:
            self._transport.write(error_answer(BadRequestError("400 Bad Request")))
            self.close()
        finally:
            self._in_batch = False

    def _read_head(self) -> bool:
        data = self._buffered
        if self._is_first:
            if data.startswith(HTTP2_PREFACE):
                self._hand_over(data)
                return False
            stop = data.find(b"\n", 0, REQUEST_LINE_MAX)
            if stop < 0:
                if len(data) >= REQUEST_LINE_MAX:
                    raise UnknownProtocolError
                return False
            parse_request_line(data[:stop].removesuffix(b"\r"))
            self._is_first = False
        stop = head_end(data, self._searched)
        if stop < 0 or stop > HEAD_BYTES_MAX:
            if len(data) > HEAD_BYTES_MAX:
                raise BadRequestError("431 Request Header Fields Too Large")
            self._searched = max(0, len(data) - 3)
            return False
        self._searched = 0
        self._is_first = True
        self._buffered = data[stop:]
        head = self._head = parse_head(data[:stop])
        request = PeerRequest(head, self._address)
        answer = self._answer = PeerAnswer(self, head)
        route = self._route = self._listener.route(request)
        self._state = _AT_BODY
        if head.length > route.body_bytes_max:
            raise BadRequestError("413 Request Entity Too Large")
        if head.headers.get("expect", "").lower() == "100-continue" and (head.is_chunked or head.length):
            self._transport.write(_CONTINUE)
        self._chunks = ChunkedBody(route.body_bytes_max) if head.is_chunked else None
        self._body_left = head.length
        self._body = []
        if route.begin is not None:
            self._reader = route.begin(request, answer)
            if self._state != _AT_BODY:
                return False
        if not head.is_chunked and not head.length:
            self._end_body()
        return True

    def _read_body(self) -> bool:
        data = self._buffered
        if self._chunks is not None:
            done, pos = self._chunks.feed(data, 0)
            self._buffered = data[pos:]
            self._body += self._chunks.parts
            self._chunks.parts.clear()
        else:
            part = data[: self._body_left]
            self._body.append(part)
            self._body_left -= len(part)
            self._buffered = data[len(part) :]
            done = not self._body_left
        if self._reader is not None or self._postponed is not None:
            parts, self._body = self._body, []
            for part in parts:
                if self._reader is not None:
                    self._reader.feed(part)
                else:
                    self._discard_left -= len(part)
            if self._discard_left < 0 and self._postponed is not None:
                self._answer_now()
            if self._state != _AT_BODY:
                return False
        if done:
            self._end_body()
        return done

    def _answer_now(self) -> None:
        respond, self._postponed = self._postponed, None
        assert respond is not None
        respond()

    def _end_body(self) -> None:
        assert self._head is not None
        assert self._route is not None
        assert self._answer is not None
        self._state = _ANSWERING
        self._chunks = None
        if self._postponed is not None:
            self._answer_now()
            return
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.end()
            return
        body = b"".join(self._body)
        self._body = []
        handler = self._route.handler
        assert handler is not None
        handler(PeerRequest(self._head, self._address), body, self._answer)

    def _hand_over(self, data: bytes) -> None:
        """A client that speaks HTTP/2 means gRPC."""
        http2 = self._listener.http2
        if http2 is None:
            raise UnknownProtocolError
        transport = self._transport
        self._lose("closed")
        http2(transport, data)

    # Ends.

    def _check_silence(self) -> None:
        now = self._loop.time()
        left = self._heard_at + SILENCE_S_MAX - now
        if self._state == _ANSWERING:
            left = SILENCE_S_MAX
        if left <= 0:
            if self._postponed is not None:
                self._answer_now()
            self.close()
            return
        self._timer = self._loop.call_later(left, self._check_silence)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_body(self, keep_framing: bool = False) -> None:
        self._body = []
        if not keep_framing:
            self._chunks = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.lost()

    def _lose(self, why: str) -> None:
        """Tell everybody, once."""
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        self._listener.farewell(self)
        self._stop_timer()
        self._buffered = b""
        self._drop_body()
        self._postponed = None
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.is_done = True
        stream, self._stream = self._stream, None
        if stream is not None and stream.on_lost is not None:
            stream.on_lost(why)
