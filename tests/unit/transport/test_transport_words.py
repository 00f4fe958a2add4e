"""Header blocks, grpc words and timers on their own."""

from __future__ import annotations

import hpack
import pytest

from balsad.transport import grpc_words as words
from balsad.transport.header_block import (
    HeaderBlockError,
    HeaderListTooLargeError,
    decode_stateless,
    encode,
    find_timeout,
    is_timeout_field,
    literal,
    status_field,
)
from balsad.transport.timers import Timers
from tests.unit.transport.wire_kit import stateless_block


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"5S", 5.0),
        (b"100m", 0.1),
        (b"4999974u", 4.999974),
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"99999999n", 0.099999999),
        (b"0m", 0.0),
        (b"-5S", 0.0),
        (b"+5S", 5.0),
        (b"5x", None),
        (b"S", None),
        (b"", None),
        (b"123456789S", None),
        (b"5 S", None),
        (b"1_0S", None),
        (b"--5S", None),
    ],
)
def test_timeouts(value: bytes, seconds: float | None) -> None:
    """Source: grpc-go decodeTimeout."""
    assert words.parse_timeout(value) == (None if seconds is None else pytest.approx(seconds))
    coded = hpack.Encoder().huffman_coder.encode(value)
    for string in (bytes((len(value),)) + value, bytes((len(coded) | 128,)) + coded):
        for _ in range(2):
            assert words.read_timeout(string) == (-1.0 if seconds is None else pytest.approx(seconds))


def test_a_timeout_that_is_not_huffman_code() -> None:
    assert words.read_timeout(b"\x84\x00\x00\x00\x00") == -1.0


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("etcdserver: key not found", b"etcdserver: key not found"),
        ("100%", b"100%25"),
        ("a\nb\x7f", b"a%0Ab%7F"),
        ("é漢", b"%C3%A9%E6%BC%A2"),
        ("", b""),
        ("plain123", b"plain123"),
        ("é", b"%C3%A9"),
        ("\udc80", b"%EF%BF%BD"),
    ],
)
def test_percent_encoding(text: str, sent: bytes) -> None:
    """Source: grpc-go encodeGrpcMessage."""
    assert words.percent_encode(text) == sent


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (b"AP8B", b"\x00\xff\x01"),
        (b"AP8=", b"\x00\xff"),
        (b"AP8", b"\x00\xff"),
        (b"", b""),
        (b"***", None),
        (b"A", None),
    ],
)
def test_binary_metadata(sent: bytes, value: bytes | None) -> None:
    assert words.decode_binary(sent) == value


@pytest.mark.parametrize("huffman", [False, True])
def test_a_stateless_block_decodes_to_what_was_sent(huffman: bool) -> None:
    fields = [(":method", "POST"), (":path", "/a/b"), ("te", "trailers"), ("x-long", "v" * 3000), ("x-empty", "")]
    block = stateless_block(fields, huffman)
    assert decode_stateless(block, 1 << 16) == [(name.encode(), value.encode()) for name, value in fields]


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16384, 100_000])
def test_literals_of_all_lengths(size: int) -> None:
    fields = [(b"name", b"v" * size), (b"n" * max(size, 1), b"x")]
    assert hpack.Decoder(max_header_list_size=1 << 20).decode(encode(fields), raw=True) == fields
    assert decode_stateless(encode(fields), 1 << 20) == fields
    assert hpack.Decoder().decode(status_field(200) + status_field(404)) == [(":status", "200"), (":status", "404")]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff\x80\x80\x80\x80\x80\x01",
        b"\xff",
        b"\x40",
        b"\x40\x01",
        b"\x40\x05ab",
        b"\x7e\x01a",
        b"\x00\x81\x00\x01a",
        b"\x21",
        b"\x82\x20",
        b"\x0f",
    ],
)
def test_broken_blocks(block: bytes) -> None:
    with pytest.raises(HeaderBlockError):
        decode_stateless(block, 1 << 16)


def test_an_integer_without_end_is_given_up_soon() -> None:
    with pytest.raises(HeaderBlockError, match="an integer that is too large"):
        decode_stateless(b"\x7f" + b"\xff" * 50_000, 1 << 16)


def test_a_list_that_is_too_large() -> None:
    with pytest.raises(HeaderListTooLargeError):
        decode_stateless(b"\x82" * 1000, 10_000)


def test_where_a_timeout_stands() -> None:
    for huffman in (False, True):
        block = stateless_block([(":path", "/a"), ("grpc-timeout", "5S"), ("x", "y")], huffman)
        pos = find_timeout(block)
        length = block[pos] & 127
        assert is_timeout_field(block, pos, 1 << 16)
        assert words.read_timeout(block[pos : pos + 1 + length]) == 5.0
    assert find_timeout(stateless_block([(":path", "/a")])) == -1
    hidden = literal(b"x", b"y\x0cgrpc-timeout\x025S")
    assert not is_timeout_field(hidden, find_timeout(hidden), 1 << 16)


class Alarm:
    def __init__(self, fired: list[str], name: str) -> None:
        self.fired = fired
        self.name = name

    def on_timer(self) -> None:
        self.fired.append(self.name)


def test_timers_fire_once_in_time_and_never_early() -> None:
    timers = Timers()
    fired: list[str] = []
    a, b, c, d = (Alarm(fired, name) for name in "abcd")
    timers.add(a, 100.0, 0.012)
    tick = timers.add(b, 100.0, 0.013)
    timers.add(c, 100.0, 5.0)
    timers.add(d, 100.0, 0.0)
    timers.remove(b, tick)
    timers.remove(b, tick)
    timers.run(100.0)
    assert fired == []
    assert timers.next_due() == pytest.approx(100.01)
    timers.run(100.01)
    assert fired == ["d"]
    timers.run(100.02)
    assert fired == ["d", "a"]
    assert timers.next_due() == pytest.approx(105.01)
    timers.run(106.0)
    assert fired == ["d", "a", "c"]
    assert timers.next_due() is None


def test_buckets_that_became_empty_are_forgotten() -> None:
    timers = Timers()
    alarm = Alarm([], "a")
    for index in range(100):
        timers.remove(alarm, timers.add(alarm, 0.0, index / 10))
    assert timers.next_due() is None
    assert not timers._buckets


def test_a_timer_may_set_and_unset_others_as_it_fires() -> None:
    timers = Timers()
    fired: list[str] = []
    quiet = Alarm(fired, "quiet")
    tick = timers.add(quiet, 0.0, 0.005)

    class Chain(Alarm):
        def on_timer(self) -> None:
            super().on_timer()
            timers.remove(quiet, tick)
            timers.add(Alarm(fired, "next"), 0.01, 0.0)

    timers.add(Chain(fired, "chain"), 0.0, 0.005)
    timers.run(0.01)
    assert fired == ["chain"]
    timers.run(0.02)
    assert fired == ["chain", "next"]


def test_a_timer_that_raises_does_not_take_the_others_along() -> None:
    timers = Timers()
    fired: list[str] = []

    class Broken(Alarm):
        def on_timer(self) -> None:
            raise RuntimeError("broken")

    timers.add(Alarm(fired, "a"), 0.0, 0.0)
    timers.add(Broken(fired, "b"), 0.0, 0.0)
    with pytest.raises(RuntimeError):
        timers.run(1.0)
    assert timers.next_due() == pytest.approx(0.01)
    timers.run(1.0)
    assert fired == ["a"]
