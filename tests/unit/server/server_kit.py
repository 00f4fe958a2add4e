"""A member in this process, or parts of one, on real files; and a call that writes down what it is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from balsad.config import ServerConfig
from balsad.config.form import is_compiled
from balsad.config.urls import parse_url
from balsad.env import Disk, Env
from balsad.env.real import RealDisk
from balsad.proto import raft_internal_pb2
from balsad.raft import Entry, EntryType
from balsad.server.member import Member
from balsad.server.plain_txn import read_txn
from balsad.server.propose import Pending, Result, plain_put
from balsad.storage.wal import INLINE, WalOptions
from balsad.transport import Headers
from tests.unit.transport.wire_kit import RawClient, Toy, window_update

WAIT_S = 10.0


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class NoChance:
    def randrange(self, stop: int) -> int:
        return 0

    def token_bytes(self, count: int) -> bytes:
        return bytes(count)


class FakeCall:
    """A Call that nobody made."""

    def __init__(self, **metadata: bytes) -> None:
        self.headers = cast(Headers, FakeHeaders({name.encode(): value for name, value in metadata.items()}))
        self.messages: list[bytes] = []
        self.status: tuple[int, str] | None = None
        self.answers = 0
        self.closed = False
        self.deadline: float | None = None
        self.peer_name = ""
        self.pending_bytes = 0
        self.on_writable: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None

    @property
    def given(self) -> Any:
        """What a handler is given."""
        return self

    def respond(self, message: bytes) -> None:
        self.messages.append(message)
        self._end(0, "")

    def send(self, message: bytes) -> None:
        self.messages.append(message)

    def send_shared(self, head: bytes, body: bytes) -> None:
        self.messages.append(head + body)

    def has_room(self, most: int) -> bool:
        return self.pending_bytes <= most

    def room(self, most: int) -> int:
        return 1 << 20 if self.has_room(most) else 0

    def finish(self) -> None:
        self._end(0, "")

    def fail(self, code: int, text: str) -> None:
        self._end(int(code), text)

    def _end(self, code: int, text: str) -> None:
        self.answers += 1
        assert self.answers == 1, f"answered twice: {self.status}, then {(code, text)}"
        self.status = (code, text)
        self.closed = True


class HeardCall:
    """A call of a client that hears what it is answered. Compiled modules take a real Call alone."""

    def __init__(self, **metadata: bytes) -> None:
        toy = Toy()
        # The windows are wide: it takes whatever comes, however much.
        self._client = RawClient(toy).open((4, (1 << 31) - 1)).send(window_update(0, 1 << 30))
        extra = tuple((name, value.decode()) for name, value in metadata.items())
        self._stream_id = self._client.call("/toy.Toy/Hold", b"", extra=extra)
        (self.given,) = toy.held

    @property
    def messages(self) -> list[bytes]:
        self._client.connection.flush()
        answer = self._client.answers.get(self._stream_id)
        return answer.messages if answer is not None else []

    @property
    def status(self) -> tuple[int, str] | None:
        self._client.connection.flush()
        answer = self._client.answers.get(self._stream_id)
        if answer is None or not answer.ended:
            return None
        return answer.status, dict(answer.headers[-1]).get("grpc-message", "")

    @property
    def answers(self) -> int:
        return int(self.status is not None)

    # What a test says of the client.

    @property
    def pending_bytes(self) -> int:
        return int(self.given.pending_bytes)

    @pending_bytes.setter
    def pending_bytes(self, count: int) -> None:
        self.given.pending_bytes = count

    @property
    def on_writable(self) -> Callable[[], None] | None:
        found: Callable[[], None] | None = self.given.on_writable
        return found

    @property
    def closed(self) -> bool:
        return bool(self.given.closed)

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.given.closed = closed


def new_call(**metadata: bytes) -> Any:
    """A call to hand in as `.given`; the fake one says more when it is answered as no call may be."""
    return HeardCall(**metadata) if is_compiled() else FakeCall(**metadata)


class FakeHeaders:
    def __init__(self, metadata: dict[bytes, bytes]) -> None:
        self.metadata = metadata
        self.memo: Any = None


class InlineMember(Member):
    """Writes its log itself, in small segments, however long the disk takes."""

    def wal_options(self) -> WalOptions:
        return WalOptions(sync=INLINE, segment_bytes=1 << 16)


def config_of(folder: Path | str, **fields: Any) -> ServerConfig:
    peer = "http://127.0.0.1:1"
    values: dict[str, Any] = {
        "data_dir": os.path.join(folder, "data"),
        "initial_advertise_peer_urls": (parse_url(peer),),
        "initial_cluster": f"default={peer}",
        "heartbeat_interval_ms": 10,
        "election_timeout_ms": 100,
        **fields,
    }
    return ServerConfig(**values)


class Running:
    """A member that runs, and what it could not survive."""

    def __init__(self, config: ServerConfig, disk: Disk, clock: Clock | None) -> None:
        self.clock = clock if clock is not None else Clock()
        self.failures: list[BaseException] = []
        env = Env(clock=self.clock, random=NoChance(), disk=disk)
        self.member = InlineMember(config, env, self.failures.append)
        self.ready = False

    def start(self) -> None:
        self.member.start(self._on_ready)

    def _on_ready(self) -> None:
        self.ready = True

    def vanish(self) -> None:
        """Do nothing more, as after a power cut; the files stay as they are."""
        member = self.member
        member.driver.abandon()
        member.compactions.stop()
        member.commits.halt()
        member.snapshots.stop()
        for timer in member._timers.values():
            timer.cancel()

    async def until(self, happened: Callable[[], Any], what: str = "it") -> None:
        """Let the member run until this is so, or it failed."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + WAIT_S
        while not happened():
            assert not self.failures, self.failures
            assert loop.time() < give_up, f"{what} did not happen"
            await asyncio.sleep(0.001)

    async def answer(self, call: FakeCall) -> FakeCall:
        await self.until(lambda: call.status, "an answer")
        return call


@asynccontextmanager
async def running(
    folder: Path | str, *, disk: Disk | None = None, clock: Clock | None = None, **fields: Any
) -> AsyncIterator[Running]:
    """A member that serves, stopped at the end."""
    life = Running(config_of(folder, **fields), disk if disk is not None else RealDisk(), clock)
    life.start()
    try:
        await life.until(lambda: life.ready, "the start")
        yield life
    finally:
        await life.member.stop()


def in_loop(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


# Entries, as the log would bring them.


def request_bytes(field: str, request: Any, request_id: int) -> bytes:
    """An InternalRaftRequest."""
    message = raft_internal_pb2.InternalRaftRequest()
    message.header.ID = request_id
    getattr(message, field).CopyFrom(request)
    getattr(message, field).SetInParent()
    return message.SerializeToString()


class Feed:
    """Feeds an applier entry by entry, in one of four ways: all of them must do the same."""

    def __init__(self, member: Member, way: str = "decoded") -> None:
        self.member = member
        self.way = way
        self.term = 2
        self.log: list[Entry] = []
        self._ids = 0xABCD << 48 | 100  # as a member makes them
        first, last = member.booted.log_storage.first_index(), member.booted.log_storage.last_index()
        founding = member.booted.log_storage.entries(first, last + 1) if last >= first else []
        if founding and member.applier.applied_index == 0:
            member.applier.apply(founding, {})
        member.applier.set_term(self.term)
        if way == "sliced":
            member.applier.long_writes.keys_min = member.applier.long_writes.at_once = 1

    def entry(self, field: str, request: Any) -> tuple[Entry, Pending, FakeCall]:
        self._ids += 1
        call = new_call()
        data = request_bytes(field, request, self._ids)
        index = self.member.applier.applied_index + 1
        pending = Pending(self._ids, call.given, None, field, request)
        carried: Pending | None = pending
        if self.way == "bytes":
            carried = None  # as on a follower, or in a replay
        elif self.way == "plain" and field == "put":
            raw = request.SerializeToString()
            plain = plain_put(raw)
            if plain is not None:
                pending = carried = Pending(self._ids, call.given, None, "plain put", None, plain[0], raw, plain[1])
        elif self.way == "plain" and field == "txn":
            raw = request.SerializeToString()
            plain_txn = read_txn(raw, 128)
            if plain_txn is not None:
                pending = carried = Pending(self._ids, call.given, None, "plain txn", plain_txn, b"", raw)
        return Entry(EntryType.NORMAL, self.term, index, data, carried), pending, call

    def apply(self, field: str, request: Any) -> FakeCall:
        entry, pending, call = self.entry(field, request)
        waiting = {pending.id: pending}
        applier = self.member.applier
        applier.apply([entry], waiting)
        while applier.is_long:
            assert call.status is None and pending.id in waiting
            assert (applier.applied_index, applier.consistent_index) == (entry.index - 1, entry.index - 1)
            self.member.booted.backend.commit()
            applier.step(waiting)
        self.log.append(Entry(entry.type, entry.term, entry.index, entry.data))
        return call

    def result(self, field: str, request: Any) -> Result | tuple[int, str] | None:
        """The answer's bytes, or code and text."""
        call = self.apply(field, request)
        if call.messages:
            return call.messages[0]
        return call.status


@asynccontextmanager
async def still(
    folder: Path | str, *, way: str = "decoded", disk: Disk | None = None, **fields: Any
) -> AsyncIterator[Feed]:
    """A member that does nothing by itself; entries are fed to it by hand."""
    life = Running(config_of(folder, **fields), disk if disk is not None else RealDisk(), None)
    member = life.member
    member.applier.raise_nospace = lambda done: done()
    try:
        yield Feed(member, way)
        assert not life.failures
    finally:
        await member.stop()
