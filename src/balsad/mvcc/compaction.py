"""Forgetting revisions nobody may read any more, a bounded piece at a time.

    1. [hash]   if asked for: the hash other members compare, over all up to the revision
    2. index    every key with history forgets what is below its newest revision <= the revision
    3. rows     the rows of what was forgotten are deleted, in the order of the file

The rows are known from the index, so a compaction costs what it removes and not
what it keeps. `scheduledCompactRev` says what was begun, `finishedCompactRev`
what is done; a start in between begins again, with what is left.

Source: etcd server/mvcc kvstore_compaction.go.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from balsad.mvcc.revision import FINISHED_COMPACT_KEY, KEY_BUCKET, META_BUCKET, KeyMeta, revision_key

if TYPE_CHECKING:
    from balsad.mvcc.hash import HashJob
    from balsad.mvcc.store import Store

# Main revisions per group of rows, and sub revisions, for one transaction may have very many: rows are sorted within
# a group when its turn comes, never all at once.
_GROUP_BITS: Final = 5
_GROUP_SUB_BITS: Final = 10
_SUB_BITS: Final = 32
# Keys of one step in the index, or revisions of them; forgetting costs about a fifth of deleting.
_KEYS_PER_ROW: Final = 4


class CompactionJob:
    """One compaction. Jobs of a store run one after the other: stepping a later one works on the first."""

    __slots__ = (
        "_gone",
        "_groups",
        "_hash",
        "_keys_left",
        "_rows",
        "_sorted",
        "_store",
        "deleted",
        "finished",
        "grouped",
        "revision",
    )

    def __init__(self, store: Store, revision: int, hash_job: HashJob | None) -> None:
        self._store = store
        self.revision = revision
        self.finished = False
        # Revisions forgotten in the index, and rows deleted, so far.
        self.grouped = 0
        self.deleted = 0
        self._hash = hash_job
        # Keys with history whose turn has not come: the first ones in the index. A list of them all would be made,
        # and looked through by the garbage collector, in one piece.
        self._keys_left = -1
        self._gone: list[KeyMeta] = []  # of the last key, not in a group yet
        # Main revision, and sub revision twice with one for a tombstone, of each row of a group. In arrays, as the
        # garbage collector would look through lists of tuples, all of them in one piece.
        self._rows: dict[int, array[int]] = {}
        self._groups: list[int] = []
        self._sorted: list[tuple[int, int]] = []  # of the group whose turn it is, the next row last

    def step(self) -> bool:
        """Do one batch; True once this compaction is finished."""
        if self.finished:
            return True
        first = self._store.compactions[0]
        first._batch()
        if first.finished:
            self._store.compactions.popleft()
        return self.finished

    def _batch(self) -> None:
        if self._keys_left < 0:
            self._begin()
        elif self._keys_left or self._gone:
            self._forget()
        elif self._groups or self._sorted:
            self._delete()
        else:
            self._finish()

    def _begin(self) -> None:
        if self._hash is not None and not self._hash.step():
            return
        self._keys_left = len(self._store.index.history)

    def _forget(self) -> None:
        index = self._store.index
        left = self._store.compaction_batch * _KEYS_PER_ROW
        if self._gone:
            left -= self._group(left)
        if left > 0 and self._keys_left:
            for key in index.oldest_histories(min(left, self._keys_left)):
                self._keys_left -= 1
                self._gone = index.compact_oldest(key, self.revision)
                left -= 1 + self._group(left)
                if left <= 0:
                    break
        if not self._keys_left and not self._gone:
            self._groups = sorted(self._rows, reverse=True)

    def _group(self, limit: int) -> int:
        """Put up to `limit` of what is gone into groups; gives how many."""
        gone = self._gone
        rows = self._rows
        metas = gone
        if len(gone) > limit:
            # One key may have had a million revisions.
            metas = gone[-limit:]
            del gone[-limit:]
        else:
            self._gone = []
        self.grouped += len(metas)
        for meta in metas:
            main, sub = meta[0], meta[1]
            at = main >> _GROUP_BITS << _SUB_BITS | sub >> _GROUP_SUB_BITS
            group = rows.get(at)
            if group is None:
                group = rows[at] = array("q")
            group.append(main)
            group.append(sub << 1 if meta[3] else sub << 1 | 1)
        return len(metas)

    def _delete(self) -> None:
        backend = self._store.backend
        left = self._store.compaction_batch
        while left > 0 and (self._groups or self._sorted):
            if not self._sorted:
                group = self._rows.pop(self._groups.pop())
                self._sorted = sorted(zip(group[::2], group[1::2], strict=True), reverse=True)
            batch = self._sorted[-left:]
            del self._sorted[-left:]
            for main, sub in reversed(batch):
                key = revision_key(main, sub >> 1)
                backend.delete(KEY_BUCKET, key + b"t" if sub & 1 else key)
            left -= len(batch)
            self.deleted += len(batch)

    def _finish(self) -> None:
        self._store.backend.put(META_BUCKET, FINISHED_COMPACT_KEY, revision_key(self.revision, 0))
        self.finished = True
        if self._hash is not None:
            self._store.hashes.add(self._hash.result)
