"""A load generator that speaks just enough gRPC: raw HTTP/2 frames, many requests in flight on each connection.

It asks the server for a header table of size 0, so that equal trailers are
equal bytes: each distinct block is decoded once, and a call counts as done
only with grpc-status 0. Requests of one workload differ in their body alone
and are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import hpack

T = TypeVar("T")

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
FRAME_MAX: Final = 16_384
_HEAD: Final = struct.Struct(">I")


class LoadError(Exception):
    """The server broke off, refused or answered with an error."""


@dataclass(frozen=True, slots=True)
class Request:
    """A unary call: `path` is /package.Service/Method; the bodies are sent in turn."""

    path: str
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured; latencies in seconds."""

    done: int
    failed: int
    seconds: float
    p50_s: float
    p99_s: float

    @property
    def per_second(self) -> float:
        return self.done / self.seconds


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


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
    """One connection that keeps `streams` calls in flight until told to stop."""

    def __init__(self, request: Request, authority: str, streams: int, first_body: int) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self.failure: str | None = None
        self.last_answer = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._streams = streams
        self._block = header_block(request.path, authority)
        self._messages = [grpc_message(body) for body in request.bodies]
        self._next_body = first_body % len(request.bodies)
        self._next_stream = 1
        self._started: dict[int, float] = {}
        self._waiting = 0
        self._running = False
        self._stopped = False
        self._closing = False
        self._send_window = DEFAULT_WINDOW
        self._received = 0
        self._buffer = b""
        self._verdicts: dict[bytes, bool] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = struct.pack(">HIHI", 1, 0, 4, WINDOW)
        self._write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, _HEAD.pack(WINDOW - DEFAULT_WINDOW))
        )

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def begin(self) -> None:
        self._running = True
        self._waiting = self._streams
        self._write(b"".join(self._requests(time.perf_counter())))

    def stop(self) -> None:
        """Start no more calls; `drained` is done once the open ones are."""
        self._running = False
        self._stopped = True
        self._waiting = 0
        self._check_drained()

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _check_drained(self) -> None:
        if self._stopped and not self._started and not self.drained.done():
            self.drained.set_result(None)

    def _requests(self, now: float) -> list[bytes]:
        """The frames of as many waiting calls as the server's window takes."""
        out: list[bytes] = []
        while self._waiting:
            message = self._messages[self._next_body]
            if len(message) > self._send_window:
                break
            self._send_window -= len(message)
            self._waiting -= 1
            self._next_body = (self._next_body + 1) % len(self._messages)
            stream = self._next_stream
            self._next_stream += 2
            self._started[stream] = now
            out.append(frame(HEADERS, END_HEADERS, stream, self._block))
            for at in range(0, len(message), FRAME_MAX):
                is_last = at + FRAME_MAX >= len(message)
                out.append(frame(DATA, END_STREAM if is_last else 0, stream, message[at : at + FRAME_MAX]))
        return out

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        now = time.perf_counter()
        pos, end = 0, len(buffer)
        out: list[bytes] = []
        while end - pos >= 9:
            size = _HEAD.unpack_from(buffer, pos)[0] >> 8
            if end - pos < 9 + size:
                break
            kind, flags = buffer[pos + 3], buffer[pos + 4]
            body = pos + 9
            pos = body + size
            if kind == DATA:
                self._received += size
                self.last_answer = buffer[body + 5 : pos]
            elif kind == HEADERS:
                if flags & END_STREAM:
                    stream = _HEAD.unpack_from(buffer, body - 4)[0]
                    self._finish(stream, buffer[body:pos], now)
            else:
                self._control(kind, flags, buffer[body:pos], out)
        self._buffer = buffer[pos:]
        if self._received >= 1 << 29:
            out.append(frame(WINDOW_UPDATE, 0, 0, _HEAD.pack(self._received)))
            self._received = 0
        if self._waiting:
            out += self._requests(now)
        if out:
            self._write(b"".join(out))
        self._check_drained()

    def _finish(self, stream: int, block: bytes, now: float) -> None:
        started = self._started.pop(stream)
        is_ok = self._verdicts.get(block)
        if is_ok is None:
            is_ok = self._verdicts[block] = self._judge(block)
        if not is_ok:
            self.failed += 1
        elif self._running:
            self.latencies.append(now - started)
        if self._running:
            self._waiting += 1

    def _judge(self, block: bytes) -> bool:
        fields = {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block, raw=True)}
        if fields.get(b"grpc-status") == b"0":
            return True
        self.failure = f"grpc-status {fields.get(b'grpc-status', b'?').decode()}: " + (
            fields.get(b"grpc-message", b"").decode("utf-8", "replace")
        )
        return False

    def _control(self, kind: int, flags: int, payload: bytes, out: list[bytes]) -> None:
        if kind == SETTINGS:
            if flags & ACK:
                if not self.ready.done():
                    self.ready.set_result(None)
            else:
                out.append(frame(SETTINGS, ACK, 0, b""))
        elif kind == WINDOW_UPDATE:
            self._send_window += _HEAD.unpack(payload)[0] & WINDOW
        elif kind == PING and not flags & ACK:
            out.append(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._fail("the server sent GOAWAY")
        elif kind == RST_STREAM:
            self._fail("the server reset a stream")

    def _fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        for future in (self.ready, self.drained):
            if not future.done():
                future.set_exception(LoadError(reason))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._fail(str(error or "the server closed the connection"))


async def _connect(address: str, request: Request, streams: int, first_body: int) -> Connection:
    host, _, port = address.rpartition(":")
    connection = Connection(request, address, streams, first_body)
    await asyncio.get_running_loop().create_connection(lambda: connection, host, int(port))
    await asyncio.wait_for(asyncio.shield(connection.ready), 10)
    return connection


async def _drive(
    address: str, request: Request, connections: int, streams: int, seconds: float
) -> tuple[Load, str | None]:
    opened: list[Connection] = []
    try:
        for number in range(connections):
            opened.append(await _connect(address, request, streams, number * 97))
        began = time.perf_counter()
        for one in opened:
            one.begin()
        await asyncio.sleep(seconds)
        for one in opened:
            one.stop()
        lasted = time.perf_counter() - began
        for one in opened:
            await asyncio.wait_for(one.drained, 30)
    finally:
        for one in opened:
            one.close()
    latencies = sorted(latency for one in opened for latency in one.latencies)
    load = Load(
        done=len(latencies),
        failed=sum(one.failed for one in opened),
        seconds=lasted,
        p50_s=percentile(latencies, 0.5),
        p99_s=percentile(latencies, 0.99),
    )
    return load, next((one.failure for one in opened if one.failure), None)


async def _call(address: str, path: str, body: bytes) -> tuple[bytes, str | None]:
    connection = await _connect(address, Request(path, (body,)), 1, 0)
    try:
        connection.begin()
        connection.stop()
        await asyncio.wait_for(connection.drained, 30)
        return connection.last_answer, connection.failure
    finally:
        connection.close()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def generate(address: str, request: Request, *, connections: int, streams: int, seconds: float) -> Load:
    """Keep `connections` times `streams` calls in flight for so long. Raises LoadError."""
    load, failure = _run(_drive(address, request, connections, streams, seconds))
    if load.failed:
        raise LoadError(f"{load.failed} calls of {request.path} failed: {failure}")
    return load


def call(address: str, path: str, body: bytes) -> bytes:
    """The answer of one call (of a long one the last DATA frame, without its first five bytes). Raises LoadError."""
    answer, failure = _run(_call(address, path, body))
    if failure is not None:
        raise LoadError(f"{path}: {failure}")
    return answer
