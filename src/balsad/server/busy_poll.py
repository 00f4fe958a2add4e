"""When the event loop shall not go to sleep, because the next request is here before it has.

To put a process to sleep and to wake it costs a lone client as much as Python does. Whoever has just been answered
and always asks again at once is waited for awake, for a moment, as Go's scheduler waits before it parks a thread.

    all are answered, they were few ──> is there credit? ──(no)──> asleep: how long, is only measured
                                               └──(yes)──> awake until a request comes (a hit),
                                                           or WINDOW_S is over, or the core was lost (a miss)

    a short wait, awake or asleep    credit + 1
    a long wait, asleep              credit - 1
    a miss                           credit - price; the price doubles, a hit halves it

So a client that thinks between its requests is not waited for, one that pauses now and then is; and where the wait
itself keeps the client from its core, as when there is one core, it is tried once in thousands of requests.
"""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 60e-6
"""About twice of what it costs to be put to sleep and woken up."""
LOST_S: Final = 50e-6
"""Who did not come to look for so long has lost its core to somebody else."""
CREDIT_WANTED: Final = 16
CREDIT_MAX: Final = 64
PRICE_MIN: Final = 8
PRICE_MAX: Final = 4096


class BusyPoll:
    """Decides when to stay awake. Times are in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._credit = 0
        self._price = PRICE_MIN
        self._idle_since = 0.0  # 0 while no request is waited for
        self._looked_at = 0.0  # 0 while asleep

    def idle(self, now: float) -> bool:
        """Everybody was answered and nothing is left to do. Whether to stay awake and `look` again."""
        self._idle_since = now
        if self._credit < CREDIT_WANTED:
            return False
        self._looked_at = now
        return True

    def look(self, now: float) -> bool:
        """Whether to stay awake still, no matter if a request came."""
        looked_at = self._looked_at
        if not looked_at:
            return False
        if now - looked_at < LOST_S and now - self._idle_since < WINDOW_S:
            self._looked_at = now
            return True
        self._miss()
        return False

    def request(self, now: float) -> None:
        """The first request since `idle` came, or another one."""
        idle_since = self._idle_since
        if not idle_since:
            return
        self._idle_since = 0.0
        looked_at = self._looked_at
        if looked_at:
            if now - looked_at >= LOST_S:
                self._miss()
                return
            self._looked_at = 0.0
            if self._price > PRICE_MIN:
                self._price >>= 1
        elif now - idle_since >= WINDOW_S:
            if self._credit > 0:
                self._credit -= 1
            return
        if self._credit < CREDIT_MAX:
            self._credit += 1

    def _miss(self) -> None:
        # How long it takes from here says nothing any more.
        self._idle_since = self._looked_at = 0.0
        self._credit -= self._price
        if self._price < PRICE_MAX:
            self._price <<= 1
