"""A range of very many keys is answered bit by bit, as of when it was asked for, and others have their turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.config.form import is_compiled
from balsad.mvcc import RangeJob
from balsad.proto import rpc_pb2 as rpc
from balsad.server.long_ranges import LongRanges
from balsad.server.ranges import LargeAnswers, answer_range
from tests.unit.server.server_kit import FakeCall, Running, in_loop, new_call, running

KEYS = 700
SLICE = 64

ASKED = [
    rpc.RangeRequest(key=b"k", range_end=b"l"),
    rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=400),
    rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=400, count_only=True),
    rpc.RangeRequest(key=b"k", range_end=b"l", limit=300),
    rpc.RangeRequest(key=b"k", range_end=b"l", limit=300, revision=500),
    rpc.RangeRequest(key=b"k", range_end=b"l", keys_only=True),
    rpc.RangeRequest(key=b"k", range_end=b"l", limit=5, sort_order=2, sort_target=4),
    rpc.RangeRequest(key=b"k", range_end=b"l", limit=333, sort_order=1, sort_target=4),
    rpc.RangeRequest(key=b"k", range_end=b"l", sort_order=2, sort_target=4),
    rpc.RangeRequest(key=b"k", range_end=b"l", sort_order=2, sort_target=3, keys_only=True),
    rpc.RangeRequest(key=b"k", range_end=b"l", sort_order=2, sort_target=0, limit=400),
    rpc.RangeRequest(key=b"k", range_end=b"l", sort_target=2),
    rpc.RangeRequest(key=b"k", range_end=b"l", sort_order=1, sort_target=3, min_create_revision=690),
    rpc.RangeRequest(key=b"k", range_end=b"l", min_mod_revision=300, max_mod_revision=650, serializable=True),
]


async def filled(life: Running) -> None:
    for number in range(KEYS):
        call = new_call()
        key = b"k%03d" % (number * 11 % KEYS)
        life.member.service.put(call.given, rpc.PutRequest(key=key, value=b"%d" % (number % 13)))
        await life.answer(call)


async def write(life: Running) -> None:
    for request in (
        rpc.DeleteRangeRequest(key=b"k100", range_end=b"k500"),
        rpc.PutRequest(key=b"k300", value=b"new"),
        rpc.PutRequest(key=b"k999", value=b"new"),
    ):
        call = new_call()
        what = "put" if isinstance(request, rpc.PutRequest) else "delete_range"
        getattr(life.member.service, what)(call.given, request)
        await life.answer(call)


def test_long_ranges_take_turns_and_say_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            await filled(life)
            service = life.member.service
            api = KvApi(service, Door(service))
            api._long.keys_min = 100
            api._long.at_once = SLICE
            # Nothing is told from what changed a moment ago.
            monkeypatch.setattr("balsad.mvcc.changed_since.KEYS_MAX", -1)
            steps: list[int] = []
            step = RangeJob.step

            def counted(job: RangeJob, count: int) -> bool:
                steps.append(turns)
                assert count <= 4 * SLICE
                return step(job, count)

            monkeypatch.setattr(RangeJob, "step", counted)
            turns = 0
            calls: list[tuple[Any, bytes]] = []
            # Compiled, the table of changes cannot be told to remember nothing.
            asked = [request for request in ASKED if api._long.is_long(request)]
            assert len(asked) >= len(ASKED) - 2 * is_compiled()
            for request in asked:
                wanted = answer_range(service.store, request, service.header.at)
                for _ in range(2):  # the second joins the first
                    call = new_call()
                    api.range(call.given, request.SerializeToString())
                    assert call.status is None
                    calls.append((call, wanted))
            writing = asyncio.ensure_future(write(life))
            while any(call.status is None for call, _ in calls):
                turns += 1
                assert turns < 10_000
                await asyncio.sleep(0)
            await writing
            for (call, wanted), request in zip(calls[::2], asked, strict=True):
                assert call.messages == [wanted], request
            for call, wanted in calls:
                assert call.messages == [wanted]
            assert len(set(steps)) == len(steps), "two slices in one turn of the loop"
            assert len(steps) >= (len(asked) - 3) * KEYS // SLICE
            assert service.store.range_jobs == []
            # Now that it has changed, the same bytes are answered anew.
            call = new_call()
            api.range(call.given, ASKED[0].SerializeToString())
            await life.answer(call)
            answer = rpc.RangeResponse.FromString(call.messages[0])
            assert answer.count == KEYS - 400 + 2

    in_loop(scenario())


def test_short_ranges_and_known_counts_are_answered_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await filled(life)
            service = life.member.service
            api = KvApi(service, Door(service))
            api._long.keys_min = 100
            for request in (
                rpc.RangeRequest(key=b"k000"),
                rpc.RangeRequest(key=b"k000", range_end=b"k050"),
                rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True),
                rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=50),
                rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=50, revision=service.store.current_revision - 9),
                rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True, revision=300),
            ):
                wanted = answer_range(service.store, request, service.header.at)
                call = new_call()
                api.range(call.given, request.SerializeToString())
                assert call.messages == [wanted], request
                assert call.status is not None and call.status[0] == 0
            for revision, word in ((10_000, "future"), (1, "")):
                call = new_call()
                request = rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
                api.range(call.given, request.SerializeToString())
                await life.answer(call)
                assert word in call.status[1]

    in_loop(scenario())


def test_a_range_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            await filled(life)
            service = life.member.service
            large = LargeAnswers(service.store, service.header)
            long = LongRanges(service.store, service.header, large, flush=lambda: None)
            long.at_once = SLICE
            call = FakeCall()
            long.begin(cast(Any, call), ASKED[0].SerializeToString(), ASKED[0])
            await asyncio.sleep(0)
            assert len(service.store.range_jobs) == 1
            call.closed = True
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert service.store.range_jobs == []
            assert call.answers == 0

    in_loop(scenario())
