"""Watches of clients that share those of the proxy: what a member says once is told to all who watch the same range.

    watcher wants revision 7       broadcast has told all before 5   -> joins; what comes before 7 is not for it
                                   broadcast has told all before 9   -> a broadcast of its own from 7 on
    broadcast of few, up to date   another one, no further than any of its watchers -> they move there, one watch less

A client that does not read leaves its broadcast, so that it holds up nobody and nothing piles up for it, and comes back
at the revision it missed as soon as it reads again.

Source: etcd server/proxy/grpcproxy watch_broadcast.go, watch_broadcasts.go, watch_ranges.go, watcher.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from balsad.client.channel import API_VERSION
from balsad.proto import kv_pb2, rpc_pb2
from balsad.proxy.member_watches import MemberWatch, MemberWatches
from balsad.proxy.namespace import Namespace
from balsad.proxy.upstream import Metadata, Upstream
from balsad.wire import bytes_field, varint

if TYPE_CHECKING:
    from balsad.observe.metrics import Metrics

RECEIVERS_MOVED_MAX: Final = 5
"""A broadcast of as many is worth a watch of its own."""

Place = tuple[bytes, bytes, bytes]
"""Token, key and end."""


class Outlet(Protocol):
    """The stream a watcher belongs to."""

    def is_full(self) -> bool:
        """The client is too far behind to be sent more events."""

    def send(self, message: bytes) -> None: ...

    def park(self, watcher: Watcher) -> None:
        """It has left its broadcast; `Ranges.add` brings it back."""

    def forget(self, watcher: Watcher) -> None:
        """It was canceled."""


class Watcher:
    """One watch of a client."""

    def __init__(self, outlet: Outlet, place: Place, watch_id: int, request: rpc_pb2.WatchCreateRequest) -> None:
        self.outlet = outlet
        self.place = place
        self.id = watch_id
        self.next_revision = request.start_revision
        """The first that it has not been told of; 0 until it is known what the present is."""
        self.wants_progress = request.progress_notify
        self.wants_prev_kv = request.prev_kv
        self.hides_puts = rpc_pb2.WatchCreateRequest.NOPUT in request.filters
        self.hides_deletes = rpc_pb2.WatchCreateRequest.NODELETE in request.filters
        self.is_told = False
        """The client knows that it is created."""
        self.last_header = b""
        self.broadcast: Broadcast | None = None

    @property
    def takes_all(self) -> bool:
        return not (self.hides_puts or self.hides_deletes)

    def tell(self, header: bytes, rest: bytes) -> None:
        """Send a response: header, watch id, and what follows it."""
        self.last_header = header
        self.outlet.send(bytes_field(1, header) + (b"\x10" + varint(self.id) if self.id else b"") + rest)


class _Said:
    """A response of a member, and the bytes that watchers get of it."""

    def __init__(self, response: Any) -> None:
        self.header: bytes = response.header.SerializeToString()
        self.revision: int = response.header.revision
        self.events = list(response.events)
        self._with_prev: bytes | None = None
        self._without_prev: bytes | None = None

    def for_all(self, *, prev_kv: bool) -> bytes:
        """All events; made once for all who want them so."""
        if prev_kv:
            if self._with_prev is None:
                self._with_prev = _events(self.events, prev_kv=True)
            return self._with_prev
        if self._without_prev is None:
            self._without_prev = _events(self.events, prev_kv=False)
        return self._without_prev


class Broadcast:
    """A watch at a member and the watchers it serves."""

    def __init__(self, ranges: Ranges, place: Place, revision: int) -> None:
        self._ranges = ranges
        self.place = place
        key, end = ranges.inside(place)
        self.watch = MemberWatch(key, end, revision, self._on_response)
        self.receivers: dict[Watcher, None] = {}
        self.has_answer = False
        self.is_synced = not revision
        """Nothing of the past is still to come: what happens is told as it happens."""

    @property
    def next_revision(self) -> int:
        """All events before it were told to those who are here."""
        return self.watch.next_revision

    def may_take(self, watcher: Watcher) -> bool:
        """Whether a watcher that joins now misses nothing."""
        told, wanted = self.next_revision, watcher.next_revision
        return told == wanted or (self.has_answer and self.is_synced and 0 < told <= wanted)

    def _on_response(self, response: Any) -> None:
        self.has_answer = True
        if response.canceled:
            self._cancel(response)
            return
        if response.created:
            self._created(response)
        elif response.events:
            self._told(response)
        else:
            self._progressed(response)
        self._ranges.settle(self)

    def _created(self, response: Any) -> None:
        header = response.header.SerializeToString()
        present = response.header.revision + 1
        if not self.watch.next_revision:
            self.watch.next_revision = present
        for watcher in list(self.receivers):
            if not watcher.next_revision:
                watcher.next_revision = present
            if not watcher.is_told:
                watcher.is_told = True
                watcher.tell(header, b"\x18\x01")

    def _progressed(self, response: Any) -> None:
        # A member says so only when it has told all before.
        self.is_synced = True
        self.watch.next_revision = max(self.watch.next_revision, response.header.revision + 1)
        header = response.header.SerializeToString()
        for watcher in list(self.receivers):
            watcher.next_revision = max(watcher.next_revision, response.header.revision + 1)
            if watcher.wants_progress and not watcher.outlet.is_full():
                watcher.tell(header, b"")

    def _told(self, response: Any) -> None:
        self._ranges.leave(response.events)
        said = _Said(response)
        first, last = said.events[0].kv.mod_revision, said.events[-1].kv.mod_revision
        for watcher in list(self.receivers):
            if watcher.next_revision > last:
                continue
            if watcher.outlet.is_full():
                self._ranges.remove(watcher)
                watcher.outlet.park(watcher)
                continue
            if watcher.takes_all and watcher.next_revision <= first:
                rest = said.for_all(prev_kv=watcher.wants_prev_kv)
            else:
                rest = _events(_chosen(said.events, watcher), prev_kv=watcher.wants_prev_kv)
            watcher.next_revision = last + 1
            if rest:
                watcher.tell(said.header, rest)
        self.watch.next_revision = max(self.watch.next_revision, last + 1)
        # Of the past a member tells under the revision of the present.
        self.is_synced = self.is_synced or last == said.revision
        if self.receivers:
            self._ranges.metrics.proxy_events_coalescing.inc(len(self.receivers) - 1)

    def _cancel(self, response: Any) -> None:
        """The member watches no longer: what is needed is compacted, or may not be read."""
        header = response.header.SerializeToString()
        rest = (b"\x18\x01" if response.created else b"") + b"\x20\x01"
        if response.compact_revision:
            rest += b"\x28" + varint(response.compact_revision)
        elif response.cancel_reason:
            rest += bytes_field(6, response.cancel_reason.encode())
        for watcher in list(self.receivers):
            self._ranges.remove(watcher)
            watcher.outlet.forget(watcher)
            watcher.tell(header, rest)


class Ranges:
    """All broadcasts, by what they watch."""

    def __init__(self, upstream: Upstream, namespace: Namespace, metrics: Metrics) -> None:
        self.metrics = metrics
        self._upstream = upstream
        self._namespace = namespace
        self._broadcasts: dict[Place, dict[Broadcast, None]] = {}
        self._members: dict[bytes, MemberWatches] = {}

    def close(self) -> None:
        for watches in self._members.values():
            watches.close()

    def inside(self, place: Place) -> tuple[bytes, bytes]:
        """The range as members know it."""
        _, key, end = place
        return self._namespace.inside(key, end) if self._namespace.prefix else (key, end)

    def leave(self, events: Any) -> None:
        """Take the namespace off the keys of events."""
        if self._namespace.prefix:
            for event in events:
                self._namespace.leave([event.kv])
                if event.HasField("prev_kv"):
                    self._namespace.leave([event.prev_kv])

    def add(self, watcher: Watcher) -> None:
        """Have it told what it wants, by a broadcast that is there or by a new one."""
        broadcasts = self._broadcasts.setdefault(watcher.place, {})
        for broadcast in broadcasts:
            if broadcast.may_take(watcher):
                self._join(broadcast, watcher)
                if broadcast.has_answer and not watcher.is_told:
                    watcher.is_told = True
                    header = rpc_pb2.ResponseHeader(revision=watcher.next_revision)
                    watcher.tell(header.SerializeToString(), b"\x18\x01")
                return
        broadcast = Broadcast(self, watcher.place, watcher.next_revision)
        broadcasts[broadcast] = None
        self._join(broadcast, watcher)
        self._watches_of(watcher.place[0]).add(broadcast.watch)

    def remove(self, watcher: Watcher) -> None:
        """It is told nothing more."""
        broadcast = watcher.broadcast
        if broadcast is None:
            return
        watcher.broadcast = None
        del broadcast.receivers[watcher]
        if broadcast.receivers:
            self.metrics.proxy_watchers_coalescing.dec()
        else:
            self._end(broadcast)

    def settle(self, broadcast: Broadcast) -> None:
        """Move the few watchers of a broadcast to another that has not gone past any of them."""
        if not broadcast.receivers or len(broadcast.receivers) >= RECEIVERS_MOVED_MAX:
            return
        wanted = min([watcher.next_revision for watcher in broadcast.receivers])
        for other in self._broadcasts.get(broadcast.place, ()):
            if other is not broadcast and other.has_answer and other.is_synced and 0 < other.next_revision <= wanted:
                for watcher in list(broadcast.receivers):
                    self.remove(watcher)
                    self._join(other, watcher)
                return

    def _join(self, broadcast: Broadcast, watcher: Watcher) -> None:
        if broadcast.receivers:
            self.metrics.proxy_watchers_coalescing.inc()
        broadcast.receivers[watcher] = None
        watcher.broadcast = broadcast

    def _end(self, broadcast: Broadcast) -> None:
        token = broadcast.place[0]
        broadcasts = self._broadcasts.get(broadcast.place)
        if broadcasts is not None:
            broadcasts.pop(broadcast, None)
            if not broadcasts:
                del self._broadcasts[broadcast.place]
        members = self._members.get(token)
        if members is not None:
            members.remove(broadcast.watch)
            if members.is_idle:
                del self._members[token]

    def _watches_of(self, token: bytes) -> MemberWatches:
        found = self._members.get(token)
        if found is None:
            metadata: Metadata = (("client-api-version", API_VERSION),)
            if token:
                metadata += (("token", token.decode("utf-8", "surrogateescape")),)
            found = self._members[token] = MemberWatches(self._upstream, metadata)
        return found


def _chosen(events: list[Any], watcher: Watcher) -> list[Any]:
    hidden = {kv_pb2.Event.PUT} if watcher.hides_puts else set()
    if watcher.hides_deletes:
        hidden.add(kv_pb2.Event.DELETE)
    return [event for event in events if event.kv.mod_revision >= watcher.next_revision and event.type not in hidden]


def _events(events: list[Any], *, prev_kv: bool) -> bytes:
    """The field of a response that holds them."""
    out = rpc_pb2.WatchResponse(events=events)
    if not prev_kv:
        for event in out.events:
            event.ClearField("prev_kv")
    return out.SerializeToString()
