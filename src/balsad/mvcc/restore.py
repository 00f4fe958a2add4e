"""Building a store's index from its file.

Of a value no more is read than needed: the key always; create_revision and
version only where a key is first met; the lease only if there are leases.
"""

from __future__ import annotations

import gc
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from balsad.mvcc.key_value import create_and_version, key_of, lease_of
from balsad.mvcc.revision import (
    FINISHED_COMPACT_KEY,
    KEY_BUCKET,
    META_BUCKET,
    SCHEDULED_COMPACT_KEY,
    TOMBSTONE_KEY_SIZE,
    revision_key,
    unpack_revision,
)
from balsad.storage import StorageError
from balsad.wire import WireError, uvarint

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

ROWS_AT_ONCE: Final = 10_000
FREEZE_KEYS_MIN: Final = 100_000
"""So many keys are worth to be kept from the garbage collector; the price is garbage that it never finds, either."""


def restore(store: Store) -> None:
    """Replace what a store knows by what its backend holds.

    Raises: StorageError when a row is broken.
    Source: etcd server/mvcc kvstore.go restore.
    """
    backend = store.backend
    backend.create_bucket(KEY_BUCKET)
    backend.create_bucket(META_BUCKET)
    store.rows = backend.pending_of(KEY_BUCKET)
    store.index.clear()
    store.cache.clear()
    store.hashes.clear()
    store.compactions.clear()
    finished = _stored_revision(store, FINISHED_COMPACT_KEY)
    scheduled = _stored_revision(store, SCHEDULED_COMPACT_KEY)
    store.compact_revision = finished

    # Millions of tuples that all stay: looking through them for garbage again and again takes a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        newest = _index_rows(store)
    finally:
        if collecting:
            if len(store.index.live) >= FREEZE_KEYS_MIN:
                # Else the next collection looks through it all. A full one would also lose the table of keys from its
                # sight, as it holds nothing but bytes and ints; the next put brings it back as if it were new.
                gc.freeze()
            gc.enable()
    # A compaction at a tombstone may have left no row as late as the revisions that were given out.
    store.current_revision = store.head = max(newest, store.compact_revision, scheduled)
    if scheduled > finished:
        store.begin_compaction(scheduled, with_hash=False)


def _stored_revision(store: Store, name: bytes) -> int:
    """A main revision from the `meta` bucket, -1 when there is none."""
    stored = store.backend.get(META_BUCKET, name)
    if not stored:
        return -1
    main: int = unpack_revision(stored)[0]
    return main


def _index_rows(store: Store) -> int:
    """Fill the index from the `key` bucket and hang keys on their leases; gives the newest main revision."""
    backend = store.backend
    index = store.index
    live = index.live
    history = index.history
    has_leases = len(store.leases) > 0
    lease_by_key: dict[bytes, int] = {}
    main = 1
    # What a key's first put holds behind the key, and the revision of which that is true.
    first_put = b""
    first_put_of = 0
    start = revision_key(1, 0)
    row_key = kv = b""
    try:
        while True:
            rows = backend.scan(KEY_BUCKET, start, None, ROWS_AT_ONCE)
            for row_key, kv in rows:
                number, sub = unpack_revision(row_key)
                if number != main:
                    main = number  # one object for all that one transaction wrote
                size = kv[1] if kv else 0
                key = kv[2 : 2 + size] if size < 128 else key_of(kv)
                previous = live.get(key)
                if len(row_key) == TOMBSTONE_KEY_SIZE:
                    if previous is not None:
                        del live[key]
                        index.supersede(key, previous)
                    elif key in history:
                        continue  # two tombstones in a row: the second changes nothing
                    index.supersede(key, (main, sub, 0, 0))
                    index.dead.add(key)
                    if has_leases:
                        lease_by_key.pop(key, None)
                    continue
                if previous is None:
                    if main != first_put_of:
                        first_put_of = main
                        stored = uvarint(main)
                        first_put = b"\x10%b\x18%b\x20\x01" % (stored, stored)
                    if size < 128 and kv.startswith(first_put, 2 + size):
                        live[key] = (main, sub, main, 1)
                    else:
                        create, version = create_and_version(kv)
                        live[key] = (main, sub, create, version)
                else:
                    older = history.get(key)
                    if older is None:
                        history[key] = [previous]
                    else:
                        older.append(previous)
                    live[key] = (main, sub, previous[2], previous[3] + 1)
                if has_leases:
                    lease = lease_of(kv)
                    if lease:
                        lease_by_key[key] = lease
                    else:
                        lease_by_key.pop(key, None)
            if len(rows) < ROWS_AT_ONCE:
                break
            start = rows[-1][0] + b"\0"
    except (IndexError, StructError, WireError) as error:
        reason = f"bucket key, row {row_key.hex()}: expected a revision and its KeyValue, found {kv[:32].hex()}"
        raise StorageError(backend.path, reason) from error
    index.restored()
    leases = store.leases
    for key, lease in lease_by_key.items():
        if leases.exists(lease):
            leases.attach(lease, key)
    return main
