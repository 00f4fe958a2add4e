"""A member's data directory as a backup of its own: `etcdutl backup`, and `backup` of etcdctl's v2 mode.

    newest .snap, its v2 tree without the members -> the log after it, entries about members emptied
        -> the db without the members (or an empty one) -> rename

What comes of it is no member of any cluster: it is started with --force-new-cluster. Entries keep their places, so
nothing that counts by index is led astray. The log is read without its lock: a member may be writing it; only to copy
the db the member must not run.

Source: etcd etcdutl/etcdutl/backup_command.go of 3.5.1.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from balsad.config.versions import ETCD_VERSION
from balsad.env import Disk
from balsad.env.real import real_env
from balsad.go_quote import quote_go
from balsad.membership import Cluster, Member, Version
from balsad.ops.db_file import open_db
from balsad.ops.errors import OpsError, go_error
from balsad.proto import raft_internal_pb2
from balsad.raft.messages import ConfState, Entry, EntryType, Snapshot
from balsad.storage import (
    Backend,
    BackendSnapshot,
    DataDir,
    Snapshotter,
    StorageError,
    Wal,
    WalOptions,
    WalSnapshot,
    schema,
)
from balsad.storage.wal import INLINE, read_log, valid_snapshot_entries
from balsad.v2store import Store as V2Store
from balsad.v2store import decode_request, is_request, recover
from balsad.v2store import save as save_tree

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 20
_LOCK_WAIT_S: Final = 1.0
_ATTRIBUTES: Final = re.compile("/0/members/[0-9a-fA-F]{1,16}/attributes")
_PLACEHOLDER_NAME: Final = "etcdctl-v2-backup"
_PLACEHOLDER_URL: Final = "http://use-flag--force-new-cluster:2080"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """The flags of `backup`; empty log folders are those of the data directories."""

    data_dir: str
    backup_dir: str
    wal_dir: str = ""
    backup_wal_dir: str = ""
    with_v3: bool = True


def backup(options: BackupOptions, *, disk: Disk | None = None, unix_s: Callable[[], float] = time.time) -> None:
    """Write the backup. What fails on the way leaves nothing behind. Raises: OpsError."""
    disk = real_env().disk if disk is None else disk
    source = DataDir(options.data_dir, options.wal_dir or None)
    target = DataDir(options.backup_dir, options.backup_wal_dir or None)
    if disk.exists(target.member):
        names = disk.listdir(target.member) if disk.is_dir(target.member) else [os.path.basename(target.member)]
        if names:
            raise OpsError(f"expected {quote_go(target.member)} to be empty, got {quote_go(' '.join(names))}")
    if options.backup_wal_dir and disk.exists(target.wal):
        raise OpsError(f"backup-wal-dir {quote_go(target.wal)} exists")
    if not disk.is_dir(source.snap):
        raise OpsError(f"{source.snap}: no such directory; --data-dir must be a member's data directory")
    aside = _Aside(disk, target)
    try:
        _write(disk, source, aside, options.with_v3, int(unix_s() * 1000))
        aside.publish()
    except (StorageError, OSError) as error:
        aside.drop()
        raise OpsError(str(error)) from error
    except BaseException:
        aside.drop()
        raise


class _Aside:
    """Where the parts are made before they get their names."""

    def __init__(self, disk: Disk, target: DataDir) -> None:
        self._disk = disk
        self._target = target
        self._member = f"{target.member}.tmp"
        self.snap = os.path.join(self._member, "snap")
        self.db = os.path.join(self.snap, "db")
        self._own_wal = not target.wal.startswith(target.member + os.sep)
        self.wal = f"{target.wal}.backup" if self._own_wal else os.path.join(self._member, "wal")
        if disk.exists(self._member) or (self._own_wal and disk.exists(self.wal)):
            raise OpsError(f"{self._member} is left of an earlier attempt: look at it, and move it away")
        self._made = not disk.exists(target.path)
        disk.makedirs(self.snap)

    def publish(self) -> None:
        disk, target = self._disk, self._target
        disk.sync_dir(self.snap)
        disk.sync_dir(self._member)
        if self._own_wal:
            disk.rename(self.wal, target.wal)
            disk.sync_dir(os.path.dirname(os.path.abspath(target.wal)))
        if disk.exists(target.member):
            os.rmdir(target.member)  # an empty one
        disk.rename(self._member, target.member)
        disk.sync_dir(target.path)
        disk.sync_dir(os.path.dirname(os.path.abspath(target.path)))

    def drop(self) -> None:
        """Remove what was made here, and nothing else."""
        for path in (self._member, self.wal, f"{self.wal}.tmp"):
            shutil.rmtree(path, ignore_errors=True)
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self._target.path)  # only if it is empty


def _write(disk: Disk, source: DataDir, aside: _Aside, with_v3: bool, unix_ms: int) -> None:
    placeholder = _placeholder(unix_ms)
    conf_state = ConfState(voters=tuple(placeholder.member_ids()))
    snapshot = _newest_snapshot(disk, source)
    start = WalSnapshot(0, 0)
    if snapshot is not None:
        start = WalSnapshot(snapshot.index, snapshot.term, conf_state)
        tree = V2Store()
        recover(tree, snapshot.data)
        placeholder.use_tree(tree)
        placeholder.push()
        translated = Snapshot(snapshot.index, snapshot.term, conf_state, save_tree(tree))
        Snapshotter(disk, aside.snap).save(translated)
    replay = read_log(disk, source.wal, start)
    entries = [_translated(entry, with_v3) for entry in replay.entries]
    if with_v3:
        _copy_db(disk, source.db, aside.db)
    backend = Backend.open(disk, aside.db)
    try:
        members = _placeholder(unix_ms)
        members.use_buckets(backend)
        members.push()
        if not with_v3:
            backend.create_bucket(schema.META)
            schema.write_consistent_index(backend, replay.hard_state.commit, replay.hard_state.term)
    finally:
        backend.close()
    wal = Wal.create(disk, aside.wal, replay.metadata, WalOptions(sync=INLINE))
    try:
        wal.save(replay.hard_state, entries)
        if snapshot is not None:
            wal.save_snapshot(start)
    finally:
        wal.close()


def _placeholder(unix_ms: int) -> Cluster:
    """A cluster that cannot be: who starts on it without --force-new-cluster finds nobody."""
    first = (unix_ms & ((1 << 40) - 1)) << 8
    member = Member(id=first + 1, name=_PLACEHOLDER_NAME, peer_urls=(_PLACEHOLDER_URL,))
    return Cluster.from_members(first + 2, [member], server_version=Version.parse(ETCD_VERSION))


def _newest_snapshot(disk: Disk, source: DataDir) -> Snapshot | None:
    """The newest .snap that a starting member would take; a broken one is passed over, and left to that member."""
    known = {(one.term, one.index) for one in valid_snapshot_entries(disk, source.wal)}
    snapshotter = Snapshotter(disk, source.snap)
    for name in sorted((name for name in disk.listdir(source.snap) if name.endswith(".snap")), reverse=True):
        try:
            snapshot = snapshotter.read(os.path.join(source.snap, name))
        except StorageError as error:
            log.warning("failed to read a snap file", extra={"path": name, "error": str(error)})
            continue
        if (snapshot.term, snapshot.index) in known:
            return snapshot
    return None


def _translated(entry: Entry, with_v3: bool) -> Entry:
    """The entry, or an empty one in its place: about members, or of v3 when that is not wanted."""
    empty = Entry(EntryType.NORMAL, entry.term, entry.index, b"")
    if entry.type != EntryType.NORMAL:
        log.info("ignoring EntryConfChange raft entry")
        return empty
    if not entry.data:
        return entry
    if is_request(entry.data):
        return _translated_v2(entry, entry.data, empty)
    try:
        request = raft_internal_pb2.InternalRaftRequest.FromString(entry.data)
    except DecodeError as error:
        raise OpsError(f"entry {entry.index} of the log is no request: {error}") from error
    if request.HasField("v2"):
        return _translated_v2(entry, request.v2.SerializeToString(), empty)
    if request.HasField("cluster_member_attr_set"):
        log.info("ignoring cluster_member_attr_set")
        return empty
    return entry if with_v3 or not request.HasField("header") else empty


def _translated_v2(entry: Entry, data: bytes, empty: Entry) -> Entry:
    request = decode_request(data)
    if request.method == "PUT" and _ATTRIBUTES.search(request.path):
        log.info("ignoring member attribute update", extra={"v2Req.Path": request.path})
        return empty
    return entry


def _copy_db(disk: Disk, source: str, target: str) -> None:
    lock = _lock_db(disk, source)
    try:
        database = open_db(disk, source)
        try:
            pinned = BackendSnapshot(database)
            fd = disk.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                offset = 0
                while offset < pinned.size:
                    chunk = pinned.read(offset, _CHUNK_BYTES)
                    written = 0
                    while written < len(chunk):
                        written += disk.pwrite(fd, chunk[written:], offset + written)
                    offset += len(chunk)
                disk.fsync(fd)
            finally:
                disk.close(fd)
                pinned.close()
        finally:
            database.close()
    finally:
        disk.close(lock)


def _lock_db(disk: Disk, path: str) -> int:
    """Keep members away from the db while it is copied; the descriptor that holds the lock. Raises OpsError."""
    try:
        fd = disk.open(path, os.O_RDONLY)
    except OSError as error:
        raise go_error("open", path, error) from error
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            disk.lock(fd)
            return fd
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                disk.close(fd)
                raise OpsError(
                    f"timed out waiting to acquire lock on {path}: stop the member, "
                    "or leave v3 data out (--with-v3=false) and save it with `etcdctl snapshot save`"
                ) from error
            time.sleep(0.05)
