"""Pings, keepalive, drain: how connections live and end."""

from __future__ import annotations

from struct import pack

from balsad.transport import Limits
from tests.unit.transport.wire_kit import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    RawClient,
    RawHttp1,
    Toy,
    frame,
    message,
    request_fields,
    settings,
)


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return frame(PING, flags, 0, payload)


def pings(client: RawClient) -> list[bytes]:
    return [got.payload for got in client.frames if got.kind == PING and not got.flags & ACK]


def test_the_server_introduces_itself() -> None:
    client = RawClient().send(PREFACE)
    kinds = [(got.kind, got.payload) for got in client.frames]
    assert kinds[0][0] == SETTINGS
    assert b"\0\1\0\0\0\0" in kinds[0][1]
    assert b"\0\3" not in kinds[0][1]
    limited = RawClient(Toy(Limits(streams_max=100))).send(PREFACE)
    assert pack(">HI", 3, 100) in limited.frames[0].payload


def test_settings_are_acknowledged() -> None:
    client = RawClient().send(PREFACE + settings((4, 1)) + settings((5, 20000), (99, 7)))
    assert [got.flags for got in client.frames if got.kind == SETTINGS] == [0, ACK, ACK]


def test_a_ping_comes_back() -> None:
    client = RawClient().open().send(ping(b"abcdefgh"))
    assert [got.payload for got in client.frames if got.kind == PING and got.flags & ACK] == [b"abcdefgh"]


def test_pings_without_calls_are_too_many_after_a_few() -> None:
    """grpc-go with PermitWithoutStream false: the fourth within two hours of silence is one too many."""
    client = RawClient().open()
    for _ in range(3):
        client.toy.loop.advance(10)
        client.send(ping())
        assert client.goaway is None
    client.toy.loop.advance(10)
    client.send(ping())
    assert client.goaway == (0, 11, b"too_many_pings")
    assert client.sink.closed


def test_pings_during_a_call_are_fine_every_five_seconds() -> None:
    client = RawClient().open()
    client.call("/toy.Toy/Hold", b"")
    for _ in range(20):
        client.toy.loop.advance(5)
        client.send(ping())
    assert client.goaway is None
    for _ in range(3):
        client.toy.loop.advance(1)
        client.send(ping())
    assert client.goaway == (1, 11, b"too_many_pings")


def test_pings_between_answers_are_fine() -> None:
    """Data we sent forgives: bandwidth probes of gRPC clients are pings too."""
    client = RawClient().open()
    client.call("/toy.Toy/Talk", b"x", end=False)
    for index in range(50):
        client.send(ping())
        if index % 3 == 0:
            client.toy.talks[0].call.send(b"event")
            client.toy.loop.turn()
        else:
            client.call("/toy.Toy/Echo", b"x")
    assert client.goaway is None


def test_pings_without_calls_may_be_allowed() -> None:
    client = RawClient(Toy(Limits(ping_without_calls=True))).open()
    for _ in range(20):
        client.toy.loop.advance(5)
        client.send(ping())
    assert client.goaway is None


def test_a_silent_client_is_asked_whether_it_lives() -> None:
    client = RawClient(Toy(Limits(keepalive_time_s=60, keepalive_timeout_s=20))).open()
    client.toy.loop.advance(59)
    client.send(settings())
    client.toy.loop.advance(59)
    assert pings(client) == []
    client.toy.loop.advance(2)
    assert len(pings(client)) == 1
    client.toy.loop.advance(19)
    client.send(ping(pings(client)[0], ACK))
    client.toy.loop.advance(59)
    assert len(pings(client)) == 1
    client.toy.loop.advance(2)
    assert len(pings(client)) == 2
    assert not client.sink.aborted
    client.toy.loop.advance(21)
    assert client.sink.aborted


def test_the_usual_keepalive_is_two_hours_and_twenty_seconds() -> None:
    client = RawClient().open()
    client.toy.loop.advance(7199)
    assert pings(client) == []
    client.toy.loop.advance(2)
    assert len(pings(client)) == 1
    client.toy.loop.advance(18)
    assert not client.sink.aborted
    client.toy.loop.advance(4)
    assert client.sink.aborted


def test_a_client_that_never_sends_settings_is_dropped() -> None:
    client = RawClient().send(PREFACE)
    client.toy.loop.advance(119)
    assert not client.sink.over
    client.toy.loop.advance(2)
    assert client.sink.aborted


def test_drain_lets_calls_end_and_what_was_under_way_in() -> None:
    """grpc-go's way: GOAWAY for all ids, a ping, and with its answer the GOAWAY that counts."""
    client = RawClient().open()
    held = client.call("/toy.Toy/Hold", b"")
    client.connection.drain()
    client.toy.loop.turn()
    assert client.goaway == (2**31 - 1, 0, b"")
    late = client.call("/toy.Toy/Soon", b"sent before it knew")
    assert client.answers[late].messages == [b"sent before it knew"]
    client.send(ping(pings(client)[-1], ACK))
    assert client.goaway == (late, 0, b"")
    too_late = client.call("/toy.Toy/Soon", b"x")
    assert too_late not in client.answers
    assert not client.sink.over
    client.toy.held[0].respond(b"done")
    client.toy.loop.turn()
    assert client.answers[held].messages == [b"done"]
    assert client.sink.closed


def test_drain_of_an_idle_connection_ends_with_the_ping() -> None:
    client = RawClient().open()
    client.call("/toy.Toy/Echo", b"x")
    client.connection.drain()
    client.connection.drain()
    client.toy.loop.turn()
    assert not client.sink.over
    client.send(ping(pings(client)[-1], ACK))
    assert client.goaway == (1, 0, b"")
    assert client.sink.closed
    assert [got.kind for got in client.frames].count(GOAWAY) == 2


def test_drain_before_hello() -> None:
    client = RawClient()
    client.connection.drain()
    assert client.sink.closed


def test_drain_waits_for_answers_that_wait_for_windows() -> None:
    client = RawClient().open((4, 0))
    stream_id = client.call("/toy.Toy/Echo", b"many100")
    client.connection.drain()
    client.toy.loop.turn()
    client.send(ping(pings(client)[-1], ACK))
    assert not client.sink.over
    client.send(settings((4, 1000)))
    assert client.answers[stream_id].messages == [b"m" * 100]
    assert client.sink.closed


def test_last_words_that_nobody_takes_are_given_up() -> None:
    client = RawClient().open().send(frame(DATA, 0, 1, b"x"))
    assert client.sink.closed
    client.toy.loop.advance(11)
    assert client.sink.aborted


def test_a_closed_connection_stays_quiet() -> None:
    client = RawClient().open()
    client.call("/toy.Toy/Hold", b"")
    client.send(frame(DATA, 0, 99, b"x"))
    assert client.sink.closed
    written = len(client.sink.written)
    client.connection.data_received(client.call_bytes("/toy.Toy/Echo", b"x"))
    client.toy.held[0].respond(b"x")
    client.toy.server.flush()
    client.connection.drain()
    client.connection.pause_writing()
    client.connection.resume_writing()
    assert len(client.sink.written) == written


def test_answers_given_outside_a_read_are_written_once_per_turn() -> None:
    client = RawClient().open()
    for _ in range(10):
        client.call("/toy.Toy/Hold", b"")
    writes = client.sink.writes
    for call in client.toy.held:
        call.respond(b"x")
    assert client.sink.writes == writes
    assert len(client.toy.loop.soon) == 1
    client.toy.server.flush()
    assert client.sink.writes == writes + 1
    client.toy.loop.turn()
    assert client.sink.writes == writes + 1


def test_http_over_http2_where_tls_allows_it() -> None:
    client = RawClient(secure=True).open()
    fields = [(":method", "GET"), (":scheme", "https"), (":path", "/health?x=1"), (":authority", "a"), ("accept", "*")]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    answer = client.answers[1]
    assert answer.headers == [
        [
            (":status", "200"),
            ("content-type", "text/plain"),
            ("content-length", "15"),
            ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ]
    ]
    assert (bytes(answer.data), answer.ended) == (b"GET /health?x=1", True)
    request = client.toy.requests[0]
    assert (request.path, request.query, request.version) == ("/health", "x=1", "HTTP/2.0")
    assert request.headers == {"accept": "*", "host": "a"}


def test_an_http_body_over_http2() -> None:
    client = RawClient(secure=True).open()
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/v3/kv/range"),
        ("content-type", "application/json"),
    ]
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(fields)))
    client.send(frame(DATA, 0, 1, b'{"key":') + frame(DATA, END_STREAM, 1, b'"Zm9v"}'))
    assert client.toy.requests[0].body == b'{"key":"Zm9v"}'
    assert bytes(client.answers[1].data) == b'{"key":"Zm9v"}'
    assert client.connection.partial_bytes == 0
    assert not client.connection.streams


def test_an_http_body_over_http2_has_a_bound() -> None:
    client = RawClient(Toy(Limits(http_body_bytes_max=1000)), secure=True).open()
    fields = [(":method", "POST"), (":scheme", "https"), (":path", "/v3/kv/range")]
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(fields)))
    client.send(frame(DATA, 0, 1, bytes(1000)))
    assert client.connection.partial_bytes == 1000
    client.send(frame(DATA, 0, 1, b"x"))
    assert dict(client.answers[1].headers[0])[":status"] == "413"
    assert client.connection.partial_bytes == 0
    assert not client.toy.requests


def test_a_head_request_over_http2_has_no_body() -> None:
    client = RawClient(secure=True).open()
    fields = [(":method", "HEAD"), (":scheme", "https"), (":path", "/version")]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    answer = client.answers[1]
    assert dict(answer.headers[0])["content-length"] == "13"
    assert (bytes(answer.data), answer.ended) == (b"", True)


def test_an_http_answer_bit_by_bit_over_http2() -> None:
    client = RawClient(secure=True).open()
    fields = [(":method", "GET"), (":scheme", "https"), (":path", "/later")]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    responder = client.toy.responders[0]
    responder.start(200, {"Content-Type": "application/json", "Connection": "close"})
    responder.write(b"one")
    client.toy.loop.turn()
    assert bytes(client.answers[1].data) == b"one"
    assert dict(client.answers[1].headers[0]).keys() == {":status", "content-type", "date"}
    responder.write(b"two")
    responder.end()
    client.toy.loop.turn()
    answer = client.answers[1]
    assert (bytes(answer.data), answer.ended, responder.closed) == (b"onetwo", True, True)


def test_an_http_client_that_goes_away_over_http2() -> None:
    client = RawClient(secure=True).open()
    fields = [(":method", "GET"), (":scheme", "https"), (":path", "/later")]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block(fields)))
    gone: list[int] = []
    client.toy.responders[0].on_close = lambda: gone.append(1)
    client.send(frame(3, 0, 1, pack(">I", 8)))
    assert gone == [1]
    client.toy.responders[0].respond(200, {}, b"x")
    client.toy.loop.turn()
    assert 1 not in client.answers


def test_bad_grpc_requests_behind_tls_are_told_by_http() -> None:
    """There Go's net/http speaks HTTP/2 for etcd, and it answers 500."""
    client = RawClient(secure=True).open()
    for number, (fields, words) in enumerate(
        [
            (request_fields("/a/b", content_type="application/grpc-web"), b"invalid gRPC request content-type\n"),
            (request_fields("/a/b", method="GET"), b"invalid gRPC request method\n"),
        ]
    ):
        stream_id = 2 * number + 1
        client.send(frame(HEADERS, END_HEADERS, stream_id, client.block(fields)))
        client.send(frame(DATA, END_STREAM, stream_id, message(b"")))
        answer = client.answers[stream_id]
        assert dict(answer.headers[0])[":status"] == "500"
        assert bytes(answer.data) == words


def test_draining_an_http1_connection() -> None:
    idle = RawHttp1()
    idle.connection.drain()
    assert idle.sink.closed
    busy = RawHttp1()
    busy.send(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
    busy.connection.drain()
    assert not busy.sink.closed
    busy.toy.responders[0].respond(200, {}, b"ok")
    busy.toy.loop.turn()
    assert busy.sink.written.endswith(b"\r\n\r\nok")
    assert busy.sink.closed
