"""A world's knowledge of its machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from balsad.sim.machine import Machine
from balsad.sim.plan import Plan
from balsad.sim.world import World


def leader_that_knows(*urls: str) -> Machine:
    members = [SimpleNamespace(id=number, peer_urls=(url,)) for number, url in enumerate(urls, 1)]
    service = SimpleNamespace(members=lambda: members, cluster_id=1)
    return cast(Machine, SimpleNamespace(member=cast(Any, SimpleNamespace(service=service))))


def test_a_machine_counts_under_either_url_while_nobody_knows_whether_it_moved() -> None:
    world = World(1, Plan(members=3))
    m1, m2, m3 = world.machines
    world.move(m1, "http://m1-1:2380")

    before = leader_that_knows("http://m1:2380", "http://m2:2380")
    after = leader_that_knows("http://m1-1:2380", "http://m2:2380")

    assert world.counted(before) == [m1, m2]
    assert world.counted(after) == [m1, m2]
    m2.is_removed = True
    assert world.counted(after) == [m1]
    assert m3 in world.present()


def test_an_url_that_was_given_up_leads_nowhere() -> None:
    world = World(1, Plan(members=3))
    world.move(world.machines[0], "http://m1-1:2380")
    world.forget("http://m1:2380")

    assert world.peer_at("http://m1:2380") is None
    assert world.peer_at("http://m1-1:2380") is world.machines[0]
