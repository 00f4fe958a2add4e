"""What clients did, when, and what they were told: all that the checkers know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from balsad.sim.requests import KeyValue, Request, Result

DONE: Final = "done"
REFUSED: Final = "refused"  # for certain, nothing was done
UNKNOWN: Final = "unknown"


@dataclass(slots=True)
class Operation:
    """A request for keys. Times are the world's seconds; `returned` is inf while nobody knows how it went."""

    number: int
    client: str
    machine: str
    request: Request
    invoked: float
    returned: float = float("inf")
    outcome: str = UNKNOWN
    revision: int = 0
    result: Result | None = None
    error: str = ""

    def __str__(self) -> str:
        end = f"{self.returned:.6f}" if self.returned != float("inf") else "?"
        told = f"revision {self.revision} {self.result}" if self.outcome == DONE else f"{self.outcome} {self.error}"
        return f"#{self.number} {self.client}@{self.machine} [{self.invoked:.6f}..{end}] {self.request} -> {told}"


@dataclass(slots=True, frozen=True)
class WatchEvent:
    is_delete: bool
    kv: KeyValue
    previous: KeyValue | None


@dataclass(slots=True, frozen=True)
class WatchMessage:
    """One response of a watch; `revision` is its header's."""

    at: float
    revision: int
    events: tuple[WatchEvent, ...] = ()
    is_progress: bool = False


@dataclass(slots=True)
class WatchSession:
    """One watch on one stream, from its creation to its end."""

    client: str
    machine: str
    key: bytes
    end: bytes
    start_revision: int  # as it was asked; 0: from now on
    opened: float
    wants_previous: bool = False
    created_revision: int = 0  # the created answer's header; 0: never answered
    messages: list[WatchMessage] = field(default_factory=list)
    ended: float = float("inf")
    is_canceled: bool = False
    compact_revision: int = 0
    ended_why: str = ""

    @property
    def first_revision(self) -> int:
        """The first revision whose events it must tell."""
        return self.start_revision or self.created_revision + 1

    def __str__(self) -> str:
        return f"watch of {self.client}@{self.machine} on {self.key!r}..{self.end!r} from {self.start_revision}"


@dataclass(slots=True)
class LeaseStep:
    """A grant, renewal, revocation or question about a lease."""

    kind: str  # grant, renew, revoke, ask
    lease: int
    client: str
    machine: str
    invoked: float
    ttl: int = 0  # asked for, with a grant
    returned: float = float("inf")
    outcome: str = UNKNOWN
    told_ttl: int = 0
    is_known: bool = True  # what was asked about is there, be it overdue
    keys: tuple[bytes, ...] = ()
    revision: int = 0


@dataclass(slots=True)
class Compaction:
    revision: int
    invoked: float
    returned: float = float("inf")
    outcome: str = UNKNOWN


@dataclass(slots=True)
class PermissionStep:
    """A change of what guests may do: enable, disable, grant, revoke. Asked for again until it is answered."""

    kind: str
    invoked: float
    returned: float = float("inf")
    outcome: str = UNKNOWN
    is_tried_blindly: bool = False  # a try before was not answered: that one may be done at any time later


@dataclass(slots=True)
class FinalState:
    """A member's state once all was quiet. `hash_revision` is what the hash is of."""

    machine: str
    revision: int
    compact_revision: int
    hash_revision: int
    hash: int
    applied_index: int
    kvs: tuple[KeyValue, ...]
    leases: tuple[int, ...]


@dataclass(slots=True)
class History:
    operations: list[Operation] = field(default_factory=list)
    watches: list[WatchSession] = field(default_factory=list)
    leases: list[LeaseStep] = field(default_factory=list)
    compactions: list[Compaction] = field(default_factory=list)
    permissions: list[PermissionStep] = field(default_factory=list)
    finals: list[FinalState] = field(default_factory=list)
    ended: float = 0.0  # when the last question was answered
    quiet_since: float = 0.0  # when the last fault was over
    clock_rate_max: float = 1.0  # the fastest clock of a member, beside the world's
    lease_slack_s: float = 0.0
