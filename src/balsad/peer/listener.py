"""The peer port: sockets that take other members, and who may come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from balsad.config import StartError
from balsad.observe.logs import get_logger
from balsad.peer.errands import Errands
from balsad.peer.exchange import PeerRequest, Route
from balsad.peer.http_server import PeerConnection
from balsad.peer.tls import Certificate, CertificateRefusedError
from balsad.transport import Accepter

if TYPE_CHECKING:
    from balsad.peer.tls import PeerTls

log = get_logger(__name__)

HANDSHAKE_S_MAX: Final = 60.0


class PeerListener:
    """Serves `routes` on any number of sockets. Made inside a running event loop."""

    def __init__(
        self,
        routes: Callable[[PeerRequest], Route],
        tls: PeerTls | None = None,
        http2: Callable[[asyncio.Transport, bytes], None] | None = None,
        connections_max: int = 1 << 30,
    ) -> None:
        """`http2` takes over clients that speak HTTP/2: their transport and what they have sent.

        Who comes while `connections_max` are here, or shake hands, waits to be accepted.
        """
        self.loop = asyncio.get_running_loop()
        self.route = routes
        self.http2 = http2
        self.is_closing = False
        self._tls = tls
        self._connections: dict[PeerConnection, None] = {}
        self._connections_max = connections_max
        self._accepters: list[Accepter] = []
        self._errands = Errands()

    async def listen_bound(self, bound: socket.socket, *, secure: bool = False) -> None:
        """Take clients on a socket that is bound already. Raises: StartError, OSError."""
        context = None
        if secure:
            if self._tls is None:
                raise StartError("cannot listen on TLS for peers: KeyFile and CertFile are not presented")
            context = self._tls.server_context()
        self._accepters.append(
            Accepter(
                bound, lambda: PeerConnection(self), self._is_full, tls=context, handshake_timeout_s=HANDSHAKE_S_MAX
            )
        )

    @property
    def addresses(self) -> list[Any]:
        """What the sockets are bound to, as `getsockname` gives it."""
        return [accepter.address for accepter in self._accepters]

    def close(self) -> None:
        """Take no more clients; those that are being answered get their answer."""
        self.is_closing = True
        for accepter in self._accepters:
            accepter.close()
        for connection in list(self._connections):
            connection.finish()

    async def wait_closed(self, grace_s: float = 1.0) -> None:
        """Return when nobody is connected any more, which is made so after `grace_s` seconds."""
        until = self.loop.time() + grace_s
        while self._connections and self.loop.time() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        self._errands.stop()
        await self._errands.wait()

    def _is_full(self) -> bool:
        arriving = sum([len(accepter.under_way) for accepter in self._accepters])
        return len(self._connections) + arriving >= self._connections_max

    # What connections and routes call.

    def welcome(self, connection: PeerConnection) -> bool:
        if not self.is_closing:
            self._connections[connection] = None
        return not self.is_closing

    def farewell(self, connection: PeerConnection) -> None:
        self._connections.pop(connection, None)

    def check_certificate(
        self, connection: PeerConnection, certificate: Certificate, host: str, shown: list[int]
    ) -> None:
        """Hear the client only once it is clear that its certificate may come from `host`."""
        tls = self._tls
        assert tls is not None

        async def check() -> None:
            try:
                await tls.check_client(certificate, host, shown)
            except CertificateRefusedError as error:
                log.warning("rejected connection", extra={"remote-addr": host, "server-name": "", "error": error})
                connection.abort()
            else:
                connection.resume()

        if certificate:
            connection.pause()
            self._errands.start(check(), f"certificate of {host}")
