"""The simulator: laws hold under faults, the same seed lives the same life, and planted bugs are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balsad.sim.faults import Plan
from balsad.sim.plants import PLANTS
from balsad.sim.report import report
from balsad.sim.world import World


@pytest.mark.parametrize("members", [1, 3, 5])
@pytest.mark.parametrize("seed", range(1, 5))
def test_all_laws_hold_under_faults(seed: int, members: int) -> None:
    world = World(seed, replace(Plan(), members=members, seconds=15.0))
    world.run()
    assert not world.violations, report(world)


def test_a_seed_lives_one_life() -> None:
    def told() -> str:
        world = World(7, replace(Plan(), members=3, seconds=10.0))
        world.run()
        return report(world)

    assert told() == told()


@pytest.mark.parametrize(
    "name",
    [
        "acknowledge-before-fsync",
        "apply-differently",
        "apply-twice-after-restart",
        "expire-leases-early",
        "follower-answers-before-fsync",
        "read-without-quorum",
        "split-revisions",
        "tell-events-twice",
    ],
)
def test_a_planted_bug_is_found(name: str) -> None:
    planted = PLANTS[name]
    for seed in range(1, 9):
        world = World(seed, planted.plan, plant=planted.plant)
        world.run()
        if world.violations:
            return
    pytest.fail("no world of eight showed it")
