"""A socket without TLS, written to at once.

The event loop keeps what is written until its callbacks have run, and sends
it then. Whoever waits for an answer need not wait for them: what the socket
takes now it gets now, and only the rest is the loop's to send.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from balsad.transport.faces import Sink


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

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()


def sink_of(transport: asyncio.Transport) -> Sink:
    """The fastest way to write to this transport's socket."""
    if transport.get_extra_info("sslcontext") is not None:
        return transport
    socket = transport.get_extra_info("socket")
    return transport if socket is None else PlainSink(transport, socket.fileno())
