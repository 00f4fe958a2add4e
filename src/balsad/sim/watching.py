"""Clients that watch: each follows some keys for the whole run, over as many streams as it takes.

ask for a start --> hear --> the stream breaks, or is left --> ask again for what comes after the last heard
                         --> canceled: compacted           --> begin anew behind the compaction
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from balsad.proto import kv_pb2, rpc_pb2
from balsad.sim.history import WatchEvent, WatchMessage, WatchSession
from balsad.sim.requests import key_value

if TYPE_CHECKING:
    import random

    from balsad.sim.client import Client, Connection
    from balsad.sim.machine import Machine
    from balsad.sim.world import World

WATCH: Final = "/etcdserverpb.Watch/Watch"
RANGES: Final = (
    (b"\0", b"\0"),
    (b"k/", b"k0"),
    (b"k/1", b""),
    (b"p/", b"p0"),
    (b"l/", b"l0"),
    (b"k/2", b"\0"),
)

NOT_ALLOWED: Final = "not allowed"


class _Stream:
    """One stream with one watch on it, as the client hears it."""

    def __init__(self, watcher: Watcher, session: WatchSession) -> None:
        self.watcher = watcher
        self.session = session
        self.ended: asyncio.Future[None] = watcher.client.process.create_future()
        self.created: asyncio.Future[None] = watcher.client.process.create_future()
        self._parts: list[WatchEvent] = []

    def on_message(self, raw: bytes) -> None:
        response = rpc_pb2.WatchResponse.FromString(raw)
        session, now = self.session, self.watcher.client.now
        self.watcher.world.note("watched", self.watcher.client.name, raw)
        if session.ended != float("inf"):
            # The watch is over; that the stream as a whole made progress is nothing to it.
            return
        if response.created:
            session.created_revision = response.header.revision
            if not self.created.done():
                self.created.set_result(None)
        if response.canceled and "permission denied" in response.cancel_reason:
            # It never began.
            session.created_revision = 0
            self._end(NOT_ALLOWED)
            return
        if response.canceled:
            session.is_canceled = True
            session.compact_revision = response.compact_revision
            self._end(response.cancel_reason or "canceled")
            return
        if response.created:
            return
        events = [
            WatchEvent(
                event.type == kv_pb2.Event.DELETE,
                key_value(event.kv),
                key_value(event.prev_kv) if event.HasField("prev_kv") else None,
            )
            for event in response.events
        ]
        if response.fragment:
            self._parts += events
            return
        events, self._parts = self._parts + events, []
        session.messages.append(WatchMessage(now, response.header.revision, tuple(events), not events))

    def on_end(self, code: int, text: str) -> None:
        self._end(text or f"code {code}")

    def _end(self, why: str) -> None:
        session = self.session
        if session.ended == float("inf"):
            session.ended = self.watcher.client.now
            session.ended_why = why
        for future in (self.ended, self.created):
            if not future.done():
                future.set_result(None)


class Watcher:
    """Follows one range of keys."""

    def __init__(
        self, world: World, client: Client, rnd: random.Random, keys: tuple[bytes, bytes], *, is_steady: bool
    ) -> None:
        """`is_steady`: it watches from the first revision on and never leaves of its own will."""
        self.world = world
        self.client = client
        self.random = rnd
        self.key, self.end = keys
        self.is_steady = is_steady
        self.next_revision = 1 if is_steady else 0
        self.stream: _Stream | None = None

    async def live(self) -> None:
        while not self.world.is_closed:
            await self._session()
            await self.client.sleep(self.random.uniform(0.01, 0.5))

    async def _session(self) -> None:
        machine = self._choose()
        session = WatchSession(
            self.client.name,
            machine.name,
            self.key,
            self.end,
            self.next_revision,
            self.client.now,
            wants_previous=self.is_steady or self.random.random() < 0.3,
        )
        request = rpc_pb2.WatchCreateRequest(
            key=session.key,
            range_end=session.end,
            start_revision=session.start_revision,
            prev_kv=session.wants_previous,
            progress_notify=self.random.random() < 0.5,
            fragment=self.random.random() < 0.3,
        )
        self.world.history.watches.append(session)
        stream = self.stream = _Stream(self, session)
        message = rpc_pb2.WatchRequest(create_request=request).SerializeToString()
        connection = self.client.stream(machine, WATCH, message, stream)
        if not self.is_steady:
            self.client.process.create_task(self._be_difficult(stream, connection))
        patience = self.client.process.call_later(5.0, self._lose_patience, stream, connection)
        await stream.created
        patience.cancel()
        await stream.ended
        connection.is_over = True
        self._learn(session)
        if session.ended_why == NOT_ALLOWED:
            await self.client.log_in(machine, self.world.plan.timeout_s)

    def _choose(self) -> Machine:
        serving = [machine for machine in self.world.present() if machine.is_serving]
        return self.random.choice(serving or self.world.present())

    def _lose_patience(self, stream: _Stream, connection: Connection) -> None:
        connection.hang_up()
        stream._end("never created")

    async def _be_difficult(self, stream: _Stream, connection: Connection) -> None:
        """Read slowly, ask for progress, leave."""
        while not stream.ended.done():
            await self.client.sleep(self.random.expovariate(1.0 / 3.0))
            if stream.ended.done() or self.world.is_over:
                return
            dice = self.random.random()
            if dice < 0.3:
                connection.stop_reading()
                await self.client.sleep(self.random.uniform(0.1, 3.0))
                connection.read_on()
            elif dice < 0.7:
                progress = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())
                connection.send(progress.SerializeToString())
            else:
                connection.hang_up()
                stream._end("left")

    def _learn(self, session: WatchSession) -> None:
        """Where to go on."""
        if session.compact_revision:
            self.next_revision = session.compact_revision
            return
        if session.created_revision and not session.start_revision:
            self.next_revision = session.created_revision + 1
        for message in session.messages:
            # What a progress notification says was told counts as heard.
            heard = message.revision if message.is_progress else message.events[-1].kv.mod
            self.next_revision = max(self.next_revision, heard + 1)
