"""Sockets: the one place of this room that knows asyncio.

    accepted ──(first bytes are an HTTP/2 preface)──> Http2Connection
        ├─────(a TLS hello on a plain listener)──> tls_relay, and here again
        └─────(anything else)──> Http1Connection

Once the protocol is known, the event loop calls the connection directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

from balsad.transport.accepter import Accepter
from balsad.transport.frames import PREFACE
from balsad.transport.http1_connection import Http1Connection
from balsad.transport.http2_connection import Http2Connection
from balsad.transport.plain_sink import sink_of
from balsad.transport.revocation import presented_serials
from balsad.transport.tls import CertificateKeeper, ServerTls, common_name
from balsad.transport.tls_relay import HANDSHAKE, relay

if TYPE_CHECKING:
    from balsad.transport.rpc_server import RpcServer

log = logging.getLogger(__name__)

WRITE_BUFFER_HIGH: Final = 256 << 10
WRITE_BUFFER_LOW: Final = 64 << 10
ABORT_S: Final = 1.0


class FirstBytes(asyncio.Protocol):
    """Reads until it is clear which protocol the client speaks."""

    def __init__(self, server: RpcServer, tls: ServerTls | None, keeper: CertificateKeeper | None = None) -> None:
        """`keeper` has the certificates for those who speak TLS to a listener that does not ask for it."""
        self.server = server
        self.tls = tls
        self.keeper = keeper
        self.peer_name = ""
        self.buffered = b""
        self.transport: Any = None
        self.timer_tick = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.server.draining or not self._is_welcome():
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH, low=WRITE_BUFFER_LOW)
        self.server.connections[self] = None
        self.timer_tick = self.server.arm(self, self.server.limits.preface_timeout_s)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        data = self.buffered + data
        if data[0] == HANDSHAKE and self.keeper is not None:
            self._start_tls(data, self.keeper)
            return
        is_http2 = data.startswith(PREFACE)
        if not is_http2 and PREFACE.startswith(data):
            self.buffered = data
            return
        self._leave()
        transport = self.transport
        server = self.server
        # Over TLS HTTP, too, comes in HTTP/2.
        if not (server.serves_grpc or self.tls is not None if is_http2 else server.serves_http):
            transport.abort()
            return
        kind = Http2Connection if is_http2 else Http1Connection
        connection = kind(
            self.server,
            sink_of(transport),
            secure=self.tls is not None,
            peer_name=self.peer_name,
            peer_address=_address(transport),
        )
        self.server.connections[connection] = None
        transport.set_protocol(connection)
        connection.data_received(data)

    def _start_tls(self, data: bytes, keeper: CertificateKeeper) -> None:
        self._leave()
        server = self.server
        if _sockets_held(server) + 3 > server.limits.connections_max:
            self.transport.abort()
            return
        server.relays += 1
        task = asyncio.ensure_future(
            relay(
                self.transport,
                data,
                lambda: FirstBytes(server, keeper.tls),
                keeper.context,
                server.limits.handshake_timeout_s,
                server.end_relay,
            )
        )
        # The loop holds tasks weakly.
        server.handshakes.add(task)
        task.add_done_callback(server.handshakes.discard)

    def on_timer(self) -> None:
        self.timer_tick = 0
        self.transport.abort()

    held_bytes = 0

    def flush(self) -> None:
        """Nothing is ever queued here."""

    def drain(self) -> None:
        self.transport.abort()

    def abort(self) -> None:
        self.transport.abort()

    def _is_welcome(self) -> bool:
        if self.tls is None:
            return True
        certificate = self.transport.get_extra_info("peercert") or {}
        self.peer_name = common_name(certificate)
        revocations = self.tls.revocations
        if revocations is not None:
            shown = presented_serials(self.transport.get_extra_info("ssl_object"))
            refusal = revocations.refusal(certificate, shown)
            if refusal:
                address = _address(self.transport)
                log.warning("rejected connection", extra={"remote-addr": address, "server-name": "", "error": refusal})
                return False
        return self.tls.allows_peer is None or self.tls.allows_peer(certificate)

    def _leave(self) -> None:
        self.server.connections.pop(self, None)
        if self.timer_tick:
            self.server.disarm(self, self.timer_tick)
            self.timer_tick = 0


def adopt(server: RpcServer, transport: asyncio.Transport, data: bytes) -> None:
    """Serve a connection that somebody else accepted and has read `data` from."""
    first = FirstBytes(server, None)
    transport.set_protocol(first)
    first.connection_made(transport)
    first.data_received(data)


def adopt_transport(server: RpcServer, transport: Any, peer_name: str) -> None:
    """Serve what has just connected, on behalf of whoever has this name."""
    first = FirstBytes(server, None)
    first.peer_name = peer_name
    transport.set_protocol(first)
    first.connection_made(transport)


class Listener:
    """A socket that takes clients."""

    def __init__(
        self, server: RpcServer, bound: socket.socket, tls: ServerTls | None, also_tls: ServerTls | None = None
    ) -> None:
        keeper = CertificateKeeper(also_tls) if also_tls is not None and tls is None else None
        self._server = server
        self._accepter = Accepter(
            bound,
            lambda: FirstBytes(server, tls, keeper),
            self._is_full,
            tls=CertificateKeeper(tls).context if tls is not None else None,
            handshake_timeout_s=server.limits.handshake_timeout_s,
        )
        server.listeners.append(self)

    @property
    def addresses(self) -> list[Any]:
        """What the sockets are bound to, as `getsockname` gives it."""
        return [self._accepter.address]

    @property
    def port(self) -> int:
        """The TCP port, also when the kernel chose it."""
        port = self.addresses[0][1]
        assert isinstance(port, int)
        return port

    @property
    def arriving(self) -> int:
        """How many clients are accepted and not yet connections of the server."""
        return len(self._accepter.under_way)

    def close(self) -> None:
        """Take no more clients; those that are connected stay."""
        self._accepter.close()

    def _is_full(self) -> bool:
        return _sockets_held(self._server) >= self._server.limits.connections_max


async def listen_tcp(server: RpcServer, host: str, port: int, tls: ServerTls | None) -> Listener:
    """Raises OSError as the kernel gives it, as when the port is in use."""
    return await listen_bound(server, socket.create_server((host, port)), tls)


async def listen_unix(server: RpcServer, path: str, tls: ServerTls | None) -> Listener:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    return await listen_bound(server, bound, tls)


async def listen_bound(
    server: RpcServer, bound: socket.socket, tls: ServerTls | None, also_tls: ServerTls | None = None
) -> Listener:
    """Listen on a socket that is bound already; on a plain one those who speak TLS get `also_tls`."""
    if server.scheduler is None:
        server.scheduler = asyncio.get_running_loop()
    return Listener(server, bound, tls, also_tls)


async def drain(server: RpcServer, grace_s: float) -> None:
    """Let calls under way end, at most `grace_s` seconds, then drop every connection."""
    loop = asyncio.get_running_loop()
    server.draining = True
    for connection in list(server.connections):
        connection.drain()
    server.flush()
    stop = loop.time() + grace_s
    while server.connections and loop.time() < stop:
        await asyncio.sleep(0.01)
    for connection in list(server.connections):
        connection.abort()
    stop = loop.time() + ABORT_S
    while server.connections and loop.time() < stop:
        await asyncio.sleep(0)


def _sockets_held(server: RpcServer) -> int:
    """By clients. Who speaks TLS to a plain listener holds three: see tls_relay."""
    arriving = sum([listener.arriving for listener in server.listeners])
    return len(server.connections) + arriving + 2 * server.relays + len(server.handshakes)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        host = peer[0]
        return f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}"
    return "@" if not peer else str(peer)
