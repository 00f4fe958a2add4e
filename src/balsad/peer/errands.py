"""Tasks that belong to somebody: named, and ended with their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from balsad.observe.logs import get_logger

log = get_logger(__name__)


class Errands:
    """What one owner has running. A task group for owners whose life is no single block of code."""

    __slots__ = ("_is_stopped", "_tasks")

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], Callable[[], None] | None] = {}
        self._is_stopped = False

    def start(self, work: Coroutine[Any, Any, None], name: str, on_end: Callable[[], None] | None = None) -> None:
        """Run `work`; after `stop` nothing begins any more.

        `on_end` is called in any case, also when `work` never came to its first line.
        """
        if self._is_stopped:
            work.close()
            if on_end is not None:
                on_end()
            return
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = on_end
        task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel everything; `wait` tells when it has ended."""
        self._is_stopped = True
        for task in list(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Return when nothing runs any more."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _ended(self, task: asyncio.Task[None]) -> None:
        on_end = self._tasks.pop(task, None)
        if on_end is not None:
            on_end()
        if not task.cancelled() and task.exception() is not None:
            log.error("a task ended unexpectedly", extra={"task": task.get_name()}, exc_info=task.exception())
