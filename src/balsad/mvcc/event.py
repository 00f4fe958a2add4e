"""What watchers are told: an event per change, batches of them per watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.wire import uvarint

if TYPE_CHECKING:
    from balsad.mvcc.store import Store


class Event:
    """One change of one key, shared between all watchers that see it.

    `kv` is the KeyValue as the event shows it: a delete's has only key and mod_revision.
    """

    __slots__ = ("_encoded", "_encoded_with_prev", "is_delete", "key", "kv", "mod_revision")

    def __init__(self, is_delete: bool, key: bytes, kv: bytes, mod_revision: int) -> None:
        self.is_delete = is_delete
        self.key = key
        self.kv = kv
        self.mod_revision = mod_revision
        self._encoded: bytes | None = None
        self._encoded_with_prev: bytes | None = None

    def __repr__(self) -> str:
        return f"Event({'delete' if self.is_delete else 'put'} {self.key!r} at {self.mod_revision})"

    @property
    def encoded(self) -> bytes:
        """The bytes of mvccpb.Event without prev_kv."""
        encoded = self._encoded
        if encoded is None:
            kv = self.kv
            # A put's type is 0, which proto3 does not write.
            head = b"\x08\x01\x12" if self.is_delete else b"\x12"
            encoded = self._encoded = head + uvarint(len(kv)) + kv
        return encoded

    def encoded_with_prev(self, store: Store) -> bytes:
        """The bytes of mvccpb.Event with the key's KeyValue one revision earlier, unless that was compacted."""
        encoded = self._encoded_with_prev
        if encoded is None:
            encoded = self.encoded
            previous = store.get_at(self.key, self.mod_revision - 1)
            if previous is not None:
                encoded = encoded + b"\x1a" + uvarint(len(previous)) + previous
            self._encoded_with_prev = encoded
        return encoded


def put_event(key: bytes, kv: bytes, mod_revision: int) -> Event:
    return Event(False, key, kv, mod_revision)


def delete_event(key: bytes, tombstone: bytes, mod_revision: int) -> Event:
    """From the stored tombstone, which is the key alone."""
    return Event(True, key, tombstone + b"\x18" + uvarint(mod_revision), mod_revision)


class WatchBatch:
    """What one watcher is told at once.

    No events and no compact_revision: a progress notification, everything up to
    `revision` was told. compact_revision not 0: the watcher is over, its start was compacted.
    `encoded` is for whoever sends one event to many watchers: its bytes in an answer, made once.
    """

    __slots__ = ("compact_revision", "encoded", "events", "revision")

    def __init__(self, revision: int, events: list[Event], compact_revision: int = 0) -> None:
        self.revision = revision
        self.events = events
        self.compact_revision = compact_revision
        self.encoded = b""

    def __repr__(self) -> str:
        return f"WatchBatch({self.revision}, {self.events}, compact_revision={self.compact_revision})"
