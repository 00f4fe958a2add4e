"""Laws of the wire: where reads are cut changes nothing, and no bytes whatever break the server."""

from __future__ import annotations

import itertools
from struct import pack

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.transport.header_block import HeaderBlockError, decode_stateless
from tests.unit.transport import wire_kit as kit
from tests.unit.transport.wire_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    RST,
    SETTINGS,
    RawClient,
    RawHttp1,
    Toy,
    frame,
    message,
    window_update,
)

METHODS = st.sampled_from(["Echo", "Soon", "Talk"])
BODIES = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"missing", b"many5", b"many40000", b"bye", b"refuse", b"x" * 20000])
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, bytes, list[int], str | None, int, bool, int]:
    """One call: how its headers and its messages are wrapped."""
    method = draw(METHODS)
    count = draw(st.integers(0, 3)) if method == "Talk" else 1
    data = b"".join([message(draw(BODIES)) for _ in range(count)])
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    timeout = draw(st.sampled_from([None, "5S", "4999u"]))
    wrap = draw(st.integers(0, 3))
    end_apart = draw(st.booleans())
    padding = draw(st.integers(0, 40))
    return method, data, cuts, timeout, wrap, end_apart, padding


@st.composite
def sessions(draw: st.DrawFn) -> list[bytes]:
    """The frames of a client that keeps to the rules, its calls interleaved."""
    stateless = draw(st.booleans())
    initial = draw(st.sampled_from([0, 1, 100, 65535, 1 << 20]))
    encoder = hpack.Encoder()
    hello = PREFACE + kit.settings((4, initial)) + frame(SETTINGS, ACK, 0)
    if stateless:
        encoder.header_table_size = 0
    lanes: list[list[bytes]] = []
    opening: list[bytes] = []
    for index, (method, data, cuts, timeout, wrap, end_apart, padding) in enumerate(
        draw(st.lists(calls(), min_size=1, max_size=6))
    ):
        stream_id = 2 * index + 1
        extra = (("grpc-timeout", timeout),) if timeout else ()
        block = bytes(encoder.encode(kit.request_fields(f"/toy.Toy/{method}", *extra)))
        opening.append(_wrap_headers(stream_id, block, wrap))
        lane: list[bytes] = []
        edges = [0, *cuts, len(data)]
        for start, stop in itertools.pairwise(edges):
            for pos in range(start, stop, 16000):
                piece = data[pos : min(stop, pos + 16000)]
                if padding:
                    lane.append(frame(DATA, PADDED, stream_id, bytes((padding,)) + piece + b"\0" * padding))
                else:
                    lane.append(frame(DATA, 0, stream_id, piece))
        if lane and not end_apart:
            lane[-1] = lane[-1][:4] + bytes((lane[-1][4] | END_STREAM,)) + lane[-1][5:]
        else:
            lane.append(frame(DATA, END_STREAM, stream_id))
        if draw(st.booleans()):
            lane.append(window_update(stream_id, draw(st.integers(1, 50_000))))
        lanes.append(lane)
    lanes.append([window_update(0, draw(st.integers(1, 50_000))) for _ in range(draw(st.integers(0, 3)))])
    out = [hello]
    # HPACK wants the blocks in the order they were made; what belongs to a stream stays in its order.
    opened = 0
    while opening or any(lanes):
        ready = [lane for lane in [*lanes[:opened], lanes[-1]] if lane]
        choice = draw(st.integers(0, len(ready)))
        if choice == len(ready):
            if opening:
                out.append(opening.pop(0))
                opened += 1
        else:
            out.append(ready[choice].pop(0))
    out.append(window_update(0, 1 << 24) + kit.settings((4, 1 << 24)))
    return out


def _wrap_headers(stream_id: int, block: bytes, wrap: int) -> bytes:
    if wrap == 1:
        return frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, stream_id, b"\x03\0\0\0\0\x10" + block + b"\0\0\0")
    if wrap == 2:
        half = len(block) // 2
        return frame(HEADERS, 0, stream_id, block[:half]) + frame(CONTINUATION, END_HEADERS, stream_id, block[half:])
    return frame(HEADERS, END_HEADERS, stream_id, block)


def comparable(client: RawClient) -> dict[int, object]:
    # Whether a complete answer is followed by RST_STREAM(NO_ERROR) is a matter of what was here when it was given.
    return {
        stream_id: (answer.headers, bytes(answer.data), answer.ended, answer.reset or None)
        for stream_id, answer in client.answers.items()
    }


def play(pieces: list[bytes], toy: Toy | None = None) -> object:
    client = RawClient(toy)
    for piece in pieces:
        client.send(piece)
    client.toy.loop.turn()
    connection = client.connection
    assert not connection.streams
    assert connection.queued_bytes == connection.partial_bytes == 0
    return comparable(client), client.goaway


@settings(max_examples=60, deadline=None)
@given(session=sessions(), cuts=st.lists(st.integers(0, 1 << 20), max_size=30))
def test_where_reads_are_cut_changes_no_answer(session: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(session)
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    at_random = [whole[start:stop] for start, stop in itertools.pairwise(edges)]

    expected = play([whole])

    assert play(at_random) == expected
    assert play(session) == expected


@settings(max_examples=15, deadline=None)
@given(session=sessions())
def test_byte_by_byte_changes_no_answer(session: list[bytes]) -> None:
    whole = b"".join(session)[:30_000]
    end = frame(7, 0, 0, b"\0" * 8)
    first = RawClient().send(whole)
    second = RawClient()
    for index in range(len(whole)):
        second.connection.data_received(whole[index : index + 1])
        second.toy.loop.turn()
    first.send(end)
    second.send(end)
    assert comparable(first) == comparable(second)


@settings(max_examples=30, deadline=None)
@given(session=sessions())
def test_what_other_connections_taught_the_server_changes_no_answer(session: list[bytes]) -> None:
    """Header blocks are remembered across connections: a warm server answers as a fresh one does."""
    toy = Toy()
    whole = b"".join(session)
    first = play([whole], toy)
    assert play([whole], toy) == first
    assert play(session, toy) == first


FRAMES = st.builds(
    lambda kind, flags, stream_id, payload: frame(kind, flags, stream_id, payload),
    st.one_of(st.integers(0, 10), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 32, 45]), st.integers(0, 255)),
    st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1)),
    st.one_of(
        st.binary(max_size=60),
        st.builds(lambda number: pack(">I", number), st.integers(0, (1 << 32) - 1)),
        st.builds(message, st.binary(max_size=20)),
        st.just(kit.stateless_block(kit.request_fields("/toy.Toy/Talk"))),
        st.just(kit.stateless_block(kit.request_fields("/toy.Toy/Echo", ("grpc-timeout", "1S")))),
        st.just(pack(">HIHI", 4, 5, 1, 0)),
    ),
)


@settings(max_examples=300, deadline=None)
@given(garbage=st.lists(st.one_of(FRAMES, st.binary(max_size=100)), max_size=30), secure=st.booleans())
def test_no_garbage_breaks_the_server(garbage: list[bytes], secure: bool) -> None:
    """Whatever comes, either it is answered or the connection ends with a reason; nothing is raised, nothing leaks."""
    toy = Toy()
    client = RawClient(toy, secure=secure).open((4, 100))
    client.call("/toy.Toy/Echo", b"x")
    for piece in garbage:
        client.send(piece)
        if client.sink.over:
            break
    assert not client.sink.closed or client.goaway is not None
    toy.loop.advance(0.5)
    client.connection.connection_lost(None)
    assert client.connection.queued_bytes >= 0
    toy.loop.advance(20_000)
    other = RawClient(toy).open()
    assert other.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


@settings(max_examples=100, deadline=None)
@given(session=sessions(), data=st.data())
def test_no_flipped_bit_breaks_the_server(session: list[bytes], data: st.DataObject) -> None:
    toy = Toy()
    client = RawClient(toy)
    whole = bytearray(b"".join(session))
    for _ in range(data.draw(st.integers(1, 5))):
        pos = data.draw(st.integers(0, len(whole) - 1))
        whole[pos] ^= 1 << data.draw(st.integers(0, 7))
    client.send(bytes(whole))
    toy.loop.advance(0.1)
    client.connection.connection_lost(None)
    assert RawClient(toy).open().ask("/toy.Toy/Echo", b"x").messages == [b"x"]


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    b"GET / HTTP/1.1\r\n",
                    b"Host: a\r\n",
                    b"\r\n",
                    b"Content-Length: 5\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                ]
                + [b"5\r\nhello\r\n", b"0\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: b\r\n", b": x\r\n", b" folded\r\n"]
            ),
        ),
        max_size=20,
    ),
    secure=st.booleans(),
)
def test_no_garbage_breaks_http1(pieces: list[bytes], secure: bool) -> None:
    client = RawHttp1(secure=secure)
    whole = b"".join(pieces)
    client.send(whole)
    split = RawHttp1(secure=secure)
    for index in range(len(whole)):
        split.send(whole[index : index + 1])
    assert split.sink.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == client.sink.written.replace(
        b"HTTP/1.1 100 Continue\r\n\r\n", b""
    )
    assert split.sink.over == client.sink.over


@settings(max_examples=300, deadline=None)
@given(
    fields=st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=200)), max_size=10),
    huffman=st.booleans(),
)
def test_stateless_blocks_decode_as_the_hpack_package_has_it(fields: list[tuple[bytes, bytes]], huffman: bool) -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block = bytes(encoder.encode(fields, huffman=huffman))
    assert decode_stateless(block, 1 << 16) == hpack.Decoder().decode(block, raw=True)


@settings(max_examples=500, deadline=None)
@given(block=st.binary(max_size=60))
def test_any_bytes_decode_as_the_hpack_package_has_it(block: bytes) -> None:
    """With a table of size 0 both read the same or both refuse."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        expected: list[tuple[bytes, bytes]] | None = [(bytes(a), bytes(b)) for a, b in decoder.decode(block, raw=True)]
    except Exception:
        expected = None
    try:
        got: list[tuple[bytes, bytes]] | None = decode_stateless(block, 1 << 16)
    except HeaderBlockError:
        got = None
    if expected is not None or b"\x7f" not in block:
        assert got == expected


@settings(max_examples=30, deadline=None)
@given(reset_first=st.booleans(), data=st.data())
def test_resets_at_any_moment_leave_nothing_behind(reset_first: bool, data: st.DataObject) -> None:
    client = RawClient().open((4, data.draw(st.sampled_from([0, 10, 65535]))))
    alive: list[int] = []
    for _ in range(20):
        if alive and data.draw(st.booleans()):
            client.send(frame(RST, 0, alive.pop(data.draw(st.integers(0, len(alive) - 1))), pack(">I", 8)))
        else:
            name = data.draw(st.sampled_from(["Hold", "Talk", "Echo", "Soon"]))
            alive.append(client.call(f"/toy.Toy/{name}", b"many500", end=data.draw(st.booleans())))
    for stream_id in alive:
        client.send(frame(RST, 0, stream_id, pack(">I", 8)))
    connection = client.connection
    assert not connection.streams and not connection.waiting and not connection.blocked
    assert connection.queued_bytes == connection.partial_bytes == 0
    assert client.goaway is None
