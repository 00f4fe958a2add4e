"""Clients that mean harm: each is stopped, and the others are served."""

from __future__ import annotations

from struct import pack

import pytest

from balsad.transport import Limits
from tests.unit.transport.wire_kit import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST,
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


@pytest.mark.parametrize("part", [b"", b"x" * 10, b"x" * 16384])
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
    ],
    ids=["settings", "many settings", "priority", "unknown", "large unknown", "ping"],
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
