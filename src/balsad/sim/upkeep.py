"""Those who look after the cluster while clients use it.

    Steward   adds members and learners, promotes, removes and replaces them, and moves them to other URLs
    Janitor   defragments, and asks leaders to step back

What became of a request that was not answered, the steward finds out by looking at the list of members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.proto import rpc_pb2
from balsad.sim.rpc import OK, is_refusal
from balsad.sim.workload import Asker

if TYPE_CHECKING:
    import random

    from balsad.sim.client import Answer, Client
    from balsad.sim.world import World

CLUSTER: Final = "/etcdserverpb.Cluster/"
MAINTENANCE: Final = "/etcdserverpb.Maintenance/"
MEMBERS_MAX: Final = 7
IDLE_S_MAX: Final = 15.0
# A change waits for the log, and maybe for a leader.
CHANGE_S_MAX: Final = 8.0


class Steward(Asker):
    """Changes who is a member, one change after the other, without asking whether it is a good moment."""

    def __init__(self, world: World, client: Client, rnd: random.Random) -> None:
        super().__init__(world, client, rnd)
        self._moves = 0

    async def live(self) -> None:
        world, rnd = self.world, self.random
        while not world.is_over:
            await self.client.sleep(min(IDLE_S_MAX, rnd.expovariate(1.0 / world.plan.change_every_s)))
            members = await self._look()
            if world.is_over:
                return
            if not members:
                continue
            learners = [member for member in members if member.isLearner]
            # Of two voters none can be removed safely: if the other one goes down before it hears that this was
            # committed, it waits for ever for the vote of who left. Source: etcd's raft, README.
            leaving = members if len(members) - len(learners) > 2 else learners
            dice = rnd.random()
            if learners and dice < 0.35:
                await self._promote(rnd.choice(learners))
            elif len(members) < MEMBERS_MAX and dice < (0.9 if len(members) < 3 else 0.55):
                await self._add(is_learner=rnd.random() < 0.5)
            elif dice < 0.65:
                await self._move(rnd.choice(members))
            elif leaving and dice < 0.85:
                await self._remove(rnd.choice(leaving))
            elif leaving:
                await self._replace(rnd.choice(leaving))

    async def _change(self, method: str, message: bytes) -> Answer:
        machine = self.target()
        answer = await self.client.ask(machine, CLUSTER + method, message, CHANGE_S_MAX)
        self.world.note("change", method, machine.name, answer.code, answer.text)
        became = "unknown"
        if answer.code == OK:
            became = "done"
        elif is_refusal(answer.code, answer.text):
            became = "refused"
        kind = f"{method} {became}"
        self.world.changes[kind] = self.world.changes.get(kind, 0) + 1
        return answer

    async def _look(self) -> list[rpc_pb2.Member]:
        """The members as a quorum knows them; none while nobody tells."""
        request = rpc_pb2.MemberListRequest(linearizable=True).SerializeToString()
        answer = await self.client.ask(self.target(), CLUSTER + "MemberList", request, CHANGE_S_MAX)
        if answer.code != OK:
            self.home = self.random.choice(self.world.present())
            return []
        return list(rpc_pb2.MemberListResponse.FromString(answer.message).members)

    async def _add(self, *, is_learner: bool) -> None:
        machine = self.world.install()
        request = rpc_pb2.MemberAddRequest(peerURLs=[machine.url], isLearner=is_learner)
        answer = await self._change("MemberAdd", request.SerializeToString())
        if is_refusal(answer.code, answer.text):
            machine.is_removed = True
            return
        if self.random.random() < 0.2:
            await self.client.sleep(self.random.uniform(0.0, 5.0))
        # Nobody knows what becomes of a request that was not answered: it may yet be added, and tries until then.
        machine.start()

    async def _promote(self, member: rpc_pb2.Member) -> None:
        await self._change("MemberPromote", rpc_pb2.MemberPromoteRequest(ID=member.ID).SerializeToString())

    async def _remove(self, member: rpc_pb2.Member) -> Answer:
        return await self._change("MemberRemove", rpc_pb2.MemberRemoveRequest(ID=member.ID).SerializeToString())

    async def _replace(self, member: rpc_pb2.Member) -> None:
        """A machine is broken for good: another one takes its place, once the members agree."""
        machine = self.world.peer_at(member.peerURLs[0])
        if machine is None:
            return
        machine.is_held = True
        machine.power_cut()
        if (await self._remove(member)).code != OK:
            machine.is_held = False
            machine.start()
            return
        machine.is_removed = True
        await self._add(is_learner=self.random.random() < 0.7)

    async def _move(self, member: rpc_pb2.Member) -> None:
        machine = self.world.peer_at(member.peerURLs[0])
        if machine is None:
            return
        self._moves += 1
        url = f"http://{machine.name}-{self._moves}:2380"
        self.world.move(machine, url)
        request = rpc_pb2.MemberUpdateRequest(ID=member.ID, peerURLs=[url])
        if (await self._change("MemberUpdate", request.SerializeToString())).code == OK:
            machine.url = url
            for old in member.peerURLs:
                self.world.forget(old)


class Janitor(Asker):
    """Work that should disturb nobody."""

    async def live(self) -> None:
        world, rnd = self.world, self.random
        while not world.is_over:
            await self.client.sleep(min(IDLE_S_MAX, rnd.expovariate(1.0 / 5.0)))
            if world.is_over:
                return
            if rnd.random() < 0.5:
                machine = rnd.choice(world.present())
                answer = await self.client.ask(machine, MAINTENANCE + "Defragment", b"", world.plan.timeout_s)
                world.note("defragmented", machine.name, answer.code)
            else:
                await self._transfer()

    async def _transfer(self) -> None:
        leader, target = self.world.leader(), self.random.choice(self.world.present())
        if leader is None or target.member is None:
            return
        request = rpc_pb2.MoveLeaderRequest(targetID=target.member.service.member_id)
        answer = await self.client.ask(
            leader, MAINTENANCE + "MoveLeader", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("moved leader", leader.name, target.name, answer.code)
