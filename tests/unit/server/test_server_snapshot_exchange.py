"""A leader's snapshot is taken in bit by bit: others are served meanwhile, and what comes in between is survived."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from balsad.mvcc import WatchBatch
from balsad.observe.logs import _fields
from balsad.proto import rpc_pb2 as rpc
from balsad.raft import ConfState, Message, MessageType, Snapshot
from balsad.server.disposal import AT_ONCE, Disposal
from balsad.server.snapshot_preparation import Preparation
from balsad.storage import Snapshotter
from balsad.v2store import save
from tests.unit.server.server_kit import Running, in_loop, new_call, running

KEYS = 400
SLICE = 20
LEADER = 77
LEASE = 7


class Brought:
    """What a leader sends: the state of a member with many keys, as if it were far ahead."""

    def __init__(self, life: Running) -> None:
        backend = life.member.booted.backend
        backend.commit()
        pinned = backend.committed_snapshot()
        self.db = pinned.read(0, pinned.size)
        pinned.close()
        self.tree = save(life.member.booted.tree)
        self.member_id = life.member.service.member_id
        self.store = store = life.member.store
        self.kvs = {
            revision: store.range(b"", b"\0", revision=revision).kvs
            for revision in (KEYS // 2, store.current_revision - 1, store.current_revision)
        }

    def message(self, index: int = 1000, *, term: int = 9) -> Message:
        state = ConfState(voters=(self.member_id,))
        snapshot = Snapshot(index, term, state, self.tree)
        return Message(MessageType.SNAP, self.member_id, LEADER, term=term, snapshot=snapshot)


async def ask(life: Running, what: str, request: Any) -> Any:
    call = new_call()
    getattr(life.member.service, what)(call.given, request)
    return await life.answer(call)


async def leader_state(folder: Path, **fields: Any) -> Brought:
    async with running(folder, backend_batch_interval_s=3600.0, **fields) as life:
        await ask(life, "lease_grant", rpc.LeaseGrantRequest(ID=LEASE, TTL=1000))
        for number in range(KEYS):
            lease = LEASE if number % 3 == 0 else 0
            await ask(life, "put", rpc.PutRequest(key=b"k%03d" % (number * 7 % KEYS), value=b"new", lease=lease))
        await ask(life, "delete_range", rpc.DeleteRangeRequest(key=b"k010", range_end=b"k020"))
        await ask(life, "put", rpc.PutRequest(key=b"k015", value=b"again"))
        for number in range(KEYS // 4):
            life.member.booted.tree.set(f"/1/folder{number % 5}/{number}", value="v")
        return Brought(life)


@asynccontextmanager
async def follower(tmp_path: Path, **fields: Any) -> AsyncIterator[tuple[Running, Brought]]:
    brought = await leader_state(tmp_path / "leader")
    async with running(tmp_path / "follower", **fields) as life:
        life.member.exchange.at_once = SLICE
        await ask(life, "put", rpc.PutRequest(key=b"old", value=b"old"))
        yield life, brought


def receive(life: Running, brought: Brought, message: Message, db: bytes | None = None) -> list[str]:
    assert message.snapshot is not None
    snapshotter: Snapshotter = life.member.booted.snapshotter
    snapshotter.save_db(message.snapshot.index, [brought.db if db is None else db])
    answers: list[str] = []
    life.member.exchange.receive(message, answers.append)
    return answers


def has_old(life: Running) -> bool:
    return life.member.store.range(b"old").count == 1


def check_installed(life: Running, brought: Brought) -> None:
    store, before = life.member.store, brought.store
    assert store.current_revision == before.current_revision
    for revision, kvs in brought.kvs.items():
        assert store.range(b"", b"\0", revision=revision).kvs == kvs
    assert store.index.live == before.index.live
    assert store.index.history == before.index.history
    assert store.index.dead == before.index.dead
    mine, theirs = life.member.lessor, cast(Any, before.leases)
    assert mine.lease_by_key == theirs.lease_by_key
    assert {lease.id: lease.keys for lease in mine.leases()} == {lease.id: lease.keys for lease in theirs.leases()}
    assert save(life.member.booted.tree).startswith(brought.tree[: brought.tree.index(b'"WatcherHub"')])
    assert life.member.applier.applied_index >= 1000
    assert life.failures == []


def test_a_snapshot_is_taken_in_in_slices_while_the_old_state_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with follower(tmp_path) as (life, brought):
            steps: list[tuple[int, int, int]] = []
            step = Preparation.step

            def counted(prepared: Preparation, count: int) -> bool:
                def size() -> int:
                    index = prepared.store.index
                    return sum(map(len, (index.live, index.history, index.dead, prepared.leases.lease_by_key)))

                before = size()
                ended = step(prepared, count)
                steps.append((turns, count, size() - before))
                return ended

            monkeypatch.setattr(Preparation, "step", counted)
            progress = life.member.metrics.snapshot_apply_in_progress
            told: list[int] = []

            def tell(_watch_id: int, batch: WatchBatch) -> bool:
                told.append(batch.revision)
                return True

            stream = life.member.store.watchers.open(tell)
            stream.watch(b"k", b"l", 0)
            turns = 0
            answers = receive(life, brought, brought.message())
            while life.member.applier.applied_index < 1000:
                assert has_old(life)
                assert progress.value == 1
                if not answers:
                    # Raft knows of nothing yet: it is still the leader.
                    assert life.member.driver.node.incoming_snapshot is None
                turns += 1
                await asyncio.sleep(0)
            assert answers == [""]
            assert progress.value == 0
            assert not has_old(life)
            check_installed(life, brought)
            assert len({turn for turn, _, _ in steps}) == len(steps), "two slices in one turn of the loop"
            # Rows go by the page, keys with a lease and nodes one by one.
            assert len(steps) >= KEYS // 100 + (KEYS // 3 + KEYS // 4) // SLICE
            # Of keys, and then of rows of one more page; a row may make an entry in three places.
            assert max(grown for _, _, grown in steps) <= 3 * (SLICE + 4096 // 40)
            await life.until(lambda: told and told[-1] == brought.store.current_revision, "the watcher's events")
            await life.until(lambda: life.member.driver.is_leader, "to lead again")
            assert (await ask(life, "put", rpc.PutRequest(key=b"after", value=b"1"))).status == (0, "")
            # The lease that came with it takes its keys along.
            await ask(life, "lease_revoke", rpc.LeaseRevokeRequest(ID=LEASE))
            assert life.member.store.range(b"k000").count == 0

        async with running(tmp_path / "follower") as again:
            assert again.member.store.range(b"after").count == 1

    in_loop(scenario())


def test_of_two_snapshots_the_later_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with follower(tmp_path) as (life, brought):
            first = receive(life, brought, brought.message(1000))
            await asyncio.sleep(0)
            second = receive(life, brought, brought.message(1001))
            assert first == ["a later snapshot came"]
            third = receive(life, brought, brought.message(1000))
            assert third == ["a later snapshot is being applied"]
            # The very one again, from a leader whose connection broke.
            await asyncio.sleep(0)
            fourth = receive(life, brought, brought.message(1001))
            assert second == ["a later snapshot came"]
            await life.until(lambda: fourth, "the answer")
            assert fourth == [""]
            # What is behind is told so by raft, without any preparation.
            assert receive(life, brought, brought.message(999)) == [""]
            await life.until(lambda: life.member.applier.applied_index >= 1001, "the installation")
            check_installed(life, brought)

    in_loop(scenario())


def test_a_version_that_comes_with_a_snapshot_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who joins a cluster from a snapshot alone has no entry that sets it. Source: etcd applySnapshot."""

    async def scenario() -> None:
        async with follower(tmp_path) as (life, brought):
            cluster = life.member.booted.cluster
            told: list[list[Any]] = []
            # Of one that has joined, nothing is known before; then the same comes once more.
            cluster.version = None
            for index in (1000, 1001):
                caplog.clear()
                receive(life, brought, brought.message(index))
                await life.until(lambda index=index: life.member.applier.applied_index >= index, "it")  # type: ignore[misc]
                assert cluster.version is not None
                lines = [one for one in caplog.records if one.message == "enabled capabilities for version"]
                told.append([_fields(line)["cluster-version"] for line in lines])
            assert told == [["3.5"], []]

    with caplog.at_level(logging.INFO):
        in_loop(scenario())


def test_a_snapshot_that_raft_does_not_want_is_let_go(tmp_path: Path) -> None:
    """A leader with an older term sent it."""

    async def scenario() -> None:
        async with follower(tmp_path) as (life, brought):
            answers = receive(life, brought, brought.message(1000, term=1))
            await life.until(lambda: answers, "the answer")
            assert answers == [""]
            assert has_old(life)
            assert life.member.metrics.snapshot_apply_in_progress.value == 0
            # And its file is free for the next.
            answers = receive(life, brought, brought.message(1000))
            await life.until(lambda: life.member.applier.applied_index >= 1000, "the installation")
            check_installed(life, brought)

    in_loop(scenario())


@pytest.mark.parametrize("what", ["page", "tree", "empty"])
def test_a_broken_snapshot_is_refused_and_the_next_one_taken(tmp_path: Path, what: str) -> None:
    async def scenario() -> None:
        async with follower(tmp_path) as (life, brought):
            message = brought.message()
            db = brought.db
            if what == "tree":
                assert message.snapshot is not None
                message.snapshot.data = brought.tree[:-100]
            elif what == "page":
                # All but the metas and what they lead to first is gone.
                db = db[: 4 * 4096] + bytes(len(db) - 4 * 4096)
            else:
                db = bytes(4096)
            answers = receive(life, brought, message, db)
            await life.until(lambda: answers, "the answer")
            assert answers[0]
            assert has_old(life)
            assert life.failures == []
            assert life.member.metrics.snapshot_apply_in_progress.value == 0
            assert (await ask(life, "put", rpc.PutRequest(key=b"x", value=b"1"))).status == (0, "")

            answers = receive(life, brought, brought.message())
            await life.until(lambda: life.member.applier.applied_index >= 1000, "the installation")
            check_installed(life, brought)

    in_loop(scenario())


@pytest.mark.parametrize("how", ["stop", "power cut"])
def test_who_goes_while_a_snapshot_is_taken_in_comes_back_as_before(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        brought = await leader_state(tmp_path / "leader")
        async with running(tmp_path / "follower") as life:
            life.member.exchange.at_once = SLICE
            await ask(life, "put", rpc.PutRequest(key=b"old", value=b"old"))
            answers = receive(life, brought, brought.message())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if how == "power cut":
                life.vanish()
        assert answers == ["etcdserver: server stopped"]
        async with running(tmp_path / "follower") as again:
            assert has_old(again)
            again.member.exchange.at_once = SLICE
            answers = receive(again, brought, brought.message())
            await again.until(lambda: again.member.applier.applied_index >= 1000, "the installation")
            check_installed(again, brought)

    in_loop(scenario())


def test_what_is_of_no_use_any_more_goes_bit_by_bit(tmp_path: Path) -> None:
    async def scenario() -> None:
        brought = await leader_state(tmp_path / "leader")
        index, cache = brought.store.index, brought.store.cache
        held = len(index.live) + len(cache.kvs)
        disposal = Disposal()
        sizes: list[int] = []

        class Counted:
            def __init__(self, thing: Any) -> None:
                self.thing = thing

            def shed(self, count: int) -> int:
                assert count == AT_ONCE
                shed: int = self.thing.shed(SLICE)
                sizes.append(shed)
                return shed

        disposal.take(Counted(index), Counted(cache))
        while sizes[-1:] != [0] or sizes.count(0) < 2:
            await asyncio.sleep(0)
        assert not (index.live or index.history or index.dead or cache.kvs)
        assert not (index.live_sorted._sorted._lists or index.dead_sorted._sorted._lists)
        # The lists of keys are cut in a thousand each, and only let go of references.
        assert sorted(sizes)[-3] <= SLICE
        assert sum(sizes) >= held

    in_loop(scenario())
