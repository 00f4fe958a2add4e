"""One endpoint's connection, kept up: connect, wait for SETTINGS, watch over it, back off, connect again.

    idle --start--> connecting --SETTINGS--> ready --lost or GOAWAY--> connecting
                        ^----- backoff <-- failed --'

Source: gRPC connection backoff; the keepalive of grpc-go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from balsad import __version__
from balsad.client.endpoints import Endpoint
from balsad.client.http2 import ClientConnection, ProtocolError
from balsad.client.loops import sleep

if TYPE_CHECKING:
    from ssl import SSLContext

    from balsad.client.loop_faces import Loop, TransportLike

_USER_AGENT: Final = f"balsad/{__version__}"
_BACKOFF_BASE_S: Final = 1.0
_BACKOFF_FACTOR: Final = 1.6
BACKOFF_MAX_S: Final = 120.0
_CONNECT_TIMEOUT_S: Final = 20.0
# Servers answer more frequent pings with GOAWAY; grpc-go has the same floor.
_KEEPALIVE_MIN_S: Final = 10.0


class Wire:
    """A connected socket and its HTTP/2 connection; the protocol that the loop calls."""

    def __init__(self, loop: Loop, connection: ClientConnection, on_change: Callable[[Wire], None]) -> None:
        self.connection = connection
        self.transport: TransportLike | None = None
        self.error: Exception | None = None
        self._loop = loop
        self._on_change = on_change
        self._flush_due = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        was_ready, was_draining = self.connection.ready, self.connection.draining
        try:
            self.connection.receive(data)
        except ProtocolError as error:
            self.fail(error)
            return
        self.flush()
        if self.connection.draining and not self.connection.active and self.transport is not None:
            self.transport.close()
        if was_ready != self.connection.ready or was_draining != self.connection.draining:
            self._on_change(self)

    def eof_received(self) -> bool | None:
        return None

    def pause_writing(self) -> None:
        """HTTP/2's windows already bound what is written."""

    def resume_writing(self) -> None:
        """See pause_writing."""

    def connection_lost(self, error: Exception | None) -> None:
        self.error = self.error or error
        if not self.connection.closed:
            self.connection.lost("transport is closing")
        self._on_change(self)

    def flush_soon(self) -> None:
        """Write what calls have queued, once for all of this turn of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flush_due = False
        data = self.connection.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    def fail(self, error: Exception) -> None:
        """Give the connection up."""
        self.error = self.error or error
        self.connection.lost("transport is closing")
        if self.transport is not None:
            self.transport.abort()
        self._on_change(self)

    def close(self) -> None:
        self.connection.close()
        self.flush()
        if self.transport is not None:
            self.transport.close()


class Link:
    """Keeps one endpoint connected; tells `on_change` when it becomes ready or is lost."""

    def __init__(
        self,
        loop: Loop,
        endpoint: Endpoint,
        *,
        tls: SSLContext | None,
        either_mode: bool,
        keepalive_time_s: float,
        keepalive_timeout_s: float,
        random: Callable[[], float],
        on_change: Callable[[Link], None],
        backoff_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self.endpoint = endpoint
        self.is_resting = False
        """The last attempt to connect failed, and the next is some time away."""
        self._backoff_max_s = backoff_max_s
        self.wire: Wire | None = None
        self.error: Exception | None = None
        self.was_ready = False
        self._loop = loop
        self._tls = tls
        self._keepalive_time_s = max(keepalive_time_s, _KEEPALIVE_MIN_S) if keepalive_time_s > 0 else 0.0
        self._keepalive_timeout_s = keepalive_timeout_s
        self._random = random
        self._on_change = on_change
        self._changed: Any = None
        self._task: Any = None
        self._draining: list[Wire] = []
        self._secure = endpoint.secure if endpoint.secure is not None else tls is not None
        self._may_switch = either_mode and endpoint.secure is None and endpoint.is_loopback

    @property
    def usable(self) -> bool:
        """Whether a call can begin on it now."""
        wire = self.wire
        return wire is not None and wire.connection.ready and not wire.connection.draining

    def start(self) -> None:
        """Connect, and stay connected until `close`."""
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    def close(self) -> None:
        """Disconnect; calls under way end."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        wire, self.wire = self.wire, None
        for one in [*self._draining, *([] if wire is None else [wire])]:
            one.close()
        self._draining.clear()

    async def _run(self) -> None:
        failures = 0
        while True:
            began = self._loop.time()
            served = await self._connect_once()
            if served:
                failures = 0
                continue
            if self._may_switch and self._speaks_other_mode():
                # A scheme-less loopback endpoint says nothing of TLS: try the other way.
                self._secure = not self._secure
                self._may_switch = False
                continue
            wait = min(_BACKOFF_BASE_S * _BACKOFF_FACTOR**failures, self._backoff_max_s) * (0.8 + 0.4 * self._random())
            failures += 1
            self.is_resting = True
            self._on_change(self)
            await sleep(self._loop, max(0.0, wait - (self._loop.time() - began)))
            self.is_resting = False

    def _speaks_other_mode(self) -> bool:
        """Whether the last attempt failed as it does when one side speaks TLS and the other does not."""
        if isinstance(self.error, ConnectionRefusedError | TimeoutError):
            return False
        if not self._secure:
            return True
        from ssl import SSLCertVerificationError, SSLError

        if isinstance(self.error, SSLCertVerificationError):
            return False
        return isinstance(self.error, SSLError | ConnectionError | ProtocolError)

    async def _connect_once(self) -> bool:
        """One connection from beginning to end; False if it never became ready."""
        self._changed = self._loop.create_future()
        outcome = self._loop.create_future()
        connecting = self._loop.create_task(self._open_into(outcome))
        timer = self._loop.call_later(_CONNECT_TIMEOUT_S, _settle, outcome, None, TimeoutError("connect timed out"))
        try:
            wire: Wire = await outcome
        except (OSError, ValueError, OverflowError) as error:
            self.error = error
            return False
        finally:
            timer.cancel()
            if not connecting.done():
                connecting.cancel()
        return await self._serve(wire)

    async def _open_into(self, outcome: Any) -> None:
        try:
            wire = await self._open_socket()
        except (OSError, ValueError, OverflowError) as error:
            _settle(outcome, None, error)
        else:
            if outcome.done():
                wire.close()
            _settle(outcome, wire, None)

    async def _open_socket(self) -> Wire:
        endpoint = self.endpoint
        context = self._context() if self._secure else None
        scheme = "https" if self._secure else "http"

        def make() -> Wire:
            connection = ClientConnection(scheme=scheme, authority=endpoint.authority, user_agent=_USER_AGENT)
            return Wire(self._loop, connection, self._on_wire_change)

        name = endpoint.server_name if self._secure else None
        wire: Wire
        if endpoint.path:
            _, wire = await self._loop.create_unix_connection(make, endpoint.path, ssl=context, server_hostname=name)
        elif not endpoint.port:
            raise OSError(f"address {endpoint.authority}: missing port in address")
        else:
            _, wire = await self._loop.create_connection(
                make, endpoint.host, endpoint.port, ssl=context, server_hostname=name
            )
        return wire

    def _context(self) -> SSLContext:
        if self._tls is None:
            from balsad.client.tls import client_context

            # Without a scheme nobody asked for TLS: on the loopback it is no
            # worse than the plain connection that was meant. https:// is checked.
            self._tls = client_context(insecure_skip_verify=self.endpoint.secure is None)
        return self._tls

    def _give_up(self) -> None:
        wire = self.wire
        if wire is not None and not wire.connection.ready:
            wire.fail(TimeoutError("no SETTINGS from the server"))

    def _on_wire_change(self, wire: Wire) -> None:
        changed, self._changed = self._changed, self._loop.create_future()
        if changed is not None and not changed.done():
            changed.set_result(None)
        if wire is self.wire:
            if wire.connection.ready:
                self.was_ready = True
            self._on_change(self)

    async def _serve(self, wire: Wire) -> bool:
        connection = wire.connection
        self.wire = wire
        timer = self._loop.call_later(_CONNECT_TIMEOUT_S, self._give_up)
        keeper = self._loop.create_task(self._keep_alive(wire)) if self._keepalive_time_s else None
        ready = connection.ready
        if ready:
            self._on_wire_change(wire)
        try:
            while not connection.closed:
                ready = ready or connection.ready
                if connection.draining:
                    # Its calls end on it while the next connection serves new ones.
                    self.wire = None
                    self._draining = [one for one in self._draining if not one.connection.closed] + [wire]
                    return True
                await self._changed
        finally:
            timer.cancel()
            if keeper is not None and connection.closed:
                keeper.cancel()
        self.error = wire.error or ConnectionResetError("the server closed the connection")
        if self.wire is wire:
            self.wire = None
        self._on_change(self)
        return ready

    async def _keep_alive(self, wire: Wire) -> None:
        """Ping while calls wait and nothing arrives; a server that stays silent is gone."""
        connection = wire.connection
        while not connection.closed:
            seen = connection.bytes_received
            await sleep(self._loop, self._keepalive_time_s)
            if connection.closed or connection.bytes_received != seen or not connection.active:
                continue
            connection.ping()
            wire.flush()
            await sleep(self._loop, self._keepalive_timeout_s)
            if connection.bytes_received == seen and not connection.closed:
                wire.fail(TimeoutError("keepalive ping failed"))


def _settle(outcome: Any, value: Wire | None, error: Exception | None) -> None:
    if outcome.done():
        return
    if error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(value)
