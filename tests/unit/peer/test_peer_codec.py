"""The frames of both streams: against bytes that etcd 3.5.1 members sent each other, and split anywhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.peer.codec import (
    ENTRIES_MAX,
    FRAME_BYTES_MAX,
    MESSAGE_STREAM_BEAT,
    AppDecoder,
    AppEncoder,
    EncodedEntries,
    FrameError,
    MessageDecoder,
    MessageEncoder,
    frame_message,
    is_link_heartbeat,
)
from balsad.raft import Entry, Message, MessageType
from balsad.raft.codec import decode_entry, encode_entry, encode_message
from balsad.wire import WireError

RECORDED = Path(__file__).parent / "recorded"
LEADER, FOLLOWER = 0xAC06284A9F29D10C, 0x357B571546E31DB8


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.bin").read_bytes()


def as_bytes(messages: list[Message]) -> list[bytes]:
    return [encode_message(message) for message in messages]


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def feed_all(decoder: AppDecoder | MessageDecoder, pieces: list[bytes]) -> list[Message]:
    return [message for piece in pieces for message in decoder.feed(piece)]


def without(data: bytes, beat: bytes, frames: list[bytes]) -> bool:
    """Whether `data` is these frames with any number of heartbeats between them."""
    pos = 0
    for frame in [*frames, b""]:
        while data.startswith(beat, pos) and not (frame and data.startswith(frame, pos)):
            pos += len(beat)
        if not data.startswith(frame, pos):
            return False
        pos += len(frame)
    return pos == len(data)


@pytest.mark.parametrize("name", ["follower_message", "leader_message"])
def test_recorded_message_stream_reads_and_writes_the_same(name: str) -> None:
    """etcd 3.5.1's own bytes: decoded and encoded again nothing is lost but link heartbeats."""
    data = recorded(name)

    messages = MessageDecoder().feed(data)

    kinds = {message.type for message in messages}
    assert MessageType.HEARTBEAT_RESP in kinds or MessageType.HEARTBEAT in kinds
    assert without(data, MESSAGE_STREAM_BEAT, [MessageEncoder().encode(message) for message in messages])


def test_recorded_msgapp_stream_reads_and_writes_the_same() -> None:
    data = recorded("leader_msgapp")

    messages = AppDecoder(FOLLOWER, LEADER).feed(data)

    assert {(message.type, message.from_, message.to) for message in messages} == {(MessageType.APP, LEADER, FOLLOWER)}
    entries = [entry for message in messages for entry in message.entries]
    assert [entry.index for entry in entries] == list(range(entries[0].index, entries[0].index + len(entries)))
    assert sum(b"v" * 19 in entry.data for entry in entries) == 1
    encoder = AppEncoder(EncodedEntries())
    assert without(data, AppEncoder.beat, [encoder.encode(message) for message in messages])


@given(cuts=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_recorded_streams_read_the_same_in_any_pieces(cuts: list[int]) -> None:
    for name in ("follower_message", "leader_message"):
        data = recorded(name)
        assert as_bytes(feed_all(MessageDecoder(), in_pieces(data, cuts))) == as_bytes(MessageDecoder().feed(data))
    data = recorded("leader_msgapp")
    whole = AppDecoder(FOLLOWER, LEADER).feed(data)
    assert as_bytes(feed_all(AppDecoder(FOLLOWER, LEADER), in_pieces(data, cuts))) == as_bytes(whole)


def test_recorded_streams_read_the_same_byte_by_byte() -> None:
    data = recorded("leader_msgapp")
    pieces = [data[at : at + 1] for at in range(len(data))]
    whole = AppDecoder(FOLLOWER, LEADER).feed(data)
    assert as_bytes(feed_all(AppDecoder(FOLLOWER, LEADER), pieces)) == as_bytes(whole)


# What a leader does to one follower: appends that follow on each other, probes elsewhere, new terms.
appends = st.lists(
    st.tuples(st.sampled_from(["next", "probe", "term"]), st.lists(st.binary(max_size=40), max_size=4)), max_size=12
)


def run_of(steps: list[tuple[str, list[bytes]]]) -> list[Message]:
    term, log_term, index = 1, 1, 5
    messages = []
    for kind, payloads in steps:
        if kind == "term":
            term += 1
        elif kind == "probe":
            index, log_term = max(1, index - 3), max(1, term - 1)
        entries = [Entry(0, term, index + 1 + at, data) for at, data in enumerate(payloads)]
        messages.append(
            Message(
                MessageType.APP, to=2, from_=1, term=term, log_term=log_term, index=index, entries=entries, commit=index
            )
        )
        if entries:
            index, log_term = entries[-1].index, term
    return messages


@given(steps=appends, cuts=st.lists(st.integers(0, 1 << 12), max_size=8))
def test_appends_come_through_as_they_were(steps: list[tuple[str, list[bytes]]], cuts: list[int]) -> None:
    messages = run_of(steps)
    encoder = AppEncoder(EncodedEntries())
    data = b"\x00".join([b"", *(encoder.encode(message) for message in messages), b""])

    received = feed_all(AppDecoder(2, 1), in_pieces(data, cuts))

    assert as_bytes(received) == as_bytes(messages)


def test_an_append_that_follows_travels_short() -> None:
    first, second = run_of([("next", [b"a"]), ("next", [b"b", b""])])
    encoder = AppEncoder(EncodedEntries())

    assert encoder.encode(first)[0] == 2
    frame = encoder.encode(second)

    entry_b, entry_empty = b"\x08\x00\x10\x01\x18\x07\x22\x01b", b"\x08\x00\x10\x01\x18\x08"
    assert frame == (
        b"\x01"
        + (2).to_bytes(8, "big")
        + len(entry_b).to_bytes(8, "big")
        + entry_b
        + len(entry_empty).to_bytes(8, "big")
        + entry_empty
        + (6).to_bytes(8, "big")
    )


def test_two_followers_share_encoded_entries_but_not_where_they_are() -> None:
    """The memory of what was encoded last never mixes up runs of entries."""
    shared = EncodedEntries()
    one, other = AppEncoder(shared), AppEncoder(shared)
    first, second = run_of([("next", [b"a"]), ("next", [b"b"])])
    third = run_of([("next", [b"a"]), ("next", [b"b"]), ("next", [b"c"])])[2]

    frames_one = [one.encode(first), one.encode(second)]
    frames_other = [other.encode(first), other.encode(second), other.encode(third)]
    frames_one.append(one.encode(third))

    assert frames_one == frames_other
    assert as_bytes(AppDecoder(2, 1).feed(b"".join(frames_one))) == as_bytes([first, second, third])


messages = st.builds(
    Message,
    st.integers(0, 18),
    to=st.integers(0, (1 << 64) - 1),
    from_=st.integers(1, (1 << 64) - 1),
    term=st.integers(0, (1 << 64) - 1),
    index=st.integers(0, (1 << 64) - 1),
    commit=st.integers(0, (1 << 64) - 1),
    reject=st.booleans(),
    context=st.binary(max_size=20),
)


@given(sent=st.lists(messages, max_size=6), cuts=st.lists(st.integers(0, 1 << 12), max_size=8))
def test_messages_come_through_as_they_were(sent: list[Message], cuts: list[int]) -> None:
    data = MESSAGE_STREAM_BEAT.join([b"", *(MessageEncoder().encode(message) for message in sent), b""])
    assert as_bytes(feed_all(MessageDecoder(), in_pieces(data, cuts))) == as_bytes(sent)


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_nonsense_is_refused_or_waited_for(data: bytes, cuts: list[int]) -> None:
    """Whatever comes, a decoder either gives messages or says FrameError, and holds no more than it was given."""
    for decoder in (MessageDecoder(), AppDecoder(1, 2)):
        try:
            feed_all(decoder, in_pieces(data, cuts))
        except FrameError:
            continue
        assert decoder.pending_bytes <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        (FRAME_BYTES_MAX + 1).to_bytes(8, "big"),
        b"\xff" * 8,
        (5).to_bytes(8, "big") + b"\x3a\xff\xff\xff\x0f",  # an entry longer than the message
        (2).to_bytes(8, "big") + b"\x07\x00",  # no such wire type
    ],
)
def test_message_stream_refuses(data: bytes) -> None:
    with pytest.raises(FrameError):
        MessageDecoder().feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x03",
        b"\x02" + (FRAME_BYTES_MAX + 1).to_bytes(8, "big"),
        b"\x01" + (ENTRIES_MAX + 1).to_bytes(8, "big"),
        b"\x01" + (1).to_bytes(8, "big") + (FRAME_BYTES_MAX + 1).to_bytes(8, "big"),
        b"\x01" + (1).to_bytes(8, "big") + (1).to_bytes(8, "big") + b"\xff",
    ],
)
def test_msgapp_stream_refuses(data: bytes) -> None:
    """Lengths nobody means, types nobody knows, entries that are none; no memory is set aside for any of them."""
    with pytest.raises(FrameError):
        AppDecoder(1, 2).feed(data)


def test_entries_of_one_frame_together_stay_under_the_limit() -> None:
    entry = b"\x08\x00\x10\x01\x18\x07\x22\x32" + bytes(50)
    decoder = AppDecoder(1, 2, frame_bytes_max=200)
    frame = len(entry).to_bytes(8, "big") + entry
    decoder.feed(b"\x01" + (100).to_bytes(8, "big") + frame * 2)
    with pytest.raises(FrameError, match="limit exceeded"):
        decoder.feed(frame * 2)


def test_messages_in_messages_in_messages_are_refused() -> None:
    """Depth costs Python's stack; a peer that nests without end must not end the member."""
    message = b""
    for _ in range(3000):
        size = len(message)
        length = bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14))
        message = b"\x72" + length + message
    with pytest.raises(FrameError):
        MessageDecoder().feed(len(message).to_bytes(8, "big") + message)


def test_a_large_frame_in_many_pieces_is_not_copied_each_time() -> None:
    """The decoder joins once: what waits is kept in pieces as it came."""
    message = Message(MessageType.APP, to=1, from_=2, term=1, entries=[Entry(0, 1, 1, bytes(4 << 20))])
    data = frame_message(message)
    decoder = MessageDecoder()
    step = 1 << 16
    received = feed_all(decoder, [data[at : at + step] for at in range(0, len(data), step)])
    assert as_bytes(received) == as_bytes([message])
    assert decoder.pending_bytes == 0


def test_link_heartbeats_are_those_without_sender_and_target() -> None:
    assert is_link_heartbeat(Message(MessageType.HEARTBEAT))
    assert not is_link_heartbeat(Message(MessageType.HEARTBEAT, to=1, from_=2))
    assert not is_link_heartbeat(Message(MessageType.APP))


SIZES = (0, 1, 100, 127, 128, 129, 16383, 16384, 16385)


@pytest.mark.parametrize("first", [1, 126, 16380, 2**21 - 3, 2**28 - 3, 2**42 - 3])
def test_entries_are_written_as_one_by_one_and_read_back(first: int) -> None:
    entries = [Entry(0, 3, first + at, bytes(size)) for at, size in enumerate(SIZES)]
    entries += [
        Entry(1, 3, first + len(SIZES), b"change"),
        Entry(0, 300, first + len(SIZES) + 1, b"later"),
        Entry(0, 300, first + len(SIZES) + 2, b""),
    ]
    encoded = [encode_entry(entry) for entry in entries]
    body = len(entries).to_bytes(8, "big") + b"".join([len(one).to_bytes(8, "big") + one for one in encoded])
    assert EncodedEntries().of(entries) == body
    decoder = AppDecoder(FOLLOWER, LEADER)
    decoder.feed(AppEncoder(EncodedEntries()).encode(Message(MessageType.APP, term=3, index=first - 1, log_term=2)))
    (message,) = decoder.feed(b"\x01" + body + (7).to_bytes(8, "big"))
    assert message.entries == entries
    assert (message.index, message.commit) == (first - 1, 7)


@given(
    first=st.sampled_from([1, 16380, 70_000, 2**40]),
    sizes=st.lists(st.sampled_from(SIZES[:6]), min_size=1, max_size=4),
    at=st.integers(0, 400),
    put_there=st.binary(max_size=3),
)
def test_an_entry_that_looks_otherwise_is_read_as_it_stands(
    first: int, sizes: list[int], at: int, put_there: bytes
) -> None:
    """Whatever bytes stand where the next place in the log was expected mean what they mean alone."""
    encoded = [bytearray(encode_entry(Entry(0, 3, first + n, bytes(size)))) for n, size in enumerate(sizes)]
    broken = encoded[at % len(encoded)]
    broken[at % len(broken) : at % len(broken) + len(put_there)] = put_there
    expected: list[Entry] | None
    try:
        expected = [decode_entry(bytes(one)) for one in encoded]
    except WireError:
        expected = None
    decoder = AppDecoder(FOLLOWER, LEADER)
    decoder.feed(AppEncoder(EncodedEntries()).encode(Message(MessageType.APP, term=3, index=first - 1, log_term=2)))
    body = b"".join([len(one).to_bytes(8, "big") + one for one in encoded])
    frame = b"\x01" + len(encoded).to_bytes(8, "big") + body + bytes(8)
    if expected is None:
        with pytest.raises(FrameError):
            decoder.feed(frame)
    else:
        (message,) = decoder.feed(frame)
        assert message.entries == expected
