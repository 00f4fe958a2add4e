"""Revoking what ran out: so many at a time, again when it failed, and not at all when others lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from balsad.errors import LeaseNotFoundError, RequestTimedOutError, StoppedError, TooManyRequestsError
from balsad.lease import Lessor
from balsad.proto import rpc_pb2 as rpc
from balsad.server.lease_expiry import PENDING_MAX, PER_PASS, LeaseExpiry
from balsad.server.propose import Result
from balsad.server.service import Service
from balsad.storage import schema
from tests.unit.mvcc.memory_backend import MemoryBackend


class FakeDriver:
    is_leader = True


class FakeService:
    def __init__(self) -> None:
        memory = MemoryBackend()
        schema.create_all_buckets(memory)
        self.lessor = Lessor(1, memory)
        self.lessor.promote(0.0, 0.0)
        self.driver = FakeDriver()
        self.proposed: list[tuple[int, Callable[[Result], None]]] = []
        self.refusal: Exception | None = None

    def propose(
        self,
        field: str,
        request: rpc.LeaseRevokeRequest,
        done: Callable[[Result], None],
        *,
        only_as_leader: bool = False,
    ) -> None:
        if self.refusal is not None:
            raise self.refusal
        assert field == "lease_revoke"
        self.proposed.append((request.ID, done))

    def settle(self, result: Result = b"") -> None:
        """Answer the oldest proposal; a revoked lease is gone."""
        lease_id, done = self.proposed.pop(0)
        if isinstance(result, bytes):
            self.lessor.revoke(lease_id)
        done(result)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def expiry(service: FakeService) -> LeaseExpiry:
    return LeaseExpiry(cast(Service, service))


def grant(service: FakeService, count: int) -> None:
    for lease_id in range(1, count + 1):
        service.lessor.grant(lease_id, 10, 0.0)


def test_so_many_are_under_way_and_the_next_follow(service: FakeService, expiry: LeaseExpiry) -> None:
    grant(service, 40)
    expiry.check(9.9)
    assert service.proposed == []

    expiry.check(10.0)

    assert [lease_id for lease_id, _ in service.proposed] == list(range(1, PENDING_MAX + 1))
    while service.proposed:
        service.settle()
        assert len(service.proposed) <= PENDING_MAX
    assert len(service.lessor) == 0
    assert expiry.expired_total == 40


def test_one_pass_takes_only_so_many(service: FakeService, expiry: LeaseExpiry) -> None:
    grant(service, PER_PASS + 100)
    expiry.check(11.0)
    assert expiry.expired_total == PER_PASS
    expiry.check(11.5)
    assert expiry.expired_total == PER_PASS + 100


def test_a_follower_leaves_it_to_the_leader(service: FakeService, expiry: LeaseExpiry) -> None:
    grant(service, 40)
    expiry.check(10.0)
    service.driver.is_leader = False
    expiry.check(10.5)
    while service.proposed:
        service.settle()
    # What was under way ended; what only waited was dropped.
    assert len(service.lessor) == 40 - PENDING_MAX


def test_who_leads_again_does_not_end_what_ran_out_when_it_led_before(
    service: FakeService, expiry: LeaseExpiry
) -> None:
    """Between two looks: its leases have their time anew, and clients were told so."""
    for lease_id in range(1, PENDING_MAX + 5):
        service.lessor.grant(lease_id, 10, 0.0)
    expiry.check(20.0)
    assert len(service.proposed) == PENDING_MAX
    service.lessor.demote()
    service.lessor.promote(0.0, 20.1)
    for _ in range(PENDING_MAX):
        service.settle(RequestTimedOutError())
    assert service.proposed == []
    expiry.check(29.0)
    assert service.proposed == []
    expiry.check(31.0)
    assert len(service.proposed) == PENDING_MAX


def test_what_failed_is_tried_again_later(service: FakeService, expiry: LeaseExpiry) -> None:
    grant(service, 1)
    expiry.check(10.0)
    service.settle(RequestTimedOutError())
    assert service.proposed == []
    expiry.check(11.0)
    assert service.proposed == []
    expiry.check(14.0)
    service.settle()
    assert len(service.lessor) == 0


def test_a_lease_that_is_gone_already_is_no_trouble(service: FakeService, expiry: LeaseExpiry) -> None:
    grant(service, 2)
    expiry.check(10.0)
    service.lessor.revoke(1)
    service.proposed.pop(0)[1](LeaseNotFoundError())
    service.settle()
    expiry.check(20.0)
    assert service.proposed == []


def test_hundreds_that_cannot_be_proposed_do_not_pile_up(service: FakeService, expiry: LeaseExpiry) -> None:
    """Each refusal must not call for the next one on the same stack."""
    grant(service, PER_PASS)
    service.refusal = TooManyRequestsError()
    for number in range(20):
        expiry.check(10.0 + number)
    service.refusal = None
    expiry.check(100.0)
    count = 0
    while service.proposed:
        service.settle()
        count += 1
    assert count == PER_PASS
    assert len(service.lessor) == 0


def test_a_stop_is_taken_without_a_word(
    service: FakeService, expiry: LeaseExpiry, caplog: pytest.LogCaptureFixture
) -> None:
    grant(service, 40)
    expiry.check(10.0)
    service.refusal = StoppedError()
    waiting: list[Any] = list(service.proposed)
    for _, done in waiting:
        done(StoppedError())
    assert len(service.proposed) == PENDING_MAX  # no further ones
    assert caplog.records == []
