"""One client connection that speaks just enough gRPC: raw HTTP/2 frames, any number of calls in flight.

It asks the server for a header table of size 0, so that equal trailers are
equal bytes: each distinct block is decoded once, and a call has succeeded only
with grpc-status 0. What is done with a call that ends is a subclass's business
(`ended`), and with what comes on a stream (`received`).
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar, cast

import hpack

T = TypeVar("T")

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
FRAME_MAX: Final = 16_384
FRAME_HEAD_BYTES: Final = 9
GRPC_PREFIX: Final = 5
HEADER_TABLE_SIZE: Final = 1
INITIAL_WINDOW_SIZE: Final = 4
READY_S: Final = 30.0
CONNECTS_MAX: Final = 100
"""So many at once do not overflow a server's backlog."""
_HEAD: Final = struct.Struct(">I")


class LoadError(Exception):
    """The server broke off, refused, or answered with an error or wrongly."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind) + bytes((flags,)) + _HEAD.pack(stream) + payload


def grpc_message(body: bytes) -> bytes:
    return b"\0" + _HEAD.pack(len(body)) + body


def header_block(path: str, authority: str) -> bytes:
    """The request's headers, none of them to be remembered."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes((len(value),)) + value.encode()

    return (
        b"\x83\x86"  # :method POST, :scheme http
        + b"\x04"
        + text(path)
        + b"\x01"
        + text(authority)
        + b"\x0f\x10"
        + text("application/grpc")
        + b"\x00"
        + text("te")
        + text("trailers")
    )


class Connection(asyncio.Protocol):
    """Sends calls of one method and tells `ended` of each."""

    takes_data = False
    """Whether `received` is told of what comes."""

    def __init__(self, path: str, authority: str) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.failure: str | None = None
        self.data_bytes = 0
        """How much came in DATA frames: messages and five bytes for each."""
        self._block = header_block(path, authority)
        self._table_update = b""
        """What the next header block begins with: RFC 7541 4.2, a new limit of the table is agreed to."""
        self._next_stream = 1
        self._started: dict[int, float] = {}
        self._send_window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._unsent: dict[int, tuple[memoryview, int]] = {}
        """By stream: what is left of a message that the windows did not take at once, and the stream's window."""
        self._received = 0
        self._buffer = b""
        self._out: list[bytes] = []
        self._verdicts: dict[bytes, bool] = {}
        self._closing = False
        self._transport: asyncio.Transport | None = None

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        """A call has ended; times by perf_counter. Calls may be begun here, they leave with the others."""

    def received(self, stream: int, data: bytes) -> None:
        """A DATA frame's payload has come: messages with five bytes before each, or parts of them."""

    def failed_whole(self, reason: str) -> None:
        """The connection is of no use any more."""

    @property
    def in_flight(self) -> int:
        return len(self._started)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = struct.pack(">HIHI", HEADER_TABLE_SIZE, 0, INITIAL_WINDOW_SIZE, WINDOW)
        self._out = [
            PREFACE,
            frame(SETTINGS, 0, 0, settings),
            frame(WINDOW_UPDATE, 0, 0, _HEAD.pack(WINDOW - DEFAULT_WINDOW)),
        ]
        self.flush()

    def begin_call(self, message: bytes, now: float) -> int:
        """The stream of a new call; it leaves with the next `flush`. `message` has gRPC's five bytes in front."""
        stream = self.open_stream(now)
        size = len(message)
        if size <= FRAME_MAX and size <= self._send_window and size <= self._stream_window:
            self._send_window -= size
            self._out.append(frame(DATA, END_STREAM, stream, message))
        else:
            self._unsent[stream] = (memoryview(message), self._stream_window)
            self._send_unsent()
        return stream

    def open_stream(self, now: float) -> int:
        """A stream without a message yet."""
        stream = self._next_stream
        self._next_stream = stream + 2
        self._started[stream] = now
        self._out.append(frame(HEADERS, END_HEADERS, stream, self._table_update + self._block))
        self._table_update = b""
        return stream

    def send_on(self, stream: int, message: bytes) -> None:
        """Send one of many short messages on an open stream, with the next `flush`.

        The stream's window is not watched: the server is known to give back what it has read.
        """
        self._out.append(frame(DATA, 0, stream, message))

    def flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out = []

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _send_unsent(self) -> None:
        for stream in list(self._unsent):
            rest, window = self._unsent[stream]
            while rest:
                size = min(len(rest), FRAME_MAX, window, self._send_window)
                if size <= 0:
                    break
                is_last = size == len(rest)
                self._out.append(frame(DATA, END_STREAM if is_last else 0, stream, bytes(rest[:size])))
                rest, window, self._send_window = rest[size:], window - size, self._send_window - size
            if rest:
                self._unsent[stream] = (rest, window)
            else:
                del self._unsent[stream]

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        now = time.perf_counter()
        pos, end = 0, len(buffer)
        while end - pos >= 9:
            size = _HEAD.unpack_from(buffer, pos)[0] >> 8
            if end - pos < 9 + size:
                break
            kind, flags = buffer[pos + 3], buffer[pos + 4]
            body = pos + 9
            pos = body + size
            if kind == DATA:
                self._received += size
                self.data_bytes += size
                if self.takes_data:
                    self.received(_HEAD.unpack_from(buffer, body - 4)[0], buffer[body:pos])
            elif kind == HEADERS:
                if flags & END_STREAM:
                    stream = _HEAD.unpack_from(buffer, body - 4)[0]
                    self._end_call(stream, buffer[body:pos], now)
            else:
                self._control(kind, flags, _HEAD.unpack_from(buffer, body - 4)[0], buffer[body:pos])
        self._buffer = buffer[pos:]
        if self._received >= 1 << 29:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, _HEAD.pack(self._received)))
            self._received = 0
        self.flush()

    def _end_call(self, stream: int, block: bytes, now: float) -> None:
        is_ok = self._verdicts.get(block)
        if is_ok is None:
            is_ok = self._verdicts[block] = self._judge(block)
        self._unsent.pop(stream, None)
        self.ended(stream, is_ok, self._started.pop(stream), now)

    def _judge(self, block: bytes) -> bool:
        fields = {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block, raw=True)}
        if fields.get(b"grpc-status") == b"0":
            return True
        self.failure = f"grpc-status {fields.get(b'grpc-status', b'?').decode()}: " + (
            fields.get(b"grpc-message", b"").decode("utf-8", "replace")
        )
        return False

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS:
            if flags & ACK:
                if not self.ready.done():
                    self.ready.set_result(None)
            else:
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == HEADER_TABLE_SIZE and value == 0:
                        self._table_update = b"\x20"
                    elif name == INITIAL_WINDOW_SIZE:
                        change, self._stream_window = value - self._stream_window, value
                        self._unsent = {one: (rest, left + change) for one, (rest, left) in self._unsent.items()}
                self._out.append(frame(SETTINGS, ACK, 0, b""))
        elif kind == WINDOW_UPDATE:
            more = _HEAD.unpack(payload)[0] & WINDOW
            if stream == 0:
                self._send_window += more
            elif stream in self._unsent:
                rest, window = self._unsent[stream]
                self._unsent[stream] = (rest, window + more)
            self._send_unsent()
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._fail("the server sent GOAWAY")
        elif kind == RST_STREAM:
            self._fail("the server reset a stream")

    def _fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        if not self.ready.done():
            self.ready.set_exception(LoadError(reason))
        self.failed_whole(reason)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._fail(str(error or "the server closed the connection"))


C = TypeVar("C", bound=Connection)


async def connect(address: str, connection: C) -> C:
    """The connection, once the server has taken its settings. Raises LoadError, OSError, TimeoutError."""
    host, _, port = address.rpartition(":")
    await asyncio.get_running_loop().create_connection(lambda: connection, host, int(port))
    await asyncio.wait_for(asyncio.shield(connection.ready), READY_S)
    return connection


async def connect_all(address: str, connections: Sequence[Connection]) -> None:
    """Connect them, some at a time. Raises what `connect` does."""
    for first in range(0, len(connections), CONNECTS_MAX):
        await asyncio.gather(*(connect(address, one) for one in connections[first : first + CONNECTS_MAX]))


class _OneCall(Connection):
    """Takes one call's whole answer."""

    takes_data = True

    def __init__(self, path: str, authority: str) -> None:
        super().__init__(path, authority)
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.parts: list[bytes] = []

    def received(self, stream: int, data: bytes) -> None:
        self.parts.append(data)

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.done.set_result(is_ok)

    def failed_whole(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_result(False)


async def _call(address: str, path: str, body: bytes, timeout_s: float) -> bytes:
    connection = _OneCall(path, address)
    try:
        await connect(address, connection)
        connection.begin_call(grpc_message(body), time.perf_counter())
        connection.flush()
        if not await asyncio.wait_for(connection.done, timeout_s):
            raise LoadError(f"{path}: {connection.failure}")
        return b"".join(connection.parts)[GRPC_PREFIX:]
    except (OSError, TimeoutError) as error:
        raise LoadError(f"{path} of {address}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def run_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def call(address: str, path: str, body: bytes, timeout_s: float = 60.0) -> bytes:
    """The answer of one call. Raises LoadError."""
    return run_loop(_call(address, path, body, timeout_s))
