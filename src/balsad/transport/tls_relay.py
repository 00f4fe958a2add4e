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

    def __init__(self) -> None:
        self.transport: Any = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
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


async def relay(
    transport: asyncio.Transport,
    data: bytes,
    make_protocol: Callable[[], asyncio.Protocol],
    context: ssl.SSLContext,
    handshake_timeout_s: float,
) -> None:
    """Serve TLS to the client of `transport`, which has sent `data` already, with a protocol from `make_protocol`.

    Returns when the handshake is done or has failed; a client that fails it is dropped.
    """
    loop = asyncio.get_running_loop()
    transport.pause_reading()
    client, inside = _End(), _End()
    client.transport = transport
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    try:
        await loop.connect_accepted_socket(lambda: inside, near)
    except OSError:
        near.close()
        far.close()
        transport.abort()
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
