"""Who waits for the log's next sync: whoever saves, while the disk is quick, else the helper process.

    inline --a sync took SLOW_S, or none of a row was quick, or a rush is expected--> by helper
    helper --the rush is over, and a row of syncs was as quick as inline asks for--> inline

A disk that is quick by itself is slow while others write a lot to it: a defragmentation, a backup that a client
stores on the same disk. Waiting inline then holds up everybody, readers too; the helper costs each sync a few
wake-ups, which only pays while the disk is slow. Worked example, with syncs of so many milliseconds:

    0.1 0.1 0.1 12 | 9 0.2 0.1 ... 0.1 (until HOLD_S after the 12 and a row without a slow one) | 0.1
    inline           by helper                                                                    inline
"""

from __future__ import annotations

from typing import Final

INLINE_SECONDS_MAX: Final = 0.0005
"""Below this an fdatasync costs less than handing it over and being woken again."""
SLOW_S: Final = 0.01
"""One sync of this length is felt by all who wait for an answer."""
QUICK_S: Final = 0.002
"""Of large batches, too, some take less than this while the disk is quick."""
HOLD_S: Final = 1.0
HOLD_MAX_S: Final = 30.0
ROW: Final = 16


class SyncChoice:
    """Hears of every sync; `by_helper` says how the next one is to be waited for."""

    __slots__ = ("_count", "_hold_s", "_quickest", "_until", "by_helper")

    def __init__(self, *, by_helper: bool) -> None:
        self.by_helper = by_helper
        self._until = 0.0  # not inline before
        self._hold_s = HOLD_S
        # Of the row of syncs under way; a slow one begins it anew.
        self._count = 0
        self._quickest = 0.0

    def expect(self, now: float, for_s: float) -> None:
        """The disk will be busy for so long."""
        self._until = max(self._until, now + for_s)
        self.by_helper = True
        self._count = 0

    def note(self, seconds: float, now: float) -> None:
        """A sync took so long, and has just ended."""
        if seconds >= SLOW_S:
            if not self.by_helper:
                # Who comes back too early waits longer the next time.
                self._hold_s = HOLD_S if now > self._until + HOLD_MAX_S else min(2 * self._hold_s, HOLD_MAX_S)
                self.by_helper = True
            self._until = max(self._until, now + self._hold_s)
            self._count = 0
            return
        if self._count == 0 or seconds < self._quickest:
            self._quickest = seconds
        self._count += 1
        if self._count < ROW:
            return
        self._count = 0
        if not self.by_helper:
            self.by_helper = self._quickest > QUICK_S
        elif now >= self._until and self._quickest <= INLINE_SECONDS_MAX:
            self.by_helper = False
