"""etcd's write-ahead log: written, read, repaired, purged."""

from balsad.storage.wal.options import AUTO, HELPER, INLINE, NO_SYNC, WalOptions
from balsad.storage.wal.record import (
    WalSnapshot,
    decode_metadata,
    encode_metadata,
)
from balsad.storage.wal.repair import repair
from balsad.storage.wal.replay import (
    Replay,
    WalCrcError,
    WalError,
    WalGapError,
    WalMetadataConflictError,
    WalSnapshotMismatchError,
    WalSnapshotNotFoundError,
    WalTornError,
    read_log,
    valid_snapshot_entries,
)
from balsad.storage.wal.segments import (
    SEGMENT_BYTES,
    WalLockedError,
    WalNotFoundError,
    purge_files,
    wal_exists,
)
from balsad.storage.wal.waiter import Waiter
from balsad.storage.wal.writer import Wal

__all__ = [
    "AUTO",
    "HELPER",
    "INLINE",
    "NO_SYNC",
    "SEGMENT_BYTES",
    "Replay",
    "Waiter",
    "Wal",
    "WalCrcError",
    "WalError",
    "WalGapError",
    "WalLockedError",
    "WalMetadataConflictError",
    "WalNotFoundError",
    "WalOptions",
    "WalSnapshot",
    "WalSnapshotMismatchError",
    "WalSnapshotNotFoundError",
    "WalTornError",
    "decode_metadata",
    "encode_metadata",
    "purge_files",
    "read_log",
    "repair",
    "valid_snapshot_entries",
    "wal_exists",
]
