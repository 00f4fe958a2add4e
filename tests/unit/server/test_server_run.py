"""run(config, env): all that it starts has ended when it returns, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.config import ServerConfig, StartError
from balsad.config.urls import parse_url
from balsad.env import Disk, Env
from balsad.env.real import RealClock, RealDisk, RealRandom
from balsad.main import run
from balsad.server.long_ranges import LongRanges
from balsad.storage import Backend, StorageError
from tests.interop.v3 import connect
from tests.unit.server.server_kit import WAIT_S, config_of, in_loop
from tests.unit.storage.bolt_disks import FaultyDisk


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A member sets the garbage collector to its own liking."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Ports:
    """Two ports that nobody else is given while this is held."""

    def __init__(self) -> None:
        self._sockets = [socket.socket() for _ in range(2)]
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        self.client, self.peer = (one.getsockname()[1] for one in self._sockets)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@pytest.fixture
def ports() -> Iterator[Ports]:
    held = Ports()
    yield held
    held.close()


def config_on(folder: Path, ports: Ports, **fields: Any) -> ServerConfig:
    client, peer = f"http://127.0.0.1:{ports.client}", f"http://127.0.0.1:{ports.peer}"
    values: dict[str, Any] = {
        "listen_client_urls": (parse_url(client),),
        "advertise_client_urls": (parse_url(client),),
        "listen_peer_urls": (parse_url(peer),),
        "initial_advertise_peer_urls": (parse_url(peer),),
        "initial_cluster": f"default={peer}",
        **fields,
    }
    return config_of(folder, **values)


def env_with(disk: Disk | None = None) -> Env:
    return Env(clock=RealClock(), random=RealRandom(), disk=disk if disk is not None else RealDisk())


def open_files() -> set[str]:
    """The sockets and data files that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if "/data/" in target or "socket" in target:
                found.add(target)
    return found


async def answers(port: int) -> bool:
    """Whether /health says true."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return b'"true"' in await asyncio.wait_for(reader.read(), 5)
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def served(config: ServerConfig, env: Env, port: int) -> AsyncIterator[asyncio.Task[None]]:
    """A member that answers; nothing of it is left at the end."""
    files, tasks, threads = open_files(), asyncio.all_tasks(), threading.active_count()
    running = asyncio.ensure_future(run(config, env))
    loop = asyncio.get_running_loop()
    give_up = loop.time() + WAIT_S
    while not await answers(port):
        assert not running.done(), running.exception()
        assert loop.time() < give_up
        await asyncio.sleep(0.01)
    yield running
    assert running.done()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == tasks
    assert not await answers(port)
    # The executor keeps threads for the next one who needs them; so does gRPC.
    assert threading.active_count() <= threads + 8
    assert open_files() - files == set()


def test_cancelled_it_closes_everything(tmp_path: Path, ports: Ports) -> None:
    """Idle connections notwithstanding; and the next one starts in the same process."""

    async def scenario() -> None:
        config = config_on(tmp_path, ports)
        for _ in range(2):
            async with served(config, env_with(), ports.client) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", ports.client)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                assert await reader.read() == b""
                writer.close()

    in_loop(scenario())


@pytest.mark.parametrize("operation", ["pwrite", "pwritev"])
def test_broken_it_says_why_and_closes_everything(tmp_path: Path, ports: Ports, operation: str) -> None:
    """The log or the db cannot be written any more. What was written is there for the next one."""

    async def scenario() -> None:
        disk = FaultyDisk()
        config = config_on(tmp_path, ports)
        acknowledged = 0
        async with served(config, env_with(disk), ports.client) as running:
            disk.fail(operation, errno.ENOSPC)
            with connect(f"127.0.0.1:{ports.client}") as client, pytest.raises(grpc.RpcError):
                for acknowledged in range(10_000):
                    await asyncio.to_thread(client.put, b"%05d" % acknowledged, b"1")
            with pytest.raises(StorageError, match="no space left on device"):
                await asyncio.wait_for(running, WAIT_S)
        async with served(config, env_with(), ports.client) as running:
            with connect(f"127.0.0.1:{ports.client}") as client:
                found = await asyncio.to_thread(client.range, b"0", range_end=b"1", count_only=True)
                assert acknowledged <= found.count <= acknowledged + 1
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    in_loop(scenario())


def break_a_row(folder: Path) -> None:
    """The name of a revision loses its underscore: the index names a row that is not there."""
    backend = Backend.open(RealDisk(), str(folder / "data/member/snap/db"))
    name, kv = backend.scan(b"key", b"", None)[-1]
    backend.delete(b"key", name)
    backend.put(b"key", name.replace(b"_", b"\0"), kv)
    backend.close()


@pytest.mark.parametrize("keys_min", [1, 10_000])
def test_a_read_that_meets_a_broken_row_stops_the_member(
    tmp_path: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch, keys_min: int
) -> None:
    """Whether it is read at once or bit by bit. Source: etcd kvstore_txn.go (rangeKeys), which is fatal."""
    monkeypatch.setattr(LongRanges, "keys_min", property(lambda ranges: keys_min, lambda ranges, value: None), False)

    async def scenario() -> None:
        config = config_on(tmp_path, ports)
        async with served(config, env_with(), ports.client) as running:
            with connect(f"127.0.0.1:{ports.client}") as client:
                for number in range(3):
                    await asyncio.to_thread(client.put, b"%d" % number, b"1")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        break_a_row(tmp_path)
        async with served(config, env_with(), ports.client) as running:
            with connect(f"127.0.0.1:{ports.client}") as client, pytest.raises(grpc.RpcError):
                await asyncio.to_thread(client.range, b"0", range_end=b"9")
            with pytest.raises(StorageError, match=r"bucket key has no row .* which the index names"):
                await asyncio.wait_for(running, WAIT_S)

    in_loop(scenario())


def test_a_start_that_is_refused_leaves_nothing(tmp_path: Path, ports: Ports) -> None:
    async def scenario() -> None:
        files = open_files()
        with pytest.raises(StartError, match="couldn't find local name"):
            await run(config_on(tmp_path, ports, name="stranger"), env_with())
        (tmp_path / "data/member/snap").mkdir(parents=True)
        holder = Backend.open(RealDisk(), str(tmp_path / "data/member/snap/db"))
        held = open_files()
        with pytest.raises(StorageError, match="another process is using it"):
            await run(config_on(tmp_path, ports), env_with())
        assert open_files() == held
        holder.close()
        assert open_files() == files

    in_loop(scenario())


def test_a_port_in_use_is_found_before_the_data_is_touched(tmp_path: Path, ports: Ports) -> None:
    async def scenario() -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", ports.client))
            other.listen()
            with pytest.raises(StartError, match=f"listen tcp 127.0.0.1:{ports.client}: bind: address already in use"):
                await run(config_on(tmp_path, ports), env_with())
        assert not (tmp_path / "data").exists()

    in_loop(scenario())


def test_cancelled_while_it_starts(tmp_path: Path, ports: Ports) -> None:
    async def scenario() -> None:
        tasks, files = asyncio.all_tasks(), open_files()
        for turns in (0, 1, 2, 5, 20, 60):
            running = asyncio.ensure_future(run(config_on(tmp_path, ports), env_with()))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(running, WAIT_S)
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == tasks
        assert open_files() == files
        async with served(config_on(tmp_path, ports), env_with(), ports.client) as running:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    in_loop(scenario())
