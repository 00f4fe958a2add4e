"""Compactions in steps: one after the other, with requests in between, and who is told when."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest

from balsad.mvcc import CompactionJob
from balsad.server.backend_commits import BackendCommits
from balsad.server.compactions import Compactions
from tests.unit.server.server_kit import in_loop


class FakeJob:
    def __init__(self, told: list[Any], name: str, steps: int) -> None:
        self.told, self.name, self.left = told, name, steps
        self.grouped = 0
        self.forgets = 0
        self.commits: FakeCommits | None = None  # to which it adds a hundred deletes with every step

    def step(self) -> bool:
        self.told.append(self.name)
        self.left -= 1
        self.grouped += self.forgets
        if self.commits is not None:
            self.commits.pending_ops += 100
        if self.left < 0:
            raise AssertionError("stepped after its end")
        return self.left == 0


class FakeCommits:
    """Commits in the next turn."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told
        self.is_behind = False
        self.early = 0
        self.begun = 0
        self.pending_ops = 0
        self.operations_max = 1000

    def after_batch(self) -> None:
        self.early += 1

    def commit_then(self, done: Any) -> None:
        self.told.append("commit")
        asyncio.get_running_loop().call_soon(done)


class World:
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.failures: list[BaseException] = []
        self.commits = FakeCommits(self.told)
        self.compactions = Compactions(
            cast(BackendCommits, self.commits),
            pause_s=0.001,
            failed=self.failures.append,
            stepped=lambda job, seconds: None,
            finished=lambda job, seconds: None,
        )

    def start(self, name: str, steps: int, *, deletes: bool = False) -> None:
        job = FakeJob(self.told, name, steps)
        if deletes:
            job.commits = self.commits
        self.compactions.start(cast(CompactionJob, job))

    def tell(self, what: str) -> None:
        self.compactions.when_done(lambda: self.told.append(what))

    async def finish(self) -> None:
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if self.failures or not self.compactions.is_running:
                break
        await asyncio.sleep(0.005)


def test_one_after_the_other_and_each_is_told_of_its_own() -> None:
    """A physical compaction is answered when its own keys are gone, from the disk too."""

    async def scenario() -> None:
        world = World()
        world.start("a", 2)
        world.tell("a done")
        world.start("b", 2)
        world.tell("b done")
        assert world.told == []
        await world.finish()
        assert world.told[:3] == ["a", "a", "commit"]
        assert world.told.index("a done") < len(world.told) - 1
        assert [name for name in world.told if name in ("a", "b")] == ["a", "a", "b", "b"]
        assert world.told[-2:] == ["commit", "b done"]
        assert world.told.count("a done") == world.told.count("b done") == 1

    in_loop(scenario())


def test_it_waits_for_commits_that_are_behind_with_what_it_deletes() -> None:
    """Else that would pile up without bound, for one long commit; puts alone are no reason to wait."""

    async def scenario() -> None:
        world = World()
        world.commits.is_behind = True
        world.commits.pending_ops = 50_000
        world.start("a", 25, deletes=True)
        await asyncio.sleep(0.2)
        assert world.told == ["a"] * 10
        assert world.commits.early
        world.commits.begun += 1
        world.commits.pending_ops = 50_000
        await asyncio.sleep(0.2)
        assert world.told == ["a"] * 20
        world.commits.is_behind = False
        await world.finish()
        assert world.told == ["a"] * 25

    in_loop(scenario())


def test_the_collector_has_its_turns_while_much_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts what is freed against what is made: left alone, it would look through all of that at the end."""
    turns: list[int] = []
    monkeypatch.setattr(gc, "collect", turns.append)

    async def scenario() -> None:
        world = World()
        for forgets in (4000, 0):
            job = FakeJob(world.told, "a", 5)
            job.forgets = forgets
            world.compactions.start(cast(CompactionJob, job))
        await world.finish()

    in_loop(scenario())
    assert turns == [1] * 5


def test_others_are_served_between_the_steps() -> None:
    async def scenario() -> None:
        world = World()
        world.start("a", 5)
        turns = 0
        while world.compactions.is_running:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5

    in_loop(scenario())


def test_with_nothing_to_do_only_the_commit_is_waited_for() -> None:
    async def scenario() -> None:
        world = World()
        world.tell("done")
        await world.finish()
        assert world.told == ["commit", "done"]

    in_loop(scenario())


def test_a_step_that_fails_is_told() -> None:
    async def scenario() -> None:
        world = World()
        world.start("a", 0)
        world.tell("never")
        await world.finish()
        assert isinstance(world.failures[0], AssertionError)
        assert "never" not in world.told

    in_loop(scenario())


def test_who_waits_is_told_when_a_snapshot_has_brought_another_store() -> None:
    """Once what that one has to compact is gone. Source: etcd kvstore.go (compactBarrier)."""

    async def scenario() -> None:
        world = World()
        world.start("a", 100)
        world.tell("a done")
        await asyncio.sleep(0.005)
        before = len(world.told)
        world.compactions.replace([cast(CompactionJob, FakeJob(world.told, "b", 3))])
        await world.finish()
        assert world.told[before:] == ["b", "b", "b", "commit", "a done"]
        world.start("c", 100)
        world.tell("c done")
        before = len(world.told)
        world.compactions.replace([])
        await world.finish()
        assert world.told[before:] == ["commit", "c done"]

    in_loop(scenario())


def test_stopping_leaves_the_rest_to_the_next_start() -> None:
    async def scenario() -> None:
        world = World()
        world.start("a", 100)
        world.tell("never")
        await asyncio.sleep(0.005)
        world.compactions.stop()
        done = len(world.told)
        await asyncio.sleep(0.01)
        assert 0 < done == len(world.told) < 100

    in_loop(scenario())
