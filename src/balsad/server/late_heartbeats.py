"""What a leader says that could not send its heartbeats on time.

Source: etcd server/etcdserver/raft.go (processMessages), pkg/contention.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from balsad.durations import format_seconds
from balsad.membership import format_id

if TYPE_CHECKING:
    from balsad.raft import Status

log = logging.getLogger(__name__)


def warn_of_late_heartbeats(status: Status, tick_s: float, exceeded_s: float) -> int:
    """Gives how many others heard of it late."""
    others = [member_id for member_id in status.progress if member_id != status.id]
    for member_id in others:
        log.warning(
            "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
            extra={
                "to": format_id(member_id),
                "heartbeat-interval": format_seconds(tick_s),
                "expected-duration": format_seconds(2 * tick_s),
                "exceeded-duration": format_seconds(exceeded_s),
            },
        )
    return len(others)
