"""Clients that mean harm: each is stopped, and the others are served."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib
from struct import pack

import pytest

from balsad.transport import Limits, grpc_words, header_block
from tests.unit.transport.wire_kit import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    RST,
    SETTINGS,
    RawClient,
    Toy,
    frame,
    message,
    request_fields,
    settings,
    stateless_block,
    window_update,
)

CALM = 11


class Pair:
    """An attacker and a bystander on one server."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.toy = Toy(limits)
        self.attacker = RawClient(self.toy).open()
        self.bystander = RawClient(self.toy).open()

    def check(self, code: int = CALM) -> None:
        """The attacker has been told to go, the other still gets its answers."""
        assert self.attacker.sink.closed
        assert self.attacker.goaway is not None and self.attacker.goaway[1] == code
        assert self.bystander.ask("/toy.Toy/Echo", b"x").messages == [b"x"]
        assert self.bystander.ask("/toy.Toy/Soon", b"x").messages == [b"x"]


def test_rapid_reset() -> None:
    """CVE-2023-44487: calls opened and reset at once, for ever."""
    pair = Pair()
    attacker = pair.attacker
    for _ in range(10_000):
        stream_id = attacker.next_id
        attacker.send(attacker.call_bytes("/toy.Toy/Hold", b"") + frame(RST, 0, stream_id, pack(">I", 8)))
        if attacker.sink.over:
            break
    pair.check()
    assert len(pair.toy.held) < 5000
    attacker.connection.connection_lost(None)
    assert len(pair.toy.cancelled) == len(pair.toy.held)


def test_cancelling_now_and_then_is_no_attack() -> None:
    pair = Pair()
    for _ in range(10_000):
        stream_id = pair.bystander.call("/toy.Toy/Hold", b"")
        pair.bystander.connection.data_received(frame(RST, 0, stream_id, pack(">I", 8)))
        pair.toy.loop.clock += 0.01
        pair.bystander.sink.written.clear()
    assert not pair.bystander.sink.over


def test_a_thousand_calls_cancelled_at_once_is_no_attack() -> None:
    client = RawClient().open()
    ids = [client.call("/toy.Toy/Hold", b"") for _ in range(2000)]
    client.send(b"".join([frame(RST, 0, stream_id, pack(">I", 8)) for stream_id in ids]))
    assert client.goaway is None
    assert len(client.toy.cancelled) == 2000


def test_being_made_to_reset() -> None:
    """CVE-2025-8671: the client has the server reset its own calls."""
    pair = Pair()
    attacker = pair.attacker
    for _ in range(10_000):
        stream_id = attacker.next_id
        attacker.send(attacker.call_bytes("/toy.Toy/Hold", b"") + frame(DATA, 0, stream_id, b"more"))
        if attacker.sink.over:
            break
    pair.check()


@pytest.mark.parametrize("part", [b"", b"x" * 10, b"x" * 16384], ids=["empty", "small", "large"])
def test_continuation_flood(part: bytes) -> None:
    """CVE-2024-27316: a header block without an end."""
    pair = Pair()
    attacker = pair.attacker
    attacker.send(frame(HEADERS, 0, 1, b"\x82"))
    for _ in range(1000):
        attacker.send(frame(CONTINUATION, 0, 1, part))
        if attacker.sink.over:
            break
    pair.check()
    assert attacker.connection.block_bytes < 100_000


@pytest.mark.parametrize(
    "piece",
    [
        settings(),
        settings(*[(4, 1 << 20)] * 100),
        frame(2, 0, 1, b"\0\0\0\0\x10"),
        frame(0x42, 0, 0),
        frame(0x42, 0, 0, b"x" * 1000),
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, ACK, 0),
        frame(PING, ACK, 0, b"12345678"),
        frame(GOAWAY, 0, 0, bytes(8)),
    ],
    ids=[
        *("settings", "many settings", "priority", "unknown", "large unknown"),
        *("ping", "settings ack", "ping ack", "goaway"),
    ],
)
def test_floods_of_control_frames(piece: bytes) -> None:
    pair = Pair()
    for _ in range(200):
        pair.attacker.send(piece * 100)
        if pair.attacker.sink.over:
            break
    pair.check()


def test_a_flood_of_empty_data_frames() -> None:
    """CVE-2019-9518."""
    pair = Pair()
    stream_id = pair.attacker.call("/toy.Toy/Talk", b"x", end=False)
    for _ in range(200):
        pair.attacker.send(frame(DATA, 0, stream_id) * 100)
        if pair.attacker.sink.over:
            break
    pair.check()
    assert pair.toy.cancelled == []
    pair.attacker.connection.connection_lost(None)
    assert pair.toy.cancelled == [stream_id]


def test_padding_alone_is_empty_too() -> None:
    pair = Pair()
    stream_id = pair.attacker.call("/toy.Toy/Talk", b"x", end=False)
    for _ in range(200):
        pair.attacker.send(frame(DATA, PADDED, stream_id, b"\x02\0\0") * 100)
        if pair.attacker.sink.over:
            break
    pair.check()


@pytest.mark.parametrize("kind", [HEADERS, DATA])
def test_floods_on_streams_that_ended(kind: int) -> None:
    pair = Pair()
    attacker = pair.attacker
    stream_id = attacker.call("/toy.Toy/Echo", b"x")
    payload = attacker.block(request_fields("/toy.Toy/Echo")) if kind == HEADERS else b""
    for _ in range(200):
        attacker.send(frame(kind, END_HEADERS | END_STREAM, stream_id, payload) * 100)
        if attacker.sink.over:
            break
    pair.check()


def test_a_flood_of_requests_that_are_reset() -> None:
    pair = Pair()
    block = stateless_block(request_fields("/toy.Toy/Echo", content_type="text/plain"))
    for index in range(10_000):
        pair.attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, block))
        if pair.attacker.sink.over:
            break
    pair.check()


def test_floods_that_never_read_are_held_by_their_own_socket() -> None:
    """CVE-2019-9512, -9515: answers to pings and settings must not pile up."""
    toy = Toy(Limits(nuisance_burst=1 << 30))
    toy.server.turn_s = 1e9  # a slow machine would pause for the length of the turn
    client = RawClient(toy, sink_limit=10_000).open()
    client.send(settings() * 100_000)
    assert not client.sink.reading
    assert len(client.sink.written) < 100_000
    assert RawClient(toy).open().ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_a_header_list_that_is_too_large() -> None:
    pair = Pair()
    fields = request_fields("/toy.Toy/Echo", *[(f"x-{index}", "v") for index in range(2000)])
    block = pair.attacker.block(fields)
    pair.attacker.send(frame(HEADERS, 0, 1, block[:16384]))
    for pos in range(16384, len(block), 16384):
        pair.attacker.send(frame(CONTINUATION, END_HEADERS if pos + 16384 >= len(block) else 0, 1, block[pos:][:16384]))
    pair.check()


def test_a_header_list_of_very_many_fields() -> None:
    """Few bytes each on the wire, an object each with us."""
    pair = Pair()
    pair.attacker.call("/toy.Toy/Echo", b"x")
    pair.attacker.send(frame(HEADERS, END_HEADERS, 3, b"\x00\x01x\x00" * 4000))
    pair.check()


def test_header_blocks_that_are_always_new() -> None:
    """What is remembered of header blocks is bounded, in number and in size."""
    toy = Toy()
    client = RawClient(toy).open()
    client.ask("/toy.Toy/Echo", b"x")

    def ask(*extra: tuple[str, str], huffman: bool = True) -> None:
        block = stateless_block(request_fields("/toy.Toy/Echo", *extra), huffman)
        stream_id = client.next_id
        client.next_id += 2
        client.send(frame(HEADERS, END_HEADERS, stream_id, block) + frame(DATA, END_STREAM, stream_id, message(b"x")))
        client.sink.written.clear()

    for number in range(5000):
        ask(("x-trace", f"{number:032x}"))
    assert len(toy.server.header_cache) <= 1024
    assert len(header_block._HUFFMAN_SEEN) <= 4096
    for number in range(1100):
        ask(("x-trace", f"{number:032x}"), ("grpc-timeout", "5S"))
    assert len(toy.server.timed_header_cache) <= 1024
    for number in range(5000):
        ask(("grpc-timeout", f"{number + 100_000}m"), huffman=False)
    assert len(grpc_words._TIMEOUTS_SEEN) <= 4096
    known = set(toy.server.header_cache)
    for number in range(10):
        ask(("x-trace", "x" * 3000), ("x-number", str(number)))
    assert set(toy.server.header_cache) <= known
    assert client.goaway is None


def test_a_header_bomb_of_a_client_with_a_table() -> None:
    """One long entry in the table, referred to by one byte a time."""
    toy = Toy()
    client = RawClient(toy)
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    entry = b"\x40\x01x\x7f" + bytes([(3900 - 127) & 127 | 128, (3900 - 127) >> 7]) + b"v" * 3900
    client.send(frame(HEADERS, END_HEADERS, 1, entry + b"\xbe" * 10_000))
    assert client.goaway is not None and client.goaway[1] == CALM
    assert RawClient(toy).open().ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_a_header_bomb_of_static_entries() -> None:
    pair = Pair()
    pair.attacker.call("/toy.Toy/Echo", b"x")
    pair.attacker.send(frame(HEADERS, END_HEADERS, 3, b"\x90" * 10_000))
    pair.check()


def test_more_streams_than_allowed_are_refused() -> None:
    pair = Pair(Limits(streams_max=10))
    attacker = pair.attacker
    ids = [attacker.call("/toy.Toy/Hold", b"") for _ in range(15)]
    ids += [attacker.call("/toy.Toy/Talk", b"x", end=False) for _ in range(5)]
    assert [attacker.answers[stream_id].reset for stream_id in ids[10:]] == [7] * 10
    assert len(pair.toy.held) == 10
    assert not pair.toy.talks
    pair.toy.held[0].respond(b"")
    pair.toy.loop.turn()
    attacker.call("/toy.Toy/Hold", b"")
    assert len(pair.toy.held) == 11
    assert attacker.goaway is None


def test_idle_streams_without_end() -> None:
    pair = Pair(Limits(streams_hard_max=1000))
    block = stateless_block(request_fields("/toy.Toy/Hold"))
    for index in range(20_000):
        pair.attacker.send(frame(HEADERS, END_HEADERS, 2 * index + 1, block))
        if pair.attacker.sink.over:
            break
    assert len(pair.attacker.connection.streams) <= 1000
    pair.check()


def test_many_messages_begun_and_not_ended() -> None:
    pair = Pair(Limits(partial_bytes_max=1_000_000))
    attacker = pair.attacker
    for _ in range(100):
        stream_id = attacker.next_id
        attacker.next_id += 2
        attacker.send(frame(HEADERS, END_HEADERS, stream_id, attacker.block(request_fields("/toy.Toy/Hold"))))
        attacker.send(frame(DATA, 0, stream_id, pack(">BI", 0, 2_000_000) + b"x" * 16_000))
        if attacker.sink.over:
            break
    pair.check()


@pytest.mark.parametrize("method", ["Hold", "Talk"])
def test_a_message_that_says_it_is_huge_is_refused_at_once(method: str) -> None:
    """Its length comes first: nothing of it need be awaited, let alone kept."""
    pair = Pair()
    attacker = pair.attacker
    limit = 2 << 20
    for length in (limit + 1, 0xFFFFFFFF):
        stream_id = attacker.next_id
        attacker.next_id += 2
        block = attacker.block(request_fields(f"/toy.Toy/{method}"))
        attacker.send(frame(HEADERS, END_HEADERS, stream_id, block))
        attacker.send(frame(DATA, 0, stream_id, pack(">BI", 0, length)))
        answer = attacker.answers[stream_id]
        assert answer.status == 8
        assert answer.text == f"grpc: received message larger than max ({length} vs. {limit})"
        assert stream_id not in attacker.connection.streams
    assert attacker.connection.partial_bytes == 0
    assert not pair.toy.held
    assert pair.bystander.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_a_message_in_many_pieces_costs_what_it_holds() -> None:
    client = RawClient().open()
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(request_fields("/toy.Toy/Hold"))))
    client.send(frame(DATA, 0, 1, pack(">BI", 0, 1_000_000)))
    pieces = frame(DATA, 0, 1, b"xy") * 100
    tracemalloc.start()
    try:
        for _ in range(500):
            client.connection.data_received(pieces)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert client.connection.partial_bytes == 100_005
    assert held < 500_000


def test_a_gzip_bomb() -> None:
    """A megabyte that unfolds to a gigabyte: no more of it is unfolded than a message may have."""
    pair = Pair()
    attacker = pair.attacker
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join([stream.compress(bytes(1 << 20)) for _ in range(256)]) + stream.flush()
    stream_id = attacker.next_id
    tracemalloc.start()
    try:
        data = message(bomb, 1)
        block = attacker.block(request_fields("/toy.Toy/Echo", ("grpc-encoding", "gzip")))
        out = frame(HEADERS, END_HEADERS, stream_id, block)
        for pos in range(0, len(data), 16384):
            out += frame(DATA, END_STREAM if pos + 16384 >= len(data) else 0, stream_id, data[pos : pos + 16384])
        attacker.send(out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    answer = attacker.answers[stream_id]
    assert answer.status == 8
    assert answer.text.startswith("grpc: received message larger than max (")
    assert peak < 20 << 20
    assert pair.bystander.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_window_updates_of_one_byte_send_one_byte() -> None:
    """A miser's windows cost the miser: the work per frame stays what it is."""
    pair = Pair()
    client = RawClient(pair.toy).open((4, 0))
    ids = [client.call("/toy.Toy/Echo", b"many100") for _ in range(300)]
    for stream_id in ids:
        client.send(window_update(stream_id, 1))
    assert len(client.connection.blocked) == 300
    assert not client.connection.waiting
    assert pair.bystander.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_settings_that_move_many_windows_cost_more() -> None:
    pair = Pair()
    client = RawClient(pair.toy).open((4, 0))
    for _ in range(3000):
        client.call("/toy.Toy/Echo", b"many100")
        client.sink.written.clear()
    for index in range(300):
        client.send(settings((4, index % 2)))
        if client.sink.over:
            break
    assert client.sink.closed


def test_an_attacker_regains_trust_only_slowly() -> None:
    client = RawClient(Toy(Limits(nuisance_burst=100, nuisance_per_s=10))).open()
    client.send(settings() * 90)
    client.toy.loop.advance(1)
    client.send(settings() * 15)
    assert client.goaway is None
    client.send(settings() * 20)
    assert client.goaway is not None and client.goaway[1] == CALM


def test_messages_without_end_on_one_stream_are_read_one_by_one() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Talk", b"x", end=False)
    for _ in range(300):
        client.send(frame(DATA, 0, stream_id, message(b"") * 3000))
        client.sink.written.clear()
    assert client.connection.partial_bytes == 0
    assert client.goaway is None


def test_costly_requests_take_turns_with_those_of_others() -> None:
    """Whoever asks for much in one read is served on in the next turn, and not read from meanwhile."""
    toy = Toy()
    took = [0.0]
    answered: list[bytes] = []
    toy.server.stopwatch = lambda: took[0]

    def costly(headers: object, body: bytes) -> bytes:
        took[0] += 0.004
        answered.append(body)
        return body

    toy.server.unary("/toy.Toy/Costly", toy.never, costly)
    client = RawClient(toy).open()
    client.ask("/toy.Toy/Costly", b"x")
    calls = b"".join([client.call_bytes("/toy.Toy/Costly", b"%d" % number) for number in range(100)])
    client.connection.data_received(calls)
    turns = [len(answered)]
    assert not client.sink.reading
    client.connection.pause_writing()
    client.connection.resume_writing()
    assert len(answered) == turns[0]
    while toy.loop.soon:
        toy.loop.soon.pop(0)()
        turns.append(len(answered))
    assert turns[-1] == 101
    assert client.sink.reading
    assert max([after - before for before, after in itertools.pairwise([1, *turns])]) <= 8
    assert [answer.ended for answer in client.answers.values()] == [True] * 101


def _costly(toy: Toy, took: list[float], seconds: float) -> None:
    toy.server.stopwatch = lambda: took[0]

    def costly(headers: object, body: bytes) -> bytes:
        took[0] += seconds
        return body

    toy.server.unary("/toy.Toy/Costly", toy.never, costly)


def test_costly_reads_take_turns_too() -> None:
    """An event loop reads many times in a row from who sends much: after a costly read it has to look at others."""
    toy = Toy()
    _costly(toy, [0.0], 0.003)
    client = RawClient(toy).open()
    client.ask("/toy.Toy/Costly", b"x")
    toy.loop.turn()
    assert client.sink.reading
    for number in range(5):
        client.connection.data_received(client.call_bytes("/toy.Toy/Costly", b"%d" % number))
        assert not client.sink.reading
        toy.loop.turn()
        assert client.sink.reading
    assert [answer.ended for answer in client.answers.values()] == [True] * 6
    assert toy.server.taking_turns == 0


def test_many_that_want_much_have_shorter_turns() -> None:
    """With hundreds of them everybody else would wait for hundreds of whole turns."""
    toy = Toy()
    took = [0.0]
    _costly(toy, took, 0.001)
    clients = [RawClient(toy).open() for _ in range(50)]
    for client in clients:
        client.connection.data_received(b"".join([client.call_bytes("/toy.Toy/Costly", b"x") for _ in range(100)]))
    before = took[0]
    for go_on in [toy.loop.soon.pop(0) for _ in clients]:
        go_on()
    assert took[0] - before < 50 * 0.004
    toy.loop.turn()
    assert took[0] == pytest.approx(50 * 100 * 0.001)
    assert toy.server.taking_turns == 0


def test_a_client_that_leaves_while_its_requests_wait_is_forgotten() -> None:
    toy = Toy()
    took = [0.0]

    def tick() -> float:
        took[0] += 1.0
        return took[0]

    toy.server.stopwatch = tick
    client = RawClient(toy).open()
    client.connection.data_received(b"".join([client.call_bytes("/toy.Toy/Hold", b"x") for _ in range(100)]))
    held = len(toy.held)
    assert held < 100
    client.connection.connection_lost(None)
    toy.loop.turn()
    assert len(toy.held) == held
    assert len(toy.cancelled) == held


def test_all_together_hold_no_more_than_they_may() -> None:
    """Many that are within their own bounds: those that hold most have to go."""
    toy = Toy(Limits(held_bytes_max=1_000_000))
    modest = RawClient(toy).open((4, 0))
    modest.call("/toy.Toy/Echo", b"many50000")
    crowd = [RawClient(toy).open((4, 0)) for _ in range(30)]
    for client in crowd:
        client.call("/toy.Toy/Echo", b"many90000")
        assert toy.server.held_bytes <= 1_000_000 + 90_005
    for client in crowd[:15]:
        client.send(frame(HEADERS, END_HEADERS, 99, client.block(request_fields("/toy.Toy/Hold"))))
        for _ in range(10):
            client.send(frame(DATA, 0, 99, (pack(">BI", 0, 2_000_000) + bytes(16_000))[:16_000]))
        assert toy.server.held_bytes <= 1_000_000 + 90_005
    assert any(client.sink.aborted for client in crowd)
    assert not modest.sink.over
    modest.send(settings((4, 1 << 20)))
    assert len(modest.answers[1].messages[0]) == 50_000
    for client in [modest, *crowd]:
        client.connection.connection_lost(None)
    assert toy.server.held_bytes == 0


def test_in_a_crowd_nobody_is_behind_with_much() -> None:
    """Who has the rest elsewhere, as a watcher has, is asked to keep it there; who has read all is always told."""
    toy = Toy(Limits(crowd_bytes=300_000))
    reader = RawClient(toy).open((4, (1 << 31) - 1))
    reader.call("/toy.Toy/Talk", b"hi", end=False)
    behind = [RawClient(toy).open((4, 0)) for _ in range(4)]
    talks = []
    for client in behind:
        client.call("/toy.Toy/Talk", b"many100000", end=False)
        talks.append(toy.talks[-1].call)
        if not toy.server.is_crowded:
            assert talks[0].has_room(1 << 20)
    assert toy.server.is_crowded
    assert not any(call.has_room(1 << 20) for call in talks)
    assert toy.talks[0].call.has_room(1 << 20)
    told: list[int] = []
    talks[0].on_writable = lambda: told.append(talks[0].pending_bytes)
    behind[0].send(settings((4, 40_000)))
    assert talks[0].has_room(1 << 20)
    assert told == [talks[0].pending_bytes]


def test_each_who_takes_a_piece_of_the_past_leaves_the_next_one_a_smaller_one() -> None:
    """However many they are, all together stay within what is meant for them; who reads is never left without."""
    toy = Toy(Limits(crowd_bytes=3_000_000, behind_bytes=256 * 100_000))
    rooms = []
    for _ in range(40):
        client = RawClient(toy).open((4, 0))
        client.call("/toy.Toy/Talk", b"hi", end=False)
        call = toy.talks[-1].call
        rooms.append(call.room(1 << 20))
        call.send(bytes(rooms[-1]))
        assert call.room(1 << 20) == (0 if toy.server.is_crowded else 25_600_000 - toy.server.held_bytes >> 8)
        assert call.room(1000) == 0
    assert rooms[0] >= 99_990
    assert rooms == sorted(rooms, reverse=True)
    assert toy.server.is_crowded
    for _ in range(260):
        client = RawClient(toy).open((4, 0))
        client.call("/toy.Toy/Talk", b"hi", end=False)
        toy.talks[-1].call.send(bytes(100_000))
    reader = RawClient(toy).open((4, (1 << 31) - 1))
    reader.call("/toy.Toy/Talk", b"hi", end=False)
    assert toy.talks[-1].call.room(1 << 20) == 8192


@pytest.mark.parametrize("size", [100, 16_384, 16_385, 100_000])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_what_many_are_told_is_not_copied_for_each_who_does_not_read_it(size: int, encoding: str) -> None:
    toy = Toy()
    shared = bytes(range(256)) * (size // 256) + bytes(size % 256)
    clients = [RawClient(toy).open((4, 0)) for _ in range(3)]
    for client in clients:
        client.call("/toy.Toy/Talk", b"hi", end=False, extra=(("grpc-encoding", encoding),))
        toy.talks[-1].call.send_shared(b"head", shared)
    if size > 16_384 and encoding == "identity":
        for talk in toy.talks:
            pending = talk.call.pending
            assert pending is not None
            assert any(isinstance(piece, memoryview) and piece.obj is shared for piece in pending)
    for client in clients:
        client.send(window_update(0, 1 << 20) + settings((4, 1 << 20)))
        told = b"head" + shared
        expected = message(grpc_words.gzip(told), 1) if encoding == "gzip" else message(told)
        assert client.answers[1].data.endswith(expected)


def test_a_full_socket_stops_a_read_before_much_is_queued() -> None:
    """A client that asks for large answers and takes none is told to wait after a few of them."""
    toy = Toy()
    # However slow this machine is: it is not the time that stops the read.
    toy.server.stopwatch = lambda: 0.0
    client = RawClient(toy, sink_limit=1 << 20).open((4, (1 << 31) - 1))
    client.send(window_update(0, (1 << 31) - 1 - 65535))
    client.ask("/toy.Toy/Echo", b"x")
    client.connection.data_received(b"".join([client.call_bytes("/toy.Toy/Echo", b"many1000000") for _ in range(200)]))
    assert not client.sink.reading
    assert client.connection.queued_bytes < 8 << 20
    for _ in range(2000):
        client.sink.written.clear()
        client.sink.client_reads()
        client.toy.loop.turn()
    assert not client.connection.streams
    assert client.toy.server.held_bytes == 0
