"""Goes on, turn by turn of the event loop, with an entry whose apply takes several (server/apply/long_writes).

Raft goes on meanwhile, and takes for applied what waits behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.raft import Entry, EntryType

if TYPE_CHECKING:
    from balsad.raft import Ready
    from balsad.server.apply.dispatch import Applier
    from balsad.server.propose import Pending


def stable_part(ready: Ready) -> list[Entry]:
    """What of the committed entries was on disk before this Ready; nothing if members come or go with it."""
    committed = ready.committed_entries
    entries = ready.entries
    if entries and entries[0].index <= committed[-1].index:
        committed = committed[: max(0, entries[0].index - committed[0].index)]
    return committed if all(entry.type == EntryType.NORMAL for entry in committed) else []


class ApplySteps:
    def __init__(
        self,
        applier: Applier,
        waiting: dict[int, Pending],
        *,
        applied: Callable[[], None],
        flush: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """`applied` is told after entries were applied, `flush` writes what was answered."""
        self.pause_s = 0.0  # between two slices
        self.stopped = False
        self._applier = applier
        self._waiting = waiting
        self._applied = applied
        self._flush = flush
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._is_due = False

    def later(self) -> None:
        """An entry is being applied: do a slice of it in the next turn."""
        if not self._applier.only_requests_wait:
            # Of members that come or go raft must not be wrong.
            self._applier.finish(self._waiting)
        elif not self._is_due:
            self._is_due = True
            if self.pause_s:
                self._loop.call_later(self.pause_s, self._step)
            else:
                self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._is_due = False
        if self.stopped:
            return
        applier = self._applier
        try:
            before = applier.applied_index
            if applier.is_long:
                applier.step(self._waiting)
            if applier.is_long:
                self.later()
            if applier.applied_index > before:
                self._flush()
                self._applied()
                self._flush()
        except Exception as error:
            self._failed(error)
