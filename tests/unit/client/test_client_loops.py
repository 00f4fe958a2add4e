"""The small loop: futures, tasks, timers, sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from balsad.client.loops import Cancelled, SmallLoop, sleep


def test_tasks_take_turns() -> None:
    loop = SmallLoop()
    steps: list[str] = []

    async def work(name: str) -> str:
        for number in range(2):
            steps.append(f"{name}{number}")
            await sleep(loop, 0)
        return name

    async def main() -> list[str]:
        tasks = [loop.create_task(work(name)) for name in "ab"]
        return [await task for task in tasks]

    assert loop.run(main()) == ["a", "b"]
    assert steps == ["a0", "b0", "a1", "b1"]


def test_timers_fire_in_order_and_can_be_cancelled() -> None:
    loop = SmallLoop()
    fired: list[int] = []

    async def main() -> None:
        loop.call_later(0.02, fired.append, 2)
        loop.call_later(0.01, fired.append, 1)
        loop.call_later(0.005, fired.append, 0).cancel()
        await sleep(loop, 0.03)

    loop.run(main())
    assert fired == [1, 2]


def test_a_cancelled_task_cleans_up_and_says_so() -> None:
    loop = SmallLoop()
    log: list[str] = []

    async def work() -> None:
        try:
            await loop.create_future()
        finally:
            log.append("cleaned up")

    async def main() -> None:
        task = loop.create_task(work())
        await sleep(loop, 0)
        task.cancel()
        with pytest.raises(Cancelled):
            await task

    loop.run(main())
    assert log == ["cleaned up"]


def test_a_task_cancelled_before_its_first_step_never_runs() -> None:
    loop = SmallLoop()
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    async def main() -> None:
        task = loop.create_task(work())
        task.cancel()
        with pytest.raises(Cancelled):
            await task

    loop.run(main())
    assert ran == []


def test_a_cancellation_and_a_result_in_the_same_turn() -> None:
    """The future is decided and its waiter woken; the cancellation that follows must not step it twice."""
    loop = SmallLoop()

    async def work(future: Any) -> str:
        try:
            return str(await future)
        except Cancelled:
            return "cancelled"

    async def main() -> str:
        future = loop.create_future()
        task = loop.create_task(work(future))
        await sleep(loop, 0)
        future.set_result("done")
        task.cancel()
        result: str = await task
        return result

    assert loop.run(main()) == "cancelled"


def test_exceptions_reach_whoever_waits() -> None:
    loop = SmallLoop()

    async def work() -> None:
        raise ValueError("no")

    async def main() -> None:
        await loop.create_task(work())

    with pytest.raises(ValueError, match="no"):
        loop.run(main())


class Echo:
    """A protocol that remembers what it heard."""

    def __init__(self, loop: SmallLoop) -> None:
        self.data = b""
        self.lost = loop.create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


def test_a_socket_both_ways_with_more_than_fits_its_buffers() -> None:
    loop = SmallLoop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    received = bytearray()
    big = os.urandom(4 << 20)

    async def main() -> bytes:
        host, port = listener.getsockname()
        transport, protocol = await loop.create_connection(lambda: Echo(loop), host, port)
        other, _address = listener.accept()
        other.setblocking(False)

        def on_readable() -> None:
            data = other.recv(1 << 20)
            received.extend(data)
            if len(received) == len(big):
                other.send(b"thanks")
                other.close()
                loop.watch(watched, None)

        watched = other.fileno()
        loop.watch(watched, on_readable)
        transport.write(big)
        assert await protocol.lost is None
        heard: bytes = protocol.data
        return heard

    assert loop.run(main()) == b"thanks"
    assert bytes(received) == big
    listener.close()


def test_nobody_listens() -> None:
    loop = SmallLoop()
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    listener.close()

    with pytest.raises(ConnectionRefusedError):
        loop.run(loop.create_connection(lambda: Echo(loop), host, port))


def test_a_socket_in_the_file_system(tmp_path: Any) -> None:
    loop = SmallLoop()
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    async def main() -> None:
        transport, protocol = await loop.create_unix_connection(lambda: Echo(loop), path)
        other, _address = listener.accept()
        transport.write(b"hi")
        transport.close()
        await protocol.lost
        assert other.recv(10) == b"hi"
        other.close()

    loop.run(main())
    listener.close()


def test_output_is_flushed_before_waiting() -> None:
    loop = SmallLoop()
    flushed: list[int] = []
    loop.before_wait = lambda: flushed.append(1)

    async def main() -> None:
        await sleep(loop, 0.001)

    loop.run(main())
    assert flushed
