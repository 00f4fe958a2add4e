"""Clients that take turns at the disk are brought together; nobody waits long for those who do not come."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from balsad.server.group_commit import CLIENTS_MAX, WAIT_S, GroupCommit

US = 1e-6
TURN_S = 2 * US
SYNC_S = 110 * US


@dataclass
class World:
    """Clients before a disk; `thinks` says how long each waits for its next request when it was answered."""

    thinks: list[float]
    group: GroupCommit = field(default_factory=GroupCommit)
    is_patient: bool = True
    now: float = 1_000.0
    sizes: list[int] = field(default_factory=list)
    waited_s: float = 0.0
    due: list[float] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(1))

    def __post_init__(self) -> None:
        # All out of step at first.
        self.due = [self.now + SYNC_S * number / len(self.thinks) for number in range(len(self.thinks))]

    def run(self, batches: int, *, by_chance: bool = False) -> None:
        for _ in range(batches):
            self.now = max(self.now, min(self.due)) + TURN_S
            began = self.now
            while self.is_patient and self.group.waits(self._gathered(), self.now):
                self.now += TURN_S
            self.waited_s += self.now - began
            asked = [number for number, due in enumerate(self.due) if due <= self.now]
            self.sizes.append(len(asked))
            self.now += SYNC_S
            self.group.ended(self.now)
            for number in asked:
                think_s = self.thinks[number]
                self.due[number] = self.now + (self.random.expovariate(1 / think_s) if by_chance else think_s)

    def _gathered(self) -> int:
        return sum(due <= self.now for due in self.due)

    def last_sizes(self, count: int) -> set[int]:
        return set(self.sizes[-count:])


def test_a_lone_client_is_never_kept_waiting() -> None:
    for think_s in (5 * US, 20 * US, 1e-3):
        world = World([think_s])
        world.run(2_000)
        assert world.waited_s < 0.002 * (world.now - 1_000.0)


def test_clients_that_took_turns_share_their_batches() -> None:
    for count in (2, 3, 8, 16):
        world = World([(20 + number) * US for number in range(count)])
        world.run(2_000)
        assert world.last_sizes(1_000) == {count}


def test_without_a_wait_they_would_take_turns_for_ever() -> None:
    """So that the test above says something."""
    world = World([20 * US, 21 * US], is_patient=False)
    world.run(1_000)
    assert world.last_sizes(500) == {1}


def test_those_who_do_not_come_are_not_waited_for() -> None:
    """Each comes once in a millisecond, at no certain time."""
    world = World([1e-3] * 10)
    world.run(20_000, by_chance=True)
    assert world.waited_s < 0.02 * (world.now - 1_000.0)


def test_when_one_of_two_leaves_the_other_hardly_notices() -> None:
    world = World([20 * US, 21 * US])
    world.run(1_000)
    world.due[1] = float("inf")
    world.waited_s = 0.0
    world.run(100)
    assert world.last_sizes(99) == {1}
    assert world.waited_s <= 3 * (WAIT_S + TURN_S)


def test_they_are_brought_together_again() -> None:
    world = World([1e-3] * 3)
    world.run(20_000, by_chance=True)
    world.thinks = [20 * US] * 3
    world.run(20_000)
    assert world.last_sizes(1_000) == {3}


def test_a_crowd_gathers_by_itself() -> None:
    group = GroupCommit()
    now = 1_000.0
    for _ in range(100):
        now += TURN_S
        assert not group.waits(CLIENTS_MAX // 2 + 1, now)
        now += SYNC_S
        group.ended(now)


def test_nobody_waits_while_others_are_under_way() -> None:
    group = GroupCommit()
    now = 1_000.0
    assert not group.waits(3, now)
    assert not group.waits(1, now + TURN_S, 3)
    group.ended(now + SYNC_S)
    assert group.waits(1, now + SYNC_S + TURN_S)
