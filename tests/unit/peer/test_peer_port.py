"""The peer port under raw bytes: requests, endless answers, databases, nonsense, silence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsad.errors import (
    CompactedError,
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    UnhealthyError,
)
from balsad.lease import NotPrimaryError
from balsad.membership import Member, MemberRemovedError
from balsad.peer import http_server, member_pages
from balsad.peer.codec import MESSAGE_STREAM_BEAT, frame_message
from balsad.peer.http_answer import AnswerReader
from balsad.peer.raft_pages import go_time
from balsad.peer.snapshot_receiver import MESSAGE_BYTES_MAX
from balsad.proto import lease_pb2, rpc_pb2
from balsad.raft import Message, MessageType, Snapshot
from balsad.raft.codec import encode_message
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import End, end, until

GREETING = {
    "X-Etcd-Cluster-Id": "c1",
    "X-Min-Cluster-Version": "3.0.0",
    "X-Server-From": "2",
    "X-Server-Version": "3.5.1",
}


def head(method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    return head("POST", path, {**(headers or {}), "Content-Length": str(len(body))}) + body


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes, dict[str, str]]:
        answer, body = AnswerReader(), b""
        while not answer.is_complete:
            async with asyncio.timeout(10):
                data = await self.reader.read(1 << 16)
            if not data:
                answer.feed_eof()
                break
            body += answer.feed(data)
        return answer.status, body, answer.headers

    async def is_closed(self) -> bool:
        """Whether the server closes; waits for it."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@contextlib.asynccontextmanager
async def client(ours: End) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*ours.listener.addresses[0])
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def ask(ours: End, request: bytes) -> tuple[int, bytes, dict[str, str]]:
    async with client(ours) as one:
        return await one.ask(request)


def test_pages_tell_what_the_member_knows(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            pages = ours.pages
            pages.known = [Member(id=1, peer_urls=("http://a:1",), name="a"), Member(id=2, peer_urls=("http://b:1",))]
            status, body, headers = await ask(ours, head("GET", "/members"))
            assert (status, headers["x-etcd-cluster-id"]) == (200, "c1")
            assert body == b'[{"id":1,"peerURLs":["http://a:1"],"name":"a"},{"id":2,"peerURLs":["http://b:1"]}]\n'
            assert (await ask(ours, head("GET", "/version")))[1] == (
                b'{"etcdserver":"3.5.1","etcdcluster":"not_decided"}'
            )
            pages.cluster_version = "3.5.0"
            assert (await ask(ours, head("GET", "/version")))[1] == b'{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}'
            assert (await ask(ours, head("GET", "/downgrade/enabled")))[1] == b"false"
            pages.downgrade = True
            assert (await ask(ours, head("GET", "/downgrade/enabled")))[1] == b"true"
            status, body, _ = await ask(ours, post("/members/promote/2", b"", {"Authorization": "tok"}))
            assert (status, pages.promoted) == (200, [(2, "tok")])
            assert body.endswith(b'"http://b:1"]}]\n')
            asked = b'{"revision":5}'
            request = head("GET", "/members/hashkv", {"Content-Length": str(len(asked))}) + asked
            status, body, _ = await ask(ours, request)
            assert (status, body) == (200, b'{"header":{"revision":5},"hash":1234,"compact_revision":-1}')

    run(work())


def test_leases_are_renewed_and_told(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            ours.pages.lease_keys = (b"a", b"b")
            request = rpc_pb2.LeaseKeepAliveRequest(ID=7).SerializeToString()
            status, body, _ = await ask(ours, post("/leases", request))
            renewed = rpc_pb2.LeaseKeepAliveResponse.FromString(body)
            assert (status, renewed.ID, renewed.TTL) == (200, 7, 60)
            for with_keys, keys in ((True, [b"a", b"b"]), (False, [])):
                wanted = lease_pb2.LeaseInternalRequest(
                    LeaseTimeToLiveRequest=rpc_pb2.LeaseTimeToLiveRequest(ID=7, keys=with_keys)
                )
                status, body, _ = await ask(ours, post("/leases/internal", wanted.SerializeToString()))
                times = lease_pb2.LeaseInternalResponse.FromString(body).LeaseTimeToLiveResponse
                assert (status, times.ID, times.TTL, times.grantedTTL, list(times.keys)) == (200, 7, 59, 60, keys)
            assert (await ask(ours, post("/leases", bytes(100_000))))[0] == 413

    run_once(work())


PROMOTE = post("/members/promote/2", b"")
RENEW = post("/leases", b"\x08\x07")
TIMES = post("/leases/internal", b"\x0a\x02\x08\x07")
HASH = head("GET", "/members/hashkv", {"Content-Length": "2"}) + b"{}"


@pytest.mark.parametrize(
    ("request_bytes", "failure", "status", "text"),
    [
        (PROMOTE, MemberNotFoundError(), 404, b"membership: ID not found\n"),
        (PROMOTE, MemberRemovedError(), 500, b'{"message":"Internal Server Error"}'),
        (PROMOTE, MemberNotLearnerError(), 412, b"membership: can only promote a learner member\n"),
        (
            PROMOTE,
            LearnerNotReadyError(),
            412,
            b"etcdserver: can only promote a learner member which is in sync with leader\n",
        ),
        (PROMOTE, UnhealthyError(), 500, b'{"message":"Internal Server Error"}'),
        (RENEW, LeaseNotFoundError(), 404, b"lease not found\n"),
        (RENEW, NotPrimaryError("x"), 400, b"not a primary lessor\n"),
        (TIMES, LeaseNotFoundError(), 404, b"lease not found\n"),
        (TIMES, NotPrimaryError("x"), 500, b"not a primary lessor\n"),
        (HASH, CompactedError(), 400, b"mvcc: required revision has been compacted\n"),
        (
            head("GET", "/downgrade/enabled"),
            UnhealthyError(),
            500,
            b"failed linearized read: etcdserver: unhealthy cluster\n",
        ),
        (
            head("GET", "/members/hashkv", {"X-Etcd-Cluster-Id": "ff", "Content-Length": "2"}) + b"{}",
            None,
            412,
            b"cluster ID mismatch\n",
        ),
    ],
)
def test_refusals_have_etcds_words(
    run_once: Run, tmp_path: Path, request_bytes: bytes, failure: Exception | None, status: int, text: bytes
) -> None:
    """Source: etcd etcdhttp/peer.go, leasehttp/http.go, corrupt.go."""

    async def work() -> None:
        async with end(1, tmp_path) as ours:
            ours.pages.failure = failure
            assert (await ask(ours, request_bytes))[:2] == (status, text)

    run_once(work())


def test_a_member_that_lags_behind_says_so(run_once: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_pages, "APPLY_S_MAX", 0.02)

    async def work() -> None:
        async with end(1, tmp_path) as ours:
            ours.pages.applied = lambda: asyncio.sleep(60)
            for request in (RENEW, TIMES):
                status, body, _ = await ask(ours, request)
                assert (status, body) == (
                    408,
                    b"waiting for node to catch up its applied index has timed out\n",
                )

    run_once(work())


def test_a_probe_is_answered_with_the_time(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            status, body, _ = await ask(ours, head("GET", "/raft/probing"))
            answer = json.loads(body)
            assert (status, answer["OK"], body[-1:]) == (200, True, b"\n")
            assert abs(datetime.now().timestamp() - datetime.fromisoformat(answer["Now"][:19] + "Z").timestamp()) < 60

    run_once(work())


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_795_344_145_476_945_921, "2026-11-22T10:42:25.476945921Z"),
    ],
)
def test_times_read_like_gos(unix_ns: int, text: str) -> None:
    assert go_time(unix_ns) == text


def test_one_connection_serves_many_requests(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            for _ in range(3):
                assert (await one.ask(head("GET", "/version")))[0] == 200
                assert (await one.ask(head("GET", "/nothing")))[0] == 404
            # Together they are answered in turn.
            one.writer.write(head("GET", "/version") * 2)
            data = b""
            while data.count(b"not_decided") < 2:
                data += await one.reader.read(1 << 16)
            assert data.count(b"HTTP/1.1 200 OK") == 2

    run(work())


def test_a_posted_message_reaches_raft(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            message = Message(MessageType.VOTE, to=1, from_=2, term=9)
            request = post("/raft", encode_message(message), {**GREETING, "X-PeerURLs": "http://127.0.0.1:1"})
            status, body, headers = await one.ask(request)
            assert (status, body, headers["x-etcd-cluster-id"]) == (204, b"", "c1")
            assert [encode_message(one) for one in ours.inbox.messages] == [encode_message(message)]
            # In pieces, and in chunks, with a wait for the go-ahead.
            for at in range(0, len(request), 7):
                one.writer.write(request[at : at + 7])
                await asyncio.sleep(0)
            assert (await one.answer())[0] == 204
            one.writer.write(
                head("POST", "/raft", {**GREETING, "Transfer-Encoding": "chunked", "Expect": "100-continue"})
            )
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            data = encode_message(message)
            status, _, _ = await one.ask(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            assert (status, len(ours.inbox.messages)) == (204, 3)

    run(work())


def test_a_message_of_a_removed_member_is_forbidden(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            ours.inbox.removed_ids.add(2)
            message = encode_message(Message(MessageType.HEARTBEAT, to=1, from_=2))
            status, body, headers = await ask(ours, post("/raft", message, GREETING))
            assert (status, body) == (403, b'{"message":"cannot process message from removed member"}')
            assert headers["content-type"] == "application/json"
            status, body, _ = await ask(ours, head("GET", "/raft/stream/message/2", GREETING))
            assert (status, body) == (410, b"removed member\n")

    run_once(work())


def test_a_stopped_member_breaks_the_connection_off(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            ours.inbox.is_stopped = True
            message = encode_message(Message(MessageType.HEARTBEAT, to=1, from_=2))
            status, body, _ = await one.ask(post("/raft", message, GREETING))
            assert (status, body) == (500, b"error processing raft message\n")
            assert await one.is_closed()

    run_once(work())


def test_a_stream_lives_on_link_heartbeats(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            ours.transport.add_peer(2, ["http://127.0.0.1:1"])
            one.writer.write(head("GET", "/raft/stream/message/2", {**GREETING, "X-Raft-To": "1"}))
            answer = AnswerReader()
            answer.feed(await one.reader.readuntil(b"\r\n\r\n"))
            assert (answer.status, answer.headers["x-server-version"]) == (200, "3.5.1")
            assert answer.headers["x-etcd-cluster-id"] == "c1"
            next(iter(ours.transport.peers)).beat()
            assert answer.feed(await one.reader.read(1 << 16)) == MESSAGE_STREAM_BEAT
            # Asked for once more, the old one ends in order.
            async with client(ours) as again:
                again.writer.write(head("GET", "/raft/stream/message/2", {**GREETING, "X-Raft-To": "1"}))
                await again.reader.readuntil(b"\r\n\r\n")
                answer.feed(await one.reader.read(1 << 16))
                assert answer.is_complete
                assert await one.is_closed()

    run(work())


def test_the_streams_of_a_stranger_make_it_known(run_once: Run, tmp_path: Path) -> None:
    """Source: etcd streamHandler: so a member that is behind can catch up from those it does not know."""

    async def work() -> None:
        async with end(1, tmp_path) as ours:
            headers = {**GREETING, "X-Raft-To": "1", "X-PeerURLs": "http://127.0.0.1:1,http://127.0.0.1:2"}
            status, body, _ = await ask(ours, head("GET", "/raft/stream/msgapp/2", headers))
            assert (status, body) == (404, b"error sender not found\n")
            assert 2 in ours.transport._remotes
            ours.transport.add_peer(2, ["http://127.0.0.1:1"])
            assert 2 not in ours.transport._remotes
            status, body, _ = await ask(ours, head("GET", "/raft/stream/msgapp/2", {**GREETING, "X-Raft-To": "9"}))
            assert (status, body) == (412, b"to field mismatch\n")

    run_once(work())


# Databases.


def snapshot_body(index: int, db: bytes) -> bytes:
    return frame_message(Message(MessageType.SNAP, to=1, from_=2, term=3, snapshot=Snapshot(index, 2))) + db


def test_a_database_in_pieces_of_any_size(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            db = bytes(range(256)) * 40
            body = snapshot_body(0x1F, db)
            for step in (1, 3, 1000, 1 << 20):
                one.writer.write(head("POST", "/raft/snapshot", {**GREETING, "Transfer-Encoding": "chunked"}))
                for at in range(0, len(body), step):
                    piece = body[at : at + step]
                    one.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    if at % 50 == 0:
                        await asyncio.sleep(0)
                status, _, _ = await one.ask(b"0\r\n\r\n")
                assert status == 204
            assert (tmp_path / f"{0x1F:016x}.snap.db").read_bytes() == db
            assert len(ours.inbox.messages) == 4
            assert len(list(tmp_path.iterdir())) == 1

    run(work())


def test_a_database_that_stops_half_way_leaves_nothing(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            ours.transport.add_peer(2, ["http://127.0.0.1:1"])
            body = snapshot_body(9, bytes(1 << 20))
            async with client(ours) as one:
                one.writer.write(head("POST", "/raft/snapshot", {**GREETING, "Content-Length": str(len(body) + 1)}))
                one.writer.write(body)
                await until(lambda: any(path.stat().st_size == 1 << 20 for path in tmp_path.iterdir()))
                assert ours.transport.counts[2].snapshot_receives_in_flight == 1
            await until(lambda: not list(tmp_path.iterdir()))
            counts = ours.transport.counts[2]
            assert (counts.snapshot_receives_in_flight, counts.snapshot_receive_failures) == (0, 1)
            assert not ours.inbox.messages

    run(work())


def test_a_silent_sender_of_a_database_is_given_up(
    run_once: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "SILENCE_S_MAX", 0.1)

    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            body = snapshot_body(9, b"x")
            one.writer.write(head("POST", "/raft/snapshot", {**GREETING, "Content-Length": "1000"}) + body)
            await until(lambda: len(list(tmp_path.iterdir())) == 1)
            assert await one.is_closed()
            assert not list(tmp_path.iterdir())

    run_once(work())


TOO_LARGE = b"failed to decode raft message (rafthttp: error limit exceeded)\n"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, b"failed to decode raft message (EOF)\n"),
        (b"\0\0\0", 400, b"failed to decode raft message (unexpected EOF)\n"),
        (
            (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big"),
            400,
            b"failed to decode raft message (rafthttp: error limit exceeded)\n",
        ),
        (b"\xff" * 8 + bytes(100), 400, b"failed to decode raft message (rafthttp: error limit exceeded)\n"),
        ((2).to_bytes(8, "big") + b"\x3a\xff", 400, b"failed to decode raft message (unexpected end of message)\n"),
        (frame_message(Message(MessageType.APP, to=1, from_=2)), 400, b"wrong raft message type\n"),
        (frame_message(Message(200, to=1, from_=2)), 400, b"wrong raft message type\n"),
    ],
)
def test_what_is_no_database_is_refused(run_once: Run, tmp_path: Path, body: bytes, status: int, text: bytes) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            assert (await ask(ours, post("/raft/snapshot", body, GREETING)))[:2] == (status, text)
            assert not list(tmp_path.iterdir())
            assert not ours.inbox.messages

    run_once(work())


def test_a_full_disk_refuses_the_database(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "gone"
        async with end(1, folder) as ours:
            folder.rmdir()
            status, body, _ = await ask(ours, post("/raft/snapshot", snapshot_body(9, b"x" * 100), GREETING))
            assert status == 500
            assert body.startswith(b"failed to save KV snapshot (")
            assert not ours.inbox.messages

    run_once(work())


def test_a_large_refused_body_is_not_read_to_its_end(run: Run, tmp_path: Path) -> None:
    """The sender learns why, and is hung up on."""

    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            one.writer.write(
                head("POST", "/raft/snapshot", {**GREETING, "X-Etcd-Cluster-Id": "9", "Content-Length": str(1 << 40)})
            )
            status, body, headers = await one.answer()
            assert (status, body, headers["connection"]) == (412, b"cluster ID mismatch\n", "close")
            # uvloop's transport, once closed, refuses with a RuntimeError.
            with contextlib.suppress(ConnectionError, RuntimeError):
                for _ in range(100):
                    one.writer.write(bytes(1 << 16))
                    await one.writer.drain()
                    await asyncio.sleep(0.01)
            assert await one.is_closed()

    run(work())


# Nonsense.


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n",
        b"x" * 100_000,
        b"GET /members HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /leases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50),
        b"\r\n\r\n",
    ],
)
def test_nonsense_ends_its_connection_and_nothing_else(run: Run, tmp_path: Path, request_bytes: bytes) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            async with client(ours) as one:
                one.writer.write(request_bytes)
                while data := await read_some(one):
                    assert data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
            assert (await ask(ours, head("GET", "/version")))[0] == 200

    run(work())


async def read_some(one: Client) -> bytes:
    try:
        async with asyncio.timeout(10):
            return await one.reader.read(1 << 16)
    except ConnectionError:
        return b""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), path=st.sampled_from(["/raft", "/raft/snapshot", "/leases", "/members/hashkv"]))
def test_any_body_gets_some_answer(run_once: Run, tmp_path: Path, data: bytes, path: str) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as one:
            method = "GET" if path == "/members/hashkv" else "POST"
            request = head(method, path, {**GREETING, "Content-Length": str(len(data))}) + data
            status, _, _ = await one.ask(request)
            assert status in (200, 204, 400)

    run_once(work())


def test_a_client_that_says_nothing_is_hung_up_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SILENCE_S_MAX", 0.1)

    async def work() -> None:
        async with end(1, tmp_path) as ours, client(ours) as mute, client(ours) as slow, client(ours) as idle:
            slow.writer.write(b"GET /vers")
            assert (await idle.ask(head("GET", "/version")))[0] == 200
            assert await mute.is_closed()
            assert await slow.is_closed()
            assert await idle.is_closed()
            await until(lambda: not ours.listener._connections)

    run(work())


def test_http2_is_handed_over_with_all_that_came(run: Run, tmp_path: Path) -> None:
    """gRPC lives on the peer port too."""
    handed: list[bytes] = []

    class Taker(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            handed.append(data)

    def take(transport: asyncio.Transport, data: bytes) -> None:
        handed.append(data)
        transport.set_protocol(Taker())
        transport.write(b"hello")

    async def work() -> None:
        async with end(1, tmp_path, http2=take) as ours, client(ours) as one:
            one.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert await one.reader.readexactly(5) == b"hello"
            one.writer.write(b"more")
            await until(lambda: b"".join(handed).endswith(b"more"))
            assert b"".join(handed) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"
            assert (await ask(ours, head("GET", "/version")))[0] == 200

    run(work())


def test_closing_lets_answers_under_way_finish(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        release = asyncio.Event()

        async def wait() -> None:
            await release.wait()

        async with end(1, tmp_path) as ours, client(ours) as one, client(ours) as idle:
            ours.pages.applied = wait
            one.writer.write(RENEW)
            await until(lambda: len(ours.transport.errands._tasks) == 1)
            ours.listener.close()
            assert await idle.is_closed()
            release.set()
            status, _, headers = await one.answer()
            assert (status, headers["connection"]) == (200, "close")

    run_once(work())
