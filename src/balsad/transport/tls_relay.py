"""TLS spoken to a listener whose URL says http: the client's bytes go through a pair of sockets to a TLS server here.

    client <──> FirstBytes' transport <──relay──> socket pair <──> TLS, then FirstBytes again

Whoever asks a loopback endpoint without a scheme sends a TLS hello when certificates were named, and plain HTTP/2 when
not; operators do both on one host. Such clients are few, so the detour through the kernel costs nobody anything, and
what reads the hello is the same code as on a secure listener: the same certificates, the same client authentication.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

HANDSHAKE: Final = 0x16
"""The first byte of a TLS connection: a record that carries a handshake message. No HTTP begins with it."""


class _End(asyncio.Protocol):
    """Hands what it reads to the other end, and reads no faster than that can write."""

    def __init__(self, on_end: Callable[[], None] | None = None) -> None:
        self.transport: Any = None
        self.other: _End | None = None
        self._has_ended = False
        self._on_end = on_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        other = self.other
        if other is None:
            return False
        self._has_ended = True
        if other._has_ended:
            # Both have said all: what is still on its way is sent, then either side closes.
            return False
        if other.transport.can_write_eof():
            other.transport.write_eof()
        return True  # the other direction may have something to say yet

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.close()
        if self._on_end is not None:
            self._on_end()
            self._on_end = None


async def relay(
    transport: asyncio.Transport,
    data: bytes,
    make_protocol: Callable[[], asyncio.Protocol],
    context: ssl.SSLContext,
    handshake_timeout_s: float,
    on_end: Callable[[], None],
) -> None:
    """Serve TLS to the client of `transport`, which has sent `data` already, with a protocol from `make_protocol`.

    Returns when the handshake is done or has failed; a client that fails it is dropped. `on_end` is called when the
    client is gone.
    """
    loop = asyncio.get_running_loop()
    transport.pause_reading()
    client, inside = _End(on_end), _End()
    client.transport = transport
    try:
        near, far = socket.socketpair()
    except OSError:
        transport.abort()
        on_end()
        return
    near.setblocking(False)
    far.setblocking(False)
    try:
        await loop.connect_accepted_socket(lambda: inside, near)
    except OSError:
        near.close()
        far.close()
        transport.abort()
        on_end()
        return
    client.other, inside.other = inside, client
    transport.set_protocol(client)
    if transport.is_closing():
        client.connection_lost(None)
    else:
        inside.transport.write(data)
        transport.resume_reading()
    try:
        await loop.connect_accepted_socket(make_protocol, far, ssl=context, ssl_handshake_timeout=handshake_timeout_s)
    except (OSError, ssl.SSLError):
        far.close()
        inside.transport.close()
