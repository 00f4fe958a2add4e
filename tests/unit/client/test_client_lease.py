"""Keeping leases alive, on a clock of the test's own. Source: etcd client/v3/lease.go."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from balsad.client.errors import RpcError
from balsad.client.lease import Leases
from balsad.client.loops import sleep
from balsad.client.messages import LeaseKeepAliveResponse
from tests.unit.client.virtual_loop import FakeChannel


class World:
    def __init__(self) -> None:
        self.channel = FakeChannel()
        self.leases = Leases(self.channel, first_timeout_s=5.0)  # type: ignore[arg-type]

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        self.channel.loop.run(main)

    async def wait(self, seconds: float) -> None:
        await sleep(self.channel.loop, seconds)

    def asked(self) -> list[int]:
        """Lease ids that were renewed, over all streams."""
        return [message.ID for stream in self.channel.streams for message in stream.sent]


def renewed(lease_id: int, ttl_s: int) -> LeaseKeepAliveResponse:
    return LeaseKeepAliveResponse(ID=lease_id, TTL=ttl_s)


def test_a_lease_is_renewed_when_a_third_of_its_time_is_over() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        assert world.asked() == [7]
        world.channel.streams[0].answer(renewed(7, 30))
        assert (await anext(kept)).TTL == 30
        await world.wait(9.0)
        assert world.asked() == [7]
        await world.wait(1.6)
        assert world.asked() == [7, 7]

    world.run(main())


def test_an_expired_lease_ends_the_iteration() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        world.channel.streams[0].answer(renewed(7, 30), renewed(7, 0))
        assert [response.TTL async for response in kept] == [30]
        assert kept.ended

    world.run(main())


def test_a_lease_nobody_renews_is_given_up_when_its_time_is_over() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        world.channel.streams[0].answer(renewed(7, 10))
        began = world.channel.loop.time()
        await kept.wait_ended()
        assert 10.0 <= world.channel.loop.time() - began <= 11.5

    world.run(main())


def test_the_first_answer_must_come_in_time() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        began = world.channel.loop.time()
        await kept.wait_ended()
        assert 5.0 <= world.channel.loop.time() - began <= 6.5

    world.run(main())


def test_a_broken_stream_is_opened_again() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        world.channel.streams[0].answer(renewed(7, 30))
        await world.wait(0.1)
        world.channel.streams[0].fail(RpcError(14, "transport is closing"))
        await world.wait(11.0)
        assert len(world.channel.streams) == 2
        assert {message.ID for message in world.channel.streams[1].sent} == {7}
        assert not kept.ended

    world.run(main())


def test_leases_share_one_stream() -> None:
    world = World()

    async def main() -> None:
        first, second = world.leases.keep_alive(1), world.leases.keep_alive(2)
        await world.wait(0.1)
        assert len(world.channel.streams) == 1
        assert sorted(world.asked()) == [1, 2]
        world.channel.streams[0].answer(renewed(2, 20), renewed(1, 10))
        assert ((await anext(first)).TTL, (await anext(second)).TTL) == (10, 20)

    world.run(main())


def test_an_unanswered_renewal_is_repeated() -> None:
    world = World()

    async def main() -> None:
        world.leases.keep_alive(7)
        await world.wait(2.2)
        assert world.asked() == [7] * len(world.asked())
        assert 3 <= len(world.asked()) <= 6

    world.run(main())


def test_stopping_the_last_one_closes_the_stream() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        kept.stop()
        await world.wait(1.0)
        assert world.channel.streams[0].cancelled
        assert [response async for response in kept] == []

    world.run(main())


def test_a_stopped_lease_can_be_kept_alive_again() -> None:
    world = World()

    async def main() -> None:
        world.leases.keep_alive(7).stop()
        await world.wait(2.0)
        kept = world.leases.keep_alive(7)
        await world.wait(0.2)
        world.channel.streams[-1].answer(renewed(7, 30))
        assert (await anext(kept)).TTL == 30

    world.run(main())


def test_answers_nobody_fetches_are_dropped() -> None:
    world = World()

    async def main() -> None:
        kept = world.leases.keep_alive(7)
        await world.wait(0.1)
        world.channel.streams[0].answer(*[renewed(7, ttl_s) for ttl_s in range(100, 200)])
        await world.wait(0.1)
        assert (await anext(kept)).TTL == 184

    world.run(main())
