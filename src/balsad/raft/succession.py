"""Who follows a leader that is known to be gone, before the election timeout says so.

    follows a leader --its process is gone--> leaderless --its turn--> pre-candidate

Whoever knows that the leader's process has ended need not wait for its silence: it forgets the leader, which is what
lets it grant votes again, and asks for them in turn, so that several who learn it at once do not split the votes. The
turns go by id. All of it goes by pre-vote: who does not know yet that the leader is gone refuses, nobody's term is
raised, and the election timeout, which runs on, decides as ever.

No more is weakened than the leader lease: a leader that lives on, cut off, learns only from its quorum that there is
another. So reads must not be answered by the lease (`forget_leader` refuses then).

Source: the idea is of raft's ForgetLeader; the turns are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.kinds import FOLLOWER, MSG_FORGET_LEADER, MSG_HUP
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from balsad.raft.core import Raft

NO_TURN = -1


def forget_gone_leader(raft: Raft, gone: int) -> int:
    """The process of the node `gone` has ended: forget it as our leader.

    Gives our place among those who may follow it, the first being 0; NO_TURN if there is nothing to do.
    """
    if raft.role != FOLLOWER or raft.lead != gone or not raft.pre_vote:
        return NO_TURN
    if raft.election_elapsed == 0:
        # It was heard a moment ago: whatever ended was not this leader.
        return NO_TURN
    raft.step(Message(MSG_FORGET_LEADER))
    if raft.lead != 0 or not raft.promotable():
        return NO_TURN
    return sum(voter < raft.id for voter in raft.tracker.config.voters() if voter != gone)


def succeed(raft: Raft, term: int) -> None:
    """It is our turn: ask for votes, if all is still as it was when the leader of `term` was forgotten."""
    if raft.role == FOLLOWER and raft.lead == 0 and raft.term == term and raft.pre_vote:
        raft.step(Message(MSG_HUP, from_=raft.id))
