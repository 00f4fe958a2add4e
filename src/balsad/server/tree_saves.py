"""Saving the v2 tree between turns of the event loop, as it was when that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.v2store import SaveJob

if TYPE_CHECKING:
    from balsad.v2store import Store

AT_ONCE: Final = 2000
"""Nodes of one slice: a few milliseconds."""


class TreeSaves:
    def __init__(self, tree: Store, *, failed: Callable[[BaseException], None]) -> None:
        self.at_once = AT_ONCE
        self._tree = tree
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def save(self, done: Callable[[bytes], None]) -> None:
        """Give `done` the bytes of the tree as it is now: at once while it is small, as most are.

        It is never called when the whole tree is replaced meanwhile, by another member's that is later.
        """
        self._step(SaveJob(self._tree), done)

    def _step(self, job: SaveJob, done: Callable[[bytes], None]) -> None:
        if self._stopped or job.is_closed:
            job.close()
            return
        try:
            if job.step(self.at_once):
                done(job.data)
            else:
                self._loop.call_soon(self._step, job, done)
        except Exception as error:
            self._failed(error)

    def stop(self) -> None:
        """What is half saved is as if it had never been begun."""
        self._stopped = True
