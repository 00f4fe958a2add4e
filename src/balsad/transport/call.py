"""One gRPC call: messages in, messages and a status out."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final

from balsad.errors import Code, RequestError
from balsad.transport.frames import (
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FRAME_SIZE_MAX,
    HEADERS,
    INTERNAL_ERROR,
    frame,
    header_frames,
    pack_u32,
    rst_stream,
    unpack_u32,
)
from balsad.transport.grpc_words import OK_BLOCK, RESPONSE_BLOCK, GzipError, gunzip, gzip, trailer_block
from balsad.transport.methods import Headers, Method
from balsad.transport.stream import Stream

if TYPE_CHECKING:
    from balsad.transport.faces import StreamHandler
    from balsad.transport.http2_base import Http2Base

# A whole answer is HEADERS, DATA and trailers, of which only stream id, length and message vary. In their order:
# what stands before the stream id, before it comes again and before the message (both by length), before its third.
ANSWER_START: Final = frame(HEADERS, FLAG_END_HEADERS, 0, RESPONSE_BLOCK)[:5]
ANSWER_MIDDLES: Final = [RESPONSE_BLOCK + pack_u32(size + 5 << 8) + b"\0" for size in range(1024)]
ANSWER_PREFIXES: Final = [b"\0" + pack_u32(size) for size in range(1024)]
ANSWER_TRAILER: Final = frame(HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 0, OK_BLOCK)[:5]
pack_message: Final = Struct(">IBIBI").pack
pack_message_head: Final = Struct(">BI").pack


def whole_answer(stream_id: int, message: bytes) -> bytes:
    """The frames of an answer with status OK."""
    size = len(message)
    packed_id = pack_u32(stream_id)
    if size < 1024:
        middle = ANSWER_MIDDLES[size]
        prefix = ANSWER_PREFIXES[size]
    else:
        middle = RESPONSE_BLOCK + pack_u32(size + 5 << 8) + b"\0"
        prefix = b"\0" + pack_u32(size)
    return b"".join((ANSWER_START, packed_id, middle, packed_id, prefix, message, ANSWER_TRAILER, packed_id, OK_BLOCK))


MESSAGE_HEAD_SIZE: Final = 5
# What the fields of a block count beyond its bytes in a header list's size, roughly.
BLOCK_OVERHEAD: Final = 128


class Call(Stream):
    """A call as its handler sees it."""

    deadline: float | None = None
    """Seconds the client left for it when it began."""
    on_cancel: Callable[[], None] | None = None
    """Called when the client reset the call, its deadline passed or the connection was lost."""
    on_deadline: Callable[[], None] | None = None
    """Called instead of answering DEADLINE_EXCEEDED; it has to end the call."""
    headers_sent: bool = False
    begun: bool = False
    """Handed to the application, and counted as started."""
    chunks: bytearray | None = None
    """What is here of a message that is not here whole. One piece: a list would cost many times what a miser sends."""
    chunk_need: int = 0
    began: float = 0.0
    """When it was handed to the application, of a method whose calls are timed."""

    def __init__(self, connection: Http2Base, stream_id: int, headers: Headers) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.headers = headers
        # Not a default of the class: mypyc would leave it undefined, since StreamHandler is a Protocol.
        self.handler: StreamHandler | None = None

    @property
    def peer_name(self) -> str:
        """The common name of the client's verified certificate, or nothing."""
        return self.connection.peer_name

    @property
    def peer_address(self) -> str:
        """Where the client is, for logs."""
        return self.connection.peer_address

    # What the application says.

    def respond(self, message: bytes) -> None:
        """Answer a unary call with this message and status OK."""
        connection = self.connection
        size = len(message) + MESSAGE_HEAD_SIZE
        if (
            size > connection.fast_answer_max
            or size > connection.send_window
            or size > connection.peer_initial_window - self.send_used
            or self.closed
            or self.headers_sent
            or not self.recv_closed
            or self.headers.unary is None
        ):
            self.send(message)
            self.finish()
            return
        connection.send_window -= size
        stream_id = self.stream_id
        connection.out.append(whole_answer(stream_id, message))
        self.closed = True
        method = self.headers.unary
        method.ok += 1
        method.bytes_out += size - MESSAGE_HEAD_SIZE
        if self.began:
            self._observe(method, False)
        if self.timer_tick or connection.goaway_sent:
            connection.forget(self)
        else:
            del connection.streams[stream_id]
        if not connection.is_dirty:
            connection.reset_ping_strikes = True
            connection.mark()

    def send(self, message: bytes) -> None:
        """Send one message of a stream."""
        if self.closed:
            return
        compressed = 0
        if self.headers.is_gzip:
            message = gzip(message)
            compressed = 1
        connection = self.connection
        if not self.headers_sent:
            self._send_headers()
        method = self.headers.method
        length = len(message)
        if method is not None:
            method.messages_out += 1
            method.bytes_out += length
        size = length + MESSAGE_HEAD_SIZE
        if (
            size > FRAME_SIZE_MAX
            or self.pending_bytes
            or connection.paused
            or size > connection.send_window
            or size > connection.peer_initial_window - self.send_used
        ):
            self.queue(pack_message_head(compressed, length), message)
        else:
            connection.send_window -= size
            self.send_used += size
            connection.out += (pack_message(size << 8, 0, self.stream_id, compressed, length), message)
        connection.reset_ping_strikes = True
        connection.mark()

    def send_shared(self, head: bytes, body: bytes) -> None:
        """Send `head + body` as one message, of which others are sent the second part, too.

        A large one is not copied: who does not read it keeps alive what all the others keep.
        """
        if self.closed or len(body) <= FRAME_SIZE_MAX or self.headers.is_gzip:
            self.send(head + body)
            return
        if not self.headers_sent:
            self._send_headers()
        length = len(head) + len(body)
        method = self.headers.method
        if method is not None:
            method.messages_out += 1
            method.bytes_out += length
        self.queue(pack_message_head(0, length) + head, body)
        connection = self.connection
        connection.reset_ping_strikes = True
        connection.mark()

    def finish(self) -> None:
        """End the call with status OK."""
        if not self.closed:
            self._end(0, "")

    def fail(self, code: int, text: str) -> None:
        """End the call with this status."""
        if not self.closed:
            self._end(int(code), text)

    # What the connection says.

    def on_data(self, data: bytes) -> None:
        if self.begun and self.handler is None:
            # grpc-go never reads a second message of a unary call.
            return
        chunks = self.chunks
        if chunks is not None:
            chunks += data
            self.connection.count_partial(len(data))
            if len(chunks) < self.chunk_need:
                return
            if len(chunks) == self.chunk_need > MESSAGE_HEAD_SIZE and not chunks[0]:
                # One whole message, whose length was looked at when it began.
                message = bytes(memoryview(chunks)[MESSAGE_HEAD_SIZE:])
                self.drop_received()
                self.on_message(message)
                return
            data = self._take_chunks()
        pos = 0
        size = len(data)
        while size - pos >= MESSAGE_HEAD_SIZE:
            length: int = unpack_u32(data, pos + 1)[0]
            limit = self.connection.limits.message_bytes_max
            if length > limit:
                self._refuse(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {limit})")
                return
            stop = pos + MESSAGE_HEAD_SIZE + length
            if stop > size:
                self._keep(data, pos, MESSAGE_HEAD_SIZE + length)
                return
            message = data[pos + MESSAGE_HEAD_SIZE : stop]
            if data[pos]:
                if data[pos] != 1 or not self.headers.is_gzip:
                    self._refuse_payload(data[pos])
                    return
                try:
                    message = gunzip(message, limit)
                except GzipError as error:
                    self._refuse(Code.INTERNAL, f"grpc: failed to decompress the received message {error}")
                    return
                if len(message) > limit:
                    self._refuse(
                        Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({len(message)} vs. {limit})"
                    )
                    return
            self.on_message(message)
            if self.closed or self.handler is None:
                return
            pos = stop
        if pos < size:
            self._keep(data, pos, MESSAGE_HEAD_SIZE)

    def on_message(self, message: bytes) -> None:
        """Hand a whole message to the application."""
        method = self.headers.method
        assert method is not None
        method.bytes_in += len(message)
        if method.handler is None:
            method.messages_in += 1
            handler = self.handler
            if handler is None:
                return
            try:
                handler.on_message(message)
            except RequestError as error:
                self._refuse(error.code, error.text)
            return
        self.begun = True
        method.calls += 1
        try:
            if method.fast is not None:
                answer = method.fast(self.headers, message)
                if answer is not None:
                    self.respond(answer)
                    return
            method.handler(self, message)
        except RequestError as error:
            self.fail(error.code, error.text)

    def on_half_close(self) -> None:
        self.recv_closed = True
        if self.closed:
            return
        partial = self.chunks is not None
        if self.handler is None:
            if not self.begun:
                self.fail(Code.UNKNOWN, "unexpected EOF" if partial else "EOF")
        elif partial:
            self._refuse(Code.INTERNAL, "unexpected EOF")
        else:
            try:
                self.handler.on_half_close()
            except RequestError as error:
                self._refuse(error.code, error.text)

    def on_gone(self) -> None:
        if not self.closed:
            self.closed = True
            method: Method | None = self.headers.method
            self._count(Code.CANCELED if method is None else method.code_when_gone)
            self.drop_received()
            self._tell_cancelled()

    def on_timer(self) -> None:
        self.timer_tick = 0
        if self.closed:
            return
        if self.on_deadline is not None:
            self.on_deadline()
            return
        self._refuse(Code.DEADLINE_EXCEEDED, "context deadline exceeded")

    def drop_received(self) -> None:
        if self.chunks is not None:
            self.connection.count_partial(-len(self.chunks))
            self.chunks = None

    # Inside.

    def _refuse(self, code: int, text: str) -> None:
        """End the call from our side and tell the application that it is over."""
        if not self.closed:
            self._end(int(code), text)
            self._tell_cancelled()

    def _refuse_payload(self, payload_format: int) -> None:
        # Source: grpc-go checkRecvPayload.
        if payload_format == 1:
            self._refuse(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        else:
            self._refuse(Code.INTERNAL, f"grpc: received unexpected payload format {payload_format}")

    def _tell_cancelled(self) -> None:
        if self.handler is not None:
            self.handler.on_cancel()
        if self.on_cancel is not None:
            self.on_cancel()

    def _keep(self, data: bytes, pos: int, need: int) -> None:
        self.chunks = bytearray(data[pos:] if pos else data)
        self.chunk_need = need
        self.connection.count_partial(len(self.chunks))

    def _take_chunks(self) -> bytes:
        assert self.chunks is not None
        data = bytes(self.chunks)
        self.connection.count_partial(-len(data))
        self.chunks = None
        return data

    def _send_headers(self) -> None:
        self.headers_sent = True
        self.connection.out.append(header_frames(self.stream_id, self.headers.response_block, False))

    def _end(self, code: int, text: str) -> None:
        self.closed = True
        self._count(code)
        self.drop_received()
        block = trailer_block(code, text)
        if not self.headers_sent:
            block = self.headers.trailers_block + block
        if len(block) + BLOCK_OVERHEAD > self.connection.peer_header_list_max:
            # Source: grpc-go checkForHeaderListSize.
            self.end_with(rst_stream(self.stream_id, INTERNAL_ERROR))
            return
        self.end_with(header_frames(self.stream_id, block, True))

    def _count(self, code: int) -> None:
        method: Method | None = self.headers.method
        if method is None or not self.begun:
            return
        if code == 0:
            method.ok += 1
        else:
            method.count_failed(code)
        if self.began:
            self._observe(method, code != 0)

    def _observe(self, method: Method, failed: bool) -> None:
        if method.observe is not None:
            method.observe(self.connection.server.stopwatch() - self.began, failed)


class WholeCall(Call):
    """A unary call that came with its message, all in one read."""

    recv_closed: bool = True
    begun: bool = True
