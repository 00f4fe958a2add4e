"""The address this machine is reached by, for members that listen on 0.0.0.0.

Source: etcd pkg/netutil/routes_linux.go.
"""

from __future__ import annotations

import socket
from typing import Final

_ROUTES: Final = "/proc/net/route"
# Connecting a datagram socket sends nothing: the kernel only chooses a route and its source address.
_FAR_AWAY: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def default_host() -> str:
    """Source address of the default route. Raises: OSError."""
    for family, address in _FAR_AWAY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                host = str(probe.getsockname()[0])
        except OSError:
            continue
        if family == socket.AF_INET and not _has_default_route():
            continue
        return host
    raise OSError("could not find default route")


def _has_default_route() -> bool:
    try:
        with open(_ROUTES, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return True
    return any(len(row) > 7 and row[1] == "00000000" and row[7] == "00000000" for row in rows)
