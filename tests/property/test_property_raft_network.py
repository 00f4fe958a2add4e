from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.raft import Entry
from tests.property.raft_world import RaftWorld

OPTIONS: list[dict[str, Any]] = [
    {},
    {"pre_vote": True, "check_quorum": True},
    {"is_async": True},
    {"is_async": True, "pre_vote": True},
    {"changes": True},
    {"changes": True, "is_async": True, "pre_vote": True, "step_down_on_removal": True},
]

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


def storm(world: RaftWorld, steps: int) -> RaftWorld:
    for _ in range(steps):
        world.step()
    return world


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, size=st.sampled_from((3, 4, 5)), options=st.sampled_from(OPTIONS))
def test_a_bad_network_and_crashes_break_no_law(seed: int, size: int, options: dict[str, Any]) -> None:
    storm(RaftWorld(seed, size, **options), 5000)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, size=st.sampled_from((3, 5)), options=st.sampled_from(OPTIONS[:4]))
def test_after_the_storm_all_agree(seed: int, size: int, options: dict[str, Any]) -> None:
    world = storm(RaftWorld(seed, size, **options), 3000)

    world.settle()

    leader = world.leader()
    assert leader is not None
    leader.node.propose([Entry(0, 0, 0, b"last")])
    world.quiet()
    assert {member.applied for member in world.members.values()} == {leader.node.raft.log.last_index()}
    assert world.committed[leader.applied][1] == b"last"


@pytest.mark.parametrize("options", OPTIONS)
def test_the_storm_is_no_calm(options: dict[str, Any]) -> None:
    """The laws above would hold if nothing ever happened: it does."""
    worlds = [storm(RaftWorld(seed, 3, **options), 10000) for seed in range(8)]

    assert sum(len(world.leaders) for world in worlds) >= 40
    assert sum(len(world.committed) for world in worlds) >= 200
    assert sum(member.log.snapshot().index > 0 for world in worlds for member in world.members.values()) >= 10
