"""Letting go of what is of no use any more, bit by bit: to free a million keys takes as long as to make them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol

AT_ONCE: Final = 4000


class Sheddable(Protocol):
    def shed(self, count: int) -> int:
        """Let go of about `count` of what it holds; gives of how many, 0 once it is empty."""


class Disposal:
    """Empties what it is given, a slice in a turn of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Sheddable] = deque()

    def take(self, *things: Sheddable) -> None:
        """Nobody else may hold any of them."""
        if not self._waiting:
            self._loop.call_soon(self._step)
        self._waiting.extend(things)

    def _step(self) -> None:
        if not self._waiting[0].shed(AT_ONCE):
            self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._step)


class DictShed:
    """A dict to be emptied."""

    def __init__(self, items: dict[Any, Any]) -> None:
        self._items = items

    def shed(self, count: int) -> int:
        items = self._items
        shed = 0
        while items and shed < count:
            items.popitem()
            shed += 1
        return shed
