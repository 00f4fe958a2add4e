"""What a person reads of a run, and what a program reads of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from bench.figures import FIGURES, OTHERS, Row, Verdict

LOAD_HEADING = (
    f"  {'':11} {'ours/s':>8} {'etcd/s':>8} {'ratio':>6} {'(range)':12}"
    f" {'p50 ms':>14} {'p99 ms':>15} {'CPU us/call':>13} {'':>5}"
    f" {'RSS MiB':>9} {'anon MiB':>9} {'others':>6}  bars"
)


LOAD_FIGURES = ("per_s", "p50_ms", "p99_ms", "cpu_us", "rss_mib", "anon_mib")


def is_load(row: Row) -> bool:
    """Rows of loads are printed on one line each; all others a line for each figure."""
    return "per_s" in row.figures() and "p50_ms" in row.figures()


def lines(row: Row) -> list[str]:
    if not is_load(row):
        return _figure_lines(row)
    also = [_figure_line(row, name) for name in row.figures() if name not in LOAD_FIGURES]
    return [_load_line(row), *also]


def _pair(row: Row, figure: str, width: int, digits: int) -> str:
    if figure not in row.figures():
        return f"{'-':>{width}}"
    return f"{f'{row.our_median(figure):.{digits}f}/{row.their_median(figure):.{digits}f}':>{width}}"


def _spread(ratios: Sequence[float]) -> str:
    return f"({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "(-)"


def _load_line(row: Row) -> str:
    cpu_ratio = f"{row.ratio('cpu_us'):.2f}x" if "cpu_us" in row.figures() else "-"
    return (
        f"  {row.form:11} {row.our_median('per_s'):8.0f} {row.their_median('per_s'):8.0f}"
        f" {row.ratio('per_s'):6.2f} {_spread(row.ratios('per_s')):12}"
        f" {_pair(row, 'p50_ms', 14, 2)} {_pair(row, 'p99_ms', 15, 1)} {_pair(row, 'cpu_us', 13, 1)} {cpu_ratio:>5}"
        f" {_pair(row, 'rss_mib', 9, 0)} {_pair(row, 'anon_mib', 9, 0)} {row.others:6.2f}  {short_verdict(row)}"
    )


def _figure_lines(row: Row) -> list[str]:
    return [_figure_line(row, name) for name in row.figures()]


def _figure_line(row: Row, name: str) -> str:
    title, unit, digits = FIGURES[name]
    mine = [verdict for verdict in row.verdicts() if verdict.bar.figure == name]
    said = ", ".join(f"{verdict.bar}: {'met' if verdict.is_met else 'NOT MET'}" for verdict in mine)
    ratio = f"{row.ratio(name):6.2f}x {_spread(row.ratios(name))}" if row.ratios(name) else f"{'-':>7}"
    ours, theirs = (f"{value:.{digits}f}" for value in (row.our_median(name), row.their_median(name)))
    return f"  {row.form:11} {title:20} {ours:>9} / {theirs:>9} {unit:4} {ratio:22} {said}".rstrip()


def short_verdict(row: Row) -> str:
    missed = [verdict for verdict in row.verdicts() if not verdict.is_met]
    if missed:
        return "NOT MET: " + ", ".join(f"{verdict.bar} ({verdict.found:.2f})" for verdict in missed)
    return "met" if row.bars else ""


def json_line(row: Row) -> str:
    """One object: what the row is of, every figure's medians and samples, and the bars."""

    def verdict_object(verdict: Verdict) -> dict[str, object]:
        bar = verdict.bar
        bounds = {"at_least": bar.at_least, "at_most": bar.at_most}
        return {
            "figure": bar.figure,
            "of": bar.of,
            **{name: bound for name, bound in bounds.items() if bound is not None},
            "found": round(verdict.found, 4),
            "met": verdict.is_met,
        }

    return json.dumps(
        {
            "group": row.group,
            "cell": row.cell,
            "form": row.form,
            "figures": {
                name: {
                    "unit": FIGURES[name][1],
                    "ours": round(row.our_median(name), 4),
                    "etcd": round(row.their_median(name), 4),
                    "ratio": round(row.ratio(name), 4) if row.ratios(name) else None,
                    "ratios": [round(ratio, 4) for ratio in row.ratios(name)],
                    "ours_all": [round(sample[name], 4) for sample in row.ours],
                    "etcd_all": [round(sample[name], 4) for sample in row.theirs],
                }
                for name in row.figures()
            },
            OTHERS: round(row.others, 3),
            "bars": [verdict_object(verdict) for verdict in row.verdicts()],
        }
    )


def summary(found: Sequence[Row]) -> list[str]:
    """How many bars are met, and each that is not."""
    verdicts = [(row, verdict) for row in found for verdict in row.verdicts()]
    missed = [(row, verdict) for row, verdict in verdicts if not verdict.is_met]
    said = [f"{len(verdicts) - len(missed)} of {len(verdicts)} bars met"]
    for row, verdict in missed:
        said.append(f"  not met: {row.group}: {row.cell}, {row.form}: {verdict.bar}, found {verdict.found:.3f}")
    return said


class Progress:
    """One line on a terminal that says what is going on; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self.prefix = ""

    def say(self, text: str) -> None:
        if self._is_shown:
            print(f"\r\x1b[K{(self.prefix + text)[:110]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
