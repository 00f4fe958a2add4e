"""The client library against real servers and ours, on asyncio and on the small loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from balsad.client import Client, compare, delete_request, get_request, put_request
from balsad.client import messages as m
from balsad.client.errors import CallTimeoutError
from balsad.client.loops import SmallLoop, sleep
from balsad.client.tls import client_context
from balsad.errors import (
    AuthFailedError,
    CompactedError,
    FutureRevError,
    LeaseNotFoundError,
    MemberNotFoundError,
    PermissionDeniedError,
    UserNotFoundError,
)
from tests.interop.servers import Member, program, programs, start
from tests.unit.transport.running_server import Authority

pytestmark = [pytest.mark.real]

TIMEOUT = 10.0
Main = Callable[[Client], Coroutine[Any, Any, None]]


@pytest.fixture(params=programs(), scope="module")
def member(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with start(program(request.param), tmp_path_factory.mktemp("client") / "data", "--bcrypt-cost=4") as running:
        yield running


def on_small_loop(endpoints: list[str], main: Main, **options: Any) -> None:
    loop = SmallLoop()

    async def wrapper() -> None:
        async with Client(endpoints, loop=loop, **options) as client:
            await main(client)

    loop.run(wrapper())


def on_asyncio(endpoints: list[str], main: Main, **options: Any) -> None:
    async def wrapper() -> None:
        async with Client(endpoints, **options) as client:
            await main(client)

    asyncio.run(wrapper())


@pytest.fixture(params=["small loop", "asyncio"])
def run(request: pytest.FixtureRequest, member: Member) -> Callable[[Main], None]:
    """Runs a coroutine with a client of the server."""
    runner = on_small_loop if request.param == "small loop" else on_asyncio
    return lambda main: runner([member.address], main)


def test_keys(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        kv = client.kv
        await kv.delete("", from_key=True, timeout=TIMEOUT)
        first = await kv.put("a", "1", timeout=TIMEOUT)
        again = await kv.put("a", b"\xff\0", prev_kv=True, timeout=TIMEOUT)
        assert again.prev_kv is not None
        assert again.prev_kv.value == b"1"
        await kv.put("a/b", "2", timeout=TIMEOUT)
        assert [one.key for one in (await kv.get("a", prefix=True)).kvs] == [b"a", b"a/b"]
        assert (await kv.get("a", revision=first.header.revision)).kvs[0].value == b"1"
        assert (await kv.get("a", prefix=True, count_only=True)).count == 2
        assert [one.value for one in (await kv.get("a", prefix=True, keys_only=True)).kvs] == [b"", b""]
        order = await kv.get("a", prefix=True, sort_target=m.RangeRequest.KEY, sort_order=m.RangeRequest.DESCEND)
        assert [one.key for one in order.kvs] == [b"a/b", b"a"]
        limited = await kv.get("", from_key=True, limit=1)
        assert (limited.more, limited.count) == (True, 2)
        with pytest.raises(FutureRevError):
            await kv.get("a", revision=1 << 40)
        deleted = await kv.delete("a", prefix=True, prev_kv=True)
        assert (deleted.deleted, [one.key for one in deleted.prev_kvs]) == (2, [b"a", b"a/b"])
        await kv.compact(deleted.header.revision, physical=True)
        with pytest.raises(CompactedError):
            await kv.get("a", revision=first.header.revision)

    run(main)


def test_transactions(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        await client.kv.put("t", "1", timeout=TIMEOUT)
        response = await client.kv.txn(
            [compare("t", "value", "=", "1"), compare("t", "version", ">", 0)],
            [put_request("t", "2"), get_request("t")],
            [delete_request("t")],
        )
        assert response.succeeded
        got = response.responses[1].response_range
        assert got is not None
        assert got.kvs[0].value == b"2"
        failed = await client.kv.txn([compare("t", "value", "=", "1")], failure=[delete_request("t")])
        assert not failed.succeeded
        assert (await client.kv.get("t")).count == 0

    run(main)


def test_watches(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        revision = (await client.kv.put("w/1", "1", timeout=TIMEOUT)).header.revision
        watcher = client.watch.watch("w/", prefix=True, revision=revision, prev_kv=True)
        quiet = client.watch.watch("w/", prefix=True, filters=[m.WatchCreateRequest.NOPUT])
        response = await anext(watcher)
        assert response.events[0].kv.value == b"1"
        await client.kv.put("w/1", "2")
        event = (await anext(watcher)).events[0]
        assert event.prev_kv is not None
        assert (event.kv.value, event.prev_kv.value) == (b"2", b"1")
        await client.kv.delete("w/1")
        assert (await anext(watcher)).events[0].type == m.Event.DELETE
        assert (await anext(quiet)).events[0].type == m.Event.DELETE
        watcher.cancel()
        assert [one async for one in watcher] == []

    run(main)


def test_a_watch_of_what_was_compacted(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        for number in range(3):
            last = await client.kv.put("c", str(number), timeout=TIMEOUT)
        await client.kv.compact(last.header.revision)
        watcher = client.watch.watch("c", revision=1)
        with pytest.raises(CompactedError):
            await anext(watcher)
        assert watcher.compact_revision == last.header.revision

    run(main)


def test_many_watchers_on_one_stream(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        count = 200
        base = (await client.kv.put("base", "", timeout=TIMEOUT)).header.revision
        watchers = [client.watch.watch(f"many/{number}", revision=base + 1) for number in range(count)]
        for number in range(count):
            await client.kv.put(f"many/{number}", str(number))
        for number, watcher in enumerate(watchers):
            assert (await anext(watcher)).events[0].kv.value == str(number).encode()

    run(main)


def test_leases(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        lease = await client.lease.grant(60, timeout=TIMEOUT)
        await client.kv.put("leased", "", lease=lease.ID)
        left = await client.lease.time_to_live(lease.ID, keys=True)
        assert (left.grantedTTL, list(left.keys)) == (60, [b"leased"])
        assert lease.ID in [one.ID for one in (await client.lease.list()).leases]
        assert (await client.lease.keep_alive_once(lease.ID)).TTL == 60
        kept = client.lease.keep_alive(lease.ID)
        assert (await anext(kept)).TTL == 60
        await client.lease.revoke(lease.ID)
        assert (await client.kv.get("leased")).count == 0
        with pytest.raises(LeaseNotFoundError):
            await client.lease.keep_alive_once(lease.ID)

    run(main)


def test_a_lock_has_one_holder_at_a_time(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        held: list[int] = []

        async def work(number: int) -> None:
            async with client.session(ttl_s=10) as session, client.lock(session, "mutex"):
                held.append(number)
                assert len(held) == 1
                await sleep(client.loop, 0.01)
                held.remove(number)

        for task in [client.loop.create_task(work(number)) for number in range(5)]:
            await task
        assert (await client.kv.get("mutex/", prefix=True)).count == 0

    run(main)


def test_an_election(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        async with client.session(ttl_s=10) as first, client.session(ttl_s=10) as second:
            leading, waiting = client.election(first, "race"), client.election(second, "race")
            await leading.campaign("one")
            observed = waiting.observe()
            assert (await anext(observed)).kvs[0].value == b"one"
            campaign = client.loop.create_task(waiting.campaign("two"))
            await leading.proclaim("still one")
            assert (await anext(observed)).kvs[0].value == b"still one"
            await leading.resign()
            await campaign
            assert (await anext(observed)).kvs[0].value == b"two"
            leader = await leading.leader()
            assert leader is not None
            assert leader.value == b"two"

    run(main)


def test_maintenance_and_membership(run: Callable[[Main], None]) -> None:
    async def main(client: Client) -> None:
        members = (await client.cluster.members(timeout=TIMEOUT)).members
        assert len(members) == 1
        status = await client.maintenance.status()
        assert status.leader == members[0].ID
        assert list((await client.maintenance.alarms()).alarms) == []
        assert list((await client.maintenance.disarm()).alarms) == []
        await client.maintenance.defragment()
        assert (await client.maintenance.hash_kv()).hash
        with pytest.raises(MemberNotFoundError):
            await client.cluster.remove(1)
        pieces = [response.blob async for response in client.maintenance.snapshot()]
        data = b"".join(pieces)
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        await client.sync()
        assert client.endpoints == list(members[0].clientURLs)
        assert (await client.kv.get("x", timeout=TIMEOUT)).count == 0

    run(main)


@pytest.mark.parametrize("name", programs())
@pytest.mark.parametrize("runner", [on_small_loop, on_asyncio])
def test_users_and_their_tokens(name: str, runner: Any, tmp_path: Path) -> None:
    with start(program(name), tmp_path / "data", "--bcrypt-cost=4") as member:

        async def furnish(client: Client) -> None:
            await client.auth.user_add("root", "rpw", timeout=TIMEOUT)
            await client.auth.role_add("root")
            await client.auth.user_grant_role("root", "root")
            await client.auth.user_add("u", "pw")
            await client.auth.role_add("r")
            await client.auth.role_grant_permission("r", m.Permission.READWRITE, "a/", prefix=True)
            await client.auth.user_grant_role("u", "r")
            await client.auth.enable()

        async def as_root(client: Client) -> None:
            assert (await client.auth.status(timeout=TIMEOUT)).enabled
            assert list((await client.auth.user_get("u")).roles) == ["r"]
            # With a token the server does not know, the client asks for another.
            client.channel.token = "nonsense.1"
            assert sorted((await client.auth.user_list()).users) == ["root", "u"]
            with pytest.raises(UserNotFoundError):
                await client.auth.user_get("nobody")

        async def as_user(client: Client) -> None:
            await client.kv.put("a/1", "x", timeout=TIMEOUT)
            with pytest.raises(PermissionDeniedError):
                await client.kv.put("b", "x")
            watcher = client.watch.watch("a/", prefix=True, revision=1)
            assert (await anext(watcher)).events[0].kv.key == b"a/1"
            with pytest.raises(PermissionDeniedError):
                await anext(client.watch.watch("b"))

        async def nothing(_client: Client) -> None:
            raise AssertionError("not reached")

        runner([member.address], furnish)
        runner([member.address], as_root, user="root", password="rpw")
        runner([member.address], as_user, user="u", password="pw")
        with pytest.raises(AuthFailedError):
            runner([member.address], nothing, user="u", password="wrong")


@pytest.mark.parametrize("name", programs())
@pytest.mark.parametrize("runner", [on_small_loop, on_asyncio])
def test_certificates(name: str, runner: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "server")
    client_certificate, client_key = authority.issue("client", "client")
    other = tmp_path / "other"
    other.mkdir()
    other_ca = Authority(other).ca
    flags = [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={authority.ca}"]
    flags.append("--client-cert-auth")

    async def main(client: Client) -> None:
        await client.kv.put("k", bytes(300_000), timeout=TIMEOUT)
        assert (await client.kv.get("k", timeout=TIMEOUT)).kvs[0].value == bytes(300_000)

    async def refused(client: Client) -> None:
        with pytest.raises(CallTimeoutError) as raised:
            await client.kv.get("k", timeout=0.5)
        assert raised.value.__cause__ is not None

    with start(program(name), tmp_path / "data", healthy=False) as plain:
        plain.kill()
    url = plain.client_url.replace("http:", "https:")
    flags += [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
    with start(program(name), tmp_path / "data2", *flags, like=plain, healthy=False):
        good = client_context(cacert=authority.ca, cert=client_certificate, key=client_key)
        runner([url], main, tls=good)
        runner([plain.address], main, tls=good)
        runner([url], refused, tls=client_context(cacert=authority.ca))
        runner([url], refused, tls=client_context(cacert=other_ca, cert=client_certificate, key=client_key))
        runner([plain.address], refused)
