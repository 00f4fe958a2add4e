"""What raft refuses, and what it stops for."""

from __future__ import annotations


class RaftError(Exception):
    """A refusal; the node is as it was before."""


class ProposalDroppedError(RaftError):
    """Nothing was appended or forwarded: no leader, a transfer under way, or the uncommitted tail is full."""

    def __init__(self, reason: str = "") -> None:
        super().__init__("raft proposal dropped")
        self.reason = reason


class StepLocalMessageError(RaftError):
    """A message that only the node itself may make came from outside."""

    def __init__(self) -> None:
        super().__init__("raft: cannot step raft local message")


class StepPeerNotFoundError(RaftError):
    """A response came from a node that is not in the configuration."""

    def __init__(self) -> None:
        super().__init__("raft: cannot step as peer not found")


class ConfChangeError(RaftError):
    """This change cannot be made to this configuration."""


class ConfigError(RaftError):
    """These settings do not fit together."""


class CompactedError(RaftError):
    def __init__(self) -> None:
        super().__init__("requested index is unavailable due to compaction")


class UnavailableError(RaftError):
    def __init__(self) -> None:
        super().__init__("requested entry at index is unavailable")


class SnapshotOutOfDateError(RaftError):
    def __init__(self) -> None:
        super().__init__("requested index is older than the existing snapshot")


class SnapshotTemporarilyUnavailableError(RaftError):
    def __init__(self) -> None:
        super().__init__("snapshot is temporarily unavailable")


class RaftPanic(Exception):
    """An invariant of raft is broken, here or at a peer: going on would risk the log. The member must stop."""
