"""A connection without sockets: a loop whose clock we move, a sink that records, a client that speaks raw frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack, unpack_from

import hpack

from balsad.errors import Code, KeyNotFoundError, RequestError
from balsad.transport import Call, Headers, HttpRequest, HttpResponder, Limits, RpcServer
from balsad.transport.http1_connection import Http1Connection
from balsad.transport.http2_connection import Http2Connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 1, 4, 8, 32
ACK = 1


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.soon: list[Callable[[], None]] = []
        self.timers: list[tuple[float, int, Callable[[], None], FakeHandle]] = []
        self.count = 0

    def time(self) -> float:
        return self.clock

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle()
        self.count += 1
        self.timers.append((when, self.count, callback, handle))
        return handle

    def turn(self) -> None:
        """Run what was called soon, and what that calls soon."""
        while self.soon:
            self.soon.pop(0)()

    def advance(self, seconds: float) -> None:
        stop = self.clock + seconds
        while True:
            due = sorted((timer for timer in self.timers if timer[0] <= stop), key=lambda timer: timer[:2])
            if not due:
                break
            self.timers.remove(due[0])
            self.clock = max(self.clock, due[0][0])
            if not due[0][3].cancelled:
                due[0][2]()
            self.turn()
        self.clock = stop
        self.turn()


@dataclass
class Sink:
    """Records what is written; `limit` bytes fit before the connection is told to pause."""

    limit: int = 1 << 60
    written: bytearray = field(default_factory=bytearray)
    writes: int = 0
    closed: bool = False
    aborted: bool = False
    reading: bool = True
    connection: Http2Connection | Http1Connection | None = None
    unread: int = 0
    is_full: bool = False

    def write(self, data: bytes) -> None:
        assert not self.closed and not self.aborted
        self.writes += 1
        self.written += data
        self.unread += len(data)
        if self.unread > self.limit and not self.is_full:
            self.is_full = True
            assert self.connection is not None
            self.connection.pause_writing()

    def client_reads(self) -> None:
        """The client takes all that was written."""
        self.unread = 0
        if self.is_full:
            self.is_full = False
            assert self.connection is not None
            self.connection.resume_writing()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def over(self) -> bool:
        return self.closed or self.aborted


@dataclass
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def read_frames(data: bytes) -> list[Frame]:
    frames = []
    pos = 0
    while pos < len(data):
        word, flags, stream_id = unpack_from(">IBI", data, pos)
        stop = pos + 9 + (word >> 8)
        assert stop <= len(data), "a frame is cut off"
        frames.append(Frame(word & 255, flags, stream_id, bytes(data[pos + 9 : stop])))
        pos = stop
    return frames


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return pack(">IBI", len(payload) << 8 | kind, flags, stream_id) + payload


def message(body: bytes, flag: int = 0) -> bytes:
    return pack(">BI", flag, len(body)) + body


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([pack(">HI", *pair) for pair in pairs]))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream_id, pack(">I", increment))


def request_fields(path: str, *extra: tuple[str, str], **changed: str | None) -> list[tuple[str, str]]:
    base = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "toy",
        "content-type": "application/grpc",
    }
    for name, value in changed.items():
        key = {"method": ":method", "content_type": "content-type"}[name]
        if value is None:
            del base[key]
        else:
            base[key] = value
    return [*base.items(), ("te", "trailers"), *extra]


def stateless_block(fields: list[tuple[str, str]], huffman: bool = True) -> bytes:
    """As an encoder writes that has shrunk its table to nothing."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields, huffman=huffman))


@dataclass
class Answer:
    """What came back on one stream."""

    headers: list[list[tuple[str, str]]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.headers[-1])["grpc-status"])

    @property
    def text(self) -> str:
        return dict(self.headers[-1])["grpc-message"]

    @property
    def messages(self) -> list[bytes]:
        found = []
        pos = 0
        while pos < len(self.data):
            flag, length = unpack_from(">BI", self.data, pos)
            assert flag == 0
            found.append(bytes(self.data[pos + 5 : pos + 5 + length]))
            pos += 5 + length
        return found


def read_answers(frames: list[Frame]) -> dict[int, Answer]:
    """The answers by stream, checked for order."""
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    answers: dict[int, Answer] = {}
    block = b""
    for got in frames:
        if not got.stream_id or got.kind == WINDOW:
            continue
        answer = answers.setdefault(got.stream_id, Answer())
        if got.kind == RST:
            answer.reset = unpack_from(">I", got.payload)[0]
            continue
        assert not answer.ended or (got.kind == CONTINUATION and block), "something follows the end of a stream"
        assert answer.reset is None
        if got.kind in (HEADERS, CONTINUATION):
            block += got.payload
            if got.kind == HEADERS and got.flags & END_STREAM:
                answer.ended = True
            if got.flags & END_HEADERS:
                answer.headers.append([(str(name), str(value)) for name, value in decoder.decode(block)])
                block = b""
        elif got.kind == DATA:
            assert answer.headers
            answer.data += got.payload
            answer.ended = bool(got.flags & END_STREAM)
        else:
            raise AssertionError(f"frame {got.kind} on a stream")
    return answers


class Talk:
    """A stream of the toy service: echoes, `many<n>` sends n bytes, `bye` ends."""

    def __init__(self, toy: Toy, call: Call) -> None:
        self.toy = toy
        self.call = call
        toy.talks.append(self)

    def on_message(self, body: bytes) -> None:
        if body == b"refuse":
            raise RequestError("refused")
        if body.startswith(b"many") and body[4:].isdigit() and len(body) < 13:
            self.call.send(b"m" * int(body[4:]))
        elif body == b"bye":
            self.call.finish()
        else:
            self.call.send(body)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        self.toy.cancelled.append(self.call.stream_id)


class Toy:
    """A server with a method of every kind, and what happened in it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.loop = FakeLoop()
        self.server = RpcServer(limits=limits, scheduler=self.loop, wall_clock=lambda: 1_700_000_000.0)
        self.talks: list[Talk] = []
        self.held: list[Call] = []
        self.cancelled: list[int] = []
        self.requests: list[HttpRequest] = []
        self.responders: list[HttpResponder] = []
        self.server.unary("/toy.Toy/Echo", self.never, self.echo)
        self.server.unary("/toy.Toy/Hold", self.hold)
        self.server.unary("/toy.Toy/Soon", self.soon)
        self.server.stream("/toy.Toy/Talk", lambda call: Talk(self, call))
        self.server.http = self.http

    def echo(self, headers: Headers, body: bytes) -> bytes | None:
        if body == b"missing":
            raise KeyNotFoundError
        if body.startswith(b"many") and body[4:].isdigit() and len(body) < 13:
            return b"m" * int(body[4:])
        return body

    def never(self, call: Call, body: bytes) -> None:
        call.fail(Code.INTERNAL, "the fast handler answers")

    def hold(self, call: Call, body: bytes) -> None:
        call.on_cancel = lambda: self.cancelled.append(call.stream_id)
        self.held.append(call)

    def soon(self, call: Call, body: bytes) -> None:
        if body == b"missing":
            raise KeyNotFoundError
        self.loop.call_soon(lambda: call.respond(body))

    def http(self, request: HttpRequest, responder: HttpResponder) -> None:
        self.requests.append(request)
        self.responders.append(responder)
        if request.path == "/later":
            return
        body = request.body or f"{request.method} {request.target}".encode()
        responder.respond(200, {"Content-Type": "text/plain"}, body)


class RawClient:
    """Speaks HTTP/2 to a toy, byte by byte if need be."""

    def __init__(self, toy: Toy | None = None, *, secure: bool = False, sink_limit: int = 1 << 60) -> None:
        self.toy = toy or Toy()
        self.sink = Sink(sink_limit)
        self.connection = Http2Connection(
            self.toy.server, self.sink, secure=secure, peer_name="", peer_address="127.0.0.1:1"
        )
        self.sink.connection = self.connection
        self.toy.server.connections[self.connection] = None
        self.next_id = 1
        self.is_stateless = False
        self.encoder = hpack.Encoder()

    def open(self, *pairs: tuple[int, int]) -> RawClient:
        """Say hello; after this the client uses no header table, as most do once they know our settings."""
        self.send(PREFACE + settings(*pairs))
        self.send(frame(SETTINGS, ACK, 0))
        self.encoder.header_table_size = 0
        return self

    def send(self, data: bytes) -> RawClient:
        if not self.sink.over:
            self.connection.data_received(data)
        self.toy.loop.turn()
        return self

    def block(self, fields: list[tuple[str, str]]) -> bytes:
        return bytes(self.encoder.encode(fields))

    def call_bytes(self, path: str, *bodies: bytes, end: bool = True, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
        """A call in one HEADERS and one DATA frame per 16 KiB."""
        stream_id = self.next_id
        self.next_id += 2
        data = b"".join([message(body) for body in bodies])
        out = frame(HEADERS, END_HEADERS, stream_id, self.block(request_fields(path, *extra)))
        pieces = [data[pos : pos + 16384] for pos in range(0, len(data), 16384)] or [b""]
        for index, piece in enumerate(pieces):
            out += frame(DATA, END_STREAM if end and index == len(pieces) - 1 else 0, stream_id, piece)
        return out

    def call(self, path: str, *bodies: bytes, end: bool = True, extra: tuple[tuple[str, str], ...] = ()) -> int:
        stream_id = self.next_id
        self.send(self.call_bytes(path, *bodies, end=end, extra=extra))
        return stream_id

    def ask(self, path: str, *bodies: bytes, extra: tuple[tuple[str, str], ...] = ()) -> Answer:
        """The answer to a call, which must be there at once."""
        stream_id = self.call(path, *bodies, extra=extra)
        return self.answers[stream_id]

    @property
    def frames(self) -> list[Frame]:
        return read_frames(bytes(self.sink.written))

    @property
    def answers(self) -> dict[int, Answer]:
        return read_answers(self.frames)

    @property
    def goaway(self) -> tuple[int, int, bytes] | None:
        """Last stream, code and words of the last GOAWAY."""
        found = [got.payload for got in self.frames if got.kind == GOAWAY]
        return (*unpack_from(">II", found[-1]), found[-1][8:]) if found else None


class RawHttp1:
    """Speaks HTTP/1.1 to a toy."""

    def __init__(self, toy: Toy | None = None, *, secure: bool = False, sink_limit: int = 1 << 60) -> None:
        self.toy = toy or Toy()
        self.sink = Sink(sink_limit)
        self.connection = Http1Connection(
            self.toy.server, self.sink, secure=secure, peer_name="", peer_address="127.0.0.1:1"
        )
        self.sink.connection = self.connection
        self.toy.server.connections[self.connection] = None

    def send(self, data: bytes) -> bytes:
        """What comes back until the loop sleeps."""
        before = len(self.sink.written)
        if not self.sink.over:
            self.connection.data_received(data)
        self.toy.loop.turn()
        return bytes(self.sink.written[before:])
