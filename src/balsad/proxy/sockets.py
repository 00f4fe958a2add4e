"""Sockets that listen."""

from __future__ import annotations

import contextlib
import socket

from balsad.config import StartError


def bind(address: str) -> socket.socket:
    """Raises: StartError, with the sentence of Go's net.Listen."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(port or 0), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = min(found, key=lambda info: info[0] != socket.AF_INET)
    except (OSError, ValueError) as error:
        raise StartError(f"listen tcp {address}: {error}") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1)
    except OSError as error:
        with contextlib.suppress(OSError):
            listener.close()
        raise StartError(f"listen tcp {address}: bind: {(error.strerror or str(error)).lower()}") from None
    listener.setblocking(False)
    return listener
