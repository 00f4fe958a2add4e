"""Source: etcd server/etcdserver/api/v3compactor/periodic_test.go, revision_test.go."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.config import ServerConfig
from balsad.server.auto_compaction import AutoCompaction, PeriodicCompaction, RevisionCompaction

HOUR_S = 3600.0


def run(machine: PeriodicCompaction, ticks: int, *, first: int = 1) -> dict[int, int]:
    """Tick `ticks` times, with one new revision each; which tick compacted what. Tick 0 is the start, at revision 1."""
    machine.start(0.0, first)
    compacted = {}
    for number in range(1, ticks + 1):
        revision = machine.tick(number * machine.interval_s, first + number, True)
        if revision is not None:
            compacted[number] = revision
    return compacted


def test_five_minutes_are_sampled_ten_times() -> None:
    machine = PeriodicCompaction(300.0)

    assert machine.interval_s == 30.0
    assert run(machine, 30) == {10: 1, 20: 10, 30: 20}


def test_two_hours_are_sampled_every_six_minutes_and_compacted_hourly() -> None:
    """The first compaction waits for the whole period."""
    machine = PeriodicCompaction(2 * HOUR_S)

    assert machine.interval_s == 360.0
    assert run(machine, 50) == {20: 1, 30: 10, 40: 20, 50: 30}


def test_one_hour() -> None:
    assert run(PeriodicCompaction(HOUR_S), 20) == {10: 1, 20: 10}


def test_a_follower_samples_and_compacts_when_it_leads() -> None:
    """Source: TestPeriodicPause: after three paused hours the revision of an hour before is compacted at once."""
    machine = PeriodicCompaction(HOUR_S)
    machine.start(0.0, 1)
    for number in range(1, 34):
        assert machine.tick(number * machine.interval_s, number + 1, False) is None

    assert machine.tick(34 * machine.interval_s, 35, True) == 24


def test_nothing_new_is_not_compacted_again() -> None:
    """Source: 3.6; before, etcd asked again for the same revision and was told that it is compacted."""
    machine = PeriodicCompaction(HOUR_S)
    machine.start(0.0, 5)

    revisions = [machine.tick(number * machine.interval_s, 5, True) for number in range(1, 40)]

    assert [revision for revision in revisions if revision] == [5]


def test_a_failed_compaction_is_tried_after_the_next_interval() -> None:
    machine = PeriodicCompaction(HOUR_S)
    machine.start(0.0, 1)
    for number in range(1, 10):
        machine.tick(number * machine.interval_s, number + 1, True)

    assert machine.tick(10 * machine.interval_s, 11, True) == 1
    machine.failed(1)
    assert machine.tick(11 * machine.interval_s, 12, True) == 1
    assert machine.tick(12 * machine.interval_s, 13, True) is None


def test_a_late_tick_counts_the_intervals_it_missed() -> None:
    """A tick each second of a five second period: the oldest sample is still five seconds old."""
    machine = PeriodicCompaction(5.0)
    machine.start(0.0, 1)

    compacted = {now: machine.tick(float(now), now + 1, True) for now in range(1, 16)}

    assert {now: revision for now, revision in compacted.items() if revision} == {5: 1, 10: 5, 15: 10}


def test_ticks_too_early_are_passed_over() -> None:
    machine = PeriodicCompaction(300.0)
    machine.start(0.0, 1)

    compacted = {}
    for tenth in range(1, 3100):
        revision = machine.tick(tenth / 10, 1 + tenth, True)
        if revision is not None:
            compacted[tenth / 10] = revision

    assert list(compacted) == [pytest.approx(300.0, abs=0.5)]
    assert list(compacted.values()) == [1]


def test_a_start_without_a_revision_compacts_what_the_first_tick_saw() -> None:
    machine = PeriodicCompaction(300.0)
    machine.start(0.0)

    compacted = [machine.tick(number * 30.0, number, True) for number in range(1, 13)]

    assert compacted == [None] * 11 + [1]


@given(
    period_s=st.sampled_from([1.0, 10.0, 300.0, 3540.0, 3600.0, 7200.0, 86_400.0]),
    steps=st.lists(st.integers(min_value=0, max_value=5), min_size=1, max_size=400),
)
def test_no_revision_younger_than_the_period_is_compacted(period_s: float, steps: list[int]) -> None:
    machine = PeriodicCompaction(period_s)
    revision = 1
    machine.start(0.0, revision)
    seen = [(0.0, revision)]
    for number, new in enumerate(steps, 1):
        now = number * machine.interval_s
        revision += new
        compacted = machine.tick(now, revision, True)
        if compacted is not None:
            old = [past for when, past in seen if when <= now - period_s + 1e-6]
            assert old
            assert compacted <= old[-1]
        seen.append((now, revision))


def test_revisions_are_kept_every_five_minutes() -> None:
    """Source: TestRevision."""
    machine = RevisionCompaction(10)
    machine.start(0.0, 1)

    assert machine.interval_s == 300.0
    assert machine.tick(290.0, 100, True) is None
    assert machine.tick(300.0, 10, True) is None
    assert machine.tick(600.0, 100, True) == 90
    assert machine.tick(601.0, 200, True) is None
    assert machine.tick(900.0, 100, True) is None
    assert machine.tick(1200.0, 101, False) is None
    assert machine.tick(1500.0, 101, True) == 91
    machine.failed(91)
    assert machine.tick(1800.0, 101, True) == 91


@pytest.mark.parametrize(
    ("mode", "retention", "kind", "interval_s"),
    [
        ("periodic", "1", PeriodicCompaction, 360.0),
        ("periodic", "10m", PeriodicCompaction, 60.0),
        ("revision", "1000", RevisionCompaction, 300.0),
        ("periodic", "0", None, 0),
        ("revision", "0", None, 0),
        ("periodic", "-1h", None, 0),
    ],
)
def test_which_machine(mode: str, retention: str, kind: type[AutoCompaction] | None, interval_s: float) -> None:
    config = dataclasses.replace(ServerConfig(), auto_compaction_mode=mode, auto_compaction_retention=retention)

    machine = AutoCompaction.from_config(config)

    if kind is None:
        assert machine is None
    else:
        assert type(machine) is kind
        assert machine.interval_s == interval_s


def test_what_the_log_says() -> None:
    assert PeriodicCompaction(5400.0).fields(7) == {"revision": 7, "compact-period": "1h30m0s"}
    assert RevisionCompaction(9).fields(7) == {"revision": 7, "revision-compaction-retention": 9}
