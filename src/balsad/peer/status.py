"""Whether a member can be reached, as the last attempt had it.

Source: etcd rafthttp peer_status.go.
"""

from __future__ import annotations

from collections.abc import Callable

from balsad.membership import format_id
from balsad.observe.logs import get_logger

log = get_logger(__name__)


class PeerStatus:
    """Active or not, and since when."""

    __slots__ = ("_clock", "_name", "active_since", "disconnects", "is_active")

    def __init__(self, member_id: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._name = format_id(member_id)
        self.is_active = False
        self.active_since = 0.0
        """Monotonic seconds; 0 while it is not active."""
        self.disconnects = 0

    def activate(self) -> None:
        if not self.is_active:
            log.info("peer became active", extra={"peer-id": self._name})
            self.is_active = True
            self.active_since = self._clock()

    def deactivate(self, source: str, action: str, reason: str) -> None:
        """`action` failed on `source`: dial on stream Message."""
        problem = f"failed to {action} {self._name} on {source} ({reason})"
        if self.is_active:
            log.warning(
                "peer became inactive (message send to peer failed)", extra={"peer-id": self._name, "error": problem}
            )
            self.is_active = False
            self.active_since = 0.0
            self.disconnects += 1
            return
        log.debug("peer deactivated again", extra={"peer-id": self._name, "error": problem})

    def forget(self) -> None:
        """The member is no peer any more."""
        self.is_active = False
        self.active_since = 0.0
