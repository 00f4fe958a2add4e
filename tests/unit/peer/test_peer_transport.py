"""Two members' transports on real sockets: streams, what happens without them, reports, removal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
from pathlib import Path
from typing import Any

import pytest

from balsad.observe.metrics import Metrics
from balsad.peer import connect_metrics, remote_peer, stream_reader, stream_writer
from balsad.peer.codec import MessageDecoder
from balsad.peer.http_answer import AnswerReader
from balsad.peer.remote_peer import REPETITION_S
from balsad.raft import ConfState, Entry, Message, MessageType, Snapshot
from balsad.raft.codec import encode_message
from balsad.storage import StorageError
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import Db, bound, end, has_streams, join, until, url_of


def append(to: int, index: int, size: int = 10, from_: int = 1) -> Message:
    return Message(
        MessageType.APP,
        to=to,
        from_=from_,
        term=3,
        log_term=3,
        index=index,
        entries=[Entry(0, 3, index + 1, bytes(size))],
        commit=index,
    )


def beat(to: int, from_: int = 1) -> Message:
    return Message(MessageType.HEARTBEAT, to=to, from_=from_, term=3, commit=1, context=b"c")


def as_bytes(messages: list[Message]) -> list[bytes]:
    return [encode_message(message) for message in messages]


def test_messages_arrive_on_their_streams_in_order(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            appends = [append(2, index) for index in range(1, 50)]
            beats = [beat(2) for _ in range(50)]

            one.transport.send([message for pair in zip(appends, beats, strict=False) for message in pair])
            await until(lambda: len(other.inbox.messages) == 98)

            received = other.inbox.messages
            assert as_bytes([message for message in received if message.type == MessageType.APP]) == as_bytes(appends)
            assert sum(message.type == MessageType.HEARTBEAT for message in received) == 49
            # One read, one batch: not one call a message.
            assert len(other.inbox.batches) < 20
            assert one.transport.counts[2].appends_sent == other.transport.counts[1].appends_received == 49
            assert one.transport.counts[2].bytes_sent == other.transport.counts[1].bytes_received > 0
            assert one.transport.active_since(2) > 0
            assert set(one.transport.connected_since()) == {2}
            assert not one.inbox.unreachable

    run(work())


def test_send_hands_the_bytes_to_the_kernel_before_it_returns(run: Run, tmp_path: Path) -> None:
    """A leader's messages must be under way while it waits for its own disk."""

    async def work() -> None:
        sock = bound()
        async with end(1, tmp_path / "a") as one:
            sock.close()
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            reader, writer = await asyncio.open_connection(*one.listener.addresses[0])
            writer.write(stream_request(one.url, "/raft/stream/message/2"))
            answer = AnswerReader()
            answer.feed(await reader.read(1 << 16))
            assert answer.status == 200
            await asyncio.sleep(0)
            transport: Any = writer.transport
            transport.pause_reading()
            spy = transport.get_extra_info("socket")

            one.transport.send([beat(2)])

            # No turn of the event loop has passed: look at the socket itself.
            assert select.select([spy.fileno()], [], [], 5)[0]
            body = answer.feed(os.read(spy.fileno(), 1 << 16))
            assert as_bytes(MessageDecoder().feed(body)) == as_bytes([beat(2)])
            writer.close()

    run(work())


def stream_request(url: str, path: str, sender: int = 2, to: int = 1, cluster_id: int = 0xC1) -> bytes:
    host = url.partition("://")[2]
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Etcd-Cluster-Id: {cluster_id:x}\r\nX-Min-Cluster-Version: 3.0.0\r\n"
        f"X-Server-From: {sender:x}\r\nX-Server-Version: 3.5.1\r\nX-Raft-To: {to:x}\r\n\r\n"
    ).encode()


def test_a_large_message_comes_through_whole(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            sent = [append(2, index, size=3 << 20) for index in range(1, 9)]
            one.transport.send(sent)
            one.transport.send([beat(2)])
            await until(lambda: len(other.inbox.messages) == 9)
            received = [message for message in other.inbox.messages if message.type == MessageType.APP]
            assert as_bytes(received) == as_bytes(sent)

    run(work())


def test_without_streams_messages_are_posted(run: Run, tmp_path: Path) -> None:
    """A remote has no streams; neither has a peer whose port knows nothing of us."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            one.transport.add_remote(2, [other.url])
            one.transport.send([append(2, 1), beat(2)])
            await until(lambda: len(other.inbox.messages) == 2)
            assert sorted(as_bytes(other.inbox.messages)) == sorted(as_bytes([append(2, 1), beat(2)]))
            # The sender's URLs came with the post: it can be answered.
            other.transport.send([beat(1, from_=2)])
            await until(lambda: len(one.inbox.messages) == 1)

    run(work())


def test_a_peer_that_is_not_there_is_reported_once_a_turn(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        nobody = bound()
        async with end(1, tmp_path / "a") as one:
            one.transport.add_peer(2, [url_of(nobody)])
            one.transport.send([beat(2)])
            await until(lambda: one.inbox.unreachable == [2])
            assert one.transport.counts[2].send_failures == 1
            assert one.transport.active_since(2) == 0.0
            # More than the pipeline holds: lost, and told once.
            one.inbox.unreachable.clear()
            one.transport.send([beat(2) for _ in range(70)])
            failures = one.transport.counts[2].send_failures
            assert failures >= 5
            assert one.inbox.unreachable == []  # raft may be in the midst of its work
            await asyncio.sleep(0)
            await until(lambda: bool(one.inbox.unreachable))
        nobody.close()

    run_once(work())


def test_messages_to_nobody_are_ignored(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            one.transport.send([beat(0), beat(77)])
            await asyncio.sleep(0.01)
            assert not one.inbox.unreachable

    run_once(work())


def test_of_several_append_answers_only_the_last_goes_out(run_once: Run, tmp_path: Path) -> None:
    """Source: etcd raftNode.processMessages."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            answers = [Message(MessageType.APP_RESP, to=2, from_=1, term=3, index=index) for index in (4, 5, 6)]
            one.transport.send([answers[0], beat(2), answers[1], answers[2]])
            await until(lambda: len(other.inbox.messages) == 2)
            assert [message.index for message in other.inbox.messages] == [0, 6]

    run_once(work())


def test_a_repeated_answer_waits_and_gives_way_to_the_next(run_once: Run, tmp_path: Path) -> None:
    """An append without entries is answered with what its sender knows: that must not wake it each time."""

    def answer(index: int, term: int = 3) -> Message:
        return Message(MessageType.APP_RESP, to=2, from_=1, term=term, index=index)

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            for message in (answer(4), answer(4), answer(5), answer(5), answer(5, term=4), answer(6, term=4)):
                one.transport.send([message])
            await until(lambda: len(other.inbox.messages) == 4)
            await asyncio.sleep(3 * REPETITION_S)
            received = other.inbox.messages
            assert [(message.term, message.index) for message in received] == [(3, 4), (3, 5), (4, 5), (4, 6)]

            # Nothing came after it: then it is said again, once for all.
            for _ in range(3):
                one.transport.send([answer(6, term=4)])
            await until(lambda: len(other.inbox.messages) == 5)
            await asyncio.sleep(3 * REPETITION_S)
            assert [message.index for message in other.inbox.messages[4:]] == [6]

            # A refusal is no repetition.
            refusal = Message(MessageType.APP_RESP, to=2, from_=1, term=4, index=6, reject=True)
            one.transport.send([refusal])
            one.transport.send([refusal])
            await until(lambda: len(other.inbox.messages) == 7)

    run_once(work())


def test_on_a_new_stream_an_answer_is_no_repetition(
    run_once: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before may be lost."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            message = Message(MessageType.APP_RESP, to=2, from_=1, term=3, index=4)
            one.transport.send([message])
            await until(lambda: len(other.inbox.messages) == 1)
            peer = next(iter(one.transport.peers))
            stream = peer.writers[1]._stream
            assert stream is not None
            stream.abort()
            peer.writers[1]._on_lost("a test")
            await until(lambda: has_streams(one, 2))
            monkeypatch.setattr(remote_peer, "REPETITION_S", 1000.0)
            one.transport.send([message])
            await until(lambda: len(other.inbox.messages) == 2)

    run_once(work())


def test_streams_come_back_after_a_restart(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            async with end(2, tmp_path / "b") as other:
                await join(one, other)
                sock_name = other.listener.addresses[0]
            await until(lambda: one.transport.active_since(2) == 0.0, "the peer's going")
            async with end(2, tmp_path / "b") as again:
                assert again.listener.addresses[0] != sock_name
                again.transport.add_peer(1, [one.url])
                one.transport.update_peer(2, [again.url])
                await until(lambda: has_streams(one, 2) and has_streams(again, 1))
                one.transport.send([beat(2)])
                await until(lambda: len(again.inbox.messages) == 1)
        assert next(iter(one.transport.peers)).status.disconnects >= 1

    run(work())


def test_a_second_url_is_tried_when_the_first_does_not_answer(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        nobody = bound()
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            other.transport.add_peer(1, [one.url])
            one.transport.add_peer(2, [url_of(nobody), other.url])
            await until(lambda: has_streams(other, 1))
        nobody.close()

    run_once(work())


def test_a_removed_member_is_told_so_and_heard_no_more(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            one.inbox.removed_ids.add(2)
            # What still comes on the old stream is dropped.
            other.transport.send([beat(1, from_=2)])
            await asyncio.sleep(0.1)
            assert not one.inbox.messages
            one.transport.remove_peer(2)
            assert not one.transport.has_peer(2)
            await until(lambda: other.inbox.removed_reports > 0, "the 410")
            # A post is refused as well.
            reports = other.inbox.removed_reports
            other.transport.remove_peer(1)
            other.transport.add_remote(1, [one.url])
            other.transport.send([beat(1, from_=2)])
            await until(lambda: other.inbox.removed_reports > reports, "the 403")
            assert not one.inbox.messages
            one.transport.remove_peer(2)  # once more, as a replayed log does

    run_once(work())


def test_a_member_of_another_cluster_is_refused(
    run_once: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b", cluster_id=0xC2) as other:
            one.transport.add_peer(2, [other.url])
            other.transport.add_peer(1, [one.url])
            await until(lambda: logged(caplog, "request cluster ID mismatch"))
            await until(lambda: logged(caplog, "request sent was ignored by remote peer due to cluster ID mismatch"))
            one.transport.send([beat(2)])
            await until(lambda: logged(caplog, "request sent was ignored due to cluster ID mismatch"))
            await until(lambda: one.inbox.unreachable == [2])
            assert not other.inbox.messages
            assert one.transport.active_since(2) == 0.0

    with caplog.at_level(logging.WARNING, "balsad"):
        run_once(work())


def logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(record.message == text for record in caplog.records)


def test_a_stopped_member_breaks_nothing(run_once: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            other.inbox.is_stopped = True
            one.transport.send([beat(2)])
            await until(lambda: logged(caplog, "failed to process Raft message"))
            assert has_streams(one, 2)
            # Posted, it is an error that the sender hears of.
            one.transport.remove_peer(2)
            one.transport.add_remote(2, [other.url])
            one.transport.send([beat(2)])
            await until(lambda: one.inbox.unreachable == [2])

    with caplog.at_level(logging.WARNING, "balsad"):
        run_once(work())


def test_a_reader_that_takes_nothing_costs_bounded_memory_and_is_dropped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full socket: messages wait as they are, 4096 of them, the rest is lost; after five seconds the link is cut."""
    monkeypatch.setattr(stream_writer, "QUEUE_MAX", 20)
    monkeypatch.setattr(stream_writer, "WRITE_S_MAX", 0.05)

    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            nobody = bound()
            one.transport.add_peer(2, [url_of(nobody)])
            reader, writer = await asyncio.open_connection(*one.listener.addresses[0])
            writer.write(stream_request(one.url, "/raft/stream/msgapp/2"))
            await reader.readuntil(b"\r\n\r\n")
            reading: Any = writer.transport
            reading.pause_reading()
            peer = next(iter(one.transport.peers))
            await until(lambda: peer.writers[0].is_working)
            one.inbox.unreachable.clear()
            index = 0
            before = peer.counts.send_failures
            while peer.counts.send_failures < before + 3:
                index += 1
                assert index < 500, "nothing is ever lost"
                one.transport.send([append(2, index, size=1 << 20)])
                await asyncio.sleep(0)
            sent = peer.counts.bytes_sent
            assert sent < (index - 20) * (1 << 20)
            await until(lambda: set(one.inbox.unreachable) == {2})

            for _ in range(3):
                peer.beat()
                await asyncio.sleep(0.06)

            assert not peer.writers[0].is_working
            assert peer.status.active_since == 0.0
            writer.close()
            nobody.close()

    run(work())


def test_a_full_socket_that_empties_loses_nothing(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            nobody = bound()
            one.transport.add_peer(2, [url_of(nobody)])
            reader, writer = await asyncio.open_connection(*one.listener.addresses[0])
            writer.write(stream_request(one.url, "/raft/stream/message/2"))
            head = await reader.readuntil(b"\r\n\r\n")
            peer = next(iter(one.transport.peers))
            await until(lambda: peer.writers[1].is_working)
            answer = AnswerReader()
            answer.feed(head)
            sent = [append(2, index, size=1 << 20) for index in range(1, 40)]
            for message in sent:
                one.transport.send([message])
            decoder = MessageDecoder()
            received: list[Message] = []
            while len(received) < len(sent):
                received += decoder.feed(answer.feed(await reader.read(1 << 20)))
            assert as_bytes(received) == as_bytes(sent)
            assert not peer.writers[1]._waiting
            writer.close()
            nobody.close()

    run(work())


def test_a_silent_link_is_cut_and_dialled_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_reader, "SILENCE_S_MAX", 0.2)
    dials = 0

    async def work() -> None:
        nonlocal dials

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            dials += 1
            with contextlib.suppress(ConnectionError, EOFError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
                await reader.read()
            writer.close()
            ends.append(True)

        ends: list[bool] = []
        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        async with end(1, tmp_path / "a") as one:
            one.transport.add_peer(2, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
            await until(lambda: dials >= 4)
            assert any("i/o timeout" in str(record.__dict__["fields"]) for record in caplog.records)
        server.close()
        await until(lambda: len(ends) == dials)

    with caplog.at_level(logging.DEBUG, "balsad"):
        run(work())


OK = b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = b"HTTP/1.1 412 Precondition Failed\r\nX-Server-Version: 3.5.1\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        OK + b"9\r\n\xff\xff\xff\xff\xff\xff\xff\xff\x03\r\n",
        OK + b"no chunk\r\n",
        OK.replace(b"3.5.1", b"nonsense"),
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        REFUSED + b"Content-Length: 21\r\n\r\nincompatible version\n",
        REFUSED + b"Content-Length: 5\r\n\r\nwhat?",
        b"HTTP/1.1 404 Not Found\r\nX-Server-Version: 3.5.1\r\nContent-Length: 4\r\n\r\nnot ",
    ],
)
def test_a_port_that_answers_nonsense_is_asked_again_and_again(run_once: Run, tmp_path: Path, answer: bytes) -> None:
    dials = 0

    async def work() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            dials += 1
            with contextlib.suppress(ConnectionError, EOFError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await asyncio.sleep(0.02)
            writer.close()
            ends.append(True)

        ends: list[bool] = []
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with end(1, tmp_path / "a") as one:
            one.transport.add_peer(2, [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
            await until(lambda: dials >= 4)
            assert not one.inbox.messages
        server.close()
        await until(lambda: len(ends) == dials)

    run_once(work())


def test_a_snapshot_arrives_whole_before_raft_hears_of_it(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            took: dict[str, float] = {}
            other.snapshotter.on_db_fsync = lambda seconds: took.update(sync=seconds)
            other.snapshotter.on_db_save = lambda seconds: took.update(save=seconds)
            db = Db(bytes(range(256)) * 20_000)
            message = Message(
                MessageType.SNAP, to=2, from_=1, term=4, snapshot=Snapshot(0x77, 3, ConfState((1, 2)), b"{}")
            )
            one.transport.send_snapshot(message, db)
            await until(lambda: one.inbox.snapshots == [(2, True)])
            assert as_bytes(other.inbox.messages) == as_bytes([message])
            assert (tmp_path / "b" / f"{0x77:016x}.snap.db").read_bytes() == db.data
            assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [f"{0x77:016x}.snap.db"]
            assert db.is_closed
            counts = one.transport.counts[2]
            assert (counts.snapshot_sends, counts.snapshot_sends_in_flight, counts.snapshot_send_failures) == (1, 0, 0)
            counts = other.transport.counts[1]
            assert (counts.snapshot_receives, counts.snapshot_receives_in_flight) == (1, 0)
            assert 0 < took["sync"] < took["save"]

    run(work())


def test_a_snapshot_that_cannot_be_sent_is_reported_and_closed(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b", cluster_id=0xC2) as other:
            one.transport.add_peer(2, [other.url])
            message = Message(MessageType.SNAP, to=2, from_=1, term=4, snapshot=Snapshot(5, 3))
            db = Db(bytes(30 << 20))
            one.transport.send_snapshot(message, db)
            await until(lambda: one.inbox.snapshots == [(2, False)])
            assert one.inbox.unreachable == [2]
            assert db.is_closed
            assert list((tmp_path / "b").iterdir()) == []
            # To nobody, and to one who was just removed: closed all the same.
            nowhere, gone = Db(b"x"), Db(b"y")
            one.transport.send_snapshot(Message(MessageType.SNAP, to=9, from_=1, snapshot=Snapshot(5, 3)), nowhere)
            one.transport.send_snapshot(message, gone)
            one.transport.remove_peer(2)
            await until(lambda: nowhere.is_closed and gone.is_closed)

    run_once(work())


def test_a_disk_that_fails_while_it_is_read_fails_the_snapshot(run_once: Run, tmp_path: Path) -> None:
    class Broken(Db):
        def read(self, offset: int, count: int) -> bytes:
            if offset:
                raise StorageError("db", "read: input/output error", offset=offset)
            return super().read(offset, count)

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            db = Broken(bytes(1 << 20))
            one.transport.send_snapshot(Message(MessageType.SNAP, to=2, from_=1, snapshot=Snapshot(5, 3)), db)
            await until(lambda: one.inbox.snapshots == [(2, False)])
            assert db.is_closed
            await until(lambda: other.transport.counts[1].snapshot_receive_failures == 1)
            assert not other.inbox.messages
            assert list((tmp_path / "b").iterdir()) == []

    run_once(work())


def test_remotes_are_bounded(run_once: Run, tmp_path: Path) -> None:
    """Anybody may name himself in a header; that must not fill the memory."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one:
            for member_id in range(100, 500):
                one.transport.add_remote(member_id, ["http://127.0.0.1:1"])
            one.transport.add_remote(501, ["no url at all"])
            assert len(one.transport._remotes) == 64
            assert len(one.transport.counts) == 64
            for port in range(500):
                one.transport.count_receive_failure(f"127.0.0.1:{port}")
            assert len(one.transport.receive_failures) == 64

    run_once(work())


def test_metrics_show_what_was_counted(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(0xB, tmp_path / "b") as other:
            await join(one, other)
            one.transport.send([beat(0xB)])
            await until(lambda: len(other.inbox.messages) == 1)
            metrics = Metrics()
            connect_metrics(metrics, one.transport)
            one.transport.observe_round_trip(0xB, 0.001)
            text = metrics.render()
            assert 'etcd_network_active_peers{Local="1",Remote="b"} 1' in text
            assert 'etcd_network_known_peers{Local="1",Remote="b"} 1' in text
            sent = one.transport.counts[0xB].bytes_sent
            assert f'etcd_network_peer_sent_bytes_total{{To="b"}} {sent}' in text
            assert "peer_sent_failures_total{" not in text
            assert 'etcd_network_peer_round_trip_time_seconds_count{To="b"} 1' in text

    run_once(work())


@pytest.mark.parametrize(
    "kind",
    [
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.SNAP,
        24,
        200,
    ],
)
def test_what_never_crosses_the_network_is_not_heard(run_once: Run, tmp_path: Path, kind: int) -> None:
    """Messages of a member to itself, snapshots without their database, and kinds nobody knows."""

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            odd = Message(kind, to=2, from_=1, term=9)
            other.transport.receive([beat(2), odd, beat(2)])
            assert as_bytes(other.inbox.messages) == as_bytes([beat(2), beat(2)])
            other.inbox.batches.clear()
            # Posted, it is taken and forgotten.
            one.transport.remove_peer(2)
            one.transport.add_remote(2, [other.url])
            sent = one.transport.counts[2].bytes_sent
            one.transport.send([odd])
            await until(lambda: one.transport.counts[2].bytes_sent > sent)
            assert not other.inbox.messages

    run_once(work())


def test_members_on_unix_sockets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            for member, name in ((one, "localhost:1"), (other, "localhost:2")):
                sock = socket.socket(socket.AF_UNIX)
                sock.bind(name)
                sock.setblocking(False)
                await member.listener.listen_bound(sock)
                member.url = f"unix://{name}"
            await join(one, other)
            one.transport.send([beat(2)])
            one.transport.send_snapshot(
                Message(MessageType.SNAP, to=2, from_=1, snapshot=Snapshot(5, 3)), Db(bytes(1 << 20))
            )
            await until(lambda: len(other.inbox.messages) == 2)
            await until(lambda: one.inbox.snapshots == [(2, True)])

    run(work())


def test_after_the_end_nothing_is_sent_or_told(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            one.transport.report_unreachable(2)
            one.transport.stop()
            one.transport.stop()
            one.transport.send([beat(2)])
            one.transport.add_peer(3, [other.url])
            one.transport.add_remote(4, [other.url])
            await one.transport.wait_closed()
            await asyncio.sleep(0.02)
            assert not one.inbox.unreachable
            assert not other.inbox.messages
            assert not one.transport.has_peer(3)

    run_once(work())


def test_an_append_that_only_tells_what_is_committed_gives_way_to_one_that_follows(
    run_once: Run, tmp_path: Path
) -> None:
    def told(index: int, commit: int) -> Message:
        return Message(MessageType.APP, to=2, from_=1, term=3, log_term=3, index=index, commit=commit)

    async def work() -> None:
        async with end(1, tmp_path / "a") as one, end(2, tmp_path / "b") as other:
            await join(one, other)
            given_way, kept, last = told(5, 4), told(6, 5), told(7, 7)
            appends = [append(2, 5), append(2, 6)]
            one.transport.send([given_way, appends[0], kept, last, beat(2)])
            one.transport.send([told(8, 9), append(2, 8)])  # which tells less: both go
            one.transport.send([appends[1]])
            await until(lambda: len(other.inbox.messages) == 7)

            received = [message for message in other.inbox.messages if message.type == MessageType.APP]
            expected = [appends[0], kept, last, told(8, 9), append(2, 8), appends[1]]
            assert as_bytes(received) == as_bytes(expected)

    run_once(work())
