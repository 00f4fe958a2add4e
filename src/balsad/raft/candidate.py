"""What a candidate or pre-candidate does with each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.election import campaign, poll
from balsad.raft.errors import ProposalDroppedError
from balsad.raft.follower import handle_append, handle_heartbeat, handle_snapshot
from balsad.raft.kinds import (
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_SNAP,
    MSG_VOTE_RESP,
    PRE_CANDIDATE,
)
from balsad.raft.messages import Message
from balsad.raft.quorum import VOTE_LOST, VOTE_WON
from balsad.raft.replication import broadcast_append

if TYPE_CHECKING:
    from balsad.raft.core import Raft


def step_candidate(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind == MSG_PROP:
        raise ProposalDroppedError("no leader")
    # A leader of our own term: someone else has won.
    if kind == MSG_APP:
        raft.become_follower(message.term, message.from_)
        handle_append(raft, message)
    elif kind == MSG_HEARTBEAT:
        raft.become_follower(message.term, message.from_)
        handle_heartbeat(raft, message)
    elif kind == MSG_SNAP:
        raft.become_follower(message.term, message.from_)
        handle_snapshot(raft, message)
    # A candidate may still get answers to its pre-vote: not those.
    elif kind == (MSG_PRE_VOTE_RESP if raft.role == PRE_CANDIDATE else MSG_VOTE_RESP):
        result = poll(raft, message.from_, kind, not message.reject)
        if result == VOTE_WON:
            if raft.role == PRE_CANDIDATE:
                campaign(raft, False, False)
            else:
                raft.become_leader()
                broadcast_append(raft)
        elif result == VOTE_LOST:
            # Our own term: that of a pre-vote answer is one to come.
            raft.become_follower(raft.term, 0)
