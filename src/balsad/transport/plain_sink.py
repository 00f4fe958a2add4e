"""A socket without TLS, written to at once.

The event loop keeps what is written until its callbacks have run, and sends
it then. Whoever waits for an answer need not wait for them: what the socket
takes now it gets now, and only the rest is the loop's to send.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from balsad.transport.faces import Sink

PIECES_MAX: Final = 1024
"""The kernel takes so many at a time (IOV_MAX)."""


class PlainSink:
    """Writes to the file descriptor of `transport` as long as nothing waits there.

    Nothing may be written once the transport has told its protocol that the connection is lost: the number may
    be another file's by then.
    """

    def __init__(self, transport: asyncio.Transport, fd: int) -> None:
        self._transport = transport
        self._fd = fd
        self._waiting: Callable[[], int] = transport.get_write_buffer_size

    def write(self, data: bytes) -> None:
        if not self._waiting():
            try:
                sent = os.write(self._fd, data)
            except OSError:
                # Full, or broken: the transport comes upon the same, and knows what to do.
                sent = 0
            if sent == len(data):
                return
            if sent:
                data = data[sent:]
        self._transport.write(data)

    def write_pieces(self, pieces: list[Any]) -> None:
        """Write bytes and memoryviews, one after the other, without copying them into one."""
        if not self._waiting():
            try:
                sent = os.writev(self._fd, pieces if len(pieces) <= PIECES_MAX else pieces[:PIECES_MAX])
            except OSError:
                sent = 0
            pieces = _after(pieces, sent)
            if not pieces:
                return
        self._transport.writelines(pieces)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()


def _after(pieces: list[Any], sent: int) -> list[Any]:
    """The pieces without the first `sent` bytes."""
    if not sent:
        return pieces
    for at, piece in enumerate(pieces):
        size = len(piece)
        if sent < size:
            rest = pieces[at:]
            if sent:
                rest[0] = memoryview(piece)[sent:]
            return rest
        sent -= size
    return []


def sink_of(transport: asyncio.Transport) -> Sink:
    """The fastest way to write to this transport's socket."""
    if transport.get_extra_info("sslcontext") is not None:
        return transport
    socket = transport.get_extra_info("socket")
    return transport if socket is None else PlainSink(transport, socket.fileno())
