"""Event loops for the tests of this room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


def _runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    def run(work: Coroutine[Any, Any, None]) -> None:
        problems: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            async with asyncio.timeout(60):
                await work
            left = {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}  # type: ignore[union-attr]
            assert not left, f"still running: {left}"

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())
        assert not problems, problems

    return run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a new loop of either kind; the loop's complaints and tasks left behind fail the test."""
    return _runner(asyncio.SelectorEventLoop if request.param == "asyncio" else uvloop.new_event_loop)


@pytest.fixture
def run_once() -> Run:
    """The same in one loop only, for what does not depend on it."""
    return _runner(uvloop.new_event_loop)
