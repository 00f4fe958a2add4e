"""Majorities, and joint pairs of them: which index is committed, who has won a vote.

A majority is the tuple of its voters' ids, ascending. The empty one agrees to
everything, so a joint pair with an empty half behaves like the other half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from balsad.raft.kinds import NO_LIMIT

Voters = tuple[int, ...]

VOTE_PENDING: Final = 1
VOTE_LOST: Final = 2
VOTE_WON: Final = 3

VOTE_NAMES: Final[tuple[str, ...]] = ("", "VotePending", "VoteLost", "VoteWon")

# What the empty majority has committed: anything.
INFINITE: Final = NO_LIMIT


def majority_committed(voters: Voters, acked: Callable[[int], int]) -> int:
    """The largest index that most voters have acked; `acked` gives 0 for a voter not heard of."""
    count = len(voters)
    if count == 0:
        return INFINITE
    if count == 1:
        return acked(voters[0])
    indexes = [acked(voter) for voter in voters]
    indexes.sort()
    return indexes[count - (count // 2 + 1)]


def joint_committed(incoming: Voters, outgoing: Voters, acked: Callable[[int], int]) -> int:
    """The largest index committed in both majorities."""
    one = majority_committed(incoming, acked)
    if not outgoing:
        return one
    return min(one, majority_committed(outgoing, acked))


def majority_vote(voters: Voters, votes: dict[int, bool]) -> int:
    """VOTE_WON, VOTE_LOST or VOTE_PENDING by the votes cast so far."""
    count = len(voters)
    if count == 0:
        return VOTE_WON
    granted = 0
    missing = 0
    for voter in voters:
        if voter not in votes:
            missing += 1
        elif votes[voter]:
            granted += 1
    needed = count // 2 + 1
    if granted >= needed:
        return VOTE_WON
    if granted + missing >= needed:
        return VOTE_PENDING
    return VOTE_LOST


def joint_vote(incoming: Voters, outgoing: Voters, votes: dict[int, bool]) -> int:
    """Won only if both majorities grant, lost as soon as one refuses."""
    one = majority_vote(incoming, votes)
    other = majority_vote(outgoing, votes)
    if one == other:
        return one
    if one == VOTE_LOST or other == VOTE_LOST:
        return VOTE_LOST
    return VOTE_PENDING


def union(incoming: Voters, outgoing: Voters) -> Voters:
    """Everyone who votes in either half, ascending."""
    if not outgoing:
        return incoming
    return tuple(sorted({*incoming, *outgoing}))


def describe_voters(voters: Voters) -> str:
    return "(" + " ".join([f"{voter:x}" for voter in voters]) + ")"


def describe_joint(incoming: Voters, outgoing: Voters) -> str:
    if outgoing:
        return describe_voters(incoming) + "&&" + describe_voters(outgoing)
    return describe_voters(incoming)
