"""What the peer protocol needs of the member behind it; the server has these methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from balsad.membership import Member
from balsad.raft.messages import Message


class RaftBackend(Protocol):
    """Where messages go, and what became of those that were sent."""

    def on_messages(self, messages: list[Message]) -> None:
        """Take what was read in one turn from one member. Raises: RequestError when the member has stopped."""

    def on_snapshot(self, message: Message, answered: Callable[[str], None]) -> None:
        """Take a MsgSnap whose database has been received; `answered` is told "" once raft has it, or why not."""

    def on_unreachable(self, member_id: int) -> None:
        """A message to this member was lost."""

    def on_gone(self, member_id: int) -> None:
        """The process of this member has ended. Told again and again until it answers."""

    def on_snapshot_result(self, member_id: int, ok: bool) -> None:
        """The snapshot sent to this member is there, or is not."""

    def on_removed(self) -> None:
        """Another member says that this one was removed from the cluster for ever. Called at every such answer."""

    def is_removed(self, member_id: int) -> bool:
        """Whether the id belonged to a member that was removed."""


class DbSnapshot(Protocol):
    """A pinned state of the database as the bytes of a file."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, count: int) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """A lease as its primary knows it."""

    ttl_s: int
    granted_ttl_s: int
    keys: Iterable[bytes] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HashKv:
    """The hash of the keys up to a revision."""

    hash: int
    current_revision: int
    compact_revision: int


class PeerBackend(Protocol):
    """What other members may ask this one."""

    @property
    def cluster_version(self) -> str:
        """`3.5.0`; empty while it is not decided."""

    def members(self) -> Iterable[Member]: ...

    async def promote_member(self, member_id: int, token: str) -> Iterable[Member]:
        """Make a voter of a learner on behalf of the user of `token` (may be empty); gives the members after it.

        Raises: RequestError, among them MemberNotFoundError, MemberNotLearnerError, LearnerNotReadyError.
        """

    async def hash_kv(self, revision: int) -> HashKv:
        """Hash at `revision`, 0 for the current one. Raises: CompactedError, FutureRevError."""

    async def wait_applied(self) -> None:
        """Return when all that is committed now has been applied. The caller limits how long it waits."""

    async def renew_lease(self, lease_id: int) -> int:
        """The TTL in seconds of the renewed lease.

        Raises: LeaseNotFoundError, lease.NotPrimaryError, lease.LeaseExpiredError.
        """

    def lease_times(self, lease_id: int, *, with_keys: bool) -> LeaseTimes:
        """Raises: LeaseNotFoundError, lease.NotPrimaryError."""

    async def is_downgrade_enabled(self) -> bool:
        """Whether the cluster is being downgraded, as a linearizable read. Raises: RequestError."""
