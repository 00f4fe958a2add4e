"""Bytes on disk: the write-ahead log, .snap files, the bbolt file behind a batched write side."""

from balsad.storage import schema
from balsad.storage.backend import Backend
from balsad.storage.bolt.digest import ContentHashJob
from balsad.storage.bolt.errors import BucketNotFoundError, CorruptDatabaseError, DatabaseLockedError
from balsad.storage.bolt.snapshot import BackendSnapshot
from balsad.storage.commit_job import CommitJob
from balsad.storage.datadir import DataDir, DataDirKind
from balsad.storage.defrag import DefragJob, Next, defragment
from balsad.storage.errors import StorageError
from balsad.storage.snap import SnapError, Snapshotter, snap_name
from balsad.storage.wal import Wal, WalOptions, WalSnapshot

__all__ = [
    "Backend",
    "BackendSnapshot",
    "BucketNotFoundError",
    "CommitJob",
    "ContentHashJob",
    "CorruptDatabaseError",
    "DataDir",
    "DataDirKind",
    "DatabaseLockedError",
    "DefragJob",
    "Next",
    "SnapError",
    "Snapshotter",
    "StorageError",
    "Wal",
    "WalOptions",
    "WalSnapshot",
    "defragment",
    "schema",
    "snap_name",
]
