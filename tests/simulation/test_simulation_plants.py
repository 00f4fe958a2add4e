"""The checkers bite: bugs that stores have had are planted, in the simulator only, and each is found.

A bug shows in the first of a few seeds in whose world it comes to light, as a violation of the law that it
breaks. The same world without the bug breaks none.
"""

from __future__ import annotations

import pytest

from balsad.sim.plants import PLANTS
from balsad.sim.report import report
from balsad.sim.world import World

SEEDS_MAX = 12


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_bug_is_found(name: str) -> None:
    planted = PLANTS[name]
    for seed in range(1, SEEDS_MAX + 1):
        world = World(seed, planted.plan, plant=planted.plant).run()
        if any(word in violation for violation in world.violations for word in planted.shows_as):
            break
        # It may have shown in some other way, as in a member that gave up.
    else:
        pytest.fail(f"none of {SEEDS_MAX} worlds showed it")
    harmless = World(seed, planted.plan).run()
    assert not harmless.violations, report(harmless)
