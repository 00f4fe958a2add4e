"""Asks another member every four seconds how it is: round trip, and how its clock differs from ours.

Source: etcd rafthttp probing_status.go, xiang90/probing prober.go, status.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from balsad import go_json
from balsad.durations import format_seconds
from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.http_client import HttpClient, RequestFailedError
from balsad.transport.http1_connection import reason

if TYPE_CHECKING:
    from balsad.env import Clock
    from balsad.peer.url_picker import UrlPicker

log = get_logger(__name__)

INTERVAL_S: Final = 4.0
PROBE_S_MAX: Final = 5.0
REPORT_S: Final = 30.0
REPORT_ERRORS_S: Final = 5.0
CLOCK_DRIFT_S_MAX: Final = 1.0
ANSWER_BYTES_MAX: Final = 64 << 10
_WEIGHT: Final = 0.125

RAFT_MESSAGE: Final = "ROUND_TRIPPER_RAFT_MESSAGE"
SNAPSHOT: Final = "ROUND_TRIPPER_SNAPSHOT"


class ProbeStatus:
    """What the probes of one member found."""

    __slots__ = ("clock_diff_s", "error", "is_healthy", "round_trip_s")

    def __init__(self) -> None:
        self.is_healthy = False
        self.round_trip_s = 0.0
        """Smoothed: each new one counts for an eighth."""
        self.clock_diff_s = 0.0
        """How far our clock is ahead."""
        self.error = ""

    def record(self, round_trip_s: float, here: float, there: float) -> None:
        """A probe came back at `here`; the other side's clock showed `there` (Unix seconds)."""
        self.is_healthy = True
        self.round_trip_s = (1 - _WEIGHT) * self.round_trip_s + _WEIGHT * round_trip_s
        self.clock_diff_s = here - there - self.round_trip_s / 2
        self.error = ""

    def fail(self, error: str) -> None:
        self.is_healthy = False
        self.error = error


class Prober:
    """Probes one member and reports; both run until cancelled."""

    def __init__(
        self,
        name: str,
        *,
        peer_id: int,
        client: HttpClient,
        picker: UrlPicker,
        clock: Clock,
        observe_round_trip_s: Callable[[int, float], None],
    ) -> None:
        self.status = ProbeStatus()
        self._name = name
        self._peer_id = peer_id
        self._client = client
        self._picker = picker
        self._clock = clock
        self._observe_s = observe_round_trip_s
        self._pinned = 0

    async def probe(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + INTERVAL_S, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._probe_once()

    async def report(self) -> None:
        # The first time soon, so that a member that cannot be reached is known early.
        interval_s = REPORT_ERRORS_S
        while True:
            await asyncio.sleep(interval_s)
            interval_s = self.report_once()

    def report_once(self) -> float:
        """Log and count what is known now; gives when to do it again, in seconds."""
        status = self.status
        fields: dict[str, object] = {"round-tripper-name": self._name, "remote-peer-id": format_id(self._peer_id)}
        result: dict[str, object] = {"rtt": format_seconds(status.round_trip_s)}
        if status.error:
            result["error"] = status.error
        if not status.is_healthy:
            log.warning("prober detected unhealthy status", extra={**fields, **result})
        if status.clock_diff_s > CLOCK_DRIFT_S_MAX:
            drift = format_seconds(status.clock_diff_s)
            log.warning("prober found high clock drift", extra={**fields, "clock-drift": drift, **result})
        self._observe_s(self._peer_id, status.round_trip_s)
        return REPORT_S if status.is_healthy else REPORT_ERRORS_S

    async def _probe_once(self) -> None:
        urls = self._picker.urls
        url = urls[self._pinned % len(urls)]
        begun = self._clock.monotonic()
        try:
            answer = await self._client.request(
                "GET", url, "/raft/probing", timeout_s=PROBE_S_MAX, body_bytes_max=ANSWER_BYTES_MAX
            )
            if answer.status != 200:
                raise RequestFailedError(
                    f"got unexpected HTTP status code {answer.status} {reason(answer.status)} from {url}/raft/probing"
                )
            there = clock_of(answer.body)
        except (RequestFailedError, ValueError) as error:
            self.status.fail(str(error))
            self._pinned += 1
            return
        self.status.record(self._clock.monotonic() - begun, self._clock.time(), there)


def clock_of(body: bytes) -> float:
    """The Unix seconds in the answer to a probe. Raises: ValueError."""
    health = go_json.loads(body)
    if not isinstance(health, dict) or health.get("OK") is not True or not isinstance(health.get("Now"), str):
        raise ValueError(f"unexpected answer to a probe: {body[:64]!r}")
    # Python knows microseconds, Go writes nanoseconds.
    head, dot, tail = health["Now"].partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}" if dot else head
    return datetime.fromisoformat(text).timestamp()
