"""Bytes on disk: the write-ahead log, .snap files, the bbolt file behind a batched write side."""

from balsad.storage.datadir import DataDir, DataDirKind
from balsad.storage.errors import StorageError
from balsad.storage.snap import SnapError, Snapshotter
from balsad.storage.wal import Wal, WalOptions, WalSnapshot

__all__ = [
    "DataDir",
    "DataDirKind",
    "SnapError",
    "Snapshotter",
    "StorageError",
    "Wal",
    "WalOptions",
    "WalSnapshot",
]
