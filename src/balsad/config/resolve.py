"""Host names to addresses, with the patience of a member whose DNS may start later than it does.

Source: etcd pkg/netutil/netutil.go (resolveURL).
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final

log = logging.getLogger(__name__)

_TRIES: Final = 30
_PAUSE_S: Final = 1.0


def resolve_patiently(address: str) -> str:
    """`ip:port` for `host:port`; asks again and again for half a minute. Raises: OSError."""
    host, _, port = address.rpartition(":")
    for attempt in range(_TRIES):
        try:
            found = socket.getaddrinfo(host.strip("[]"), port or None, type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning(
                "failed to resolve URL Host",
                extra={"host": address, "retry-interval": _PAUSE_S, "error": f"lookup {host}: {error.strerror}"},
            )
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_S)
            continue
        ip, number = socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"
    raise AssertionError("not reached")
