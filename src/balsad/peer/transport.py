"""All the other members, from here: messages to them, messages from them, and how well they can be reached.

    Driver ──send──> RemotePeer ──streams, posts──> member
    Driver <──on_messages── StreamReader, RaftPages <── member

A peer is a member of the cluster; a remote is somebody who asked something before this member knew of it.
Nothing here waits: what cannot be sent is lost, and raft hears of it in the next turn.

Source: etcd rafthttp transport.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from balsad.errors import RequestError
from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.codec import EncodedEntries
from balsad.peer.counts import PeerCounts
from balsad.peer.errands import Errands
from balsad.peer.greeting import Identity
from balsad.peer.http_client import Dialer, HttpClient
from balsad.peer.remote_peer import Remote, RemotePeer
from balsad.peer.stream_writer import BEAT_S
from balsad.raft.kinds import MESSAGE_NAMES, MSG_APP, MSG_APP_RESP, MSG_SNAP, is_local
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from balsad.env import Env
    from balsad.peer.backend import DbSnapshot, RaftBackend
    from balsad.peer.exchange import OutgoingStream
    from balsad.peer.stream_kind import StreamKind
    from balsad.peer.tls import PeerTls

log = get_logger(__name__)

REMOTES_MAX: Final = 64
"""So many are remembered who are no peers; the ones met first are forgotten first."""
FAILING_ADDRESSES_MAX: Final = 64
_WELCOME: Final = frozenset(kind for kind in range(len(MESSAGE_NAMES)) if kind != MSG_SNAP and not is_local(kind))
"""What may come in alone. A MsgSnap comes with its database; others stay within a member, or are of a later raft."""


def _outdone(messages: list[Message]) -> set[int]:
    """The `id` of appends without entries, which only say what is committed, where the next one to the same member
    follows on the same entry and says it, too: a leader has sent both in one turn."""
    empty: dict[int, Message] = {}
    found: set[int] = set()
    for message in messages:
        if message.type != MSG_APP:
            continue
        to = message.to
        before = empty.get(to)
        if (
            before is not None
            and before.index == message.index
            and before.term == message.term
            and before.commit <= message.commit
        ):
            found.add(id(before))
        if not message.entries:
            empty[to] = message
        elif before is not None:
            del empty[to]
    return found


def _no_observer(_member_id: int, _seconds: float) -> None:
    pass


class PeerTransport:
    """Made inside a running event loop; `stop` ends all that it started."""

    def __init__(
        self,
        *,
        member_id: int,
        cluster_id: int,
        urls: Iterable[str],
        backend: RaftBackend,
        env: Env,
        tls: PeerTls | None = None,
        dial_timeout_s: float = 2.0,
    ) -> None:
        """`urls` are the member's own peer URLs, as it advertises them."""
        self.identity = Identity(member_id, cluster_id, urls)
        self.clock = env.clock
        self.dialer = Dialer(tls, dial_timeout_s)
        self.client = HttpClient(self.dialer)
        self.encoded = EncodedEntries()
        self.errands = Errands()
        self.counts: dict[int, PeerCounts] = {}
        """By member id, also of those that were removed."""
        self.receive_failures: dict[str, int] = {}
        """Messages that made no sense, by the address they came from."""
        self.disconnects: dict[int, int] = {}
        """Of members that were removed."""
        self.observe_round_trip: Callable[[int, float], None] = _no_observer
        self.observe_snapshot_send: Callable[[int, float], None] = _no_observer
        self.observe_snapshot_receive: Callable[[int, float], None] = _no_observer
        """For histograms: a member id and seconds."""
        self._backend = backend
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, RemotePeer] = {}
        self._remotes: dict[int, Remote] = {}
        self._strangers = PeerCounts()
        self._unreachable: dict[int, None] = {}
        self._snapshot_results: list[tuple[int, bool]] = []
        self._reports_due = False
        self._is_stopped = False
        self._beat: asyncio.TimerHandle | None = None

    # Who there is.

    def add_peer(self, member_id: int, urls: Iterable[str]) -> None:
        """Reach out for a member of the cluster. Raises: ValueError for URLs that are none."""
        if self._is_stopped or member_id in self._peers:
            return
        texts = list(urls)
        remote = self._remotes.pop(member_id, None)
        self._peers[member_id] = RemotePeer(self, member_id, texts, self._counts(member_id))
        if remote is not None:
            self._dismiss(remote)
        if self._beat is None:
            self._beat = self._loop.call_later(BEAT_S, self._send_beats)
        log.info("added remote peer", extra=self._fields("remote-peer-id", member_id, "remote-peer-urls", texts))

    def add_remote(self, member_id: int, urls: Iterable[str]) -> None:
        """Remember where somebody can be reached who is no peer (yet). URLs that are none are passed over."""
        if self._is_stopped or member_id in self._peers or member_id in self._remotes:
            return
        texts = list(urls)
        counts = self.counts.get(member_id, PeerCounts())
        try:
            remote = Remote(self, member_id, texts, counts)
        except ValueError as error:
            log.warning("ignored a remote peer", extra={"remote-peer-id": format_id(member_id), "error": error})
            return
        if len(self._remotes) >= REMOTES_MAX:
            oldest = next(iter(self._remotes))
            self._dismiss(self._remotes.pop(oldest))
            self.counts.pop(oldest, None)
        self._remotes[member_id] = remote
        self.counts[member_id] = counts
        log.info("added new remote peer", extra=self._fields("remote-peer-id", member_id, "remote-peer-urls", texts))

    def update_peer(self, member_id: int, urls: Iterable[str]) -> None:
        """The member has moved. Raises: ValueError for URLs that are none."""
        peer = self._peers.get(member_id)
        if peer is None:
            return
        texts = list(urls)
        peer.update(texts)
        log.info(
            "updated remote peer",
            extra=self._fields("updated-remote-peer-id", member_id, "updated-remote-peer-urls", texts),
        )

    def remove_peer(self, member_id: int) -> None:
        """The member left the cluster."""
        fields = self._fields("removed-remote-peer-id", member_id)
        remote = self._remotes.pop(member_id, None)
        if remote is not None:
            self._dismiss(remote)
        peer = self._peers.pop(member_id, None)
        if peer is None:
            # The log may remove it once more when it is replayed.
            log.warning("skipped removing already removed peer", extra=fields)
            return
        self.disconnects[member_id] = self.disconnects.get(member_id, 0) + peer.status.disconnects
        self._dismiss(peer)
        log.info("removed remote peer", extra=fields)

    def has_peer(self, member_id: int) -> bool:
        return member_id in self._peers

    @property
    def peers(self) -> Iterable[RemotePeer]:
        return self._peers.values()

    def active_since(self, member_id: int) -> float:
        """Monotonic seconds since when the member is connected, 0 while it is not."""
        peer = self._peers.get(member_id)
        return 0.0 if peer is None else peer.status.active_since

    def connected_since(self) -> dict[int, float]:
        """The same of all that are connected, as `membership.Connections` wants it."""
        return {peer.id: peer.status.active_since for peer in self._peers.values() if peer.status.is_active}

    # Messages go out.

    def send(self, messages: list[Message]) -> None:
        """Send each to its `to`, or lose it. What goes on streams is with the kernel when this returns."""
        if self._is_stopped:
            return
        peers = self._peers
        if len(messages) == 1:
            alone = messages[0]
            only = peers.get(alone.to)
            if only is not None and alone.type != MSG_APP:
                only.send(alone)
                only.flush()
                return
        used: dict[int, RemotePeer] = {}
        answers: dict[int, Message] | None = None
        outdone = _outdone(messages) if len(messages) > 1 else None
        for message in messages:
            to = message.to
            if not to:
                continue
            if message.type == MSG_APP_RESP:
                # Of several answers to a leader's appends only the last says something.
                if answers is None:
                    answers = {one.to: one for one in messages if one.type == MSG_APP_RESP}
                if answers[to] is not message:
                    continue
            peer = peers.get(to)
            if peer is not None:
                if message.type == MSG_APP:
                    if outdone and id(message) in outdone:
                        continue
                    peer.counts.appends_sent += 1
                peer.send(message)
                used[to] = peer
            else:
                self._send_to_remote(message)
        for peer in used.values():
            peer.flush()
        self.encoded.forget()

    def send_snapshot(self, message: Message, db: DbSnapshot) -> None:
        """Send a MsgSnap and the db that belongs to it, then close `db` and report how it went."""
        peer = self._peers.get(message.to)
        if peer is None:
            db.close()
            return
        peer.send_snapshot(message, db)

    def _send_to_remote(self, message: Message) -> None:
        remote = self._remotes.get(message.to)
        if remote is not None and not self._backend.is_removed(message.to):
            remote.send(message)
            return
        log.debug(
            "ignored message send request; unknown remote peer target",
            extra={"type": MESSAGE_NAMES[message.type], "unknown-target-peer-id": format_id(message.to)},
        )

    def _send_beats(self) -> None:
        self._beat = self._loop.call_later(BEAT_S, self._send_beats)
        for peer in list(self._peers.values()):
            peer.beat()

    # Messages come in.

    def receive(self, messages: list[Message]) -> None:
        """What one stream brought in one turn."""
        checked = 0
        for message in messages:
            if message.type not in _WELCOME or (message.from_ != checked and self._backend.is_removed(message.from_)):
                messages = [one for one in messages if self.is_welcome(one)]
                break
            checked = message.from_
        try:
            if messages:
                self.deliver(messages)
        except RequestError as error:
            log.warning("failed to process Raft message", extra={"error": error})

    def deliver(self, messages: list[Message]) -> None:
        """Hand messages of members to raft. Raises: RequestError."""
        for message in messages:
            if message.type == MSG_APP:
                self.counts_of(message.from_).appends_received += 1
        self._backend.on_messages(messages)

    def deliver_snapshot(self, message: Message, answered: Callable[[str], None]) -> None:
        """Hand a MsgSnap to the member, which has its database as a file; `answered` is told "" or why not."""
        self._backend.on_snapshot(message, answered)

    def attach(self, member_id: int, kind: StreamKind, stream: OutgoingStream) -> None:
        """A peer opened a stream."""
        self._peers[member_id].attach(kind, stream)

    def is_removed(self, member_id: int) -> bool:
        return self._backend.is_removed(member_id)

    def is_welcome(self, message: Message) -> bool:
        """Whether raft may hear a message that came without a database; if not, that is logged."""
        if self._backend.is_removed(message.from_):
            log.warning(
                "rejected Raft message from removed member", extra=self._fields("removed-member-id", message.from_)
            )
            return False
        if message.type not in _WELCOME:
            known = message.type < len(MESSAGE_NAMES)
            log.warning(
                "ignored unexpected Raft message",
                extra={
                    **self._fields("from", message.from_),
                    "message-type": MESSAGE_NAMES[message.type] if known else str(message.type),
                },
            )
            return False
        return True

    # What became of them.

    def counts_of(self, member_id: int) -> PeerCounts:
        """The numbers of a member; strangers share theirs."""
        return self.counts.get(member_id, self._strangers)

    def count_receive_failure(self, address: str) -> None:
        failures = self.receive_failures
        if address not in failures and len(failures) >= FAILING_ADDRESSES_MAX:
            del failures[next(iter(failures))]
        failures[address] = failures.get(address, 0) + 1

    def report_unreachable(self, member_id: int) -> None:
        """A message was lost. Raft hears it soon: it may be in the midst of giving messages out."""
        self._unreachable[member_id] = None
        self._report_soon()

    def report_gone(self, member_id: int) -> None:
        """A member's process has ended, as far as can be told from outside."""
        if not self._is_stopped:
            self._backend.on_gone(member_id)

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        self._snapshot_results.append((member_id, ok))
        self._report_soon()

    def report_removed(self) -> None:
        self._backend.on_removed()

    def _report_soon(self) -> None:
        if not self._reports_due and not self._is_stopped:
            self._reports_due = True
            self._loop.call_soon(self._report)

    def _report(self) -> None:
        self._reports_due = False
        if self._is_stopped:
            return
        unreachable, self._unreachable = self._unreachable, {}
        results, self._snapshot_results = self._snapshot_results, []
        for member_id in unreachable:
            self._backend.on_unreachable(member_id)
        for member_id, ok in results:
            self._backend.on_snapshot_result(member_id, ok)

    # The end.

    def stop(self) -> None:
        """Close every connection and begin nothing any more; `wait_closed` tells when all has ended."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._beat is not None:
            self._beat.cancel()
        for peer in self._peers.values():
            peer.stop()
        for remote in self._remotes.values():
            remote.stop()
        self.client.close()
        self.errands.stop()

    async def wait_closed(self) -> None:
        for peer in list(self._peers.values()):
            await peer.wait_closed()
        for remote in list(self._remotes.values()):
            await remote.wait_closed()
        await self.errands.wait()

    def _dismiss(self, one: RemotePeer | Remote) -> None:
        one.stop()
        self.errands.start(one.wait_closed(), f"farewell to {format_id(one.id)}")

    def append_counts(self) -> tuple[int, int]:
        """How many MsgApps were sent to all others, and received from them."""
        counts = self.counts.values()
        return sum(one.appends_sent for one in counts), sum(one.appends_received for one in counts)

    def _counts(self, member_id: int) -> PeerCounts:
        counts = self.counts.get(member_id)
        if counts is None:
            counts = self.counts[member_id] = PeerCounts()
        return counts

    def _fields(self, id_name: str, member_id: int, urls_name: str = "", urls: Iterable[str] = ()) -> dict[str, object]:
        fields: dict[str, object] = {"local-member-id": self.identity.member_id_text, id_name: format_id(member_id)}
        if urls_name:
            fields[urls_name] = list(urls)
        return fields
