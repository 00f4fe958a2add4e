"""What a follower does with each message, and how it takes in what a leader sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.election import hup
from balsad.raft.errors import ProposalDroppedError
from balsad.raft.events import ERROR, INFO
from balsad.raft.kinds import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
)
from balsad.raft.messages import Message, Snapshot
from balsad.raft.read_only import ReadState

if TYPE_CHECKING:
    from balsad.raft.core import Raft


def step_follower(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind == MSG_APP:
        _heard_of(raft, message.from_)
        handle_append(raft, message)
    elif kind == MSG_HEARTBEAT:
        _heard_of(raft, message.from_)
        handle_heartbeat(raft, message)
    elif kind == MSG_SNAP:
        _heard_of(raft, message.from_)
        handle_snapshot(raft, message)
    elif kind == MSG_PROP:
        if raft.lead == 0:
            raise ProposalDroppedError("no leader")
        if raft.disable_proposal_forwarding:
            raise ProposalDroppedError("not forwarding to leader")
        _forward(raft, message)
    elif kind in (MSG_READ_INDEX, MSG_TRANSFER_LEADER):
        if raft.lead == 0:
            raft.note(INFO, "no leader; dropping message to it", {"kind": kind})
            return
        if kind == MSG_TRANSFER_LEADER and message.term != 0:
            # Another follower took this one for the leader: two that do so would send it to and fro.
            # etcd's raft panics here.
            raft.note(INFO, "not the leader; dropping message to it", {"kind": kind})
            return
        _forward(raft, message)
    elif kind == MSG_READ_INDEX_RESP:
        if len(message.entries) != 1:
            raft.note(ERROR, "invalid format of MsgReadIndexResp", {"from": message.from_})
            return
        raft.read_states.append(ReadState(message.index, message.entries[0].data))
    elif kind == MSG_TIMEOUT_NOW:
        raft.note(INFO, "received MsgTimeoutNow and starts an election to get leadership", {"from": message.from_})
        # Without a pre-vote: the leader itself asks, so there is nobody to disturb.
        hup(raft, False, True)
    elif kind == MSG_FORGET_LEADER:
        if raft.read_only.lease_based:
            # The leader may be answering reads in the belief that we would not vote for another.
            raft.note(ERROR, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased", {})
        elif raft.lead != 0:
            raft.note(INFO, "forgetting leader", {"lead": raft.lead})
            raft.lead = 0


def _heard_of(raft: Raft, lead: int) -> None:
    raft.election_elapsed = 0
    raft.lead = lead


def _forward(raft: Raft, message: Message) -> None:
    message.to = raft.lead
    # It may have been forwarded to us by someone who took us for the leader.
    message.term = 0
    raft.send(message)


def handle_append(raft: Raft, message: Message) -> None:
    log = raft.log
    if message.index < log.committed:
        raft.send(Message(MSG_APP_RESP, message.from_, index=log.committed))
        return
    last = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last >= 0:
        raft.send(Message(MSG_APP_RESP, message.from_, index=last))
        return
    # Our log has no such entry. Hint at the last place where the logs may agree: where our term is not
    # above the leader's. `leader._append_rejected` tells how it is used.
    hint, hint_term = log.find_conflict_by_term(min(message.index, log.last_index()), message.log_term)
    raft.send(
        Message(MSG_APP_RESP, message.from_, index=message.index, reject=True, reject_hint=hint, log_term=hint_term)
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    raft.log.commit_to(message.commit)
    raft.send(Message(MSG_HEARTBEAT_RESP, message.from_, context=message.context))


def handle_snapshot(raft: Raft, message: Message) -> None:
    snapshot = message.snapshot if message.snapshot is not None else Snapshot()
    if raft.restore(snapshot):
        index = raft.log.last_index()
    else:
        raft.note(INFO, "ignored snapshot", {"index": snapshot.index, "commit": raft.log.committed})
        index = raft.log.committed
    raft.send(Message(MSG_APP_RESP, message.from_, index=index))
