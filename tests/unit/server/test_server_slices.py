"""What takes long in a large member is done in slices, or in a thread: others are served meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from balsad.api.v3.door import Door
from balsad.api.v3.maintenance import MaintenanceApi
from balsad.config import load
from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2 as rpc
from balsad.storage.bolt import digest
from balsad.transport import Call
from tests.unit.server.server_kit import FakeCall, Running, in_loop, running

KEYS = 300


async def filled(life: Running) -> None:
    for number in range(KEYS):
        with_value = rpc.PutRequest(key=b"k%03d" % number, value=bytes(1000))
        call = FakeCall()
        life.member.service.put(cast(Any, call), with_value)
        await life.answer(call)


def test_the_hash_of_the_db_lets_others_have_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            await filled(life)
            backend = life.member.booted.backend
            steps: list[int] = []
            wanted = backend.hash()
            step = digest.ContentHashJob.step

            def counted(job: digest.ContentHashJob) -> bool:
                steps.append(turns)
                return step(job)

            monkeypatch.setattr(digest.ContentHashJob, "step", counted)
            monkeypatch.setattr(digest, "STEP_PAGES", 10)
            call = FakeCall()
            turns = 0
            MaintenanceApi(life.member.service, Door(life.member.service)).hash(cast(Call, call), b"")
            while call.status is None:
                turns += 1
                await asyncio.sleep(0)
            assert rpc.HashResponse.FromString(call.messages[0]).hash == wanted
            # At least five items of a thousand bytes are never on one page of four thousand.
            assert len(steps) >= KEYS // 5 // 10
            assert len(set(steps)) == len(steps), "two slices in one turn of the loop"
            assert backend.open_readers == 0

    in_loop(scenario())


def test_a_snapshot_begins_with_what_the_commit_left(tmp_path: Path) -> None:
    """Nothing is written in the turn in which it begins, however much came in during the commit."""

    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            backend = life.member.booted.backend
            call = FakeCall()
            stream = MaintenanceApi(life.member.service, Door(life.member.service)).snapshot(cast(Call, call))
            stream.on_message(b"")
            backend.put(b"key", b"meanwhile", b"1")
            await life.until(lambda: call.status, "the snapshot")
            assert b"".join(rpc.SnapshotResponse.FromString(part).blob for part in call.messages[:-1])
            assert backend.pending_ops == 1

    in_loop(scenario())


class _NotingDisk(RealDisk):
    """Knows which threads wrote, synced and removed what."""

    def __init__(self) -> None:
        self.threads: dict[str, set[int]] = {}

    def rename(self, old: str, new: str) -> None:  # type: ignore[override]
        self.threads.setdefault(Path(new).suffix, set()).add(threading.get_ident())
        RealDisk.rename(old, new)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        self.threads.setdefault("purge" + Path(path).suffix, set()).add(threading.get_ident())
        RealDisk.unlink(path)


def test_snapshot_files_are_written_and_removed_in_a_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _NotingDisk()
        fields: dict[str, Any] = {
            "snapshot_count": 20,
            "snapshot_catchup_entries": 5,
            "max_snapshots": 2,
            "max_wals": 2,
        }
        async with running(tmp_path, disk=disk, **fields) as life:
            await filled(life)
            snap, wal = tmp_path / "data/member/snap", tmp_path / "data/member/wal"
            await life.until(lambda: len(list(snap.glob("*.snap"))) >= 5, "snapshots")

            def is_purged() -> bool:
                life.member.snapshots.begin_purge()
                return len(list(snap.glob("*.snap"))) <= 2 and len(list(wal.glob("*.wal"))) <= 4

            await life.until(is_purged, "the purge")
        assert {".snap", "purge.snap", "purge.wal"} <= disk.threads.keys()
        for what in (".snap", "purge.snap", "purge.wal"):
            assert threading.get_ident() not in disk.threads[what], what

    in_loop(scenario())


def test_the_value_cache_is_as_large_as_one_says(tmp_path: Path) -> None:
    loaded = load(["--experimental-value-cache-bytes=5000"], {}, lambda: "host").config
    assert loaded is not None and loaded.value_cache_bytes == 5000

    async def scenario() -> None:
        async with running(tmp_path, value_cache_bytes=loaded.value_cache_bytes) as life:
            await filled(life)
            cache = life.member.store.cache
            assert 0 < cache.size <= cache.size_max == 5000
            assert sum(map(len, cache.kvs.values())) <= 5000
        async with running(tmp_path, value_cache_bytes=0) as life:
            call = FakeCall()
            life.member.service.put(cast(Any, call), rpc.PutRequest(key=b"a", value=bytes(10)))
            await life.answer(call)
            assert not life.member.store.cache.kvs
            assert life.member.store.get(b"k007") is not None
            assert not life.member.store.cache.kvs

    in_loop(scenario())
