"""What comes over sockets: HTTP/2 and HTTP/1.1 of clients and servers, header blocks, the streams between members."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import hpack

from balsad.client.grpc_status import Status
from balsad.client.http2 import ClientConnection, ProtocolError, Stream
from balsad.peer.codec import AppDecoder, AppEncoder, EncodedEntries, FrameError, MessageDecoder, frame_message
from balsad.peer.http_answer import HEAD_BYTES_MAX, AnswerReader, BrokenAnswerError
from balsad.raft import messages as raft
from balsad.transport.grpc_words import GzipError, decode_binary, encode_binary, gunzip, gzip, parse_timeout
from balsad.transport.header_block import HeaderBlockError, decode_stateless, encode
from tests.fuzz.codec_targets import encoded_messages, message_values
from tests.fuzz.engine import Target
from tests.unit.transport import wire_kit as kit
from tests.unit.transport.wire_kit import RawClient, RawHttp1, Toy, frame, message

FRAME_BYTES_MAX: Final = 5000
_LISTS_MAX: Final = 1 << 14


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """The first byte says where the rest is cut."""
    if not data:
        return b"", []
    step, data = data[0] or 1, data[1:]
    return data, [data[at : at + step] for at in range(0, len(data), step)]


# Between members.


def _decode_stream(decoder: Any, parts: list[bytes]) -> tuple[list[Any], str]:
    found: list[Any] = []
    fed = 0
    for part in parts:
        fed += len(part)
        try:
            found += [message_values(each) for each in decoder.feed(part)]
        except FrameError as error:
            return found, str(error)
        assert decoder.pending_bytes <= min(fed, FRAME_BYTES_MAX + 16 + len(part))
    return found, ""


def _stream(make: Callable[[], Any]) -> Callable[[bytes], str]:
    def check(data: bytes) -> str:
        whole, parts = pieces(data)
        found, why = _decode_stream(make(), parts)
        together, why_together = _decode_stream(make(), [whole])
        # A read that ends in a broken frame gives nothing of what was before it: the stream is over then.
        assert why == why_together
        assert together == (found if not why else []), (found, together)
        return f"refused: {why}" if why else f"{len(found)} messages"

    return check


def _messages() -> list[raft.Message]:
    entries = [raft.Entry(0, 5, index, b"e" * index) for index in range(11, 14)]
    return [
        raft.Message(3, to=1, from_=2, term=5, log_term=4, index=10, entries=entries, commit=9),
        raft.Message(3, to=1, from_=2, term=5, log_term=5, index=13, entries=[], commit=13),
        raft.Message(3, to=1, from_=2, term=5, log_term=5, index=13, entries=[raft.Entry(0, 5, 14, b"x")], commit=13),
    ]


def _app_corpus() -> list[bytes]:
    encoder = AppEncoder(EncodedEntries())
    stream = encoder.beat + b"".join(encoder.encode(each) for each in _messages())
    return [bytes((step,)) + stream for step in (1, 7, 255)]


def _message_corpus() -> list[bytes]:
    frames = b"".join(len(each).to_bytes(8, "big") + each for each in encoded_messages())
    return [b"\x05" + frames, b"\xff" + frame_message(_messages()[0])]


def _read_answer(parts: list[bytes]) -> tuple[Any, ...]:
    reader = AnswerReader()
    body = b""
    try:
        for part in parts:
            body += reader.feed(part)
        reader.feed_eof()
    except BrokenAnswerError as error:
        return (body, str(error))
    return (body, "", reader.status, reader.headers, reader.surplus, reader.may_stay_open)


def _check_answer(data: bytes) -> str:
    whole, parts = pieces(data)
    found = _read_answer(parts)
    together = _read_answer([whole])
    # Where the whole head comes at once its size is nobody's worry.
    if found[1] != "head of the answer is too large" or len(whole) <= HEAD_BYTES_MAX:
        assert found[1] == together[1], (found[1], together[1])
        assert found == together or found[1], (found, together)
    return f"refused: {found[1]}" if found[1] else f"{found[2]} {len(found[3])} {found[5]}"


_ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX-Etcd-Cluster-ID: 7\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
)

# A client's frames, and the server that takes them.


def _check_http2_server(data: bytes) -> str:
    """However the bytes are cut, a call is answered with the same: what comes whole goes ways of its own."""
    whole, parts = pieces(data)
    secure = bool(data[:1] < b"\x80")
    outcome, answers = _hear_session(parts if whole else [], secure)
    if len(parts) > 1:
        _, together = _hear_session([whole], secure)
        for stream_id, answer in answers.items():
            other = together.get(stream_id)
            if answer.ended and other is not None and other.ended and not answer.reset and not other.reset:
                assert answer == other, f"stream {stream_id}: {answer} in pieces, {other} at once"
    return outcome


def _hear_session(parts: list[bytes], secure: bool) -> tuple[str, dict[int, kit.Answer]]:
    toy = Toy()
    client = RawClient(toy, secure=secure, sink_limit=3000)
    for part in parts:
        if client.sink.over:
            break
        client.send(part)
        client.sink.client_reads()
    connection = client.connection
    limits = toy.server.limits
    assert connection.queued_bytes >= 0
    assert connection.partial_bytes >= 0
    assert len(connection.streams) <= limits.streams_max
    toy.loop.advance(0.5)
    for _ in range(100):
        if client.sink.over or not client.sink.unread:
            break
        client.sink.client_reads()
        toy.loop.turn()
    over = client.sink.over
    goaway = client.goaway
    answers = client.answers
    connection.connection_lost(None)
    assert not connection.streams
    assert connection.queued_bytes == connection.partial_bytes == 0
    # Whatever that was, others are served.
    assert RawClient(toy).open().ask("/toy.Toy/Echo", b"x").messages == [b"x"]
    if goaway is not None:
        return f"refused: {goaway[2].decode(errors='replace')}", answers
    answered = sum(answer.ended for answer in answers.values())
    kinds = {
        answer.reset if answer.reset is not None else f"{len(answer.headers)}{bool(answer.data)}"
        for answer in answers.values()
    }
    return f"{'closed' if over else 'open'} {min(answered, 9)} {sorted(map(str, kinds))}", answers


def _sessions() -> list[bytes]:
    hello = kit.PREFACE + kit.settings((4, 1 << 20)) + frame(kit.SETTINGS, kit.ACK, 0)
    encoder = hpack.Encoder()
    found = []
    for stateless in (False, True):
        if stateless:
            encoder = hpack.Encoder()
            encoder.header_table_size = 0
        session = hello
        for number, (method, bodies) in enumerate(
            (("Echo", [b"x"]), ("Talk", [b"a", b"many9000", b"bye"]), ("Soon", [b"missing"]), ("Hold", [b"h"]))
        ):
            stream_id = 2 * number + 1
            extra = (("grpc-timeout", "5S"),) if number % 2 else ()
            block = bytes(encoder.encode(kit.request_fields(f"/toy.Toy/{method}", *extra)))
            session += frame(kit.HEADERS, kit.END_HEADERS, stream_id, block)
            for body in bodies:
                session += frame(kit.DATA, 0, stream_id, message(body))
            session += frame(kit.DATA, kit.END_STREAM, stream_id)
            session += kit.window_update(stream_id, 1000)
        session += frame(kit.RST, 0, 7, b"\0\0\0\x08") + frame(kit.PING, 0, 0, b"12345678") + kit.settings((4, 100))
        found += [b"\xff" + session, b"\x1f" + session]
    session = hello + _usual_calls()
    return [*found, b"\xff" + session, b"\x7b" + session, b"\xff" + hello + _unusual_calls()]


_USUAL: Final = (("Echo", b"x"), ("Echo", b"many300"), ("Echo", b"missing"), ("Soon", b"s"), ("Hold", b"h"))


def _usual_calls() -> bytes:
    """Whole calls, as clients send them that keep no header table, again and again the same: the fast lane."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    session = b""
    stream_id = 1
    for _ in range(3):
        for method, body in (
            ("Echo", b"x"),
            ("Echo", b"many300"),
            ("Echo", b"missing"),
            ("Soon", b"s"),
            ("Hold", b"h"),
        ):
            for extra in ((), (("grpc-timeout", f"{stream_id}S"),)):
                block = bytes(encoder.encode(kit.request_fields(f"/toy.Toy/{method}", *extra)))
                session += frame(kit.HEADERS, kit.END_HEADERS, stream_id, block)
                session += frame(kit.DATA, kit.END_STREAM, stream_id, message(body))
                stream_id += 2
    heads = b""
    bodies = b""
    for late_id in (stream_id, stream_id + 2, stream_id + 4):
        block = bytes(encoder.encode(kit.request_fields("/toy.Toy/Echo")))
        heads += frame(kit.HEADERS, kit.END_HEADERS, late_id, block)
        bodies += frame(kit.DATA, kit.END_STREAM, late_id, message(b"later"))
    return session + heads + bodies


def _unusual_calls() -> bytes:
    """A block in three frames, padding, priority, a compressed message, a page."""
    encoder = hpack.Encoder()
    block = bytes(encoder.encode(kit.request_fields("/toy.Toy/Echo", ("grpc-encoding", "gzip"))))
    session = frame(kit.HEADERS, 0, 1, block[:5]) + frame(kit.CONTINUATION, 0, 1, block[5:9])
    session += frame(kit.CONTINUATION, kit.END_HEADERS, 1, block[9:])
    session += frame(kit.DATA, kit.END_STREAM, 1, message(gzip(b"text" * 50), 1))
    block = bytes(encoder.encode(kit.request_fields("/toy.Toy/Soon")))
    session += frame(kit.HEADERS, kit.END_HEADERS | 0x28, 3, b"\2" + bytes(5) + block + b"\0\0")
    session += frame(kit.DATA, kit.END_STREAM | 8, 3, b"\3" + message(b"padded") + bytes(3))
    page = [(":method", "POST"), (":scheme", "https"), (":path", "/page"), (":authority", "toy")]
    session += frame(kit.HEADERS, kit.END_HEADERS, 5, bytes(encoder.encode(page)))
    session += frame(kit.DATA, 0, 5, b"body") + frame(kit.DATA, kit.END_STREAM, 5, b"more")
    return session


_FRAMES: Final = (
    kit.settings((4, 0)),
    kit.settings((1, 0), (5, 1 << 20)),
    kit.window_update(0, 1 << 30),
    frame(kit.RST, 0, 1, bytes(4)),
    frame(kit.PING, 0, 0, bytes(8)),
    frame(kit.DATA, 0, 1),
    frame(kit.GOAWAY, 0, 0, bytes(8)),
    frame(kit.CONTINUATION, 0, 1),
    frame(kit.PRIORITY, 0, 3, bytes(5)),
    frame(kit.DATA, kit.END_STREAM, 61, message(b"word")),
    kit.stateless_block(kit.request_fields("/toy.Toy/Echo")),
)

# A server's frames, and the client that takes them.


class _Heard:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ends: list[tuple[int, str]] = []

    def on_message(self, data: bytes) -> None:
        assert not self.ends
        self.messages.append(bytes(data))

    def on_end(self, status: Status) -> None:
        assert not self.ends, "an end after the end"
        assert int(status.code) >= 0
        self.ends.append((int(status.code), status.text))


def _check_http2_client(data: bytes) -> str:
    whole, parts = pieces(data)
    heard, why = _hear_answers(parts)
    if len(parts) > 1:
        together, why_together = _hear_answers([whole])
        assert why == why_together
        assert [(each.messages, each.ends) for each in heard] == [(each.messages, each.ends) for each in together]
    told = sorted((min(len(each.messages), 3), each.ends[0][0]) for each in heard)
    return f"refused: {why}"[:60] if why else f"{told}"


def _hear_answers(parts: list[bytes]) -> tuple[list[_Heard], str]:
    """What three callers hear of a server that says this, and what is wrong with it."""
    connection = ClientConnection(scheme="http", authority="a:1", user_agent="t/1")
    heard = [_Heard() for _ in range(3)]
    streams: list[Stream] = [connection.open("/p", (), each) for each in heard]
    for stream in streams:
        stream.send(b"request", last=True)
    sent = 0
    why = ""
    for part in parts:
        try:
            connection.receive(part)
        except ProtocolError as error:
            why = str(error)
            connection.lost(why)
            break
        sent += len(connection.data_to_send())
        assert sent < 100_000 + 4 * sum(map(len, parts)), "much more is said than heard"
    if not why:
        connection.lost("over")
    assert all(len(each.ends) == 1 for each in heard)
    return heard, why


def _answers_of_servers() -> list[bytes]:
    encoder = hpack.Encoder()
    session = kit.settings((3, 100), (4, 1 << 20))
    for stream_id in (1, 3):
        head = encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
        session += frame(kit.HEADERS, kit.END_HEADERS, stream_id, head)
        session += frame(kit.DATA, 0, stream_id, message(b"answer") + message(b""))
        tail = encoder.encode([("grpc-status", "0"), ("grpc-message", "")])
        session += frame(kit.HEADERS, kit.END_HEADERS | kit.END_STREAM, stream_id, tail)
    refused = encoder.encode([(":status", "200"), ("grpc-status", "5"), ("grpc-message", "a%20b")])
    session += frame(kit.HEADERS, kit.END_HEADERS | kit.END_STREAM, 5, refused)
    session += frame(kit.PING, 0, 0, bytes(8)) + frame(kit.GOAWAY, 0, 0, b"\0\0\0\x05" + bytes(4))
    return [b"\xff" + session, b"\x0b" + session]


# Words within frames.


def _check_block(data: bytes) -> str:
    """With a table of size 0 the hpack package reads the same."""
    decoder = hpack.Decoder(max_header_list_size=_LISTS_MAX)
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    expected: Any = None
    try:
        expected = [(bytes(name), bytes(value)) for name, value in decoder.decode(data, raw=True)]
    except Exception as error:
        why = type(error).__name__
    try:
        found = decode_stateless(data, _LISTS_MAX)
    except HeaderBlockError as error:
        # Integers longer than any that is true are given up sooner by us.
        assert expected is None or b"\x80\x80\x80" in data, f"refused ({error}): {expected}"
        return f"refused: {error}"
    assert sum(len(name) + len(value) + 32 for name, value in found) <= _LISTS_MAX
    if expected is None:
        return f"read by us alone: {why}"
    assert found == expected
    assert decode_stateless(encode(found), _LISTS_MAX) == found
    return f"{min(len(found), 9)} fields"


def _blocks() -> list[bytes]:
    fields = [*kit.request_fields("/toy.Toy/Echo", ("grpc-timeout", "1S")), ("token", "x" * 200), ("a-bin", "AAE=")]
    return [kit.stateless_block(fields), kit.stateless_block(fields, huffman=False)]


def _check_words(data: bytes) -> str:
    kind, data = data[:1], data[1:]
    if kind == b"z":
        try:
            text = gunzip(data, 4000)
        except GzipError as error:
            return f"refused: {error}"
        assert len(text) <= 4001
        return f"unzipped {len(text).bit_length()}"
    if kind == b"t":
        seconds = parse_timeout(data)
        if seconds is None:
            return "refused: timeout"
        assert 0 <= seconds < 1e12
        return "timeout"
    value = decode_binary(data)
    if value is None:
        return "refused: binary"
    assert decode_binary(encode_binary(value)) == value
    return "binary"


def _check_http1(data: bytes) -> str:
    whole, parts = pieces(data)
    written = _hear_http1(parts)
    if not written:
        return "nothing"
    assert written.startswith(b"HTTP/1."), written[:40]
    together = _hear_http1([whole])
    assert written == together, f"{written!r} in pieces, {together!r} at once"
    statuses = re.findall(rb"^HTTP/1\.[01] (\d\d\d)", written, re.MULTILINE)
    # In letters, as the engine takes numbers for alike.
    told = b" ".join(statuses[:4]).translate(bytes.maketrans(b"0123456789", b"abcdefghij")).decode()
    return ("refused: " if written[9:10] not in b"12" else "") + told


def _hear_http1(parts: list[bytes]) -> bytes:
    client = RawHttp1(secure=False)
    for part in parts:
        if client.sink.over:
            break
        client.send(part)
        client.sink.client_reads()
    written = bytes(client.sink.written)
    client.connection.connection_lost(None)
    return written


_REQUESTS: Final = (
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"GET http://a/x?b=%20c HTTP/1.0\r\nConnection: keep-alive\r\nA: b\r\n\r\n",
)
_HTTP_WORDS: Final = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b": ", b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"ffffffffffffffff\r\n", b"0\r\n\r\n"),
    *(b"Host: a\r\n", b"%", b"\xff", b"\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"0" * 50),
)

_LENGTHS: Final = (bytes(8), b"\xff" * 8)

WIRE: Final = (
    Target("message_stream", _stream(lambda: MessageDecoder(FRAME_BYTES_MAX)), _message_corpus, _LENGTHS),
    Target("msgapp_stream", _stream(lambda: AppDecoder(1, 2, FRAME_BYTES_MAX)), _app_corpus, _LENGTHS),
    Target("http_answer", _check_answer, lambda: [b"\x03" + each for each in _ANSWERS], _HTTP_WORDS),
    Target("http2_server", _check_http2_server, _sessions, _FRAMES),
    Target("http2_client", _check_http2_client, _answers_of_servers, _FRAMES),
    Target("http1_server", _check_http1, lambda: [b"\xff" + each for each in _REQUESTS], _HTTP_WORDS),
    Target("header_block", _check_block, _blocks, (b"\x82", b"\x40", b"\x3f\xe1\x1f", b"\x7f", b"\xff\xff\xff\x0f")),
    Target(
        "grpc_words",
        _check_words,
        lambda: [b"z" + gzip(b"text" * 100), b"t5S", b"t99999999n", b"bAAECAw==", b"bAAE"],
        (b"=", b"-", b"+", b"H"),
    ),
)
