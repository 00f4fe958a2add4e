"""Committed entries, applied in order: to the v3 store, the v2 tree, the membership.

An entry at or below `consistent_index` has left its mark in the backend before
a restart and is not applied to it again; the v2 tree lives in memory and takes
every entry anew. Corruption, space, permission and quota judge in that order.

Source: etcd server/etcdserver/server.go (applyEntryNormal), apply.go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from balsad.auth import ANONYMOUS, Identity
from balsad.errors import (
    CompactedError,
    CorruptError,
    LeaseNotFoundError,
    NoSpaceError,
    RequestError,
    UnknownError,
    UserEmptyError,
)
from balsad.proto import raft_internal_pb2, rpc_pb2
from balsad.raft import ConfChange, ConfChangeV2, ConfState, Entry, EntryType, codec
from balsad.server.answers import HeaderBytes, delete_answer, put_answer
from balsad.server.apply import alarm, kv, lease, plain_txn, txn
from balsad.server.apply.long_writes import LongWrite, LongWrites, Work
from balsad.server.apply.put_entry import PutReader, plain_size
from balsad.server.apply.tally import Tally, go_name
from balsad.server.propose import ResolveLater
from balsad.server.quota import KEY_COST, LEASE_COST, txn_cost
from balsad.stand_in import mypyc_attr
from balsad.v2store import is_request as is_v2_request

if TYPE_CHECKING:
    from balsad.lease import Lessor
    from balsad.mvcc import CompactionJob, Store
    from balsad.server.alarms import Alarms
    from balsad.server.apply.auth import AuthApplier
    from balsad.server.apply.cluster import ClusterApplier
    from balsad.server.plain_txn import PlainTxn
    from balsad.server.propose import Pending, Result
    from balsad.server.quota import Quota
    from balsad.storage import Backend

log = logging.getLogger(__name__)

PLAIN_PUT: Final = "plain put"
"""The `field` of a Pending whose request is still raw bytes: key and value, nothing else."""

PLAIN_TXN: Final = "plain txn"
"""The `field` of a Pending whose request is a PlainTxn."""

_WITHOUT_EFFECT: Final = frozenset(("range", "auth_user_get", "auth_role_get", "auth_status"))
# How puts, deletes and transactions begin: of those the backend has already nothing is left to do, and they need not be
# decoded. At a start they may be a hundred thousand.
_IN_THE_BACKEND: Final = b"\x22\x2a\x32"
_REFUSED_WHEN_CORRUPT: Final = frozenset(
    ("put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke")
)


@mypyc_attr(allow_interpreted_subclasses=True)
class Applier:
    """Applies entries to this member's state."""

    def __init__(
        self,
        *,
        backend: Backend,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        quota: Quota,
        cluster: ClusterApplier,
        auth: AuthApplier,
        header: HeaderBytes,
        clock: Callable[[], float],
        consistent_index: int,
        consistent_term: int,
        applied_index: int,
        conf_state: ConfState,
    ) -> None:
        self.backend = backend
        self.store = store
        self.lessor = lessor
        self.alarms = alarms
        self.quota = quota
        self.cluster = cluster
        self.auth = auth
        self.header = header
        self.consistent_index = consistent_index
        self.consistent_term = consistent_term
        self.applied_index = applied_index
        self.applied_term = consistent_term
        self.conf_state = conf_state
        self.counts = Tally()
        self.long_writes = LongWrites(store, lessor, auth, header, self.counts)
        self._long: LongWrite | None = None
        self._entry: Entry | None = None
        self._term_before = consistent_term
        self.apply_conf_change: Callable[[ConfChange | ConfChangeV2], ConfState] = _no_raft
        self.raise_nospace: Callable[[Callable[[], None]], None] = _alarm_at_once
        self.on_empty_entry: Callable[[], None] | None = None
        self.on_voters: Callable[[], None] | None = None  # who votes may have changed: `conf_state` says
        self.on_compaction: Callable[[CompactionJob], None] | None = None
        self.on_grant: Callable[[float], None] | None = None  # told of the TTL
        # Told the API's version, the operation, whether it went well, the seconds it took, and how often that was.
        self.on_applied: Callable[[str, str, bool, float, int], None] | None = None
        self._clock = clock
        self._put_reader = PutReader()

    def set_term(self, term: int) -> None:
        self.header.set_term(term)

    # A batch.

    def apply(
        self,
        entries: list[Entry],
        waiting: dict[int, Pending],
        *,
        only_requests: bool = False,
        only_plain: bool = False,
    ) -> None:
        """Apply `entries` and resolve those of `waiting` that waited for them.

        With `only_requests` it ends before the first that is not a request made here, with `only_plain` before the
        first that is not a plain put or txn, which change nothing but the store and answer calls.
        While an entry takes several turns (`is_long`), those behind it wait: `step` goes on.
        """
        long = self._long
        if long is not None:
            if not (only_requests or only_plain):
                long.queue(entries)
            return
        index = self.applied_index
        if entries[0].index > index + 1:
            raise AssertionError(f"entries start at {entries[0].index}, but {index} was applied last")
        at = 0
        count = len(entries)
        while at < count:
            entry = entries[at]
            if entry.index <= index:
                at += 1
                continue
            pending = entry.context
            if only_requests and (pending is None or entry.type != EntryType.NORMAL):
                return
            if pending is not None and pending.field == PLAIN_PUT and entry.index > self.consistent_index:
                at = self._apply_puts(entries, at, waiting)
            elif pending is not None and pending.field == PLAIN_TXN:
                at = self._apply_txns(entries, at, waiting)
            elif only_plain:
                return
            else:
                end = at
                if pending is None and entry.index > self.consistent_index:
                    end = self._apply_read_puts(entries, at, waiting)
                if end == at:
                    self._apply_entry(entry, waiting)
                    end += 1
                at = end
                long = self._long
                if long is not None:
                    if long.pending is not None:
                        waiting[long.pending.id] = long.pending
                    if not only_requests:
                        long.queue(entries)
                    return
            index = self.applied_index

    @property
    def is_long(self) -> bool:
        """Whether an entry is being applied bit by bit, and others may wait behind it."""
        return self._long is not None

    @property
    def only_requests_wait(self) -> bool:
        return self._long is None or self._long.only_requests_wait

    def _begin_long(self, work: Work, field: str, pending: Pending | None, began: float) -> None:
        """Have `step` apply the entry that was marked just now."""
        entry = self._entry
        assert entry is not None and entry.index == self.applied_index
        # Until its end it is not applied.
        self.applied_index = self.consistent_index = entry.index - 1
        self.applied_term = self.consistent_term = self._term_before
        self._long = LongWrite(entry, field, work, pending, began)

    def step(self, waiting: dict[int, Pending]) -> None:
        """Apply one slice of the entry that is under way; behind its last one, what waited for it."""
        long = self._long
        assert long is not None
        try:
            result: Result | None = next(long.work, None)
        except RequestError as refusal:
            result = refusal
        if result == b"":
            return
        self._long = None
        self._mark(long.entry)
        pending = long.pending
        if self.on_applied is not None:
            took_s = self._clock() - long.began
            self.on_applied(long.api, long.operation, not isinstance(result, RequestError), took_s, 1)
        if pending is not None and waiting.pop(pending.id, None) is not None:
            pending.resolve(result or b"")
        if long.rest:
            self.apply(long.rest, waiting)

    def finish(self, waiting: dict[int, Pending]) -> None:
        """Apply all that is under way, in one piece."""
        while self._long is not None:
            self.step(waiting)

    # Puts and transactions, run by run.

    def _apply_puts(self, entries: list[Entry], at: int, waiting: dict[int, Pending]) -> int:
        """Apply the run of plain puts from `at` on; gives where it ended. The hot loop of the member."""
        alarms = self.alarms
        if alarms.corrupt or alarms.nospace or self.auth.store.enabled:
            refusal: RequestError
            if alarms.corrupt or alarms.nospace:
                refusal = CorruptError() if alarms.corrupt else NoSpaceError()
            else:
                # Proposed before authentication was enabled: nobody's.
                refusal = UserEmptyError()
            entry = entries[at]
            self._mark(entry)
            self._tell_applied("Put", self._clock(), 1, 1)
            pending = waiting.pop(entry.context.id, None)
            entry.context = None
            if pending is not None:
                pending.resolve(refusal)
            return at + 1
        store = self.store
        header = self.header
        quota = self.quota
        room = quota.limit_bytes - self.backend.size if quota.limit_bytes >= 0 else 1 << 62
        count = len(entries)
        start = at
        put_bytes = 0
        refused = 0
        began = self._clock()
        while at < count:
            entry = entries[at]
            put: Pending | None = entry.context
            if put is None or put.field != PLAIN_PUT:
                break
            # The log keeps the entry for long yet, but nobody needs the request any more.
            entry.context = None
            raw = put.raw
            value_at = put.value_at
            # Two tags and two lengths, of a byte each.
            put_bytes += len(raw) - 4 if len(raw) <= 130 else plain_size(raw, value_at)
            # Set before the write, so that a backend commit can't take one without the other.
            self.consistent_index = self.applied_index = entry.index
            revision = store.put(put.key, raw[: value_at - 1], raw[value_at:], 0)
            if len(raw) + KEY_COST >= room and KEY_COST + plain_size(raw, value_at) >= room:
                self._refuse_for_space(put, waiting)
                refused = 1
                at += 1
                break
            if waiting.pop(put.id, None) is not None:
                call = put.call
                if call is not None:
                    call.respond(header.at(revision))
            at += 1
        self._tell_applied("Put", began, at - start, refused)
        self.counts.puts += at - start
        self.counts.put_bytes += put_bytes
        last = entries[at - 1]
        self.consistent_term = self.applied_term = last.term
        return at

    def _apply_read_puts(self, entries: list[Entry], at: int, waiting: dict[int, Pending]) -> int:
        """As `_apply_puts`, of those that were not proposed here or came back from the leader, if there are any."""
        alarms = self.alarms
        if alarms.corrupt or alarms.nospace or self.auth.store.enabled:
            return at
        read = self._put_reader.read
        store = self.store
        header = self.header
        quota = self.quota
        room = (quota.limit_bytes - self.backend.size if quota.limit_bytes >= 0 else 1 << 62) - KEY_COST
        count = len(entries)
        start = at
        put_bytes = 0
        began = self._clock()
        while at < count:
            entry = entries[at]
            if entry.context is not None or entry.type != EntryType.NORMAL:
                break
            found = read(entry.data)
            if found is None:
                break
            request_id, raw, key, value_at = found
            if len(raw) >= room:
                # Whether it fits is judged to the byte by the long way.
                break
            put_bytes += len(raw) - 4 if len(raw) <= 130 else plain_size(raw, value_at)
            self.consistent_index = self.applied_index = entry.index
            revision = store.put(key, raw[: value_at - 1], raw[value_at:], 0)
            pending = waiting.pop(request_id, None)
            if pending is not None:
                pending.resolve(header.at(revision))
            at += 1
        if at > start:
            self._tell_applied("Put", began, at - start, 0)
            self.counts.puts += at - start
            self.counts.put_bytes += put_bytes
            self.consistent_term = self.applied_term = entries[at - 1].term
        return at

    def _apply_txns(self, entries: list[Entry], at: int, waiting: dict[int, Pending]) -> int:
        """Apply the run of plain txns from `at` on; gives where it ended."""
        alarms = self.alarms
        entry = entries[at]
        if alarms.corrupt or alarms.nospace or self.auth.store.enabled or entry.index <= self.consistent_index:
            # There is more to judge than the short way does.
            decoded: Pending = entry.context
            decoded.field = "txn"
            decoded.request = rpc_pb2.TxnRequest.FromString(decoded.raw)
            self._apply_entry(entry, waiting)
            return at + 1
        store = self.store
        lessor = self.lessor
        header_at = self.header.at
        counts = self.counts
        quota = self.quota
        room = quota.limit_bytes - self.backend.size if quota.limit_bytes >= 0 else 1 << 62
        count = len(entries)
        start = at
        refused = 0
        began = self._clock()
        while at < count:
            entry = entries[at]
            pending: Pending | None = entry.context
            if pending is None or pending.field != PLAIN_TXN:
                break
            entry.context = None
            at += 1
            self.consistent_index = self.applied_index = entry.index
            request: PlainTxn = pending.request
            try:
                answer = plain_txn.apply(store, lessor, request, header_at, counts)
            except RequestError as refusal:
                refused += 1
                if waiting.pop(pending.id, None) is not None:
                    pending.resolve(refusal)
                continue
            if request.cost >= room:
                refused += 1
                self._refuse_for_space(pending, waiting)
                break
            if waiting.pop(pending.id, None) is not None:
                pending.resolve(answer)
        self._tell_applied("Txn", began, at - start, refused)
        self.consistent_term = self.applied_term = entries[at - 1].term
        return at

    def _tell_applied(self, operation: str, began: float, count: int, refused: int) -> None:
        """A run was applied: each is taken to have had its share of the time."""
        if self.on_applied is None:
            return
        seconds = (self._clock() - began) / count
        if count > refused:
            self.on_applied("v3", operation, True, seconds, count - refused)
        if refused:
            self.on_applied("v3", operation, False, seconds, refused)

    def _mark(self, entry: Entry) -> bool:
        """Note that `entry` is being applied; False when the backend has it already."""
        self.applied_index = entry.index
        self.applied_term = entry.term
        if entry.index > self.consistent_index:
            self._term_before = self.consistent_term
            self.consistent_index = entry.index
            self.consistent_term = entry.term
            return True
        return False

    # One entry.

    def _apply_entry(self, entry: Entry, waiting: dict[int, Pending]) -> None:
        is_new = self._mark(entry)
        self._entry = entry
        if entry.type != EntryType.NORMAL:
            self._apply_conf_change(entry, is_new, waiting)
            return
        carried: Pending | None = entry.context
        entry.context = None
        if carried is not None and carried.request is not None:
            # Whoever asked may have been told meanwhile that it took too long: nobody is answered twice.
            who = carried.identity or ANONYMOUS
            self._apply_request(carried.field, carried.request, who, is_new, waiting.pop(carried.id, None))
            return
        data = entry.data
        if not data:
            # A new leader's first entry.
            if self.on_empty_entry is not None:
                self.on_empty_entry()
            return
        if is_v2_request(data):
            self._apply_v2(data, is_new, waiting)
            return
        if not is_new and not waiting and data[0] in _IN_THE_BACKEND:
            return
        try:
            request = raft_internal_pb2.InternalRaftRequest.FromString(data)
        except DecodeError as error:
            raise AssertionError(f"entry {entry.index} cannot be read: {error}") from error
        if request.HasField("v2"):
            self._apply_v2(request.v2.SerializeToString(), is_new, waiting)
            return
        request_id = request.ID or request.header.ID
        pending = waiting.pop(request_id, None)
        for descriptor, message in request.ListFields():
            field: str = descriptor.name
            if field in ("header", "ID"):
                continue
            if pending is None and field in _WITHOUT_EFFECT:
                return
            who = Identity(request.header.username, request.header.auth_revision)
            self._apply_request(field, message, who, is_new, pending)
            return

    def _apply_request(self, field: str, request: Any, who: Identity, is_new: bool, pending: Pending | None) -> None:
        result: Result | None
        began = self._clock()
        try:
            if is_new and not self.alarms.corrupt:
                work = self.long_writes.work(field, request, who)
                if work is not None:
                    self._begin_long(work, field, pending, began)
                    return
            result = self._dispatch(field, request, who, is_new)
        except RequestError as refusal:
            result = refusal
        if result is not None and self.on_applied is not None:
            went_well = not isinstance(result, RequestError) or isinstance(result, CompactedError)
            self.on_applied("v3", go_name(field), went_well, self._clock() - began, 1)
        if result is None or pending is None:
            if isinstance(result, NoSpaceError) and not self.alarms.nospace:
                self.raise_nospace(_nothing)
            return
        if isinstance(result, NoSpaceError) and not self.alarms.nospace:
            self.raise_nospace(ResolveLater(pending, result))
            return
        pending.resolve(result)

    def _dispatch(self, field: str, request: Any, who: Identity, is_new: bool) -> Result | None:
        cluster_effect = self.cluster.apply_request(field, request, is_new)
        if cluster_effect is not None:
            return cluster_effect
        if not is_new:
            return None
        if self.alarms.corrupt and field in _REFUSED_WHEN_CORRUPT:
            return CorruptError()
        if field == "put":
            return self._put(request, who)
        if field == "txn":
            return self._txn(request, who)
        if field == "delete_range":
            return self._delete_range(request, who)
        if field == "compaction":
            return self._compact(request)
        if field == "lease_grant":
            return self._grant(request)
        if field == "lease_revoke":
            return self._revoke(request, who)
        if field == "lease_checkpoint":
            lease.checkpoint(self.lessor, request, self._clock())
            return self.header.at(self.store.current_revision)
        if field == "alarm":
            return alarm.apply(self.alarms, self.header.at(self.store.current_revision), request)
        answer = self.auth.apply(field, request, who, index=self.consistent_index)
        if answer is not None:
            return self.header.at(self.store.current_revision) + answer
        return UnknownError(f"etcdserver: request {field} is not served by this member")

    # Key-value requests.

    def _put(self, request: rpc_pb2.PutRequest, who: Identity) -> Result:
        if self.alarms.nospace:
            return NoSpaceError()
        if self.auth.store.enabled:
            self.auth.check_put(who, request)
        fits = self.quota.available(KEY_COST + len(request.key) + len(request.value))
        if request.lease and self.lessor.lookup(request.lease) is None:
            raise LeaseNotFoundError
        write = self.store.write()
        try:
            kv.check_put(write, self.lessor, request)
            revision, previous = kv.put(write, request, self.counts)
        finally:
            write.end()
        self.counts.add(int(kv.asks_first(request)), puts=1)
        if not fits:
            return NoSpaceError()
        return put_answer(self.header.at(revision), previous)

    def _txn(self, request: rpc_pb2.TxnRequest, who: Identity) -> Result:
        cost = txn_cost(request)
        if self.alarms.nospace and cost > 0:
            return NoSpaceError()
        if self.auth.store.enabled:
            self.auth.check_txn(who, request)
        fits = self.quota.available(cost)
        answer = txn.apply(self.store, self.lessor, request, self.header.at, self.counts)
        return answer if fits else NoSpaceError()

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest, who: Identity) -> Result:
        if self.auth.store.enabled:
            self.auth.check_delete_range(who, request)
        self.counts.add(int(request.prev_kv), deletes=1)
        write = self.store.write()
        try:
            deleted, previous = kv.delete_range(write, request)
        finally:
            revision = write.end()
        return delete_answer(self.header.at(revision), deleted, previous)

    def _compact(self, request: rpc_pb2.CompactionRequest) -> Result:
        job = self.store.compact(request.revision)
        if self.on_compaction is not None:
            self.on_compaction(job)
        return self.header.at(self.store.current_revision)

    # Leases.

    def _grant(self, request: rpc_pb2.LeaseGrantRequest) -> Result:
        if self.alarms.nospace:
            return NoSpaceError()
        fits = self.quota.available(LEASE_COST)
        granted = self.lessor.grant(request.ID, request.TTL, self._clock())
        self.counts.leases_granted += 1
        if self.on_grant is not None:
            self.on_grant(granted.ttl_s)
        if not fits:
            return NoSpaceError()
        response = rpc_pb2.LeaseGrantResponse(ID=granted.id, TTL=granted.ttl_s)
        return self.header.at(self.store.current_revision) + response.SerializeToString()

    def _revoke(self, request: rpc_pb2.LeaseRevokeRequest, who: Identity) -> Result:
        if self.auth.store.enabled:
            self.auth.check_revoke(who, request)
        lease.revoke(self.store, self.lessor, request.ID, self.counts)
        return self.header.at(self.store.current_revision)

    def _refuse_for_space(self, carried: Pending, waiting: dict[int, Pending]) -> None:
        pending = waiting.pop(carried.id, None)
        self.raise_nospace(_nothing if pending is None else ResolveLater(pending, NoSpaceError()))

    # Everything else.

    def _apply_conf_change(self, entry: Entry, is_new: bool, waiting: dict[int, Pending]) -> None:
        change: ConfChange | ConfChangeV2
        if entry.type == EntryType.CONF_CHANGE:
            change = codec.decode_conf_change(entry.data)
            request_id = change.id
        else:
            change = codec.decode_conf_change_v2(entry.data)
            request_id = 0
        outcome, self.conf_state = self.cluster.apply_conf_change(change, self.apply_conf_change, is_new)
        if self.on_voters is not None:
            self.on_voters()
        pending = waiting.pop(request_id, None) if request_id else None
        if pending is not None:
            pending.resolve(outcome)

    def _apply_v2(self, data: bytes, is_new: bool, waiting: dict[int, Pending]) -> None:
        began = self._clock()
        request_id, result = self.cluster.apply_v2(data, is_new)
        if (expiry := self.cluster.take_expiry()) is not None:
            self._begin_long(expiry, "SYNC", waiting.pop(request_id, None), began)
        elif self.on_applied is not None:
            cluster = self.cluster
            self.on_applied("v2", cluster.last_v2_method, not cluster.last_v2_failed, self._clock() - began, 1)
        pending = waiting.pop(request_id, None)
        if pending is not None:
            pending.resolve(result)


def _nothing() -> None:
    pass


def _no_raft(change: ConfChange | ConfChangeV2) -> ConfState:
    raise AssertionError("no raft node is attached")


def _alarm_at_once(done: Callable[[], None]) -> None:
    done()
