"""Misfortune: what befalls machines and the network, when, and for how long.

Every fault is over after a while. When the time for faults is over, all is mended.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.sim.figure8 import Figure8

if TYPE_CHECKING:
    import random

    from balsad.sim.machine import Machine
    from balsad.sim.world import World

LOOK_EVERY_S: Final = 0.005
DISK_PATHS: Final = ("/wal/", "/snap/db", "")


class Faults:
    """Brings them about."""

    def __init__(self, world: World, rnd: random.Random) -> None:
        self._world = world
        self._random = rnd
        self._kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "power": self._power,
            "midst": self._midst,
            "stop": self._stop,
            "freeze": self._freeze,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "disk error": self._disk_error,
            "short writes": self._short_writes,
            "drift": self._drift,
            "clients cut": self._clients_cut,
            "bad net": self._bad_net,
        }
        if world.plan.members > 1 or world.plan.change_every_s:
            self._kinds |= {
                "isolate": self._isolate,
                "one way": self._one_way,
                "split": self._split,
                "bridge": self._bridge,
                "reject": self._reject,
                "leader killed": self._leader_killed,
                "leader power": self._leader_power,
                "all power": self._all_power,
                "leader isolated": self._isolate_leader,
                "transfer": self._transfer,
                "turmoil": self._turmoil,
                "heirs": self._heirs,
                "voter": self._voter,
                "figure 8": lambda: Figure8(world, rnd).begin(),
            }
        chosen = world.plan.faults or tuple(self._kinds)
        # No run has all of it: some bugs want an otherwise calm world.
        self._chosen = [kind for kind in chosen if rnd.random() < 0.6] or list(chosen)

    def begin(self) -> None:
        self._later(self._random.expovariate(1.0 / self._world.plan.fault_every_s), self._next)

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        self._world.timeline.at(self._world.timeline.now + seconds, action)

    def _next(self) -> None:
        world = self._world
        if world.is_over:
            return
        kind = self._random.choice(self._chosen)
        world.note("fault", kind)
        world.faults[kind] = world.faults.get(kind, 0) + 1
        self._kinds[kind]()
        self.begin()

    # Processes and machines.

    def _victim(self) -> Machine:
        return self._random.choice(self._world.present())

    def _restart(self, machine: Machine) -> None:
        self._later(self._random.choice((0.0, 0.05, 0.5, 3.0)) + self._random.random() * 0.5, machine.start)

    def _kill(self) -> None:
        machine = self._victim()
        machine.kill()
        self._restart(machine)

    def _power(self) -> None:
        machine = self._victim()
        machine.power_cut()
        self._restart(machine)

    def _leader_killed(self) -> None:
        machine = self._world.leader() or self._victim()
        machine.kill()
        self._restart(machine)

    def _leader_power(self) -> None:
        machine = self._world.leader() or self._victim()
        machine.power_cut()
        self._restart(machine)

    def _all_power(self) -> None:
        for machine in self._world.present():
            machine.power_cut()
            self._restart(machine)

    def _turmoil(self) -> None:
        """The leader is lost, and while the others look for another, they go down and come back."""
        leader = self._world.leader()
        if leader is None:
            return
        leader.power_cut()
        self._later(self._random.choice((0.5, 2.0, 4.0)), leader.start)

        def blink() -> None:
            machine = self._victim()
            if machine is not leader and not self._world.is_over:
                machine.power_cut()
                machine.start()

        for _ in range(self._random.randint(2, 12)):
            self._later(self._random.uniform(0.8, 3.5), blink)

    def _heirs(self) -> None:
        """For a while whoever comes to lead goes down soon after. Raft paper, figure 8."""
        world, rnd = self._world, self._random
        end = world.timeline.now + rnd.uniform(3.0, 12.0)
        doomed: dict[int, None] = {}

        def look() -> None:
            if world.is_over or world.timeline.now > end:
                return
            leader = world.leader()
            if leader is not None and leader.member is not None and leader.member.service.term not in doomed:
                doomed[leader.member.service.term] = None
                self._later(rnd.choice((0.0, 0.05, 0.25, 0.5)) * rnd.random(), lambda: down(leader))
            self._later(LOOK_EVERY_S, look)

        def down(machine: Machine) -> None:
            if not world.is_over:
                machine.power_cut()
                self._later(rnd.uniform(0.2, 2.0), machine.start)

        look()

    def _voter(self) -> None:
        """A machine goes down just after its member has voted for another, and is back at once."""
        world, machine = self._world, self._victim()
        end = world.timeline.now + 10.0
        voted: int | None = None

        def look() -> None:
            nonlocal voted
            if world.is_over or world.timeline.now > end:
                return
            member = machine.member
            if member is not None:
                raft = member.driver.node.raft
                vote = raft.vote if raft.vote != raft.id else 0
                if voted is not None and vote not in (0, voted):
                    machine.power_cut()
                    machine.start()
                    return
                voted = vote
            self._later(LOOK_EVERY_S, look)

        look()

    def _midst(self) -> None:
        """It ends between one operation on the disk and the next."""
        self._victim().volume.cut_in = self._random.choice((1, 2, 3, 5, 8, 13, 30, 100))

    def _stop(self) -> None:
        machine = self._victim()
        machine.stop()
        self._later(self._random.uniform(0.5, 4.0), machine.start)

    def _freeze(self) -> None:
        process = self._victim().process
        if process is not None:
            process.freeze(self._random.choice((0.05, 0.5, 1.5, 4.0)))

    def _drift(self) -> None:
        """Clocks differ by as much as leases allow for."""
        machine = self._victim()
        machine.clock_rate = self._random.uniform(0.97, 1.03)
        if machine.process is not None:
            machine.process.drift(machine.clock_rate)

    # Disks.

    def _slow_disk(self) -> None:
        volume = self._victim().volume
        volume.sync_s = self._random.choice((0.002, 0.02, 0.2))

        def end() -> None:
            volume.sync_s = 0.000_2

        self._later(self._random.uniform(0.5, 4.0), end)

    def _full_disk(self) -> None:
        volume = self._victim().volume
        volume.is_full = True

        def end() -> None:
            volume.is_full = False

        self._later(self._random.uniform(0.2, 2.0), end)

    def _disk_error(self) -> None:
        operation = self._random.choice(("write", "sync", "truncate", "allocate", "rename", "create"))
        code = self._random.choice((errno.EIO, errno.ENOSPC))
        self._victim().volume.failure = (operation, self._random.choice(DISK_PATHS), code)

    def _short_writes(self) -> None:
        volume = self._victim().volume
        volume.short_writes = 0.2

        def end() -> None:
            volume.short_writes = 0.0

        self._later(self._random.uniform(0.5, 3.0), end)

    # The network.

    def _names(self) -> list[str]:
        return [machine.name for machine in self._world.present()]

    def _join_later(self) -> None:
        self._later(self._random.choice((0.3, 1.0, 3.0, 6.0)), self._world.network.join)

    def _isolate(self) -> None:
        self._world.network.isolate(self._victim().name, self._names())
        self._join_later()

    def _isolate_leader(self) -> None:
        leader = self._world.leader()
        if leader is not None:
            self._world.network.isolate(leader.name, self._names())
            self._join_later()

    def _reject(self) -> None:
        """Who refuses is not gone: something in between breaks connections off and refuses new ones."""
        machine = self._world.leader() or self._victim()
        others = [name for name in self._names() if name != machine.name and self._random.random() < 0.8]
        self._world.network.reject(machine.name, others)
        self._join_later()

    def _one_way(self) -> None:
        victim = self._victim().name
        for other in self._names():
            if self._random.random() < 0.7:
                if self._random.random() < 0.5:
                    self._world.network.cut(victim, other)
                else:
                    self._world.network.cut(other, victim)
        self._join_later()

    def _split(self) -> None:
        sides = {name: self._random.random() < 0.5 for name in self._names()}
        for one, side in sides.items():
            for other, other_side in sides.items():
                if side != other_side:
                    self._world.network.cut(one, other)
        self._join_later()

    def _bridge(self) -> None:
        """Two that cannot hear each other, though somebody hears both."""
        names = self._names()
        if len(names) < 2:
            return
        one, other = self._random.sample(names, 2)
        self._world.network.isolate(one, [other])
        self._join_later()

    def _clients_cut(self) -> None:
        clients = [client.name for client in self._world.clients if self._random.random() < 0.5]
        self._world.network.isolate(self._victim().name, clients)
        self._join_later()

    def _bad_net(self) -> None:
        network, rnd = self._world.network, self._random
        network.delay_s = rnd.choice((0.0005, 0.005, 0.05))
        network.loss = rnd.choice((0.0, 0.02, 0.2))
        network.repeats = rnd.choice((0.0, 0.1))
        network.stragglers = rnd.choice((0.0, 0.05))
        self._later(rnd.uniform(1.0, 5.0), network.improve)

    def _transfer(self) -> None:
        leader = self._world.leader()
        if leader is None or leader.process is None:
            return
        target = self._victim()
        if target.member is None or leader.member is None:
            return
        service, member_id = leader.member.service, target.member.service.member_id

        def move() -> None:
            service.driver.node.transfer_leader(member_id)
            service.driver.wake()

        leader.process.call_soon(move)
