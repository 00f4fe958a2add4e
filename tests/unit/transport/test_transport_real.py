"""The same bytes to the real etcd 3.5.1 and to us: refusals must read alike.

Only what is answered before any request handler is compared; the rest is the business of other rooms.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

import pytest

from tests.interop.servers import Member, real, start
from tests.unit.transport.wire_kit import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST,
    SETTINGS,
    Answer,
    RawClient,
    RawHttp1,
    Toy,
    frame,
    message,
    read_answers,
    read_frames,
    request_fields,
    settings,
    stateless_block,
)

pytestmark = pytest.mark.real

RANGE = "/etcdserverpb.KV/Range"
KEY = b"\x0a\x01a"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    folder: Path = tmp_path_factory.mktemp("etcd")
    with start(real(), folder / "data") as member:
        yield member


def make_toy() -> Toy:
    toy = Toy()
    toy.server.unary(RANGE, lambda call, body: call.respond(b""))
    return toy


def talk(member: Member, data: bytes, is_done: Callable[[bytes], bool], quiet_s: float = 0.3) -> bytes:
    """What the real one sends until that is enough, it is quiet or it hangs up."""
    host, port = member.address.split(":")
    got = b""
    with socket.create_connection((host, int(port))) as sock:
        sock.settimeout(quiet_s)
        try:
            sock.sendall(data)
            while not is_done(got) and (piece := sock.recv(65536)):
                got += piece
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
    return got


def is_answered(data: bytes) -> bool:
    """Whether stream 1 has ended in these bytes, of which the last frame may be cut off."""
    pos = 0
    while pos + 9 <= len(data):
        stop = pos + 9 + int.from_bytes(data[pos : pos + 3], "big")
        kind, flags, stream_id = data[pos + 3], data[pos + 4], data[pos + 5 : pos + 9]
        if stop <= len(data) and stream_id == b"\0\0\0\1" and (kind == RST or (kind < 2 and flags & END_STREAM)):
            return stop == len(data)
        pos = stop
    return False


def ask_etcd(member: Member, data: bytes) -> tuple[list[int], dict[int, Answer]]:
    """Codes of GOAWAYs and the answers."""
    frames = read_frames(talk(member, PREFACE + settings() + frame(SETTINGS, ACK, 0) + data, is_answered))
    return [int.from_bytes(got.payload[4:8], "big") for got in frames if got.kind == 7], read_answers(frames)


def ask_us(data: bytes) -> tuple[list[int], dict[int, Answer]]:
    client = RawClient(make_toy())
    client.send(PREFACE + settings() + frame(SETTINGS, ACK, 0) + data)
    client.toy.loop.advance(0.3)
    return [int.from_bytes(got.payload[4:8], "big") for got in client.frames if got.kind == 7], client.answers


def call(
    path: str, body: bytes, *extra: tuple[str, str], end: bool = True, headers_end: bool = False, **changed: str | None
) -> bytes:
    block = stateless_block(request_fields(path, *extra, **changed))
    if headers_end:
        return frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
    return frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM if end else 0, 1, body)


CALLS = {
    "unknown service": call("/foo.Bar/Baz", message(KEY)),
    "unknown method": call("/etcdserverpb.KV/Nope", message(KEY)),
    "no method": call("/foo", message(KEY)),
    "empty path": call("", message(KEY)),
    "two slashes": call("//", message(KEY)),
    "quotes in the path": call('/a"b\\c', message(KEY)),
    "three parts": call("/a/b/c", message(KEY)),
    "percent in the path": call("/100%/b\u00e9", message(KEY)),
    "no content type": call(RANGE, message(KEY), content_type=None),
    "json": call(RANGE, message(KEY), content_type="application/json"),
    "grpc-web": call(RANGE, message(KEY), content_type="application/grpc-web"),
    "capital content type": call(RANGE, message(KEY), content_type="Application/grpc"),
    "GET": call(RANGE, message(KEY), method="GET"),
    "GET without body": call("/health", b"", method="GET", content_type=None, headers_end=True),
    "no message": call(RANGE, b""),
    "half a prefix": call(RANGE, b"\0\0"),
    "half a message": call(RANGE, message(KEY)[:-1]),
    "compressed without encoding": call(RANGE, message(KEY, 1)),
    "odd payload format": call(RANGE, message(KEY, 2)),
    "too large": call(RANGE, b"\0" + pack(">I", 2097153), end=False),
    "much too large": call(RANGE, b"\0\xff\xff\xff\xff", end=False),
    "unknown encoding": call(RANGE, message(KEY), ("grpc-encoding", 'snap"py')),
    "empty gzip": call(RANGE, message(b"", 1), ("grpc-encoding", "gzip")),
    "short gzip": call(RANGE, message(b"\x1f\x8b\x08", 1), ("grpc-encoding", "gzip")),
    "no gzip": call(RANGE, message(b"hello world", 1), ("grpc-encoding", "gzip")),
    "bad timeout unit": call(RANGE, message(KEY), ("grpc-timeout", "5x")),
    "long timeout": call(RANGE, message(KEY), ("grpc-timeout", "123456789S")),
    "no message in time": call(RANGE, b"\0", ("grpc-timeout", "100m"), end=False),
    "control byte in a header": call(RANGE, message(KEY), ("foo", "a\x07b")),
    "blank in a header name": call(RANGE, message(KEY), ("fo o", "x")),
    "capital header name": call(RANGE, message(KEY), ("Foo", "x")),
    "late pseudo header": call(RANGE, message(KEY), (":path", "/a/b")),
}


@pytest.mark.parametrize("name", CALLS)
def test_refused_calls(etcd: Member, name: str) -> None:
    expected_codes, expected = ask_etcd(etcd, CALLS[name])
    codes, answers = ask_us(CALLS[name])
    for answer in (*expected.values(), *answers.values()):
        # Whether RST_STREAM(NO_ERROR) follows an early answer depends on what had come in by then.
        answer.reset = answer.reset or None
    assert answers == expected
    assert codes == expected_codes


@pytest.mark.parametrize(
    "content_type",
    ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+"],
)
def test_answer_headers(etcd: Member, content_type: str) -> None:
    data = call(RANGE, message(KEY), content_type=content_type)
    assert ask_us(data)[1][1].headers == ask_etcd(etcd, data)[1][1].headers


@pytest.mark.parametrize("count", [2, 3, 4])
def test_pings_without_calls(etcd: Member, count: int) -> None:
    data = frame(PING, 0, 0, b"12345678") * count
    assert ask_us(data)[0] == ask_etcd(etcd, data)[0] == ([11] if count == 4 else [])


HTTP1 = {
    "garbage": b"GARBAGE\r\n\r\n",
    "binary": b"\x00\x01\x02\x03\x04\r\n\r\n",
    "empty line first": b"\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank in the target": b"GET /ver sion HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/3.0": b"GET /health HTTP/3.0\r\nHost: a\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad host": b"GET /health HTTP/1.1\r\nHost: a b/\r\n\r\n",
    "bad header name": b"GET /health HTTP/1.1\r\nHost: a\r\nfoo bar: x\r\n\r\n",
    "blank before the colon": b"GET /health HTTP/1.1\r\nHost: a\r\nfoo : x\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\nHost: a\r\nfoobar\r\n\r\n",
    "control byte in a value": b"GET /health HTTP/1.1\r\nHost: a\r\nfoo: a\x01b\r\n\r\n",
    "folded first header": b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n",
    "unknown transfer encoding": b"POST /v2/keys/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "two lengths": b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "negative length": b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
    "length of letters": b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
    "signed length": b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "no slash": b"GET health HTTP/1.1\r\nHost: a\r\n\r\n",
    "bad escape": b"GET /ver%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "bad method": b"G@T /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "other expectation": b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: foo\r\n\r\n{}",
    "continue": b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "large header": b"GET /health HTTP/1.1\r\nHost: a\r\nfoo: " + b"x" * (1 << 20) + b"x" * 8192,
}


@pytest.mark.parametrize("name", HTTP1)
def test_http1(etcd: Member, name: str) -> None:
    def undated(data: bytes) -> bytes:
        return re.sub(rb"\r\nDate: [^\r]*", b"", data)

    assert undated(RawHttp1(make_toy()).send(HTTP1[name])) == undated(
        talk(etcd, HTTP1[name], lambda got: got.endswith(b"0\r\n\r\n"))
    )
