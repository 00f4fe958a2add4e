"""A txn that reads very many keys is answered bit by bit, all of it as of one revision, and others have their turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.mvcc import RangeJob
from balsad.proto import rpc_pb2 as rpc
from balsad.server.apply import txn as txns
from tests.unit.server.server_kit import Running, in_loop, new_call, running
from tests.unit.server.test_server_long_ranges import KEYS, SLICE, filled, write


def ranged(**fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(**{"key": b"k", "range_end": b"l", **fields}))


EXISTS = rpc.Compare(key=b"k000", target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, version=0)
ASKED = [
    rpc.TxnRequest(success=[ranged(), ranged(key=b"k100", range_end=b""), ranged(key=b"k2")]),
    rpc.TxnRequest(success=[ranged(key=b"k%03d" % number, limit=20) for number in range(0, 690, 30)]),
    rpc.TxnRequest(success=[ranged(revision=400), ranged(sort_order=2, sort_target=4, limit=333), ranged()]),
    rpc.TxnRequest(compare=[EXISTS], success=[ranged(keys_only=True), ranged(count_only=True)]),
    rpc.TxnRequest(compare=[EXISTS], failure=[ranged()]),
    # A compare over a range: no plain txn.
    rpc.TxnRequest(
        compare=[
            rpc.Compare(key=b"k", range_end=b"l", target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=9)
        ],
        success=[ranged(limit=1)],
        failure=[ranged(), ranged(min_mod_revision=300, max_mod_revision=650)],
    ),
]


def api_of(life: Running) -> KvApi:
    service = life.member.service
    api = KvApi(service, Door(service))
    api._long.keys_min = 100
    api._long.at_once = SLICE
    return api


def test_it_is_as_if_done_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            await filled(life)
            service = life.member.service
            api = api_of(life)
            steps: list[int] = []
            turns = 0
            step = RangeJob.step

            def counted(job: RangeJob, count: int) -> bool:
                steps.append(turns)
                assert count <= 4 * SLICE
                return step(job, count)

            monkeypatch.setattr(RangeJob, "step", counted)
            calls: list[tuple[Any, bytes]] = []
            for request in ASKED:
                wanted = txns.read(service.store, request, service.header.at, service.applier.counts)
                call = new_call()
                api.txn(call.given, request.SerializeToString())
                assert call.status is None
                calls.append((call, wanted))
            writing = asyncio.ensure_future(write(life))
            while any(call.status is None for call, _ in calls):
                turns += 1
                assert turns < 10_000
                await asyncio.sleep(0)
            await writing
            for (call, wanted), request in zip(calls, ASKED, strict=True):
                assert call.messages == [wanted], request
            assert len(set(steps)) == len(steps), "two slices in one turn of the loop"
            assert len(steps) >= 6 * KEYS // SLICE
            assert service.store.range_jobs == []
            # The revision has moved on, for whoever asks now.
            call = new_call()
            api.txn(call.given, ASKED[0].SerializeToString())
            await life.answer(call)
            answer = rpc.TxnResponse.FromString(call.messages[0])
            assert answer.responses[0].response_range.count == KEYS - 400 + 2
            assert answer.header.revision == service.store.current_revision

    in_loop(scenario())


def test_what_a_compaction_would_take_away_is_read_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await filled(life)
            service = life.member.service
            api = api_of(life)
            request = ASKED[2]
            wanted = txns.read(service.store, request, service.header.at, service.applier.counts)
            call = new_call()
            api.txn(call.given, request.SerializeToString())
            await write(life)
            compacting = new_call()
            service.compact(compacting.given, rpc.CompactionRequest(revision=service.store.current_revision))
            await life.answer(compacting)
            await life.answer(call)
            assert call.messages == [wanted]
            assert service.store.range_jobs == []
            # And afterwards it is refused, at once.
            late = new_call()
            api.txn(late.given, request.SerializeToString())
            await life.answer(late)
            assert "compacted" in late.status[1]
            assert service.store.range_jobs == []

    in_loop(scenario())


def test_one_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await filled(life)
            api = api_of(life)
            call = new_call()
            api.txn(call.given, ASKED[0].SerializeToString())
            assert len(life.member.service.store.range_jobs) == 2
            call.closed = True
            for _ in range(5):
                await asyncio.sleep(0)
            assert life.member.service.store.range_jobs == []
            assert call.messages == []

    in_loop(scenario())


def test_short_ones_are_answered_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await filled(life)
            service = life.member.service
            api = api_of(life)
            for request in (
                rpc.TxnRequest(success=[ranged(key=b"k000", range_end=b"k050")]),
                rpc.TxnRequest(success=[ranged(count_only=True)] * 50),
                rpc.TxnRequest(success=[ranged(limit=8)] * 10, failure=[ranged(limit=8)] * 10),
            ):
                wanted = txns.read(service.store, request, service.header.at, service.applier.counts)
                call = new_call()
                api.txn(call.given, request.SerializeToString())
                assert call.messages == [wanted], request

    in_loop(scenario())
