"""When a batch shall wait a moment for those who have just been answered, so that all share one write to the disk.

Two clients that ask again as soon as they are answered otherwise take turns for ever: while one's put is written, the
other's comes, and each waits for two syncs. A wait of a few microseconds brings them together:

    A   write A   |  write B      |  write A      |          two syncs for each put
    B      waits  |  write B      |     waits     |

    A   write A   |  wait  write A and B  |  wait  write A and B  |         one sync for both
    B      waits  |

How many may come is known from the batch before: those who were answered, and those who came meanwhile. A wait is
worth what it saves, a whole batch's time for each who came in it, less what it cost those who were there. As long as
that is no gain, waits are tried at ever greater distances.

Source: the thought is PostgreSQL's commit_delay.
"""

from __future__ import annotations

from typing import Final

WAIT_S: Final = 40e-6
AT_ONCE_S: Final = 12e-6
"""Who is read so soon after a batch has ended had asked before that."""
CLIENTS_MAX: Final = 128
"""Larger crowds gather by themselves while one batch is written."""
MEMORY: Final = 0.875
PAUSE_MIN: Final = 16
PAUSE_MAX: Final = 4096


class GroupCommit:
    """Decides when a batch waits. Times are in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._size = 0  # of the last batch
        self._started_at = 0.0
        self._ended_at = 0.0
        self._took_s = 0.0
        self._is_under_way = False
        self._until = 0.0  # 0 while no batch waits
        self._first = 0
        self._expected = 0
        self._waits_since = 0.0
        self._gain_s = 0.0
        self._pause = 0  # so many batches go without a wait
        self._pause_next = PAUSE_MIN

    def waits(self, gathered: int, now: float, others: int = 0) -> bool:
        """Whether the `gathered` requests wait for more; if so, ask again soon. If not, they are written now.

        `others` are under way already: to be answered, and to ask again, later than it is worth waiting for.
        """
        if self._until:
            if gathered < self._expected and now < self._until:
                return True
            self._settle(gathered, now)
        elif not others and self._begins(gathered, now):
            return True
        self._size = gathered
        self._started_at = now
        self._is_under_way = True
        return False

    def ended(self, now: float) -> None:
        """All are answered."""
        if self._is_under_way:
            self._is_under_way = False
            self._ended_at = now
            self._took_s = now - self._started_at

    def _begins(self, gathered: int, now: float) -> bool:
        if self._is_under_way:
            # They came while the batch before was written, which has just been answered.
            self.ended(now)
        if now - self._ended_at < AT_ONCE_S:
            expected = self._size + gathered
        else:
            expected = self._size
        if not gathered < expected <= CLIENTS_MAX:
            return False
        if self._pause:
            self._pause -= 1
            return False
        self._first = gathered
        self._expected = expected
        self._waits_since = now
        self._until = now + WAIT_S
        return True

    def _settle(self, gathered: int, now: float) -> None:
        """Was it worth it?"""
        self._until = 0.0
        saved_s = (gathered - self._first) * self._took_s
        self._gain_s = MEMORY * self._gain_s + saved_s - self._first * (now - self._waits_since)
        if self._gain_s < 0.0:
            self._gain_s = 0.0
            self._pause = self._pause_next
            if self._pause_next < PAUSE_MAX:
                self._pause_next <<= 1
        elif self._pause_next > PAUSE_MIN:
            self._pause_next >>= 1
