""".snap files: raft's snapshots, written whole or not at all.

    snappb.snapshot{crc=1: CRC-32C of data, data=2: raftpb.Snapshot}

named `%016x-%016x.snap` after term and index, so that names sort like
snapshots. `data` of the raftpb.Snapshot is the v2 store's JSON, which holds the
membership; the keys of v3 are in the db. A file counts only if the log has
a record of it, since the record is written after the file.

Source: etcd server/etcdserver/api/snap/snapshotter.go, db.go.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from balsad.checksum import crc32c
from balsad.env import Disk
from balsad.raft.codec import decode_snapshot, encode_snapshot
from balsad.raft.messages import Snapshot
from balsad.storage.errors import StorageError, os_error
from balsad.storage.wal.record import WalSnapshot
from balsad.storage.wal.segments import purge_files
from balsad.wire import WireError, read_uvarint, skip_field, uvarint

_CHUNK_BYTES: Final = 1 << 20


class SnapError(StorageError):
    """A .snap file does not hold what was once written to it."""


def snap_name(term: int, index: int) -> str:
    return f"{term:016x}-{index:016x}.snap"


def encode_snap_file(snapshot: Snapshot) -> bytes:
    """The bytes of a .snap file."""
    data = encode_snapshot(snapshot)
    return b"\x08%b\x12%b%b" % (uvarint(crc32c(data)), uvarint(len(data)), data)


def decode_snap_file(path: str, content: bytes) -> Snapshot:
    """The snapshot in a .snap file's bytes; `path` is for the words of a SnapError."""
    if not content:
        raise SnapError(path, "snap: empty snapshot")
    crc = 0
    data = b""
    pos = 0
    try:
        while pos < len(content):
            tag, pos = read_uvarint(content, pos)
            if tag == 0x08:
                crc, pos = read_uvarint(content, pos)
            elif tag == 0x12:
                size, pos = read_uvarint(content, pos)
                if pos + size > len(content):
                    raise WireError(f"{size} bytes of data expected, {len(content) - pos} found")
                data = content[pos : pos + size]
                pos += size
            else:
                pos = skip_field(content, pos, tag)
    except WireError as error:
        raise SnapError(path, f"snap: no snapshot: {error}", offset=pos) from error
    if not data or not crc:
        raise SnapError(path, "snap: empty snapshot")
    found = crc32c(data)
    if crc != found:
        raise SnapError(path, f"snap: crc mismatch: expected {crc:08x}, found {found:08x}")
    try:
        return decode_snapshot(data)
    except WireError as error:
        raise SnapError(path, f"snap: no snapshot: {error}") from error


def _nobody(_: float) -> None:
    """Nobody wants to know."""


class Snapshotter:
    """The .snap and .snap.db files of one folder."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = path
        self.on_fsync: Callable[[float], None] = _nobody
        self.on_db_fsync: Callable[[float], None] = _nobody
        self.on_db_save: Callable[[float], None] = _nobody
        """Told how many seconds it took to sync a received db, and to receive and save it."""
        """Told how many seconds each file waited for the disk."""
        self.on_marshalled: Callable[[float], None] = _nobody
        """Told how many seconds it took to make the bytes of each .snap file."""

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot; when this returns it is durable. An empty one is not written. Raises StorageError."""
        if snapshot.is_empty():
            return
        name = snap_name(snapshot.term, snapshot.index)
        aside = os.path.join(self.path, f"tmp-{name[:-5]}")
        began = time.perf_counter()
        content = encode_snap_file(snapshot)
        self.on_marshalled(time.perf_counter() - began)
        self._write_aside(aside, [content])
        self._publish(aside, os.path.join(self.path, name))

    def has_files(self) -> bool:
        """Whether there is any to load. Raises: StorageError."""
        return bool(self._names(".snap"))

    def load_newest(
        self,
        wal_snapshots: list[WalSnapshot] | None = None,
        on_broken: Callable[[SnapError], None] | None = None,
    ) -> Snapshot | None:
        """The newest readable snapshot that the log has a record of; None when there is none.

        `wal_snapshots` None asks no log. Files that cannot be read are renamed to `.broken`, and `on_broken` told.
        Raises: StorageError.
        """
        known = None if wal_snapshots is None else {(known.term, known.index) for known in wal_snapshots}
        for name in reversed(self._names(".snap")):
            path = os.path.join(self.path, name)
            try:
                snapshot = self.read(path)
            except SnapError as error:
                try:
                    self._disk.rename(path, f"{path}.broken")
                except OSError as failure:
                    raise os_error(path, "rename", failure) from failure
                if on_broken is not None:
                    on_broken(error)
                continue
            if known is None or (snapshot.term, snapshot.index) in known:
                return snapshot
        return None

    def read(self, path: str) -> Snapshot:
        """The snapshot in one file. Raises SnapError, or StorageError when it cannot be read at all."""
        try:
            fd = self._disk.open(path, os.O_RDONLY)
            try:
                parts: list[bytes] = []
                while chunk := self._disk.read(fd, _CHUNK_BYTES):
                    parts.append(chunk)
            finally:
                self._disk.close(fd)
        except OSError as error:
            raise os_error(path, "read", error) from error
        return decode_snap_file(path, b"".join(parts))

    def db_path(self, index: int) -> str:
        """Where a db received with the snapshot at `index` lies."""
        return os.path.join(self.path, f"{index:016x}.snap.db")

    def save_db(self, index: int, chunks: Iterable[bytes]) -> int:
        """Write a received db, all of it or nothing; gives its size. Raises StorageError."""
        aside = os.path.join(self.path, f"tmp-{index:016x}")
        size = self._write_aside(aside, chunks)
        path = self.db_path(index)
        if self._disk.exists(path):
            self._disk.unlink(aside)
        else:
            self._publish(aside, path)
        return size

    def clean_up(self) -> list[str]:
        """Remove what a crash left half-made: db.tmp* of a defragmentation, tmp* of anything written aside."""
        return self._remove([name for name in self._names("") if name.startswith(("db.tmp", "tmp"))])

    def release_dbs(self, index: int) -> list[str]:
        """Remove received dbs that are older than the snapshot at `index`; gives their paths."""
        names: list[str] = []
        for name in self._names(".snap.db"):
            try:
                if int(name[: -len(".snap.db")], 16) < index:
                    names.append(name)
            except ValueError:
                continue
        return self._remove(names)

    def purge(self, keep: int) -> list[str]:
        """Remove the oldest files over `keep` of each kind; gives their paths."""
        return purge_files(self._disk, self.path, ".snap.db", keep) + purge_files(self._disk, self.path, ".snap", keep)

    def _names(self, suffix: str) -> list[str]:
        try:
            return [name for name in self._disk.listdir(self.path) if name.endswith(suffix)]
        except OSError as error:
            raise os_error(self.path, "open", error) from error

    def _remove(self, names: list[str]) -> list[str]:
        removed: list[str] = []
        for name in names:
            path = os.path.join(self.path, name)
            try:
                self._disk.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise os_error(path, "unlink", error) from error
            removed.append(path)
        return removed

    def _write_aside(self, aside: str, chunks: Iterable[bytes]) -> int:
        size = 0
        try:
            fd = self._disk.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                for chunk in chunks:
                    written = 0
                    while written < len(chunk):
                        written += self._disk.write(fd, chunk[written:] if written else chunk)
                    size += len(chunk)
                began = time.perf_counter()
                self._disk.fsync(fd)
                self.on_fsync(time.perf_counter() - began)
            finally:
                self._disk.close(fd)
        except BaseException as error:
            try:
                self._disk.unlink(aside)
            except OSError:
                pass
            if isinstance(error, OSError):
                raise os_error(aside, "write", error) from error
            raise
        return size

    def _publish(self, aside: str, path: str) -> None:
        try:
            self._disk.rename(aside, path)
            self._disk.sync_dir(self.path)
        except OSError as error:
            raise os_error(path, "rename", error) from error
