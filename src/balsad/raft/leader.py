"""What a leader does with each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.codec import decode_conf_change, decode_conf_change_v2
from balsad.raft.errors import ProposalDroppedError, RaftPanic
from balsad.raft.events import DEBUG, INFO, WARNING
from balsad.raft.kinds import (
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP_STATUS,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    NO_LIMIT,
)
from balsad.raft.messages import ConfChangeV2, Entry, Message
from balsad.raft.read_only import ReadState
from balsad.raft.replication import broadcast_append, broadcast_heartbeat, maybe_send_append
from balsad.raft.sizes import payloads_size
from balsad.raft.tracker import PROBE, REPLICATE, SNAPSHOT, Progress

if TYPE_CHECKING:
    from balsad.raft.core import Raft


def step_leader(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind == MSG_PROP:
        propose(raft, message.entries)
        return
    if kind == MSG_BEAT:
        broadcast_heartbeat(raft)
        return
    if kind == MSG_CHECK_QUORUM:
        _check_quorum(raft)
        return
    if kind == MSG_READ_INDEX:
        read_index(raft, message)
        return
    if kind == MSG_FORGET_LEADER:
        return
    # The rest is about a node that we track.
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        return
    if kind == MSG_APP_RESP:
        progress.recent_active = True
        if message.reject:
            _append_rejected(raft, message, progress)
        else:
            append_acked(raft, message.from_, message.index, progress)
    elif kind == MSG_HEARTBEAT_RESP:
        _heartbeat_answered(raft, message, progress)
    elif kind == MSG_SNAP_STATUS:
        _snapshot_reported(raft, message, progress)
    elif kind == MSG_UNREACHABLE:
        # What was sent ahead is probably lost.
        if progress.state == REPLICATE:
            progress.become_probe()
        raft.note(DEBUG, "failed to send message because it is unreachable", {"to": message.from_})
    elif kind == MSG_TRANSFER_LEADER:
        _transfer(raft, message.from_, progress)


def propose(raft: Raft, entries: list[Entry]) -> None:
    """Append proposed entries, given term and index in place. Raises: ProposalDroppedError."""
    if not entries:
        raise RaftPanic(f"{raft.id:x} stepped empty MsgProp")
    if raft.id not in raft.tracker.progress:
        # Removed from the configuration while leading.
        raise ProposalDroppedError("removed from the configuration")
    if raft.lead_transferee != 0:
        raise ProposalDroppedError("transfer of leadership in progress")
    term = raft.term
    index = raft.log.last_index()
    has_changes = False
    for entry in entries:
        index += 1
        entry.term = term
        entry.index = index
        if entry.type:
            has_changes = True
    if has_changes:
        entries = _check_conf_changes(raft, entries)
    if raft.max_uncommitted_size < NO_LIMIT and not raft.reserve_uncommitted(payloads_size(entries)):
        raft.note(WARNING, "appending new entries would exceed uncommitted entry size limit; dropping proposal", {})
        raise ProposalDroppedError("uncommitted entry size limit")
    raft.append(entries)
    if len(raft.tracker.ids) > 1:
        broadcast_append(raft)


def _check_conf_changes(raft: Raft, entries: list[Entry]) -> list[Entry]:
    """Replace configuration changes that cannot be now by empty entries, which keep the proposer's context."""
    checked: list[Entry] = []
    for entry in entries:
        if entry.type == ENTRY_NORMAL:
            checked.append(entry)
            continue
        change: ConfChangeV2
        try:
            if entry.type == ENTRY_CONF_CHANGE:
                change = decode_conf_change(entry.data).as_v2()
            else:
                change = decode_conf_change_v2(entry.data)
        except ValueError as error:
            # It came from a follower. In the log it would stop every member that applies it.
            raise ProposalDroppedError("malformed configuration change") from error
        config = raft.tracker.config
        leaves = not change.changes
        refusal = ""
        if raft.pending_conf_index > raft.log.applied:
            refusal = (
                f"possible unapplied conf change at index {raft.pending_conf_index} (applied to {raft.log.applied})"
            )
        elif config.is_joint() and not leaves:
            refusal = "must transition out of joint config first"
        elif leaves and not config.is_joint():
            refusal = "not in joint state; refusing empty conf change"
        if refusal and not raft.disable_conf_change_validation:
            raft.note(INFO, "ignoring conf change", {"config": repr(config), "reason": refusal})
            checked.append(Entry(ENTRY_NORMAL, entry.term, entry.index, b"", entry.context))
        else:
            raft.pending_conf_index = entry.index
            checked.append(entry)
    return checked


def _check_quorum(raft: Raft) -> None:
    if not raft.tracker.quorum_active():
        raft.note(WARNING, "stepped down to follower since quorum is not active", {})
        raft.become_follower(raft.term, 0)
    # Whoever is heard of before the next check is active again.
    for node_id in raft.tracker.ids:
        if node_id != raft.id:
            raft.tracker.progress[node_id].recent_active = False


# Reads


def read_index(raft: Raft, message: Message) -> None:
    if raft.tracker.is_singleton():
        answer_read(raft, message, raft.log.committed)
    elif not raft.committed_in_term():
        # Before that we may not know all that is committed.
        raft.pending_reads.append(message)
    else:
        _begin_read(raft, message)


def _begin_read(raft: Raft, message: Message) -> None:
    if raft.read_only.lease_based:
        answer_read(raft, message, raft.log.committed)
        return
    raft.read_only.add(raft.log.committed, message)
    raft.read_only.ack(raft.id, raft.read_only.heartbeat_context())
    broadcast_heartbeat(raft)


def answer_read(raft: Raft, request: Message, index: int) -> None:
    """Give a read its index, here or at the follower that forwarded it."""
    if request.from_ == 0 or request.from_ == raft.id:
        raft.read_states.append(ReadState(index, request.entries[0].data))
    else:
        raft.send(Message(MSG_READ_INDEX_RESP, request.from_, index=index, entries=request.entries))


def _release_pending_reads(raft: Raft) -> None:
    if raft.committed_in_term():
        waiting = raft.pending_reads
        raft.pending_reads = []
        for message in waiting:
            _begin_read(raft, message)


# Answers to appends, heartbeats and snapshots


def append_acked(raft: Raft, node_id: int, index: int, progress: Progress) -> None:
    """A node (or our own disk) has all up to `index`."""
    # An answer that brings nothing new still ends a probe that was only sent to see whether the node is there.
    if not (progress.maybe_update(index) or (progress.match == index and progress.state == PROBE)):
        return
    is_other = node_id != raft.id
    if progress.state == PROBE:
        progress.become_replicate()
    elif progress.state == SNAPSHOT:
        # Whichever snapshot it got, and from wherever: it can be served from the log again.
        if progress.match + 1 >= raft.log.first_index():
            raft.note(DEBUG, "recovered from needing snapshot", {"to": node_id})
            progress.become_probe()
            progress.become_replicate()
    elif is_other:
        progress.inflights.free_to(index)
    if raft.maybe_commit():
        if raft.pending_reads:
            _release_pending_reads(raft)
        if len(raft.tracker.ids) > 1 or raft.id not in raft.tracker.progress:
            broadcast_append(raft)
    elif is_other and progress.can_bump_commit(raft.log.committed):
        # The next heartbeat would tell it too, but later.
        maybe_send_append(raft, node_id, True)
    if is_other:
        # The window may have opened for several messages at once.
        while maybe_send_append(raft, node_id, False):
            pass
    if node_id == raft.lead_transferee and progress.match == raft.log.last_index():
        raft.note(INFO, "sent MsgTimeoutNow after received MsgAppResp", {"to": node_id})
        raft.timeout_now(node_id)


def _append_rejected(raft: Raft, message: Message, progress: Progress) -> None:
    """The node's log has no such entry as our append follows: go back and try again.

    reject_hint and log_term are an index where the logs may agree and the node's term there. Terms
    only rise within a log, so wherever our term is above that, up to the hint, they cannot agree:

        index      1 2 3 4 5 6 7 8 9
        ours       1 3 3 3 5 5 5 5 5
        theirs     1 1 1 1 2 2           hint 6, term 2: of 6 to 2 none can agree, try 1

    So each term in our log costs at most one probe. The follower does the same on its side with
    the term we sent, which helps when its tail is the one with the higher terms.
    """
    hint = message.reject_hint
    if message.log_term > 0:
        hint = raft.log.find_conflict_by_term(hint, message.log_term)[0]
    if progress.maybe_decrease(message.index, hint):
        if progress.state == REPLICATE:
            progress.become_probe()
        maybe_send_append(raft, message.from_, True)


def _heartbeat_answered(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.paused = False
    # A node behind gets the next append, an empty one if its window is full. One that is being probed
    # gets one too even if it has everything: its answer brings it back to REPLICATE.
    if progress.match < raft.log.last_index() or progress.state == PROBE:
        maybe_send_append(raft, message.from_, True)
    if raft.read_only.lease_based or not message.context:
        return
    raft.read_only.ack(message.from_, message.context)
    for read in raft.read_only.advance(raft.tracker.config):
        answer_read(raft, read.request, read.index)


def _snapshot_reported(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state != SNAPSHOT:
        return
    if message.reject:
        # Probe from where its log is known to agree, as the snapshot never arrived.
        progress.pending_snapshot = 0
    progress.become_probe()
    raft.note(DEBUG, "snapshot reported", {"to": message.from_, "ok": not message.reject})
    # If it arrived, its answer tells when to go on; if not, wait for a heartbeat before the next try.
    progress.paused = True


def _transfer(raft: Raft, transferee: int, progress: Progress) -> None:
    """Hand leadership over. Raft thesis 3.10."""
    if progress.is_learner:
        return
    if raft.lead_transferee != 0:
        if raft.lead_transferee == transferee:
            return
        raft.note(INFO, "abort previous transferring leadership", {"to": raft.lead_transferee})
        raft.lead_transferee = 0
    if transferee == raft.id:
        return
    raft.note(INFO, "starts to transfer leadership", {"to": transferee})
    # It has one election timeout from now.
    raft.election_elapsed = 0
    raft.lead_transferee = transferee
    if progress.match == raft.log.last_index():
        raft.timeout_now(transferee)
    else:
        maybe_send_append(raft, transferee, True)
