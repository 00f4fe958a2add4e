"""bbolt's file format: one file, copy-on-write pages, one writer, pinned readers."""

from balsad.storage.bolt.bulk import BulkWriter
from balsad.storage.bolt.check import check
from balsad.storage.bolt.db import Database
from balsad.storage.bolt.digest import ContentHash, hash_contents
from balsad.storage.bolt.errors import BucketNotFoundError, CorruptDatabaseError, DatabaseLockedError
from balsad.storage.bolt.freelist import Freelist
from balsad.storage.bolt.runs import LeafRun, leaf_runs
from balsad.storage.bolt.tree import Stretch, View
from balsad.storage.bolt.tx import FILL_APPEND, FILL_DEFAULT, WriteTx

__all__ = [
    "FILL_APPEND",
    "FILL_DEFAULT",
    "BucketNotFoundError",
    "BulkWriter",
    "ContentHash",
    "CorruptDatabaseError",
    "Database",
    "DatabaseLockedError",
    "Freelist",
    "LeafRun",
    "Stretch",
    "View",
    "WriteTx",
    "check",
    "hash_contents",
    "leaf_runs",
]
