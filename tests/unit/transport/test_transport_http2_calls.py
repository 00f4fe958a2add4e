"""Calls over raw frames: what is answered, and in which bytes."""

from __future__ import annotations

from struct import pack

import pytest

from balsad.errors import Code
from balsad.transport.grpc_words import gzip
from tests.unit.transport.wire_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    RST,
    SETTINGS,
    RawClient,
    Toy,
    frame,
    message,
    request_fields,
    settings,
    stateless_block,
)

PATHS = ["/toy.Toy/Echo", "/toy.Toy/Soon"]


def test_a_fast_answer_is_three_frames_in_one_write() -> None:
    client = RawClient().open()
    writes = client.sink.writes

    stream_id = client.call("/toy.Toy/Echo", b"abc")

    assert client.sink.writes == writes + 1
    assert [(got.kind, got.flags) for got in client.frames if got.stream_id == stream_id] == [
        (HEADERS, END_HEADERS),
        (DATA, 0),
        (HEADERS, END_HEADERS | END_STREAM),
    ]
    answer = client.answers[stream_id]
    assert answer.headers[0] == [(":status", "200"), ("content-type", "application/grpc")]
    assert answer.headers[1] == [("grpc-status", "0"), ("grpc-message", "")]
    assert answer.messages == [b"abc"]


def test_many_requests_of_one_read_are_answered_in_one_write() -> None:
    client = RawClient().open()
    client.call("/toy.Toy/Echo", b"x")
    client.call("/toy.Toy/Soon", b"x")
    data = b"".join([client.call_bytes(PATHS[index % 2], b"%d" % index) for index in range(100)])
    writes = client.sink.writes

    client.send(data)

    # One for the fast ones when the read ends, one for the others when the loop turns.
    assert client.sink.writes == writes + 2
    answers = client.answers
    assert [answers[5 + 2 * index].messages for index in range(100)] == [[b"%d" % index] for index in range(100)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("known", [False, True])
def test_all_headers_first_then_all_messages(path: str, known: bool) -> None:
    client = RawClient().open()
    if known:
        client.call(path, b"x")
    first = client.next_id
    parts = [client.call_bytes(path, b"%d" % index) for index in range(50)]
    heads = [part[: 9 + int.from_bytes(part[:3], "big")] for part in parts]

    client.send(b"".join(heads))
    client.send(b"".join([part[len(head) :] for head, part in zip(heads, parts, strict=True)]))

    answers = client.answers
    assert [answers[first + 2 * index].messages for index in range(50)] == [[b"%d" % index] for index in range(50)]
    assert not client.connection.streams


@pytest.mark.parametrize("path", PATHS)
def test_errors_are_trailers_only(path: str) -> None:
    client = RawClient().open()
    for _ in range(2):
        stream_id = client.call(path, b"missing")
        answer = client.answers[stream_id]
        assert answer.headers == [
            [
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "3"),
                ("grpc-message", "etcdserver: key not found"),
            ]
        ]
        assert answer.ended
    assert not client.connection.streams


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [0, 1, 16378, 16379, 16380, 32768, 100_000, 2_097_152])
def test_messages_of_all_sizes(path: str, size: int, known: bool) -> None:
    client = RawClient().open((4, 1 << 30))
    client.send(frame(8, 0, 0, pack(">I", 1 << 30)))
    if known:
        client.call(path, b"x")
    stream_id = client.call(path, b"v" * size)
    assert client.answers[stream_id].messages == [b"v" * size]


def test_a_message_in_many_small_frames() -> None:
    client = RawClient().open()
    data = message(b"hello world")
    out = frame(HEADERS, END_HEADERS, 1, client.block(request_fields("/toy.Toy/Echo")))
    out += b"".join([frame(DATA, 0, 1, data[pos : pos + 1]) for pos in range(len(data))])
    client.send(out + frame(DATA, END_STREAM, 1))
    answer = client.answers[1]
    assert answer.messages == [b"hello world"]
    # The answer did not wait for END_STREAM, as in grpc-go, so the client is told to stop.
    assert answer.reset == 0


def test_the_content_subtype_comes_back() -> None:
    """grpc-go answers in the subtype it was asked in, whatever it is."""
    client = RawClient().open()
    for asked, got in [
        ("application/grpc+proto", "application/grpc+proto"),
        ("application/grpc;charset=utf-8", "application/grpc+charset=utf-8"),
        ("application/grpc+", "application/grpc"),
    ]:
        for path in PATHS:
            stream_id = client.next_id
            client.next_id += 2
            block = client.block(request_fields(path, content_type=asked))
            client.send(frame(HEADERS, END_HEADERS, stream_id, block))
            client.send(frame(DATA, END_STREAM, stream_id, message(b"a")))
            answer = client.answers[stream_id]
            assert dict(answer.headers[0])["content-type"] == got
            assert answer.messages == [b"a"]


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/foo.Bar/Baz", Code.UNIMPLEMENTED, "unknown service foo.Bar"),
        ("/toy.Toy/Nope", Code.UNIMPLEMENTED, "unknown method Nope for service toy.Toy"),
        ("/foo", Code.RESOURCE_EXHAUSTED, 'malformed method name: "/foo"'),
        ("", Code.RESOURCE_EXHAUSTED, 'malformed method name: ""'),
        ("//", Code.UNIMPLEMENTED, "unknown service "),
        ('/a"b', Code.RESOURCE_EXHAUSTED, 'malformed method name: "/a\\"b"'),
    ],
)
def test_paths_nobody_serves(path: str, code: Code, text: str) -> None:
    """The words of etcd 3.5.1, asked with raw calls."""
    client = RawClient().open()
    answer = client.ask(path, b"x")
    assert (answer.status, answer.text) == (code, text)


def test_a_path_may_lack_its_first_slash() -> None:
    client = RawClient().open()
    assert client.ask("toy.Toy/Echo", b"x").messages == [b"x"]


@pytest.mark.parametrize(
    "fields",
    [
        request_fields("/toy.Toy/Echo", content_type=None),
        request_fields("/toy.Toy/Echo", content_type="application/json"),
        request_fields("/toy.Toy/Echo", content_type="application/grpc-web"),
        request_fields("/toy.Toy/Echo", content_type="Application/grpc"),
        request_fields("/toy.Toy/Echo", method="GET"),
        request_fields("/toy.Toy/Echo", ("grpc-timeout", "5x")),
        request_fields("/toy.Toy/Echo", ("grpc-timeout", "123456789S")),
        request_fields("/toy.Toy/Echo", ("bad", "a\x07b")),
        request_fields("/toy.Toy/Echo", ("b d", "x")),
        request_fields("/toy.Toy/Echo", ("Upper", "x")),
        request_fields("/toy.Toy/Echo", (":path", "/late")),
        [(":path", "/a/b"), *request_fields("/toy.Toy/Echo")],
    ],
)
def test_what_is_no_grpc_request_is_reset(fields: list[tuple[str, str]]) -> None:
    """etcd 3.5.1 without TLS: RST_STREAM with PROTOCOL_ERROR, and the connection goes on."""
    client = RawClient().open()
    client.send(frame(HEADERS, END_HEADERS, 1, stateless_block(fields)) + frame(DATA, END_STREAM, 1, message(b"x")))
    assert client.answers[1].reset == 1
    client.next_id = 3
    assert client.ask("/toy.Toy/Echo", b"still").messages == [b"still"]


@pytest.mark.parametrize(
    ("body", "end", "code", "text"),
    [
        (b"", True, Code.UNKNOWN, "EOF"),
        (b"\0\0", True, Code.UNKNOWN, "unexpected EOF"),
        (message(b"abc")[:-1], True, Code.UNKNOWN, "unexpected EOF"),
        (b"\1" + message(b"abc")[1:], True, Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding"),
        (b"\2" + message(b"abc")[1:], True, Code.INTERNAL, "grpc: received unexpected payload format 2"),
        (
            b"\0" + pack(">I", 2097153),
            False,
            Code.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (2097153 vs. 2097152)",
        ),
        (
            b"\0\xff\xff\xff\xff",
            False,
            Code.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (4294967295 vs. 2097152)",
        ),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_bodies_that_are_no_message(body: bytes, end: bool, code: Code, text: str, known: bool) -> None:
    """The words of etcd 3.5.1, asked with raw calls."""
    client = RawClient().open()
    if known:
        client.call("/toy.Toy/Soon", b"x")
    stream_id = client.next_id
    client.send(
        frame(HEADERS, END_HEADERS, stream_id, client.block(request_fields("/toy.Toy/Soon")))
        + frame(DATA, END_STREAM if end else 0, stream_id, body)
    )
    answer = client.answers[stream_id]
    assert (answer.status, answer.text) == (code, text)
    assert answer.reset == (None if end else 0)
    assert not client.connection.streams
    assert client.connection.partial_bytes == 0


def test_a_second_message_of_a_unary_call_is_not_read() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Soon", b"one", b"two")
    assert client.answers[stream_id].messages == [b"one"]
    stream_id = client.call("/toy.Toy/Echo", b"one", b"two")
    assert client.answers[stream_id].messages == [b"one"]


def test_gzip_messages_are_read_and_answered_in_kind() -> None:
    """etcd 3.5.1 does, also when the request's own message is not compressed."""
    client = RawClient().open()
    for path in PATHS:
        for flag, body in [(1, gzip(b"squeezed")), (0, b"squeezed")]:
            stream_id = client.next_id
            client.next_id += 2
            block = client.block(request_fields(path, ("grpc-encoding", "gzip")))
            client.send(frame(HEADERS, END_HEADERS, stream_id, block))
            client.send(frame(DATA, END_STREAM, stream_id, message(body, flag)))
            answer = client.answers[stream_id]
            assert dict(answer.headers[0])["grpc-encoding"] == "gzip"
            assert answer.data == message(gzip(b"squeezed"), 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOF"),
        (gzip(b"squeezed")[:-9], "unexpected EOF"),
        (b"no gzip at all", "gzip: invalid header"),
    ],
)
def test_broken_gzip(body: bytes, words: str) -> None:
    client = RawClient().open()
    block = client.block(request_fields("/toy.Toy/Echo", ("grpc-encoding", "gzip")))
    client.send(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, message(body, 1)))
    answer = client.answers[1]
    assert answer.status == Code.INTERNAL
    assert answer.text == f"grpc: failed to decompress the received message {words}"


def test_another_encoding_is_not_installed() -> None:
    client = RawClient().open()
    answer = client.ask("/toy.Toy/Echo", b"x", extra=(("grpc-encoding", 'snap"py'),))
    assert answer.status == Code.UNIMPLEMENTED
    assert answer.text == 'grpc: Decompressor is not installed for grpc-encoding "snap\\"py"'
    assert client.ask("/toy.Toy/Echo", b"x", extra=(("grpc-encoding", "identity"),)).messages == [b"x"]


def test_a_deadline_that_passes_while_the_message_is_awaited() -> None:
    client = RawClient().open()
    block = client.block(request_fields("/toy.Toy/Soon", ("grpc-timeout", "200m")))
    client.send(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, 0, 1, b"\0\0"))
    client.toy.loop.advance(0.19)
    assert not client.answers
    client.toy.loop.advance(0.03)
    answer = client.answers[1]
    assert (answer.status, answer.text) == (Code.DEADLINE_EXCEEDED, "context deadline exceeded")
    assert client.connection.partial_bytes == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_deadline_that_passes_while_the_answer_is_awaited(known: bool) -> None:
    client = RawClient().open()
    if known:
        client.call("/toy.Toy/Hold", b"x", extra=(("grpc-timeout", "7S"),))
        client.toy.held.pop().respond(b"in time")
    stream_id = client.call("/toy.Toy/Hold", b"x", extra=(("grpc-timeout", "250m"),))
    assert client.toy.held[0].deadline == 0.25
    client.toy.loop.advance(0.3)
    answer = client.answers[stream_id]
    assert (answer.status, answer.text) == (Code.DEADLINE_EXCEEDED, "context deadline exceeded")
    assert client.toy.cancelled == [stream_id]
    client.toy.held[0].respond(b"too late")
    client.toy.loop.advance(10)
    assert client.answers[stream_id].data == b""
    hold = next(method for method in client.toy.server.methods if method.name == "Hold")
    assert hold.handled == ({0: 1, 4: 1} if known else {4: 1})


def test_the_application_may_find_its_own_words_for_a_deadline() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"x", extra=(("grpc-timeout", "1m"),))
    call = client.toy.held[0]
    call.on_deadline = lambda: call.fail(Code.UNAVAILABLE, "etcdserver: request timed out")
    client.toy.loop.advance(1)
    answer = client.answers[stream_id]
    assert (answer.status, answer.text) == (Code.UNAVAILABLE, "etcdserver: request timed out")
    assert client.toy.cancelled == []


def test_timeouts_of_later_calls_are_their_own() -> None:
    """Blocks that differ in grpc-timeout alone share their headers, not their deadlines."""
    client = RawClient().open()
    for index in range(1, 30):
        client.call("/toy.Toy/Hold", b"x", extra=(("grpc-timeout", f"{index * 1000}u"), ("after", "it")))
    assert [call.deadline for call in client.toy.held] == pytest.approx([index / 1000 for index in range(1, 30)])
    assert len({id(call.headers) for call in client.toy.held}) < 4
    client.toy.loop.advance(0.0151)
    assert len(client.toy.cancelled) >= 9
    client.toy.loop.advance(1)
    assert len(client.toy.cancelled) == 29
    assert client.toy.server.timers.next_due() is not None  # the connection's keepalive alone
    assert not client.connection.streams


def test_a_timeout_written_inside_another_value_is_no_timeout() -> None:
    client = RawClient().open()
    name = bytes.fromhex("899acac8b24d494f6a7f").decode("latin-1")
    for value in ["x", "x\x0cgrpc-timeout\x02" + "5S", "x\x0cgrpc-timeout\x02" + "6S"]:
        plain = bytes(client.encoder.encode(request_fields("/toy.Toy/Hold", ("x-a", value)), huffman=False))
        client.send(frame(HEADERS, END_HEADERS, client.next_id, plain))
        client.send(frame(DATA, END_STREAM, client.next_id, message(b"")))
        client.next_id += 2
    assert name
    assert [call.deadline for call in client.toy.held] == [None]
    # The others hold a control byte, so they are refused, each time anew.
    assert [client.answers[stream_id].reset for stream_id in (3, 5)] == [1, 1]


def test_a_client_that_resets_its_call_cancels_it() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"x")
    client.send(frame(RST, 0, stream_id, pack(">I", 8)))
    assert client.toy.cancelled == [stream_id]
    assert client.toy.held[0].closed
    client.toy.held[0].respond(b"nobody wants it")
    client.toy.loop.turn()
    assert stream_id not in client.answers


def test_a_lost_connection_cancels_its_calls() -> None:
    client = RawClient().open()
    ids = [client.call("/toy.Toy/Hold", b"x", extra=(("grpc-timeout", "5S"),)) for _ in range(3)]
    talk = client.call("/toy.Toy/Talk", b"hi", end=False)
    client.connection.connection_lost(None)
    assert client.toy.cancelled == [*ids, talk]
    assert client.connection not in client.toy.server.connections
    client.toy.held[0].respond(b"x")
    client.toy.talks[0].call.send(b"x")
    client.toy.loop.advance(20)


def test_streams_speak_both_ways_at_any_time() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Talk", b"one", b"two", end=False)
    assert client.answers[stream_id].messages == [b"one", b"two"]
    client.toy.talks[0].call.send(b"unasked")
    client.toy.loop.turn()
    client.send(frame(DATA, 0, stream_id, message(b"three")[:4]))
    client.send(frame(DATA, END_STREAM, stream_id, message(b"three")[4:]))
    answer = client.answers[stream_id]
    assert answer.messages == [b"one", b"two", b"unasked", b"three"]
    assert (answer.status, answer.reset) == (0, None)


def test_a_stream_the_server_ends_first_tells_the_client_to_stop() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Talk", b"bye", end=False)
    answer = client.answers[stream_id]
    assert (answer.status, answer.reset) == (0, 0)
    # What the client had sent by then is let pass.
    client.send(frame(DATA, 0, stream_id, message(b"more")) + frame(DATA, END_STREAM, stream_id))
    assert client.goaway is None


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("/toy.Toy/Talk", message(b"refuse"), Code.UNKNOWN, "refused"),
        ("/toy.Toy/Talk", message(b"ab")[:-1], Code.INTERNAL, "unexpected EOF"),
        (
            "/toy.Toy/Talk",
            b"\0" + pack(">I", 1 << 30),
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message larger than max ({1 << 30} vs. 2097152)",
        ),
    ],
)
def test_streams_that_go_wrong(path: str, body: bytes, code: Code, text: str) -> None:
    client = RawClient().open()
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(request_fields(path))))
    client.send(frame(DATA, END_STREAM, 1, body))
    answer = client.answers[1]
    assert (answer.status, answer.text) == (code, text)
    assert client.toy.cancelled == [1]


def test_header_blocks_come_in_every_wrapping() -> None:
    client = RawClient().open()
    block = client.block(request_fields("/toy.Toy/Echo"))
    body = frame(DATA, END_STREAM | PADDED, 1, b"\x03" + message(b"a") + b"\0\0\0")
    client.send(frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05" + block + b"\0" * 5) + body)
    client.send(frame(HEADERS, END_HEADERS | PRIORITIZED, 3, b"\0\0\0\0\x10" + block))
    client.send(frame(DATA, END_STREAM, 3, message(b"b")))
    client.send(frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 5, b"\x02\0\0\0\0\x10" + block + b"\0\0"))
    client.send(frame(DATA, END_STREAM, 5, message(b"c")))
    client.send(frame(HEADERS, 0, 7, block[:3]) + frame(CONTINUATION, 0, 7, block[3:9]))
    client.send(frame(CONTINUATION, END_HEADERS, 7, block[9:]) + frame(DATA, END_STREAM, 7, message(b"d")))
    assert [client.answers[stream_id].messages for stream_id in (1, 3, 5, 7)] == [[b"a"], [b"b"], [b"c"], [b"d"]]


def test_a_client_that_keeps_its_header_table_is_served_too() -> None:
    """Our table size of 0 is a wish until the client obeys; some never do."""
    client = RawClient()
    client.send(PREFACE + settings() + frame(SETTINGS, ACK, 0))
    for index in range(10):
        extra = (("x-number", str(index % 3)), ("grpc-timeout", f"{index + 1}S"))
        stream_id = client.call("/toy.Toy/Soon", b"%d" % index, extra=extra)
        assert client.answers[stream_id].messages == [b"%d" % index]
    assert client.connection.decoder is not None
    assert not client.connection.fast_lane


def test_the_first_request_without_a_header_table_is_known_from_other_clients() -> None:
    """It says that the table has no room, then what all say."""
    toy = Toy()
    for _ in range(2):
        client = RawClient(toy).open()
        stream_id = client.call("/toy.Toy/Soon", b"a")
        assert client.answers[stream_id].messages == [b"a"]
        assert client.connection.fast_lane
        assert client.connection.decoder is None
    assert len(toy.server.header_cache) == 1


def test_a_header_table_emptied_and_grown_again_is_kept() -> None:
    client = RawClient()
    client.send(PREFACE + settings() + frame(SETTINGS, ACK, 0))
    client.encoder.header_table_size = 0
    client.encoder.header_table_size = 4096
    for _ in range(3):
        stream_id = client.call("/toy.Toy/Soon", b"a", extra=(("x-name", "value"),))
        assert client.answers[stream_id].messages == [b"a"]
    assert client.connection.decoder is not None
    assert not client.connection.fast_lane


def test_metadata_is_what_grpc_go_would_show() -> None:
    client = RawClient().open()
    extra = (
        ("token", "first"),
        ("token", "second"),
        ("trace-bin", "AP8B"),
        ("padded-bin", "AP8="),
        ("broken-bin", "***"),
        ("user-agent", "test"),
        ("grpc-encoding", "identity"),
    )
    client.call("/toy.Toy/Hold", b"", extra=extra)
    headers = client.toy.held[0].headers
    assert (headers.path, headers.authority) == ("/toy.Toy/Hold", "toy")
    assert headers.metadata == {
        b":authority": b"toy",
        b"content-type": b"application/grpc",
        b"token": b"first",
        b"trace-bin": b"\x00\xff\x01",
        b"padded-bin": b"\x00\xff",
        b"user-agent": b"test",
    }


def test_headers_are_shared_between_connections_of_a_server() -> None:
    toy = Toy()
    for _ in range(3):
        client = RawClient(toy).open()
        client.call("/toy.Toy/Hold", b"x")
        client.call("/toy.Toy/Hold", b"y")
    # The first block of each connection still shrinks the header table.
    first, *others = [call.headers for call in toy.held[1::2]]
    first.memo = "resolved"
    assert all(headers.memo == "resolved" for headers in others)


def test_counters_tell_every_ending() -> None:
    client = RawClient().open()
    client.call("/toy.Toy/Soon", b"1234")
    client.call("/toy.Toy/Soon", b"missing")
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.send(frame(RST, 0, stream_id, pack(">I", 8)))
    client.call("/toy.Toy/Hold", b"")
    client.call("/toy.Toy/Talk", b"a", b"bc")
    client.call("/toy.Toy/Nope", b"")
    client.call("/toy.Toy/Soon", b"", extra=(("grpc-encoding", "foo"),))
    seen = {
        method.name: (method.started, method.received, method.sent, method.handled, method.bytes_in, method.bytes_out)
        for method in client.toy.server.methods
    }
    assert seen == {
        "Echo": (0, 0, 0, {}, 0, 0),
        "Soon": (2, 2, 1, {0: 1, 3: 1}, 11, 4),
        "Hold": (2, 2, 0, {1: 1}, 0, 0),
        "Talk": (1, 2, 2, {0: 1}, 3, 3),
    }


def test_long_error_words_are_sent_whole_unless_the_client_cannot_take_them() -> None:
    words = "é" * 20_000
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.toy.held[0].fail(Code.UNKNOWN, words)
    client.toy.loop.turn()
    assert client.answers[stream_id].text == "%C3%A9" * 20_000
    modest = RawClient().open((6, 8192))
    stream_id = modest.call("/toy.Toy/Hold", b"")
    modest.toy.held[0].fail(Code.UNKNOWN, words)
    modest.toy.loop.turn()
    assert modest.answers[stream_id].reset == 2


@pytest.mark.parametrize(
    "hello",
    [
        PREFACE + frame(HEADERS, END_HEADERS, 1, b"\x82"),
        PREFACE + frame(SETTINGS, ACK, 0),
        PREFACE[:-2] + b"XX" + settings(),
    ],
)
def test_a_wrong_hello_is_a_protocol_error(hello: bytes) -> None:
    client = RawClient().send(hello)
    assert client.sink.closed
    assert client.goaway is not None and client.goaway[1] == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(DATA, 0, 1, b"x"), 1),
        (frame(DATA, 0, 0, b"x"), 1),
        (frame(HEADERS, END_HEADERS, 2, b""), 1),
        (frame(HEADERS, END_HEADERS, 0, b""), 1),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), 1),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b""), 1),
        (frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"abc"), 1),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
        (frame(HEADERS, END_HEADERS, 1, b"\xbf"), 9),
        (frame(HEADERS, END_HEADERS, 1, b"\x40\x05ab"), 9),
        (frame(HEADERS, 0, 1, b"\x82") + frame(DATA, 0, 1), 1),
        (frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, END_HEADERS, 3), 1),
        (frame(CONTINUATION, END_HEADERS, 1), 1),
        (frame(5, END_HEADERS, 1, b"\0\0\0\2"), 1),
        (frame(2, 0, 1, b"\0"), 6),
        (frame(3, 0, 1, b"\0"), 6),
        (frame(3, 0, 1, b"\0\0\0\0"), 1),
        (frame(3, 0, 0, b"\0\0\0\0"), 1),
        (frame(4, 0, 1), 1),
        (frame(4, 0, 0, b"\0"), 6),
        (frame(4, ACK, 0, b"\0\0\0\0\0\0"), 6),
        (settings((4, 1 << 31)), 3),
        (settings((5, 16383)), 1),
        (settings((5, 1 << 24)), 1),
        (settings((2, 2)), 1),
        (frame(6, 0, 0, b"1234567"), 6),
        (frame(6, 0, 1, b"12345678"), 1),
        (frame(7, 0, 0, b"1234567"), 1),
        (frame(8, 0, 0, b"\0\0\0"), 6),
        (frame(8, 0, 0, b"\0\0\0\0"), 1),
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), 3),
        (frame(8, 0, 5, b"\0\0\0\1"), 1),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", 6),
        (b"\x00\x40\x01\x63\x00\x00\x00\x00\x01" + b"x" * 16385, 6),
    ],
)
@pytest.mark.parametrize("stateless", [False, True])
def test_broken_frames_end_the_connection_with_a_reason(data: bytes, code: int, stateless: bool) -> None:
    client = RawClient().open()
    if stateless:
        client.call("/toy.Toy/Echo", b"x")
        client.connection.last_stream_id = 0
    client.send(data)
    assert client.goaway is not None and client.goaway[1] == code
    assert client.sink.closed
    assert client.frames[-1].kind == GOAWAY


def test_a_second_block_without_end_of_stream_is_a_protocol_error() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Talk", b"x", end=False)
    client.send(frame(HEADERS, END_HEADERS, stream_id, client.block([("a", "b")])))
    assert client.goaway is not None and client.goaway[1] == 1


def test_trailers_of_a_client_end_its_side() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Talk", b"x", end=False)
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, client.block([("a", "b")])))
    assert client.answers[stream_id].status == 0
    # And for a call that we ended first they are let pass.
    stream_id = client.call("/toy.Toy/Talk", b"bye", end=False)
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, client.block([("a", "b")])))
    assert client.goaway is None


def test_headers_inside_a_header_block_are_not_served_on_the_way() -> None:
    """The quick lane must not step into a block that is still being continued."""
    client = RawClient().open()
    client.call("/toy.Toy/Echo", b"x")
    whole = client.call_bytes("/toy.Toy/Echo", b"y")
    client.send(frame(HEADERS, 0, 101, b"\x82") + whole)
    assert client.goaway is not None and client.goaway[1] == 1
    assert len(client.answers) == 1


def test_data_after_the_end_of_a_stream_resets_it() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"x")
    client.send(frame(DATA, 0, stream_id, b"more"))
    assert client.answers[stream_id].reset == 5
    assert client.toy.cancelled == [stream_id]


def test_unknown_frames_and_priorities_are_ignored() -> None:
    client = RawClient().open()
    client.send(frame(0x77, 0xFF, 9, b"whatever") + frame(2, 0, 7, b"\0\0\0\0\x10") + frame(7, 0, 0, b"\0" * 8))
    assert client.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_the_reserved_bit_of_a_stream_id_is_ignored() -> None:
    client = RawClient().open()
    for stream_id in (1, 3):
        data = client.call_bytes("/toy.Toy/Echo", b"body")
        client.send(data.replace(pack(">I", stream_id), pack(">I", stream_id | 1 << 31)))
    assert [client.answers[stream_id].messages for stream_id in (1, 3)] == [[b"body"], [b"body"]]
