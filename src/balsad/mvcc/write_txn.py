"""Several writes that become one revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.mvcc.event import Event, delete_event, put_event
from balsad.mvcc.key_value import key_field, lease_of
from balsad.mvcc.revision import KeyMeta, revision_key, tombstone_key
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

    __slots__ = ("_changes", "_ended", "_main", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._main = store.current_revision + 1
        # (is a delete, key, stored bytes), in order: the place is the sub revision.
        self._changes: list[tuple[bool, bytes, bytes]] = []
        self._ended = False

    @property
    def revision(self) -> int:
        """What a reader inside sees: one more than before once something was written."""
        return self._main if self._changes else self._main - 1

    @property
    def change_count(self) -> int:
        return len(self._changes)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Write a key; gives the revision it will have. The lease, if any, exists."""
        return self.put_fields(key, key_field(key), uvarint(len(value)) + value if value else b"", lease)

    def put_fields(self, key: bytes, key_bytes: bytes, value_field: bytes, lease: int) -> int:
        """The same from bytes of a request: the key with tag and length, the value with its length or b""."""
        assert not self._ended
        store = self._store
        main = self._main
        changes = self._changes
        sub = len(changes)
        _, _, create, version = store.index.put(key, main, sub)
        kv = b"%b\x10%b\x18%b\x20%b" % (key_bytes, uvarint(create), uvarint(main), uvarint(version))
        if value_field:
            kv = b"%b\x2a%b" % (kv, value_field)
        if lease:
            kv += b"\x30" + varint(lease)
        store.rows[revision_key(main, sub)] = kv
        store.cache.put(key, kv)
        store.head = main
        changes.append((False, key, kv))
        if lease or key in store.leases.lease_by_key:
            store.move_lease(key, lease)
        return main

    def delete_range(self, key: bytes, end: bytes = b"") -> int:
        """Delete the keys of a range; gives how many there were."""
        assert not self._ended
        store = self._store
        keys = store.index.keys(key, end, 0)
        if len(keys) >= MANY:
            store.index.tombstone_between(key, end, keys, self._main, len(self._changes))
            self._delete_all(keys)
        else:
            for gone in keys:
                self._delete(gone)
        return len(keys)

    def delete_keys(self, keys: list[bytes]) -> None:
        """Delete these keys, given in order; those that do not live are left out."""
        assert not self._ended
        index = self._store.index
        live = index.live
        keys = [key for key in keys if key in live]
        if len(keys) >= MANY:
            index.tombstone_all(keys, self._main, len(self._changes))
            self._delete_all(keys)
        else:
            for key in keys:
                self._delete(key)

    def _delete(self, key: bytes) -> None:
        store = self._store
        main = self._main
        sub = len(self._changes)
        tombstone = key_field(key)
        store.index.tombstone(key, main, sub)
        store.rows[tombstone_key(main, sub)] = tombstone
        store.cache.drop(key)
        store.head = main
        self._changes.append((True, key, tombstone))
        store.move_lease(key, 0)

    def _delete_all(self, keys: list[bytes]) -> None:
        """What is left to do when the index knows that these keys are gone."""
        store = self._store
        main = self._main
        rows = store.rows
        changes = self._changes
        cache = store.cache
        lease_by_key = store.leases.lease_by_key
        sub = len(changes)
        store.head = main
        for key in keys:
            tombstone = key_field(key)
            rows[tombstone_key(main, sub)] = tombstone
            cache.drop(key)
            changes.append((True, key, tombstone))
            if key in lease_by_key:
                store.move_lease(key, 0)
            sub += 1

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
        changes = self._changes
        if not changes:
            return store.current_revision
        main = self._main
        store.current_revision = main
        if store.watchers.synced.size:
            events: list[Event] = [
                delete_event(key, kv, main) if is_delete else put_event(key, kv, main) for is_delete, key, kv in changes
            ]
            store.watchers.notify(events, main)
        return main
