"""Watches against a server that the test plays. Source: etcd client/v3/watch.go."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from balsad.client import watch as watch_module
from balsad.client.errors import RpcError
from balsad.client.loops import sleep
from balsad.client.messages import Event, KeyValue, ResponseHeader, WatchResponse
from balsad.client.watch import Watcher, Watches
from balsad.errors import CompactedError, NoLeaderError, PermissionDeniedError
from tests.unit.client.virtual_loop import FakeChannel, FakeStream


class World:
    """A client's watches, and the server's end of their streams."""

    def __init__(self) -> None:
        self.channel = FakeChannel()
        self.watches = Watches(self.channel)  # type: ignore[arg-type]

    async def settle(self, seconds: float = 0.0) -> FakeStream:
        """Let everybody run; gives the latest stream."""
        await sleep(self.channel.loop, seconds + 0.2)
        return self.channel.streams[-1]

    async def watching(self, watch_id: int, revision: int = 10, **options: Any) -> tuple[Watcher, FakeStream]:
        """A watcher that the server has created."""
        watcher = self.watches.watch("k", **options)
        stream = await self.settle()
        stream.answer(created(watch_id, revision))
        return watcher, await self.settle()


def created(watch_id: int, revision: int = 10) -> WatchResponse:
    return WatchResponse(header=ResponseHeader(revision=revision), watch_id=watch_id, created=True)


def put(watch_id: int, *revisions: int, fragment: bool = False) -> WatchResponse:
    events = [Event(kv=KeyValue(key=b"k", mod_revision=revision)) for revision in revisions]
    header = ResponseHeader(revision=revisions[-1])
    return WatchResponse(header=header, watch_id=watch_id, events=events, fragment=fragment)


def revisions(response: WatchResponse | None) -> list[int]:
    assert response is not None
    return [event.kv.mod_revision for event in response.events]


def run(world: World, main: Coroutine[Any, Any, None]) -> None:
    world.channel.loop.run(main)


def test_events_arrive_in_order() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(7, revision=3, prev_kv=True)
        request = stream.sent[0].create_request
        assert (request.key, request.start_revision, request.prev_kv) == (b"k", 0, True)
        stream.answer(put(7, 11, 12), put(7, 13))
        assert revisions(await watcher.next()) == [11, 12]
        assert revisions(await watcher.next()) == [13]

    run(world, main())


def test_after_a_lost_stream_it_goes_on_where_it_was() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0)
        stream.answer(put(0, 11))
        assert revisions(await watcher.next()) == [11]
        stream.fail(RpcError(14, "transport is closing"))
        second = await world.settle()
        assert second is not stream
        assert second.sent[0].create_request.start_revision == 12
        second.answer(created(0, 20), put(0, 15))
        assert revisions(await watcher.next()) == [15]

    run(world, main())


def test_a_watch_from_now_on_misses_nothing_of_the_time_without_a_stream() -> None:
    """Created at revision 10, it must see 11 even if the stream broke before any event."""
    world = World()

    async def main() -> None:
        _watcher, stream = await world.watching(0, revision=10)
        stream.fail(RpcError(14, "transport is closing"))
        second = await world.settle()
        assert second.sent[0].create_request.start_revision == 11

    run(world, main())


def test_progress_moves_the_revision_on() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0, revision=10)
        stream.answer(WatchResponse(header=ResponseHeader(revision=50), watch_id=0))
        response = await watcher.next()
        assert response is not None
        assert (response.events, response.header.revision) == ([], 50)
        stream.fail(None)
        second = await world.settle()
        assert second.sent[0].create_request.start_revision == 51

    run(world, main())


def test_watchers_share_a_stream_and_are_asked_for_one_by_one() -> None:
    world = World()

    async def main() -> None:
        first = world.watches.watch("a")
        second = world.watches.watch("b")
        stream = await world.settle()
        assert [one.create_request.key for one in stream.sent] == [b"a"]
        stream.answer(created(1), created(2))
        await world.settle()
        assert [one.create_request.key for one in stream.sent] == [b"a", b"b"]
        stream.answer(put(2, 12), put(1, 11))
        assert revisions(await first.next()) == [11]
        assert revisions(await second.next()) == [12]

    run(world, main())


def test_requested_progress_goes_to_every_watcher() -> None:
    world = World()

    async def main() -> None:
        first, stream = await world.watching(1)
        second = world.watches.watch("b")
        await world.settle()
        stream.answer(created(2))
        await world.settle()
        world.watches.request_progress()
        assert stream.sent[-1].progress_request is not None
        stream.answer(WatchResponse(header=ResponseHeader(revision=30), watch_id=-1))
        for watcher in (first, second):
            response = await watcher.next()
            assert response is not None
            assert response.header.revision == 30

    run(world, main())


def test_watches_that_need_no_leader_have_a_stream_of_their_own() -> None:
    world = World()

    async def main() -> None:
        world.watches.watch("a")
        world.watches.watch("b", require_leader=False)
        await world.settle()
        assert sorted(world.channel.require_leader) == [False, True]

    run(world, main())


def test_a_compacted_revision_ends_the_watch_and_says_what_is_left() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(3, revision=100)
        stream.answer(
            WatchResponse(header=ResponseHeader(revision=100), watch_id=3, canceled=True, compact_revision=90)
        )
        with pytest.raises(CompactedError):
            await anext(watcher)
        assert watcher.compact_revision == 90
        assert await watcher.next() is None

    run(world, main())


@pytest.mark.parametrize(
    "reason",
    [
        "etcdserver: permission denied",
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    ],
)
def test_a_refused_watch_says_why(reason: str) -> None:
    world = World()

    async def main() -> None:
        watcher = world.watches.watch("k")
        stream = await world.settle()
        stream.answer(WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=reason))
        with pytest.raises(PermissionDeniedError) as raised:
            await anext(watcher)
        assert str(raised.value) == reason

    run(world, main())


def test_a_watch_the_server_cancels_without_a_word_ends() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0)
        stream.answer(WatchResponse(header=ResponseHeader(revision=11), watch_id=0, canceled=True))
        assert await watcher.next() is None

    run(world, main())


def test_without_a_leader_all_watches_end() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0)
        stream.fail(NoLeaderError())
        with pytest.raises(NoLeaderError):
            await anext(watcher)

    run(world, main())


def test_fragments_are_put_together() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0, fragment=True)
        stream.answer(put(0, 11, fragment=True), put(0, 12, fragment=True), put(0, 13))
        assert revisions(await watcher.next()) == [11, 12, 13]

    run(world, main())


def test_half_of_a_fragmented_response_is_asked_for_again() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0, fragment=True)
        stream.answer(put(0, 11, fragment=True))
        stream.fail(RpcError(14, "transport is closing"))
        second = await world.settle()
        assert second.sent[0].create_request.start_revision == 11
        second.answer(created(0), put(0, 11, fragment=True), put(0, 12))
        assert revisions(await watcher.next()) == [11, 12]

    run(world, main())


def test_a_cancelled_watch_is_cancelled_on_the_server() -> None:
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(5)
        watcher.cancel()
        assert stream.sent[-1].cancel_request.watch_id == 5
        assert await watcher.next() is None
        stream.answer(put(5, 11))
        await world.settle()
        assert sum(one.cancel_request is not None for one in stream.sent) == 1

    run(world, main())


def test_a_watch_cancelled_before_its_answer_is_cancelled_after_it() -> None:
    world = World()

    async def main() -> None:
        first = world.watches.watch("a")
        second = world.watches.watch("b")
        stream = await world.settle()
        first.cancel()
        stream.answer(created(1), created(2))
        await world.settle()
        assert [one.cancel_request.watch_id for one in stream.sent if one.cancel_request] == [1]
        stream.answer(put(2, 11))
        assert revisions(await second.next()) == [11]

    run(world, main())


def test_an_unread_watch_is_parked_and_goes_on_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_QUEUE_BYTES_MAX", 30)
    world = World()

    async def main() -> None:
        watcher, stream = await world.watching(0)
        stream.answer(*[put(0, revision) for revision in range(11, 31)])
        await world.settle()
        assert stream.sent[-1].cancel_request.watch_id == 0
        seen: list[int] = []
        while not seen or seen[-1] < 30:
            asked = [one.create_request.start_revision for one in stream.sent if one.create_request]
            if len(asked) > 1:
                break
            reader = world.channel.loop.create_task(watcher.next())
            await world.settle()
            if reader.done():
                seen += revisions(await reader)
        assert asked[1] == seen[-1] + 1
        stream.answer(created(9), put(9, asked[1]))
        assert revisions(await reader) == [asked[1]]

    run(world, main())


def test_closing_ends_every_watch() -> None:
    world = World()

    async def main() -> None:
        watcher, _stream = await world.watching(0)
        queued = world.watches.watch("b")
        world.watches.close()
        assert await watcher.next() is None
        assert await queued.next() is None

    run(world, main())
