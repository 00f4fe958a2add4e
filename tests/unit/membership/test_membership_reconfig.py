"""The strict reconfiguration check."""

from __future__ import annotations

import pytest

from balsad.errors import LearnerNotReadyError, MemberNotEnoughStartedError, RequestError, UnhealthyError
from balsad.membership import Connections, Member, check_add, check_learner_ready, check_promote, check_remove

NOW = 100.0


def voters(*started: bool) -> list[Member]:
    return [Member(id=i, name="n" if up else "") for i, up in enumerate(started, start=1)]


def connected(*ids: int, since: float = 0.0) -> Connections:
    """Member 1 is connected to `ids`."""
    return Connections(1, dict.fromkeys(ids, since), NOW)


@pytest.mark.parametrize(
    ("members", "connections", "refusal"),
    [
        (voters(True), connected(), None),
        (voters(False), connected(), MemberNotEnoughStartedError),
        (voters(True, True), connected(2), None),
        (voters(True, True), connected(), UnhealthyError),
        (voters(True, True), connected(2, since=NOW - 4), UnhealthyError),
        (voters(True, False), connected(), MemberNotEnoughStartedError),
        (voters(True, True, True), connected(2, 3), None),
        (voters(True, True, True), connected(2), UnhealthyError),
        (voters(True, True, False), connected(2), MemberNotEnoughStartedError),
        (voters(True, True, True, True), connected(2, 3), None),
        (voters(True, True, True, False), connected(2, 3), None),
        (voters(True, True, True, True, True), connected(2, 3), UnhealthyError),
    ],
)
def test_adding_a_voter(members: list[Member], connections: Connections, refusal: type[RequestError] | None) -> None:
    """etcd TestIsReadyToAddVotingMember and 3.5.33's test of the connected quorum."""
    if refusal is None:
        check_add(members, is_learner=False, connections=connections)
    else:
        with pytest.raises(refusal):
            check_add(members, is_learner=False, connections=connections)


def test_adding_a_learner_does_not_ask_who_started() -> None:
    check_add(voters(True, False), is_learner=True, connections=connected(2))
    with pytest.raises(UnhealthyError):
        check_add(voters(True, False), is_learner=True, connections=connected())


@pytest.mark.parametrize(
    ("members", "target", "connections", "refusal"),
    [
        (voters(True, True, True), 3, connected(2, 3), None),
        (voters(True, True, True), 3, connected(2), None),  # 3 is down
        (voters(True, True, True), 2, connected(2), UnhealthyError),  # 3 is down, 2 is needed
        (voters(True, False), 2, connected(), None),
        (voters(True, False), 1, connected(), MemberNotEnoughStartedError),
        (voters(True), 1, connected(), MemberNotEnoughStartedError),
        (voters(True, True), 2, connected(2), None),
        (voters(True, True), 2, connected(2, since=NOW - 1), UnhealthyError),
        (voters(True, True), 2, connected(), None),
    ],
)
def test_removing_a_voter(
    members: list[Member], target: int, connections: Connections, refusal: type[RequestError] | None
) -> None:
    """etcd TestIsReadyToRemoveVotingMember, mayRemoveMember."""
    known = next(one for one in members if one.id == target)
    if refusal is None:
        check_remove(members, known, target, connections=connections)
    else:
        with pytest.raises(refusal):
            check_remove(members, known, target, connections=connections)


def test_removing_a_learner_is_always_fine() -> None:
    check_remove(voters(False), Member(id=5, is_learner=True), 5, connections=connected())


@pytest.mark.parametrize(
    ("members", "fine"),
    [
        (voters(True), True),
        (voters(False), False),
        (voters(True, False), True),
        (voters(True, False, False), False),
        (voters(True, True, False, False), True),
        (voters(True, False, False, False), False),
    ],
)
def test_promoting_counts_the_learner_as_started(members: list[Member], fine: bool) -> None:
    """etcd TestIsReadyToPromoteMember."""
    if fine:
        check_promote(members)
    else:
        with pytest.raises(MemberNotEnoughStartedError):
            check_promote(members)


def test_learner_is_ready_with_nine_tenths_of_the_log() -> None:
    check_learner_ready(90, 100)
    check_learner_ready(None, 100)
    with pytest.raises(LearnerNotReadyError):
        check_learner_ready(89, 100)
