"""Several writes that become one revision.

Such a txn may stay open over many turns of the event loop ("apart"): a delete of a hundred thousand keys is to keep
nobody waiting. Readers are answered at the revision before meanwhile. The index answers to that in any case; what is
not to be seen, or committed, before the txn ends are its rows, which are kept apart until then. Nobody else may write.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final

from balsad.mvcc.event import Event, delete_event, put_event
from balsad.mvcc.key_value import key_field, lease_of
from balsad.mvcc.revision import TOMBSTONE, UNDERSCORE, KeyMeta, pack_tombstone, revision_key, tombstone_key
from balsad.wire import uvarint, varint

MANY: Final = 64
"""Keys of one delete for which it pays to take them out of the index together."""

if TYPE_CHECKING:
    from balsad.mvcc.store import RangeResult, Store


class WriteTxn:
    """Reads in it see its own writes; nobody else does until `end`.

    It writes straight into the index: other readers stay at the current revision,
    to which the index still answers. There is no way back: whoever writes has checked.
    """

    __slots__ = ("_are_deletes", "_ended", "_keys", "_kvs", "_main", "_rows", "_store")

    def __init__(self, store: Store, rows: dict[bytes, bytes | None]) -> None:
        self._store = store
        self._rows = rows
        self._main = store.current_revision + 1
        # What was changed, in order: the place is the sub revision.
        self._are_deletes: list[bool] = []
        self._keys: list[bytes] = []
        self._kvs: list[bytes] = []  # as stored
        self._ended = False

    @property
    def revision(self) -> int:
        """What a reader inside sees: one more than before once something was written."""
        return self._main if self._keys else self._main - 1

    @property
    def change_count(self) -> int:
        return len(self._keys)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Write a key; gives the revision it will have. The lease, if any, exists."""
        return self.put_fields(key, key_field(key), uvarint(len(value)) + value if value else b"", lease)

    def put_fields(self, key: bytes, key_bytes: bytes, value_field: bytes, lease: int) -> int:
        """The same from bytes of a request: the key with tag and length, the value with its length or b""."""
        assert not self._ended
        store = self._store
        main = self._main
        sub = len(self._keys)
        _, _, create, version = store.index.put(key, main, sub)
        kv = b"%b\x10%b\x18%b\x20%b" % (key_bytes, uvarint(create), uvarint(main), uvarint(version))
        if value_field:
            kv = b"%b\x2a%b" % (kv, value_field)
        if lease:
            kv += b"\x30" + varint(lease)
        self._rows[revision_key(main, sub)] = kv
        store.cache.put(key, kv)
        store.head = main
        self._note(False, key, kv)
        if lease or key in store.leases.lease_by_key:
            store.move_lease(key, lease)
        return main

    def delete_range(self, key: bytes, end: bytes = b"") -> int:
        """Delete the keys of a range; gives how many there were."""
        assert not self._ended
        keys = self._store.index.keys(key, end, 0)
        self._delete_between(key, end, keys)
        return len(keys)

    def delete_first(self, key: bytes, end: bytes, count: int) -> list[bytes]:
        """Delete the first `count` keys of a range; gives those, fewer only when there are no more."""
        assert not self._ended
        keys = self._store.index.keys(key, end, count)
        if keys:
            self._delete_between(keys[0], keys[-1] + b"\0", keys)
        return keys

    def _delete_between(self, key: bytes, end: bytes, keys: list[bytes]) -> None:
        """Delete all keys of a range, which are `keys`."""
        if len(keys) >= MANY:
            self._store.index.tombstone_between(key, end, keys, self._main, len(self._keys))
            self._delete_all(keys)
        else:
            for gone in keys:
                self._delete(gone)

    def delete_keys(self, keys: list[bytes]) -> None:
        """Delete these keys, given in order; those that do not live are left out."""
        assert not self._ended
        index = self._store.index
        live = index.live
        keys = [key for key in keys if key in live]
        if len(keys) >= MANY:
            index.tombstone_all(keys, self._main, len(self._keys))
            self._delete_all(keys)
        else:
            for key in keys:
                self._delete(key)

    def _note(self, is_delete: bool, key: bytes, kv: bytes) -> None:
        self._are_deletes.append(is_delete)
        self._keys.append(key)
        self._kvs.append(kv)

    def _delete(self, key: bytes) -> None:
        store = self._store
        main = self._main
        sub = len(self._keys)
        tombstone = key_field(key)
        store.index.tombstone(key, main, sub)
        self._rows[tombstone_key(main, sub)] = tombstone
        store.cache.drop(key)
        store.head = main
        self._note(True, key, tombstone)
        store.move_lease(key, 0)

    def _delete_all(self, keys: list[bytes]) -> None:
        """What is left to do when the index knows that these keys are gone."""
        store = self._store
        main = self._main
        sub = len(self._keys)
        store.head = main
        heads = {size: b"\x0a" + uvarint(size) for size in set(map(len, keys))}
        tombstones = [heads[len(key)] + key for key in keys]
        subs = range(sub, sub + len(keys))
        names = map(pack_tombstone, repeat(main), repeat(UNDERSCORE), subs, repeat(TOMBSTONE))
        self._rows.update(zip(names, tombstones, strict=False))
        store.cache.drop_all(keys)
        self._are_deletes.extend(repeat(True, len(keys)))
        self._keys += keys
        self._kvs += tombstones
        if store.leases.lease_by_key:
            store.leases.detach_all(keys)

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
        """As Store.range, with this txn's own writes. Raises: CompactedError, FutureRevError."""
        return self._store.range_from(self.revision, key, end, revision, limit, count_only, keys_only)

    def get(self, key: bytes) -> bytes | None:
        return self._store.newest(key)

    def meta(self, key: bytes) -> KeyMeta | None:
        return self._store.index.live.get(key)

    def lease_of(self, key: bytes) -> int:
        """The lease id in the key's KeyValue, 0 when there is none or no such key."""
        kv = self._store.newest(key)
        return 0 if kv is None else lease_of(kv)

    def end(self) -> int:
        """Make the writes a revision and tell the watchers; gives the current revision.

        A txn that changed nothing makes no revision.
        """
        assert not self._ended
        self._ended = True
        store = self._store
        if not self._keys:
            store.end_apart()
            return store.current_revision
        main = self._main
        if store.is_apart:
            store.rows.update(self._rows)
            store.end_apart()
        store.current_revision = main
        if store.watchers.synced.size:
            events: list[Event] = [
                delete_event(key, kv, main) if is_delete else put_event(key, kv, main)
                for is_delete, key, kv in zip(self._are_deletes, self._keys, self._kvs, strict=True)
            ]
            store.watchers.notify(events, main)
        return main
