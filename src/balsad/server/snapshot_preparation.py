"""The state that came with a leader's snapshot, built beside the one that is still in use.

    received db ──> leases ──> index of keys, with their leases ──> v2 tree ──> ready
                    (a slice of each in a turn of the event loop)

Nobody else uses any of it before it is ready, and then all of it takes its place in one turn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from balsad.lease import LeaseRecoveryJob
from balsad.mvcc import RestoreJob
from balsad.storage import Backend, StorageError, schema
from balsad.v2store import RecoveryJob

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.raft import Snapshot

AT_ONCE: Final = 4000
"""Rows, keys, leases or nodes of one slice: a few milliseconds."""


class Preparation:
    """What a snapshot brings, on its way to being ready; to be closed unless its backend is taken over."""

    def __init__(self, disk: Disk, path: str, snapshot: Snapshot, *, min_lease_ttl_s: int, sync: bool) -> None:
        """Raises: StorageError."""
        self.snapshot = snapshot
        if not disk.exists(path):
            raise StorageError(path, "the database of the received snapshot is missing")
        self.backend = Backend.open(disk, path, sync=sync)
        try:
            schema.create_all_buckets(self.backend)
            self.leases = LeaseRecoveryJob(self.backend, min_lease_ttl_s)
            self.store = RestoreJob(self.backend, self.leases)
            self.tree = RecoveryJob(snapshot.data)
        except BaseException:
            self.close()
            raise
        self._left = deque((self.leases.step, self.store.step, self.tree.step))

    def step(self, count: int) -> bool:
        """Go on a bounded piece; True once all is ready. Raises: StorageError; SavedStoreError for the tree."""
        if self._left and self._left[0](count):
            self._left.popleft()
        return not self._left

    def close(self) -> None:
        """Give the file back, without a write."""
        self.backend.abandon()
