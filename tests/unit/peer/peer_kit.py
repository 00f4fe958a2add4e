"""Members of nothing but raft and the peer protocol, and the sockets of the tests around them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from balsad.env.real import real_env
from balsad.errors import StoppedError
from balsad.membership import Cluster, Member, Version, decode_context, encode_member
from balsad.peer import DbSnapshot, HashKv, LeaseTimes, PeerListener, PeerTls, PeerTransport, peer_server
from balsad.raft import (
    ConfChange,
    ConfChangeType,
    Config,
    Entry,
    EntryType,
    HardState,
    MemoryLog,
    Message,
    RawNode,
    Snapshot,
    codec,
)
from balsad.raft.kinds import MSG_SNAP
from balsad.storage import Snapshotter

TICK_S = 0.05
WAIT_S = 20.0


def bound() -> socket.socket:
    """A socket on a port of 127.0.0.1 that the kernel gave."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


async def until(condition: Callable[[], bool], what: str = "it", seconds: float = WAIT_S) -> None:
    """Return when the condition holds; fails when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"{what} did not come true in {seconds} s"
        await asyncio.sleep(0.01)


class Pages:
    """What peers ask beside raft, answered from plain attributes (a PeerBackend)."""

    def __init__(self) -> None:
        self.cluster_version = ""
        self.known: list[Member] = []
        self.promoted: list[tuple[int, str]] = []
        self.failure: Exception | None = None
        self.ttl_s = 60
        self.lease_keys: tuple[bytes, ...] = ()
        self.downgrade = False
        self.applied: Callable[[], Awaitable[None]] | None = None

    def members(self) -> Iterable[Member]:
        return self.known

    async def promote_member(self, member_id: int, token: str) -> Iterable[Member]:
        self._fail()
        self.promoted.append((member_id, token))
        return self.known

    async def hash_kv(self, revision: int) -> HashKv:
        self._fail()
        return HashKv(hash=1234, current_revision=revision or 7, compact_revision=-1)

    async def wait_applied(self) -> None:
        if self.applied is not None:
            await self.applied()

    async def renew_lease(self, lease_id: int) -> int:
        self._fail()
        return self.ttl_s

    def lease_times(self, lease_id: int, *, with_keys: bool) -> LeaseTimes:
        self._fail()
        return LeaseTimes(ttl_s=self.ttl_s - 1, granted_ttl_s=self.ttl_s, keys=self.lease_keys)

    async def is_downgrade_enabled(self) -> bool:
        self._fail()
        return self.downgrade

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class Inbox:
    """Where messages and reports end up when there is no raft (a RaftBackend)."""

    def __init__(self) -> None:
        self.batches: list[list[Message]] = []
        self.unreachable: list[int] = []
        self.gone: list[int] = []
        self.snapshots: list[tuple[int, bool]] = []
        self.removed_reports = 0
        self.removed_ids: set[int] = set()
        self.is_stopped = False

    @property
    def messages(self) -> list[Message]:
        return [message for batch in self.batches for message in batch]

    def on_messages(self, messages: list[Message]) -> None:
        if self.is_stopped:
            raise StoppedError
        self.batches.append(messages)

    def on_snapshot(self, message: Message, answered: Callable[[str], None]) -> None:
        if not self.is_stopped:
            self.batches.append([message])
        answered(StoppedError.message if self.is_stopped else "")

    def on_unreachable(self, member_id: int) -> None:
        self.unreachable.append(member_id)

    def on_gone(self, member_id: int) -> None:
        self.gone.append(member_id)

    def on_snapshot_result(self, member_id: int, ok: bool) -> None:
        self.snapshots.append((member_id, ok))

    def on_removed(self) -> None:
        self.removed_reports += 1

    def is_removed(self, member_id: int) -> bool:
        return member_id in self.removed_ids


class Db:
    """A database to be sent, of any size."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.is_closed = False

    def read(self, offset: int, count: int) -> bytes:
        assert not self.is_closed
        return self.data[offset : offset + count]

    def close(self) -> None:
        self.is_closed = True


class End:
    """One member's transport and port."""

    def __init__(
        self,
        transport: PeerTransport,
        listener: PeerListener,
        inbox: Inbox,
        pages: Pages,
        url: str,
        snapshotter: Snapshotter,
    ) -> None:
        self.snapshotter = snapshotter
        self.transport = transport
        self.listener = listener
        self.inbox = inbox
        self.pages = pages
        self.url = url
        self.id = transport.identity.member_id


@contextlib.asynccontextmanager
async def end(
    member_id: int,
    folder: Path,
    *,
    cluster_id: int = 0xC1,
    tls: PeerTls | None = None,
    http2: Callable[[asyncio.Transport, bytes], None] | None = None,
) -> AsyncIterator[End]:
    """A transport that serves on a free port, without raft behind it."""
    sock = bound()
    url = url_of(sock, "http" if tls is None else "https")
    inbox, pages = Inbox(), Pages()
    env = real_env()
    transport = PeerTransport(member_id=member_id, cluster_id=cluster_id, urls=[url], backend=inbox, env=env, tls=tls)
    folder.mkdir(parents=True, exist_ok=True)
    snapshotter = Snapshotter(env.disk, str(folder))
    listener = peer_server(transport, pages, disk=env.disk, snapshotter=snapshotter, tls=tls, http2=http2)
    await listener.listen_bound(sock, secure=tls is not None)
    try:
        yield End(transport, listener, inbox, pages, url, snapshotter)
    finally:
        transport.stop()
        listener.close()
        await transport.wait_closed()
        await listener.wait_closed(grace_s=0.2)


async def join(one: End, other: End) -> None:
    """Make two ends know each other, and return when all four streams are open."""
    one.transport.add_peer(other.id, [other.url])
    other.transport.add_peer(one.id, [one.url])
    await until(lambda: has_streams(one, other.id) and has_streams(other, one.id), "the streams")


def has_streams(end: End, peer_id: int) -> bool:
    """Whether `peer_id` has opened both of its streams here."""
    peer = next(peer for peer in end.transport.peers if peer.id == peer_id)
    return all(writer.is_working for writer in peer.writers)


class RaftMember:
    """A member of a cluster founded by flags, with its log in memory and no state machine."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        urls: dict[str, str],
        folder: Path,
        *,
        token: str = "etcd-cluster",
        tls: PeerTls | None = None,
    ) -> None:
        self.name = name
        self.pages = Pages()
        cluster = Cluster.from_initial(
            {member: [url] for member, url in urls.items()}, token, server_version=Version.parse("3.5.1")
        )
        self.cluster_id = cluster.cluster_id
        self.pages.known = list(cluster.members())
        me = cluster.member_by_name(name)
        assert me is not None
        self.id = me.id
        self.applied: list[Entry] = []
        self.snapshots: list[Snapshot] = []
        self.make_db: Callable[[Message], DbSnapshot] | None = None
        """Gives the database for a snapshot that raft wants to send, and completes its message."""
        self.snapshot_results: list[tuple[int, bool]] = []
        self.removed: set[int] = set()
        self.is_told_removed = False
        self._sock = sock
        self.log = MemoryLog()
        entries = [
            Entry(
                EntryType.CONF_CHANGE,
                1,
                at + 1,
                codec.encode_conf_change(ConfChange(ConfChangeType.ADD_NODE, one.id, encode_member(one))),
            )
            for at, one in enumerate(cluster.members())
        ]
        self.log.set_hard_state(HardState(1, 0, len(entries)))
        self.log.append(entries)
        self.node = RawNode(
            Config(
                id=self.id,
                storage=self.log,
                random=random.Random(7).randrange,
                election_tick=10,
                heartbeat_tick=1,
                max_size_per_msg=1 << 20,
                max_inflight_msgs=512,
                check_quorum=True,
                pre_vote=True,
            )
        )
        env = real_env()
        self.transport = PeerTransport(
            member_id=self.id, cluster_id=self.cluster_id, urls=[urls[name]], backend=self, env=env, tls=tls
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.listener = peer_server(
            self.transport, self.pages, disk=env.disk, snapshotter=Snapshotter(env.disk, str(folder)), tls=tls
        )
        self._is_secure = tls is not None
        for one in cluster.members():
            if one.id != self.id:
                self.transport.add_peer(one.id, one.peer_urls)

    async def __aenter__(self) -> RaftMember:
        await self.listener.listen_bound(self._sock, secure=self._is_secure)
        self._ticking = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        self.transport.stop()
        self.listener.close()
        await self.transport.wait_closed()
        await self.listener.wait_closed(grace_s=0.2)

    # RaftBackend.

    def on_messages(self, messages: list[Message]) -> None:
        for message in messages:
            self.node.step(message)
        self.work()

    def on_snapshot(self, message: Message, answered: Callable[[str], None]) -> None:
        self.on_messages([message])
        answered("")

    def on_unreachable(self, member_id: int) -> None:
        self.node.report_unreachable(member_id)

    def on_gone(self, member_id: int) -> None:
        pass

    def on_snapshot_result(self, member_id: int, ok: bool) -> None:
        self.snapshot_results.append((member_id, ok))
        self.node.report_snapshot(member_id, ok)

    def on_removed(self) -> None:
        self.is_told_removed = True

    def is_removed(self, member_id: int) -> bool:
        return member_id in self.removed

    # Raft.

    def work(self) -> None:
        while self.node.has_ready():
            ready = self.node.ready()
            self.node.take_events()
            if ready.snapshot is not None:
                self.log.apply_snapshot(ready.snapshot)
                self.snapshots.append(ready.snapshot)
            if ready.hard_state is not None:
                self.log.set_hard_state(ready.hard_state)
            if ready.entries:
                self.log.append(ready.entries)
            self.transport.send([message for message in ready.messages if message.type != MSG_SNAP])
            for message in ready.messages:
                if message.type == MSG_SNAP and self.make_db is not None:
                    self.transport.send_snapshot(message, self.make_db(message))
            for entry in ready.committed_entries:
                self._apply(entry)
            self.node.advance(ready)

    def propose(self, data: bytes) -> None:
        self.node.propose([Entry(EntryType.NORMAL, 0, 0, data)])
        self.work()

    def has_applied(self, data: bytes) -> bool:
        return any(data in entry.data for entry in self.applied)

    @property
    def leader(self) -> int:
        return self.node.status().lead

    def _apply(self, entry: Entry) -> None:
        self.applied.append(entry)
        if entry.type != EntryType.CONF_CHANGE:
            return
        change = codec.decode_conf_change(entry.data)
        self.node.apply_conf_change(change)
        if change.node_id == self.id:
            return
        if change.type == ConfChangeType.REMOVE_NODE:
            self.removed.add(change.node_id)
            self.transport.remove_peer(change.node_id)
        else:
            self.transport.add_peer(change.node_id, decode_context(change.context).member.peer_urls)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.node.tick()
            self.work()
