"""What takes long in a large member is done in slices, or in a thread: others are served meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balsad.api.v3.door import Door
from balsad.api.v3.maintenance import MaintenanceApi
from balsad.config import load
from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2 as rpc
from balsad.server import snapshots
from balsad.server.tree_saves import TreeSaves
from balsad.storage import DefragJob, defrag
from balsad.storage.bolt import digest
from balsad.storage.wal.sync_choice import SyncChoice
from balsad.v2store import SaveJob, save
from tests.unit.server.server_kit import Running, in_loop, new_call, running

KEYS = 300


async def filled(life: Running) -> None:
    for number in range(KEYS):
        with_value = rpc.PutRequest(key=b"k%03d" % number, value=bytes(1000))
        call = new_call()
        life.member.service.put(call.given, with_value)
        await life.answer(call)


def test_the_hash_of_the_db_lets_others_have_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            backend = life.member.booted.backend
            pages = 5 * digest.STEP_PAGES
            for number in range(4 * pages):
                backend.put(b"key", b"%08d" % number, bytes(1000))
            steps: list[int] = []
            wanted = backend.hash()
            step = digest.ContentHashJob.step

            def counted(job: digest.ContentHashJob) -> bool:
                steps.append(turns)
                return step(job)

            monkeypatch.setattr(digest.ContentHashJob, "step", counted)
            call = new_call()
            turns = 0
            MaintenanceApi(life.member.service, Door(life.member.service)).hash(call.given, b"")
            while call.status is None:
                turns += 1
                await asyncio.sleep(0)
            assert rpc.HashResponse.FromString(call.messages[0]).hash == wanted
            # Five items of a thousand bytes are never on one page of four thousand.
            assert len(steps) >= 4
            assert len(set(steps)) == len(steps), "two slices in one turn of the loop"
            assert backend.open_readers == 0

    in_loop(scenario())


def test_a_snapshot_begins_with_what_the_commit_left(tmp_path: Path) -> None:
    """Nothing is written in the turn in which it begins, however much came in during the commit."""

    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=3600.0) as life:
            backend = life.member.booted.backend
            call = new_call()
            stream = MaintenanceApi(life.member.service, Door(life.member.service)).snapshot(call.given)
            stream.on_message(b"")
            backend.put(b"key", b"meanwhile", b"1")
            await life.until(lambda: call.status, "the snapshot")
            assert b"".join(rpc.SnapshotResponse.FromString(part).blob for part in call.messages[:-1])
            assert backend.pending_ops == 1

    in_loop(scenario())


@pytest.mark.parametrize("what", ["defragmentation", "backup"])
def test_while_much_is_written_the_loop_does_not_wait_for_the_log(tmp_path: Path, what: str) -> None:
    """An fdatasync of the log waits for what others write to the same disk: here, or who stores a backup."""

    async def scenario() -> None:
        async with running(tmp_path) as life:
            wal, service = life.member.booted.wal, life.member.service
            # The disk is as quick as can be, so far.
            wal._way.choice = choice = SyncChoice(by_helper=False)
            choice.note(0.0001, 0.0)
            done: list[bool] = []
            call = new_call()
            if what == "defragmentation":
                service.defragment(lambda: done.append(True), lambda text: done.append(False))
            else:
                MaintenanceApi(service, Door(service)).snapshot(call.given).on_message(b"")
            await life.until(lambda: not wal.is_inline, "the helper")

            put = new_call()
            service.put(put.given, rpc.PutRequest(key=b"k", value=b"v"))
            service.driver.drain()
            assert put.status is None
            await life.answer(put)
            await life.until(lambda: done or call.status, what)
            assert done in ([], [True])
            assert life.failures == []

    in_loop(scenario())


def test_the_log_is_cut_short_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand entries take as long to free as many puts to make."""

    async def scenario() -> None:
        monkeypatch.setattr(snapshots, "ENTRIES_AT_ONCE", 10)
        async with running(tmp_path, snapshot_count=KEYS - 50, snapshot_catchup_entries=5) as life:
            log_storage = life.member.booted.log_storage
            began = log_storage.first_index()
            pieces: list[tuple[int, int]] = []
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += 1
                asyncio.get_running_loop().call_soon(turn)

            turn()

            class Counting:
                """The log, as it is asked to forget."""

                def compact(self, index: int) -> None:
                    pieces.append((turns, index))
                    log_storage.compact(index)

                def __getattr__(self, name: str) -> Any:
                    return getattr(log_storage, name)

            monkeypatch.setattr(life.member.snapshots, "_log_storage", Counting())
            await filled(life)
            await life.until(lambda: len(log_storage._entries) < 70, "the cut of the log")

            assert len(pieces) >= (KEYS - 70) // 10
            assert len({turn for turn, _ in pieces}) == len(pieces), "two slices in one turn of the loop"
            assert [index for _, index in pieces] == sorted(index for _, index in pieces)
            assert log_storage.first_index() - began == pieces[-1][1] - began + 1

    in_loop(scenario())


def test_puts_and_reads_go_on_during_a_defragmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was put meanwhile, committed or not, is there afterwards and after a restart."""

    async def scenario() -> None:
        monkeypatch.setattr(defrag, "STEP_LEAVES", 1)
        async with running(tmp_path, backend_batch_interval_s=0.002) as life:
            await filled(life)
            member = life.member
            backend = member.booted.backend
            done: list[int] = []
            puts = 0
            pieces: list[int] = []  # the puts that were made when each was done
            step = DefragJob.step

            def counted(job: DefragJob) -> defrag.Next:
                pieces.append(puts)
                return step(job)

            monkeypatch.setattr(DefragJob, "step", counted)
            for _ in range(2):
                member.service.defragment(lambda: done.append(puts), lambda text: done.append(-1))
            while len(done) < 2:
                before = backend.database
                call = new_call()
                puts += 1
                member.service.put(call.given, rpc.PutRequest(key=b"during %d" % puts, value=bytes(500)))
                await life.answer(call)
                assert backend.database is before or not before._open
                assert member.store.get(b"during %d" % puts) is not None
            assert -1 not in done
            # Half a hundred pages, each in a piece of its own, twice; puts come between.
            assert len(pieces) > 100
            assert len(set(pieces)) > 3
            await life.until(lambda: not backend.pending_ops, "a commit after it")
        async with running(tmp_path) as life:
            for number in range(1, puts + 1):
                assert life.member.store.get(b"during %d" % number) is not None
            assert life.member.store.key_count == KEYS + puts

    in_loop(scenario())


def test_no_commit_begins_between_the_switch_and_its_end(tmp_path: Path) -> None:
    """Until the folder is synced a power cut may bring back the old file, without what the new one was told."""

    async def scenario() -> None:
        async with running(tmp_path, backend_batch_interval_s=0.001, backend_batch_limit=1) as life:
            await filled(life)
            backend = life.member.booted.backend
            settled = threading.Event()
            settle = DefragJob._settle

            def late(job: DefragJob) -> None:
                assert settled.wait(10)
                settle(job)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(DefragJob, "_settle", late)
                old = backend.database
                done: list[bool] = []
                life.member.service.defragment(lambda: done.append(True), lambda text: done.append(False))
                await life.until(lambda: backend.database is not old, "the switch")
                commits = backend.commit_count
                told: list[int] = []
                life.member.service.commit_then(lambda: told.append(backend.commit_count))
                for number in range(20):
                    call = new_call()
                    life.member.service.put(call.given, rpc.PutRequest(key=b"%d" % number))
                    await life.answer(call)
                    await asyncio.sleep(0.001)
                assert (backend.commit_count, told, done) == (commits, [], [])
                settled.set()
                await life.until(lambda: done == [True] and told, "the end")
                assert backend.commit_count > commits

    in_loop(scenario())


def test_a_member_that_stops_gives_up_a_defragmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(defrag, "STEP_LEAVES", 1)
        for turns in (0, 3, 10, 30):
            async with running(tmp_path) as life:
                await filled(life)
                life.member.service.defragment(lambda: None, lambda text: None)
                for _ in range(turns):
                    await asyncio.sleep(0)
            assert not list((tmp_path / "data/member/snap").glob("db.tmp*"))
            async with running(tmp_path) as life:
                assert life.member.store.key_count == KEYS

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
            call = new_call()
            life.member.service.put(call.given, rpc.PutRequest(key=b"a", value=bytes(10)))
            await life.answer(call)
            assert not life.member.store.cache.kvs
            assert life.member.store.get(b"k007") is not None
            assert not life.member.store.cache.kvs

    in_loop(scenario())


def test_the_v2_tree_is_saved_between_turns_of_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is saved is the tree at the index of the snapshot, whatever is written meanwhile."""

    async def scenario() -> None:
        async with running(tmp_path, snapshot_count=KEYS - 10, backend_batch_interval_s=3600.0) as life:
            tree = life.member.booted.tree
            for number in range(2000):
                tree.set(f"/1/folder{number % 3}/{number}", value="before")
            wanted: list[bytes] = []
            steps: list[int] = []
            begin, step = TreeSaves.save, SaveJob.step

            def begun(saves: TreeSaves, done: Callable[[bytes], None]) -> None:
                wanted.append(save(tree))
                steps.clear()
                begin(saves, done)

            def counted(job: SaveJob, count: int) -> bool:
                steps.append(turns)
                return step(job, count)

            def beat() -> None:
                nonlocal turns
                turns += 1
                if wanted:
                    tree.set(f"/1/folder{turns % 3}/{turns}", value="after")
                beats.append(loop.call_soon(beat))
                del beats[:-1]

            loop = asyncio.get_running_loop()
            beats: list[asyncio.Handle] = []
            turns = 0
            monkeypatch.setattr(TreeSaves, "save", begun)
            monkeypatch.setattr(SaveJob, "step", counted)
            life.member.tree_saves.at_once = 100
            beat()
            await filled(life)
            # It may have been written before anybody looks whether it is being written.
            await life.until(life.member.booted.snapshotter.load_newest, "the snapshot")
            beats[0].cancel()
            newest = life.member.booted.snapshotter.load_newest()
            assert newest is not None
            assert [newest.data] == wanted
            assert len(steps) >= 2000 // 100
            assert len(set(steps)) == len(steps), "two slices in one turn of the loop"

    in_loop(scenario())
