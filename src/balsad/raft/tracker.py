"""What a leader knows of each node: how far its log agrees, and how much is on the way to it.

PROBE      one append at a time, until an answer tells where the logs agree
  |  ^
  v  | rejected, unreachable
REPLICATE  appends go out as they come, `next` runs ahead of `match`
  |  ^
  v  | the snapshot was applied (or failed: back to PROBE)
SNAPSHOT   the log it needs is compacted away; nothing more goes out until it has the snapshot
"""

from __future__ import annotations

from collections import deque
from typing import Final

from balsad.raft.errors import RaftPanic
from balsad.raft.messages import ConfState
from balsad.raft.quorum import VOTE_WON, Voters, describe_joint, describe_voters, joint_committed, joint_vote, union

PROBE: Final = 0
REPLICATE: Final = 1
SNAPSHOT: Final = 2

PROGRESS_NAMES: Final[tuple[str, ...]] = ("StateProbe", "StateReplicate", "StateSnapshot")


class Inflights:
    """Appends on the way to one node: (last index, payload bytes) each, in order of index.

    The limit of bytes is soft: the message that reaches it still goes. 0 is no limit.
    """

    __slots__ = ("_window", "bytes", "bytes_max", "count_max")

    def __init__(self, count_max: int, bytes_max: int = 0) -> None:
        self.count_max = count_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._window)

    def is_full(self) -> bool:
        return len(self._window) >= self.count_max or (self.bytes_max != 0 and self.bytes >= self.bytes_max)

    def add(self, index: int, size: int) -> None:
        if self.is_full():
            raise RaftPanic("cannot add into a Full inflights")
        self._window.append((index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` has arrived."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def reset(self) -> None:
        self._window.clear()
        self.bytes = 0

    def copy(self) -> Inflights:
        other = Inflights(self.count_max, self.bytes_max)
        other.bytes = self.bytes
        other._window.extend(self._window)
        return other


class Progress:
    """One node as the leader sees it.

    `match` is the index up to which its log surely agrees, `next` the next one to send it:
    match < next, and what lies between is on the way. Source: raft's tracker.Progress.
    """

    __slots__ = (
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, match: int, next: int, inflights: Inflights, is_learner: bool, recent_active: bool) -> None:
        self.match = match
        self.next = next
        self.inflights = inflights
        self.is_learner = is_learner
        # Heard of within the last election timeout; always so for the leader itself.
        self.recent_active = recent_active
        self.state = PROBE
        # The snapshot that was sent, in SNAPSHOT; then next == pending_snapshot + 1.
        self.pending_snapshot = 0
        # No appends until the next heartbeat answer: one probe is out, or the window is full.
        self.paused = False
        # The highest commit index sent. Falls back with `next`, as the message may be lost.
        self.sent_commit = 0

    def copy(self) -> Progress:
        """A copy that still shares the window."""
        other = Progress(self.match, self.next, self.inflights, self.is_learner, self.recent_active)
        other.state = self.state
        other.pending_snapshot = self.pending_snapshot
        other.paused = self.paused
        other.sent_commit = self.sent_commit
        return other

    def reset(self, match: int, next: int) -> None:
        """Forget everything but the limits and whether it learns: a new term begins."""
        self.match = match
        self.next = next
        self.inflights = Inflights(self.inflights.count_max, self.inflights.bytes_max)
        self.recent_active = False
        self.state = PROBE
        self.pending_snapshot = 0
        self.paused = False
        self.sent_commit = 0

    def _become(self, state: int) -> None:
        self.paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        next = self.match + 1
        if self.state == SNAPSHOT and self.pending_snapshot + 1 > next:
            # The snapshot was delivered, as far as we know: go on after it.
            next = self.pending_snapshot + 1
        self._become(PROBE)
        self.next = next
        self.sent_commit = min(self.sent_commit, next - 1)

    def become_replicate(self) -> None:
        self._become(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._become(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def is_paused(self) -> bool:
        return self.state == SNAPSHOT or self.paused

    def sent_entries(self, count: int, size: int) -> None:
        """An append of so many entries from `next` on went out."""
        if self.state == REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.paused = self.inflights.is_full()
        elif self.state == PROBE:
            if count:
                self.paused = True
        else:
            raise RaftPanic(f"sending append in unhandled state {PROGRESS_NAMES[self.state]}")

    def can_bump_commit(self, index: int) -> bool:
        """Whether this commit index would be news to it: what it was sent does not commit all that it has."""
        return index > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """It acked `index`; False if that is old news."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """It rejected the append after `rejected`, as the logs may agree at `hint`; False if that is old news."""
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            # A node being probed has one append at a time: this answers another one.
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def __repr__(self) -> str:
        text = f"{PROGRESS_NAMES[self.state]} match={self.match} next={self.next}"
        if self.is_learner:
            text += " learner"
        if self.is_paused():
            text += " paused"
        if self.pending_snapshot:
            text += f" pendingSnap={self.pending_snapshot}"
        if not self.recent_active:
            text += " inactive"
        if len(self.inflights):
            text += f" inflight={len(self.inflights)}"
            if self.inflights.is_full():
                text += "[full]"
        return text


def describe_progress(progress: dict[int, Progress]) -> str:
    """One line a node, ascending."""
    return "".join([f"{node_id}: {progress[node_id]!r}\n" for node_id in sorted(progress)])


class Configuration:
    """Who votes and who learns. Never changed, only replaced.

    `outgoing` is empty but in a joint configuration. A voter of `outgoing` that is to become a
    learner waits in `learners_next`, so that nobody is both at once.
    """

    __slots__ = ("auto_leave", "incoming", "learners", "learners_next", "outgoing")

    def __init__(
        self,
        incoming: Voters = (),
        outgoing: Voters = (),
        learners: Voters = (),
        learners_next: Voters = (),
        auto_leave: bool = False,
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.learners = learners
        self.learners_next = learners_next
        # A joint configuration that is to be left as soon as it is applied.
        self.auto_leave = auto_leave

    def is_joint(self) -> bool:
        return len(self.outgoing) > 0

    def voters(self) -> Voters:
        """The voters of either half, ascending."""
        return union(self.incoming, self.outgoing)

    def conf_state(self) -> ConfState:
        return ConfState(self.incoming, self.learners, self.outgoing, self.learners_next, self.auto_leave)

    def __repr__(self) -> str:
        text = f"voters={describe_joint(self.incoming, self.outgoing)}"
        if self.learners:
            text += f" learners={describe_voters(self.learners)}"
        if self.learners_next:
            text += f" learners_next={describe_voters(self.learners_next)}"
        if self.auto_leave:
            text += " autoleave"
        return text


class Tracker:
    """The configuration with the progress of everyone in it, and the votes of an election."""

    __slots__ = ("config", "ids", "inflight_bytes_max", "inflight_max", "progress", "votes")

    def __init__(self, inflight_max: int, inflight_bytes_max: int = 0) -> None:
        self.inflight_max = inflight_max
        self.inflight_bytes_max = inflight_bytes_max
        self.config = Configuration()
        self.progress: dict[int, Progress] = {}
        # The keys of `progress`, ascending: everything is visited in this order.
        self.ids: Voters = ()
        self.votes: dict[int, bool] = {}

    def switch(self, config: Configuration, progress: dict[int, Progress]) -> None:
        self.config = config
        self.progress = progress
        self.ids = tuple(sorted(progress))

    def is_singleton(self) -> bool:
        return len(self.config.incoming) == 1 and not self.config.outgoing

    def _matched(self, node_id: int) -> int:
        progress = self.progress.get(node_id)
        return 0 if progress is None else progress.match

    def committed(self) -> int:
        """The largest index that the voters' logs agree on."""
        config = self.config
        if len(config.incoming) == 1 and not config.outgoing:
            return self.progress[config.incoming[0]].match
        return joint_committed(config.incoming, config.outgoing, self._matched)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of lately."""
        active: dict[int, bool] = {}
        for node_id in self.ids:
            progress = self.progress[node_id]
            if not progress.is_learner:
                active[node_id] = progress.recent_active
        return self.vote_result(active) == VOTE_WON

    def vote_result(self, votes: dict[int, bool]) -> int:
        return joint_vote(self.config.incoming, self.config.outgoing, votes)

    def reset_votes(self) -> None:
        self.votes = {}

    def record_vote(self, node_id: int, granted: bool) -> None:
        """A node's first answer counts."""
        if node_id not in self.votes:
            self.votes[node_id] = granted

    def tally(self) -> tuple[int, int, int]:
        """How many granted, how many refused, and the result."""
        granted = 0
        rejected = 0
        for node_id in self.ids:
            if self.progress[node_id].is_learner or node_id not in self.votes:
                continue
            if self.votes[node_id]:
                granted += 1
            else:
                rejected += 1
        return granted, rejected, self.vote_result(self.votes)
