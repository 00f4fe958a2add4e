"""Building a store's index from its file.

Of a value no more is read than needed: the key always; create_revision and
version only where a key is first met; the lease only if there are leases.
"""

from __future__ import annotations

import gc
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

KEY_TAG: Final = 0x0A
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
    # Metas are told apart by identity below, and share the number of their transaction. Where this is compiled, objects
    # of a known type would lose both.
    live: dict[bytes, Any] = index.live
    history: dict[bytes, list[Any]] = index.history
    meta: Any
    previous: Any
    main: Any = -1
    has_leases = len(store.leases) > 0
    lease_by_key: dict[bytes, int] = {}
    # What a key's first put holds behind the key.
    first_put = b""
    rows = b""
    at = row = end = 0
    try:
        for rows, at, key_sizes, value_sizes in backend.stretches(KEY_BUCKET):
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
    except (IndexError, StructError, WireError) as error:
        name, kv = rows[row:at].hex(), rows[at:end][:32].hex()
        reason = f"bucket key, row {name}: expected a revision and its KeyValue, found {kv}"
        raise StorageError(backend.path, reason) from error
    index.restored()
    leases = store.leases
    for key, lease in lease_by_key.items():
        if leases.exists(lease):
            leases.attach(lease, key)
    newest: int = max(main, 1)
    return newest
