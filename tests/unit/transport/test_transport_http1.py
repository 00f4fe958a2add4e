"""HTTP/1.1: what is a request, what is answered, in the words and the order of Go's net/http."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from balsad.transport import Limits
from tests.unit.transport.wire_kit import RawHttp1, Toy

DATE = b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"


def bad(status: str, body: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{body or status}"
    ).encode()


def test_a_request_and_its_answer() -> None:
    client = RawHttp1()
    assert client.send(GET) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + DATE + b"Content-Length: 10\r\n\r\nGET /a?b=c"
    )
    request = client.toy.requests[0]
    assert (request.method, request.path, request.query, request.version) == ("GET", "/a", "b=c", "HTTP/1.1")
    assert request.headers == {"host": "x"}
    assert not request.secure
    assert not client.sink.over


def test_headers_are_sorted_before_date_and_length() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    client.toy.responders[0].respond(405, {"X-B": "2", "Allow": "GET", "Content-Type": "a/b"}, b"no")
    client.toy.loop.turn()
    assert client.sink.written == (
        b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Type: a/b\r\nX-B: 2\r\n"
        + DATE
        + b"Content-Length: 2\r\n\r\nno"
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b'{"health":"true"}', b"text/plain; charset=utf-8"), (b"\x00\x01", b"application/octet-stream"), (b"", b"")],
)
def test_a_content_type_that_is_not_given_is_guessed(body: bytes, kind: bytes) -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    client.toy.responders[0].respond(200, {}, body)
    client.toy.loop.turn()
    lines = b"Content-Length: %d\r\n" % len(body) + (b"Content-Type: " + kind + b"\r\n" if kind else b"")
    assert client.sink.written == b"HTTP/1.1 200 OK\r\n" + DATE + lines + b"\r\n" + body


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n" + GET + GET)
    assert client.sink.written == b""
    assert len(client.toy.requests) == 1
    client.toy.responders[0].respond(200, {"Content-Type": "t"}, b"first")
    client.toy.loop.turn()
    assert len(client.toy.requests) == 3
    assert client.sink.written.count(b"HTTP/1.1 200 OK") == 3
    assert client.sink.written.index(b"first") < client.sink.written.index(b"GET /a?b=c")


def test_the_next_request_waits_until_whoever_answered_has_done() -> None:
    """It answers in the midst of applying an entry, say, and half of that nobody must see."""
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    client.toy.responders[0].respond(200, {}, b"first")
    assert len(client.toy.requests) == 1
    assert not client.sink.reading
    client.toy.loop.turn()
    assert len(client.toy.requests) == 2
    assert client.sink.reading


def test_many_pipelined_requests_of_one_read_are_one_write() -> None:
    client = RawHttp1()
    client.send(GET * 50)
    assert client.sink.writes == 1
    assert len(client.toy.requests) == 50


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 11\r\n\r\nhello world",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0b\r\nhello world\r\n0\r\nTrailer: x\r\n\r\n",
        b"Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\nB\r\nhello world\r\n0\r\n\r\n",
        b"Content-Length: 11\r\nContent-Length: 11\r\n\r\nhello world",
    ],
)
def test_bodies(framing: bytes) -> None:
    data = b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\n" + framing
    client = RawHttp1()
    client.send(data + GET)
    assert [request.body for request in client.toy.requests] == [b"hello world", b""]
    slow = RawHttp1()
    for index in range(len(data)):
        slow.send(data[index : index + 1])
    slow.send(GET)
    assert [request.body for request in slow.toy.requests] == [b"hello world", b""]
    assert slow.sink.written == client.sink.written


def test_expect_continue() -> None:
    client = RawHttp1()
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert client.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.send(b"ok").endswith(b"\r\n\r\nok")
    other = RawHttp1()
    assert other.send(head.replace(b"100-continue", b"more")) == (
        b"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\n" + DATE + b"Content-Length: 0\r\n\r\n"
    )
    assert other.sink.closed


def test_a_head_request_has_no_body() -> None:
    client = RawHttp1()
    answer = client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"Content-Length: 7\r\n\r\n")
    assert client.send(GET).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(status: int) -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    client.toy.responders[0].respond(status, {}, b"ignored")
    client.toy.loop.turn()
    assert client.sink.written.endswith(DATE + b"\r\n")


def test_versions_and_keep_alive() -> None:
    old = RawHttp1()
    assert old.send(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n" + DATE)
    assert old.sink.closed
    assert b"Connection" not in old.sink.written
    kept = RawHttp1()
    assert b"\r\nConnection: keep-alive\r\n" in kept.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert not kept.sink.closed
    closing = RawHttp1()
    assert b"\r\nConnection: close\r\n" in closing.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n")
    assert closing.sink.closed
    newer = RawHttp1()
    assert newer.send(b"GET / HTTP/1.2\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_targets() -> None:
    client = RawHttp1()
    client.send(b"GET http://foo/health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.toy.requests[0].path == "/health"
    assert client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + DATE + b"\r\n"
    )


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", bad("400 Bad Request: missing required Host header")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", bad("400 Bad Request: too many Host headers")),
        (b"GET / HTTP/1.1\r\nHost: a b/\r\n\r\n", bad("400 Bad Request: malformed Host header")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nfoo bar: x\r\n\r\n", bad("400 Bad Request: invalid header name")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nfoo : x\r\n\r\n", bad("400 Bad Request: invalid header name")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nfoo: a\x01b\r\n\r\n", bad("400 Bad Request: invalid header value")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nfoobar\r\n\r\n", bad("400 Bad Request")),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", bad("400 Bad Request")),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            bad("501 Not Implemented", "Unsupported transfer encoding"),
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n", bad("400 Bad Request")),
        (b"GET health HTTP/1.1\r\nHost: a\r\n\r\n", bad("400 Bad Request")),
        (b"GET /ver%zz HTTP/1.1\r\nHost: a\r\n\r\n", bad("400 Bad Request")),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", bad("400 Bad Request")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", bad("400 Bad Request")),
    ],
)
def test_bad_requests(data: bytes, answer: bytes) -> None:
    client = RawHttp1()
    assert client.send(data) == answer
    assert client.sink.closed
    assert not client.toy.requests


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\n",
        b"GET /" + b"a" * 5000,
    ],
)
def test_what_is_not_http1_is_hung_up_on(data: bytes) -> None:
    """Without TLS etcd asks the first line which protocol this is; behind TLS it is net/http that answers."""
    client = RawHttp1()
    assert client.send(data) == b""
    assert client.sink.closed
    behind_tls = RawHttp1(secure=True)
    assert behind_tls.send(data) == bad("400 Bad Request")


def test_bare_line_feeds_and_folded_headers_are_taken() -> None:
    client = RawHttp1()
    client.send(b"GET / HTTP/1.1\nHost: x\nfoo: a\n  b\nfoo: c\nempty:\n\n")
    assert client.toy.requests[0].headers == {"host": "x", "foo": "a b, c", "empty": ""}


def test_limits_of_a_request() -> None:
    limits = Limits(http_header_bytes_max=10_000, http_body_bytes_max=1000)
    client = RawHttp1(Toy(limits))
    assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\nfoo: " + b"x" * 10_000) == bad(
        "431 Request Header Fields Too Large"
    )
    for framing in (b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"):
        client = RawHttp1(Toy(limits))
        assert client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing) == bad("413 Request Entity Too Large")
    client = RawHttp1(Toy(limits))
    whole = b"GET / HTTP/1.1\r\nHost: a\r\nfoo: " + b"x" * 10_000 + b"\r\n\r\n"
    assert client.send(whole) == bad("431 Request Header Fields Too Large")
    client = RawHttp1(Toy(limits))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.send(b"1" * 5000) == bad("400 Bad Request")


def test_a_request_must_come_in_time() -> None:
    client = RawHttp1()
    client.toy.loop.advance(1000)
    assert not client.sink.over
    client.send(b"GET / HT")
    client.toy.loop.advance(59)
    client.send(b"TP/1.1\r\n")
    assert not client.sink.over
    client.toy.loop.advance(2)
    assert client.sink.closed


def test_a_body_may_take_its_time_if_it_keeps_coming() -> None:
    client = RawHttp1()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    for char in (b"a", b"b", b"c", b"d"):
        client.toy.loop.advance(50)
        client.send(char)
    client.send(b"e")
    client.toy.loop.advance(500)
    assert client.toy.requests[0].body == b"abcde"
    assert not client.sink.over


def test_a_slow_answer_is_no_slow_request() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    client.toy.loop.advance(1000)
    assert not client.sink.over


def test_an_answer_bit_by_bit() -> None:
    client = RawHttp1()
    client.send(b"POST /later HTTP/1.1\r\nHost: x\r\n\r\n")
    responder = client.toy.responders[0]
    responder.start(200, {"Content-Type": "application/json"})
    responder.write(b'{"result":1}\n')
    client.toy.loop.turn()
    assert client.sink.written == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        + DATE
        + b'Transfer-Encoding: chunked\r\n\r\nd\r\n{"result":1}\n\r\n'
    )
    client.send(GET)
    responder.write(b"")
    responder.write(b"x" * 20)
    responder.end()
    responder.end()
    responder.write(b"too late")
    client.toy.loop.turn()
    assert b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\nHTTP/1.1 200 OK" in client.sink.written


def test_an_answer_bit_by_bit_to_http10_ends_with_the_connection() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    responder = client.toy.responders[0]
    responder.start(200, {"Content-Type": "t"})
    responder.write(b"raw")
    responder.end()
    client.toy.loop.turn()
    assert client.sink.written == b"HTTP/1.0 200 OK\r\nContent-Type: t\r\n" + DATE + b"\r\nraw"
    assert client.sink.closed


def test_a_client_that_goes_away() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    gone: list[int] = []
    responder = client.toy.responders[0]
    responder.on_close = lambda: gone.append(1)
    client.connection.connection_lost(None)
    responder.respond(200, {}, b"x")
    client.toy.loop.turn()
    assert gone == [1]
    assert responder.closed
    assert client.sink.written == b""


def test_a_client_that_only_closed_its_side_gets_its_answer() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.connection.eof_received()
    client.toy.responders[0].respond(200, {}, b"x")
    client.toy.loop.turn()
    assert client.sink.written.endswith(b"x")
    assert client.sink.closed
    streaming = RawHttp1()
    streaming.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    streaming.toy.responders[0].start(200, {})
    assert not streaming.connection.eof_received()
    assert not RawHttp1().connection.eof_received()


def test_a_reader_that_is_slow_is_not_read_from_and_bounded() -> None:
    client = RawHttp1(sink_limit=1000)
    client.send(GET * 10)
    assert not client.sink.reading

    client = RawHttp1(sink_limit=1000)
    client.send(GET * 1000)
    assert not client.sink.reading
    first = len(client.toy.requests)
    assert first < 1000
    for _ in range(1000):
        client.sink.client_reads()
        client.toy.loop.turn()
    assert len(client.toy.requests) == 1000
    assert client.sink.reading

    client = RawHttp1(Toy(Limits(queue_bytes_max=1000)), sink_limit=10)
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    responder = client.toy.responders[0]
    responder.start(200, {})
    client.toy.loop.turn()
    told: list[int] = []
    responder.on_writable = lambda: told.append(responder.pending_bytes)
    for _ in range(10):
        responder.write(b"x" * 50)
    assert responder.pending_bytes > 500
    client.sink.client_reads()
    assert responder.pending_bytes == 0
    for _ in range(30):
        responder.write(b"x" * 50)
    assert client.sink.aborted


def test_in_a_crowd_no_answer_is_behind_with_much() -> None:
    toy = Toy(Limits(crowd_bytes=350_000))
    for _ in range(4):
        client = RawHttp1(toy, sink_limit=10)
        client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        toy.responders[-1].start(200, {})
        toy.loop.turn()
        assert toy.responders[-1].has_room(1 << 20)
        toy.responders[-1].write(b"x" * 100_000)
    assert not any(responder.has_room(1 << 20) for responder in toy.responders)
    client.sink.client_reads()
    assert toy.responders[-1].has_room(1 << 20)
    assert toy.responders[0].has_room(1 << 20)  # with only three behind, there is room again
    assert not toy.responders[0].has_room(1 << 16)


def test_pipelining_while_an_answer_is_awaited_is_bounded() -> None:
    client = RawHttp1()
    client.send(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
    client.send(GET * 5000)
    assert not client.sink.reading
    client.toy.responders[0].respond(200, {}, b"x")
    client.toy.loop.turn()
    assert len(client.toy.requests) == 5001
    assert client.sink.reading


def test_pipelined_requests_without_end_do_not_keep_others_waiting() -> None:
    """So many are served in one turn of the loop; meanwhile no more are read."""
    client = RawHttp1()
    client.connection.data_received(GET * 1000)
    turns = [len(client.toy.requests)]
    while client.toy.loop.soon:
        assert not client.sink.reading
        client.toy.loop.soon.pop(0)()
        turns.append(len(client.toy.requests))
    assert turns[0] == 64
    assert max(after - before for before, after in itertools.pairwise(turns)) == 64
    assert turns[-1] == 1000
    assert client.sink.reading


def test_a_costly_body_is_read_a_piece_a_turn() -> None:
    """An event loop reads many times in a row from who sends much: after a costly read it has to look at others."""
    client = RawHttp1()
    times = itertools.count(1.0, 0.003)
    client.toy.server.stopwatch = lambda: next(times)
    client.connection.data_received(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(5):
        assert not client.sink.reading
        client.toy.loop.soon.pop(0)()
        client.toy.server.stopwatch = lambda: 0.0
        client.toy.loop.turn()
        assert client.sink.reading
        client.toy.server.stopwatch = lambda: next(times)
        client.connection.data_received(b"1\r\nx\r\n" * 100)
    client.toy.server.stopwatch = lambda: 0.0
    client.toy.loop.turn()
    client.send(b"0\r\n\r\n")
    assert client.toy.requests[0].body == b"x" * 500


def test_thousands_of_chunks_in_one_read_are_read_in_turns() -> None:
    client = RawHttp1()
    client.connection.data_received(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    times = itertools.count(1.0, 0.003)
    client.toy.server.stopwatch = lambda: next(times)
    chunks = b"".join(b"1;a=%d\r\n%d\r\n" % (number % 7, number % 10) for number in range(20_000))
    client.connection.data_received(chunks + b"0\r\n\r\n")
    turns = 0
    while not client.toy.requests:
        client.toy.loop.soon.pop(0)()
        turns += 1
    assert turns >= 10
    assert client.toy.requests[0].body == b"0123456789" * 2_000


def test_a_client_that_leaves_while_its_requests_wait_is_forgotten() -> None:
    client = RawHttp1()
    client.connection.data_received(GET * 1000)
    client.connection.connection_lost(None)
    client.toy.loop.turn()
    assert len(client.toy.requests) == 64


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"], ids=["length", "chunks"]
)
def test_a_body_in_many_pieces_costs_what_it_holds(framing: bytes) -> None:
    client = RawHttp1()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    piece = b"2\r\nxy\r\n" if b"chunked" in framing else b"xy"
    tracemalloc.start()
    try:
        for _ in range(49_990):
            client.connection.data_received(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
