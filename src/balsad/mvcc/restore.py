"""Building a store's index from its file.

Of a value no more is read than needed: the key always; create_revision and
version only where a key is first met; the lease only if there are leases.

    rows --> index (live, history, dead), lease of each key --> keys in order --> keys hung on their leases

A start does it in one piece. A snapshot from a leader is gone through in slices,
into an index of its own, while the store goes on with the one it has.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from struct import error as StructError
from typing import Any, Final

from balsad.merge_sort import MergeSort
from balsad.mvcc.faces import LeaseAttacher, StoreBackend, Stretch
from balsad.mvcc.first_puts import PutTwiceError, take_first_puts
from balsad.mvcc.key_index import KeyIndex
from balsad.mvcc.key_value import create_and_version, lease_of
from balsad.mvcc.revision import (
    FINISHED_COMPACT_KEY,
    KEY_BUCKET,
    META_BUCKET,
    ROW_KEY_SIZE,
    SCHEDULED_COMPACT_KEY,
    TOMBSTONE_KEY_SIZE,
    unpack_revision,
)
from balsad.storage import StorageError
from balsad.wire import WireError, read_uvarint, uvarint

KEY_TAG: Final = 0x0A
FREEZE_KEYS_MIN: Final = 100_000
"""So many keys are worth to be kept from the garbage collector; the price is garbage that it never finds, either."""


def restore(backend: StoreBackend, leases: LeaseAttacher) -> RestoreJob:
    """What a backend holds, read in one piece.

    Raises: StorageError when a row is broken.
    Source: etcd server/mvcc kvstore.go restore.
    """
    # Millions of tuples that all stay: looking through them for garbage again and again takes a third of the time.
    job = RestoreJob(backend, leases, in_one_piece=True)
    collecting = gc.isenabled()
    gc.disable()
    try:
        try:
            _finish(job)
        except PutTwiceError:
            job = RestoreJob(backend, leases)
            _finish(job)
    finally:
        if len(job.index.live) >= FREEZE_KEYS_MIN:
            # Else the next collection looks through it all. A full one would also lose the table of keys from its
            # sight, as it holds nothing but bytes and ints; the next put brings it back as if it were new.
            gc.freeze()
        if collecting:
            gc.enable()
    return job


def _finish(job: RestoreJob) -> None:
    while not job.step(sys.maxsize):
        pass


class RestoreJob:
    """Reads what a backend holds, to which nobody writes meanwhile; a store takes the outcome over.

    `leases` are those of the same backend, still without keys; they are all there at the first step.
    """

    def __init__(self, backend: StoreBackend, leases: LeaseAttacher, *, in_one_piece: bool = False) -> None:
        """`in_one_piece`: the first step takes as long as it needs, and may raise PutTwiceError.

        Raises: StorageError.
        """
        backend.create_bucket(KEY_BUCKET)
        backend.create_bucket(META_BUCKET)
        self.index = KeyIndex()
        self.compact_revision = _stored_revision(backend, FINISHED_COMPACT_KEY)
        self.scheduled = _stored_revision(backend, SCHEDULED_COMPACT_KEY)
        self.newest = 1
        self._backend = backend
        self._leases = leases
        self._lease_by_key: dict[bytes, int] = {}
        self._stretches: Iterator[Stretch] | None = (
            self._but_first_puts() if in_one_piece else backend.stretches(KEY_BUCKET)
        )
        self._main: Any = -1
        self._live: MergeSort[bytes] | None = None
        self._dead: MergeSort[bytes] | None = None
        self._hanging: Iterator[tuple[bytes, int]] | None = None

    @property
    def current_revision(self) -> int:
        # A compaction at a tombstone may have left no row as late as the revisions that were given out.
        return max(self.newest, self.compact_revision, self.scheduled)

    def step(self, count: int) -> bool:
        """Go on with about `count` rows or keys; True once all is there. Raises: StorageError when a row is broken."""
        if self._stretches is not None:
            if self._index_rows(count):
                self._stretches = None
                self._hanging = iter(self._lease_by_key.items())
                if count > len(self.index.live) + len(self.index.dead):
                    self.index.restored()
                else:
                    self._live = MergeSort(self.index.live)
                    self._dead = MergeSort(self.index.dead)
                return self._hang(count) if self._live is None else False
            return False
        live, dead = self._live, self._dead
        if live is not None:
            if live.step(count):
                self.index.live_sorted.take_stretches(live.stretches)
                self._live = None
            return False
        if dead is not None:
            if dead.step(count):
                self.index.dead_sorted.take_stretches(dead.stretches)
                self._dead = None
            return False
        return self._hang(count)

    def _hang(self, count: int) -> bool:
        """Hang keys on their leases; True when there are no more."""
        hanging = self._hanging
        assert hanging is not None
        leases = self._leases
        for key, lease in hanging:
            if leases.exists(lease):
                leases.attach(lease, key)
            count -= 1
            if count <= 0:
                return False
        return True

    def _index_rows(self, count: int) -> bool:
        """Fill the index from the next `count` rows of the `key` bucket or some more; True when there are no more."""
        stretches = self._stretches
        assert stretches is not None
        index = self.index
        # Metas are told apart by identity below, and share the number of their transaction. Where this is compiled,
        # objects of a known type would lose both.
        live: dict[bytes, Any] = index.live
        history: dict[bytes, list[Any]] = index.history
        meta: Any
        previous: Any
        main: Any = self._main
        has_leases = len(self._leases) > 0
        lease_by_key = self._lease_by_key
        # What a key's first put holds behind the key.
        stored = uvarint(max(main, 0))
        first_put = b"\x10%b\x18%b\x20\x01" % (stored, stored)
        ended = True
        rows = b""
        at = row = end = 0
        try:
            for rows, at, key_sizes, value_sizes in stretches:
                end = at
                for key_size, value_size in zip(key_sizes, value_sizes, strict=True):
                    # Of the row, its name, its KeyValue: where each begins.
                    row = end
                    at = row + key_size
                    end = at + value_size
                    number, sub = unpack_revision(rows, row)
                    if number != main:
                        main = number  # one object for all that one transaction wrote
                        stored = uvarint(main)
                        first_put = b"\x10%b\x18%b\x20\x01" % (stored, stored)
                    if value_size:
                        begin = at + 2
                        size = rows[at + 1]
                        if size >= 128:
                            size, begin = read_uvarint(rows, at + 1)
                        stop = begin + size
                        if rows[at] != KEY_TAG or stop > end:
                            raise WireError("a stored KeyValue does not begin with its key")
                        key = rows[begin:stop]
                    else:
                        stop = at
                        key = b""
                    if key_size != ROW_KEY_SIZE:
                        if key_size != TOMBSTONE_KEY_SIZE:
                            raise WireError("not the name of a revision")
                        previous = live.pop(key, None)
                        if previous is not None:
                            index.supersede(key, previous)
                        elif key in history:
                            continue  # two tombstones in a row: the second changes nothing
                        index.supersede(key, (main, sub, 0, 0))
                        index.dead.add(key)
                        if has_leases:
                            lease_by_key.pop(key, None)
                        continue
                    if rows.startswith(first_put, stop, end):
                        meta = (main, sub, main, 1)
                        # One look into the dict for most: a key is met for the first time.
                        previous = live.setdefault(key, meta)
                    else:
                        meta = None
                        previous = live.get(key)
                        if previous is None:
                            # Its first put was compacted away.
                            create, version = create_and_version(rows[at:end])
                            meta = (main, sub, create, version)
                            previous = meta
                            live[key] = meta
                    if previous is not meta:
                        older = history.get(key)
                        if older is None:
                            history[key] = [previous]
                        else:
                            older.append(previous)
                        live[key] = (main, sub, previous[2], previous[3] + 1)
                    if has_leases:
                        lease = lease_of(rows[at:end])
                        if lease:
                            lease_by_key[key] = lease
                        else:
                            lease_by_key.pop(key, None)
                count -= len(key_sizes)
                if count <= 0:
                    ended = False
                    break
        except (IndexError, StructError, WireError) as error:
            name, kv = rows[row:at].hex(), rows[at:end][:32].hex()
            reason = f"bucket key, row {name}: expected a revision and its KeyValue, found {kv}"
            raise StorageError(self._backend.path, reason) from error
        self._main = main
        self.newest = max(main, self.newest)
        return ended

    def _but_first_puts(self) -> Iterator[Stretch]:
        """The rows that have to be looked at one by one: those that stand among others than first puts.

        All do where keys hang on leases. Raises: PutTwiceError.
        """
        runs = self._backend.runs(KEY_BUCKET, ROW_KEY_SIZE) if not len(self._leases) else None
        if runs is None:
            yield from self._backend.stretches(KEY_BUCKET)
            return
        live: dict[bytes, Any] = self.index.live
        for run in runs:
            newest = take_first_puts(live, run.data, run.starts)
            if newest:
                self.newest = max(newest, self.newest)
            else:
                yield from run.stretches()


def _stored_revision(backend: StoreBackend, name: bytes) -> int:
    """A main revision from the `meta` bucket, -1 when there is none."""
    stored = backend.get(META_BUCKET, name)
    if not stored:
        return -1
    if len(stored) != ROW_KEY_SIZE:
        where = f"bucket meta, {name.decode()}"
        raise StorageError(backend.path, f"{where}: expected a revision, found {stored[:32].hex()}")
    main: int = unpack_revision(stored)[0]
    return main
