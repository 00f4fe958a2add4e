"""How a leader sends its log: appends, snapshots for those too far behind, heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.raft.errors import CompactedError, RaftPanic, SnapshotTemporarilyUnavailableError
from balsad.raft.events import DEBUG
from balsad.raft.kinds import MSG_APP, MSG_HEARTBEAT, MSG_SNAP
from balsad.raft.messages import Entry, Message
from balsad.raft.sizes import payloads_size
from balsad.raft.tracker import REPLICATE, Progress

if TYPE_CHECKING:
    from balsad.raft.core import Raft


def maybe_send_append(raft: Raft, to: int, send_if_empty: bool) -> bool:
    """Send the next entries, if the node may get any now; with `send_if_empty` also none, for the commit index."""
    progress = raft.tracker.progress[to]
    if progress.is_paused():
        return False
    log = raft.log
    previous = progress.next - 1
    previous_term = log.term(previous)
    if previous_term < 0:
        # Compacted away: the log alone cannot bring this node up to date.
        return _maybe_send_snapshot(raft, to, progress)
    entries: list[Entry] = []
    # With a full window only empty appends go out. If all in the window were lost, one of them will
    # be answered or refused in the end, and both empty the window.
    if progress.state != REPLICATE or not progress.inflights.is_full():
        try:
            entries = log.entries(progress.next, raft.max_message_size)
        except CompactedError:
            if not send_if_empty:
                return False
            return _maybe_send_snapshot(raft, to, progress)
    if not entries and not send_if_empty:
        return False
    raft.send(Message(MSG_APP, to, index=previous, log_term=previous_term, entries=entries, commit=log.committed))
    progress.sent_entries(len(entries), payloads_size(entries))
    progress.sent_commit = log.committed
    return True


def _maybe_send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    # Not to a node that may be dead: making and sending one is dear.
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailableError:
        return False
    if snapshot.is_empty():
        raise RaftPanic("need non-empty snapshot")
    raft.note(DEBUG, "sent snapshot", {"to": to, "index": snapshot.index, "snapshot_term": snapshot.term})
    progress.become_snapshot(snapshot.index)
    raft.send(Message(MSG_SNAP, to, snapshot=snapshot))
    return True


def broadcast_append(raft: Raft) -> None:
    for node_id in raft.tracker.ids:
        if node_id != raft.id:
            maybe_send_append(raft, node_id, True)


def broadcast_heartbeat(raft: Raft) -> None:
    """Say that we lead; answers confirm the reads that wait now."""
    context = raft.read_only.heartbeat_context()
    committed = raft.log.committed
    for node_id in raft.tracker.ids:
        if node_id == raft.id:
            continue
        progress = raft.tracker.progress[node_id]
        # Never beyond what is known to match: the node's log may differ there.
        commit = progress.match if progress.match < committed else committed
        raft.send(Message(MSG_HEARTBEAT, node_id, commit=commit, context=context))
        progress.sent_commit = commit
