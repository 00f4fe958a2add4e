"""Every path of a data directory, once.

    <data-dir>/
      member/                                  folders 0700, files 0600
        wal/%016x-%016x.wal                    sequence, index of the first entry; or all of it in --wal-dir
            0.tmp, 1.tmp                       the next segment
            *.wal.broken                       copy of a segment that was repaired
        wal.tmp/                               a log being created
        snap/db                              the bbolt file
             %016x-%016x.snap                term, index
             %016x.snap.db                   index; a db received from the leader
             *.snap.broken                   unreadable
             db.tmp*, tmp*                     half-made, removed at start

Source: etcd server/datadir, server/etcdmain/etcd.go.
"""

from __future__ import annotations

import contextlib
import os
from enum import Enum

from balsad.env import Disk
from balsad.storage.errors import StorageError, os_error


class DataDirKind(Enum):
    """What lives in a data directory."""

    EMPTY = "empty"
    MEMBER = "member"
    PROXY = "proxy"


class DataDir:
    """The paths of one data directory; `wal_dir` is the --wal-dir, if one was given."""

    __slots__ = ("db", "member", "path", "proxy", "snap", "wal")

    def __init__(self, path: str, wal_dir: str | None = None) -> None:
        self.path = path
        self.member = os.path.join(path, "member")
        self.proxy = os.path.join(path, "proxy")
        self.wal = wal_dir or os.path.join(self.member, "wal")
        self.snap = os.path.join(self.member, "snap")
        self.db = os.path.join(self.snap, "db")

    def identify(self, disk: Disk) -> tuple[DataDirKind, list[str]]:
        """What lives here, and the names that belong to none of it.

        Raises: StorageError when member and proxy live here together, or it cannot be read.
        """
        if not disk.exists(self.path):
            return DataDirKind.EMPTY, []
        try:
            names = disk.listdir(self.path)
        except OSError as error:
            raise os_error(self.path, "failed to list data directory", error) from error
        unknown = [name for name in names if name not in ("member", "proxy")]
        if "member" in names and "proxy" in names:
            raise StorageError(self.path, "invalid datadir; both member and proxy directories exist")
        if "member" in names:
            return DataDirKind.MEMBER, unknown
        if "proxy" in names:
            return DataDirKind.PROXY, unknown
        return DataDirKind.EMPTY, unknown

    def prepare(self, disk: Disk) -> None:
        """Make the folders that are missing, and see that they can be written. Raises StorageError."""
        _touch_dir(disk, self.path, "cannot access data directory")
        _touch_dir(disk, self.member, "cannot access member directory")
        _touch_dir(disk, self.snap, "failed to create snapshot directory")

    def prepare_wal_dir(self, disk: Disk) -> None:
        """The same for a --wal-dir of its own. Raises StorageError."""
        if not self.wal.startswith(self.member + os.sep):
            _touch_dir(disk, self.wal, "cannot access WAL directory")


def _touch_dir(disk: Disk, path: str, reason: str) -> None:
    missing: list[str] = []
    folder = path.rstrip("/")
    while folder and not disk.exists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    try:
        disk.makedirs(path)
        for made in missing:
            # What is synced in a folder is lost with the folder's own name. Who may not read the parent can't help it.
            with contextlib.suppress(PermissionError):
                disk.sync_dir(os.path.dirname(made) or ".")
        probe = os.path.join(path, ".touch")
        disk.close(disk.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        disk.unlink(probe)
    except OSError as error:
        raise os_error(path, reason, error) from error
