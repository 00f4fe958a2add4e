"""What the web pages ask of a member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

NOSPACE = "NOSPACE"
CORRUPT = "CORRUPT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressStatus:
    match: int
    next: int
    state: str  # `StateProbe`, `StateReplicate`, `StateSnapshot`


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftStatus:
    """What /debug/vars tells of raft; ids are the members'."""

    id: int
    term: int
    vote: int
    commit: int
    lead: int
    state: str  # `StateFollower`, `StatePreCandidate`, `StateCandidate`, `StateLeader`
    applied: int
    progress: Mapping[int, ProgressStatus] = field(default_factory=dict)  # a leader's view, else empty
    lead_transferee: int = 0


class WebBackend(Protocol):
    def alarms(self) -> Sequence[tuple[int, str]]:
        """Member id and kind (NOSPACE, CORRUPT) of each alarm that is raised."""

    @property
    def leader(self) -> int:
        """The leader's member id; 0 when there is none."""

    @property
    def is_learner(self) -> bool: ...

    @property
    def cluster_version(self) -> str:
        """`3.5.0`; empty while it is not decided."""

    @property
    def is_auth_enabled(self) -> bool: ...

    def read(self, *, serializable: bool, done: Callable[[str], None]) -> None:
        """Range one key as an administrator, keys only, within the request timeout.

        `done` gets nothing, or the error's text; it may be called before this returns.
        """

    def raft_status(self) -> RaftStatus: ...
