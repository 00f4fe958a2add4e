"""Publishing goes on until it is heard, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from balsad.errors import RequestTimedOutError
from balsad.membership import Attributes
from balsad.server.publish import Publisher
from balsad.server.service import Service


class _Service:
    member_id = 1
    cluster_id = 2

    def __init__(self) -> None:
        self.asked: list[Callable[[Any], None]] = []

    def next_id(self) -> int:
        return len(self.asked) + 1

    def propose_raw(self, data: bytes, request_id: int, done: Callable[[Any], None]) -> None:
        assert b"m1" in data
        self.asked.append(done)


def _publish(course: Callable[[Publisher, _Service, list[str]], None]) -> None:
    async def run() -> None:
        service, heard = _Service(), []  # type: ignore[var-annotated]
        publisher = Publisher(
            cast(Service, service), Attributes(name="m1", client_urls=()), lambda: heard.append("ready")
        )
        publisher.start()
        course(publisher, service, heard)

    asyncio.run(run())


def test_a_snapshot_that_may_hold_it_makes_it_ask_again() -> None:
    def course(publisher: Publisher, service: _Service, heard: list[str]) -> None:
        publisher.after_snapshot()
        assert len(service.asked) == 2 and not heard
        service.asked[1](None)
        assert heard == ["ready"]

    _publish(course)


def test_ready_only_once_whoever_answers_later() -> None:
    def course(publisher: Publisher, service: _Service, heard: list[str]) -> None:
        publisher.after_snapshot()
        service.asked[0](None)
        service.asked[1](RequestTimedOutError())
        publisher.after_snapshot()
        assert heard == ["ready"] and len(service.asked) == 2

    _publish(course)
