"""Offline hands: what an operator does with files while no server has them."""

from balsad.ops.backup import BackupOptions, backup
from balsad.ops.defrag import defrag_data_dir
from balsad.ops.errors import OpsError
from balsad.ops.hashkv import HashKv, hashkv
from balsad.ops.restore import Restored, RestoreOptions, snapshot_restore
from balsad.ops.snapshot_status import SnapshotStatus, snapshot_status

__all__ = [
    "BackupOptions",
    "HashKv",
    "OpsError",
    "RestoreOptions",
    "Restored",
    "SnapshotStatus",
    "backup",
    "defrag_data_dir",
    "hashkv",
    "snapshot_restore",
    "snapshot_status",
]
