"""A server's calls of itself: how many connections they are spread over."""

from __future__ import annotations

import asyncio
from typing import Any

from balsad.api.loopback import Loopback
from balsad.client.grpc_status import Status
from balsad.transport import Call, RpcServer
from tests.unit.server.server_kit import in_loop


class Parrot:
    """A stream that says what it hears."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, body: bytes) -> None:
        self.call.send(body)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        pass


class Ear:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_message(self, data: bytes) -> None:
        self.heard.append(data)

    def on_end(self, status: Status) -> None:
        self.heard.append(status.code)


def test_many_calls_are_spread_over_connections_that_bound_one_another() -> None:
    """What becomes of the connection of some, because nobody reads what they are told, is not felt by the others."""

    async def scenario() -> None:
        server = RpcServer(scheduler=asyncio.get_running_loop())
        server.stream("/toy.Toy/Talk", Parrot)
        loopback = Loopback(server)
        ears = [Ear() for _ in range(600)]
        streams = [loopback.open("/toy.Toy/Talk", (), ear) for ear in ears]
        for stream in streams:
            stream.send(b"hello")
        loopback.flush()
        await settled(lambda: all(ear.heard for ear in ears))
        assert [ear.heard for ear in ears] == [[b"hello"]] * 600
        assert len(server.connections) == 3

        next(iter(server.connections)).abort()
        await settled(lambda: len(server.connections) == 2)
        for stream in streams[-300:]:
            stream.send(b"again")
        late = Ear()
        loopback.open("/toy.Toy/Talk", (), late).send(b"late")
        loopback.flush()
        await settled(lambda: all(len(ear.heard) == 2 for ear in ears[-300:]) and late.heard)
        assert [ear.heard[1] for ear in ears[-300:]] == [b"again"] * 300
        assert late.heard == [b"late"]
        assert len(server.connections) == 2  # in the room that the third one has
        loopback.close()

    async def settled(condition: Any) -> None:
        for _ in range(200):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never happened")

    in_loop(scenario())
