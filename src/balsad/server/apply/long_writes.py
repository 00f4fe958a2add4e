"""Writes of very many keys, applied between turns of the event loop: a slice of keys in each.

    apply(k-1) -> begin k -> slice -> slice -> ... -> end: rows, revision, consistent index, events -> apply(k+1) ...
                  readers: the revision before k                  |  the one of k

Nothing of it can be seen, or is committed, before its end; so a kill leaves the state before, and the log has the
entry. What comes behind it in the log waits, as does whoever asks a quorum how far to read. The only voter's readers
are told of the state before: nobody was yet told of another.

Source: our own; in etcd one apply holds up puts and linearizable reads likewise, but not the loop, for it has threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from balsad.errors import LeaseNotFoundError
from balsad.raft import EntryType
from balsad.server.answers import HeaderBytes, delete_answer, delete_rows
from balsad.server.apply.tally import go_name

if TYPE_CHECKING:
    from balsad.auth import Identity
    from balsad.lease import Lessor
    from balsad.mvcc import Store
    from balsad.proto import rpc_pb2
    from balsad.raft import Entry
    from balsad.server.apply.auth import AuthApplier
    from balsad.server.apply.tally import Tally
    from balsad.server.propose import Pending

KEYS_MIN: Final = 5000
"""Of so many keys a write is long: fewer are done in 10 ms."""
AT_ONCE: Final = 4000

Work = Iterator[bytes]
"""Nothing after each slice, in the end the answer, if any. A RequestError is raised before anything is changed."""


class LongWrite:
    """An entry that is being applied over several turns of the event loop."""

    __slots__ = ("api", "began", "entry", "operation", "pending", "rest", "work")

    def __init__(self, entry: Entry, field: str, work: Work, pending: Pending | None, began: float) -> None:
        self.entry = entry
        self.api = "v2" if field == "SYNC" else "v3"
        self.operation = field if field == "SYNC" else go_name(field)
        self.work = work
        self.pending = pending
        self.began = began
        self.rest: list[Entry] = []  # comes behind it

    @property
    def only_requests_wait(self) -> bool:
        return all(entry.type == EntryType.NORMAL for entry in self.rest)

    def queue(self, entries: list[Entry]) -> None:
        known = self.rest[-1].index if self.rest else self.entry.index
        self.rest += [entry for entry in entries if entry.index > known]


class LongWrites:
    """Knows which requests are long: `keys_min` keys, or more, are done `at_once` by so many."""

    __slots__ = ("_auth", "_counts", "_header", "_lessor", "_store", "at_once", "keys_min")

    def __init__(self, store: Store, lessor: Lessor, auth: AuthApplier, header: HeaderBytes, counts: Tally) -> None:
        self.keys_min = KEYS_MIN
        self.at_once = AT_ONCE
        self._store = store
        self._lessor = lessor
        self._auth = auth
        self._header = header
        self._counts = counts

    def work(self, field: str, request: Any, who: Identity) -> Work | None:
        """What there is to do for a request that would hold everybody up; None for any other. Raises: RequestError."""
        store = self._store
        auth = self._auth
        if field == "delete_range":
            if store.key_count < self.keys_min or not request.range_end:
                return None
            if store.index.count(request.key, request.range_end) < self.keys_min:
                return None
            if auth.store.enabled:
                auth.check_delete_range(who, request)
            self._counts.add(int(request.prev_kv), deletes=1)
            return delete_range(store, self._header, request, self.at_once)
        if field == "lease_revoke":
            lease = self._lessor.lookup(request.ID)
            if lease is None or len(lease.keys) < self.keys_min:
                return None
            if auth.store.enabled:
                auth.check_revoke(who, request)
            self._counts.leases_revoked += 1
            self._counts.add(0, deletes=len(lease.keys))
            return revoke(store, self._lessor, self._header, request.ID, self.at_once)
        return None


def delete_range(store: Store, header: HeaderBytes, request: rpc_pb2.DeleteRangeRequest, at_once: int) -> Work:
    key, end = request.key, request.range_end
    write = store.write_apart()
    deleted = 0
    previous: list[bytes] = []
    while True:
        if request.prev_kv:
            previous.append(delete_rows(write.range(key, end, limit=at_once).kvs))
        keys = write.delete_first(key, end, at_once)
        deleted += len(keys)
        if len(keys) < at_once:
            break
        yield b""
    yield delete_answer(header.at(write.end()), deleted, ()) + b"".join(previous)


def revoke(store: Store, lessor: Lessor, header: HeaderBytes, lease_id: int, at_once: int) -> Work:
    lease = lessor.lookup(lease_id)
    if lease is None:
        raise LeaseNotFoundError
    keys = lease.sorted_keys()
    yield b""
    write = store.write_apart()
    for start in range(0, len(keys), at_once):
        write.delete_keys(keys[start : start + at_once])
        yield b""
    # The lease and its keys go in one commit.
    lessor.revoke(lease_id)
    yield header.at(write.end())
