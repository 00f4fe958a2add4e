"""A world: machines with members, clients, a network, misfortune, all from one seed.

    begin --faults and clients at work--> over --all mended, all quiet--> closed --last questions--> judged

What happened is told to a running hash (`trace`): the same seed brings about the same one.
"""

from __future__ import annotations

import hashlib
import logging
import random
import traceback
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from balsad.config import ServerConfig, parse_url
from balsad.proto import rpc_pb2
from balsad.server.bootstrap import ExistingCluster
from balsad.sim.checkers import judge
from balsad.sim.client import Client
from balsad.sim.faults import Faults
from balsad.sim.history import FinalState, History
from balsad.sim.loop import Timeline
from balsad.sim.machine import Machine
from balsad.sim.network import Network
from balsad.sim.officer import ROOT, Guest, Officer
from balsad.sim.plan import Plan, plan_of
from balsad.sim.requests import Range, RangeResult, decode, encode
from balsad.sim.rpc import OK
from balsad.sim.upkeep import Janitor, Steward
from balsad.sim.watching import RANGES, Watcher
from balsad.sim.witness import Witness
from balsad.sim.workload import Asker, Keeper, Reader, Tenant

if TYPE_CHECKING:
    from balsad.server.member import Member

QUIET_S_MAX: Final = 40.0
"""So long after the last fault everything must work again."""
LEASES_END_S: Final = 12.0
"""So long after the last renewal every lease must have ended."""
CLOCK_RATE_MAX: Final = 1.03

Plant = Callable[["World", "Machine", "Member"], None]
"""Makes a member misbehave, to see whether that is found out."""


class World:
    def __init__(self, seed: int, plan: Plan | None = None, *, plant: Plant | None = None) -> None:
        self.seed = seed
        self.plan = plan if plan is not None else plan_of(seed)
        self._plant = plant
        self.timeline = Timeline(self._chances("timeline"))
        self.network = Network(self._chances("network"), self.plan.delay_s, self.plan.stragglers)
        self.network.straggle_s = self.plan.straggle_s
        self.history = History(clock_rate_max=CLOCK_RATE_MAX)
        self.witness = Witness(self)
        self.violations: list[str] = []
        self.is_over = False  # clients begin nothing new, nothing breaks any more
        self.is_closed = False  # watchers stop as well
        self._trace = hashlib.blake2b(digest_size=16)
        self.listeners: list[Callable[[str], None]] = []
        self.faults: dict[str, int] = {}
        self.changes: dict[str, int] = {}
        setting = self._chances("setting")
        choices: dict[str, Any] = {
            "snapshot_count": setting.choice((20, 100, 100_000)),
            "snapshot_catchup_entries": setting.choice((2, 20, 5_000)),
            "compaction_batch_limit": setting.choice((3, 1_000)),
            "backend_batch_interval_s": setting.choice((0.01, 0.1, 1.0)),
            "backend_batch_limit": setting.choice((50, 10_000)),
            "watch_progress_notify_interval_s": setting.choice((0.5, 5.0)),
            "max_wals": setting.choice((2, 5)),
            "max_snapshots": setting.choice((2, 5)),
            "pre_vote": setting.random() < 0.8,
            "strict_reconfig_check": setting.random() < 0.3,
            "initial_corrupt_check": setting.random() < 0.3,
            "corrupt_check_time_s": setting.choice((0.0, 5.0)),
            "compact_hash_check": setting.random() < 0.5,
            "compact_hash_check_time_s": 5.0,
        }
        if self.plan.guests:
            choices["bcrypt_cost"] = 4
        if self.plan.pre_vote is not None:
            choices["pre_vote"] = self.plan.pre_vote
        choices |= dict(self.plan.settings)
        self._choices = choices
        self.machines: list[Machine] = []
        self._by_url: dict[str, Machine] = {}
        names = [f"m{number + 1}" for number in range(self.plan.members)]
        initial = ",".join(f"{name}=http://{name}:2380" for name in names)
        for name in names:
            self._install(name, {**choices, "initial_cluster": initial})
        self.clients: list[Client] = []
        self.watchers: list[Watcher] = []
        self._busy = 0

    def _chances(self, what: str) -> random.Random:
        return random.Random(f"{self.seed} {what}")

    def _install(self, name: str, choices: dict[str, Any]) -> Machine:
        url = f"http://{name}:2380"
        config = ServerConfig(
            name=name,
            data_dir=f"/{name}.etcd",
            initial_advertise_peer_urls=(parse_url(url),),
            listen_peer_urls=(parse_url(url),),
            advertise_client_urls=(parse_url(f"http://{name}:2379"),),
            **choices,
        )
        machine = Machine(self, name, config, f"{self.seed} machine")
        self.machines.append(machine)
        self._by_url[url] = machine
        return machine

    def install(self) -> Machine:
        """Another machine, with nothing on it yet, that is to join the others."""
        name = f"m{len(self.machines) + 1}"
        self.note("install", name)
        return self._install(name, {**self._choices, "initial_cluster": "", "initial_cluster_state": "existing"})

    def move(self, machine: Machine, url: str) -> None:
        """It is reached by another peer URL as well."""
        self._by_url[url] = machine

    def forget(self, url: str) -> None:
        """Nobody is at home there any more."""
        del self._by_url[url]

    # What the world's parts tell it.

    def note(self, what: str, *facts: object) -> None:
        line = f"{self.timeline.now:.9f} {what} {facts}"
        self._trace.update(line.encode())
        for listener in self.listeners:
            listener(line)

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    def violation(self, text: str, error: BaseException | None = None) -> None:
        """Something that must never happen did."""
        self.note("violation", text)
        if error is not None:
            text += "\n" + "".join(traceback.format_exception(error))
        self.violations.append(f"at {self.timeline.now:.6f}: {text}")

    def watch_member(self, machine: Machine, member: Member) -> None:
        """A member was made and is about to start."""
        self.witness.attend(machine, member)
        if self._plant is not None:
            self._plant(self, machine, member)

    def on_failure(self, machine: Machine) -> None:
        """A member ended by its own decision, or in the midst of something."""
        delay = 0.1 + self.timeline.random.random() * 2.0

        def revive() -> None:
            machine.volume.mend()
            machine.start()

        self.timeline.at(self.timeline.now + delay, revive)

    def peer_at(self, url: str) -> Machine | None:
        return self._by_url.get(url)

    def peer_with(self, member_id: int) -> Machine | None:
        for machine in self.present():
            if machine.member is not None and machine.member.service.member_id == member_id:
                return machine
        return None

    def present(self) -> list[Machine]:
        """The machines whose members were not removed."""
        return [machine for machine in self.machines if not machine.is_removed]

    def cluster_of(self, machine: Machine) -> tuple[str, ExistingCluster] | None:
        """What somebody tells who is about to join: the initial cluster as a flag has it, and what it is."""
        for other in self.machines:
            member = other.member
            # Its peer port answers before it serves clients.
            if other is machine or member is None:
                continue
            if not self.network.reaches(machine.name, other.name) or not self.network.reaches(other.name, machine.name):
                continue
            members = list(member.service.members())
            own = [self._is_at(machine, each.peer_urls) for each in members]
            if any(own):
                names = [machine.name if is_own else f"{each.id:x}" for is_own, each in zip(own, members, strict=True)]
                named = zip(names, members, strict=True)
                initial = ",".join(f"{name}={url}" for name, each in named for url in each.peer_urls)
                return initial, ExistingCluster(member.service.cluster_id, members)
        return None

    def counted(self, leader: Machine) -> list[Machine]:
        """The machines whose members are in the cluster, as a leader knows it."""
        assert leader.member is not None
        members = leader.member.service.members()
        return [machine for machine in self.present() if any(self._is_at(machine, each.peer_urls) for each in members)]

    def _is_at(self, machine: Machine, urls: Iterable[str]) -> bool:
        """Whether one of these leads to the machine; it has two while nobody knows whether it moved."""
        return any(self._by_url.get(url) is machine for url in urls)

    def leader(self) -> Machine | None:
        """The machine that leads in the newest term, as far as it knows."""
        leading = [
            (machine.member.service.term, machine)
            for machine in self.machines
            if machine.member is not None and machine.member.driver.is_leader
        ]
        return max(leading, key=lambda found: found[0])[1] if leading else None

    # The run.

    def run(self) -> World:
        """Live through it and judge."""
        with _silence():
            self._run()
        if self.history.finals:
            self.violations += judge(self.history)
        return self

    def _run(self) -> None:
        for machine in self.machines:
            machine.start()
        self._people()
        Faults(self, self._chances("faults")).begin()
        self.timeline.run(self.plan.seconds)
        self._mend()
        if any(machine.is_lost for machine in self.machines):
            return
        if not self._wait(lambda: self._busy == 0 and self._works(), QUIET_S_MAX):
            self.violation(f"no rest {QUIET_S_MAX} s after the last fault: {self._state()}")
            return
        self.timeline.run(self.timeline.now + LEASES_END_S)
        self._ask_last()
        self.is_closed = True

    def _people(self) -> None:
        plan = self.plan
        for number in range(plan.clients):
            client = self._client(f"c{number + 1}")
            self._employ(Keeper(self, client, self._chances(client.name)).live(), client)
        for number in range(plan.readers):
            client = self._client(f"r{number + 1}")
            self._employ(Reader(self, client, self._chances(client.name)).live(), client)
        for number in range(plan.tenants):
            client = self._client(f"t{number + 1}")
            self._employ(Tenant(self, client, self._chances(client.name)).live(), client)
        client = self._client("j1")
        self._employ(Janitor(self, client, self._chances(client.name)).live(), client)
        if plan.change_every_s:
            client = self._client("s1")
            self._employ(Steward(self, client, self._chances(client.name)).live(), client)
        if plan.guests:
            client = self._client("o1")
            self._employ(Officer(self, client, self._chances(client.name)).live(), client)
        for number in range(plan.guests):
            client = self._client(f"g{number + 1}")
            self._employ(Guest(self, client, self._chances(client.name)).live(), client)
        for number in range(plan.watchers):
            client = self._client(f"w{number + 1}")
            chances = self._chances(client.name)
            keys = RANGES[0] if number == 0 else chances.choice(RANGES)
            watcher = Watcher(self, client, chances, keys, is_steady=number == 0)
            self.watchers.append(watcher)
            client.process.create_task(watcher.live())

    def _client(self, name: str) -> Client:
        client = Client(name, self.timeline, self.network)
        client.process.on_exception = lambda message, error: self.violation(f"{name}: {message}: {error!r}", error)
        if self.plan.guests:
            client.user = ROOT
        self.clients.append(client)
        return client

    def _employ(self, work: Coroutine[Any, Any, None], client: Client) -> None:
        self._busy += 1

        async def live() -> None:
            try:
                await work
            except Exception as error:
                self.violation(f"{client.name}: {error!r}", error)
            self._busy -= 1

        client.process.call_soon(lambda: client.process.create_task(live()))

    def _mend(self) -> None:
        """The faults are over."""
        self.is_over = True
        self.history.quiet_since = self.timeline.now
        self.network.mend()
        for machine in self.machines:
            machine.volume.mend()
            machine.volume.short_writes = 0.0
            machine.is_held = False
            machine.start()

    def _works(self) -> bool:
        """Whether all serve, and all have applied all there is."""
        leader = self.leader()
        if leader is None or leader.member is None:
            return False
        index = leader.member.applier.applied_index
        return all(
            machine.is_serving and machine.member is not None and machine.member.applier.applied_index == index
            for machine in self.counted(leader)
        )

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        end = self.timeline.now + seconds
        while self.timeline.now < end:
            self.timeline.run(self.timeline.now + 0.25)
            if done():
                return True
            for machine in self.machines:
                if not machine.is_up:
                    machine.start()
        return False

    def _state(self) -> str:
        parts = [f"{self._busy} clients busy"]
        for machine in self.machines:
            member = machine.member
            if member is None:
                parts.append(f"{machine.name} down")
            else:
                parts.append(
                    f"{machine.name} {'serving' if machine.is_serving else 'starting'} leader {member.driver.leader:x} "
                    f"term {member.service.term} applied {member.applier.applied_index}"
                )
        return ", ".join(parts)

    # The last questions.

    def _ask_last(self) -> None:
        client = self._client("z1")
        self._employ(self._question(client), client)
        if not self._wait(lambda: self._busy == 0, 60.0):
            self.violation(f"the last questions were not answered: {self._state()}")
        self.history.ended = self.timeline.now

    async def _question(self, client: Client) -> None:
        asker = Asker(self, client, self._chances("last"))
        everything = Range(b"\0", b"\0")
        leader = self.leader()
        assert leader is not None and leader.member is not None
        for machine in self.present():
            # Who went down before it was told anything knows nobody to hear it from; etcd's waits for ever, too.
            knows_others = machine.member is not None and machine.member.applier.applied_index > 0
            if knows_others and machine not in self.counted(leader):
                self.violation(f"{machine.name} was removed and is still there")
        for machine in self.counted(leader):
            if machine.member is not None and not machine.member.service.is_learner:
                await asker.do(everything, machine)
        states = {
            (machine.member.auth.enabled, machine.member.auth.revision)
            for machine in self.counted(leader)
            if machine.member is not None
        }
        if len(states) > 1:
            self.violation(f"members differ in who may do what: {states}")
        revision = leader.member.store.current_revision
        for machine in self.counted(leader):
            self.history.finals.append(await self._final(client, machine, revision))

    async def _final(self, client: Client, machine: Machine, revision: int) -> FinalState:
        async def ask(path: str, message: bytes) -> bytes:
            answer = await client.ask(machine, "/etcdserverpb." + path, message, 5.0)
            if answer.code != OK:
                self.violation(f"{machine.name} refused {path} at the end: {answer.text}")
            return answer.message

        everything = Range(b"\0", b"\0", serializable=True)
        current, kvs = decode(everything, await ask("KV/Range", encode(everything)))
        assert isinstance(kvs, RangeResult)
        status = rpc_pb2.StatusResponse.FromString(await ask("Maintenance/Status", b""))
        member = machine.member
        if member is not None and member.service.is_learner:
            # It answers no more than that.
            found = member.store.hash_by_revision(revision)
            hash_, compact_revision = found.hash, found.compact_revision
            lease_ids = tuple(lease.id for lease in member.lessor.leases())
        else:
            hashed = rpc_pb2.HashKVResponse.FromString(
                await ask("Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=revision).SerializeToString())
            )
            hash_, compact_revision = hashed.hash, hashed.compact_revision
            leases = rpc_pb2.LeaseLeasesResponse.FromString(await ask("Lease/LeaseLeases", b""))
            lease_ids = tuple(lease.ID for lease in leases.leases)
        if member is not None and any(alarm.alarm == rpc_pb2.CORRUPT for alarm in member.service.alarms.get()):
            self.violation(f"{machine.name} has a CORRUPT alarm")
        self.note("final", machine.name, current, hash_)
        return FinalState(
            machine.name,
            current,
            compact_revision,
            revision,
            hash_,
            status.raftAppliedIndex,
            kvs.kvs,
            lease_ids,
        )


class _silence:
    """The members' log lines go nowhere while the world runs, unless somebody listens already."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("balsad")
        self._was = self._logger.level, self._logger.propagate
        if not self._logger.handlers:
            self._logger.setLevel(logging.CRITICAL + 1)
            self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._was[0])
        self._logger.propagate = self._was[1]
