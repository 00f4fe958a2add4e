"""The backend's beat: when it commits, who is told, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from balsad.server.backend_commits import BackendCommits
from balsad.storage import Backend, StorageError
from tests.unit.server.server_kit import WAIT_S, in_loop
from tests.unit.storage.bolt_disks import FaultyDisk

BUCKET = b"key"


class World:
    def __init__(self, folder: Path, *, interval_s: float, operations_max: int) -> None:
        self.disk = FaultyDisk()
        self.backend = Backend.open(self.disk, str(folder / "db"))
        self.backend.create_bucket(BUCKET)
        self.backend.commit()
        self.failures: list[BaseException] = []
        self.seconds: list[float] = []
        self.commits = BackendCommits(
            self.backend,
            interval_s=interval_s,
            operations_max=operations_max,
            failed=self.failures.append,
            observed=lambda all_s, built_s, written_s: self.seconds.append(all_s),
        )

    async def until(self, happened: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + WAIT_S
        while not happened():
            assert loop.time() < give_up
            await asyncio.sleep(0.001)


@asynccontextmanager
async def world(folder: Path, *, interval_s: float = 3600.0, operations_max: int = 10_000) -> AsyncIterator[World]:
    made = World(folder, interval_s=interval_s, operations_max=operations_max)
    yield made
    await made.commits.stop()
    made.backend.close()


def on_disk(folder: Path) -> bytes | None:
    """What another process would read of the key, without waiting for the lock."""
    copy = folder / "copy"
    copy.write_bytes((folder / "db").read_bytes())
    backend = Backend.open(FaultyDisk(), str(copy))
    value = backend.get(BUCKET, b"k")
    backend.close()
    copy.unlink()
    return value


def test_it_commits_on_its_beat(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, interval_s=0.01) as w:
            before = w.backend.commit_count
            w.backend.put(BUCKET, b"k", b"1")
            assert on_disk(tmp_path) is None
            await w.until(lambda: w.backend.commit_count > before)
            assert on_disk(tmp_path) == b"1"
            assert w.seconds

    in_loop(scenario())


def test_it_commits_early_when_much_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, operations_max=3) as w:
            before = w.backend.commit_count
            for number in range(3):
                w.commits.after_batch()
                assert not w.backend.committing
                w.backend.put(BUCKET, b"k%d" % number, b"1")
            w.commits.after_batch()
            assert w.backend.committing
            await w.until(lambda: w.backend.commit_count > before)

    in_loop(scenario())


class Value(bytes):
    """Counts how many of them are freed."""

    freed = 0

    def __del__(self) -> None:
        Value.freed += 1


def test_what_a_large_commit_leaves_is_freed_a_slice_in_a_turn(tmp_path: Path) -> None:
    """To free a million keys takes as long as to make them."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            Value.freed = 0
            for number in range(60_000):
                w.backend.put(BUCKET, b"k%d" % number, Value(b"1"))
            w.commits.after_batch()
            most = before = 0
            while Value.freed < 60_000:
                await asyncio.sleep(0)
                most = max(most, Value.freed - before)
                before = Value.freed
            assert most <= 10_000
            assert w.failures == []
            assert w.backend.get(BUCKET, b"k7") == b"1"

    in_loop(scenario())


@pytest.mark.parametrize("operations_max", [0, -1, 1])
def test_no_batches_at_all(tmp_path: Path, operations_max: int) -> None:
    """--backend-batch-limit=-1 and the like: every batch of entries is committed."""

    async def scenario() -> None:
        async with world(tmp_path, operations_max=operations_max) as w:
            w.commits.after_batch()
            assert not w.backend.committing
            before = w.backend.commit_count
            w.backend.put(BUCKET, b"k", b"1")
            w.commits.after_batch()
            await w.until(lambda: w.backend.commit_count > before)

    in_loop(scenario())


def test_who_waits_for_a_commit_is_told_when_all_written_before_is_on_disk(tmp_path: Path) -> None:
    """Also what was written while another commit was under way; and no commit is under way then."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            told: list[tuple[bytes | None, bool]] = []

            def done() -> None:
                told.append((on_disk(tmp_path), w.backend.committing))

            w.backend.put(BUCKET, b"k", b"1")
            w.commits.commit_then(done)
            w.backend.put(BUCKET, b"k", b"2")  # after the first commit began
            w.commits.commit_then(done)
            await w.until(lambda: len(told) == 2)
            assert told == [(b"1", False), (b"2", False)]
            # With nothing to commit it is told all the same.
            w.commits.commit_then(done)
            await w.until(lambda: len(told) == 3)

    in_loop(scenario())


def test_a_callback_may_ask_for_another_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            told: list[str] = []

            def first() -> None:
                told.append("first")
                w.backend.put(BUCKET, b"k", b"3")
                w.commits.commit_then(lambda: told.append("second"))

            w.commits.commit_then(first)
            await w.until(lambda: told == ["first", "second"])
            assert on_disk(tmp_path) == b"3"

    in_loop(scenario())


def test_no_commit_is_under_way_for_any_who_waited_for_the_same(tmp_path: Path) -> None:
    """Though the first of them asks for another."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            told: list[bool] = []

            def first() -> None:
                w.backend.put(BUCKET, b"k", b"2")
                w.commits.commit_then(second)

            def second() -> None:
                told.append(w.backend.committing)

            w.backend.put(BUCKET, b"k", b"1")
            w.commits.commit_then(lambda: None)
            w.commits.commit_then(first)
            w.commits.commit_then(second)
            await w.until(lambda: len(told) == 2)
            assert told == [False, False]

    in_loop(scenario())


def test_one_timer_runs_however_often_commits_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            loop = asyncio.get_running_loop()
            call_later = loop.call_later
            timers: list[asyncio.TimerHandle] = []

            def noted(delay: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
                timers.append(call_later(delay, *args, **kwargs))
                return timers[-1]

            monkeypatch.setattr(loop, "call_later", noted)
            told: list[int] = []

            def again() -> None:
                told.append(len(told))
                if len(told) < 10:
                    w.commits.commit_then(again)

            w.commits.commit_then(again)
            await w.until(lambda: len(told) == 10)
            assert sum(not timer.cancelled() for timer in timers) <= 1

    in_loop(scenario())


@pytest.mark.parametrize("operation", ["pwritev", "fdatasync", "ftruncate"])
def test_a_commit_that_fails_is_told_and_nobody_else_is(tmp_path: Path, operation: str) -> None:
    async def scenario() -> None:
        w = World(tmp_path, interval_s=3600.0, operations_max=10_000)
        told: list[str] = []
        w.disk.fail(operation, errno.EIO)
        for number in range(3000):
            w.backend.put(BUCKET, b"%05d" % number, bytes(100))
        w.commits.commit_then(lambda: told.append("done"))
        await w.until(lambda: w.failures)
        assert isinstance(w.failures[0], StorageError)
        assert str(tmp_path / "db") in str(w.failures[0])
        assert told == []
        await w.commits.stop()
        with pytest.raises(StorageError):
            w.backend.commit()
        w.backend.close()

    in_loop(scenario())


def test_a_callback_that_fails_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            error = StorageError("/some/file", "broken")

            def fail() -> None:
                raise error

            w.commits.commit_then(fail)
            await w.until(lambda: w.failures)
            assert w.failures == [error]

    in_loop(scenario())


def test_stopping_waits_for_the_commit_under_way_and_begins_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, interval_s=0.001) as w:
            w.backend.put(BUCKET, b"k", b"1")
            w.commits.commit_then(lambda: None)
            assert w.backend.committing
            await w.commits.stop()
            assert not w.backend.committing
            assert on_disk(tmp_path) == b"1"
            w.backend.put(BUCKET, b"k", b"2")
            w.commits.commit_then(lambda: None)
            w.commits.after_batch()
            await asyncio.sleep(0.02)
            assert on_disk(tmp_path) == b"1"

    in_loop(scenario())
