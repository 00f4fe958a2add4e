"""gRPC connections of this process to itself, without sockets.

The gateway, locks and elections are clients like others, as in etcd: their calls pass the same checks and counters.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from balsad import __version__
from balsad.client.http2 import ClientConnection, Stream, StreamHandler
from balsad.client.link import Wire
from balsad.transport import RpcServer

_USER_AGENT: Final = f"grpc-gateway balsad/{__version__}"
# What may be under way to somebody who, as it turns out, does not read.
_STREAM_WINDOW: Final = 64 << 10
# A connection whose calls are read by nobody is closed at a bound, and all its calls with it: none has too many.
_CALLS_MAX: Final = 256
_UNAVAILABLE: Final = "transport is closing"


class _End:
    """One end of a pipe: what asyncio calls a transport. What is written arrives in the next turn of the loop."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.other: _End | None = None
        self._loop = asyncio.get_running_loop()
        self._written: list[bytes] = []
        self._is_due = False
        self._is_closing = False

    def write(self, data: bytes) -> None:
        if self._is_closing:
            return
        self._written.append(bytes(data))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._deliver)

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def _deliver(self) -> None:
        self._is_due = False
        data = b"".join(self._written)
        self._written.clear()
        other = self.other
        if other is not None and data and not other._is_closing:
            other.protocol.data_received(data)

    def close(self) -> None:
        self._close()
        if self.other is not None:
            self.other._close()

    abort = close

    def _close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._written))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """HTTP/2's windows bound what is under way."""

    def pause_reading(self) -> None:
        """See set_write_buffer_limits."""

    def resume_reading(self) -> None:
        """See set_write_buffer_limits."""


class Loopback:
    """Calls of this server's own methods; it connects when a call finds no connection with room for it."""

    def __init__(self, server: RpcServer, peer_name: str = "") -> None:
        """`peer_name`: the name in the certificate of whoever is acted for."""
        self._server = server
        self._peer_name = peer_name
        self._wires: list[Wire] = []

    def open(self, method: str, metadata: tuple[tuple[str, str], ...], handler: StreamHandler) -> Stream:
        """Begin a call; `flush` sends what was written to it."""
        return self.wire().connection.open(method, metadata, handler)

    def wire(self) -> Wire:
        """A connection with room for a call."""
        for wire in self._wires:
            connection = wire.connection
            if connection.active < _CALLS_MAX and not connection.closed and not connection.draining:
                return wire
        self._wires = [wire for wire in self._wires if not wire.connection.closed]
        self._wires.append(self._connect())
        return self._wires[-1]

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    def flush(self) -> None:
        for wire in self._wires:
            wire.flush_soon()

    def _connect(self) -> Wire:
        connection = ClientConnection(
            scheme="http", authority="localhost", user_agent=_USER_AGENT, stream_window=_STREAM_WINDOW
        )
        wire = Wire(asyncio.get_running_loop(), connection, _ignore)
        near, far = _End(), _End()
        near.other, far.other = far, near
        near.protocol = wire
        self._server.adopt_transport(far, self._peer_name)
        wire.connection_made(near)
        return wire


def _ignore(_: Wire) -> None:
    pass
