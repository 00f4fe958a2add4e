"""Flow control both ways, and what a full socket does."""

from __future__ import annotations

import random
from struct import pack, unpack

import pytest

from balsad.transport import Limits
from tests.unit.transport.wire_kit import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST,
    WINDOW,
    RawClient,
    Toy,
    frame,
    message,
    request_fields,
    settings,
    window_update,
)


def data_sent(client: RawClient, stream_id: int) -> int:
    return sum(len(got.payload) for got in client.frames if got.kind == DATA and got.stream_id == stream_id)


@pytest.mark.parametrize("path", ["/toy.Toy/Echo", "/toy.Toy/Talk"])
def test_an_answer_waits_for_the_stream_window(path: str) -> None:
    client = RawClient().open((4, 10))
    stream_id = client.call(path, b"many100")
    assert data_sent(client, stream_id) == 10
    client.send(window_update(stream_id, 1))
    assert data_sent(client, stream_id) == 11
    client.send(window_update(0, 1000))
    assert data_sent(client, stream_id) == 11
    client.send(window_update(stream_id, 1000))
    answer = client.answers[stream_id]
    assert answer.messages == [b"m" * 100]
    assert answer.ended
    assert client.connection.queued_bytes == 0


def test_answers_wait_for_the_connection_window_and_share_it() -> None:
    client = RawClient().open((4, 1 << 24))
    ids = [client.call("/toy.Toy/Echo", b"many60000") for _ in range(4)]
    assert sum(data_sent(client, stream_id) for stream_id in ids) == 65535
    client.send(window_update(0, 3 * 65536))
    assert all(data_sent(client, stream_id) > 50_000 for stream_id in ids[:3])
    client.send(window_update(0, 1 << 20))
    assert all(client.answers[stream_id].messages == [b"m" * 60000] for stream_id in ids)
    assert not client.connection.waiting and not client.connection.blocked


def test_frames_are_never_larger_than_16_kib() -> None:
    client = RawClient().open((4, 1 << 24), (5, 1 << 20))
    client.send(window_update(0, 1 << 24))
    client.call("/toy.Toy/Echo", b"many1000000")
    assert max(len(got.payload) for got in client.frames) == 16384


def test_a_window_may_go_below_zero_and_come_back() -> None:
    client = RawClient().open((4, 1000))
    stream_id = client.call("/toy.Toy/Talk", b"many2000", end=False)
    assert data_sent(client, stream_id) == 1000
    client.send(settings((4, 200)))
    client.send(window_update(stream_id, 700))
    assert data_sent(client, stream_id) == 1000
    client.send(window_update(stream_id, 101))
    assert data_sent(client, stream_id) == 1001
    client.send(settings((4, 5000)))
    assert client.answers[stream_id].messages == [b"m" * 2000]


def test_a_window_update_before_the_answer_counts() -> None:
    client = RawClient().open((4, 10))
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.send(window_update(stream_id, 500))
    client.toy.held[0].respond(b"x" * 505)
    client.toy.loop.turn()
    assert client.answers[stream_id].messages == [b"x" * 505]


def test_windows_that_overflow() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.send(window_update(stream_id, (1 << 31) - 1 - 65535))
    assert client.goaway is None
    client.send(window_update(stream_id, 1))
    assert client.goaway is not None and client.goaway[1] == 3

    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.send(window_update(stream_id, (1 << 31) - 1 - 65535))
    client.send(settings((4, 65536)))
    assert client.goaway is not None and client.goaway[1] == 3

    client = RawClient().open()
    client.send(window_update(0, (1 << 31) - 1 - 65535))
    assert client.goaway is None
    client.send(window_update(0, 1))
    assert client.goaway is not None and client.goaway[1] == 3


def test_a_window_that_would_have_overflowed_is_forgotten_with_its_stream() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Hold", b"")
    client.send(window_update(stream_id, (1 << 31) - 1 - 65535))
    client.send(frame(RST, 0, stream_id, pack(">I", 8)))
    client.send(settings((4, 1 << 20)))
    assert client.goaway is None


def test_window_updates_on_ended_streams_are_let_pass() -> None:
    client = RawClient().open()
    stream_id = client.call("/toy.Toy/Echo", b"x")
    client.send(window_update(stream_id, 100))
    assert client.goaway is None


def test_a_reset_frees_what_waited() -> None:
    client = RawClient().open((4, 0))
    ids = [client.call("/toy.Toy/Echo", b"many1000") for _ in range(3)]
    assert client.connection.queued_bytes == 3 * 1005
    client.send(frame(RST, 0, ids[1], pack(">I", 8)))
    assert client.connection.queued_bytes == 2 * 1005
    client.send(settings((4, 65535)))
    assert sorted(stream_id for stream_id, answer in client.answers.items() if answer.ended) == [ids[0], ids[2]]


def test_what_we_receive_is_granted_again() -> None:
    """A client that minds our windows can send for ever, on one stream or many."""
    client = RawClient().open()
    block = client.block(request_fields("/toy.Toy/Talk"))
    client.send(frame(HEADERS, END_HEADERS, 1, block))
    window = {0: 65535, 1: 1 << 20}
    body = message(b"z" * 16379)
    read = 0
    for _ in range(2000):
        frames = client.frames[read:]
        read += len(frames)
        for got in frames:
            if got.kind == WINDOW:
                window[got.stream_id] += unpack(">I", got.payload)[0]
        assert window[0] >= len(body) and window[1] >= len(body)
        window[0] -= len(body)
        window[1] -= len(body)
        client.send(frame(DATA, 0, 1, body))
    assert client.goaway is None


def test_a_client_that_ignores_the_stream_window() -> None:
    client = RawClient(Toy(Limits(message_bytes_max=1 << 30))).open()
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(request_fields("/toy.Toy/Hold"))))
    client.connection.streams[1].recv_used = 1 << 19
    client.send(frame(DATA, 0, 1, pack(">BI", 0, 1 << 24)))
    assert client.goaway is None
    client.connection.streams[1].recv_used = 1 << 20
    client.send(frame(DATA, 0, 1, b"x"))
    assert client.goaway is not None and client.goaway[1] == 3


def test_a_client_that_ignores_the_connection_window() -> None:
    """What was granted is granted again only once half of it was used; more than all of it is never taken."""
    client = RawClient().open()
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(request_fields("/toy.Toy/Talk"))))
    client.connection.recv_used = 16 << 20
    client.send(frame(DATA, 0, 1, b"x"))
    assert client.goaway is not None and client.goaway[1] == 3


def test_padding_counts_and_is_granted() -> None:
    client = RawClient().open()
    client.send(frame(HEADERS, END_HEADERS, 1, client.block(request_fields("/toy.Toy/Talk"))))
    before = client.connection.recv_used
    client.send(frame(DATA, 8, 1, b"\xff" + b"\0" * 255))
    assert client.connection.recv_used == before + 256
    assert client.connection.streams[1].recv_used == 256


def test_on_writable_is_called_when_the_queue_falls_below_the_mark() -> None:
    client = RawClient().open((4, 1 << 24))
    client.send(window_update(0, 1 << 20))
    client.call("/toy.Toy/Talk", b"hi", end=False)
    call = client.toy.talks[0].call
    told: list[int] = []
    call.on_writable = lambda: told.append(call.pending_bytes)
    client.connection.pause_writing()
    call.send(b"x" * 100_000)
    call.send(b"y" * 100)
    assert call.pending_bytes == 100_110
    client.connection.resume_writing()
    assert call.pending_bytes == 0
    assert told and told[-1] <= 65536
    told.clear()
    call.send(b"small")
    assert told == []


def test_on_writable_may_send_more() -> None:
    client = RawClient().open((4, 1 << 24))
    client.send(window_update(0, 1 << 28))
    stream_id = client.call("/toy.Toy/Talk", b"hi", end=False)
    call = client.toy.talks[0].call
    left = [30]

    def refill() -> None:
        while left[0] and call.pending_bytes < 65536:
            left[0] -= 1
            call.send(b"r" * 70_000)
        if not left[0]:
            call.finish()

    call.on_writable = refill
    client.connection.pause_writing()
    call.send(b"r" * 70_000)
    client.connection.resume_writing()
    client.toy.loop.turn()
    answer = client.answers[stream_id]
    assert len(answer.messages) == 32
    assert answer.status == 0


def test_a_full_socket_stops_reading_and_nothing_is_lost() -> None:
    """Back-pressure: whoever does not read is not read from, mid-batch if need be."""
    client = RawClient(sink_limit=1 << 20).open((4, 1 << 24))
    client.send(window_update(0, 1 << 30))
    client.call("/toy.Toy/Echo", b"x")
    data = b"".join([client.call_bytes("/toy.Toy/Echo", b"many16000") for _ in range(1000)])
    client.send(data)
    assert not client.sink.reading
    assert len(client.sink.written) < 8 << 20
    assert len(client.answers) < 600
    for _ in range(100):
        client.sink.client_reads()
        client.toy.loop.turn()  # who took long has to wait for one
    assert client.sink.reading
    answers = client.answers
    assert len(answers) == 1001
    assert all(answers[3 + 2 * index].messages == [b"m" * 16000] for index in range(1000))


def test_a_large_answer_leaves_in_portions_as_the_client_reads() -> None:
    client = RawClient(sink_limit=1 << 20).open((4, 1 << 30))
    client.send(window_update(0, 1 << 30))
    stream_id = client.call("/toy.Toy/Echo", b"many30000000")
    assert len(client.sink.written) < 4 << 20
    assert client.connection.queued_bytes > 25 << 20
    for _ in range(60):
        written = len(client.sink.written)
        client.sink.client_reads()
        assert len(client.sink.written) - written < 4 << 20
    assert len(client.answers[stream_id].messages[0]) == 30_000_000


def test_a_queue_beyond_its_bound_closes_the_connection() -> None:
    toy = Toy(Limits(queue_bytes_max=1_000_000))
    other = RawClient(toy).open()
    client = RawClient(toy).open((4, 0))
    ids = [client.call("/toy.Toy/Echo", b"many100000") for _ in range(9)]
    talk = client.call("/toy.Toy/Talk", b"hi", end=False)
    client.call("/toy.Toy/Echo", b"many500000")
    assert not client.sink.over
    client.call("/toy.Toy/Echo", b"many5")
    assert client.sink.aborted
    client.connection.connection_lost(None)
    assert toy.cancelled == [talk]
    assert ids and other.ask("/toy.Toy/Echo", b"x").messages == [b"x"]


def test_one_answer_may_be_larger_than_the_bound() -> None:
    client = RawClient(Toy(Limits(queue_bytes_max=1000))).open()
    stream_id = client.call("/toy.Toy/Echo", b"many5000000")
    client.send(window_update(0, 1 << 24) + window_update(stream_id, 1 << 24))
    assert client.answers[stream_id].messages == [b"m" * 5_000_000]


def test_random_windows_never_lose_or_reorder_a_byte() -> None:
    """A thousand small grants in random order; the windows are kept, the bytes arrive."""
    for seed in range(4):
        chance = random.Random(seed)
        client = RawClient().open((4, chance.choice([0, 1, 100, 65535])))
        initial = client.connection.peer_initial_window
        sizes = [chance.randrange(40_000) for _ in range(6)]
        ids = [client.call("/toy.Toy/Echo", b"many%d" % size) for size in sizes]
        granted = dict.fromkeys(ids, 0)
        connection_granted = 65535
        for _ in range(200):
            stream_id = chance.choice(ids)
            step = chance.randrange(1, 5000)
            kind = chance.randrange(10)
            if kind == 0:
                initial = chance.choice([0, 50, 3000])
                client.send(settings((4, initial)))
            elif kind < 5:
                connection_granted += step
                client.send(window_update(0, step))
            elif not client.answers[stream_id].ended:
                granted[stream_id] += step
                client.send(window_update(stream_id, step))
            assert sum(data_sent(client, stream_id) for stream_id in ids) <= connection_granted
        client.send(window_update(0, 1 << 20) + settings((4, 1 << 20)))
        for stream_id, size in zip(ids, sizes, strict=True):
            assert client.answers[stream_id].messages == [b"m" * size]
            assert client.answers[stream_id].ended
        assert client.connection.queued_bytes == 0


def test_end_of_stream_does_not_overtake_waiting_bytes() -> None:
    client = RawClient().open((4, 3))
    stream_id = client.call("/toy.Toy/Talk", b"many50", b"bye", end=False)
    assert not client.answers[stream_id].ended
    client.send(frame(DATA, END_STREAM, stream_id))
    client.send(window_update(stream_id, 1000))
    answer = client.answers[stream_id]
    assert answer.messages == [b"m" * 50]
    assert (answer.status, answer.reset) == (0, None)
