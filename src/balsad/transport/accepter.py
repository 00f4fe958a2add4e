"""A listening socket and how many clients may come in by it.

    has room: the loop waits for clients ──(full, or out of descriptors)──> resting: clients wait in the kernel's queue
                      ^───────────────────────(a moment later)──────────────┘

A file descriptor that a client holds is one that the log and the database cannot have, and a server of the event
loop's own that finds none left is closed by uvloop for good. So clients are counted, from the moment they are
accepted, through a TLS handshake that may never end, until they are gone. Like etcd, let those who are too many wait.

Source: etcd embed (LimitListener, reservedInternalFDNum), client/pkg/transport keepalive_listener.go.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from balsad.observe.logs import get_logger
from balsad.transport.handshake_errors import handshake_error

log = get_logger(__name__)

BACKLOG: Final = 1024
ACCEPTED_PER_TURN_MAX: Final = 128
REST_S: Final = 0.05
OUT_OF_DESCRIPTORS_REST_S: Final = 1.0
KEEPALIVE_S: Final = 30
"""After so many seconds of silence the kernel asks whether a client is there."""

_GONE: Final = frozenset((errno.ECONNABORTED, errno.EPROTO, errno.EPERM))
_OUT_OF: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Accepter:
    """Takes clients, each with a protocol of its own, while `is_full` says no."""

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        is_full: Callable[[], bool],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout_s: float = 60.0,
    ) -> None:
        """To be made inside the running loop. `is_full` need not count those in `under_way`; the socket is ours now."""
        self.under_way: set[asyncio.Task[None]] = set()
        """Clients that are accepted and not yet with their protocol."""
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._make_protocol = make_protocol
        self._is_full = is_full
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {"ssl": tls, "ssl_handshake_timeout": handshake_timeout_s}
        self._rest: asyncio.TimerHandle | None = None
        self._is_closed = False
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self._loop.add_reader(listening.fileno(), self._accept)

    @property
    def address(self) -> Any:
        """What the socket is bound to, as `getsockname` gives it."""
        return self._socket.getsockname()

    def close(self) -> None:
        """Take no more clients; those that are connected stay, those that shake hands do not."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._rest is not None:
            self._rest.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._tls:
            # Without a handshake a client is through at once, and may have its protocol already: its socket is the
            # loop's then, and closed from here its end would never be heard of.
            for task in self.under_way:
                task.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_PER_TURN_MAX):
            if self._is_full():
                self._take_a_rest(REST_S)
                return
            try:
                client, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _OUT_OF:
                    raise
                log.warning("cannot accept more clients for now", extra={"error": error})
                self._take_a_rest(OUT_OF_DESCRIPTORS_REST_S)
                return
            task = self._loop.create_task(self._welcome(client, address), name="client")
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)

    async def _welcome(self, client: socket.socket, address: Any) -> None:
        try:
            client.setblocking(False)
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
            await self._loop.connect_accepted_socket(self._make_protocol, client, **self._tls)
        except OSError as error:
            # Gone, or it cannot shake hands: an ssl.SSLError is one of these, and so is a TimeoutError.
            client.close()
            if self._tls:
                # However many there are in a second, the log takes a hundred of them and then one in a hundred.
                facts = {"remote-addr": _text(address), "server-name": "", "error": handshake_error(error)}
                log.warning("rejected connection", extra=facts)
        except asyncio.CancelledError:
            client.close()
            raise

    def _take_a_rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._rest = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        self._loop.add_reader(self._socket.fileno(), self._accept)
        self._accept()


def _text(address: Any) -> str:
    """A peer's address as Go writes it."""
    if not isinstance(address, tuple):
        return "@"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
