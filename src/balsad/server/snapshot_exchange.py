"""Raft snapshots between members: made for a follower that is too far behind, installed when one arrives.

    leader    MsgSnap wanted --> v2 tree saved, in slices --> backend committed --> (message, db pinned) --> links
    follower  db received as a file --> state prepared from it, in slices --> MsgSnap stepped
              --> .snap and WAL record safe --> backend, leases, store, alarms, members swapped in one turn of the loop

What a follower prepares raft has not heard of yet: it is as if the message took longer. Heartbeats are answered and
reads served from the state before; a crash leaves a file that nothing names. Of two messages the later counts.

Source: etcd server/etcdserver/snapshot_merge.go, server.go (applySnapshot).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import StoppedError
from balsad.raft import Message, Snapshot
from balsad.server.apply.cluster import note_capabilities
from balsad.server.disposal import DictShed, Disposal
from balsad.server.snapshot_preparation import AT_ONCE, Preparation
from balsad.storage import StorageError, schema
from balsad.v2store import SavedStoreError

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.lease import Lessor
    from balsad.membership import Cluster
    from balsad.mvcc import Store
    from balsad.server.alarms import Alarms
    from balsad.server.apply.dispatch import Applier
    from balsad.server.backend_commits import BackendCommits
    from balsad.server.compactions import Compactions
    from balsad.server.driver import Driver
    from balsad.server.peer_links import PeerLinks
    from balsad.server.tree_saves import TreeSaves
    from balsad.storage import Backend, Snapshotter
    from balsad.v2store import Store as V2Store

log = logging.getLogger(__name__)

_HANDED_S: Final = 0.01


class _Incoming:
    """A snapshot that is being prepared, and who waits to hear of it."""

    __slots__ = ("answered", "message", "prepared", "snapshot")

    def __init__(
        self, message: Message, snapshot: Snapshot, prepared: Preparation, answered: Callable[[str], None]
    ) -> None:
        self.message = message
        self.snapshot = snapshot
        self.prepared = prepared
        self.answered = answered


def _is_same(one: Snapshot, other: Snapshot) -> bool:
    return (one.index, one.term) == (other.index, other.term)


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
        saves: TreeSaves,
        snapshotter: Snapshotter,
        commits: BackendCommits,
        compactions: Compactions,
        disk: Disk,
        driver: Driver,
        failed: Callable[[BaseException], None],
        in_progress: Callable[[float], None],
    ) -> None:
        """`in_progress` is told 1 when a snapshot that came begins to be taken in, 0 when that has ended."""
        self._applier = applier
        self._backend = backend
        self._store = store
        self._lessor = lessor
        self._alarms = alarms
        self._cluster = cluster
        self._tree = tree
        self._saves = saves
        self._snapshotter = snapshotter
        self._commits = commits
        self._compactions = compactions
        self._disk = disk
        self._driver = driver
        self._failed = failed
        self._in_progress = in_progress
        self._loop = asyncio.get_running_loop()
        self._disposal = Disposal()
        self._incoming: _Incoming | None = None
        self._handed: Preparation | None = None  # known to raft, not installed yet
        self._stopped = False
        self.at_once = AT_ONCE
        """Rows, keys, leases or nodes of a slice."""
        self.on_installed: Callable[[Snapshot], None] | None = None

    def send(self, message: Message, links: PeerLinks) -> None:
        """Send the present state in place of the older snapshot that raft put into `message`."""
        applier = self._applier
        index, term, conf_state = applier.applied_index, applier.applied_term, applier.conf_state

        def saved(data: bytes) -> None:
            # The db may be ahead of it, by what is applied before the commit ends: as after a crash the receiver
            # leaves out of later entries what the db's own index says it has.
            message.snapshot = Snapshot(index, term, conf_state, data)
            self._commits.commit_then(go_on)

        def go_on() -> None:
            db = self._backend.committed_snapshot()
            log.info(
                "sending database snapshot",
                extra={"snapshot-index": index, "remote-peer-id": f"{message.to:x}", "bytes": db.size},
            )
            links.send_snapshot(message, db)

        self._saves.save(saved)

    # A snapshot comes in.

    def receive(self, message: Message, answered: Callable[[str], None]) -> None:
        """Give raft a MsgSnap whose db is there as a file, once its state is ready to be taken over.

        `answered` is told "" when raft has it, whatever it makes of it, else why it will not get it.
        """
        snapshot = message.snapshot
        assert snapshot is not None
        if self._stopped:
            answered(StoppedError.message)
            return
        if snapshot.index <= self._driver.node.committed:
            # Raft will have none of it.
            self._driver.step([message])
            answered("")
            return
        current = self._incoming
        if current is not None:
            if (message.term, snapshot.index) < (current.message.term, current.snapshot.index):
                answered("a later snapshot is being applied")
                return
            self._incoming = None
            current.answered("a later snapshot came")
            if _is_same(snapshot, current.snapshot):
                self._prepare(_Incoming(message, snapshot, current.prepared, answered))
                return
            current.prepared.close()
        try:
            prepared = self._begin(snapshot)
        except (StorageError, SavedStoreError) as error:
            self._refuse(snapshot, error, answered)
            return
        self._prepare(_Incoming(message, snapshot, prepared, answered))

    def _begin(self, snapshot: Snapshot) -> Preparation:
        self._in_progress(1)
        log.info("applying snapshot", extra={"incoming-leader-snapshot-index": snapshot.index})
        return Preparation(
            self._disk,
            self._snapshotter.db_path(snapshot.index),
            snapshot,
            min_lease_ttl_s=self._lessor.min_ttl_s,
            sync=self._backend.sync,
        )

    def _prepare(self, incoming: _Incoming) -> None:
        self._incoming = incoming
        self._loop.call_soon(self._step, incoming)

    def _step(self, incoming: _Incoming) -> None:
        if incoming is not self._incoming:
            return
        try:
            if not incoming.prepared.step(self.at_once):
                self._loop.call_soon(self._step, incoming)
                return
        except (StorageError, SavedStoreError) as error:
            self._incoming = None
            incoming.prepared.close()
            self._refuse(incoming.snapshot, error, incoming.answered)
            return
        except Exception as error:
            self._failed(error)
            return
        # The backend that is to be replaced shall not be in the middle of a commit, nor have much to commit.
        self._commits.commit_then(lambda: self._hand_over(incoming))

    def _refuse(self, snapshot: Snapshot, error: Exception, answered: Callable[[str], None]) -> None:
        """What came cannot be used: the leader will send another. The file is not to be taken for that one."""
        self._in_progress(0)
        log.error(
            "failed to apply snapshot",
            extra={"incoming-leader-snapshot-index": snapshot.index, "error": str(error)},
        )
        with contextlib.suppress(OSError):
            self._disk.unlink(self._snapshotter.db_path(snapshot.index))
        answered(str(error))

    def _hand_over(self, incoming: _Incoming) -> None:
        if incoming is not self._incoming:
            return
        if self._handed is not None:
            # The one before is on its way through raft.
            self._loop.call_later(_HANDED_S, self._hand_over, incoming)
            return
        self._incoming = None
        self._handed = incoming.prepared
        self._driver.step([incoming.message])
        accepted = self._driver.node.incoming_snapshot
        if accepted is None or not _is_same(accepted, incoming.snapshot):
            self._drop()
        incoming.answered("")

    def _drop(self) -> None:
        handed, self._handed = self._handed, None
        if handed is not None:
            handed.close()
            self._in_progress(0)

    def stop(self) -> None:
        """Take in nothing any more; what is not installed is as if it had not come."""
        self._stopped = True
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.prepared.close()
            incoming.answered(StoppedError.message)
        self._drop()

    def _prepared(self, snapshot: Snapshot) -> Preparation:
        """What was prepared for this snapshot; if nothing was, it is done now. Raises: StorageError."""
        handed, self._handed = self._handed, None
        if handed is not None:
            if _is_same(handed.snapshot, snapshot):
                return handed
            handed.close()
        prepared = self._begin(snapshot)
        try:
            while not prepared.step(self.at_once):
                pass
        except BaseException:
            prepared.close()
            raise
        return prepared

    def install(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot whose db was received before. Raises: StorageError."""
        prepared = self._prepared(snapshot)
        try:
            self._backend.commit()
        except BaseException:
            prepared.close()
            raise
        retired = self._backend.replace_by(prepared.backend)
        if retired is not None:
            # To unmap a large file takes a while.
            self._loop.run_in_executor(None, retired)
        schema.create_all_buckets(self._backend)
        # Leases before keys, which hang on them.
        for leases in self._lessor.take_over(prepared.leases):
            self._disposal.take(DictShed(leases))
        self._disposal.take(*self._store.replace_backend(self._backend, prepared.store))
        self._alarms.recover()
        self._applier.auth.store.recover()
        self._disposal.take(prepared.tree.hand_over(self._tree))
        known = self._cluster.version
        self._cluster.recover()
        if self._cluster.version is not None and self._cluster.version != known:
            note_capabilities(self._cluster.version)
        self._heal_buckets()
        applier = self._applier
        index, term = schema.read_consistent_index(self._backend)
        applier.consistent_index = max(index, snapshot.index)
        applier.consistent_term = max(term, snapshot.term)
        applier.applied_index = snapshot.index
        applier.applied_term = snapshot.term
        applier.conf_state = snapshot.conf_state
        self._compactions.replace(self._store.compactions)
        self._snapshotter.release_dbs(snapshot.index)
        if self.on_installed is not None:
            self.on_installed(snapshot)
        self._in_progress(0)
        log.info("applied snapshot", extra={"incoming-leader-snapshot-index": snapshot.index})

    def _heal_buckets(self) -> None:
        """What older versions of etcd wrote, or did not, into the buckets that came with the db."""
        for member in self._cluster.remove_zombies():
            log.warning("removed a zombie member from the backend", extra={"member-id": f"{member.id:x}"})
        for member in self._cluster.promote_in_buckets_as_in_tree():
            log.warning("promoted a learner in the backend too", extra={"member-id": f"{member.id:x}"})
