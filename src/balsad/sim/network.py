"""A network that loses, delays, repeats, reorders and partitions.

    Network   what becomes of a packet from one place to another
    SimLinks  a member's links to the others: raft messages as bytes, one packet each

Raft has to live with any of it. What runs over TCP (clients, a snapshot's db) is broken
off where a packet is lost, and never comes out of order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from balsad.peer.refusals import Refusals
from balsad.raft import MessageType, codec

if TYPE_CHECKING:
    import random

    from balsad.raft import Message
    from balsad.server.member import Member
    from balsad.sim.loop import Process, Timeline
    from balsad.storage import BackendSnapshot

DIAL_EVERY_S: Final = 1.0
REDIAL_S: Final = 0.1
SNAPSHOT_BYTES_PER_S: Final = 20_000_000.0
POST_WATCHED_S: Final = 0.2
SILENCE_S: Final = 5.0
"""Who was not heard of for so long counts as not connected."""


class Network:
    """Who can reach whom, and how well. Times are seconds on average."""

    def __init__(self, rnd: random.Random, delay_s: float, stragglers: float = 0.0) -> None:
        """`delay_s` and `stragglers`: in good times."""
        self._random = rnd
        self._usual_delay_s = self.delay_s = delay_s
        self.loss = 0.0
        self.repeats = 0.0
        # The chance that a packet comes much later than it should.
        self._usual_stragglers = self.stragglers = stragglers
        self.straggle_s = 1.0
        self._cut: dict[tuple[str, str], None] = {}
        self._rejecting: dict[tuple[str, str], None] = {}

    def cut(self, source: str, target: str) -> None:
        """Nothing more gets from one to the other."""
        self._cut[source, target] = None

    def isolate(self, place: str, others: Iterable[str]) -> None:
        for other in others:
            self.cut(place, other)
            self.cut(other, place)

    def reject(self, place: str, others: Iterable[str]) -> None:
        """As `isolate`, by something in between that breaks every connection off and refuses new ones."""
        for other in others:
            self.isolate(place, [other])
            self._rejecting[place, other] = self._rejecting[other, place] = None

    def join(self) -> None:
        """No partition any more."""
        self._cut.clear()
        self._rejecting.clear()

    def mend(self) -> None:
        """All is as it should be from now on."""
        self.join()
        self.improve()

    def improve(self) -> None:
        """It is as fast and reliable again as usual."""
        self.delay_s = self._usual_delay_s
        self.loss = self.repeats = 0.0
        self.stragglers = self._usual_stragglers

    def reaches(self, source: str, target: str) -> bool:
        return (source, target) not in self._cut

    def rejects(self, source: str, target: str) -> bool:
        return (source, target) in self._rejecting

    def delay(self) -> float:
        """How long a packet takes that arrives."""
        seconds = self.delay_s * (0.5 + self._random.expovariate(1.0))
        if self.stragglers and self._random.random() < self.stragglers:
            seconds += self._random.random() * self.straggle_s
        return seconds

    def is_lost(self, source: str, target: str) -> bool:
        return not self.reaches(source, target) or (self.loss > 0.0 and self._random.random() < self.loss)

    def packets(self, source: str, target: str) -> list[float]:
        """The delays after which a packet arrives: none if it is lost, two if it is repeated."""
        if self.is_lost(source, target):
            return []
        delays = [self.delay()]
        if self.repeats and self._random.random() < self.repeats:
            delays.append(self.delay())
        return delays


class Peer(Protocol):
    """A machine that may run a member: what the links need of it."""

    name: str
    url: str
    is_off: bool
    process: Process | None
    member: Member | None


class Peers(Protocol):
    """All machines."""

    timeline: Timeline
    network: Network

    def peer_at(self, url: str) -> Peer | None: ...

    def peer_with(self, member_id: int) -> Peer | None:
        """The machine that runs this member now."""

    def note(self, what: str, *facts: object) -> None:
        """Something that the same seed must bring about again."""


class _Post:
    """A snapshot that was sent, until the member there has answered or is gone."""

    __slots__ = ("answered", "member_id", "peer", "process")

    def __init__(self, member_id: int, peer: Peer, process: Process) -> None:
        self.member_id = member_id
        self.peer = peer
        self.process = process
        self.answered = False


class SimLinks:
    """server.peer_links.PeerLinks between simulated members."""

    def __init__(self, peers: Peers, own: Peer, member: Member) -> None:
        self._peers = peers
        self._own = own
        self._member = member
        assert own.process is not None
        self._process = own.process
        self._urls: dict[int, tuple[str, ...]] = {}
        self._heard: dict[int, tuple[float, float]] = {}  # since when, last
        self._unreachable: dict[int, None] = {}
        self._refusals: dict[int, Refusals] = {}
        self._stopped = False
        self._dial_later()
        self._redial_later()

    def add_peer(self, member_id: int, urls: Iterable[str]) -> None:
        self._urls[member_id] = tuple(urls)

    def add_remote(self, member_id: int, url: str) -> None:
        """Somebody who is not known yet says where it is to be found, as X-PeerURLs does."""
        self._urls.setdefault(member_id, (url,))

    def update_peer(self, member_id: int, urls: Iterable[str]) -> None:
        if member_id in self._urls:
            self._urls[member_id] = tuple(urls)

    def remove_peer(self, member_id: int) -> None:
        self._urls.pop(member_id, None)
        self._heard.pop(member_id, None)
        self._refusals.pop(member_id, None)

    def send(self, messages: list[Message]) -> None:
        peers, process = self._peers, self._process
        if process.is_dead or self._stopped:
            return
        for message in messages:
            peer = self._find(message.to)
            if peer is None or peer.process is None or not peers.network.reaches(self._own.name, peer.name):
                self._note_unreachable(message.to)
                continue
            data = codec.encode_message(message)
            delays = peers.network.packets(self._own.name, peer.name)
            if message.type == MessageType.PROP:
                # A proposal that came twice would be done twice. Raft trusts TCP not to do that.
                del delays[1:]
            for delay in delays:
                peers.timeline.at(process.now + delay, self._arrive, peer, data)

    def _find(self, member_id: int) -> Peer | None:
        """Where messages for a member go: to where it is, as far as this one knows, or over a stream that it opened."""
        found = self._find_by_url(member_id)
        if found is not None:
            return found
        peer = self._peers.peer_with(member_id)
        if peer is not None and peer.member is not None:
            links = peer.member.driver.links
            if isinstance(links, SimLinks) and links._find_by_url(self._member.service.member_id) is self._own:
                return peer
        return None

    def _find_by_url(self, member_id: int) -> Peer | None:
        for url in self._urls.get(member_id, ()):
            peer = self._peers.peer_at(url)
            if peer is not None:
                return peer
        return None

    def _arrive(self, peer: Peer, data: bytes) -> None:
        """A packet is at the other machine; what is there now takes it."""
        process, member = peer.process, peer.member
        if process is None or member is None or not self._peers.network.reaches(self._own.name, peer.name):
            return
        self._peers.note("message", peer.name, data)
        self._peers.timeline.put(self._peers.timeline.now, process, _receive, (member, data, self._own.url), None)

    def _dial_later(self) -> None:
        self._process.call_later(DIAL_EVERY_S, self._dial)

    def _dial(self) -> None:
        """The streams are opened again and again; a member that was removed is told so by whoever knows."""
        if self._stopped:
            return
        own, network = self._own, self._peers.network
        for member_id in self._urls:
            peer = self._find(member_id)
            if peer is None or peer.member is None or not network.reaches(own.name, peer.name):
                continue
            if network.reaches(peer.name, own.name) and peer.member.driver.is_removed(self._member.service.member_id):
                self._member.leave()
                return
        self._dial_later()

    def _redial_later(self) -> None:
        self._process.call_later(REDIAL_S, self._redial)

    def _redial(self) -> None:
        """Whoever cannot be reached is dialled anew, and may refuse."""
        if self._stopped:
            return
        now = self._process.time()
        for member_id, urls in self._urls.items():
            refusals = self._refusals.get(member_id)
            if refusals is None:
                refusals = self._refusals[member_id] = Refusals()
            peers = [self._peers.peer_at(url) for url in urls]
            if not all(peer is not None and self._is_refused(peer) for peer in peers):
                refusals.clear()
                continue
            # Connections with it are broken off.
            self._heard.pop(member_id, None)
            for url in urls:
                refusals.note(url, now)
            if refusals.is_gone(urls, now):
                self._member.driver.on_gone(member_id)
        self._redial_later()

    def _is_refused(self, peer: Peer) -> bool:
        """Whether there is somebody who says that nobody listens there."""
        network, own = self._peers.network, self._own.name
        if network.rejects(own, peer.name):
            return True
        is_there = network.reaches(own, peer.name) and network.reaches(peer.name, own)
        return peer.process is None and not peer.is_off and is_there

    def heard_of(self, member_id: int) -> None:
        now = self._process.time()
        since, last = self._heard.get(member_id, (now, now))
        self._heard[member_id] = (now if now - last > SILENCE_S else since, now)

    def _note_unreachable(self, member_id: int) -> None:
        """Raft hears of it in the next turn."""
        if not self._unreachable:
            self._process.call_soon(self._report_unreachable)
        self._unreachable[member_id] = None

    def _report_unreachable(self) -> None:
        driver = self._member.driver
        for member_id in self._unreachable:
            driver.node.report_unreachable(member_id)
        self._unreachable = {}
        driver.wake()

    def send_snapshot(self, message: Message, db: BackendSnapshot) -> None:
        content = db.read(0, db.size)
        db.close()
        peers = self._peers
        peer = self._find(message.to)
        seconds = 2 * peers.network.delay() + len(content) / SNAPSHOT_BYTES_PER_S
        arrives = self._process.now + seconds
        if peer is None or peers.network.is_lost(self._own.name, peer.name):
            peers.timeline.put(arrives, self._process, self._report_snapshot, (message.to, False), None)
            return
        data = codec.encode_message(message)
        peers.timeline.at(arrives, self._snapshot_arrives, peer, data, content)

    def _snapshot_arrives(self, peer: Peer, data: bytes, content: bytes) -> None:
        peers = self._peers
        process, member = peer.process, peer.member
        message = codec.decode_message(data)
        reached = peers.network.reaches(self._own.name, peer.name) and peers.network.reaches(peer.name, self._own.name)
        if process is None or member is None or not reached:
            self._report_later(message.to, False)
            return
        peers.note("snapshot", peer.name, data)
        open_post = _Post(message.to, peer, process)
        peers.timeline.put(peers.timeline.now, process, self._install, (member, message, content, open_post), None)
        self._watch_post(open_post)

    def _watch_post(self, post: _Post) -> None:
        """In the sending process: it hears of it when the connection is broken before the answer."""
        if post.answered:
            return
        if post.peer.process is not post.process:
            self._report_snapshot(post.member_id, False)
            return
        peers = self._peers
        peers.timeline.put(peers.timeline.now + POST_WATCHED_S, self._process, self._watch_post, (post,), None)

    def _install(self, member: Member, message: Message, content: bytes, post: _Post) -> None:
        """In the receiving process: the db is a file before raft hears of the snapshot."""
        assert message.snapshot is not None
        half = len(content) // 2
        try:
            member.booted.snapshotter.save_db(message.snapshot.index, [content[:half], content[half:]])
        except Exception:
            post.answered = True
            self._report_later(message.to, False)
            return

        def answered(problem: str) -> None:
            post.answered = True
            self._report_later(message.to, not problem)

        member.exchange.receive(message, answered)

    def _report_later(self, member_id: int, ok: bool) -> None:
        peers = self._peers
        when = peers.timeline.now + peers.network.delay()
        peers.timeline.put(when, self._process, self._report_snapshot, (member_id, ok), None)

    def _report_snapshot(self, member_id: int, ok: bool) -> None:
        driver = self._member.driver
        driver.node.report_snapshot(member_id, ok)
        driver.wake()

    def active_since(self, member_id: int) -> float:
        since, last = self._heard.get(member_id, (0.0, 0.0))
        return since if since and self._process.time() - last <= SILENCE_S else 0.0

    def stop(self) -> None:
        self._stopped = True


def _receive(member: Member, data: bytes, url: str) -> None:
    """In the receiving process."""
    message = codec.decode_message(data)
    if member.driver.is_removed(message.from_):
        return
    links = member.driver.links
    if isinstance(links, SimLinks):
        links.add_remote(message.from_, url)
        links.heard_of(message.from_)
    member.driver.step([message])
