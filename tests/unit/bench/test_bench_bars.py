"""Rows, ratios, and the bars they are held against."""

from __future__ import annotations

import json
import math

import pytest

from bench import bars, failover, report
from bench.contenders import COMPILED, ETCD, UNCOMPILED
from bench.figures import Bar, Row, rows


def row(ours: list[float], theirs: list[float], *claims: Bar, figure: str = "per_s") -> Row:
    samples = {
        ETCD: [{figure: value} for value in theirs],
        UNCOMPILED: [{figure: value} for value in ours],
    }
    return rows("group", "cell", samples, {UNCOMPILED: claims})[0]


def test_bench_ratio_is_the_median_of_each_rounds_pair() -> None:
    """Not the ratio of the medians: what drifts hits both of a pair."""
    found = row([10.0, 200.0, 30.0], [10.0, 100.0, 20.0])

    assert found.ratios("per_s") == [1.0, 2.0, 1.5]
    assert found.ratio("per_s") == 1.5


@pytest.mark.parametrize(
    ("bar", "ours", "is_met"),
    [
        (Bar("per_s", at_least=1.5), 150.0, True),
        (Bar("per_s", at_least=1.5), 149.9, False),
        (Bar("per_s", at_most=0.4), 40.0, True),
        (Bar("per_s", at_most=0.4), 40.1, False),
        (Bar("per_s", at_most=50.0, of="ours"), 50.0, True),
        (Bar("per_s", at_most=50.0, of="ours"), 51.0, False),
    ],
)
def test_bench_bar_is_met_at_its_bound(bar: Bar, ours: float, is_met: bool) -> None:
    (verdict,) = row([ours], [100.0], bar).verdicts()

    assert verdict.is_met is is_met


def test_bench_a_ratio_to_nothing_meets_no_bar() -> None:
    (verdict,) = row([1.0], [0.0], Bar("per_s", at_least=1.0)).verdicts()

    assert math.isnan(verdict.found)
    assert not verdict.is_met


def test_bench_summary_names_each_bar_that_is_not_met() -> None:
    found = [row([1.0], [2.0], Bar("per_s", at_least=1.0)), row([2.0], [2.0], Bar("per_s", at_least=1.0))]

    said = report.summary(found)

    assert said[0] == "1 of 2 bars met"
    assert said[1:] == ["  not met: group: cell, uncompiled: throughput >= 1x etcd's, found 0.500"]


def test_bench_json_says_what_the_line_says() -> None:
    found = json.loads(report.json_line(row([3.0, 4.0], [2.0, 2.0], Bar("per_s", at_least=1.0))))

    assert (found["cell"], found["form"]) == ("cell", UNCOMPILED)
    assert found["figures"]["per_s"]["ratios"] == [1.5, 2.0]
    assert found["bars"] == [{"figure": "per_s", "of": "ratio", "at_least": 1.0, "found": 1.75, "met": True}]


def test_bench_bars_of_one_member_are_those_promised() -> None:
    """Compiled puts 1.5x and ranges 2x at 0.4 and 0.3 of the CPU; uncompiled 1x; one client's p50 within 1.05x."""
    assert Bar("per_s", at_least=1.5) in bars.single("put", 100)[COMPILED]
    assert Bar("cpu_us", at_most=0.4) in bars.single("put", 1000)[COMPILED]
    assert Bar("per_s", at_least=2.0) in bars.single("range", 1000)[COMPILED]
    assert Bar("cpu_us", at_most=0.3) in bars.single("range", 100)[COMPILED]
    assert Bar("per_s", at_least=1.0) in bars.single("txn", 100)[UNCOMPILED]
    assert Bar("p50_ms", at_most=1.05) in bars.single("put", 1)[COMPILED]
    assert all(Bar("p99_ms", at_most=1.0) in claims for claims in bars.single("put", 100).values())


def test_bench_pause_is_counted_from_the_kill_or_the_last_answer_before_it() -> None:
    """Puts that were committed before are answered a little after the leader is dead."""
    assert failover.longest_pause(10.0, [9.0, 9.99, 11.5, 11.6]) == pytest.approx(1.5)
    assert failover.longest_pause(10.0, [9.99, 10.02, 11.5, 11.6]) == pytest.approx(1.48)
    assert failover.longest_pause(10.0, [9.99]) == 0.0
