"""Counters, gauges and histograms: plain numbers on objects, read only when somebody scrapes.

    wal_fsync_s = Histogram(exponential(0.001, 2, 14))
    wal_fsync_s.observe(0.0007)   # counts[0] += 1

Nothing here locks: a member's numbers are all written by its one event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Bounds = tuple[float, ...]


class Counter:
    """Only grows. Who counts elsewhere may set `value` when asked, see `Metrics.on_scrape`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, count: float = 1) -> None:
        self.value += count


class Gauge:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, count: float = 1) -> None:
        self.value += count

    def dec(self, count: float = 1) -> None:
        self.value -= count


class Histogram:
    """Values by size: `counts[i]` of them are at most `bounds[i]` and over the bound before; the last are over all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self.counts: Final = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


def exponential(start: float, factor: float, count: int) -> Bounds:
    """Bounds that grow by `factor`, each rounded as multiplying the one before rounds it."""
    bounds = []
    for _ in range(count):
        bounds.append(start)
        start *= factor
    return tuple(bounds)


Cell = TypeVar("Cell", Counter, Gauge, Histogram)


class Labelled(Generic[Cell]):
    """A cell for each combination of label values; `of` makes those that are new."""

    __slots__ = ("_cells", "_make", "labels")

    def __init__(self, make: Callable[[], Cell], *labels: str) -> None:
        self.labels: Final = labels
        self._make: Callable[[], Cell] = make
        self._cells: dict[tuple[str, ...], Cell] = {}

    def of(self, *values: str) -> Cell:
        cell = self._cells.get(values)
        if cell is None:
            assert len(values) == len(self.labels)
            cell = self._cells[values] = self._make()
        return cell

    def clear(self) -> None:
        self._cells.clear()

    def items(self) -> Iterator[tuple[tuple[str, ...], Cell]]:
        return iter(self._cells.items())


LabelledCounter = Labelled[Counter]
LabelledGauge = Labelled[Gauge]
LabelledHistogram = Labelled[Histogram]
