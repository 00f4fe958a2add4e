"""Consensus: one log, one order. Pure and synchronous; `node` tells how it is driven."""

from __future__ import annotations

from balsad.raft.config import Config
from balsad.raft.errors import (
    CompactedError,
    ConfChangeError,
    ConfigError,
    ProposalDroppedError,
    RaftError,
    RaftPanic,
    SnapshotOutOfDateError,
    SnapshotTemporarilyUnavailableError,
    StepLocalMessageError,
    StepPeerNotFoundError,
    UnavailableError,
)
from balsad.raft.events import Event
from balsad.raft.kinds import (
    APPEND_THREAD,
    APPLY_THREAD,
    CANDIDATE,
    FOLLOWER,
    LEADER,
    NO_LIMIT,
    PRE_CANDIDATE,
    ROLE_NAMES,
)
from balsad.raft.log_storage import LogStorage, MemoryLog
from balsad.raft.messages import (
    NO_LEADER,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from balsad.raft.node import RawNode
from balsad.raft.read_only import ReadState
from balsad.raft.ready import Ready, SoftState, Status
from balsad.raft.succession import NO_TURN
from balsad.raft.tracker import Configuration, Progress

__all__ = [
    "APPEND_THREAD",
    "APPLY_THREAD",
    "CANDIDATE",
    "FOLLOWER",
    "LEADER",
    "NO_LEADER",
    "NO_LIMIT",
    "NO_TURN",
    "PRE_CANDIDATE",
    "ROLE_NAMES",
    "CompactedError",
    "ConfChange",
    "ConfChangeError",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "ConfigError",
    "Configuration",
    "Entry",
    "EntryType",
    "Event",
    "HardState",
    "LogStorage",
    "MemoryLog",
    "Message",
    "MessageType",
    "Progress",
    "ProposalDroppedError",
    "RaftError",
    "RaftPanic",
    "RawNode",
    "ReadState",
    "Ready",
    "Snapshot",
    "SnapshotOutOfDateError",
    "SnapshotTemporarilyUnavailableError",
    "SoftState",
    "Status",
    "StepLocalMessageError",
    "StepPeerNotFoundError",
    "UnavailableError",
]
