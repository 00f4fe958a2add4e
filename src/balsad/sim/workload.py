"""What clients do all day: each is a coroutine with chances of its own, and writes down what it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.proto import rpc_pb2
from balsad.sim.client import Client
from balsad.sim.history import DONE, REFUSED, Compaction, LeaseStep, Operation
from balsad.sim.requests import (
    MOD,
    PATHS,
    VALUE,
    VERSION,
    Compare,
    Delete,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Request,
    Txn,
    TxnResult,
    decode,
    encode,
    prefix_end,
)
from balsad.sim.rpc import OK, is_refusal

if TYPE_CHECKING:
    import random

    from balsad.sim.machine import Machine
    from balsad.sim.world import World

SINGLES: Final = tuple(b"k/%d" % number for number in range(6))
PAIR: Final = (b"p/left", b"p/right")
LEASED: Final = tuple(b"l/%d" % number for number in range(8))
FOLDERS: Final = (b"k/", b"p/", b"l/")


class Asker:
    """Asks and writes down."""

    def __init__(self, world: World, client: Client, rnd: random.Random) -> None:
        self.world = world
        self.client = client
        self.random = rnd
        self.home: Machine = rnd.choice(world.present())

    def target(self) -> Machine:
        """Mostly the member it knows; now and then, and when that one is gone, another."""
        if not self.home.is_serving or self.home.is_removed or self.random.random() < 0.02:
            self.home = self.random.choice(self.world.present())
        return self.home

    async def do(self, request: Request, machine: Machine | None = None) -> Operation:
        machine = machine or self.target()
        history = self.world.history
        operation = Operation(len(history.operations), self.client.name, machine.name, request, self.client.now)
        history.operations.append(operation)
        answer = await self.client.ask(machine, PATHS[type(request)], encode(request), self.world.plan.timeout_s)
        self.world.note("answer", operation.number, answer.code, answer.message)
        if answer.code == OK:
            operation.returned = self.client.now
            operation.outcome = DONE
            operation.revision, operation.result = decode(request, answer.message)
        else:
            operation.error = answer.text
            if is_refusal(answer.code, answer.text):
                operation.returned = self.client.now
                operation.outcome = REFUSED
        return operation


class Keeper(Asker):
    """Reads and writes keys."""

    def __init__(self, world: World, client: Client, rnd: random.Random) -> None:
        super().__init__(world, client, rnd)
        self._known: dict[bytes, KeyValue | None] = {}
        self._written = 0
        self._last_revision = 1

    def _value(self) -> bytes:
        self._written += 1
        mark = b"%s:%d" % (self.client.name.encode(), self._written)
        dice = self.random.random()
        if dice < 0.02:
            return b""
        if dice < 0.12:
            return mark + b"." * self.random.choice((600, 3000, 9000))
        return mark

    def _request(self) -> Request:
        rnd = self.random
        key = rnd.choice(SINGLES[: self.world.plan.keys])
        dice = rnd.random()
        if dice < 0.28:
            return Put(key, self._value(), wants_previous=rnd.random() < 0.3)
        if dice < 0.50:
            return Range(key)
        if dice < 0.57:
            folder = rnd.choice(FOLDERS)
            return Range(folder, prefix_end(folder))
        if dice < 0.62:
            return Range(key, serializable=True)
        if dice < 0.65:
            folder = rnd.choice(FOLDERS)
            return Range(folder, prefix_end(folder), serializable=True)
        if dice < 0.68:
            past = max(1, self._last_revision - rnd.randrange(20))
            return Range(b"k/", b"k0", revision=past, serializable=rnd.random() < 0.5)
        if dice < 0.74:
            return Delete(key, wants_previous=rnd.random() < 0.5)
        if dice < 0.76:
            return Delete(b"k/", b"k/3", wants_previous=True)
        if dice < 0.88:
            return self._compare_and_swap(key)
        if dice < 0.96:
            return self._both()
        return Txn((), (Range(PAIR[0]), Range(PAIR[1]), Range(key)))

    def _compare_and_swap(self, key: bytes) -> Txn:
        """Put if nobody has put since this client looked."""
        known = self._known.get(key)
        compare = Compare(key, MOD, known.mod if known is not None else 0)
        if known is not None and self.random.random() < 0.3:
            compare = Compare(key, VALUE, known.value)
        elif known is None and self.random.random() < 0.5:
            compare = Compare(key, VERSION, 0)
        return Txn((compare,), (Put(key, self._value()), Range(key)), (Range(key),))

    def _both(self) -> Txn:
        """Both of a pair, together."""
        left, right = PAIR
        value = self._value()
        known = self._known.get(left)
        if self.random.random() < 0.2:
            return Txn((), (Delete(left), Put(right, value, wants_previous=True)))
        if known is not None and self.random.random() < 0.5:
            return Txn(
                (Compare(left, MOD, known.mod),),
                (Put(left, value), Put(right, value)),
                (Range(b"p/", b"p0"),),
            )
        return Txn((), (Put(left, value, wants_previous=True), Put(right, value)))

    def _learn(self, operation: Operation) -> None:
        self._last_revision = max(self._last_revision, operation.revision)
        request, result = operation.request, operation.result
        results = result.results if isinstance(result, TxnResult) else (result,)
        requests: tuple[Request, ...] = (request,)
        if isinstance(request, Txn):
            assert isinstance(result, TxnResult)
            requests = request.success if result.succeeded else request.failure
        for asked, told in zip(requests, results, strict=True):
            if isinstance(told, RangeResult) and isinstance(asked, Range) and not asked.revision:
                if not asked.end:
                    self._known[asked.key] = told.kvs[0] if told.kvs else None
                for kv in told.kvs:
                    self._known[kv.key] = kv
            elif isinstance(told, PutResult) and isinstance(asked, Put):
                self._known.pop(asked.key, None)

    async def live(self) -> None:
        world = self.world
        while not world.is_over:
            await self.client.sleep(self.random.expovariate(1.0 / world.plan.think_s))
            if world.is_over:
                return
            if self.random.random() < world.plan.compact_chance:
                await self._compact()
                continue
            operation = await self.do(self._request())
            if operation.outcome == DONE:
                self._learn(operation)
            else:
                self.home = self.random.choice(world.present())

    async def _compact(self) -> None:
        revision = self._last_revision - self.random.randrange(12)
        if revision < 2:
            return
        compaction = Compaction(revision, self.client.now)
        self.world.history.compactions.append(compaction)
        request = rpc_pb2.CompactionRequest(revision=revision, physical=self.random.random() < 0.3)
        answer = await self.client.ask(
            self.target(), "/etcdserverpb.KV/Compact", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("compacted", revision, answer.code)
        if answer.code == OK or is_refusal(answer.code):
            compaction.returned = self.client.now
            compaction.outcome = DONE if answer.code == OK else REFUSED


class Reader(Asker):
    """Reads, and goes on with the same member as long as that answers."""

    async def live(self) -> None:
        world, rnd = self.world, self.random
        while not world.is_over:
            await self.client.sleep(rnd.expovariate(1.0 / world.plan.think_s))
            if world.is_over:
                return
            key = rnd.choice(SINGLES[: world.plan.keys])
            request = Range(key) if rnd.random() < 0.8 else Range(b"k/", b"k0")
            if (await self.do(request)).outcome != DONE:
                self.home = rnd.choice(world.present())


class Tenant(Asker):
    """Holds leases: grants, hangs keys on them, renews for a while, then gives up or lets them run out."""

    async def live(self) -> None:
        world, rnd = self.world, self.random
        number = 0
        while not world.is_over:
            await self.client.sleep(rnd.expovariate(1.0))
            number += 1
            lease = int(self.client.name[1:]) * 1_000_000 + number
            ttl = rnd.randint(1, 5)
            if world.is_over or (await self._grant(lease, ttl)).outcome != DONE:
                continue
            for key in rnd.sample(LEASED, rnd.randint(1, 3)):
                await self.do(Put(key, b"%s:%d" % (self.client.name.encode(), number), lease))
            for _ in range(rnd.choice((0, 0, 1, 2, 5))):
                await self.client.sleep(rnd.uniform(0.2, 0.9) * max(2, ttl))
                if world.is_over:
                    break
                if rnd.random() < 0.2:
                    await self._ask(lease)
                if (await self._renew(lease)).outcome != DONE:
                    break
            if rnd.random() < 0.3:
                await self._revoke(lease)

    def _note(self, step: LeaseStep) -> LeaseStep:
        self.world.history.leases.append(step)
        return step

    def _leader(self) -> Machine:
        return self.world.leader() or self.target()

    async def _grant(self, lease: int, ttl: int) -> LeaseStep:
        machine = self.target()
        step = self._note(LeaseStep("grant", lease, self.client.name, machine.name, self.client.now, ttl))
        request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)
        answer = await self.client.ask(
            machine, "/etcdserverpb.Lease/LeaseGrant", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("granted", lease, answer.code, answer.message)
        if answer.code == OK:
            response = rpc_pb2.LeaseGrantResponse.FromString(answer.message)
            step.returned, step.outcome = self.client.now, DONE
            step.told_ttl, step.revision = response.TTL, response.header.revision
        elif is_refusal(answer.code):
            step.returned, step.outcome = self.client.now, REFUSED
        return step

    async def _revoke(self, lease: int) -> None:
        machine = self.target()
        step = self._note(LeaseStep("revoke", lease, self.client.name, machine.name, self.client.now))
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        answer = await self.client.ask(
            machine, "/etcdserverpb.Lease/LeaseRevoke", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("revoked", lease, answer.code, answer.message)
        if answer.code == OK:
            step.returned, step.outcome = self.client.now, DONE
            step.revision = rpc_pb2.LeaseRevokeResponse.FromString(answer.message).header.revision
        elif is_refusal(answer.code):
            step.returned, step.outcome = self.client.now, REFUSED

    async def _renew(self, lease: int) -> LeaseStep:
        machine = self._leader()
        step = self._note(LeaseStep("renew", lease, self.client.name, machine.name, self.client.now))
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)
        answer = await self.client.converse(
            machine, "/etcdserverpb.Lease/LeaseKeepAlive", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("renewed", lease, answer.code, answer.message)
        if answer.code == OK and answer.message:
            response = rpc_pb2.LeaseKeepAliveResponse.FromString(answer.message)
            step.returned, step.outcome = self.client.now, DONE
            step.told_ttl, step.revision = response.TTL, response.header.revision
        return step

    async def _ask(self, lease: int) -> None:
        machine = self._leader()
        step = self._note(LeaseStep("ask", lease, self.client.name, machine.name, self.client.now))
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = await self.client.ask(
            machine, "/etcdserverpb.Lease/LeaseTimeToLive", request.SerializeToString(), self.world.plan.timeout_s
        )
        self.world.note("asked", lease, answer.code, answer.message)
        if answer.code == OK:
            response = rpc_pb2.LeaseTimeToLiveResponse.FromString(answer.message)
            step.returned, step.outcome = self.client.now, DONE
            step.told_ttl, step.revision = response.TTL, response.header.revision
            # One that is overdue, but not revoked yet, has no time left; one that is not there was granted none.
            step.is_known = response.grantedTTL > 0
            step.keys = tuple(response.keys)
