"""When to compact, and up to which revision: `--auto-compaction-mode` and `--auto-compaction-retention`.

Periodic, kept for 5 minutes: a sample of the revision every 30 s; the first compaction after 5 minutes, then every 5.

    0:00  0:30  ...  4:30  5:00                    ...  10:00
     r0    r1         r9    compact r0, r10              compact r9, r20

Of a longer period than an hour the samples lie 6 minutes apart and compactions an hour, the first after the whole
period. Only the leader compacts; all members sample, so that whoever takes over knows what to do.

Revision, kept 1000: every 5 minutes all that is older than the last 1000 revisions.

Source: etcd server/etcdserver/api/v3compactor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from balsad.config import compaction_retention
from balsad.durations import SECOND, format_seconds

if TYPE_CHECKING:
    from balsad.config import ServerConfig

HOUR_S: Final = 3600.0
SAMPLES_PER_INTERVAL: Final = 10
REVISION_INTERVAL_S: Final = 300.0

# A timer that fires this much of an interval early still counts as in time.
_EARLY: Final = 0.01


class AutoCompaction:
    """One of the two machines below. `tick` wants to be called every `interval_s`; more often does no harm."""

    mode = ""

    def __init__(self, interval_s: float) -> None:
        self.interval_s: Final = interval_s
        self._due = 0.0

    @staticmethod
    def from_config(config: ServerConfig) -> PeriodicCompaction | RevisionCompaction | None:
        """None when nothing shall be compacted automatically. Raises: StartError."""
        retention = compaction_retention(config.auto_compaction_mode, config.auto_compaction_retention)
        if retention <= 0:
            return None
        if config.auto_compaction_mode == RevisionCompaction.mode:
            return RevisionCompaction(retention)
        return PeriodicCompaction(retention / SECOND)

    def start(self, now: float, current_revision: int = 0) -> None:
        """The member begins to run. Without a revision the first sample counts as none."""
        self._due = now + self.interval_s

    def _intervals_until(self, now: float) -> int:
        """How many intervals have ended since the last that was counted here; it is now counted too."""
        if now < self._due - self.interval_s * _EARLY:
            return 0
        passed = 1 + max(0, int((now - self._due) // self.interval_s))
        self._due += passed * self.interval_s
        return passed


class PeriodicCompaction(AutoCompaction):
    mode = "periodic"

    def __init__(self, period_s: float) -> None:
        self.period_s: Final = period_s
        self._every_s: Final = min(period_s, HOUR_S)
        super().__init__(self._every_s / SAMPLES_PER_INTERVAL)
        # One more than fit into the period: the oldest is that of a period ago when the newest is still to come.
        self._samples_max: Final = round(period_s / self.interval_s) + 1
        self._samples: deque[int] = deque(maxlen=self._samples_max)
        self._wait_s = period_s
        self._last_success = 0.0
        self._success_before = 0.0
        self._last_revision = 0
        self._revision_before = 0

    def start(self, now: float, current_revision: int = 0) -> None:
        super().start(now, current_revision)
        self._last_success = now
        self._samples.append(current_revision)

    def tick(self, now: float, current_revision: int, is_leader: bool) -> int | None:
        """The revision to compact now, if any. It counts as compacted unless `failed` says otherwise."""
        passed = self._intervals_until(now)
        if not passed:
            return None
        # What was missed, as while the machine slept, is taken for the last that was seen.
        for _ in range(min(passed - 1, self._samples_max)):
            self._samples.append(self._samples[-1])
        revision = self._samples[0]
        self._samples.append(current_revision)
        early_s = self.interval_s * _EARLY
        if not is_leader or now - self._last_success < self._wait_s - early_s:
            return None
        if revision <= 0 or revision == self._last_revision:
            return None
        self._wait_s = self._every_s
        self._success_before, self._last_success = self._last_success, now
        self._revision_before, self._last_revision = self._last_revision, revision
        return revision

    def failed(self, revision: int) -> None:
        """`revision` could not be compacted: try again after the next interval."""
        if revision == self._last_revision:
            self._last_success = self._success_before
            self._last_revision = self._revision_before

    def fields(self, revision: int) -> dict[str, object]:
        """What the log says of a compaction."""
        return {"revision": revision, "compact-period": format_seconds(self.period_s)}


class RevisionCompaction(AutoCompaction):
    mode = "revision"

    def __init__(self, retention: int) -> None:
        self.retention: Final = retention
        super().__init__(REVISION_INTERVAL_S)
        self._last_revision = 0
        self._revision_before = 0

    def tick(self, now: float, current_revision: int, is_leader: bool) -> int | None:
        """The revision to compact now, if any. It counts as compacted unless `failed` says otherwise."""
        if not self._intervals_until(now) or not is_leader:
            return None
        revision = current_revision - self.retention
        if revision <= 0 or revision == self._last_revision:
            return None
        self._revision_before, self._last_revision = self._last_revision, revision
        return revision

    def failed(self, revision: int) -> None:
        """`revision` could not be compacted: try again after the next interval."""
        if revision == self._last_revision:
            self._last_revision = self._revision_before

    def fields(self, revision: int) -> dict[str, object]:
        """What the log says of a compaction."""
        return {"revision": revision, "revision-compaction-retention": self.retention}
