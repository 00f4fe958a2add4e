"""Elections: who may stand, asking for votes, counting them, and voting for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.errors import CompactedError, RaftPanic
from balsad.raft.events import INFO, WARNING, Fact
from balsad.raft.kinds import (
    CAMPAIGN_TRANSFER,
    ENTRY_NORMAL,
    LEADER,
    MESSAGE_NAMES,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from balsad.raft.core import Raft


def hup(raft: Raft, pre_vote: bool, transfer: bool) -> None:
    """Start an election if we may; with `transfer` because the leader told us to."""
    if raft.role == LEADER:
        return
    if not raft.promotable():
        raft.note(WARNING, "cannot campaign: not promotable", {})
    elif _has_unapplied_conf_changes(raft):
        raft.note(WARNING, "cannot campaign: configuration changes are not applied yet", {})
    else:
        raft.note(INFO, "is starting a new election", {})
        campaign(raft, pre_vote, transfer)


def _has_unapplied_conf_changes(raft: Raft) -> bool:
    """Whether who votes may be about to change: then we do not know whom to ask."""
    log = raft.log
    low = log.applied + 1
    while low <= log.committed:
        # By pages, as the entries may have to be read.
        try:
            entries = log.slice(low, log.committed + 1, log.applying_size_max)
        except CompactedError as error:
            raise RaftPanic(f"error scanning unapplied entries [{low}, {log.committed + 1}): {error}") from None
        for entry in entries:
            if entry.type != ENTRY_NORMAL:
                return True
        low += len(entries)
    return False


def campaign(raft: Raft, pre_vote: bool, transfer: bool) -> None:
    """Become candidate (or pre-candidate) and ask all voters, ourselves too."""
    if pre_vote:
        raft.become_pre_candidate()
        kind = MSG_PRE_VOTE
        answer = MSG_PRE_VOTE_RESP
        # For the term that we would have.
        term = raft.term + 1
    else:
        raft.become_candidate()
        kind = MSG_VOTE
        answer = MSG_VOTE_RESP
        term = raft.term
    context = CAMPAIGN_TRANSFER if transfer else b""
    index = raft.log.last_index()
    log_term = raft.log.last_term()
    for node_id in raft.tracker.config.voters():
        if node_id == raft.id:
            # Our own vote counts once it is on disk.
            raft.send(Message(answer, node_id, term=term))
            continue
        raft.note(
            INFO,
            "sent vote request",
            {"kind": MESSAGE_NAMES[kind], "to": node_id, "log_term": log_term, "index": index},
        )
        raft.send(Message(kind, node_id, term=term, index=index, log_term=log_term, context=context))


def poll(raft: Raft, node_id: int, kind: int, granted: bool) -> int:
    """Count a vote, and give the result so far."""
    raft.tracker.record_vote(node_id, granted)
    yes, no, result = raft.tracker.tally()
    raft.note(
        INFO,
        "received vote",
        {"kind": MESSAGE_NAMES[kind], "from": node_id, "granted": granted, "votes": yes, "rejections": no},
    )
    return result


def answer_vote_request(raft: Raft, message: Message) -> None:
    """Grant a vote or pre-vote, or refuse it. Raft paper 5.2, 5.4.1; thesis 9.6."""
    kind = message.type
    answer = MSG_VOTE_RESP if kind == MSG_VOTE else MSG_PRE_VOTE_RESP
    can_vote = (
        # The same vote again,
        raft.vote == message.from_
        # or none yet, and no leader known,
        or (raft.vote == 0 and raft.lead == 0)
        # or only asked about a term to come.
        or (kind == MSG_PRE_VOTE and message.term > raft.term)
    )
    facts: dict[str, Fact] = {
        "kind": MESSAGE_NAMES[kind],
        "from": message.from_,
        "log_term": message.log_term,
        "index": message.index,
        "vote": raft.vote,
        "own_log_term": raft.log.last_term(),
        "own_index": raft.log.last_index(),
    }
    # Learners vote too: one may have been made a voter and not know it yet, while its vote decides.
    if can_vote and raft.log.is_up_to_date(message.index, message.log_term):
        raft.note(INFO, "cast vote", facts)
        # The term of the request: of a pre-vote it is not ours, and ours would make the asker ignore us.
        raft.send(Message(answer, message.from_, term=message.term))
        if kind == MSG_VOTE:
            raft.election_elapsed = 0
            raft.vote = message.from_
    else:
        raft.note(INFO, "rejected vote request", facts)
        raft.send(Message(answer, message.from_, term=raft.term, reject=True))
