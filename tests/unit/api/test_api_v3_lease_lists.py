"""Very many leases, and very many keys of one, are listed in slices, in the order in which few are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3 import lease_lists
from balsad.api.v3.door import Door
from balsad.api.v3.lease import LeaseApi
from balsad.merge_sort import MergeSort
from balsad.proto import rpc_pb2 as rpc
from tests.unit.server.server_kit import Running, in_loop, new_call, running

COUNT = 9000
AT_ONCE = lease_lists.AT_ONCE


async def with_leases(life: Running) -> LeaseApi:
    service = life.member.service
    for number in range(COUNT):
        service.lessor.grant(1 + number * 7919 % COUNT, ttl_s=100 + number % 50, now=0.0)
    for number in range(COUNT):
        service.lessor.attach(5, b"key%05d" % (number * 7919 % COUNT))
    return LeaseApi(service, Door(service))


async def in_slices(call: Any, sorted_at_once: list[int]) -> None:
    assert call.status is None
    turns = 0
    while call.status is None:
        turns += 1
        assert turns < 1000
        await asyncio.sleep(0)
    assert turns > 2 * COUNT // AT_ONCE
    assert sorted_at_once and max(sorted_at_once) == AT_ONCE


@pytest.fixture
def sorted_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    noted: list[int] = []
    step = MergeSort.step

    def counted(job: MergeSort[Any], count: int) -> bool:
        noted.append(count)
        return step(job, count)

    monkeypatch.setattr(MergeSort, "step", counted)
    return noted


def test_leases(tmp_path: Path, sorted_at_once: list[int]) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            api = await with_leases(life)
            call = new_call()
            api.leases(call.given, b"")
            revision = life.member.service.store.current_revision
            await in_slices(call, sorted_at_once)
            answer = rpc.LeaseLeasesResponse.FromString(call.messages[0])
            assert [lease.ID for lease in answer.leases] == [lease.id for lease in life.member.service.lessor.leases()]
            assert answer.header.revision == revision

    in_loop(scenario())


def test_keys_of_a_lease(tmp_path: Path, sorted_at_once: list[int]) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            api = await with_leases(life)
            call = new_call()
            api.time_to_live(call.given, rpc.LeaseTimeToLiveRequest(ID=5, keys=True).SerializeToString())
            # What happens before the answer is there does not change it.
            life.member.service.lessor.detach(5, b"key00001")
            await in_slices(call, sorted_at_once)
            answer = rpc.LeaseTimeToLiveResponse.FromString(call.messages[0])
            assert list(answer.keys) == [b"key%05d" % number for number in range(COUNT)]
            assert answer.ID == 5
            lease = life.member.service.lessor.lookup(5)
            assert lease is not None
            assert answer.grantedTTL == lease.ttl_s

            without = new_call()
            api.time_to_live(without.given, rpc.LeaseTimeToLiveRequest(ID=5).SerializeToString())
            assert not rpc.LeaseTimeToLiveResponse.FromString(without.messages[0]).keys

    in_loop(scenario())


def test_who_has_gone_is_not_worked_for(tmp_path: Path, sorted_at_once: list[int]) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as life:
            api = await with_leases(life)
            gone, there = new_call(), new_call()
            api.leases(gone.given, b"")
            api.leases(there.given, b"")
            gone.closed = True
            await in_slices(there, sorted_at_once)
            assert gone.messages == []
            assert len(rpc.LeaseLeasesResponse.FromString(there.messages[0]).leases) == COUNT

    in_loop(scenario())
