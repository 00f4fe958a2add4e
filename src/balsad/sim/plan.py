"""How much of what happens in a run."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbers of things, and seconds of the world's time on average."""

    members: int = 1  # that found the cluster
    clients: int = 4
    readers: int = 0
    tenants: int = 2
    watchers: int = 3
    keys: int = 6  # that clients quarrel about
    seconds: float = 15.0  # so long there are faults
    think_s: float = 0.15
    timeout_s: float = 8.0  # a client's patience
    fault_every_s: float = 2.0
    change_every_s: float = 0.0  # of members; 0: the founders stay among themselves
    compact_chance: float = 0.01  # that a client has the past compacted instead of what it was about to do
    delay_s: float = 0.0005  # of the network
    stragglers: float = 0.0  # the share of packets that come later, by up to `straggle_s`
    straggle_s: float = 1.0
    guests: int = 0  # users whose permission comes and goes; 0: a world without users
    pre_vote: bool | None = None  # None: by chance
    faults: tuple[str, ...] = ()  # empty: all that make sense
    settings: tuple[tuple[str, object], ...] = ()  # of the members, in place of what chance would give


SECONDS = 60.0


def plan_of(seed: int, *, members: int = 0, seconds: float = 0.0) -> Plan:
    """What becomes of a seed: few worlds of one member, most of three or five, many of which change their members.

    `members` and `seconds` take the place of what chance would give.
    """
    rnd = random.Random(f"{seed} plan")
    clients, think_s = rnd.choice(((4, 0.15), (8, 0.3), (8, 0.12), (3, 0.05)))
    plan = Plan(
        members=rnd.choices((1, 2, 3, 4, 5), (2, 1, 9, 1, 3))[0],
        clients=clients,
        readers=rnd.choice((0, 2, 4)),
        tenants=rnd.choice((1, 2, 3)),
        watchers=rnd.choice((2, 3, 4)),
        keys=rnd.choice((1, 3, 6)),
        seconds=SECONDS,
        think_s=think_s,
        timeout_s=rnd.choice((2.0, 5.0, 8.0)),
        fault_every_s=rnd.choice((1.0, 2.0, 4.0)),
        change_every_s=rnd.choice((0.0, 2.0, 5.0)),
        compact_chance=rnd.choice((0.003, 0.01, 0.03)),
        delay_s=rnd.choice((0.0005, 0.0005, 0.005, 0.03)),
        stragglers=rnd.choice((0.0, 0.0, 0.01)),
        guests=random.Random(f"{seed} guests").choice((0, 0, 0, 1, 2)),
    )
    return replace(plan, members=members or plan.members, seconds=seconds or plan.seconds)
