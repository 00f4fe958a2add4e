"""Many deadlines, few timers: what is due in the same few milliseconds shares a bucket.

Arming and disarming is one dictionary operation; the event loop sees one
timer, for the earliest bucket. A deadline fires at most one tick late, never early.

    add a 0.012, add b 0.013, add c 5.0      tick 10 ms
    buckets {2: {a, b}, 500: {c}}            heap [2, 500], next wake-up at 0.02
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from balsad.transport.faces import Timed

TICK_S: Final = 0.01


class Timers:
    """Deadlines of a server; `now` is passed in, in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Timed, None]] = {}
        self._ticks: list[int] = []

    def add(self, item: Timed, now: float, delay_s: float) -> int:
        """Have `item.on_timer()` called `delay_s` seconds from now; gives what `remove` wants."""
        tick = int((now + delay_s) / TICK_S) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {item: None}
            heappush(self._ticks, tick)
        else:
            bucket[item] = None
        return tick

    def remove(self, item: Timed, tick: int) -> None:
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(item, None)

    def next_due(self) -> float | None:
        """When `run` has to be called next. Buckets that became empty are forgotten on the way."""
        while self._ticks:
            tick = self._ticks[0]
            if self._buckets[tick]:
                return tick * TICK_S
            heappop(self._ticks)
            del self._buckets[tick]
        return None

    def run(self, now: float) -> None:
        """Fire what is due."""
        current = int(now / TICK_S + 1e-6)
        while self._ticks and self._ticks[0] <= current:
            tick = self._ticks[0]
            bucket = self._buckets[tick]
            while bucket:
                bucket.popitem()[0].on_timer()
            # Only now, so that the rest is not forgotten when one of them raises; `next_due` may have been here too.
            if self._buckets.pop(tick, None) is not None:
                heappop(self._ticks)
