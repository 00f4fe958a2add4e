"""Telling systemd that the member serves: `Type=notify` units.

Source: sd_notify(3); go-systemd daemon.SdNotify; etcd server/etcdmain/main.go notifySystemd.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from balsad.observe import get_logger

READY: Final = "READY=1"
_VARIABLE: Final = "NOTIFY_SOCKET"

_log = get_logger(__name__)


def notify(state: str = READY, environ: Mapping[str, str] | None = None) -> bool:
    """Send `state` to the init daemon; whether there is one to hear it. Trouble is logged, never raised."""
    path = (os.environ if environ is None else environ).get(_VARIABLE, "")
    _log.info("notifying init daemon")
    heard = False
    if path:
        # A leading @ stands for a name that is no file.
        address = f"\0{path[1:]}" if path.startswith("@") else path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(address)
                sender.send(state.encode())
        except OSError as problem:
            _log.error("failed to notify systemd for readiness", extra={"error": problem})
            return False
        heard = True
    _log.info("successfully notified init daemon")
    return heard
