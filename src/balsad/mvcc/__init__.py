"""The multi-version store: every write is a revision, readable and watchable until it is compacted."""

from balsad.mvcc.compaction import CompactionJob
from balsad.mvcc.event import Event, WatchBatch
from balsad.mvcc.faces import LeaseAttacher, NoLeases, StoreBackend
from balsad.mvcc.hash import HashJob, HashResult
from balsad.mvcc.key_value import create_and_version, key_of, lease_of, value_of, without_value
from balsad.mvcc.range_job import RangeJob
from balsad.mvcc.restore import RestoreJob
from balsad.mvcc.revision import KeyMeta
from balsad.mvcc.store import RangeResult, Store
from balsad.mvcc.watch import (
    AUTO_WATCH_ID,
    PROGRESS_ID,
    DuplicateWatchIdError,
    EmptyWatchRangeError,
    Sink,
    WatchHub,
    WatchStream,
)
from balsad.mvcc.write_txn import WriteTxn

__all__ = [
    "AUTO_WATCH_ID",
    "PROGRESS_ID",
    "CompactionJob",
    "DuplicateWatchIdError",
    "EmptyWatchRangeError",
    "Event",
    "HashJob",
    "HashResult",
    "KeyMeta",
    "LeaseAttacher",
    "NoLeases",
    "RangeJob",
    "RangeResult",
    "RestoreJob",
    "Sink",
    "Store",
    "StoreBackend",
    "WatchBatch",
    "WatchHub",
    "WatchStream",
    "WriteTxn",
    "create_and_version",
    "key_of",
    "lease_of",
    "value_of",
    "without_value",
]
