"""Raft snapshots between members: made for a follower that is too far behind, installed when one arrives.

    leader    MsgSnap wanted --> backend committed --> (message, db pinned) --> links
    follower  db received as a file --> MsgSnap stepped --> .snap and WAL record safe --> backend, leases, store,
              alarms, members swapped in one turn of the loop

Source: etcd server/etcdserver/snapshot_merge.go, server.go (applySnapshot).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.raft import Message, Snapshot
from balsad.storage import StorageError, schema
from balsad.v2store import recover as recover_tree
from balsad.v2store import save as save_tree

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.lease import Lessor
    from balsad.membership import Cluster
    from balsad.mvcc import Store
    from balsad.server.alarms import Alarms
    from balsad.server.apply.dispatch import Applier
    from balsad.server.backend_commits import BackendCommits
    from balsad.server.compactions import Compactions
    from balsad.server.peer_links import PeerLinks
    from balsad.storage import Backend, Snapshotter
    from balsad.v2store import Store as V2Store

log = logging.getLogger(__name__)


class SnapshotExchange:
    def __init__(
        self,
        *,
        applier: Applier,
        backend: Backend,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        cluster: Cluster,
        tree: V2Store,
        snapshotter: Snapshotter,
        commits: BackendCommits,
        compactions: Compactions,
        disk: Disk,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._applier = applier
        self._backend = backend
        self._store = store
        self._lessor = lessor
        self._alarms = alarms
        self._cluster = cluster
        self._tree = tree
        self._snapshotter = snapshotter
        self._commits = commits
        self._compactions = compactions
        self._disk = disk
        self._failed = failed
        self.on_installed: Callable[[Snapshot], None] | None = None

    def send(self, message: Message, links: PeerLinks) -> None:
        """Send the present state in place of the older snapshot that raft put into `message`."""
        applier = self._applier
        # The db may be ahead of it, by what is applied before the commit ends: as after a crash the receiver
        # leaves out of later entries what the db's own index says it has.
        snapshot = Snapshot(applier.applied_index, applier.applied_term, applier.conf_state, save_tree(self._tree))

        def go_on() -> None:
            db = self._backend.committed_snapshot()
            message.snapshot = snapshot
            log.info(
                "sending database snapshot",
                extra={"snapshot-index": snapshot.index, "remote-peer-id": f"{message.to:x}", "bytes": db.size},
            )
            links.send_snapshot(message, db)

        self._commits.commit_then(go_on)

    def install(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot whose db was received before. Raises: StorageError."""
        path = self._snapshotter.db_path(snapshot.index)
        if not self._disk.exists(path):
            raise StorageError(path, "the database of the received snapshot is missing")
        log.info("applying snapshot", extra={"incoming-leader-snapshot-index": snapshot.index})
        self._compactions.stop()
        self._backend.commit()
        self._backend.replace(path)
        schema.create_all_buckets(self._backend)
        # Leases before keys, which hang on them.
        self._lessor.recover()
        self._store.replace_backend(self._backend)
        self._alarms.recover()
        self._applier.auth.store.recover()
        recover_tree(self._tree, snapshot.data)
        self._cluster.recover()
        self._heal_buckets()
        applier = self._applier
        index, term = schema.read_consistent_index(self._backend)
        applier.consistent_index = max(index, snapshot.index)
        applier.consistent_term = max(term, snapshot.term)
        applier.applied_index = snapshot.index
        applier.applied_term = snapshot.term
        applier.conf_state = snapshot.conf_state
        for job in self._store.compactions:
            self._compactions.start(job)
        self._snapshotter.release_dbs(snapshot.index)
        if self.on_installed is not None:
            self.on_installed(snapshot)
        log.info("applied snapshot", extra={"incoming-leader-snapshot-index": snapshot.index})

    def _heal_buckets(self) -> None:
        """What older versions of etcd wrote, or did not, into the buckets that came with the db."""
        for member in self._cluster.remove_zombies():
            log.warning("removed a zombie member from the backend", extra={"member-id": f"{member.id:x}"})
        for member in self._cluster.promote_in_buckets_as_in_tree():
            log.warning("promoted a learner in the backend too", extra={"member-id": f"{member.id:x}"})
