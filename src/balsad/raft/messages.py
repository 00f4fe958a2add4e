"""The values that raft takes in and gives out, as raftpb names them.

Plain classes with slots: entries and messages are made by the thousand on the
put path, where a frozen dataclass would cost more than the work done on it.
Nothing changes one after it was handed over, but for `Entry.context`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(IntEnum):
    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


NO_LEADER: Final = 0


class Entry:
    """One place in the log. `context` is the proposer's own and never leaves the process."""

    __slots__ = ("context", "data", "index", "term", "type")

    def __init__(self, type: int, term: int, index: int, data: bytes, context: Any = None) -> None:
        self.type = type
        self.term = term
        self.index = index
        self.data = data
        self.context = context

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and (self.type, self.term, self.index, self.data) == (
            other.type,
            other.term,
            other.index,
            other.data,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Entry({self.type}, {self.term}, {self.index}, {self.data!r})"


class HardState:
    """What must survive a crash: term, vote and a lower bound of commit."""

    __slots__ = ("commit", "term", "vote")

    def __init__(self, term: int = 0, vote: int = 0, commit: int = 0) -> None:
        self.term = term
        self.vote = vote
        self.commit = commit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HardState) and (self.term, self.vote, self.commit) == (
            other.term,
            other.vote,
            other.commit,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"HardState({self.term}, {self.vote}, {self.commit})"

    def is_empty(self) -> bool:
        return not (self.term or self.vote or self.commit)


class ConfState:
    """Who votes and who learns; the two outgoing lists are set only in a joint configuration."""

    __slots__ = ("auto_leave", "learners", "learners_next", "voters", "voters_outgoing")

    def __init__(
        self,
        voters: tuple[int, ...] = (),
        learners: tuple[int, ...] = (),
        voters_outgoing: tuple[int, ...] = (),
        learners_next: tuple[int, ...] = (),
        auto_leave: bool = False,
    ) -> None:
        self.voters = voters
        self.learners = learners
        self.voters_outgoing = voters_outgoing
        self.learners_next = learners_next
        self.auto_leave = auto_leave

    def _key(self) -> tuple[tuple[int, ...], ...]:
        return (
            tuple(sorted(self.voters)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.voters_outgoing)),
            tuple(sorted(self.learners_next)),
            (int(self.auto_leave),),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfState) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ConfState{self._key()}"


class Snapshot:
    """raftpb.Snapshot with its metadata laid flat. Index 0 is the empty snapshot."""

    __slots__ = ("conf_state", "data", "index", "term")

    def __init__(self, index: int = 0, term: int = 0, conf_state: ConfState | None = None, data: bytes = b"") -> None:
        self.index = index
        self.term = term
        self.conf_state = ConfState() if conf_state is None else conf_state
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and (self.index, self.term, self.conf_state, self.data) == (
            other.index,
            other.term,
            other.conf_state,
            other.data,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Snapshot(index={self.index}, term={self.term}, {self.conf_state!r}, {len(self.data)} bytes)"

    def is_empty(self) -> bool:
        return self.index == 0


class ConfChange:
    """A change of one node: raftpb.ConfChange (v1)."""

    __slots__ = ("context", "id", "node_id", "type")

    def __init__(self, type: int, node_id: int, context: bytes = b"", id: int = 0) -> None:
        self.id = id
        self.type = type
        self.node_id = node_id
        self.context = context

    def as_v2(self) -> ConfChangeV2:
        return ConfChangeV2(changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context)


class ConfChangeSingle:
    __slots__ = ("node_id", "type")

    def __init__(self, type: int, node_id: int) -> None:
        self.type = type
        self.node_id = node_id


class ConfChangeV2:
    """Any number of changes at once: raftpb.ConfChangeV2. No change at all leaves a joint configuration."""

    __slots__ = ("changes", "context", "transition")

    def __init__(self, transition: int = 0, changes: tuple[ConfChangeSingle, ...] = (), context: bytes = b"") -> None:
        self.transition = transition
        self.changes = changes
        self.context = context


class Message:
    """raftpb.Message."""

    __slots__ = (
        "commit",
        "context",
        "entries",
        "from_",
        "index",
        "log_term",
        "reject",
        "reject_hint",
        "responses",
        "snapshot",
        "term",
        "to",
        "type",
        "vote",
    )

    def __init__(
        self,
        type: int,
        to: int = 0,
        from_: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: list[Entry] | None = None,
        commit: int = 0,
        vote: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        responses: list[Message] | None = None,
    ) -> None:
        self.type = type
        self.to = to
        self.from_ = from_
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries: list[Entry] = [] if entries is None else entries
        self.commit = commit
        self.vote = vote
        self.snapshot = snapshot
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context
        self.responses: list[Message] = [] if responses is None else responses

    def __repr__(self) -> str:
        return f"Message({MessageType(self.type).name} {self.from_:x}->{self.to:x} term={self.term} index={self.index})"
