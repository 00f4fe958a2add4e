"""What was measured of a cell, beside etcd, and the bars it is held against.

a sample   {"per_s": 50512.0, "p50_ms": 1.56, ...}      one run of one contender
samples    by contender, one sample for each round
a row      one of our forms beside etcd: medians, and the ratio of each round's pair
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.contenders import ETCD

Sample = Mapping[str, float]
Samples = Mapping[str, Sequence[Sample]]

FIGURES: Final[dict[str, tuple[str, str, int]]] = {
    "per_s": ("throughput", "/s", 0),
    "p50_ms": ("p50", "ms", 3),
    "p99_ms": ("p99", "ms", 2),
    "cpu_us": ("server CPU for each", "us", 1),
    "seconds": ("time", "s", 2),
    "cpu_s": ("server CPU", "s", 2),
    "rss_mib": ("memory, RSS", "MiB", 0),
    "anon_mib": ("memory, anonymous", "MiB", 0),
    "puts_per_s": ("puts meanwhile", "/s", 0),
    "probe_p50_ms": ("answer, p50", "ms", 2),
    "probe_p99_ms": ("answer, p99", "ms", 1),
    "longest_ms": ("longest answer", "ms", 1),
    "over_50": ("answers over 50 ms", "", 0),
    "late_s": ("after their time", "s", 2),
    "took_s": ("took meanwhile", "s", 2),
    "pause_s": ("pause", "s", 2),
    "kib_each": ("memory for each", "KiB", 1),
    "file_mib": ("size of the db", "MiB", 0),
}
"""Name in JSON: what it is called in print, unit, digits. All but `per_s` and `puts_per_s` are better when less."""

OTHERS: Final = "others"
"""In every sample: cores that neither the servers under load nor the generators used, on average."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A claim about a row. `of` is "ratio", ours to etcd's, or "ours" alone."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of: str = "ratio"

    def __str__(self) -> str:
        title, unit, _ = FIGURES[self.figure]
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{title} {sign} {bound:g}" + ("x etcd's" if self.of == "ratio" else f" {unit}".rstrip())


@dataclass(frozen=True, slots=True)
class Verdict:
    bar: Bar
    found: float
    is_met: bool


@dataclass(frozen=True, slots=True)
class Row:
    group: str
    cell: str
    form: str
    ours: Sequence[Sample]
    theirs: Sequence[Sample]
    bars: tuple[Bar, ...]

    def figures(self) -> list[str]:
        """The names of what was measured of both, in FIGURES' order."""
        return [name for name in FIGURES if all(name in sample for sample in (*self.ours, *self.theirs))]

    def our_median(self, figure: str) -> float:
        return statistics.median(sample[figure] for sample in self.ours)

    def their_median(self, figure: str) -> float:
        return statistics.median(sample[figure] for sample in self.theirs)

    def ratios(self, figure: str) -> list[float]:
        """Ours to etcd's of each round; a round in which etcd's was 0 says nothing."""
        return [
            mine[figure] / its[figure] for mine, its in zip(self.ours, self.theirs, strict=True) if its[figure] != 0
        ]

    def ratio(self, figure: str) -> float:
        """The median of the rounds' ratios; not a number when there is none."""
        ratios = self.ratios(figure)
        return statistics.median(ratios) if ratios else float("nan")

    @property
    def others(self) -> float:
        return max((sample.get(OTHERS, 0.0) for sample in (*self.ours, *self.theirs)), default=0.0)

    def verdicts(self) -> list[Verdict]:
        found = []
        for bar in self.bars:
            value = self.ratio(bar.figure) if bar.of == "ratio" else self.our_median(bar.figure)
            # What is not a number meets nothing.
            is_met = (bar.at_least is None or value >= bar.at_least) and (bar.at_most is None or value <= bar.at_most)
            found.append(Verdict(bar, value, is_met))
        return found


def rows(group: str, cell: str, samples: Samples, bars: Mapping[str, tuple[Bar, ...]]) -> list[Row]:
    """A row for each of our forms; `bars` by form."""
    theirs = samples[ETCD]
    return [Row(group, cell, form, ours, theirs, bars.get(form, ())) for form, ours in samples.items() if form != ETCD]
