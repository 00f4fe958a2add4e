"""How one raft node is to behave."""

from __future__ import annotations

from collections.abc import Callable

from balsad.raft.errors import ConfigError
from balsad.raft.kinds import NO_LIMIT, is_local_target
from balsad.raft.log_storage import LogStorage


class Config:
    """Settings of a node.

    election_tick, heartbeat_tick: ticks without a word from the leader before an election (up to
        twice that, at random), and between a leader's heartbeats.
    random: gives 0 <= number < n, for the election timeout.
    applied: what the application has applied already, at a restart.
    max_size_per_msg: bytes of entries in one append; 0 is one entry each.
    max_committed_size_per_ready: bytes of committed entries handed out and not yet applied;
        0 is as max_size_per_msg.
    max_uncommitted_entries_size: payload bytes of the leader's uncommitted tail; 0 is no limit.
    max_inflight_msgs, max_inflight_bytes: appends on the way to one node; 0 bytes is no limit.
    check_quorum: a leader that hears from no quorum for an election timeout steps down, and nobody
        votes who has heard of a leader lately.
    pre_vote: ask whether an election could be won before raising the term.
    read_only_lease_based: answer reads by the leader lease, without heartbeats; needs check_quorum
        and trusts the clocks.
    async_storage_writes: Ready brings messages to the storage threads in place of advance().
    step_down_on_removal: a leader that is removed or demoted becomes a follower at once.
    """

    __slots__ = (
        "applied",
        "async_storage_writes",
        "check_quorum",
        "disable_conf_change_validation",
        "disable_proposal_forwarding",
        "election_tick",
        "heartbeat_tick",
        "id",
        "max_committed_size_per_ready",
        "max_inflight_bytes",
        "max_inflight_msgs",
        "max_size_per_msg",
        "max_uncommitted_entries_size",
        "pre_vote",
        "random",
        "read_only_lease_based",
        "step_down_on_removal",
        "storage",
    )

    def __init__(
        self,
        *,
        id: int,
        storage: LogStorage,
        random: Callable[[int], int],
        election_tick: int = 10,
        heartbeat_tick: int = 1,
        applied: int = 0,
        max_size_per_msg: int = NO_LIMIT,
        max_committed_size_per_ready: int = 0,
        max_uncommitted_entries_size: int = 0,
        max_inflight_msgs: int = 256,
        max_inflight_bytes: int = 0,
        check_quorum: bool = False,
        pre_vote: bool = False,
        read_only_lease_based: bool = False,
        async_storage_writes: bool = False,
        disable_proposal_forwarding: bool = False,
        disable_conf_change_validation: bool = False,
        step_down_on_removal: bool = False,
    ) -> None:
        self.id = id
        self.storage = storage
        self.random = random
        self.election_tick = election_tick
        self.heartbeat_tick = heartbeat_tick
        self.applied = applied
        self.max_size_per_msg = max_size_per_msg
        self.max_committed_size_per_ready = max_committed_size_per_ready or max_size_per_msg
        self.max_uncommitted_entries_size = max_uncommitted_entries_size or NO_LIMIT
        self.max_inflight_msgs = max_inflight_msgs
        self.max_inflight_bytes = max_inflight_bytes or NO_LIMIT
        self.check_quorum = check_quorum
        self.pre_vote = pre_vote
        self.read_only_lease_based = read_only_lease_based
        self.async_storage_writes = async_storage_writes
        self.disable_proposal_forwarding = disable_proposal_forwarding
        self.disable_conf_change_validation = disable_conf_change_validation
        self.step_down_on_removal = step_down_on_removal

    def check(self) -> None:
        """Raises: ConfigError."""
        if self.id == 0:
            raise ConfigError("cannot use none as id")
        if is_local_target(self.id):
            raise ConfigError("cannot use local target as id")
        if self.heartbeat_tick <= 0:
            raise ConfigError("heartbeat tick must be greater than 0")
        if self.election_tick <= self.heartbeat_tick:
            raise ConfigError("election tick must be greater than heartbeat tick")
        if self.max_inflight_msgs <= 0:
            raise ConfigError("max inflight messages must be greater than 0")
        if self.max_inflight_bytes < self.max_size_per_msg:
            raise ConfigError("max inflight bytes must be >= max message size")
        if self.read_only_lease_based and not self.check_quorum:
            raise ConfigError("CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased")
