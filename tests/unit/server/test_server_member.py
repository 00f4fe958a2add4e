"""Whole members in this process: power cuts at every moment, restarts, quotas, leases and the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3.checks import NESTED_MAX, check_txn
from balsad.env.real import RealDisk
from balsad.errors import InternalError
from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.raft import Message, MessageType
from balsad.server.peer_links import NoPeers
from balsad.server.propose import plain_put
from balsad.server.snapshots import PURGE_INTERVAL_S
from balsad.storage import Backend, StorageError, schema
from balsad.wire import uvarint
from tests.property.memory_disk import PowerCut
from tests.unit.server.server_kit import WAIT_S, Clock, FakeCall, Running, config_of, in_loop, new_call, running
from tests.unit.storage.bolt_disks import MappingDisk


def put(life: Running, key: bytes, value: bytes) -> FakeCall:
    """Through the short way in, as the API takes it."""
    call: FakeCall = new_call()
    raw = rpc.PutRequest(key=key, value=value).SerializeToString()
    plain = plain_put(raw)
    assert plain is not None
    life.member.service.put_plain(call.given, raw, plain[0], plain[1])
    return call


class Letters(NoPeers):
    """Keeps what a member would have others hear."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, messages: list[Message]) -> None:
        self.sent += messages


def ask(life: Running, method: str, request: Any) -> FakeCall:
    call: FakeCall = new_call()
    getattr(life.member.service, method)(call.given, request)
    return call


def value_at(life: Running, key: bytes) -> bytes | None:
    raw = life.member.store.get(key)
    return None if raw is None else kv_pb2.KeyValue.FromString(raw).value


# Power cuts


class Client:
    """Does this and that, one thing after the other, and knows what was acknowledged."""

    def __init__(self) -> None:
        self.acked: dict[bytes, bytes | None] = {}
        self.open: dict[bytes, bytes | None] = {}
        self.revision = 0
        self.asked: Any = None
        self.is_told = False

    def flush(self) -> None:
        """What the member has answered leaves it now."""
        if self.asked is not None and self.asked.status:
            self.is_told = True

    async def work(self, life: Running, disk: MappingDisk) -> None:
        service = life.member.service
        life.member.flush_by(self.flush)
        for number in range(40):
            key = b"k%d" % (number % 9)
            value = b"v%d" % number
            if number % 8 == 5:
                self.open = {key: value, b"twin": value}
                ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=one, value=value)) for one in self.open]
                call = ask(life, "txn", rpc.TxnRequest(success=ops))
            elif number % 8 == 7:
                self.open = {key: None}
                call = ask(life, "delete_range", rpc.DeleteRangeRequest(key=key))
            else:
                self.open = {key: value}
                call = put(life, key, value)
            self.asked, self.is_told = call, False
            if not await self.wait(life, disk, lambda: self.is_told):
                return
            assert call.status is not None
            assert call.status[0] == 0
            self.revision = rpc.PutResponse.FromString(call.messages[0]).header.revision
            self.acked.update(self.open)
            self.open = {}
            done: list[bool] = []
            if number in (10, 30):
                request = rpc.CompactionRequest(revision=self.revision - 3, physical=True)
                call = ask(life, "compact", request)
                if not await self.wait(life, disk, lambda call=call: call.status):
                    return
            elif number == 20:
                service.defragment(lambda done=done: done.append(True), lambda text: None)
                if not await self.wait(life, disk, lambda done=done: done):
                    return
            elif number % 6 == 0:
                service.commit_then(lambda done=done: done.append(True))
                if not await self.wait(life, disk, lambda done=done: done):
                    return

    async def wait(self, life: Running, disk: MappingDisk, happened: Callable[[], Any]) -> bool:
        """False when the power went first."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + WAIT_S
        while not happened():
            if 0 <= disk.cut_at <= disk.operations or life.failures:
                return False
            assert loop.time() < give_up
            await asyncio.sleep(0)
        return True

    def check(self, life: Running) -> None:
        found = {key: value_at(life, key) for key in {*self.acked, *self.open}}
        wanted = {key: self.acked.get(key) for key in found}
        if found != wanted:
            assert self.open
            assert found == {**wanted, **self.open}
        assert life.member.store.current_revision >= self.revision


FIELDS: dict[str, Any] = {"snapshot_count": 5, "snapshot_catchup_entries": 2, "backend_batch_interval_s": 3600.0}


def quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    pass


async def live_until(cut_at: int, seed: int) -> int:
    """One life that ends at this write, then another; how many writes the first one made."""
    asyncio.get_running_loop().set_exception_handler(quiet)
    disk = MappingDisk()
    disk.makedirs("/d")
    disk.sync_dir("/")
    client = Client()
    life = Running(config_of("/d", **FIELDS), disk, None)
    life.start()
    await life.until(lambda: life.ready)
    before = disk.operations
    if cut_at >= 0:
        disk.cut_at = before + cut_at
    with contextlib.suppress(PowerCut):
        await client.work(life, disk)
    steps = disk.operations - before
    life.vanish()
    again = disk.restart(random.Random(seed))
    async with running("/d", disk=again, **FIELDS) as life:
        client.check(life)
        call = await life.answer(put(life, b"after", b"1"))
        assert call.status == (0, "")
    async with running("/d", disk=again, **FIELDS) as life:
        client.check(life)
        assert value_at(life, b"after") == b"1"
    return steps


def test_wherever_the_power_goes_nothing_acknowledged_is_lost() -> None:
    """Puts, txns, deletes, compactions, a defragmentation, snapshots: every third write in turn is the last one."""
    steps: list[int] = []

    async def count() -> None:
        steps.append(await live_until(-1, 0))

    in_loop(count())
    assert steps[0] > 100

    async def cut(cut_at: int) -> None:
        await live_until(cut_at, cut_at)

    for cut_at in range(0, steps[0], 3):
        in_loop(cut(cut_at))


# Lives


def test_a_member_founds_itself_serves_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            service = life.member.service
            assert (service.leader, service.is_learner) == (service.member_id, False)
            first = (service.member_id, service.cluster_id)
            await life.until(lambda: service.cluster_version == "3.5.0", "the cluster version")
            assert [member.name for member in service.members()] == ["default"]
            await life.answer(put(life, b"a", b"1"))
        async with running(tmp_path, name="renamed", initial_cluster="whatever=http://127.0.0.1:9") as life:
            service = life.member.service
            assert (service.member_id, service.cluster_id) == first
            assert value_at(life, b"a") == b"1"
            assert service.cluster_version == "3.5.0"
            assert [member.name for member in service.members()] == ["renamed"]

    in_loop(scenario())


def test_who_has_not_started_takes_no_part(tmp_path: Path) -> None:
    """Others may be heard while a member still compares its data with theirs: it must not vote meanwhile."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            await life.until(lambda: life.member.service.leader, "a leader")
        member = Running(config_of(tmp_path), RealDisk(), None).member
        driver = member.driver
        driver.links = links = Letters()
        term = driver.node.raft.term
        driver.step([Message(MessageType.VOTE, member.service.member_id, 7, term=term + 5, index=99, log_term=term)])
        await asyncio.sleep(0.05)
        assert links.sent == []
        assert driver.hard_state.term == term

        driver.drain()
        assert [(message.type, message.to, message.term) for message in links.sent] == [
            (MessageType.VOTE_RESP, 7, term + 5)
        ]
        assert driver.hard_state.term == term + 5
        await member.stop()

    in_loop(scenario())


def test_ten_thousand_puts_in_one_turn(tmp_path: Path) -> None:
    """One batch, one save; answered in order, each with its own revision."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            calls = [put(life, b"k%d" % (number % 100), b"%d" % number) for number in range(10_000)]
            assert all(call.status is None for call in calls)
            await life.until(lambda: all(call.status for call in calls))
            revisions = [rpc.PutResponse.FromString(call.messages[0]).header.revision for call in calls]
            assert revisions == list(range(2, 10_002))
            assert life.member.applier.counts.puts == 10_000
        async with running(tmp_path) as life:
            assert life.member.store.current_revision == 10_001
            assert value_at(life, b"k99") == b"9999"

    in_loop(scenario())


def test_a_full_db_raises_the_alarm_once_the_log_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, quota_backend_bytes=100_000) as life:
            member = life.member
            for number in range(100):
                call = await life.answer(put(life, b"k", bytes(5_000)))
                if call.status != (0, ""):
                    break
                if number % 5 == 0:
                    member.booted.backend.commit()
            assert call.status == (8, "etcdserver: mvcc: database space exceeded")
            assert member.alarms.nospace  # raised before the refusal was told
            refused = await life.answer(ask(life, "txn", rpc.TxnRequest(success=[put_op()])))
            assert refused.status == (8, "etcdserver: mvcc: database space exceeded")
        async with running(tmp_path, quota_backend_bytes=100_000) as life:
            assert life.member.alarms.nospace
            service = life.member.service
            revision = life.member.store.current_revision
            request = rpc.CompactionRequest(revision=revision, physical=True)
            call = await life.answer(ask(life, "compact", request))
            assert rpc.CompactionResponse.FromString(call.messages[0]).header.revision == revision
            done: list[bool] = []
            service.defragment(lambda: done.append(True), lambda text: None)
            await life.until(lambda: done)
            assert life.member.booted.backend.size < 60_000
            off = rpc.AlarmRequest(action=2, memberID=service.member_id, alarm=1)  # type: ignore[arg-type]
            await life.answer(ask(life, "alarm", off))
            assert (await life.answer(put(life, b"k", b"1"))).status == (0, "")

    in_loop(scenario())


def put_op() -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", value=bytes(100)))


def test_leases_run_out_through_the_log(tmp_path: Path) -> None:
    """Many at once, more than are revoked at a time; who renewed in time stays."""

    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            service = life.member.service
            calls = []
            for lease_id in range(1, 101):
                call = new_call()
                service.lease_grant(call.given, rpc.LeaseGrantRequest(ID=lease_id, TTL=10))
                calls.append(call)
            await life.until(lambda: all(call.status for call in calls))
            for lease_id in range(1, 101):
                request = rpc.PutRequest(key=b"k%03d" % lease_id, value=b"1", lease=lease_id)
                calls.append(ask(life, "put", request))
            await life.until(lambda: all(call.status for call in calls))
            clock.now += 5
            service.lessor.renew(7, clock.now)
            clock.now += 6
            await life.until(lambda: len(service.lessor) == 1, "the end of the leases")
            assert [kv_pb2.KeyValue.FromString(kv).key for kv in service.store.range(b"k", b"l").kvs] == [b"k007"]
            assert life.member.lease_expiry.expired_total == 99

    in_loop(scenario())


def test_leases_begin_anew_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with running(tmp_path, clock=clock) as life:
            call = new_call()
            life.member.service.lease_grant(call.given, rpc.LeaseGrantRequest(ID=7, TTL=50))
            await life.answer(call)
            clock.now += 45
        async with running(tmp_path, clock=clock, election_timeout_ms=1000, heartbeat_interval_ms=100) as life:
            # The whole time again, and an election's time for clients to find the new leader.
            assert life.member.lessor.remaining(7, clock.now) == 51

    in_loop(scenario())


def test_generated_lease_ids_are_positive_and_distinct(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            found = set()
            for _ in range(20):
                call = new_call()
                life.member.service.lease_grant(call.given, rpc.LeaseGrantRequest(TTL=50))
                answer = rpc.LeaseGrantResponse.FromString((await life.answer(call)).messages[0])
                found.add(answer.ID)
            assert len(found) == 20
            assert min(found) > 0

    in_loop(scenario())


# What goes into the log


def test_a_field_of_another_type_does_not_reach_the_log(tmp_path: Path) -> None:
    """Here it counts as unknown; etcd would not read the entry at all, and members would differ."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            raw = b"\x0a\x01a\x12\x01b\x1a\x01x"  # lease as bytes
            await life.answer(ask(life, "put", rpc.PutRequest.FromString(raw)))
            log = life.member.booted.log_storage
            entry = log.entries(log.last_index(), log.last_index() + 1)[0]
            assert b"\x22\x06\x0a\x01a\x12\x01b" in entry.data
            assert b"\x1a" not in entry.data

    in_loop(scenario())


def nested(depth: int) -> rpc.TxnRequest:
    """A put within so many txns within a txn. Made of bytes: protobuf copies no deeper than it reads."""
    raw = rpc.TxnRequest(success=[put_op()]).SerializeToString()
    for _ in range(depth):
        operation = b"\x22" + uvarint(len(raw)) + raw
        raw = b"\x12" + uvarint(len(operation)) + operation
    return rpc.TxnRequest.FromString(raw)


def test_the_deepest_txn_that_is_let_in_is_read_again_by_a_restart(tmp_path: Path) -> None:
    """One that is not would be in the log, and in the way of every start."""
    with pytest.raises(InternalError):
        check_txn(nested(NESTED_MAX + 1), 128)
    check_txn(nested(NESTED_MAX), 128)

    async def scenario() -> None:
        async with running(tmp_path) as life:
            call = await life.answer(ask(life, "txn", nested(NESTED_MAX)))
            assert call.status == (0, "")
        db = Backend.open(RealDisk(), str(tmp_path / "data/member/snap/db"))
        schema.write_consistent_index(db, 1, 1)  # so that the entry is applied again
        for key, _ in db.scan(schema.KEY, b"", None):
            db.delete(schema.KEY, key)
        db.close()
        async with running(tmp_path) as life:
            assert value_at(life, b"a") is not None

    in_loop(scenario())


# Snapshots


def test_the_log_is_cut_short_and_old_files_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        fields: dict[str, Any] = {
            "snapshot_count": 20,
            "snapshot_catchup_entries": 5,
            "max_snapshots": 2,
            "max_wals": 2,
        }
        async with running(tmp_path, **fields) as life:
            member = life.member
            snap, wal = tmp_path / "data/member/snap", tmp_path / "data/member/wal"
            for number in range(150):
                await life.answer(put(life, b"k%d" % number, bytes(2_000)))
            await life.until(lambda: len(list(snap.glob("*.snap"))) >= 5, "snapshots")
            await life.until(lambda: member.booted.log_storage.first_index() > 100, "the cut of the log")
            await life.until(lambda: member.snapshots.is_idle, "the end of the last one")
            assert len(list(wal.glob("*.wal"))) > 3
            member.snapshots.purge()
            assert len(list(snap.glob("*.snap"))) == 2
            # One may still be held, because the snapshot lies in it.
            assert len(list(wal.glob("*.wal"))) <= 3
        newest = sorted(path.name for path in snap.glob("*.snap"))[-1]
        async with running(tmp_path, **fields) as life:
            assert life.member.booted.snapshot_index == int(newest[17:33], 16)
            assert life.member.store.current_revision == 151
            assert value_at(life, b"k0") == bytes(2_000)

    in_loop(scenario())
    assert PURGE_INTERVAL_S == 30.0


def test_no_limit_keeps_all_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, snapshot_count=3, max_snapshots=0, max_wals=0) as life:
            for number in range(40):
                await life.answer(put(life, b"k%d" % number, b"1"))
            snap = tmp_path / "data/member/snap"
            await life.until(lambda: len(list(snap.glob("*.snap"))) >= 8, "snapshots")
            life.member.snapshots.purge()
            assert len(list(snap.glob("*.snap"))) >= 8

    in_loop(scenario())


def test_the_db_is_never_behind_the_snapshot(tmp_path: Path) -> None:
    """What a restart would find after each put: the db holds at least what the newest recorded snapshot stands for."""

    async def scenario() -> None:
        disk = MappingDisk()
        disk.makedirs("/d")
        async with running("/d", disk=disk, snapshot_count=4, backend_batch_interval_s=3600.0) as life:
            for number in range(30):
                await life.answer(put(life, b"k%d" % number, b"1"))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                seen.append(disk.restart(random.Random(number)))

    seen: list[MappingDisk] = []
    in_loop(scenario())

    async def look(disk: MappingDisk, number: int) -> None:
        async with running("/d", disk=disk) as life:
            assert all(value_at(life, b"k%d" % key) == b"1" for key in range(number + 1))

    for number, disk in enumerate(seen):
        in_loop(look(disk, number))


# The end


def test_stopping_answers_everybody_and_lets_go_of_all_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            first = await life.answer(put(life, b"a", b"1"))
            last = put(life, b"b", b"1")
            await life.member.stop()
            assert first.status == (0, "")
            assert last.status == (14, "etcdserver: server stopped")
            await life.member.stop()
        # The files are free again, in the same process.
        async with running(tmp_path) as life:
            assert value_at(life, b"a") == b"1"
            assert value_at(life, b"b") is None

    in_loop(scenario())


def test_an_abandoned_member_answers_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        life = Running(config_of(tmp_path), MappingDisk(), None)
        life.start()
        await life.until(lambda: life.ready)
        call = put(life, b"a", b"1")
        await life.member.abandon()
        for _ in range(20):
            await asyncio.sleep(0)
        assert call.status is None
        with pytest.raises(Exception, match="server stopped"):
            put(life, b"b", b"1")

    in_loop(scenario())


def test_a_member_that_cannot_be_joined_lets_go_of_its_files(tmp_path: Path) -> None:
    """Rows that cannot be read are found when the rooms take them in."""
    db = tmp_path / "data/member/snap/db"

    async def scenario() -> None:
        async with running(tmp_path) as life:
            life.member.booted.backend.put(schema.ALARM, b"\xff\xff", b"")
        with pytest.raises(StorageError, match="bucket alarm"):
            Running(config_of(tmp_path), RealDisk(), None)
        backend = Backend.open(RealDisk(), str(db))
        backend.delete(schema.ALARM, b"\xff\xff")
        backend.close()
        async with running(tmp_path) as life:
            assert life.ready

    in_loop(scenario())
