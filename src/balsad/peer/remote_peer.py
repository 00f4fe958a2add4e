"""Another member, with every way to reach it.

    MsgApp ────> msgapp stream ──(down)──┐
    others ────> message stream ─(down)──┼──> POST /raft
    snapshot ──> POST /raft/snapshot     │
    MsgApp while only the message stream is up: there

What raft answers to an append without entries mostly repeats its answer to the one before: the leader only told
how much is committed. It would wake the leader for nothing, so a repetition waits for a moment, in which the next
answer takes its place. It is not left out, for a leader that lost the first one probes until it hears it.

Source: etcd rafthttp peer.go, remote.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.errands import Errands
from balsad.peer.pipeline import NAME as PIPELINE
from balsad.peer.pipeline import Pipeline
from balsad.peer.prober import RAFT_MESSAGE, SNAPSHOT, Prober
from balsad.peer.refusals import Refusals
from balsad.peer.snapshot_sender import SnapshotSender
from balsad.peer.status import PeerStatus
from balsad.peer.stream_kind import MESSAGE, MSGAPP, StreamKind
from balsad.peer.stream_reader import StreamReader
from balsad.peer.stream_writer import StreamWriter
from balsad.peer.url_picker import UrlPicker
from balsad.raft.kinds import MESSAGE_NAMES, MSG_APP, MSG_APP_RESP, MSG_SNAP
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from balsad.config import Url
    from balsad.peer.backend import DbSnapshot
    from balsad.peer.counts import PeerCounts
    from balsad.peer.exchange import OutgoingStream
    from balsad.peer.transport import PeerTransport

log = get_logger(__name__)

REPETITION_S: Final = 0.02
"""How long an answer waits that says the same as the one before."""


class RemotePeer:
    """A member of the cluster."""

    def __init__(self, transport: PeerTransport, peer_id: int, urls: Iterable[str], counts: PeerCounts) -> None:
        """Raises: ValueError for URLs that are none."""
        self.id = peer_id
        self.counts = counts
        self.picker = UrlPicker(urls)
        self.fields: dict[str, object] = {"remote-peer-id": format_id(peer_id)}
        log.info("starting remote peer", extra=self.fields)
        self._transport = transport
        self.status = PeerStatus(peer_id, transport.clock.monotonic)
        self.pipeline = _pipeline(transport, peer_id, self.picker, self.status, counts)
        self._by_kind = {kind: self._writer(kind) for kind in (MSGAPP, MESSAGE)}
        self._appends = self._by_kind[MSGAPP]
        self._others = self._by_kind[MESSAGE]
        self._snapshots = SnapshotSender(
            peer_id=peer_id,
            identity=transport.identity,
            client=transport.client,
            picker=self.picker,
            status=self.status,
            counts=counts,
            on_unreachable=transport.report_unreachable,
            on_snapshot_result=transport.report_snapshot,
            on_removed=transport.report_removed,
            observe_s=self._observe_snapshot_send,
        )
        # The term and index that were acknowledged last on the stream that is open, and a repetition of it.
        self._acked = (0, 0)
        self._repetition: Message | None = None
        self._repeating: asyncio.TimerHandle | None = None
        self._errands = Errands()
        name = format_id(peer_id)
        self._refusals = Refusals()
        self._readers: list[StreamReader] = []
        for kind in (MSGAPP, MESSAGE):
            reader = StreamReader(
                kind,
                peer_id=peer_id,
                identity=transport.identity,
                dialer=transport.dialer,
                picker=self.picker,
                status=self.status,
                counts=counts,
                deliver=transport.receive,
                on_removed=transport.report_removed,
                on_dialled=self._on_dialled,
            )
            self._readers.append(reader)
            self._errands.start(reader.run(), f"{kind.name} from {name}")
        self._probing = Errands()
        self.probers: list[Prober] = []
        self._start_probing()
        log.info("started remote peer", extra=self.fields)

    def send(self, message: Message) -> None:
        """Send it, or lose it and tell raft."""
        if message.type == MSG_APP_RESP and not message.reject:
            acked = (message.term, message.index)
            if acked == self._acked and self._others.is_working:
                self._repetition = message
                if self._repeating is None:
                    self._repeating = asyncio.get_running_loop().call_later(REPETITION_S, self._repeat)
                return
            self._acked = acked
            self._repetition = None
        self._send(message)

    def _repeat(self) -> None:
        self._repeating = None
        message, self._repetition = self._repetition, None
        if message is not None:
            self._send(message)
            self._others.flush()

    def _send(self, message: Message) -> None:
        if message.type == MSG_APP and self._appends.is_working:
            if self._appends.send(message):
                return
            way = MSGAPP.short_name
        elif message.type != MSG_SNAP and self._others.is_working:
            if self._others.send(message):
                return
            way = MESSAGE.short_name
        else:
            if self.pipeline.send(message):
                return
            way = PIPELINE
        self._transport.report_unreachable(self.id)
        if message.type == MSG_SNAP:
            self._transport.report_snapshot(self.id, False)
        log_dropped(message, self.fields["remote-peer-id"], self.status.is_active, {"remote-peer-name": way})
        self.counts.send_failures += 1

    @property
    def writers(self) -> tuple[StreamWriter, ...]:
        """Of the streams that the other member opens."""
        return (self._appends, self._others)

    def flush(self) -> None:
        """Write what was sent."""
        self._appends.flush()
        self._others.flush()

    def send_snapshot(self, message: Message, db: DbSnapshot) -> None:
        self._snapshots.send(message, db)

    def attach(self, kind: StreamKind, stream: OutgoingStream) -> None:
        """The other member opened a stream."""
        if kind is MESSAGE:
            self._acked = (0, 0)
        self._by_kind[kind].attach(stream)

    def _on_dialled(self, url: Url, is_refused: bool) -> None:
        """A stream was asked for; if that was refused, and was before, nobody may be there any more."""
        refusals = self._refusals
        if not is_refused:
            refusals.clear()
            return
        now = self._transport.clock.monotonic()
        refusals.note(str(url), now)
        # A process that lives keeps the streams that it opened.
        is_connected = any(one.is_open for one in self._readers) or any(one.is_working for one in self.writers)
        if not is_connected and refusals.is_gone(map(str, self.picker.urls), now):
            self._transport.report_gone(self.id)

    def beat(self) -> None:
        self._appends.beat()
        self._others.beat()

    def update(self, urls: Iterable[str]) -> None:
        """Raises: ValueError."""
        self.picker.update(urls)
        self._refusals.clear()
        self._probing.stop()
        self._probing = Errands()
        self._start_probing()

    def stop(self) -> None:
        log.info("stopping remote peer", extra=self.fields)
        self._repetition = None
        if self._repeating is not None:
            self._repeating.cancel()
        self._appends.stop()
        self._others.stop()
        self.pipeline.stop()
        self._snapshots.stop()
        self._probing.stop()
        self._errands.stop()
        self.status.forget()
        log.info("stopped remote peer", extra=self.fields)

    async def wait_closed(self) -> None:
        await self.pipeline.wait_closed()
        await self._snapshots.wait_closed()
        await self._probing.wait()
        await self._errands.wait()

    def _writer(self, kind: StreamKind) -> StreamWriter:
        transport = self._transport
        return StreamWriter(
            kind,
            local_id=transport.identity.member_id,
            peer_id=self.id,
            status=self.status,
            counts=self.counts,
            encoded=transport.encoded,
            on_unreachable=transport.report_unreachable,
            clock=transport.clock.monotonic,
        )

    def _observe_snapshot_send(self, peer_id: int, seconds: float) -> None:
        self._transport.observe_snapshot_send(peer_id, seconds)

    def _observe_round_trip(self, peer_id: int, seconds: float) -> None:
        # Asked for each time: who counts comes to the transport after its first peers.
        self._transport.observe_round_trip(peer_id, seconds)

    def _start_probing(self) -> None:
        # etcd probes with both of its ways to connect, and says of which it speaks.
        self.probers = [
            Prober(
                name,
                peer_id=self.id,
                client=self._transport.client,
                picker=self.picker,
                clock=self._transport.clock,
                observe_round_trip_s=self._observe_round_trip,
            )
            for name in (SNAPSHOT, RAFT_MESSAGE)
        ]
        for prober in self.probers:
            self._probing.start(prober.probe(), f"probe of {format_id(self.id)}")
            self._probing.start(prober.report(), f"probe report of {format_id(self.id)}")


class Remote:
    """A member that is no peer: it asked something, and this member does not know of it yet, or only learns of it."""

    def __init__(self, transport: PeerTransport, remote_id: int, urls: Iterable[str], counts: PeerCounts) -> None:
        """Raises: ValueError for URLs that are none."""
        self.id = remote_id
        self.counts = counts
        self.status = PeerStatus(remote_id, transport.clock.monotonic)
        self.pipeline = _pipeline(transport, remote_id, UrlPicker(urls), self.status, counts)

    def send(self, message: Message) -> None:
        if not self.pipeline.send(message):
            log_dropped(message, format_id(self.id), self.status.is_active, {})
            self.counts.send_failures += 1

    def stop(self) -> None:
        self.pipeline.stop()

    async def wait_closed(self) -> None:
        await self.pipeline.wait_closed()


def log_dropped(message: Message, peer: object, is_active: bool, more: dict[str, object]) -> None:
    log.warning(
        "dropped internal Raft message since sending buffer is full (overloaded network)",
        extra={
            "message-type": MESSAGE_NAMES[message.type],
            "local-member-id": format_id(message.from_),
            "from": format_id(message.from_),
            "remote-peer-id": peer,
            **more,
            "remote-peer-active": is_active,
        },
    )


def _pipeline(
    transport: PeerTransport, peer_id: int, picker: UrlPicker, status: PeerStatus, counts: PeerCounts
) -> Pipeline:
    return Pipeline(
        peer_id=peer_id,
        identity=transport.identity,
        client=transport.client,
        picker=picker,
        status=status,
        counts=counts,
        on_unreachable=transport.report_unreachable,
        on_snapshot_result=transport.report_snapshot,
        on_removed=transport.report_removed,
    )
