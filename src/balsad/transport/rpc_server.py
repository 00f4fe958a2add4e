"""The server: its methods, its connections, and the one write per connection and turn of the loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from balsad.transport import listener
from balsad.transport.call import Call
from balsad.transport.faces import Connection, Handle, Scheduler, StreamHandler, Timed
from balsad.transport.http import HttpRequest, HttpResponder
from balsad.transport.http2_base import TURN_S_MAX
from balsad.transport.limits import Limits
from balsad.transport.methods import CODE_CANCELED, Headers, Method, Router
from balsad.transport.timers import TICK_S, Timers
from balsad.transport.tls import ServerTls

HEADER_CACHE_MAX: Final = 1024


def no_http(request: HttpRequest, responder: HttpResponder) -> None:
    """The HTTP handler of a server that has none."""
    responder.respond(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")


class RpcServer:
    """gRPC methods and an HTTP handler, served on any number of listeners."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        scheduler: Scheduler | None = None,
        wall_clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stopwatch` tells how long a connection has kept the others waiting: a loop's own clock may stand still."""
        self.limits = limits if limits is not None else Limits()
        self.scheduler = scheduler
        self.wall_clock = wall_clock
        self.stopwatch = stopwatch
        self.http: Callable[[HttpRequest, HttpResponder], None] = no_http
        self.serves_grpc = True
        self.serves_http = True
        """Its listeners take who speaks either; who speaks what is not served is hung up on."""
        self.router = Router()
        self.header_cache: dict[bytes, Headers] = {}
        self.timed_header_cache: dict[bytes, Headers] = {}
        """The same by blocks from which the value of grpc-timeout was cut out."""
        self.connections: dict[Connection, None] = {}
        self.held_bytes = 0
        """What waits to be read by clients, and messages of which the end is awaited."""
        self.handshakes: set[asyncio.Task[None]] = set()
        """TLS that was begun on listeners that do not ask for it."""
        self.listeners: list[listener.Listener] = []
        self.relays = 0
        """How many clients speak TLS to a plain listener."""
        self.taking_turns = 0
        """Connections that have more to be done than one turn of the loop has time for."""
        self.turn_s = TURN_S_MAX
        self.draining = False
        self.timers = Timers()
        self._dirty: list[Connection] = []
        self._flush_scheduled = False
        self._timer: Handle | None = None
        self._timer_at = 0.0

    def unary(
        self,
        path: str,
        handler: Callable[[Call, bytes], None],
        fast: Callable[[Headers, bytes], bytes | None] | None = None,
    ) -> None:
        """Serve a unary method.

        `fast` is tried first and builds no Call: bytes are the answer, None
        means that `handler` is called instead. A RequestError raised by either
        becomes the status.
        """
        self.router.add(Method(path, handler, fast, None))
        self._forget_headers()

    def stream(self, path: str, factory: Callable[[Call], StreamHandler], code_when_gone: int = CODE_CANCELED) -> None:
        """Serve a method that streams in either direction."""
        method = Method(path, None, None, factory)
        method.code_when_gone = code_when_gone
        self.router.add(method)
        self._forget_headers()

    @property
    def methods(self) -> list[Method]:
        """Every method with its counters."""
        return list(self.router.methods.values())

    async def listen(self, host: str, port: int, tls: ServerTls | None = None) -> listener.Listener:
        """Take clients on a TCP port; 0 has the kernel choose. Raises OSError, as when the port is in use."""
        return await listener.listen_tcp(self, host, port, tls)

    async def listen_bound(
        self, bound: socket.socket, tls: ServerTls | None = None, also_tls: ServerTls | None = None
    ) -> listener.Listener:
        """Take clients on a socket that is bound already; on a plain one those who speak TLS get `also_tls`."""
        return await listener.listen_bound(self, bound, tls, also_tls)

    def adopt(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection that somebody else accepted and has read `data` from."""
        listener.adopt(self, transport, data)

    def adopt_transport(self, transport: Any, peer_name: str = "") -> None:
        """Serve a client that is no socket: `transport` is one as asyncio has it, and gets its protocol here."""
        listener.adopt_transport(self, transport, peer_name)

    async def listen_unix(self, path: str, tls: ServerTls | None = None) -> listener.Listener:
        """Take clients on a unix socket."""
        return await listener.listen_unix(self, path, tls)

    async def drain(self, grace_s: float) -> None:
        """Have clients go elsewhere: GOAWAY, wait up to `grace_s` seconds for calls under way, close.

        Close the listeners first.
        """
        await listener.drain(self, grace_s)

    def abort(self) -> None:
        """Drop every connection, with what is queued on it, and take no more."""
        self.draining = True
        for connection in list(self.connections):
            connection.abort()

    def flush(self) -> None:
        """Write what calls queued, once per connection."""
        dirty = self._dirty
        while dirty:
            self._dirty = []
            for connection in dirty:
                connection.flush()
            dirty = self._dirty

    # What connections call.

    def clock(self) -> Callable[[], float]:
        """The clock of the loop."""
        assert self.scheduler is not None
        return self.scheduler.time

    def now(self) -> float:
        assert self.scheduler is not None
        return self.scheduler.time()

    def add_dirty(self, connection: Connection) -> None:
        """Flush this connection before the loop sleeps, if nobody does earlier."""
        self._dirty.append(connection)
        if not self._flush_scheduled:
            assert self.scheduler is not None
            self._flush_scheduled = True
            self.scheduler.call_soon(self._flush_soon)

    def remember(self, block: bytes, headers: Headers) -> None:
        """Keep what a header block decodes to."""
        if len(self.header_cache) >= HEADER_CACHE_MAX:
            self.header_cache.clear()
        self.header_cache[block] = headers

    def remember_timed(self, block: bytes, headers: Headers) -> None:
        """Keep what a header block decodes to, less its grpc-timeout."""
        if len(self.timed_header_cache) >= HEADER_CACHE_MAX:
            self.timed_header_cache.clear()
        self.timed_header_cache[block] = headers

    def arm(self, item: Timed, delay_s: float) -> int:
        """Have `item.on_timer()` called in `delay_s` seconds; gives what `disarm` wants."""
        tick = self.timers.add(item, self.now(), delay_s)
        if self._timer is None or tick * TICK_S < self._timer_at:
            self._schedule_timer()
        return tick

    def make_room(self) -> None:
        """Close the connections that hold most until the others hold no more than they may."""
        for connection in sorted(self.connections, key=_held_by, reverse=True):
            if self.held_bytes <= self.limits.held_bytes_max:
                break
            connection.abort()

    @property
    def is_crowded(self) -> bool:
        """Whether so much is unread that nobody should be behind with much."""
        return self.held_bytes > self.limits.crowd_bytes

    def end_relay(self) -> None:
        self.relays -= 1

    def disarm(self, item: Timed, tick: int) -> None:
        self.timers.remove(item, tick)

    def _forget_headers(self) -> None:
        self.header_cache.clear()
        self.timed_header_cache.clear()

    def _flush_soon(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _schedule_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.timers.next_due()
        if due is not None:
            assert self.scheduler is not None
            self._timer_at = due
            # A loop may round down; waking early would only have to go to sleep again.
            self._timer = self.scheduler.call_at(due + 0.001, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.timers.run(self.now())
        finally:
            self._schedule_timer()


def _held_by(connection: Connection) -> int:
    return connection.held_bytes
