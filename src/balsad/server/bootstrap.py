"""From a configuration and a folder to a member's state: founded anew, or as it was left.

    no WAL, state new      ids from the initial cluster; WAL with a conf change per member
    WAL there              newest good snapshot -> v2 tree; entries after it -> raft log; db -> store

Source: etcd server/etcdserver/server.go (NewServer), raft.go (startNode, restartNode).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balsad.config import StartError
from balsad.config.versions import ETCD_VERSION
from balsad.errors import TooManyLearnersError
from balsad.membership import Cluster, IncompatibleVersionError, Member, Version, encode_member, format_id, peer_text
from balsad.raft import (
    ConfChange,
    ConfChangeType,
    Entry,
    EntryType,
    HardState,
    MemoryLog,
    Snapshot,
    codec,
)
from balsad.storage import Backend, DataDir, SnapError, Snapshotter, StorageError, defragment, schema, snap_name
from balsad.storage.wal import (
    Wal,
    WalOptions,
    WalSnapshot,
    decode_metadata,
    encode_metadata,
    valid_snapshot_entries,
    wal_exists,
)
from balsad.v2store import CLUSTER_NAMESPACE
from balsad.v2store import Store as V2Store
from balsad.v2store import recover as recover_tree

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.env import Disk, Env

log = logging.getLogger(__name__)


class ExistingCluster:
    """A cluster that runs already, as one of its members describes it."""

    __slots__ = ("cluster_id", "members")

    def __init__(self, cluster_id: int, members: list[Member]) -> None:
        self.cluster_id = cluster_id
        self.members = members


class Booted:
    """What a member starts from."""

    __slots__ = (
        "backend",
        "cluster",
        "data_dir",
        "hard_state",
        "is_new",
        "log_storage",
        "remotes",
        "snapshot_index",
        "snapshotter",
        "tree",
        "wal",
    )

    def __init__(
        self,
        *,
        data_dir: DataDir,
        backend: Backend,
        wal: Wal,
        snapshotter: Snapshotter,
        log_storage: MemoryLog,
        hard_state: HardState,
        snapshot_index: int,
        cluster: Cluster,
        tree: V2Store,
        is_new: bool,
        remotes: list[Member] | None = None,
    ) -> None:
        """`remotes`: members to talk to before the log has told of any."""
        self.remotes = [] if remotes is None else remotes
        self.data_dir = data_dir
        self.backend = backend
        self.wal = wal
        self.snapshotter = snapshotter
        self.log_storage = log_storage
        self.hard_state = hard_state
        self.snapshot_index = snapshot_index
        self.cluster = cluster
        self.tree = tree
        self.is_new = is_new

    @property
    def member_id(self) -> int:
        return self.cluster.local_id


def boot(config: ServerConfig, env: Env, wal_options: WalOptions, existing: ExistingCluster | None = None) -> Booted:
    """Open, found, or have join the member of `config`.

    `existing` is wanted by a member without a log of its own that joins others (`needs_existing`). The backend's free
    pages may still be unknown.
    Raises: StartError, StorageError.
    """
    disk = env.disk
    data_dir = DataDir(config.data_dir, config.wal_dir or None)
    has_wal = wal_exists(disk, data_dir.wal)
    cluster = None
    if not has_wal:
        # Nothing is written before it is clear that the member may be founded.
        cluster = found_cluster(config) if existing is None else join_cluster(config, existing)
    data_dir.prepare(disk)
    data_dir.prepare_wal_dir(disk)
    snapshotter = Snapshotter(disk, data_dir.snap)
    had_db = disk.exists(data_dir.db)
    if has_wal and not had_db and not _may_lack_db(env, data_dir):
        raise StartError(f"database file ({data_dir.db}) of the backend is missing")
    # To find the free pages is the less work when the store has read its rows already.
    backend = Backend.open(disk, data_dir.db, batch_limit=config.backend_batch_limit, free_pages_later=True)
    try:
        schema.create_all_buckets(backend)
        snapshotter.clean_up()
        if config.bootstrap_defrag_threshold_megabytes:
            _maybe_defrag(backend, config.bootstrap_defrag_threshold_megabytes << 20)
        if cluster is not None:
            _check_unused(backend, data_dir)
            return _begin(config, env, data_dir, snapshotter, backend, cluster, wal_options, existing is not None)
        return _resume(config, env, data_dir, snapshotter, backend, wal_options)
    except BaseException:
        backend.close()
        raise


def _maybe_defrag(backend: Backend, threshold_bytes: int) -> None:
    """Give the disk back what the db does not use, if it is worth it. Source: etcd maybeDefragBackend."""
    facts = {
        "current-db-size-bytes": backend.size,
        "current-db-size-in-use-bytes": backend.size_in_use,
        "experimental-bootstrap-defrag-threshold-bytes": threshold_bytes,
    }
    if backend.size - backend.size_in_use < threshold_bytes:
        log.info("Skipping defragmentation", extra=facts)
        return
    defragment(backend)
    log.info("defragmented at the start", extra={**facts, "new-db-size-bytes": backend.size})


def needs_existing(config: ServerConfig, env: Env) -> bool:
    """Whether the member has to ask a running cluster who it is."""
    data_dir = DataDir(config.data_dir, config.wal_dir or None)
    return not config.is_new_cluster and not wal_exists(env.disk, data_dir.wal)


def is_founding(config: ServerConfig, env: Env) -> bool:
    """Whether the member founds its cluster, by itself or at the same time as others."""
    data_dir = DataDir(config.data_dir, config.wal_dir or None)
    return config.is_new_cluster and not wal_exists(env.disk, data_dir.wal)


def _server_version(config: ServerConfig) -> Version:
    return Version.parse(ETCD_VERSION)


def _empty_cluster(config: ServerConfig, cluster_id: int, member_id: int) -> Cluster:
    return Cluster(
        server_version=_server_version(config),
        cluster_id=cluster_id,
        local_id=member_id,
        learners_max=config.max_learners,
    )


def _too_many_learners(config: ServerConfig, refusal: TooManyLearnersError) -> str:
    return f"{peer_text(refusal)} (--max-learners={config.max_learners})"


def found_cluster(config: ServerConfig) -> Cluster:
    """The cluster of the flags, founded by all at the same time. Raises: StartError."""
    urls = config.initial_cluster_urls()
    try:
        cluster = Cluster.from_initial(
            {name: [str(url) for url in peer_urls] for name, peer_urls in urls.items()},
            config.initial_cluster_token,
            server_version=_server_version(config),
        )
    except ValueError as problem:
        raise StartError(str(problem)) from None
    member = cluster.member_by_name(config.name)
    if member is None:
        raise StartError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    cluster.local_id = member.id
    return cluster


def join_cluster(config: ServerConfig, existing: ExistingCluster) -> Cluster:
    """This member's place in a cluster that runs already. Raises: StartError."""
    version = _server_version(config)
    urls = {name: [str(url) for url in each] for name, each in config.initial_cluster_urls().items()}
    try:
        cluster = Cluster.from_initial(urls, config.initial_cluster_token, server_version=version)
        running = Cluster.from_members(existing.cluster_id, existing.members, server_version=version)
        cluster.take_ids_of(running)
        running.learners_max = config.max_learners
        running.check_learners()
    except ValueError as problem:
        raise StartError(f"error validating peerURLs: {problem}") from None
    except TooManyLearnersError as refusal:
        raise StartError(_too_many_learners(config, refusal)) from None
    member = cluster.member_by_name(config.name)
    if member is None:
        raise StartError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    cluster.local_id = member.id
    cluster.cluster_id = existing.cluster_id
    return cluster


def _begin(
    config: ServerConfig,
    env: Env,
    data_dir: DataDir,
    snapshotter: Snapshotter,
    backend: Backend,
    cluster: Cluster,
    wal_options: WalOptions,
    joins: bool,
) -> Booted:
    """A member without a past; one that joins others hears from them what the log holds."""
    tree = V2Store()
    metadata = encode_metadata(cluster.local_id, cluster.cluster_id)
    wal = Wal.create(env.disk, data_dir.wal, metadata, wal_options)
    log_storage = MemoryLog()
    hard_state = HardState()
    if not joins:
        hard_state, entries = _write_first_entries(wal, cluster)
        log_storage.set_hard_state(hard_state)
        log_storage.append(entries)
    log.info(
        "starting local member",
        extra={"local-member-id": format_id(cluster.local_id), "cluster-id": format_id(cluster.cluster_id)},
    )
    # The members come in by applying the entries; what was made of the flags has served.
    member_id, cluster_id = cluster.local_id, cluster.cluster_id
    remotes = [member for member in cluster.members() if member.id != member_id]
    cluster = _empty_cluster(config, cluster_id, member_id)
    cluster.use_tree(tree)
    cluster.use_buckets(backend)
    return Booted(
        data_dir=data_dir,
        backend=backend,
        wal=wal,
        snapshotter=snapshotter,
        log_storage=log_storage,
        hard_state=hard_state,
        snapshot_index=0,
        cluster=cluster,
        tree=tree,
        is_new=True,
        remotes=remotes,
    )


def _write_first_entries(wal: Wal, cluster: Cluster) -> tuple[HardState, list[Entry]]:
    """Raft's bootstrap: each member is added by a committed entry of term 1."""
    entries = [
        Entry(
            EntryType.CONF_CHANGE,
            1,
            at + 1,
            codec.encode_conf_change(ConfChange(ConfChangeType.ADD_NODE, member.id, encode_member(member))),
        )
        for at, member in enumerate(cluster.members())
    ]
    hard_state = HardState(1, 0, len(entries))
    wal.save(hard_state, entries)
    return hard_state, entries


def _check_v2(config: ServerConfig, tree: V2Store) -> None:
    """Who is to be without v2 must not have keys or users there any more. Raises: StartError.

    Source: etcd server/etcdserver/server.go (assertNoV2StoreContent), which looks at the .snap file alone, too.
    """
    if config.v2_deprecation in ("not-yet", "write-only-skip-check"):
        return
    folders = tree.get("/", recursive=True).node.nodes or ()
    if any(node.key != CLUSTER_NAMESPACE and node.nodes for node in folders):
        what = f"detected disallowed custom content in v2store for stage --v2-deprecation={config.v2_deprecation}"
        log.error("illegal v2store content", extra={"error": what})
        raise StartError(what)


def _resume(
    config: ServerConfig,
    env: Env,
    data_dir: DataDir,
    snapshotter: Snapshotter,
    backend: Backend,
    wal_options: WalOptions,
) -> Booted:
    disk = env.disk
    tree = V2Store()
    snapshot = None
    if snapshotter.has_files():
        # The log is read once more to know which of them count.
        snapshot = snapshotter.load_newest(valid_snapshot_entries(disk, data_dir.wal), _tell_broken_snapshot)
    start = WalSnapshot()
    log_storage = MemoryLog()
    if snapshot is None:
        log.info("No snapshot found. Recovering WAL from scratch!")
    else:
        with _blame(os.path.join(data_dir.snap, snap_name(snapshot.term, snapshot.index))):
            recover_tree(tree, snapshot.data)
        _check_v2(config, tree)
        start = WalSnapshot(snapshot.index, snapshot.term)
        _bring_backend_to(backend, disk, snapshotter.db_path(snapshot.index), snapshot)
        log.info("recovered v2 store from snapshot", extra={"snapshot-index": snapshot.index})
    wal, replay = Wal.open_and_read(disk, data_dir.wal, start, wal_options)
    try:
        with _blame(data_dir.wal):
            member_id, cluster_id = decode_metadata(replay.metadata)
        hard_state = replay.hard_state
        entries = replay.entries
        if snapshot is None and hard_state.is_empty() and config.is_new_cluster:
            founded = found_cluster(config)
            if (founded.local_id, founded.cluster_id) == (member_id, cluster_id):
                # A crash came between the making of the log and its first entries.
                hard_state, entries = _write_first_entries(wal, founded)
        _agree(backend, wal, hard_state, entries[-1].index if entries else start.index)
        if config.force_new_cluster:
            entries = _stand_alone(wal, member_id, snapshot, entries, hard_state)
        if snapshot is not None:
            log_storage.apply_snapshot(snapshot)
        if not hard_state.is_empty():
            log_storage.set_hard_state(hard_state)
        log_storage.append(entries)
        cluster = _empty_cluster(config, cluster_id, member_id)
        cluster.use_tree(tree)
        cluster.use_buckets(backend)
        with _blame(data_dir.db):
            cluster.recover()
            cluster.check_learners()
    except IncompatibleVersionError as refusal:
        wal.close()
        raise StartError(str(refusal)) from None
    except TooManyLearnersError as refusal:
        wal.close()
        raise StartError(_too_many_learners(config, refusal)) from None
    except BaseException:
        wal.close()
        raise
    log.info(
        "restarting local member",
        extra={
            "cluster-id": format_id(cluster_id),
            "local-member-id": format_id(member_id),
            "commit-index": hard_state.commit,
        },
    )
    return Booted(
        data_dir=data_dir,
        backend=backend,
        wal=wal,
        snapshotter=snapshotter,
        log_storage=log_storage,
        hard_state=hard_state,
        snapshot_index=0 if snapshot is None else snapshot.index,
        cluster=cluster,
        tree=tree,
        is_new=False,
    )


def _may_lack_db(env: Env, data_dir: DataDir) -> bool:
    """A crash between the WAL's making and the first commit leaves a log without a db: nothing is lost then."""
    return not valid_snapshot_entries(env.disk, data_dir.wal)[1:]


def _tell_broken_snapshot(error: SnapError) -> None:
    log.warning("failed to read a snap file", extra={"path": error.path, "error": error})
    log.warning("renamed to a broken snap file", extra={"path": error.path, "broken-path": f"{error.path}.broken"})


@contextlib.contextmanager
def _blame(path: str) -> Iterator[None]:
    """What cannot be read inside came from the file at `path`."""
    try:
        yield
    except ValueError as error:
        raise StorageError(path, str(error)) from error


def _consistent_index(backend: Backend) -> int:
    with _blame(backend.path):
        return schema.read_consistent_index(backend)[0]


def _bring_backend_to(backend: Backend, disk: Disk, received_db: str, snapshot: Snapshot) -> None:
    """See that the db holds what `snapshot` stands for.

    A crash may have come between a received snapshot's record in the log and the taking over of its db.
    Source: etcd recoverSnapshotBackend.
    """
    index = _consistent_index(backend)
    if index >= snapshot.index:
        return
    if disk.exists(received_db):
        backend.replace(received_db)
        schema.create_all_buckets(backend)
        index = _consistent_index(backend)
    if index < snapshot.index:
        raise StorageError(
            backend.path,
            f"database file index {index} does not match with snapshot (index {snapshot.index})",
        )


def _check_unused(backend: Backend, data_dir: DataDir) -> None:
    """Refuse a new log beside an old db: its first entries would be held for applied already, and never be seen."""
    index = _consistent_index(backend)
    if index:
        raise StorageError(backend.path, f"it holds what a log up to entry {index} said, but {data_dir.wal} has no log")


def _agree(backend: Backend, wal: Wal, hard_state: HardState, last_index: int) -> None:
    """Bring what the log calls committed up to what the db holds; refuse a log that does not reach so far.

    The commit index in the log is a hint that a power cut may take back; the entries are not. Entries that
    took the numbers of lost ones would be held for applied already, and never be seen again.
    """
    index = _consistent_index(backend)
    if max(index, hard_state.commit) > last_index:
        what = f"{backend.path} holds" if index > last_index else "it says that it committed"
        raise StorageError(
            wal.path, f"the log ends with entry {last_index}, but {what} entry {max(index, hard_state.commit)}"
        )
    hard_state.commit = max(index, hard_state.commit)


def _stand_alone(
    wal: Wal, member_id: int, snapshot: Snapshot | None, entries: list[Entry], hard_state: HardState
) -> list[Entry]:
    """--force-new-cluster: forget what was not committed, and remove every other member by entries of our own.

    `hard_state` is moved on to the last of them: nobody is left who could object.
    Source: etcd server/etcdserver/raft.go (restartAsStandaloneNode, createConfigChangeEnts).
    """
    entries = [entry for entry in entries if entry.index <= hard_state.commit]
    ids = set() if snapshot is None else {*snapshot.conf_state.voters, *snapshot.conf_state.learners}
    for entry in entries:
        if entry.type != EntryType.CONF_CHANGE:
            continue
        change = codec.decode_conf_change(entry.data)
        if change.type == ConfChangeType.REMOVE_NODE:
            ids.discard(change.node_id)
        elif change.type != ConfChangeType.UPDATE_NODE:
            ids.add(change.node_id)
    changes = []
    # Oneself first: raft must never be without a voter.
    if member_id not in ids:
        myself = Member(id=member_id, peer_urls=("http://localhost:2380",))
        changes.append(ConfChange(ConfChangeType.ADD_NODE, member_id, encode_member(myself)))
    changes += [ConfChange(ConfChangeType.REMOVE_NODE, other) for other in sorted(ids - {member_id})]
    added = [
        Entry(EntryType.CONF_CHANGE, hard_state.term, hard_state.commit + 1 + at, codec.encode_conf_change(change))
        for at, change in enumerate(changes)
    ]
    if added:
        hard_state.commit = added[-1].index
        wal.save(hard_state, added)
    log.info(
        "forcing restart member",
        extra={"local-member-id": format_id(member_id), "commit-index": hard_state.commit},
    )
    return entries + added
