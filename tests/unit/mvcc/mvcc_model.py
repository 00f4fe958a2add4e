"""The key space as simply as it can be said: a list of all changes. What the store must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from crc32c import crc32c

from balsad.mvcc import Store
from balsad.mvcc.revision import revision_key, tombstone_key
from balsad.proto.kv_pb2 import KeyValue
from balsad.wire import uvarint


class Change(NamedTuple):
    main: int
    sub: int
    key: bytes
    is_delete: bool
    create: int
    version: int
    value: bytes
    lease: int

    def row_key(self) -> bytes:
        return tombstone_key(self.main, self.sub) if self.is_delete else revision_key(self.main, self.sub)

    def stored(self) -> bytes:
        if self.is_delete:
            return KeyValue(key=self.key).SerializeToString()
        return KeyValue(
            key=self.key,
            create_revision=self.create,
            mod_revision=self.main,
            version=self.version,
            value=self.value,
            lease=self.lease,
        ).SerializeToString()


@dataclass
class Put:
    key: bytes
    value: bytes = b""
    lease: int = 0


@dataclass
class Delete:
    key: bytes
    end: bytes = b""


Op = Put | Delete


def in_range(candidate: bytes, key: bytes, end: bytes) -> bool:
    if end == b"":
        return candidate == key
    return candidate >= key and (end == b"\0" or candidate < end)


class Model:
    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.revision = 1
        self.compacted = -1

    def at(self, revision: int) -> dict[bytes, Change]:
        """What a reader at a revision sees, by key in order."""
        seen: dict[bytes, Change] = {}
        for change in self.changes:
            if change.main <= revision:
                seen[change.key] = change
        return {key: change for key, change in sorted(seen.items()) if not change.is_delete}

    def apply(self, ops: list[Op]) -> int:
        """One write txn; gives how many changes it made."""
        main = self.revision + 1
        before = len(self.changes)
        for op in ops:
            live = self.at(main)
            if isinstance(op, Put):
                old = live.get(op.key)
                sub = len(self.changes) - before
                create, version = (main, 1) if old is None else (old.create, old.version + 1)
                self.changes.append(Change(main, sub, op.key, False, create, version, op.value, op.lease))
            else:
                for key in live:
                    if in_range(key, op.key, op.end):
                        sub = len(self.changes) - before
                        self.changes.append(Change(main, sub, key, True, 0, 0, b"", 0))
        if len(self.changes) > before:
            self.revision = main
        return len(self.changes) - before

    def kept_after_compaction(self, revision: int) -> list[Change]:
        """All above it; below only what a reader there sees, and tombstones of exactly that revision."""
        seen = {id(change) for change in self.at(revision).values()}
        return [
            change
            for change in self.changes
            if change.main > revision or id(change) in seen or (change.is_delete and change.main == revision)
        ]

    def hash(self, revision: int, compacted: int, rows: list[Change]) -> int:
        """etcd's HashByRev over the rows that are in the bucket."""
        kept = {(change.main, change.sub) for change in self.at(revision).values()}
        data = [b"key"]
        for row in rows:
            if row.main > revision or (row.main == compacted and row.is_delete):
                continue
            if row.main <= compacted and kept and (row.main, row.sub) not in kept:
                continue
            data += [row.row_key(), row.stored()]
        return crc32c(b"".join(data))


def put(store: Store, key: bytes, value: bytes = b"", lease: int = 0) -> int:
    """Store.put from a plain key and value."""
    value_field = uvarint(len(value)) + value if value else b""
    return store.put(key, b"\x0a" + uvarint(len(key)) + key, value_field, lease)


def apply(store: Store, ops: list[Op]) -> int:
    """The same as Model.apply on a store; a single put takes the short way."""
    if len(ops) == 1 and isinstance(ops[0], Put):
        return put(store, ops[0].key, ops[0].value, ops[0].lease)
    txn = store.write()
    for op in ops:
        if isinstance(op, Put):
            txn.put(op.key, op.value, op.lease)
        else:
            txn.delete_range(op.key, op.end)
    return txn.end()
