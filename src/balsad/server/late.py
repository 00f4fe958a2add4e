"""What is told of an answer that does not come."""

from __future__ import annotations

from balsad.errors import (
    RequestError,
    RequestTimedOutError,
    TimeoutDueToConnectionLostError,
    TimeoutDueToLeaderFailError,
)


def why_late(born: float, led_since: float, election_timeout_s: float, connected_since: float | None) -> RequestError:
    """Why a request of `born` got no answer; `connected_since` (0: not) is of the leader, if that is another member.

    Source: etcd parseProposeCtxErr.
    """
    if led_since - 2 * election_timeout_s < born < led_since:
        return TimeoutDueToLeaderFailError()
    if connected_since is not None and (not connected_since or connected_since > born):
        return TimeoutDueToConnectionLostError()
    return RequestTimedOutError()
