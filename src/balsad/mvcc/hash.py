"""The hash by which members compare their key spaces.

crc32c over the word `key` and then every row's key and value, in order, up to a
revision; of rows at or below the compact revision only those that a reader at
that revision still sees, whether the compaction has come to delete the others
or not. So it is the same on members that are at different places of it.

Source: etcd server/mvcc hash.go and kvstore.go hashByRev.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from balsad.checksum import crc32c
from balsad.mvcc.key_value import key_of
from balsad.mvcc.revision import KEY_BUCKET, ROW_KEY_SIZE, is_tombstone, revision_key, unpack_revision

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

# Of one step: pages hashed as they lie, and rows looked at one by one. Each is about four milliseconds
# of a loop that has others to serve, and who asks pays a turn of that loop for each step.
STEP_BYTES_MIN: Final = 128 << 10
STEP_BYTES_MAX: Final = 4 << 20
STEP_ROWS: Final = 6000
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

    __slots__ = (
        "_compact",
        "_crc",
        "_next",
        "_of_compaction",
        "_result",
        "_revision",
        "_sees_any",
        "_step_bytes",
        "_store",
    )

    def __init__(self, store: Store, revision: int, of_compaction_after: int | None = None) -> None:
        """`of_compaction_after`: the hash of the compaction at `revision` that follows one at that revision."""
        self._store = store
        self._revision = revision
        self._of_compaction = of_compaction_after is not None
        self._compact = -1 if of_compaction_after is None else of_compaction_after
        self._crc = 0
        self._step_bytes = STEP_BYTES_MIN
        self._next: bytes | None = None  # the key to go on from, None before the beginning and after the end
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
        if self._next is None or (not self._of_compaction and self._compact != store.compact_revision):
            self._begin()
        start = self._next
        assert start is not None
        # All subs of the revision, tombstones too, come before the next main.
        end = revision_key(self._revision + 1, 0)
        stretches, following = store.backend.stretches_between(KEY_BUCKET, start, end, self._step_bytes)
        looked_at = 0
        for rows, at, key_sizes, value_sizes in stretches:
            looked_at += self._add(rows, at, key_sizes, value_sizes)
        if looked_at > STEP_ROWS:
            self._step_bytes = max(self._step_bytes // 2, STEP_BYTES_MIN)
        elif 2 * looked_at < STEP_ROWS:
            self._step_bytes = min(self._step_bytes * 2, STEP_BYTES_MAX)
        self._next = following
        if following is None:
            self._result = HashResult(self._crc, self._revision, store.current_revision, self._compact)
        return self._result is not None

    def _begin(self) -> None:
        if not self._of_compaction:
            self._store.check_readable(self._revision)
            self._compact = self._store.compact_revision
        self._crc = crc32c(KEY_BUCKET, 0)
        self._sees_any = None
        self._next = revision_key(0, 0)

    def _add(self, rows: bytes, start: int, key_sizes: tuple[int, ...], value_sizes: tuple[int, ...]) -> int:
        """Hash the rows that count, in as few pieces as the others leave; gives how many had to be looked at."""
        compact = self._compact
        live: dict[bytes, Any] = self._store.index.live
        end = start + sum(key_sizes) + sum(value_sizes)
        pieces = memoryview(rows)
        row = start
        looked_at = 0
        # Rows come in order: those above the compact revision all count.
        for key_size, value_size in zip(key_sizes, value_sizes, strict=True):
            main, sub = unpack_revision(rows, row)
            if main > compact:
                break
            looked_at += 1
            at = row + key_size
            stop = at + value_size
            counts = False
            if key_size == ROW_KEY_SIZE and value_size > 1 and rows[at + 1] < 128:
                # Nearly all that is left is what its key has now.
                meta = live.get(rows[at + 2 : at + 2 + rows[at + 1]])
                counts = meta is not None and meta[0] == main and meta[1] == sub
            if not counts and not self._counts(rows[row:at], rows[at:stop]):
                self._crc = crc32c(pieces[start:row], self._crc)
                start = stop
            row = stop
        self._crc = crc32c(pieces[start:end], self._crc)
        return looked_at

    def _counts(self, row_key: bytes, kv: bytes) -> bool:
        main, sub = unpack_revision(row_key)
        tombstone = is_tombstone(row_key)
        if main == self._compact and tombstone:
            # Later patches keep a tombstone at the compact revision, earlier ones did not: nobody counts it.
            return False
        if self._sees_any is None:
            index = self._store.index
            self._sees_any = index.any_at(self._revision) or (
                self._of_compaction and index.any_tombstone_at(self._revision)
            )
        if not self._sees_any:
            return True  # etcd skips nothing when it would keep nothing
        if tombstone:
            return False
        meta = self._store.index.at(key_of(kv), self._revision)
        return meta is not None and meta[0] == main and meta[1] == sub
