"""The story of figure 8 in Raft's paper, played to members that do not know of it.

    a leader's entries reach one follower   --> both go down
    another leads, and nobody hears of it   --> it goes down, the two come back
    one of the two leads and spreads what it has of the old term; as soon as that may look committed --> it goes down
    the other leader is back: its log is newer, so it leads, and what the first one wrote is overwritten

Who counts copies of an old term's entry as a commit has told somebody by then that it is there for good.

Source: Raft paper, 5.4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

    from balsad.sim.machine import Machine
    from balsad.sim.world import World

LOOK_EVERY_S: Final = 0.002
PATIENCE_S: Final = 8.0


class Figure8:
    """One telling of it; whatever does not come about as it should, the story ends and all machines are back."""

    def __init__(self, world: World, rnd: random.Random) -> None:
        self._world = world
        self._random = rnd
        self._down: list[Machine] = []

    def begin(self) -> None:
        world = self._world
        leader = world.leader()
        others = [machine for machine in world.present() if machine is not leader and machine.is_serving]
        if leader is None or len(others) < 4:
            return
        friend = self._random.choice(others)
        for machine in others:
            if machine is not friend:
                world.network.isolate(machine.name, [leader.name, friend.name])
        # Less than an election timeout: nobody takes the leader for lost yet.
        self._later(self._random.uniform(0.2, 0.7), lambda: self._lose(leader, friend))

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        self._world.timeline.at(self._world.timeline.now + seconds, action)

    def _when(self, holds: Callable[[], bool], then: Callable[[], None]) -> None:
        world = self._world
        end = world.timeline.now + PATIENCE_S

        def look() -> None:
            if world.is_over or world.timeline.now > end:
                self._end()
            elif holds():
                then()
            else:
                self._later(LOOK_EVERY_S, look)

        look()

    def _take(self, machine: Machine) -> None:
        machine.power_cut()
        machine.is_held = True
        self._down.append(machine)

    def _give_back(self, machine: Machine) -> None:
        machine.is_held = False
        machine.start()

    def _end(self) -> None:
        for machine in self._down:
            self._give_back(machine)

    def _lose(self, leader: Machine, friend: Machine) -> None:
        self._take(leader)
        self._take(friend)
        self._world.network.join()
        rival: list[Machine] = []

        def is_led() -> bool:
            found = self._world.leader()
            if found is not None:
                rival.append(found)
            return found is not None

        self._when(is_led, lambda: self._silence(rival[-1], leader, friend))

    def _silence(self, rival: Machine, leader: Machine, friend: Machine) -> None:
        """What it has just written is on its own disk alone."""
        world = self._world
        world.network.isolate(rival.name, [machine.name for machine in world.present() if machine is not rival])
        self._later(0.3, lambda: self._exchange(rival, leader, friend))

    def _exchange(self, rival: Machine, leader: Machine, friend: Machine) -> None:
        if rival.member is None:
            self._end()
            return
        raft = rival.member.driver.node.raft
        disputed = raft.log.last_index()
        while raft.log.term(disputed - 1) == raft.term:
            disputed -= 1
        self._take(rival)
        self._world.network.join()
        self._give_back(leader)
        self._give_back(friend)
        heir: list[Machine] = []

        def has_spread() -> bool:
            """Whether a quorum has the entry that the rival has another one for, and it is of an old term."""
            found = self._world.leader()
            if found is None or found.member is None:
                return False
            heir.append(found)
            raft = found.member.driver.node.raft
            matches = sorted(progress.match for progress in raft.tracker.progress.values())
            return matches[(len(matches) - 1) // 2] >= disputed and raft.log.term(disputed) < raft.term

        self._when(has_spread, lambda: self._return(heir[-1], rival))

    def _return(self, heir: Machine, rival: Machine) -> None:
        world = self._world
        world.network.isolate(heir.name, [machine.name for machine in world.present() if machine is not heir])
        self._later(self._random.choice((0.0, 0.05, 0.3)), lambda: self._last(heir, rival))

    def _last(self, heir: Machine, rival: Machine) -> None:
        self._take(heir)
        self._world.network.join()
        self._give_back(rival)
        self._later(self._random.uniform(2.0, 5.0), self._end)
