"""A write of very many keys is applied in slices: others are served meanwhile, and nobody sees a part of it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.errors import RequestError
from balsad.membership import Member
from balsad.mvcc.event import WatchBatch
from balsad.proto import rpc_pb2 as rpc
from balsad.v2store import Request, encode_request
from tests.unit.server.server_kit import Running, in_loop, new_call, running

KEYS = 600
SLICE = 100
LEASE = 77
ALL = rpc.RangeRequest(key=b"k", range_end=b"l", count_only=True, serializable=True)


def delete(**fields: Any) -> tuple[str, Any]:
    return "delete_range", rpc.DeleteRangeRequest(key=b"k", range_end=b"l", **fields)


REVOKE = "lease_revoke", rpc.LeaseRevokeRequest(ID=LEASE)


async def fill(life: Running) -> None:
    writes = life.member.applier.long_writes
    writes.keys_min, writes.at_once = KEYS // 2, SLICE
    await ask(life, "lease_grant", rpc.LeaseGrantRequest(ID=LEASE, TTL=1000))
    for number in range(KEYS):
        await ask(life, "put", rpc.PutRequest(key=b"k%03d" % number, value=b"v%d" % number, lease=LEASE))


def propose(life: Running, field: str, request: Any) -> list[Any]:
    answers: list[Any] = []
    life.member.service.propose(field, request, answers.append)
    return answers


async def ask(life: Running, field: str, request: Any) -> Any:
    answers = propose(life, field, request)
    await life.until(lambda: answers)
    assert not isinstance(answers[0], RequestError)
    return answers[0]


def lives(life: Running) -> int:
    """How many keys a serializable reader counts now."""
    store = life.member.store
    return store.range(ALL.key, ALL.range_end, count_only=True).count


@pytest.mark.parametrize(
    "request_", [delete(), delete(prev_kv=True), REVOKE], ids=["delete", "with-previous", "revoke"]
)
def test_nobody_sees_a_part_of_it(tmp_path: Path, request_: tuple[str, Any]) -> None:
    field, request = request_

    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            await fill(life)
            member = life.member
            store = member.store
            before = store.current_revision
            index = member.applier.applied_index
            heard: list[WatchBatch] = []

            def sink(watch_id: int, batch: WatchBatch) -> bool:
                heard.append(batch)
                return True

            store.watchers.open(sink).watch(b"k", b"l", 0)
            answers = propose(life, field, request)
            behind = propose(life, "put", rpc.PutRequest(key=b"k000", value=b"new"))
            counts: list[int] = []
            while not member.applier.is_long:
                await asyncio.sleep(0)
            while member.applier.is_long:
                assert not (answers or behind or heard or life.failures)
                assert (member.applier.applied_index, store.current_revision) == (index, before)
                kv = store.get(b"k000")
                assert kv is not None and kv == store.get_at(b"k000", before)
                assert [store.get(b"k%03d" % number) is not None for number in (0, 99, 100, 599)] == [True] * 4
                assert len(store.range(b"k", b"l", limit=250).kvs) == 250
                counts.append(lives(life))
                member.booted.backend.commit()
                await asyncio.sleep(0)
            assert len(counts) >= KEYS // SLICE and set(counts) == {KEYS}
            assert answers and behind
            assert store.current_revision == before + 2
            assert lives(life) == 1 and store.range(b"k", b"l", revision=before + 1).count == 0
            assert [len(batch.events) for batch in heard] == [KEYS, 1]
            if field == "delete_range":
                answer = rpc.DeleteRangeResponse.FromString(answers[0])
                assert answer.deleted == KEYS and answer.header.revision == before + 1
                wanted = [b"v%d" % number for number in range(KEYS)] if request.prev_kv else []
                assert [kv.value for kv in answer.prev_kvs] == wanted
            else:
                assert member.lessor.lookup(LEASE) is None
            assert not member.lessor.lease_by_key

    in_loop(scenario())


@pytest.mark.parametrize("request_", [delete(), REVOKE], ids=["delete", "revoke"])
def test_killed_in_the_midst_it_was_not_there_and_is_done_anew(tmp_path: Path, request_: tuple[str, Any]) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "a", backend_batch_interval_s=3600.0) as life:
            await fill(life)
            propose(life, *request_)
            while not life.member.applier.is_long:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert life.member.applier.is_long
            # The db as it is when another commit takes all it can find.
            life.member.booted.backend.commit()
            shutil.copytree(tmp_path / "a", tmp_path / "b")
        async with running(tmp_path / "b") as again:
            await again.until(lambda: not again.member.applier.is_long)
            assert lives(again) == 0
            assert again.member.store.range(b"k", b"l", revision=KEYS + 1).count == KEYS
            assert again.member.store.current_revision == KEYS + 2
            assert (again.member.lessor.lookup(LEASE) is None) == (request_ == REVOKE)
            assert not again.member.lessor.lease_by_key

    in_loop(scenario())


def test_members_that_come_or_go_do_not_wait_behind_it(tmp_path: Path) -> None:
    """Raft takes for applied what waits: of a change of members it must be so."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            await fill(life)
            life.member.driver.steps.pause_s = 3600.0
            answers = propose(life, *delete())
            await life.until(lambda: life.member.applier.is_long)
            added: list[Any] = []
            life.member.service.member_changes.add(
                Member(id=7, peer_urls=("http://127.0.0.1:2",), is_learner=True), added.append
            )
            await life.until(lambda: added)
            assert added == [None] and answers and not life.member.applier.is_long

    in_loop(scenario())


def test_raft_goes_on_and_stopping_refuses_who_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await fill(life)
            life.member.driver.steps.pause_s = 3600.0
            answers = propose(life, *delete())
            await life.until(lambda: life.member.applier.is_long)
            behind = propose(life, "put", rpc.PutRequest(key=b"x"))
            committed = life.member.driver.committed_index
            await life.until(lambda: life.member.driver.committed_index > committed)
            assert lives(life) == KEYS
        assert [type(answer).__name__ for answer in answers + behind] == ["StoppedError"] * 2

    in_loop(scenario())


def test_a_long_range_asked_for_meanwhile_says_what_was_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await fill(life)
            api = KvApi(life.member.service, Door(life.member.service))
            api._long.keys_min = 100
            life.member.driver.steps.pause_s = 0.05
            propose(life, *delete())
            await life.until(lambda: life.member.store.is_apart)
            calls: list[tuple[Any, int]] = []
            for limit in (0, 250):
                request = rpc.RangeRequest(key=b"k", range_end=b"l", limit=limit, serializable=True)
                assert api._long.is_long(request)
                call = new_call()
                api.range(call.given, request.SerializeToString())
                calls.append((call, limit or KEYS))
            await life.until(lambda: not life.member.applier.is_long)
            for call, number in calls:
                await life.answer(call)
                found = rpc.RangeResponse.FromString(call.messages[0])
                assert (found.count, len(found.kvs), found.header.revision) == (KEYS, number, KEYS + 1)

    in_loop(scenario())


def test_very_many_v2_keys_expire_in_slices_and_what_comes_behind_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            member = life.member
            tree = member.v2.tree
            member.applier.cluster.expired_at_once = 50
            for number in range(220):
                tree.set(f"/1/k{number:03d}", value="x", expires_ns=2_000_000_000_000_000_000 + number // 2)
            before = tree.current_index
            index = member.applier.applied_index
            sync = Request(id=member.service.next_id(), method="SYNC", time=2_000_000_000_000_000_000 + 100)
            member.service.propose_raw(encode_request(sync), sync.id, lambda _: None)
            behind = propose(life, "put", rpc.PutRequest(key=b"x"))
            while not member.applier.is_long:
                await asyncio.sleep(0)
            gone: list[int] = []
            while member.applier.is_long:
                assert (member.applier.applied_index, behind) == (index, [])
                gone.append(tree.current_index - before)
                await asyncio.sleep(0)
            assert sorted(set(gone)) == [50, 100, 150, 200]
            await life.until(lambda: behind)
            assert tree.current_index - before == 202 and member.applier.applied_index == index + 2
            assert tree.get("/1").node.nodes is not None and len(tree.get("/1").node.nodes or ()) == 18

    in_loop(scenario())
