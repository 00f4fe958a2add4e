"""Leases: who holds one, which keys hang on it, when it ends.

    grant -> held --------- renew (primary) ---------+
              |  ^                                   |
              |  +-----------------------------------+
              | its time is over (primary only)
              v
           expired: no renew until it is revoked -> revoked

Only the primary lessor, the raft leader's, measures time: elsewhere, and from
demote on, every lease lasts for ever. Who is promoted gives every lease its
full time again (or what was left at its last checkpoint) and some more, so
that no lease ends earlier than its holder was promised.

Times are monotonic seconds that the caller passes in as `now`.

Source: etcd server/lease lessor.go.
"""

from __future__ import annotations

from math import ceil, inf
from operator import attrgetter
from typing import Final, Protocol

from balsad.errors import LeaseExistError, LeaseNotFoundError, LeaseTTLTooLargeError
from balsad.lease.expiry_queue import ExpiryQueue
from balsad.storage import StorageError
from balsad.wire import WireError, read_uvarint, skip_field, to_int64, varint

LEASE_BUCKET: Final = b"lease"

TTL_S_MAX: Final = 9_000_000_000
CHECKPOINT_INTERVAL_S: Final = 300
CHECKPOINTS_AT_ONCE: Final = 1000
REVOKES_PER_SECOND: Final = 1000
RECOVERED_AT_ONCE: Final = 10_000
# An expired lease whose revoke did not come through is offered again after this.
REVOKE_RETRY_S: Final = 3.0

_ID_MASK: Final = 0xFFFFFFFFFFFFFFFF


class NotPrimaryError(Exception):
    """Only the leader's lessor measures time: ask there."""


class LeaseExpiredError(Exception):
    """The lease is over but not yet revoked: ask again once it is, or once somebody else is the leader."""


class LeaseBackend(Protocol):
    """The part of `storage.Backend` that leases are kept in."""

    path: str

    def create_bucket(self, bucket: bytes) -> None: ...

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None: ...

    def delete(self, bucket: bytes, key: bytes) -> None: ...

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]: ...


class Lease:
    """`expiry` is inf where time is not measured. `remaining_ttl_s` is the last checkpoint's, 0 for none."""

    __slots__ = ("expiry", "id", "is_on_its_way", "keys", "remaining_ttl_s", "ttl_s")

    def __init__(self, lease_id: int, ttl_s: int, remaining_ttl_s: int = 0) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self.remaining_ttl_s = remaining_ttl_s
        self.expiry = inf
        self.keys: set[bytes] = set()
        self.is_on_its_way = False  # a checkpoint that is proposed, but not applied yet

    def lifetime_s(self) -> int:
        """How long it lives from its next refresh on."""
        return self.remaining_ttl_s if self.remaining_ttl_s > 0 else self.ttl_s

    def sorted_keys(self) -> list[bytes]:
        return sorted(self.keys)


def _expiry_order(lease: Lease) -> tuple[float, int]:
    return lease.expiry, lease.id


def lease_key(lease_id: int) -> bytes:
    """The lease's key in the `lease` bucket."""
    return (lease_id & _ID_MASK).to_bytes(8, "big")


def encode_lease(lease: Lease) -> bytes:
    """leasepb.Lease."""
    parts = [b"\x08", varint(lease.id)]
    if lease.ttl_s:
        parts += [b"\x10", varint(lease.ttl_s)]
    if lease.remaining_ttl_s:
        parts += [b"\x18", varint(lease.remaining_ttl_s)]
    return b"".join(parts)


def decode_lease(data: bytes) -> tuple[int, int, int]:
    """Id, TTL and remaining TTL of a leasepb.Lease. Raises WireError."""
    lease_id = ttl_s = remaining_ttl_s = pos = 0
    while pos < len(data):
        tag, pos = read_uvarint(data, pos)
        if tag not in (0x08, 0x10, 0x18):
            pos = skip_field(data, pos, tag)
            continue
        number, pos = read_uvarint(data, pos)
        if tag == 0x08:
            lease_id = to_int64(number)
        elif tag == 0x10:
            ttl_s = to_int64(number)
        else:
            remaining_ttl_s = to_int64(number)
    return lease_id, ttl_s, remaining_ttl_s


class LeaseRecoveryJob:
    """Reads the leases of a backend, to which nobody writes meanwhile; a lessor takes them and their keys over.

    A mvcc.LeaseAttacher.
    """

    def __init__(self, backend: LeaseBackend, min_ttl_s: int) -> None:
        backend.create_bucket(LEASE_BUCKET)
        self.leases: dict[int, Lease] = {}
        self.lease_by_key: dict[bytes, int] = {}
        self._backend = backend
        self._min_ttl_s = min_ttl_s
        self._next = b""

    def __len__(self) -> int:
        return len(self.leases)

    def step(self, count: int) -> bool:
        """Go on with `count` leases; True once all are there. Raises: StorageError when a stored lease is broken."""
        stored_leases = self._backend.scan(LEASE_BUCKET, self._next, None, count)
        for key, stored in stored_leases:
            try:
                lease_id, ttl_s, remaining_ttl_s = decode_lease(stored)
            except WireError as error:
                where = f"bucket lease, key {key.hex()}"
                reason = f"{where}: expected a leasepb.Lease, found {stored[:32].hex()}: {error}"
                raise StorageError(self._backend.path, reason) from error
            self.leases[lease_id] = Lease(lease_id, max(ttl_s, self._min_ttl_s), remaining_ttl_s)
        if len(stored_leases) < count:
            return True
        self._next = stored_leases[-1][0] + b"\0"
        return False

    def exists(self, lease: int) -> bool:
        return lease in self.leases

    def attach(self, lease: int, key: bytes) -> None:
        """Hang a key on a lease that exists."""
        self.leases[lease].keys.add(key)
        self.lease_by_key[key] = lease

    def detach(self, lease: int, key: bytes) -> None:
        self.leases[lease].keys.discard(key)
        del self.lease_by_key[key]

    def detach_all(self, keys: list[bytes]) -> None:
        for key in keys:
            lease = self.lease_by_key.get(key, 0)
            if lease:
                self.detach(lease, key)


class Lessor:
    """All leases of a member. `min_ttl_s`: shorter ones are lengthened to it."""

    def __init__(
        self,
        min_ttl_s: int,
        backend: LeaseBackend,
        *,
        checkpoints: bool = False,
        persist_checkpoints: bool = False,
        checkpoint_interval_s: int = CHECKPOINT_INTERVAL_S,
        revokes_per_second: int = REVOKES_PER_SECOND,
    ) -> None:
        self.min_ttl_s = min_ttl_s
        self.is_primary = False
        self.renewals = 0
        # Which lease a key hangs on. The same dict object until `take_over`: the store looks into it.
        self.lease_by_key: dict[bytes, int] = {}
        self.persist_checkpoints = persist_checkpoints
        self._backend = backend
        self._leases: dict[int, Lease] = {}
        self._expiries = ExpiryQueue()
        self._checkpoints = checkpoints
        self._checkpoint_interval_s = checkpoint_interval_s
        self._checkpoint_times = ExpiryQueue()
        self._revokes_per_second = revokes_per_second

    def __len__(self) -> int:
        return len(self._leases)

    def recover(self) -> None:
        """Take the leases from the `lease` bucket.

        None has keys yet: restoring the store attaches them. Time is measured from promote on.

        Raises: StorageError when a stored lease is broken.
        """
        job = LeaseRecoveryJob(self._backend, self.min_ttl_s)
        while not job.step(RECOVERED_AT_ONCE):
            pass
        self.take_over(job)

    def take_over(self, recovered: LeaseRecoveryJob) -> tuple[dict[int, Lease], dict[bytes, int]]:
        """Have these leases in place of one's own; gives those, which are of no use any more.

        Whoever holds `lease_by_key` has to look again: it is another dict.
        """
        before = self._leases, self.lease_by_key
        self._leases = recovered.leases
        self.lease_by_key = recovered.lease_by_key
        self._expiries = ExpiryQueue()
        self._checkpoint_times = ExpiryQueue()
        self.is_primary = False
        return before

    def grant(self, lease_id: int, ttl_s: int, now: float) -> Lease:
        """Record a lease that lives `ttl_s` seconds from `now`, or `min_ttl_s` if that is longer.

        Raises: LeaseNotFoundError for id 0, LeaseTTLTooLargeError, LeaseExistError.
        """
        if lease_id == 0:
            raise LeaseNotFoundError
        if ttl_s > TTL_S_MAX:
            raise LeaseTTLTooLargeError
        if lease_id in self._leases:
            raise LeaseExistError
        # A lease shorter than an election would end while nobody can renew it.
        lease = Lease(lease_id, max(ttl_s, self.min_ttl_s))
        self._leases[lease_id] = lease
        self._persist(lease)
        if self.is_primary:
            self._refresh(lease, 0.0, now)
            self._schedule_checkpoint(lease, now)
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """Forget a lease and give its keys in order: the caller deletes them, in this order and in one write txn.

        Both are in one backend batch as long as nothing commits in between. Raises: LeaseNotFoundError.
        """
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFoundError
        self._backend.delete(LEASE_BUCKET, lease_key(lease_id))
        self._expiries.remove(lease_id)
        self._checkpoint_times.remove(lease_id)
        by_key = self.lease_by_key
        for key in lease.keys:
            del by_key[key]
        return lease.sorted_keys()

    def renew(self, lease_id: int, now: float) -> int:
        """Let a lease live its whole time from `now`; gives that time, its TTL in seconds.

        If `wants_clear(lease_id, now)`, a checkpoint of 0 is to be applied first, lest it live only
        what was left at the last one, here or under the next primary.

        Raises: NotPrimaryError, LeaseNotFoundError, LeaseExpiredError.
        """
        if not self.is_primary:
            raise NotPrimaryError
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFoundError
        if lease.expiry <= now:
            raise LeaseExpiredError
        self._refresh(lease, 0.0, now)
        self.renewals += 1
        return lease.ttl_s

    def wants_clear(self, lease_id: int, now: float) -> bool:
        """Whether a renew has to clear the lease's checkpointed remaining TTL first."""
        if not self._checkpoints or not self.is_primary:
            return False
        lease = self._leases.get(lease_id)
        # One that is on its way would be applied after the renew. (etcd looks at those applied alone, and forgets
        # such a renewal at the next election.)
        return lease is not None and lease.expiry > now and (lease.remaining_ttl_s > 0 or lease.is_on_its_way)

    def lookup(self, lease_id: int) -> Lease | None:
        return self._leases.get(lease_id)

    def exists(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def all_leases(self) -> list[Lease]:
        """All leases, in no order."""
        return list(self._leases.values())

    def leases(self) -> list[Lease]:
        """All leases, the first to end first."""
        return sorted(self._leases.values(), key=_expiry_order)

    def remaining(self, lease_id: int, now: float) -> float:
        """Seconds a lease has left, below 0 when it is over, inf where time is not measured.

        Raises: LeaseNotFoundError.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFoundError
        return lease.expiry - now

    def attach(self, lease_id: int, key: bytes) -> None:
        """Hang a key on a lease. It hangs on no other: detach it before. Raises: LeaseNotFoundError."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFoundError
        lease.keys.add(key)
        self.lease_by_key[key] = lease_id

    def detach(self, lease_id: int, key: bytes) -> None:
        """Take a key off a lease; neither needs to be there."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys.discard(key)
            self.lease_by_key.pop(key, None)

    def detach_all(self, keys: list[bytes]) -> None:
        """Take these keys off whatever they hang on, if anything."""
        by_key = self.lease_by_key
        held = [key for key in keys if key in by_key]
        if not held:
            return
        ids = list(map(by_key.pop, held))
        lease = self._leases.get(ids[0])
        if lease is not None and ids.count(ids[0]) == len(ids):
            lease.keys.difference_update(held)
            return
        for lease_id, key in zip(ids, held, strict=True):
            lease = self._leases.get(lease_id)
            if lease is not None:
                lease.keys.discard(key)

    def lease_of(self, key: bytes) -> int:
        """The lease a key hangs on, 0 for none."""
        return self.lease_by_key.get(key, 0)

    def promote(self, extend_s: float, now: float) -> None:
        """Become the primary: every lease lives its time from `now`, and `extend_s` longer."""
        self.is_primary = True
        leases = self._leases.values()
        base = now + extend_s
        for lease in leases:
            lease.is_on_its_way = False
            remaining_ttl_s = lease.remaining_ttl_s
            lease.expiry = base + (remaining_ttl_s if remaining_ttl_s > 0 else lease.ttl_s)
        if len(leases) >= self._revokes_per_second:
            self._spread(extend_s, now)
        self._expiries.reset({lease.id: lease.expiry for lease in leases})
        if self._checkpoints:
            for lease in leases:
                self._schedule_checkpoint(lease, now)

    def demote(self) -> None:
        """No longer be the primary: no lease ends here."""
        self.is_primary = False
        for lease in self._leases.values():
            lease.expiry = inf
        self._expiries.clear()
        self._checkpoint_times.clear()

    def expired(self, now: float, limit: int = REVOKES_PER_SECOND // 2) -> list[int]:
        """Leases that are over and to be revoked, the primary's only. One not revoked by then comes again in 3 s."""
        found: list[int] = []
        while len(found) < limit:
            lease_id = self._expiries.first(now)
            if lease_id is None:
                break
            self._expiries.set(lease_id, now + REVOKE_RETRY_S)
            found.append(lease_id)
        return found

    def next_expiry(self) -> float | None:
        """A time before which `expired` gives nothing; None when there is nothing to wait for."""
        return self._expiries.next_deadline()

    def checkpoint(self, lease_id: int, remaining_ttl_s: int, now: float) -> None:
        """Note what a lease has left, for the next promote to count from; an unknown lease is no error."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_ttl_s = remaining_ttl_s
        lease.is_on_its_way = False
        if self.persist_checkpoints:
            self._persist(lease)
        if self.is_primary:
            self._schedule_checkpoint(lease, now)

    def due_checkpoints(self, now: float, limit: int = CHECKPOINTS_AT_ONCE) -> list[tuple[int, int]]:
        """(lease id, remaining TTL) of leases whose time left is to be put on record now, the primary's only.

        One whose record does not come through is named again an interval later.
        """
        found: list[tuple[int, int]] = []
        times = self._checkpoint_times
        while len(found) < limit:
            lease_id = times.first(now)
            if lease_id is None:
                break
            lease = self._leases[lease_id]
            if lease.expiry <= now:
                times.remove(lease_id)
                continue
            times.set(lease_id, now + self._checkpoint_interval_s)
            remaining_ttl_s = ceil(lease.expiry - now)
            # One renewed this very second has nothing to put on record now. (etcd never comes back to it.)
            if remaining_ttl_s < lease.ttl_s:
                lease.is_on_its_way = True
                found.append((lease_id, remaining_ttl_s))
        return found

    def _refresh(self, lease: Lease, extend_s: float, now: float) -> None:
        lease.expiry = now + extend_s + lease.lifetime_s()
        self._expiries.set(lease.id, lease.expiry)

    def _persist(self, lease: Lease) -> None:
        self._backend.put(LEASE_BUCKET, lease_key(lease.id), encode_lease(lease))

    def _schedule_checkpoint(self, lease: Lease, now: float) -> None:
        # At most one time per lease. (etcd adds another one with every renewal that clears a checkpoint.)
        if not self._checkpoints:
            return
        if lease.lifetime_s() > self._checkpoint_interval_s:
            self._checkpoint_times.set(lease.id, now + self._checkpoint_interval_s)
        else:
            self._checkpoint_times.remove(lease.id)

    def _spread(self, extend_s: float, now: float) -> None:
        """Keep many leases that were renewed at once from ending at once, faster than they can be revoked."""
        per_second = 3 * self._revokes_per_second // 4
        # One after the other these are twice as quick as by both at once.
        leases = sorted(self._leases.values(), key=attrgetter("id"))
        leases.sort(key=attrgetter("expiry"))
        base = leases[0].expiry - now
        window_end = base + 1.0
        count = 0
        for lease in leases:
            remaining = lease.expiry - now
            if remaining > window_end:
                base = remaining
                window_end = base + 1.0
                count = 1
                continue
            count += 1
            if count <= per_second:
                continue
            # Leases ahead of the window's start are delayed only by what they lack of it.
            delay = count / per_second - (remaining - base)
            window_end = base + delay
            lease.expiry = now + (delay + extend_s) + lease.lifetime_s()
