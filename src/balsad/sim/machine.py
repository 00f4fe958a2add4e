"""A machine that runs a member: its disk, its clock, and one process after the other.

    down --start--> starting --ready--> serving --kill, power_cut, a failure of its own--> down
                       |
                       +-- joins others, none of which can tell of it: another try later

The member is the shipping one. What differs is its Env, its event loop, its links to others, and
who waits for its log to be synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from balsad.api import register_services
from balsad.config import StartError
from balsad.env import Env
from balsad.peer.joint import MemberPeers
from balsad.server.bootstrap import needs_existing
from balsad.server.member import Member
from balsad.sim.disk import SimDisk, Volume
from balsad.sim.loop import Dead, Process
from balsad.sim.network import SimLinks
from balsad.sim.questions import SimAsker
from balsad.sim.rpc import Front
from balsad.sim.sync_waiter import SimWaiter
from balsad.storage import StorageError
from balsad.storage.wal import WalOptions
from balsad.storage.wal.waiter import Waiter

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.sim.client import Connection
    from balsad.sim.world import World

UNIX_S_THEN: Final = 1_700_000_000.0
SEGMENT_BYTES: Final = 48 * 1024
APPLY_PAUSE_S: Final = 0.005
SNAPSHOT_SLICE: Final = 8
JOIN_AGAIN_S: Final = 1.0


class SimClock:
    """A process's clock; wall time runs with it."""

    def __init__(self, process: Process, skew_s: float) -> None:
        self._process = process
        self._skew_s = skew_s

    def monotonic(self) -> float:
        return self._process.time()

    def time(self) -> float:
        return UNIX_S_THEN + self._process.now + self._skew_s


class SimRandom:
    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def randrange(self, stop: int) -> int:
        return self._random.randrange(stop)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class SimMember(Member):
    """The member, with a log that is cut into small segments, on simulated time."""

    def wal_options(self) -> WalOptions:
        options = super().wal_options()
        disk, process = self.env.disk, self._loop
        assert isinstance(disk, SimDisk) and isinstance(process, Process)
        options.clock = self.env.clock.monotonic
        options.segment_bytes = SEGMENT_BYTES
        options.make_waiter = lambda: _waiter(disk, process)
        return options


def _waiter(disk: SimDisk, process: Process) -> Waiter:
    return SimWaiter(disk, process, process.timeline.random)


class Machine:
    def __init__(self, world: World, name: str, config: ServerConfig, seed: str) -> None:
        self.world = world
        self.name = name
        self.config = config
        self.volume = Volume()
        self.process: Process | None = None
        self.member: Member | None = None
        self.front: Front | None = None  # who takes calls
        self._answering: Front | None = None  # who still answers some
        self.lives = 0
        self.clock_rate = 1.0
        self.is_removed = False
        self.is_lost = False  # it gave up without a reason that this world gave it
        self._waits = False
        self.is_off = False  # without power, so that its ports do not even refuse
        self.is_held = False  # somebody sees to it that it does not start
        self.url = str(config.initial_advertise_peer_urls[0])
        self.joint: MemberPeers | None = None
        self._random = random.Random(f"{seed} {name}")
        self._skew_s = self._random.uniform(-0.5, 0.5)
        self._seed = seed

    @property
    def is_up(self) -> bool:
        return self.process is not None

    @property
    def is_serving(self) -> bool:
        return self.front is not None

    def start(self) -> None:
        """Begin another life."""
        if self.process is not None or self.is_removed or self.is_lost or self.is_held:
            return
        self.lives += 1
        self.is_off = False
        process = Process(self.world.timeline, f"{self.name}.{self.lives}")
        process.drift(self.clock_rate)
        process.on_exception = self._complain
        self.process = process
        self.world.note("start", self.name, self.lives)
        process.call_soon(self._boot, process)

    def _boot(self, process: Process) -> None:
        disk = SimDisk(self.volume, process, self._random, self._cut)
        env = Env(
            clock=SimClock(process, self._skew_s),
            random=SimRandom(f"{self._seed} {process.name}"),
            disk=disk,
        )
        failed = self._failing(process)
        config, existing = self.config, None
        if needs_existing(config, env):
            found = self.world.cluster_of(self)
            if found is None:
                self.kill()
                if not self._waits:
                    self._waits = True
                    self.world.timeline.at(self.world.timeline.now + JOIN_AGAIN_S, self._join_again)
                return
            config, existing = replace(config, initial_cluster=found[0]), found[1]
        joint = MemberPeers(SimAsker(self.world, self))
        try:
            member = SimMember(config, env, failed, existing=existing, make_links=self._linker(joint))
        except (StartError, StorageError) as error:
            failed(error)
            return
        # There is little to take in, but in many a turn.
        member.exchange.at_once = member.tree_saves.at_once = SNAPSHOT_SLICE
        # Whatever deletes a key of a range or a lease takes a while, and anything may happen meanwhile.
        member.applier.long_writes.keys_min = member.applier.long_writes.at_once = 1
        member.applier.cluster.expired_at_once = 1
        member.driver.steps.pause_s = APPLY_PAUSE_S
        self.member, self.joint = member, joint
        member.on_removed = self.leave
        front = Front(process)
        register_services(front.server, member.service)
        member.flush_by(front.flush)
        self.world.watch_member(self, member)
        if config.initial_corrupt_check and not member.booted.is_new:
            process.create_task(self._check_and_start(process, front, member, joint))
        else:
            member.start(lambda: self._serve(process, front))

    async def _check_and_start(self, process: Process, front: Front, member: Member, joint: MemberPeers) -> None:
        try:
            await joint.corruption.check_start()
        except StartError as error:
            self._failing(process)(error)
            return
        member.start(lambda: self._serve(process, front))

    def _join_again(self) -> None:
        self._waits = False
        self.start()

    def _linker(self, joint: MemberPeers) -> Callable[[Member], SimLinks]:
        def make_links(member: Member) -> SimLinks:
            joint.attach(member)
            return SimLinks(self.world, self, member)

        return make_links

    def _serve(self, process: Process, front: Front) -> None:
        if not process.is_dead:
            self.front = self._answering = front
            self.world.note("serving", self.name)

    # Ends.

    def _failing(self, process: Process) -> Callable[[BaseException], None]:
        def failed(error: BaseException) -> None:
            """The member says that it cannot go on."""
            if process.is_dead:
                return
            excused = self.volume.failed and isinstance(error, StorageError | OSError)
            self.world.note("failed", self.name, error)
            if not excused:
                self.is_lost = True
                self.world.violation(f"{self.name} gave up: {type(error).__name__}: {error}")
            self.kill()
            # After a failed sync nobody knows what the system still holds: its memory goes too.
            self.volume.cut(self._random)
            self.world.on_failure(self)

        return failed

    def _complain(self, message: str, error: BaseException | None) -> None:
        self.world.violation(f"{self.name}: an exception nobody caught {message}: {error!r}", error)

    def leave(self) -> None:
        """The others have removed it, and it knows."""
        if self.is_removed:
            return
        self.world.note("removed", self.name)
        self.is_removed = True
        self.kill()

    def _cut(self) -> None:
        """The disk ran into its appointed end."""
        if self._random.random() < 0.3:
            self.kill()
        else:
            self.power_cut()
        self.world.on_failure(self)

    def kill(self) -> None:
        """The process ends here and now. What it wrote stays."""
        process, self.process = self.process, None
        if process is None:
            return
        self.world.note("kill", self.name)
        process.kill()
        front, self._answering = self._answering, None
        self.front = self.member = self.joint = None
        self.volume.unlock()
        if front is not None:
            for call in front.calls:
                line: Connection = call.line  # type: ignore[assignment]
                line.break_off()

    def power_cut(self) -> None:
        """The machine goes off, and what was not synced is in danger."""
        self.kill()
        self.is_off = True
        self.volume.cut(self._random)

    def stop(self) -> None:
        """Tell the process to end, as SIGTERM does."""
        process, member, joint = self.process, self.member, self.joint
        if process is None or member is None or joint is None:
            return
        self.world.note("stop", self.name)
        self.front = None

        async def end() -> None:
            try:
                await member.stop()
                joint.stop()
            except Dead:
                return
            except Exception as error:
                self._failing(process)(error)
            if self.process is process:
                self.kill()

        process.call_soon(lambda: process.create_task(end()))
