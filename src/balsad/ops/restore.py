"""A new member out of a snapshot file: `etcdutl snapshot restore`.

    check what was asked -> copy the db, hashing it -> members, revision, consistent_index into the copy
        -> log: metadata, a conf change per member, HardState; .snap; its record -> read all back -> rename

Everything is made aside (`member.tmp`, `<wal-dir>.tmp`) and renamed at the
very end, the log before the db: a member with a db and no log would found a
new cluster on old data. What fails on the way leaves nothing behind.

Source: etcd etcdutl/snapshot/v3_snapshot.go Restore.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balsad.config import (
    DEFAULT_PEER_URL,
    ServerConfig,
    StartError,
    check_bootstrap,
    format_url_map,
    parse_url_map,
    parse_urls,
    resolve_patiently,
)
from balsad.config.versions import ETCD_VERSION
from balsad.env import Disk
from balsad.env.real import real_env
from balsad.go_quote import quote_go
from balsad.membership import Cluster, Version, encode_member, format_id
from balsad.ops.errors import OpsError, go_error
from balsad.ops.snapshot_status import last_revision
from balsad.raft.codec import encode_conf_change
from balsad.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Snapshot,
)
from balsad.storage import Backend, DataDir, Snapshotter, StorageError, Wal, WalOptions, WalSnapshot, schema
from balsad.storage.bolt import check
from balsad.storage.wal import INLINE, encode_metadata, read_log, valid_snapshot_entries
from balsad.v2store import Store as V2Store
from balsad.v2store import save as save_tree

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 20
_HASH_BYTES: Final = 32
# A db is a whole number of pages, and those of 512 bytes or more: what is over is a hash.
_SECTOR_BYTES: Final = 512
_TERM: Final = 1

_WAL_OPTIONS: Final = WalOptions(sync=INLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """The flags of `snapshot restore`; empty folders have etcd's defaults."""

    snapshot_path: str
    name: str = "default"
    data_dir: str = ""
    wal_dir: str = ""
    initial_advertise_peer_urls: str = DEFAULT_PEER_URL
    initial_cluster: str = f"default={DEFAULT_PEER_URL}"
    initial_cluster_token: str = "etcd-cluster"
    skip_hash_check: bool = False
    bump_revision: int = 0
    mark_compacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of it."""

    data_dir: str
    wal_dir: str
    snap_dir: str
    member_id: int
    cluster_id: int
    revision: int


def snapshot_restore(
    options: RestoreOptions, *, disk: Disk | None = None, resolve: Callable[[str], str] | None = None
) -> Restored:
    """Make a member's data directory from a snapshot file.

    `resolve` turns `host:port` into `ip:port`, or raises OSError; by default it asks the system, again and again
    for half a minute, as etcd does. Raises: OpsError.
    """
    if (options.bump_revision > 0) != options.mark_compacted:
        raise OpsError("--mark-compacted required if --revision-bump > 0")
    cluster = _found_cluster(options, resolve_patiently if resolve is None else resolve)
    data_dir = options.data_dir or f"{options.name}.etcd"
    disk = real_env().disk if disk is None else disk
    if disk.exists(data_dir) and (not disk.is_dir(data_dir) or disk.listdir(data_dir)):
        raise OpsError(f"data-dir {quote_go(data_dir)} not empty or could not be read")
    if options.wal_dir and disk.exists(options.wal_dir):
        raise OpsError(f"wal-dir {quote_go(options.wal_dir)} exists")
    try:
        return _Restore(disk, options, cluster, data_dir).run()
    except StorageError as error:
        raise OpsError(str(error)) from error


def _found_cluster(options: RestoreOptions, resolve: Callable[[str], str]) -> Cluster:
    """The new cluster that the flags describe, this member's part in it checked."""
    try:
        peer_urls = parse_urls(options.initial_advertise_peer_urls.split(","))
        peers_by_name = parse_url_map(options.initial_cluster)
        config = ServerConfig(
            name=options.name,
            initial_advertise_peer_urls=peer_urls,
            initial_cluster=format_url_map(peers_by_name),
            initial_cluster_token=options.initial_cluster_token,
        )
        check_bootstrap(config, resolve)
        cluster = Cluster.from_initial(
            {name: [str(url) for url in urls] for name, urls in peers_by_name.items()},
            options.initial_cluster_token,
            server_version=Version.parse(ETCD_VERSION),
        )
    except (ValueError, StartError) as problem:
        raise OpsError(str(problem)) from problem
    member = cluster.member_by_name(options.name)
    assert member is not None, "the checks found its name"
    cluster.local_id = member.id
    return cluster


class _Restore:
    """One restore under way: where its parts are made, and where they belong."""

    def __init__(self, disk: Disk, options: RestoreOptions, cluster: Cluster, data_dir: str) -> None:
        self.disk = disk
        self.options = options
        self.cluster = cluster
        self.target = DataDir(data_dir)
        own_wal_dir = options.wal_dir and os.path.abspath(options.wal_dir) != os.path.abspath(self.target.wal)
        self.wal_target = options.wal_dir if own_wal_dir else ""
        # `DataDir(aside).member` must be what becomes the member folder, so it is not used for the paths aside.
        self.member_aside = f"{self.target.member}.tmp"
        self.snap_aside = os.path.join(self.member_aside, "snap")
        self.db_aside = os.path.join(self.snap_aside, "db")
        self.wal_aside = f"{self.wal_target}.restore" if own_wal_dir else os.path.join(self.member_aside, "wal")

    def run(self) -> Restored:
        places = {
            "path": self.options.snapshot_path,
            "wal-dir": self.wal_target or self.target.wal,
            "data-dir": self.target.path,
            "snap-dir": self.target.snap,
        }
        log.info("restoring snapshot", extra=places)
        made = self._missing_folders()
        try:
            self.disk.makedirs(self.snap_aside)
            if self.wal_target:
                self.disk.makedirs(os.path.dirname(os.path.abspath(self.wal_target)))
            hashed = self._copy_db()
            revision = self._rewrite_db(check_it=not hashed)
            self._write_log()
            self._verify()
            self._publish()
        except BaseException as error:
            self._clean_up(made)
            if isinstance(error, OSError):
                raise OpsError(f"restore: {error.strerror or error}".lower()) from error
            raise
        log.info("restored snapshot", extra=places)
        return Restored(
            data_dir=self.target.path,
            wal_dir=self.wal_target or self.target.wal,
            snap_dir=self.target.snap,
            member_id=self.cluster.local_id,
            cluster_id=self.cluster.cluster_id,
            revision=revision,
        )

    def _copy_db(self) -> bool:
        """Copy the db without the hash behind it; whether that hash was there and compared."""
        disk = self.disk
        path = self.options.snapshot_path
        try:
            source = disk.open(path, os.O_RDONLY)
        except OSError as error:
            raise go_error("open", path, error) from error
        try:
            size = disk.size(source)
            if size < _HASH_BYTES:
                raise OpsError(f"seek {path}: invalid argument")
            has_hash = size % _SECTOR_BYTES == _HASH_BYTES
            if not has_hash and not self.options.skip_hash_check:
                raise OpsError("snapshot missing hash but --skip-hash-check=false")
            db_size = size - _HASH_BYTES if has_hash else size
            digest = self._copy(source, db_size)
            if not has_hash or self.options.skip_hash_check:
                return False
            expected = disk.pread(source, _HASH_BYTES, db_size)
            if expected != digest:
                raise OpsError(f"expected sha256 {_go_bytes(expected)}, got {_go_bytes(digest)}")
            return True
        except IsADirectoryError as error:
            raise go_error("read", path, error) from error
        finally:
            disk.close(source)

    def _copy(self, source: int, size: int) -> bytes:
        disk = self.disk
        digest = hashlib.sha256()
        target = disk.open(self.db_aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            offset = 0
            while offset < size:
                chunk = disk.pread(source, min(_CHUNK_BYTES, size - offset), offset)
                if not chunk:
                    raise OpsError(f"read {self.options.snapshot_path}: the file became shorter while it was read")
                digest.update(chunk)
                written = 0
                while written < len(chunk):
                    written += disk.pwrite(target, chunk[written:] if written else chunk, offset + written)
                offset += len(chunk)
            disk.fsync(target)
        finally:
            disk.close(target)
        return digest.digest()

    def _rewrite_db(self, *, check_it: bool) -> int:
        """Put the new members in the place of the old ones; gives the revision of the restored store."""
        backend = Backend.open(self.disk, self.db_aside)
        try:
            view = backend.database.view
            if check_it:
                problems = check(view)
                if problems:
                    listed = "\n".join(problems)
                    raise OpsError(f"snapshot file integrity check failed. {len(problems)} errors found.\n{listed}")
            revision = last_revision(view)
            log.info("Trimming membership information from the backend...")
            self.cluster.use_buckets(backend)
            self.cluster.push()
            for bucket in (schema.KEY, schema.META):
                backend.create_bucket(bucket)
            if self.options.bump_revision:
                revision += self.options.bump_revision
                if revision >= 1 << 63:
                    raise OpsError(f"--bump-revision {self.options.bump_revision} goes beyond the last revision")
                backend.put(schema.KEY, schema.encode_revision(revision, 0), b"")
                backend.put(schema.META, schema.SCHEDULED_COMPACT, schema.encode_revision(revision, 0))
            ids = self.cluster.member_ids()
            schema.write_consistent_index(backend, len(ids), _TERM)
            schema.write_conf_state(backend, ConfState(voters=tuple(ids)))
        finally:
            backend.close()
        return revision

    def _write_log(self) -> None:
        """The log of a cluster whose members were all added by committed entries, and the snapshot after them."""
        cluster = self.cluster
        tree = V2Store()
        entries: list[Entry] = []
        for at, member in enumerate(cluster.members(), 1):
            change = ConfChange(ConfChangeType.ADD_NODE, member.id, encode_member(member))
            entries.append(Entry(EntryType.CONF_CHANGE, _TERM, at, encode_conf_change(change)))
        fresh = Cluster(server_version=cluster.server_version)
        fresh.use_tree(tree)
        for member in cluster.members():
            fresh.add(member, apply_v3=False)
            log.info(
                "added member",
                extra={
                    "cluster-id": format_id(cluster.cluster_id),
                    "local-member-id": "0",
                    "added-peer-id": format_id(member.id),
                    "added-peer-peer-urls": list(member.peer_urls),
                },
            )
        ids = cluster.member_ids()
        wal = Wal.create(self.disk, self.wal_aside, encode_metadata(cluster.local_id, cluster.cluster_id), _WAL_OPTIONS)
        try:
            wal.save(HardState(_TERM, ids[0], len(entries)), entries)
            snapshot = Snapshot(len(entries), _TERM, ConfState(voters=tuple(ids)), save_tree(tree))
            Snapshotter(self.disk, self.snap_aside).save(snapshot)
            wal.save_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))
        finally:
            wal.close()

    def _verify(self) -> None:
        """Read back what was written, as a starting member will."""
        disk = self.disk
        count = len(self.cluster.member_ids())
        known = valid_snapshot_entries(disk, self.wal_aside)
        snapshot = Snapshotter(disk, self.snap_aside).load_newest(known)
        assert snapshot is not None and snapshot.index == count, "the .snap file reads back"
        replay = read_log(disk, self.wal_aside, WalSnapshot(snapshot.index, snapshot.term))
        assert replay.hard_state.commit == count, "the log reads back"
        backend = Backend.open(disk, self.db_aside)
        try:
            assert schema.read_consistent_index(backend) == (count, _TERM), "the db reads back"
        finally:
            backend.close()

    def _publish(self) -> None:
        disk = self.disk
        disk.sync_dir(self.snap_aside)
        disk.sync_dir(self.member_aside)
        if self.wal_target:
            disk.rename(self.wal_aside, self.wal_target)
            disk.sync_dir(os.path.dirname(os.path.abspath(self.wal_target)))
        disk.rename(self.member_aside, self.target.member)
        disk.sync_dir(self.target.path)
        disk.sync_dir(os.path.dirname(os.path.abspath(self.target.path)))

    def _missing_folders(self) -> list[str]:
        """The folders that are about to be made, innermost first."""
        missing: list[str] = []
        starts = [self.target.path]
        if self.wal_target:
            starts.append(os.path.dirname(os.path.abspath(self.wal_target)))
        for start in starts:
            path = os.path.abspath(start)
            while not self.disk.exists(path) and path not in missing:
                missing.append(path)
                path = os.path.dirname(path)
        return sorted(missing, key=len, reverse=True)

    def _clean_up(self, made: list[str]) -> None:
        """Remove what this restore made, and nothing else."""
        for path in (self.member_aside, self.wal_aside, f"{self.wal_aside}.tmp"):
            shutil.rmtree(path, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):
                os.rmdir(path)  # only if it is empty


def _go_bytes(data: bytes) -> str:
    """A slice of bytes as Go's %v writes it."""
    return "[" + " ".join(map(str, data)) + "]"
