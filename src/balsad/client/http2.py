"""One client's HTTP/2 connection that carries gRPC calls: bytes in, bytes out, no socket.

    connecting --SETTINGS of the server--> ready --GOAWAY--> draining
                                             any --lost or broken--> closed

The owner gives received bytes to `receive`, writes what `data_to_send` returns
after every call, and says `lost` when the socket is gone. Each call is a
`Stream`; its handler hears every message and, exactly once, how it ended.

Request header blocks use only the static table, so the same call always has
the same bytes and neither side keeps state for it.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC over HTTP/2.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from balsad.client.grpc_status import CANCELED, INTERNAL, UNAVAILABLE, Status, status_of, status_of_reset

if TYPE_CHECKING:
    from hpack import Decoder

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_PADDED: Final = 8
_PRIORITY: Final = 32

_ERROR_CANCEL: Final = 8
_WINDOW_DEFAULT: Final = 65535
_WINDOW_MAX: Final = 2**31 - 1
CONNECTION_WINDOW: Final = 64 << 20
STREAM_WINDOW: Final = 4 << 20
_FRAME_SIZE: Final = 16384
_HEADER_BYTES_MAX: Final = 16 << 20

# Blocks that servers answer with again and again, grpc-go's and balsad's own.
# They mean the same whatever the table holds, so that a command line tool,
# whose connection hears no others, need not import a decoder: it is given what
# it missed once another block comes.
_GRPC: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_COMMON_BLOCKS: Final[dict[bytes, list[tuple[bytes, bytes]]]] = {
    bytes.fromhex("885f8b1d75d0620d263d4c4d6564"): _GRPC,
    bytes.fromhex("40889acac8b21234da8f013040899acac8b5254207317f00"): [(b"grpc-status", b"0"), (b"grpc-message", b"")],
    b"\x88\x0f\x10\x10application/grpc": _GRPC,
    b"\x00\x0bgrpc-status\x010\x00\x0cgrpc-message\x00": [(b"grpc-status", b"0"), (b"grpc-message", b"")],
}


class ProtocolError(Exception):
    """The other side does not speak HTTP/2 as it should; the connection is of no more use."""


class StreamHandler(Protocol):
    """Who hears of a call."""

    def on_message(self, data: bytes) -> None:
        """One whole message of the server."""

    def on_end(self, status: Status) -> None:
        """The call is over; nothing follows."""


class Stream:
    """One gRPC call on a connection."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_finished",
        "_paused",
        "_queue",
        "_send_window",
        "_to_credit",
        "handler",
        "id",
        "queued_bytes",
    )

    def __init__(self, connection: ClientConnection, stream_id: int, handler: StreamHandler, window: int) -> None:
        self.id = stream_id
        self.handler = handler
        self._connection = connection
        self._buffer = bytearray()
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._send_window = window
        self._to_credit = 0
        self._paused = False
        self._finished = False
        self.queued_bytes = 0
        """What the server has not given room for."""

    def send(self, message: bytes, *, last: bool = False) -> None:
        """Send one message; with `last` nothing more will be sent."""
        if not self._finished:
            self._queue.append((b"\0" + len(message).to_bytes(4, "big") + message, last))
            self.queued_bytes += len(message) + 5
            self._connection._pump(self)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        if not self._finished:
            self._queue.append((b"", True))
            self._connection._pump(self)

    def cancel(self) -> None:
        """Give the call up; its handler hears nothing more."""
        self._connection._cancel(self)

    def pause(self) -> None:
        """Grant the server no more room until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Grant again what was held back."""
        if self._paused:
            self._paused = False
            self._connection._credit_stream(self)


class ClientConnection:
    """The client's side of one HTTP/2 connection."""

    def __init__(self, *, scheme: str, authority: str, user_agent: str, stream_window: int = STREAM_WINDOW) -> None:
        self.ready = False
        self.draining = False
        self.closed = False
        self.pings_acked = 0
        self.bytes_received = 0
        self._prefix = (
            b"\x83"
            + (b"\x87" if scheme == "https" else b"\x86")
            + _literal(b"\x01", authority.encode("latin-1", "replace"))
        )
        self._suffix = (
            _literal(b"\x0f\x10", b"application/grpc")
            + _literal(b"\x0f\x2b", user_agent.encode())
            + b"\x00"
            + _string(b"te")
            + _string(b"trailers")
        )
        self._out: list[bytes] = []
        self._in = bytearray()
        self._streams: dict[int, Stream] = {}
        self._waiting: deque[tuple[Stream, bytes]] = deque()
        self._next_id = 1
        self._window = _WINDOW_DEFAULT
        self._initial_window = _WINDOW_DEFAULT
        self._frame_size = _FRAME_SIZE
        self._streams_max = 100
        self._to_credit = 0
        self._header_stream = 0
        self._header_flags = 0
        self._header_block = bytearray()
        self._decoder: Decoder | None = None
        self._undecoded: list[bytes] = []
        self._decoded: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._stream_window = stream_window
        settings = b"\x00\x02" + bytes(4) + b"\x00\x04" + stream_window.to_bytes(4, "big")
        self._out += (PREFACE, _frame(SETTINGS, 0, 0, settings))
        self._out.append(_frame(WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW - _WINDOW_DEFAULT).to_bytes(4, "big")))

    @property
    def active(self) -> int:
        """How many calls are under way."""
        return len(self._streams) + len(self._waiting)

    def data_to_send(self) -> bytes:
        """What is to be written now; empty when there is nothing."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def open(self, path: str, metadata: tuple[tuple[str, str], ...], handler: StreamHandler) -> Stream:
        """Begin a call. Only on a connection that is neither draining nor closed."""
        assert not self.closed and not self.draining, "a call needs a live connection"
        block = self._prefix + _literal(b"\x04", path.encode()) + self._suffix
        for name, value in metadata:
            block += b"\x00" + _string(name.encode()) + _string(value.encode("utf-8", "surrogateescape"))
        stream = Stream(self, 0, handler, 0)
        if len(self._streams) >= self._streams_max:
            self._waiting.append((stream, block))
        else:
            self._start(stream, block)
        return stream

    def ping(self) -> None:
        """Ask for a sign of life; `pings_acked` counts the answers."""
        self._out.append(_frame(PING, 0, 0, b"balsad\0\0"))

    def close(self) -> None:
        """Say goodbye; calls under way end as if the connection were lost."""
        if not self.closed:
            self._out.append(_frame(GOAWAY, 0, 0, bytes(8)))
            self.lost("the client connection is closing", code=CANCELED)

    def lost(self, text: str, *, code: int = UNAVAILABLE) -> None:
        """The socket is gone: every call ends with this."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        waiting, self._waiting = self._waiting, deque()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._end(stream, Status(code, text))
        for stream, _block in waiting:
            self._end(stream, Status(code, text, unprocessed=True))

    # ---- sending

    def _start(self, stream: Stream, block: bytes) -> None:
        stream.id = self._next_id
        stream._send_window = self._initial_window
        self._next_id += 2
        if self._next_id > 0x7FFFFF00:
            self.draining = True
        self._streams[stream.id] = stream
        kind, flags = HEADERS, 0
        while len(block) > self._frame_size:
            self._out.append(_frame(kind, flags, stream.id, block[: self._frame_size]))
            block = block[self._frame_size :]
            kind = CONTINUATION
        self._out.append(_frame(kind, flags | _END_HEADERS, stream.id, block))
        self._pump(stream)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._streams) < self._streams_max and not self.draining:
            stream, block = self._waiting.popleft()
            self._start(stream, block)

    def _pump(self, stream: Stream) -> None:
        """Send what the windows let through."""
        if not stream.id:
            return
        queue = stream._queue
        while queue:
            data, last = queue[0]
            if not data:
                queue.popleft()
                self._out.append(_frame(DATA, _END_STREAM, stream.id, b""))
                continue
            room = min(self._window, stream._send_window, self._frame_size)
            if room <= 0:
                return
            part = data[:room]
            if len(part) == len(data):
                queue.popleft()
                flags = _END_STREAM if last else 0
            else:
                queue[0] = (data[room:], last)
                flags = 0
            self._window -= len(part)
            stream.queued_bytes -= len(part)
            stream._send_window -= len(part)
            self._out.append(_frame(DATA, flags, stream.id, part))

    def _cancel(self, stream: Stream) -> None:
        if stream._finished:
            return
        stream._finished = True
        stream._queue.clear()
        if stream.id:
            if self._streams.pop(stream.id, None) is not None and not self.closed:
                self._out.append(_frame(RST_STREAM, 0, stream.id, _ERROR_CANCEL.to_bytes(4, "big")))
                self._start_waiting()
        else:
            self._waiting = deque((other, block) for other, block in self._waiting if other is not stream)

    # ---- receiving

    def receive(self, data: bytes) -> None:
        """Take bytes of the socket. Raises ProtocolError."""
        self.bytes_received += len(data)
        buffer = self._in
        buffer += data
        pos = 0
        size = len(buffer)
        while size - pos >= 9:
            length = buffer[pos] << 16 | buffer[pos + 1] << 8 | buffer[pos + 2]
            if length > _FRAME_SIZE or (not self.ready and buffer[pos + 3] != SETTINGS):
                raise ProtocolError("the server does not speak HTTP/2")
            end = pos + 9 + length
            if end > size:
                break
            kind, flags = buffer[pos + 3], buffer[pos + 4]
            stream_id = int.from_bytes(buffer[pos + 5 : pos + 9], "big") & 0x7FFFFFFF
            payload = bytes(buffer[pos + 9 : end])
            pos = end
            if self._header_stream and (kind != CONTINUATION or stream_id != self._header_stream):
                raise ProtocolError("a header block was interrupted")
            self._on_frame(kind, flags, stream_id, payload)
        if pos:
            del buffer[:pos]

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == HEADERS:
            block = _unpadded(flags, payload)
            if flags & _PRIORITY:
                block = block[5:]
            self._header_stream, self._header_flags = stream_id, flags
            self._on_header_part(flags, block)
        elif kind == CONTINUATION:
            if not self._header_stream:
                raise ProtocolError("a CONTINUATION that continues nothing")
            self._on_header_part(flags, payload)
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == SETTINGS:
            self._on_settings(flags, payload)
        elif kind == PING:
            if flags & _ACK:
                self.pings_acked += 1
            else:
                self._out.append(_frame(PING, _ACK, 0, payload))
        elif kind == RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == GOAWAY:
            self._on_goaway(payload)
        elif kind == PUSH_PROMISE:
            raise ProtocolError("the server pushes, which was not allowed")

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        if len(payload) % 6:
            raise ProtocolError("a SETTINGS frame of a wrong size")
        streams_max = self._streams_max if self.ready else _WINDOW_MAX
        for pos in range(0, len(payload), 6):
            name = int.from_bytes(payload[pos : pos + 2], "big")
            value = int.from_bytes(payload[pos + 2 : pos + 6], "big")
            if name == 3:
                streams_max = value
            elif name == 4:
                if value > _WINDOW_MAX:
                    raise ProtocolError("a window beyond its limit")
                change, self._initial_window = value - self._initial_window, value
                for stream in self._streams.values():
                    stream._send_window += change
            elif name == 5:
                self._frame_size = max(_FRAME_SIZE, min(value, 1 << 20))
        self._streams_max = streams_max
        self.ready = True
        self._out.append(_frame(SETTINGS, _ACK, 0, b""))
        for stream in list(self._streams.values()):
            self._pump(stream)
        self._start_waiting()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & _WINDOW_MAX
        if not stream_id:
            self._window += increment
            for stream in list(self._streams.values()):
                self._pump(stream)
            return
        found = self._streams.get(stream_id)
        if found is not None:
            found._send_window += increment
            self._pump(found)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._end(stream, status_of_reset(int.from_bytes(payload, "big")))
        self._start_waiting()

    def _on_goaway(self, payload: bytes) -> None:
        self.draining = True
        last_id = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        status = Status(UNAVAILABLE, "the connection is draining", unprocessed=True)
        for stream_id in [number for number in self._streams if number > last_id]:
            self._end(self._streams.pop(stream_id), status)
        waiting, self._waiting = self._waiting, deque()
        for stream, _block in waiting:
            self._end(stream, status)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._to_credit += size
        if self._to_credit >= CONNECTION_WINDOW // 4:
            self._out.append(_frame(WINDOW_UPDATE, 0, 0, self._to_credit.to_bytes(4, "big")))
            self._to_credit = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream._to_credit += size
        buffer = stream._buffer
        buffer += _unpadded(flags, payload)
        pos = missing = 0
        while len(buffer) - pos >= 5:
            end = pos + 5 + int.from_bytes(buffer[pos + 1 : pos + 5], "big")
            if end > len(buffer):
                missing = end - len(buffer)
                break
            if buffer[pos]:
                self._cancel(stream)
                stream.handler.on_end(Status(INTERNAL, "grpc: compressed message without grpc-encoding"))
                return
            message = bytes(buffer[pos + 5 : end])
            pos = end
            stream.handler.on_message(message)
            if stream._finished:
                return
        if pos:
            del buffer[:pos]
        if flags & _END_STREAM:
            self._streams.pop(stream_id, None)
            self._end(stream, Status(INTERNAL, "server closed the stream without sending trailers"))
            self._start_waiting()
        else:
            self._credit_stream(stream, missing)

    def _credit_stream(self, stream: Stream, missing: int = 0) -> None:
        """Grant what was used up; while paused only what the message under way still misses."""
        credit = stream._to_credit
        if stream._paused:
            credit = missing - (self._stream_window - credit)
        elif credit < self._stream_window // 4:
            return
        if credit > 0 and not stream._finished:
            self._out.append(_frame(WINDOW_UPDATE, 0, stream.id, credit.to_bytes(4, "big")))
            stream._to_credit -= credit

    def _on_header_part(self, flags: int, part: bytes) -> None:
        self._header_block += part
        if len(self._header_block) > _HEADER_BYTES_MAX:
            raise ProtocolError("a header block beyond its limit")
        if not flags & _END_HEADERS:
            return
        stream_id, self._header_stream = self._header_stream, 0
        block = bytes(self._header_block)
        self._header_block.clear()
        headers = self._decode(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        ended = bool(self._header_flags & _END_STREAM)
        status = status_of(headers, ended)
        if status is not None:
            self._streams.pop(stream_id, None)
            if not ended:
                self._out.append(_frame(RST_STREAM, 0, stream_id, _ERROR_CANCEL.to_bytes(4, "big")))
            elif stream._queue:
                self._out.append(_frame(RST_STREAM, 0, stream_id, bytes(4)))
            self._end(stream, status)
            self._start_waiting()

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        # A block of one-byte indexes alone leaves the table as it is: the same
        # bytes mean the same headers until a block that may change the table.
        known = self._decoded.get(block)
        if known is not None:
            return known
        if self._decoder is None and block in _COMMON_BLOCKS:
            self._undecoded.append(block)
            return _COMMON_BLOCKS[block]
        from hpack import Decoder, HPACKError

        if self._decoder is None:
            self._decoder = Decoder(max_header_list_size=_HEADER_BYTES_MAX)
            for missed in self._undecoded:
                self._decoder.decode(missed, raw=True)
            self._undecoded.clear()
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except HPACKError as error:
            # Without the bytes, of which hpack shows the address.
            words = str(error).partition("<memory")[0].rstrip(": ")
            raise ProtocolError(f"a header block that cannot be decoded: {words}") from error
        if min(block, default=0) > 0x80 and max(block) < 0xFF:
            self._decoded[block] = headers
        else:
            self._decoded.clear()
        return headers

    def _end(self, stream: Stream, status: Status) -> None:
        if not stream._finished:
            stream._finished = True
            stream._queue.clear()
            stream.handler.on_end(status)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("padding beyond the frame")
    return payload[1 : len(payload) - payload[0]]


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    rest = size - 127
    head = bytearray(b"\x7f")
    while rest > 127:
        head.append(rest & 127 | 128)
        rest >>= 7
    head.append(rest)
    return bytes(head) + value


def _literal(index: bytes, value: bytes) -> bytes:
    """A header that is not to be indexed, its name by its index in the static table."""
    return index + _string(value)
