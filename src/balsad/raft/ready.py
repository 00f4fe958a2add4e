"""What raft hands out: the work to be done now, and its state to look at."""

from __future__ import annotations

from balsad.raft.events import Event
from balsad.raft.kinds import ROLE_NAMES
from balsad.raft.messages import Entry, HardState, Message, Snapshot
from balsad.raft.read_only import ReadState
from balsad.raft.tracker import Configuration, Progress


class SoftState:
    """Who leads and what we are: need not survive a crash."""

    __slots__ = ("lead", "role")

    def __init__(self, lead: int, role: int) -> None:
        self.lead = lead
        self.role = role

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftState) and (self.lead, self.role) == (other.lead, other.role)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SoftState({self.lead:x}, {ROLE_NAMES[self.role]})"


class Ready:
    """Work to be done, in this order: save, send, apply, advance.

    soft_state, hard_state: only if they changed.
    entries: to be saved; with hard_state and snapshot, before anything in `messages` is sent by a
        follower. A leader may send while it writes. must_sync False: hard_state may wait in the
        page cache, as only its commit index moved.
    committed_entries: to be applied; they may be among `entries`, so after those are saved.
    snapshot: to be saved and applied in place of everything before it.
    read_states: reads that may be served once their index is applied.
    events: what to log.
    The lists are the receiver's to keep, not to change.
    """

    __slots__ = (
        "committed_entries",
        "entries",
        "events",
        "hard_state",
        "messages",
        "must_sync",
        "read_states",
        "snapshot",
        "soft_state",
    )

    def __init__(
        self,
        soft_state: SoftState | None,
        hard_state: HardState | None,
        entries: list[Entry],
        committed_entries: list[Entry],
        snapshot: Snapshot | None,
        messages: list[Message],
        read_states: list[ReadState],
        must_sync: bool,
        events: list[Event],
    ) -> None:
        self.soft_state = soft_state
        self.hard_state = hard_state
        self.entries = entries
        self.committed_entries = committed_entries
        self.snapshot = snapshot
        self.messages = messages
        self.read_states = read_states
        self.must_sync = must_sync
        self.events = events


class Status:
    """A node's state at one moment. `progress` is only known to a leader."""

    __slots__ = (
        "applied",
        "commit",
        "config",
        "id",
        "lead",
        "lead_transferee",
        "progress",
        "role",
        "term",
        "vote",
    )

    def __init__(
        self,
        id: int,
        term: int,
        vote: int,
        commit: int,
        lead: int,
        role: int,
        applied: int,
        lead_transferee: int,
        config: Configuration,
        progress: dict[int, Progress],
    ) -> None:
        self.id = id
        self.term = term
        self.vote = vote
        self.commit = commit
        self.lead = lead
        self.role = role
        self.applied = applied
        self.lead_transferee = lead_transferee
        self.config = config
        self.progress = progress
