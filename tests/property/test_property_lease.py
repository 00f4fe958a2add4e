"""The lessor beside a dict of leases with plain deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from balsad.errors import LeaseExistError, LeaseNotFoundError
from balsad.lease import LeaseExpiredError, Lessor, NotPrimaryError
from tests.unit.mvcc.memory_backend import MemoryBackend

MIN_TTL_S = 3
CHECKPOINT_INTERVAL_S = 5
ids = st.integers(1, 6).map(lambda number: number - 3 if number != 3 else -7)


@dataclass
class Held:
    ttl_s: int
    remaining_s: int = 0
    expiry: float = inf
    offered_again: float = -inf
    keys: set[bytes] = field(default_factory=set)


class Leasing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.lessor = self.make()
        self.model: dict[int, Held] = {}
        self.primary = False
        self.now = 0.0

    def make(self) -> Lessor:
        lessor = Lessor(
            MIN_TTL_S,
            self.backend,
            checkpoints=True,
            persist_checkpoints=True,
            checkpoint_interval_s=CHECKPOINT_INTERVAL_S,
        )
        lessor.recover()
        return lessor

    @rule(lease_id=ids, ttl_s=st.integers(-1, 12))
    def grant(self, lease_id: int, ttl_s: int) -> None:
        if lease_id in self.model:
            with pytest.raises(LeaseExistError):
                self.lessor.grant(lease_id, ttl_s, self.now)
        elif lease_id == 0:
            with pytest.raises(LeaseNotFoundError):
                self.lessor.grant(lease_id, ttl_s, self.now)
        else:
            self.lessor.grant(lease_id, ttl_s, self.now)
            held = self.model[lease_id] = Held(max(ttl_s, MIN_TTL_S))
            if self.primary:
                held.expiry = self.now + held.ttl_s

    @rule(lease_id=ids)
    def renew(self, lease_id: int) -> None:
        held = self.model.get(lease_id)
        if not self.primary:
            with pytest.raises(NotPrimaryError):
                self.lessor.renew(lease_id, self.now)
        elif held is None:
            with pytest.raises(LeaseNotFoundError):
                self.lessor.renew(lease_id, self.now)
        elif held.expiry <= self.now:
            with pytest.raises(LeaseExpiredError):
                self.lessor.renew(lease_id, self.now)
        else:
            assert self.lessor.wants_clear(lease_id, self.now) == (held.remaining_s > 0)
            self.lessor.checkpoint(lease_id, 0, self.now)
            assert self.lessor.renew(lease_id, self.now) == held.ttl_s
            held.remaining_s = 0
            held.expiry = self.now + held.ttl_s
            held.offered_again = -inf

    @rule(lease_id=ids)
    def revoke(self, lease_id: int) -> None:
        held = self.model.pop(lease_id, None)
        if held is None:
            with pytest.raises(LeaseNotFoundError):
                self.lessor.revoke(lease_id)
        else:
            assert self.lessor.revoke(lease_id) == sorted(held.keys)

    @rule(lease_id=ids, key=st.sampled_from([b"a", b"b", b"c"]))
    def move(self, lease_id: int, key: bytes) -> None:
        """As the store does: off the lease it was on, onto the new one."""
        before = self.lessor.lease_of(key)
        if before:
            self.lessor.detach(before, key)
            self.model[before].keys.discard(key)
        if lease_id in self.model:
            self.lessor.attach(lease_id, key)
            self.model[lease_id].keys.add(key)

    @rule(extend_s=st.sampled_from([0.0, 1.5]))
    def promote(self, extend_s: float) -> None:
        self.lessor.promote(extend_s, self.now)
        self.primary = True
        for held in self.model.values():
            held.expiry = self.now + extend_s + (held.remaining_s or held.ttl_s)
            held.offered_again = -inf

    @rule()
    def demote(self) -> None:
        self.lessor.demote()
        self.primary = False
        for held in self.model.values():
            held.expiry = inf
            held.offered_again = -inf

    @rule()
    def restart(self) -> None:
        self.backend = self.backend.copy()
        self.lessor = self.make()
        self.primary = False
        for lease_id, held in self.model.items():
            held.expiry = inf
            held.offered_again = -inf
            for key in held.keys:
                self.lessor.attach(lease_id, key)

    @rule(passed=st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0]), limit=st.integers(1, 4))
    def expire(self, passed: float, limit: int) -> None:
        self.now += passed
        over = {
            lease_id
            for lease_id, held in self.model.items()
            if held.expiry <= self.now and held.offered_again <= self.now
        }
        first = self.lessor.next_expiry()
        assert not over or (first is not None and first <= self.now)

        offered = self.lessor.expired(self.now, limit)

        assert len(offered) == min(limit, len(over))
        assert set(offered) <= over
        for lease_id in offered:
            self.model[lease_id].offered_again = self.now + 3.0

    @rule()
    def record(self) -> None:
        """What is put on record is what is left, and never more than once for the same time."""
        found = self.lessor.due_checkpoints(self.now)
        for lease_id, remaining_s in found:
            held = self.model[lease_id]
            assert held.expiry > self.now
            assert remaining_s == ceil(held.expiry - self.now) < held.ttl_s
            self.lessor.checkpoint(lease_id, remaining_s, self.now)
            held.remaining_s = remaining_s
        assert self.lessor.due_checkpoints(self.now) == []

    @invariant()
    def agrees(self) -> None:
        by_expiry = sorted(self.model, key=lambda lease_id: (self.model[lease_id].expiry, lease_id))
        assert [lease.id for lease in self.lessor.leases()] == by_expiry
        assert len(self.lessor) == len(self.model)
        assert self.lessor.is_primary == self.primary
        for lease_id, held in self.model.items():
            lease = self.lessor.lookup(lease_id)
            assert lease is not None
            assert (lease.ttl_s, lease.remaining_ttl_s, lease.expiry) == (held.ttl_s, held.remaining_s, held.expiry)
            assert lease.sorted_keys() == sorted(held.keys)
            assert self.lessor.remaining(lease_id, self.now) == held.expiry - self.now
        assert self.lessor.lease_by_key == {key: of for of, held in self.model.items() for key in held.keys}


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
