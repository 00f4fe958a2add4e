"""The HTTP/2 connection without a socket: frames in, frames out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hpack import Decoder, Encoder

from balsad.client import http2
from balsad.client.grpc_status import Status
from balsad.client.http2 import ClientConnection, ProtocolError, Stream

SETTINGS_EMPTY = b"\0\0\0\x04\0\0\0\0\0"
GRPC_OK = [(":status", "200"), ("content-type", "application/grpc")]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    while data:
        size = int.from_bytes(data[:3], "big")
        yield data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]
        data = data[9 + size :]


def grpc_message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


class Heard:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ended: list[Status] = []

    def on_message(self, data: bytes) -> None:
        self.messages.append(data)

    def on_end(self, status: Status) -> None:
        self.ended.append(status)


class Server:
    """The other side: makes frames with a real HPACK encoder and reads what the client wrote."""

    def __init__(self, settings: bytes = b"") -> None:
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.connection = ClientConnection(scheme="http", authority="example:2379", user_agent="test/1")
        greeting = self.connection.data_to_send()
        assert greeting.startswith(http2.PREFACE)
        self.greeting = list(frames(greeting.removeprefix(http2.PREFACE)))
        self.give(frame(4, 0, 0, settings))
        assert list(frames(self.connection.data_to_send())) == [(4, 1, 0, b"")]

    def give(self, data: bytes) -> None:
        self.connection.receive(data)

    def open(self, path: str = "/p", metadata: tuple[tuple[str, str], ...] = ()) -> tuple[Stream, Heard]:
        heard = Heard()
        return self.connection.open(path, metadata, heard), heard

    def written(self) -> list[tuple[int, int, int, bytes]]:
        return list(frames(self.connection.data_to_send()))

    def headers(self, stream_id: int, fields: list[tuple[str, str]], *, end: bool = False) -> bytes:
        return frame(1, 5 if end else 4, stream_id, self.encoder.encode(fields))

    def answer(self, stream_id: int, *messages: bytes) -> None:
        self.give(self.headers(stream_id, GRPC_OK))
        self.give(b"".join(frame(0, 0, stream_id, grpc_message(message)) for message in messages))
        self.give(self.headers(stream_id, [("grpc-status", "0"), ("grpc-message", "")], end=True))


def test_it_greets_with_room_for_much() -> None:
    kinds = [(kind, payload) for kind, _flags, _id, payload in Server().greeting]

    assert kinds[0] == (4, b"\0\x02\0\0\0\0" + b"\0\x04" + http2.STREAM_WINDOW.to_bytes(4, "big"))
    assert kinds[1] == (8, (http2.CONNECTION_WINDOW - 65535).to_bytes(4, "big"))


def test_a_unary_call() -> None:
    server = Server()
    stream, heard = server.open("/etcdserverpb.KV/Put", (("token", "abc"), ("grpc-timeout", "5000m")))
    stream.send(b"request", last=True)

    (kind, flags, stream_id, block), data = server.written()
    assert (kind, flags, stream_id) == (1, 4, 1)
    assert server.decoder.decode(block) == [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "example:2379"),
        (":path", "/etcdserverpb.KV/Put"),
        ("content-type", "application/grpc"),
        ("user-agent", "test/1"),
        ("te", "trailers"),
        ("token", "abc"),
        ("grpc-timeout", "5000m"),
    ]
    assert data == (0, 1, 1, grpc_message(b"request"))
    server.answer(1, b"answer")
    assert heard.messages == [b"answer"]
    assert [(status.code, status.text) for status in heard.ended] == [(0, "")]
    assert server.connection.active == 0


def test_equal_calls_have_equal_header_blocks() -> None:
    """Neither side needs to keep state for them."""
    server = Server()
    blocks = set()
    for _ in range(2):
        server.open("/p", (("client-api-version", "3.5"),))
        blocks.add(server.written()[0][3])

    assert len(blocks) == 1


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_bytes_may_arrive_in_any_pieces(step: int) -> None:
    server = Server()
    stream, heard = server.open()
    stream.send(b"", last=True)
    data = server.headers(1, GRPC_OK) + frame(0, 0, 1, grpc_message(b"one")[:3])
    data += frame(0, 0, 1, grpc_message(b"one")[3:] + grpc_message(b"two"))
    data += server.headers(1, [("grpc-status", "0")], end=True)
    for pos in range(0, len(data), step):
        server.give(data[pos : pos + step])

    assert heard.messages == [b"one", b"two"]
    assert heard.ended[0].code == 0


def test_later_header_blocks_use_the_table_of_earlier_ones() -> None:
    """The first blocks are known by heart and the decoder is given them afterwards."""
    server = Server()
    server.encoder.huffman = True  # type: ignore[attr-defined]
    for stream_id in (1, 3, 5, 7):
        stream, heard = server.open()
        stream.send(b"", last=True)
        server.answer(stream_id, b"x")
        assert heard.messages == [b"x"]
        assert heard.ended[0].code == 0


def test_the_blocks_of_grpc_go_are_known_by_heart() -> None:
    first = bytes.fromhex("885f8b1d75d0620d263d4c4d6564")
    last = bytes.fromhex("40889acac8b21234da8f013040899acac8b5254207317f00")
    again = b"\x88\xc0"
    server = Server()
    _stream, heard = server.open()
    server.give(frame(1, 4, 1, first) + frame(0, 0, 1, grpc_message(b"x")) + frame(1, 5, 1, last))
    assert (heard.messages, heard.ended[0].code) == ([b"x"], 0)

    # These refer to what the first two put into the table.
    _stream, heard = server.open()
    server.give(frame(1, 4, 3, again) + frame(1, 5, 3, b"\xbf\xbe"))
    assert heard.ended[0].code == 0


def test_an_error_that_comes_at_once_and_percent_encoded() -> None:
    server = Server()
    _stream, heard = server.open()
    fields = [*GRPC_OK, ("grpc-status", "3"), ("grpc-message", "100%25 wrong%0A%C3%A9%zz%2")]
    server.give(server.headers(1, fields, end=True))

    assert (heard.ended[0].code, heard.ended[0].text) == (3, "100% wrong\n\u00e9%zz%2")


@pytest.mark.parametrize(("status", "code"), [("404", 12), ("503", 14), ("401", 16), ("418", 2)])
def test_an_answer_that_is_not_grpc(status: str, code: int) -> None:
    server = Server()
    _stream, heard = server.open()
    server.give(server.headers(1, [(":status", status), ("content-type", "text/plain")]))

    assert heard.ended[0].code == code
    assert "unexpected HTTP status code" in heard.ended[0].text
    assert [kind for kind, *_rest in server.written()][-1] == 3


def test_reset_streams_say_whether_they_may_be_tried_again() -> None:
    server = Server()
    ends = []
    for number, code in enumerate((7, 8, 11, 2)):
        _stream, heard = server.open()
        server.give(frame(3, 0, 2 * number + 1, code.to_bytes(4, "big")))
        ends.append((heard.ended[0].code, heard.ended[0].unprocessed))

    assert ends == [(14, True), (1, False), (8, False), (13, False)]


def test_goaway_ends_what_the_server_has_not_seen() -> None:
    server = Server()
    _first, first_heard = server.open()
    _second, second_heard = server.open()
    server.give(frame(7, 0, 0, (1).to_bytes(4, "big") + bytes(4)))

    assert first_heard.ended == []
    assert second_heard.ended[0].unprocessed
    assert server.connection.draining
    server.answer(1, b"still served")
    assert first_heard.messages == [b"still served"]


def test_a_lost_connection_ends_every_call() -> None:
    server = Server()
    _stream, heard = server.open()
    server.connection.lost("transport is closing")

    assert (heard.ended[0].code, heard.ended[0].text) == (14, "transport is closing")
    assert not heard.ended[0].unprocessed


def test_sending_waits_for_the_windows() -> None:
    server = Server()
    stream, _heard = server.open()
    stream.send(bytes(100_000), last=True)

    sent = [payload for kind, _flags, _id, payload in server.written() if kind == 0]
    assert sum(len(payload) for payload in sent) == 65535
    assert max(len(payload) for payload in sent) <= 16384
    server.give(frame(8, 0, 0, (100_000).to_bytes(4, "big")))
    assert server.written() == []
    server.give(frame(8, 0, 1, (100_000).to_bytes(4, "big")))
    rest = server.written()
    assert sum(len(payload) for _kind, _flags, _id, payload in rest) == 100_005 - 65535
    assert rest[-1][1] == 1


def test_settings_change_the_windows_of_open_streams() -> None:
    server = Server(settings=b"\0\x04" + (0).to_bytes(4, "big"))
    stream, _heard = server.open()
    stream.send(b"abc", last=True)
    assert [kind for kind, *_rest in server.written()] == [1]

    server.give(frame(4, 0, 0, b"\0\x04" + (100).to_bytes(4, "big")))

    assert (0, 1, 1, grpc_message(b"abc")) in server.written()


def test_calls_beyond_the_servers_limit_wait_their_turn() -> None:
    server = Server(settings=b"\0\x03" + (1).to_bytes(4, "big"))
    first, first_heard = server.open()
    second, second_heard = server.open()
    for stream in (first, second):
        stream.send(b"x", last=True)
    assert {stream_id for _kind, _flags, stream_id, _payload in server.written()} == {1}

    server.answer(1, b"1")
    assert {stream_id for _kind, _flags, stream_id, _payload in server.written()} == {3}
    server.answer(3, b"2")
    assert (first_heard.messages, second_heard.messages) == ([b"1"], [b"2"])


def test_a_waiting_call_can_be_given_up() -> None:
    server = Server(settings=b"\0\x03" + (1).to_bytes(4, "big"))
    server.open()
    second, second_heard = server.open()
    second.cancel()
    server.answer(1)

    assert server.connection.active == 0
    assert second_heard.ended == []


def test_received_bytes_are_credited() -> None:
    server = Server()
    stream, heard = server.open()
    server.written()
    server.give(server.headers(1, GRPC_OK))
    big = grpc_message(bytes(3 << 20))
    for pos in range(0, len(big), 16384):
        server.give(frame(0, 0, 1, big[pos : pos + 16384]))

    credited = [int.from_bytes(payload, "big") for kind, _f, stream_id, payload in server.written() if kind == 8]
    assert sum(credited) > 2 << 20
    assert len(heard.messages[0]) == 3 << 20
    stream.cancel()
    assert server.written() == [(3, 0, 1, (8).to_bytes(4, "big"))]


def test_a_paused_stream_gets_no_credit_until_it_is_resumed() -> None:
    server = Server()
    stream, heard = server.open()
    server.give(server.headers(1, GRPC_OK))
    stream.pause()
    server.written()
    for _ in range(200):
        server.give(frame(0, 0, 1, grpc_message(bytes(16000))))

    assert [stream_id for _k, _f, stream_id, _p in server.written() if stream_id == 1] == []
    assert len(heard.messages) == 200
    stream.resume()
    assert [kind for kind, _f, stream_id, _p in server.written() if stream_id == 1] == [8]


def test_pings_are_answered_and_counted() -> None:
    server = Server()
    server.give(frame(6, 0, 0, b"12345678"))
    assert server.written() == [(6, 1, 0, b"12345678")]

    server.connection.ping()
    kind, flags, _id, payload = server.written()[0]
    server.give(frame(kind, flags | 1, 0, payload))
    assert server.connection.pings_acked == 1


def test_a_cancelled_call_resets_its_stream_and_hears_nothing() -> None:
    server = Server()
    stream, heard = server.open()
    server.written()
    stream.cancel()
    server.answer(1, b"late")

    assert (heard.messages, heard.ended) == ([], [])


def test_a_header_block_in_parts() -> None:
    server = Server()
    _stream, heard = server.open()
    block = server.encoder.encode([*GRPC_OK, ("grpc-status", "5"), ("grpc-message", "gone")])
    server.give(frame(1, 1, 1, block[:3]) + frame(9, 0, 1, block[3:6]) + frame(9, 4, 1, block[6:]))

    assert (heard.ended[0].code, heard.ended[0].text) == (5, "gone")


def test_padding_and_priority_are_stripped() -> None:
    server = Server()
    _stream, heard = server.open()
    block = server.encoder.encode(GRPC_OK)
    server.give(frame(1, 4 | 8 | 32, 1, b"\x02" + bytes(5) + block + b"\0\0"))
    server.give(frame(0, 8, 1, b"\x03" + grpc_message(b"x") + b"\0\0\0"))

    assert heard.messages == [b"x"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x01\0\x02\x02\x50",
        frame(6, 0, 0, bytes(8)),
    ],
    ids=["HTTP/1.1", "a TLS alert", "no SETTINGS first"],
)
def test_a_server_that_does_not_speak_http_2(data: bytes) -> None:
    connection = ClientConnection(scheme="http", authority="a", user_agent="u")

    with pytest.raises(ProtocolError):
        connection.receive(data + bytes(9))


@pytest.mark.parametrize(
    "data",
    [
        frame(5, 4, 1, bytes(4)),
        frame(9, 4, 1, b""),
        frame(1, 0, 1, b"\x88") + frame(0, 0, 1, b""),
        frame(0, 8, 1, b"\x05abc"),
        frame(4, 0, 0, b"12345"),
        frame(4, 0, 0, b"\0\x04\xff\xff\xff\xff"),
        frame(1, 4, 1, b"\xff\xff\xff\xff"),
    ],
    ids=["push", "stray continuation", "interrupted headers", "padding", "settings size", "window", "bad HPACK"],
)
def test_a_server_that_breaks_the_rules(data: bytes) -> None:
    server = Server()
    server.open()

    with pytest.raises(ProtocolError):
        server.give(data)
