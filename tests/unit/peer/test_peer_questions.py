"""What a member asks others, answered by our own pages; and by ports that answer otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from balsad.config import parse_url
from balsad.errors import (
    ClusterIDMismatchError,
    CompactedError,
    FutureRevError,
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    RequestTimedOutError,
    UnhealthyError,
)
from balsad.membership import Member
from balsad.peer import PeerClient, PeerQuestionError, Versions, http_client, member_pages
from tests.unit.peer.conftest import Run
from tests.unit.peer.peer_kit import bound, end, url_of


@contextlib.asynccontextmanager
async def peer_client() -> AsyncIterator[PeerClient]:
    client = PeerClient(dial_timeout_s=1.0)
    try:
        yield client
    finally:
        client.close()


@contextlib.asynccontextmanager
async def port_that_says(answer: bytes) -> AsyncIterator[str]:
    """The URL of a port that gives every request the same answer and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.01)


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: c1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_the_cluster_is_learned_from_the_first_that_answers(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        nobody = bound()
        async with (
            end(1, tmp_path, cluster_id=0xABC) as ours,
            peer_client() as client,
            port_that_says(ok(b"nonsense")) as other,
        ):
            ours.pages.known = [Member(id=1, peer_urls=(ours.url,), name="one")]
            cluster = await client.get_cluster_from_peers([url_of(nobody), "no url", other, ours.url])
            assert (cluster.cluster_id, cluster.members) == (0xABC, tuple(ours.pages.known))
            with pytest.raises(PeerQuestionError, match="could not retrieve cluster information from the given URLs"):
                await client.get_cluster_from_peers([url_of(nobody)])
            ours.pages.known = []
            with pytest.raises(PeerQuestionError, match=r"failed to get raft cluster member\(s\)"):
                await client.get_cluster_from_peers([ours.url])
        nobody.close()

    run(work())


def test_versions_of_all_members_are_asked(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        nobody = bound()
        async with end(1, tmp_path) as ours, peer_client() as client, port_that_says(ok(b"[]")) as other:
            ours.pages.cluster_version = "3.5.0"
            members = [
                Member(id=1, peer_urls=(url_of(nobody), ours.url)),
                Member(id=2, peer_urls=(url_of(nobody),)),
                Member(id=3, peer_urls=(other,)),
                Member(id=4),
            ]
            versions = await client.get_versions(members)
            assert versions == {1: Versions(server="3.5.1", cluster="3.5.0"), 2: None, 3: None, 4: None}
            ours.pages.downgrade = True
            assert await client.is_downgrade_enabled(members)
            assert not await client.is_downgrade_enabled(members[1:])
        nobody.close()

    run_once(work())


def test_leases_are_asked_of_the_leader(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_pages, "APPLY_S_MAX", 0.02)

    async def work() -> None:
        nobody = bound()
        async with end(1, tmp_path) as ours, peer_client() as client:
            ours.pages.lease_keys = (b"k1", b"k2")
            urls = [url_of(nobody), ours.url]
            assert await client.renew_lease(urls, 77) == 60
            times = await client.lease_time_to_live(urls, 77, True)
            assert (times.ttl_s, times.granted_ttl_s, tuple(times.keys)) == (59, 60, (b"k1", b"k2"))
            assert tuple((await client.lease_time_to_live(urls, 77, False)).keys) == ()
            ours.pages.failure = LeaseNotFoundError()
            with pytest.raises(LeaseNotFoundError):
                await client.renew_lease(urls, 77)
            with pytest.raises(LeaseNotFoundError):
                await client.lease_time_to_live(urls, 77, True)
            ours.pages.applied = lambda: asyncio.sleep(60)
            with pytest.raises(RequestTimedOutError):
                await client.renew_lease(urls, 77)
            with pytest.raises(PeerQuestionError, match="connection refused"):
                await client.renew_lease([url_of(nobody)], 77)
            with pytest.raises(PeerQuestionError):
                await client.renew_lease([], 77)
        nobody.close()

    run(work())


def test_a_promotion_is_asked_of_the_leader(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, peer_client() as client:
            ours.pages.known = [Member(id=1, peer_urls=(ours.url,), name="one")]
            assert await client.promote_member([ours.url], 5, token="secret") == ours.pages.known
            assert ours.pages.promoted == [(5, "secret")]
            for failure in (MemberNotFoundError(), MemberNotLearnerError(), LearnerNotReadyError()):
                ours.pages.failure = failure
                with pytest.raises(type(failure)):
                    await client.promote_member([ours.url], 5)
            ours.pages.failure = UnhealthyError()
            with pytest.raises(PeerQuestionError, match="unknown error"):
                await client.promote_member([ours.url], 5)

    run_once(work())


def test_hashes_are_asked(run_once: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours, peer_client() as client:
            found = await client.hashkv([ours.url], 3, 0xC1)
            assert (found.hash, found.current_revision, found.compact_revision) == (1234, 3, -1)
            assert (await client.hashkv([ours.url], 0, 0xC1)).current_revision == 7
            with pytest.raises(ClusterIDMismatchError):
                await client.hashkv([ours.url], 3, 0xC2)
            for failure in (CompactedError(), FutureRevError()):
                ours.pages.failure = failure
                with pytest.raises(type(failure)):
                    await client.hashkv([ours.url], 3, 0xC1)

    run_once(work())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno",
        ok(b"\xff\xff\xff"),
        ok(b"[1, 2]"),
        ok(b'{"hash":"x"}'),
    ],
)
def test_odd_answers_are_told_as_such(run_once: Run, answer: bytes) -> None:
    """Nothing but a PeerQuestionError comes out, whatever the other side says; redirects are not followed."""

    async def work() -> None:
        async with port_that_says(answer) as url, peer_client() as client:
            questions = [
                lambda: client.renew_lease([url], 1),
                lambda: client.lease_time_to_live([url], 1, True),
                lambda: client.promote_member([url], 1),
                lambda: client.hashkv([url], 1, 1),
                lambda: client.get_cluster_from_peers([url]),
            ]
            for question in questions:
                with pytest.raises(PeerQuestionError):
                    await question()
            assert await client.get_versions([Member(id=1, peer_urls=(url,))]) in (
                {1: None},
                {1: Versions(server="", cluster="")},
            )

    run_once(work())


def test_a_question_has_an_end(run_once: Run) -> None:
    async def work() -> None:
        sock = bound()
        sock.listen()
        async with peer_client() as client:
            with pytest.raises(PeerQuestionError, match="deadline exceeded"):
                await client.hashkv([url_of(sock)], 1, 1, timeout_s=0.05)
        sock.close()

    run_once(work())


def test_an_endless_answer_is_cut(run_once: Run) -> None:
    async def work() -> None:
        async with port_that_says(ok(bytes(100_000))) as url:
            client = http_client.HttpClient(http_client.Dialer(None, 1.0))
            with pytest.raises(http_client.RequestFailedError, match="exceeds 1000 bytes"):
                await client.request("GET", parse_url(url), "/x", timeout_s=5, body_bytes_max=1000)
            client.close()

    run_once(work())


def test_connections_are_used_again_unless_they_died(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with end(1, tmp_path) as ours:
            client = http_client.HttpClient(http_client.Dialer(None, 1.0))
            url = parse_url(ours.url)
            for _ in range(3):
                assert (await client.request("GET", url, "/version", timeout_s=5)).status == 200
            assert len(ours.listener._connections) == 1
            together = [client.request("GET", url, "/version", timeout_s=5) for _ in range(5)]
            await asyncio.gather(*together)
            assert len(ours.listener._connections) == 5
            for connection in list(ours.listener._connections):
                connection.close()
            assert (await client.request("GET", url, "/version", timeout_s=5)).status == 200
            client.close()

    run(work())
