"""The multi-version key space: every write makes a revision, and every revision can be read until it is compacted.

Where a KeyValue is found: in the cache (current revisions), else in the backend,
which has what is not yet committed as well. Where its revision is found: in the
index, always in memory.

A write is not undone and cannot fail half-way: who writes has checked before.

Source: etcd server/mvcc kvstore.go and kvstore_txn.go.
"""

from __future__ import annotations

from collections import deque

from balsad.errors import CompactedError, FutureRevError
from balsad.mvcc.changed_since import ChangedSince
from balsad.mvcc.compaction import CompactionJob
from balsad.mvcc.event import put_event
from balsad.mvcc.faces import LeaseAttacher, StoreBackend
from balsad.mvcc.hash import HashJob, HashResult, StoredHashes
from balsad.mvcc.key_index import KeyIndex
from balsad.mvcc.key_value import without_value
from balsad.mvcc.range_job import RangeJob
from balsad.mvcc.restore import RestoreJob, restore
from balsad.mvcc.revision import (
    KEY_BUCKET,
    META_BUCKET,
    SCHEDULED_COMPACT_KEY,
    UNDERSCORE,
    KeyMeta,
    pack_revision,
    revision_key,
)
from balsad.mvcc.value_cache import CACHE_BYTES_MAX, ENTRY_OVERHEAD, ValueCache
from balsad.mvcc.watch import WatchHub
from balsad.mvcc.write_txn import WriteTxn
from balsad.storage import StorageError
from balsad.wire import LAST, MORE, uvarint, varint

COMPACTION_BATCH = 1000


class RangeResult:
    """What a range found: `kvs` (KeyValue bytes) and `metas` go together, `count` knows no limit.

    `revision` is the store's when it was asked, not the one that was asked for.
    """

    __slots__ = ("count", "kvs", "metas", "revision")

    def __init__(self, kvs: list[bytes], metas: list[KeyMeta], count: int, revision: int) -> None:
        self.kvs = kvs
        self.metas = metas
        self.count = count
        self.revision = revision


class Store:
    """Ranges are given as on the wire: `end` b"" is the key alone, b"\\0" every key from `key` on."""

    # `restore` comes first: without it the store does not know what the backend holds.

    def __init__(
        self,
        backend: StoreBackend,
        *,
        leases: LeaseAttacher,
        cache_bytes_max: int = CACHE_BYTES_MAX,
        compaction_batch: int = COMPACTION_BATCH,
        hash_compactions: bool = False,
    ) -> None:
        self.backend = backend
        self.leases = leases
        self.compaction_batch = compaction_batch
        self.hash_compactions = hash_compactions
        self.current_revision = 1
        self.compact_revision = -1
        # Compactions that are not finished, oldest first; stepping any of them works on the first.
        self.compactions: deque[CompactionJob] = deque()
        self.hashes = StoredHashes()
        # Ranges that are read bit by bit.
        self.range_jobs: list[RangeJob] = []
        self.index = KeyIndex()
        self.cache = ValueCache(cache_bytes_max)
        self.watchers = WatchHub(self)
        # The newest main revision in the index: one more than the current one while a write txn is under way.
        self.head = 1
        # Where rows of the `key` bucket are put: the backend's own pending changes. Restore sets it.
        self.rows: dict[bytes, bytes | None] = {}
        # Rows of a write txn that is open over several turns, not yet where those of all others are.
        self.apart: dict[bytes, bytes | None] = {}
        self.is_apart = False
        self._synced = self.watchers.synced
        self._live = self.index.live
        self._kvs = self.cache.kvs
        self._lease_by_key = leases.lease_by_key
        self._changed = ChangedSince(self)

    def restore(self) -> None:
        """Take in what the backend holds: index, leases of keys, an unfinished compaction.

        After it `compactions` is not empty if one is to be resumed.
        """
        self._take_over(self.backend, restore(self.backend, self.leases))

    def replace_backend(self, backend: StoreBackend, restored: RestoreJob | None = None) -> tuple[KeyIndex, ValueCache]:
        """Go on with another backend, whose content is later; watchers catch up from it.

        `restored` is that content, else it is read now. Gives what is of no use any more: to free a million keys takes
        as long as to make them, so shed them bit by bit. Raises: StorageError when there is no `restored`.
        """
        if restored is None:
            restored = restore(backend, self.leases)
        self.watchers.restart()
        self._changed.forget()
        return self._take_over(backend, restored)

    def _take_over(self, backend: StoreBackend, restored: RestoreJob) -> tuple[KeyIndex, ValueCache]:
        before = self.index, self.cache
        self.end_apart()
        self.backend = backend
        backend.lend_pending(KEY_BUCKET, self._take_rows)
        self.index = restored.index
        self.cache = ValueCache(self.cache.size_max)
        self._live = self.index.live
        self._kvs = self.cache.kvs
        self._lease_by_key = self.leases.lease_by_key
        self.hashes.clear()
        self.compactions.clear()
        self.compact_revision = restored.compact_revision
        self.current_revision = self.head = restored.current_revision
        if restored.scheduled > restored.compact_revision:
            self.begin_compaction(restored.scheduled, with_hash=False)
        return before

    def _take_rows(self, rows: dict[bytes, bytes | None]) -> None:
        self.rows = rows

    @property
    def key_count(self) -> int:
        """How many keys live now."""
        return len(self._live)

    def put(self, key: bytes, key_field: bytes, value_field: bytes, lease: int) -> int:
        """A write txn of one put; gives the new revision.

        `key_field` is the key with tag and length (0a, length, key), `value_field` the value
        with its length but no tag, or b"" when it is empty.
        """
        main = self.current_revision + 1
        if 16384 <= main < 268435456:
            number = MORE[main & 16383] + LAST[main >> 14]
        else:
            number = uvarint(main)
        live = self._live
        previous = live.get(key)
        if previous is None:
            self.index.live_sorted.add(key)
            live[key] = (main, 0, main, 1)
            create = number
            version = b"\x01"
        else:
            history = self.index.history
            older = history.get(key)
            if older is None:
                history[key] = [previous]
            else:
                older.append(previous)
            created = previous[2]
            counted = previous[3] + 1
            live[key] = (main, 0, created, counted)
            create = uvarint(created)
            version = LAST[counted] if counted < 16384 else uvarint(counted)
        if value_field:
            kv = b"%b\x10%b\x18%b\x20%b\x2a%b" % (key_field, create, number, version, value_field)
        else:
            kv = b"%b\x10%b\x18%b\x20%b" % (key_field, create, number, version)
        if lease:
            kv += b"\x30" + varint(lease)
        self.rows[pack_revision(main, UNDERSCORE, 0)] = kv
        kvs = self._kvs
        cache = self.cache
        old = kvs.get(key)
        kvs[key] = kv
        if old is None:
            cache.size += len(kv) + ENTRY_OVERHEAD
        else:
            cache.size += len(kv) - len(old)
        if cache.size > cache.size_max:
            cache.evict()
        if lease or key in self._lease_by_key:
            self.move_lease(key, lease)
        self.current_revision = self.head = main
        if self._synced.size:
            self.watchers.notify([put_event(key, kv, main)], main)
        return main

    def write(self) -> WriteTxn:
        """Several writes that make one revision. Nobody else may write until it has ended."""
        assert self.head == self.current_revision, "a write txn is under way already"
        return WriteTxn(self, self.rows)

    def write_apart(self) -> WriteTxn:
        """As `write`, for a txn that stays open over several turns of the event loop: see there."""
        assert self.head == self.current_revision, "a write txn is under way already"
        self.apart = {}
        self.is_apart = True
        return WriteTxn(self, self.apart)

    def end_apart(self) -> None:
        """For WriteTxn alone: its rows are where all are."""
        self.is_apart = False
        self.apart = {}

    def range(
        self,
        key: bytes,
        end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
        keys_only: bool = False,
    ) -> RangeResult:
        """The keys of a range in order, at a revision (0 or less: now), the first `limit` of them unless it is 0.

        Raises: CompactedError, FutureRevError.
        """
        return self.range_from(self.current_revision, key, end, revision, limit, count_only, keys_only)

    def range_from(
        self, current: int, key: bytes, end: bytes, revision: int, limit: int, count_only: bool, keys_only: bool
    ) -> RangeResult:
        """A range for a reader to whom `current` is the newest revision."""
        if revision > current:
            raise FutureRevError
        if revision <= 0:
            revision = current
        if revision < self.compact_revision:
            raise CompactedError
        index = self.index
        if revision >= self.head:
            count = index.count(key, end)
            if count_only or not count:
                return RangeResult([], [], count, current)
            kvs, metas = self._newest(index.keys(key, end, limit))
        else:
            # Of a listing's later pages, while others write, only the page is looked at.
            few = None
            if (limit or count_only) and end and not self.is_apart:
                few = self._changed.select(key, end, revision, limit or 1)
            keys, metas, count = few if few is not None else index.select(key, end, revision, limit)
            if count_only or not count:
                return RangeResult([], [], count, current)
            kvs = self.values(keys, metas)
        if keys_only:
            kvs = [without_value(kv) for kv in kvs]
        return RangeResult(kvs, metas, count, current)

    def values(self, keys: list[bytes], metas: list[KeyMeta]) -> list[bytes]:
        """The KeyValues of these changes of keys, none of which is compacted."""
        return [self._value(key, meta) for key, meta in zip(keys, metas, strict=True)]

    def knows_what_changed_since(self, revision: int) -> bool:
        """Whether a few keys at an old revision, or their number, are told without looking at all keys of a range."""
        return not self.is_apart and self._changed.keys(revision) is not None

    def size_of(self, key: bytes, end: bytes, revision: int) -> int:
        """How many keys have to be looked at to know all of a range, at most."""
        index = self.index
        if revision <= 0:
            revision = self.current_revision
        count = index.count(key, end)
        if revision < self.head and end:
            count += index.dead_sorted.count(key, end)
        return count

    def get(self, key: bytes) -> bytes | None:
        """The KeyValue of a live key."""
        if self.head != self.current_revision:
            return self.get_at(key, self.current_revision)
        kv = self._kvs.get(key)
        if kv is None:
            meta = self._live.get(key)
            if meta is not None:
                kv = self._fetch(key, meta)
        return kv

    def meta(self, key: bytes) -> KeyMeta | None:
        """(mod, sub, create, version) of a live key."""
        if self.head != self.current_revision:
            return self.index.at(key, self.current_revision)
        return self._live.get(key)

    def get_at(self, key: bytes, revision: int) -> bytes | None:
        """The KeyValue of a key at a revision; None also when that is compacted."""
        if revision < self.compact_revision:
            return None
        meta = self.index.at(key, revision)
        return None if meta is None else self._value(key, meta)

    def newest(self, key: bytes) -> bytes | None:
        """The KeyValue of a key, with what an open write txn did to it."""
        meta = self._live.get(key)
        return None if meta is None else self._value(key, meta)

    def compact(self, revision: int) -> CompactionJob:
        """Refuse reads below `revision` from now on; the job forgets and deletes what they would have seen.

        Raises: CompactedError, FutureRevError.
        """
        if revision <= self.compact_revision:
            raise CompactedError
        if revision > self.current_revision:
            raise FutureRevError
        # A hash is worth keeping only if the compaction before went over everything up to its revision.
        return self.begin_compaction(revision, self.hash_compactions and not self.compactions)

    def begin_compaction(self, revision: int, with_hash: bool) -> CompactionJob:
        for range_job in tuple(self.range_jobs):
            if range_job.read_at < revision:
                # What it has yet to read would be gone.
                range_job.finish()
        self.backend.put(META_BUCKET, SCHEDULED_COMPACT_KEY, revision_key(revision, 0))
        hash_job = HashJob(self, revision, self.compact_revision) if with_hash else None
        job = CompactionJob(self, revision, hash_job)
        self.compact_revision = revision
        self.compactions.append(job)
        return job

    def hash_job(self, revision: int) -> HashJob:
        """The work of hash_by_revision in slices; writes may go on meanwhile, compactions make it begin anew.

        Raises: CompactedError, FutureRevError.
        """
        if revision <= 0:
            revision = self.current_revision
        if self.hashes.get(revision) is None:
            self.check_readable(revision)
        return HashJob(self, revision)

    def check_readable(self, revision: int) -> None:
        """Raises: CompactedError, FutureRevError."""
        if revision < self.compact_revision:
            raise CompactedError
        if revision > self.current_revision:
            raise FutureRevError

    def hash_by_revision(self, revision: int) -> HashResult:
        """The hash of all that a reader at `revision` (0: now) or later can see, as every member computes it.

        Raises: CompactedError, FutureRevError.
        """
        job = self.hash_job(revision)
        while not job.step():
            pass
        return job.result

    def move_lease(self, key: bytes, lease: int) -> None:
        """Hang a key on a lease (0: none) and off the one it was on."""
        before = self._lease_by_key.get(key, 0)
        if before == lease:
            return
        if before:
            self.leases.detach(before, key)
        if lease:
            self.leases.attach(lease, key)

    def load(self, row_key: bytes) -> bytes:
        """The value of a row of the `key` bucket, which the index says is there. Raises: StorageError if it is not."""
        kv = self.backend.get(KEY_BUCKET, row_key)
        if kv is None and self.apart:
            kv = self.apart.get(row_key)
        if kv is None:
            # Its name was broken when the index was made of it: without the underscore, say.
            raise StorageError(self.backend.path, f"bucket key has no row {row_key.hex()}, which the index names")
        return kv

    def _newest(self, keys: list[bytes]) -> tuple[list[bytes], list[KeyMeta]]:
        metas = list(map(self._live.__getitem__, keys))
        cached = self._kvs
        try:
            return list(map(cached.__getitem__, keys)), metas
        except KeyError:
            pass
        kvs: list[bytes] = []
        for place, key in enumerate(keys):
            kv = cached.get(key)
            if kv is None:
                kv = self._fetch(key, metas[place])
            kvs.append(kv)
        return kvs, metas

    def _fetch(self, key: bytes, meta: KeyMeta) -> bytes:
        """A current KeyValue that the cache lacks."""
        kv = self.load(revision_key(meta[0], meta[1]))
        self.cache.put(key, kv)
        return kv

    def _value(self, key: bytes, meta: KeyMeta) -> bytes:
        if self._live.get(key) == meta:
            kv = self._kvs.get(key)
            return self._fetch(key, meta) if kv is None else kv
        return self.load(revision_key(meta[0], meta[1]))
