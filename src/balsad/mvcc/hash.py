"""The hash by which members compare their key spaces.

crc32c over the word `key` and then every row's key and value, in order, up to a
revision; of rows at or below the compact revision only those that a reader at
that revision still sees, whether the compaction has come to delete the others
or not. So it is the same on members that are at different places of it.

Source: etcd server/mvcc hash.go and kvstore.go hashByRev.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from balsad.mvcc.key_value import key_of
from balsad.mvcc.revision import KEY_BUCKET, is_tombstone, revision_key, unpack_revision
from balsad.mvcc.rows import RowReader

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

ROWS_PER_STEP: Final = 2000
STORED_MAX: Final = 10


class HashResult:
    """`compact_revision` is the one the hash depends on."""

    __slots__ = ("compact_revision", "current_revision", "hash", "revision")

    def __init__(self, hash: int, revision: int, current_revision: int, compact_revision: int) -> None:
        self.hash = hash
        self.revision = revision
        self.current_revision = current_revision
        self.compact_revision = compact_revision


class StoredHashes:
    """Hashes that compactions computed on their way, the newest ten by revision."""

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: list[HashResult] = []

    def __len__(self) -> int:
        return len(self._results)

    def get(self, revision: int) -> HashResult | None:
        for result in self._results:
            if result.revision == revision:
                return result
        return None

    def all(self) -> list[HashResult]:
        return list(self._results)

    def add(self, result: HashResult) -> None:
        self._results.append(result)
        self._results.sort(key=_revision_of)
        del self._results[:-STORED_MAX]

    def clear(self) -> None:
        self._results.clear()


def _revision_of(result: HashResult) -> int:
    return result.revision


class HashJob:
    """Computes one hash in slices. `step` until it says True, then there is a `result`."""

    __slots__ = ("_compact", "_crc", "_of_compaction", "_reader", "_result", "_revision", "_sees_any", "_store")

    def __init__(self, store: Store, revision: int, of_compaction_after: int | None = None) -> None:
        """`of_compaction_after`: the hash of the compaction at `revision` that follows one at that revision."""
        self._store = store
        self._revision = revision
        self._of_compaction = of_compaction_after is not None
        self._compact = -1 if of_compaction_after is None else of_compaction_after
        self._crc = 0
        self._reader: RowReader | None = None
        self._sees_any: bool | None = None
        self._result = None if self._of_compaction else store.hashes.get(revision)

    @property
    def result(self) -> HashResult:
        result = self._result
        assert result is not None, "the hash is not finished"
        return HashResult(result.hash, result.revision, self._store.current_revision, result.compact_revision)

    def step(self) -> bool:
        """Hash a slice; True once it is all done. Raises: CompactedError if a compaction overtook it."""
        if self._result is not None:
            return True
        store = self._store
        reader = self._reader
        if reader is None or (not self._of_compaction and self._compact != store.compact_revision):
            reader = self._begin()
        rows = reader.rows()
        if rows:
            self._crc = crc32c(self._join(rows), self._crc)
        if reader.done:
            self._result = HashResult(self._crc, self._revision, store.current_revision, self._compact)
        return self._result is not None

    def _begin(self) -> RowReader:
        if not self._of_compaction:
            self._store.check_readable(self._revision)
            self._compact = self._store.compact_revision
        self._crc = crc32c(KEY_BUCKET, 0)
        self._sees_any = None
        self._reader = RowReader(self._store.backend, 0, self._revision, ROWS_PER_STEP)
        return self._reader

    def _join(self, rows: list[tuple[bytes, bytes]]) -> bytes:
        if self._compact < 0 or rows[0][0] >= revision_key(self._compact + 1, 0):
            return b"".join([part for row in rows for part in row])
        if self._sees_any is None:
            index = self._store.index
            self._sees_any = index.any_at(self._revision) or (
                self._of_compaction and index.any_tombstone_at(self._revision)
            )
        parts: list[bytes] = []
        for row_key, kv in rows:
            if self._counts(row_key, kv):
                parts.append(row_key)
                parts.append(kv)
        return b"".join(parts)

    def _counts(self, row_key: bytes, kv: bytes) -> bool:
        main, sub = unpack_revision(row_key)
        if main > self._compact:
            return True
        tombstone = is_tombstone(row_key)
        if main == self._compact and tombstone:
            # Later patches keep a tombstone at the compact revision, earlier ones did not: nobody counts it.
            return False
        if not self._sees_any:
            return True  # etcd skips nothing when it would keep nothing
        if tombstone:
            return False
        meta = self._store.index.at(key_of(kv), self._revision)
        return meta is not None and meta[0] == main and meta[1] == sub
