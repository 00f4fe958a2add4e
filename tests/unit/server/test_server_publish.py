"""A member names itself until the cluster has heard it; the leader raises the cluster's version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from balsad.errors import RequestTimedOutError, StoppedError, TooManyRequestsError
from balsad.membership import Attributes, Cluster, Version
from balsad.server.propose import Result
from balsad.server.publish import Publisher, VersionMonitor
from balsad.server.service import Service
from balsad.v2store import decode_request
from tests.unit.server.server_kit import in_loop


class FakeDriver:
    is_leader = True


class FakeService:
    member_id = 0xABC
    cluster_id = 0xDEF

    def __init__(self) -> None:
        self.driver = FakeDriver()
        self.cluster = Cluster(
            server_version=Version.parse("3.5.1"), cluster_id=self.cluster_id, local_id=self.member_id
        )
        self.proposed: list[tuple[Any, Callable[[Result], None]]] = []
        self.refusal: Exception | None = None
        self._ids = 0

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def members(self) -> list[Any]:
        return []

    def propose_raw(self, data: bytes, request_id: int, done: Callable[[Result], None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        request = decode_request(data)
        assert request.id == request_id
        self.proposed.append((request, done))


def test_it_is_said_again_until_it_is_heard() -> None:
    async def scenario() -> None:
        service = FakeService()
        told: list[bool] = []
        attributes = Attributes(name="n", client_urls=("http://c:1",))
        publisher = Publisher(cast(Service, service), attributes, lambda: told.append(True))
        publisher.start()
        first, done = service.proposed.pop()
        assert (first.method, first.path) == ("PUT", "/0/members/abc/attributes")
        assert first.val == '{"name":"n","clientURLs":["http://c:1"]}'

        service.refusal = TooManyRequestsError()
        done(RequestTimedOutError())
        await asyncio.sleep(0.12)
        assert told == []
        service.refusal = None
        await asyncio.sleep(0.12)
        again, done = service.proposed.pop()
        assert (again.path, again.val) == (first.path, first.val)
        assert again.id != first.id
        done(b"")
        done(b"")
        assert told == [True]

    in_loop(scenario())


def test_a_stop_ends_it_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        service = FakeService()
        publisher = Publisher(cast(Service, service), Attributes(name="n"), lambda: None)
        publisher.start()
        service.proposed.pop()[1](StoppedError())
        await asyncio.sleep(0.12)
        assert service.proposed == []

    in_loop(scenario())
    assert caplog.records == []


def test_the_first_version_is_decided_once() -> None:
    service = FakeService()
    monitor = VersionMonitor(cast(Service, service))
    monitor.check()
    monitor.check()
    assert len(service.proposed) == 1
    request, done = service.proposed.pop()
    assert (request.method, request.path, request.val) == ("PUT", "/0/version", "3.5.0")

    done(RequestTimedOutError())
    monitor.check()
    service.proposed.pop()[1](b"")
    service.cluster.version = Version.parse("3.5.0")
    monitor.check()
    assert service.proposed == []


def test_an_older_cluster_is_brought_up() -> None:
    service = FakeService()
    service.cluster.version = Version.parse("3.4.0")
    VersionMonitor(cast(Service, service)).check()
    assert service.proposed.pop()[0].val == "3.5.0"


def test_a_follower_decides_nothing() -> None:
    service = FakeService()
    service.driver.is_leader = False
    VersionMonitor(cast(Service, service)).check()
    assert service.proposed == []
