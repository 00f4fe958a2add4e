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

from typing import TYPE_CHECKING, Final

from balsad.mvcc.revision import FINISHED_COMPACT_KEY, KEY_BUCKET, META_BUCKET, KeyMeta, meta_key, revision_key

if TYPE_CHECKING:
    from balsad.mvcc.hash import HashJob
    from balsad.mvcc.store import Store

# Main revisions per group of rows: rows are sorted within a group when its turn comes, never all at once.
_GROUP_BITS: Final = 10
# Keys of one step in the index; forgetting costs about a fifth of deleting.
_KEYS_PER_ROW: Final = 4


class CompactionJob:
    """One compaction. Jobs of a store run one after the other: stepping a later one works on the first."""

    __slots__ = ("_groups", "_hash", "_keys", "_rows", "_store", "deleted", "finished", "revision")

    def __init__(self, store: Store, revision: int, hash_job: HashJob | None) -> None:
        self._store = store
        self.revision = revision
        self.finished = False
        # Rows deleted so far.
        self.deleted = 0
        self._hash = hash_job
        self._keys: list[bytes] | None = None
        self._rows: dict[int, list[KeyMeta]] = {}
        self._groups: list[int] = []

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
        if self._keys is None:
            self._begin()
        elif self._keys:
            self._forget(self._keys)
        elif self._groups:
            self._delete()
        else:
            self._finish()

    def _begin(self) -> None:
        if self._hash is not None and not self._hash.step():
            return
        self._keys = list(self._store.index.history)

    def _forget(self, keys: list[bytes]) -> None:
        index = self._store.index
        rows = self._rows
        for _ in range(min(len(keys), self._store.compaction_batch * _KEYS_PER_ROW)):
            for meta in index.compact(keys.pop(), self.revision):
                group = rows.get(meta[0] >> _GROUP_BITS)
                if group is None:
                    rows[meta[0] >> _GROUP_BITS] = [meta]
                else:
                    group.append(meta)
        if not keys:
            self._groups = sorted(rows, reverse=True)

    def _delete(self) -> None:
        backend = self._store.backend
        left = self._store.compaction_batch
        while left > 0 and self._groups:
            group = self._rows[self._groups[-1]]
            if len(group) > left:
                group.sort(reverse=True)
                batch = [group.pop() for _ in range(left)]
            else:
                group.sort()
                batch = group
                del self._rows[self._groups.pop()]
            for meta in batch:
                backend.delete(KEY_BUCKET, meta_key(meta))
            left -= len(batch)
            self.deleted += len(batch)

    def _finish(self) -> None:
        self._store.backend.put(META_BUCKET, FINISHED_COMPACT_KEY, revision_key(self.revision, 0))
        self.finished = True
        if self._hash is not None:
            self._store.hashes.add(self._hash.result)
