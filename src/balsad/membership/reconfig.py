"""What the strict reconfiguration check lets through before a conf change is proposed.

A member that was added but never came up counts against quorum at once; these
rules keep an operator from losing the cluster by that. They look at the
members as this server knows them and at how long it has been connected to
them; apply judges again without any of this (`Cluster.validate`).

Source: etcd server.go (mayAddMember, mayRemoveMember, mayPromoteMember,
isLearnerReady), membership/cluster.go (IsReadyTo...), util.go of 3.5.33.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from balsad.errors import LearnerNotReadyError, MemberNotEnoughStartedError, UnhealthyError
from balsad.membership.member import Member

HEALTH_INTERVAL_S: Final = 5.0
READY_SHARE: Final = 0.9


class Connections:
    """To whom this server is connected, and since when (monotonic seconds)."""

    __slots__ = ("_active_since", "_local_id", "_now")

    def __init__(self, local_id: int, active_since: Mapping[int, float], now: float) -> None:
        self._local_id = local_id
        self._active_since = active_since
        self._now = now

    def is_down(self, member_id: int) -> bool:
        return member_id != self._local_id and member_id not in self._active_since

    def stable_count(self, members: Iterable[Member]) -> int:
        """How many of `members` have been connected for longer than the health interval; this one always is."""
        limit = self._now - HEALTH_INTERVAL_S
        count = 0
        for member in members:
            if member.id == self._local_id or self._active_since.get(member.id, self._now) < limit:
                count += 1
        return count


def _quorum(count: int) -> int:
    return count // 2 + 1


def check_add(voters: list[Member], *, is_learner: bool, connections: Connections) -> None:
    """Judge the adding of a member to a cluster with these voters.

    Raises: MemberNotEnoughStartedError, UnhealthyError.
    """
    if not is_learner:
        started = sum(voter.is_started for voter in voters)
        # A cluster of one may always grow: so a restored cluster gets its members back.
        if not (started == 1 and len(voters) == 1) and started < _quorum(len(voters) + 1):
            raise MemberNotEnoughStartedError
    # The new member counts as down. Up to 3.5.29 all voters had to be connected,
    # which forbade replacing a broken one.
    if len(voters) != 1 and connections.stable_count(voters) < _quorum(len(voters) + 1):
        raise UnhealthyError


def check_remove(voters: list[Member], target: Member | None, target_id: int, *, connections: Connections) -> None:
    """Judge the removal of a member; `target` is None when nobody knows it, which apply will say.

    Raises: MemberNotEnoughStartedError, UnhealthyError.
    """
    if target is not None and target.is_learner:
        return
    remaining = [voter for voter in voters if voter.id != target_id]
    if sum(voter.is_started for voter in remaining) < _quorum(len(remaining)):
        raise MemberNotEnoughStartedError
    if connections.is_down(target_id):
        # It is no part of the active quorum, so none is lost with it.
        return
    # What stays connected must be a quorum of the voters that remain.
    if connections.stable_count(voters) - 1 < 1 + (len(voters) - 1) // 2:
        raise UnhealthyError


def check_promote(voters: list[Member]) -> None:
    """Judge the promotion of a learner, which counts as a started voter here.

    Raises: MemberNotEnoughStartedError.
    """
    started = sum(voter.is_started for voter in voters) + 1
    if started < _quorum(len(voters) + 1):
        raise MemberNotEnoughStartedError


def check_learner_ready(learner_match: int | None, leader_match: int) -> None:
    """Refuse to promote a learner whose log is not nearly the leader's, strict check or not.

    `learner_match` is None for a member that raft does not know: apply will say so.
    Raises: LearnerNotReadyError.
    """
    if learner_match is not None and float(learner_match) < float(leader_match) * READY_SHARE:
        raise LearnerNotReadyError
