"""Granting, renewing, expiring, revoking; what outlives a restart."""

from __future__ import annotations

from math import inf

import pytest

from balsad.errors import LeaseExistError, LeaseNotFoundError, LeaseTTLTooLargeError
from balsad.lease import LeaseExpiredError, Lessor, NotPrimaryError
from balsad.mvcc import Store
from balsad.proto import lease_pb2
from balsad.storage import StorageError
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.mvcc.mvcc_model import put


def make_lessor(
    *, primary: bool = True, backend: MemoryBackend | None = None, checkpoints: bool = False, persist: bool = False
) -> Lessor:
    lessor = Lessor(
        2, backend or MemoryBackend(), checkpoints=checkpoints, persist_checkpoints=persist, revokes_per_second=8
    )
    lessor.recover()
    if primary:
        lessor.promote(0.0, 0.0)
    return lessor


def test_a_lease_lives_its_ttl_from_the_grant() -> None:
    lessor = make_lessor()

    lease = lessor.grant(7, 10, now=100.0)

    assert (lease.ttl_s, lessor.remaining(7, 104.5)) == (10, 5.5)
    assert lessor.expired(109.9) == []
    assert lessor.expired(110.0) == [7]


@pytest.mark.parametrize("ttl_s", [-5, 0, 1, 2])
def test_a_short_ttl_is_raised_to_the_minimum(ttl_s: int) -> None:
    """etcd lessor.Grant: no TTL is refused for being small, not even a negative one."""
    assert make_lessor().grant(1, ttl_s, 0.0).ttl_s == 2


def test_grant_refuses_no_id_too_long_a_ttl_and_an_id_in_use() -> None:
    lessor = make_lessor()
    lessor.grant(1, 9_000_000_000, 0.0)

    with pytest.raises(LeaseNotFoundError):
        lessor.grant(0, 10, 0.0)
    with pytest.raises(LeaseTTLTooLargeError):
        lessor.grant(1, 9_000_000_001, 0.0)
    with pytest.raises(LeaseExistError):
        lessor.grant(1, 10, 0.0)


def test_renew_gives_the_whole_time_again() -> None:
    lessor = make_lessor()
    lessor.grant(1, 10, 0.0)

    assert lessor.renew(1, 8.0) == 10

    assert lessor.expired(17.9) == []
    assert lessor.expired(18.0) == [1]


def test_renew_of_an_expired_lease_waits_for_its_revoke() -> None:
    """etcd lessor.Renew: to be accurate it waits until the lease is deleted, then it is not found."""
    lessor = make_lessor()
    lessor.grant(1, 10, 0.0)

    with pytest.raises(LeaseExpiredError):
        lessor.renew(1, 10.0)
    lessor.revoke(1)
    with pytest.raises(LeaseNotFoundError):
        lessor.renew(1, 10.0)


def test_only_the_primary_measures_time() -> None:
    lessor = make_lessor(primary=False)
    lessor.grant(1, 10, 0.0)

    with pytest.raises(NotPrimaryError):
        lessor.renew(1, 1.0)
    assert lessor.expired(1e9) == []
    assert lessor.remaining(1, 5.0) == inf

    lessor.promote(3.0, 100.0)
    assert lessor.expired(112.9) == []
    assert lessor.expired(113.0) == [1]

    lessor.demote()
    assert lessor.expired(1e9) == []
    assert lessor.next_expiry() is None


def test_an_expired_lease_is_offered_again_after_three_seconds() -> None:
    """etcd defaultExpiredleaseRetryInterval: the revoke may have been lost on its way through the log."""
    lessor = make_lessor()
    lessor.grant(1, 10, 0.0)

    assert lessor.expired(10.0) == [1]
    assert lessor.expired(12.9) == []
    assert lessor.expired(13.0) == [1]
    lessor.revoke(1)
    assert lessor.expired(20.0) == []


def test_a_lease_renewed_in_time_is_not_offered_though_an_older_deadline_passed() -> None:
    lessor = make_lessor()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 11, 0.0)
    lessor.renew(1, 9.0)

    assert lessor.expired(11.0) == [2]
    assert lessor.expired(19.0, limit=1) == [2]
    assert lessor.expired(19.0, limit=1) == [1]


def test_a_revoke_gives_the_keys_in_order_and_takes_them_off() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend)
    lessor.grant(1, 10, 0.0)
    for key in (b"b", b"a", b"\xff", b"ab"):
        lessor.attach(1, key)

    assert lessor.revoke(1) == [b"a", b"ab", b"b", b"\xff"]

    assert lessor.lease_by_key == {}
    assert backend.buckets[b"lease"] == {}
    with pytest.raises(LeaseNotFoundError):
        lessor.revoke(1)


def test_a_revoke_deletes_its_keys_in_one_revision() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend)
    store = Store(backend, leases=lessor)
    store.restore()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 10, 0.0)
    put(store, b"a", b"", 1)
    put(store, b"b", b"", 1)
    put(store, b"c", b"", 1)
    put(store, b"b", b"", 2)
    put(store, b"c", b"")
    before = store.current_revision

    txn = store.write()
    for key in lessor.revoke(1):
        txn.delete_range(key)
    txn.end()

    assert [key for key in (b"a", b"b", b"c") if store.get(key)] == [b"b", b"c"]
    assert store.current_revision == before + 1
    assert lessor.lease_by_key == {b"b": 2}


def test_a_revoke_without_keys_makes_no_revision() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend)
    store = Store(backend, leases=lessor)
    store.restore()
    lessor.grant(1, 10, 0.0)

    txn = store.write()
    assert lessor.revoke(1) == []

    assert txn.end() == 1


def test_leases_are_kept_as_etcd_keeps_them() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend, persist=True)
    lessor.grant(0x1234, 10, 0.0)
    lessor.grant(-5, 300, 0.0)
    lessor.checkpoint(-5, 111, 0.0)

    rows = backend.scan(b"lease", b"", None)

    assert [key for key, _ in rows] == [(0x1234).to_bytes(8, "big"), (2**64 - 5).to_bytes(8, "big")]
    decoded = [lease_pb2.Lease.FromString(row) for _, row in rows if row is not None]
    assert [(lease.ID, lease.TTL, lease.RemainingTTL) for lease in decoded] == [(0x1234, 10, 0), (-5, 300, 111)]
    assert [lease.SerializeToString() for lease in decoded] == [row for _, row in rows]


def test_a_restart_keeps_leases_and_their_checkpoints_but_no_time() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend, persist=True)
    lessor.grant(1, 600, 0.0)
    lessor.grant(2, 600, 0.0)
    lessor.checkpoint(1, 250, 0.0)

    again = make_lessor(backend=backend.copy(), primary=False)
    assert again.remaining(1, 0.0) == inf
    again.promote(1.0, 1000.0)

    assert [(lease.id, lease.expiry) for lease in again.leases()] == [(1, 1251.0), (2, 1601.0)]


def test_a_checkpoint_is_forgotten_by_a_restart_unless_it_is_to_be_kept() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend)
    lessor.grant(1, 600, 0.0)
    lessor.checkpoint(1, 250, 0.0)

    again = make_lessor(backend=backend)

    assert again.remaining(1, 0.0) == 600


def test_long_leases_put_their_time_left_on_record() -> None:
    """etcd findDueScheduledCheckpoints: every five minutes, whole seconds rounded up."""
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)
    lessor.grant(2, 300, 0.0)
    lessor.grant(3, 1000, 0.0)

    assert lessor.due_checkpoints(299.9) == []
    assert lessor.due_checkpoints(300.5, limit=1) == [(1, 700)]
    assert lessor.due_checkpoints(300.5) == [(3, 700)]
    lessor.checkpoint(1, 700, 300.5)
    assert lessor.due_checkpoints(600.4) == []
    assert lessor.due_checkpoints(600.5) == [(1, 400), (3, 400)]


def test_a_lease_renewed_as_its_checkpoint_comes_due_is_put_on_record_next_time() -> None:
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)
    lessor.renew(1, 299.5)

    assert lessor.due_checkpoints(300.0) == []
    assert lessor.due_checkpoints(599.0) == []
    assert lessor.due_checkpoints(600.0) == [(1, 700)]


def test_a_renew_after_a_checkpoint_wants_it_cleared_first() -> None:
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)
    lessor.checkpoint(1, 700, 300.0)

    assert lessor.wants_clear(1, 300.0)
    lessor.checkpoint(1, 0, 301.0)
    assert not lessor.wants_clear(1, 301.0)

    assert lessor.renew(1, 301.0) == 1000
    assert lessor.remaining(1, 301.0) == 1000


def test_a_renew_while_a_checkpoint_is_on_its_way_wants_it_cleared_too() -> None:
    """Applied after the renewal it would take from the lease what its holder was just promised."""
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)

    assert lessor.due_checkpoints(300.0) == [(1, 700)]

    assert lessor.wants_clear(1, 300.0)
    lessor.checkpoint(1, 700, 300.1)
    lessor.checkpoint(1, 0, 300.1)
    assert not lessor.wants_clear(1, 300.2)


def test_a_checkpoint_that_got_lost_is_tried_again_and_cleared_no_more_than_needed() -> None:
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)

    assert lessor.due_checkpoints(300.0) == [(1, 700)]
    assert lessor.due_checkpoints(599.9) == []
    assert lessor.due_checkpoints(600.0) == [(1, 400)]
    lessor.demote()
    assert not lessor.wants_clear(1, 601.0)
    lessor.promote(0.0, 602.0)
    assert not lessor.wants_clear(1, 602.0)


def test_renewals_that_clear_checkpoints_leave_one_time_for_the_next() -> None:
    """etcd scheduleCheckpointIfNeeded adds one with every cleared checkpoint, for as long as the lease lives."""
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 1000, 0.0)
    for now in (300.0, 600.0, 900.0):
        lessor.checkpoint(1, 700, now)
        lessor.checkpoint(1, 0, now)
        lessor.renew(1, now)

    assert lessor.due_checkpoints(1200.0) == [(1, 700)]
    assert lessor.due_checkpoints(1200.0) == []


def test_an_expired_lease_is_not_put_on_record() -> None:
    lessor = make_lessor(checkpoints=True)
    lessor.grant(1, 301, 0.0)

    assert lessor.due_checkpoints(301.0) == []
    assert not lessor.wants_clear(1, 301.0)


def test_a_checkpoint_of_an_unknown_lease_is_no_error() -> None:
    lessor = make_lessor()
    lessor.checkpoint(99, 5, 0.0)
    assert lessor.lookup(99) is None


def test_many_leases_promoted_at_once_do_not_all_end_at_once() -> None:
    """etcd Lessor.Promote: at most three quarters of the revoke rate in any second."""
    lessor = make_lessor(primary=False)
    for lease_id in range(1, 31):
        lessor.grant(lease_id, 10, 0.0)

    lessor.promote(0.0, 0.0)

    expiries = sorted(lease.expiry for lease in lessor.leases())
    assert expiries[5] == 10.0
    assert expiries[6] > 10.0
    for first in range(len(expiries) - 12):
        assert expiries[first + 12] - expiries[first] >= 1.0


def test_a_key_hangs_on_one_lease() -> None:
    backend = MemoryBackend()
    lessor = make_lessor(backend=backend)
    store = Store(backend, leases=lessor)
    store.restore()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 10, 0.0)

    put(store, b"k", b"", 1)
    put(store, b"k", b"", 2)

    first, second = lessor.lookup(1), lessor.lookup(2)
    assert first is not None
    assert second is not None
    assert (first.sorted_keys(), second.sorted_keys(), lessor.lease_of(b"k")) == ([], [b"k"], 2)


def test_detach_of_what_is_not_there_is_no_error() -> None:
    lessor = make_lessor()
    lessor.grant(1, 10, 0.0)

    lessor.detach(1, b"k")
    lessor.detach(2, b"k")

    with pytest.raises(LeaseNotFoundError):
        lessor.attach(2, b"k")


def test_a_broken_lease_says_where_it_is() -> None:
    backend = MemoryBackend()
    make_lessor(backend=backend)
    backend.put(b"lease", b"\0" * 8, b"\x08")

    with pytest.raises(StorageError, match=r"^memory: bucket lease, key 0000000000000000: expected .* found 08"):
        make_lessor(backend=backend)
