"""Sorting very much in bounded pieces: what sorts a million keys at once keeps everybody waiting for half a second.

f c | d a | e b     runs as they come
c f | a d | b e     each sorted by itself
a b c d | e f       cut at the same keys, a stretch of all runs is merged: stretch after stretch, in order
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Generic, TypeVar

Key = TypeVar("Key", str, bytes, tuple[Any, int])

_RUN: Final = 4096
"""How many are sorted in one piece."""
_STRETCH: Final = 1024
"""How many a stretch holds, about."""
_SAMPLED: Final = 64
"""One of so many tells where to cut."""


class MergeSort(Generic[Key]):
    """Sorts `keys`, which must not change meanwhile, into `stretches`: lists that follow each other, none empty."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: Iterator[Key] = iter(keys)
        self._runs: list[list[Key]] = []
        self._places: list[int] = []
        self._cuts: Iterator[Key] | None = None
        self.stretches: list[list[Key]] = []

    def step(self, count: int) -> bool:
        """Go on with about `count` keys; True once all are in order."""
        while count > 0:
            if self._cuts is None:
                run = sorted(islice(self._keys, _RUN))
                count -= len(run)
                if run:
                    self._runs.append(run)
                else:
                    self._cut()
                    if self._cuts is None:
                        return True
                continue
            cut = next(self._cuts, None)
            count -= max(self._merge_up_to(cut), len(self._runs))
            if cut is None:
                self._runs = []
                return True
        return False

    def _cut(self) -> None:
        runs = self._runs
        if len(runs) < 2:
            self._take(runs[0] if runs else [])
            self._runs = []
            return
        sample = sorted(key for run in runs for key in run[_SAMPLED // 2 :: _SAMPLED])
        every = _STRETCH // _SAMPLED
        self._cuts = iter(sample[every::every])
        self._places = [0] * len(runs)

    def _merge_up_to(self, cut: Key | None) -> int:
        places = self._places
        stretch: list[Key] = []
        for number, run in enumerate(self._runs):
            place = places[number]
            end = len(run) if cut is None else bisect_left(run, cut, place)
            if end > place:
                stretch += run[place:end]
                places[number] = end
        stretch.sort()
        self._take(stretch)
        return len(stretch)

    def _take(self, stretch: list[Key]) -> None:
        pieces = -(-len(stretch) // _STRETCH)
        for piece in range(pieces):
            self.stretches.append(stretch[len(stretch) * piece // pieces : len(stretch) * (piece + 1) // pieces])
