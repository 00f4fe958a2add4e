"""What a snapshot file holds: `etcdutl snapshot status`.

Source: etcd etcdutl/snapshot/v3_snapshot.go Status.
"""

from __future__ import annotations

from dataclasses import dataclass

from balsad.env import Disk
from balsad.env.real import real_env
from balsad.ops.db_file import open_db
from balsad.ops.errors import OpsError
from balsad.storage import StorageError, schema
from balsad.storage.bolt import View, check, hash_contents
from balsad.wire import to_int64


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStatus:
    """`total_key` counts the items of all buckets, `total_size` the bytes of all pages, used or not."""

    hash: int
    revision: int
    total_key: int
    total_size: int
    version: str = ""  # of the storage, from etcd 3.6 on


def snapshot_status(path: str, disk: Disk | None = None) -> SnapshotStatus:
    """Check a db file, with or without a hash behind it, and describe it. The hash behind it is not looked at.

    Raises: OpsError.
    """
    database = open_db(real_env().disk if disk is None else disk, path)
    try:
        view = database.view
        problems = check(view)
        if problems:
            listed = "\n".join(problems)
            raise OpsError(f"snapshot file integrity check failed. {len(problems)} errors found.\n{listed}")
        contents = hash_contents(view)
        version = view.get(schema.META, schema.STORAGE_VERSION) if schema.META in view.buckets else None
        return SnapshotStatus(
            hash=contents.value,
            revision=last_revision(view),
            total_key=contents.item_count,
            total_size=view.high_water * view.page_size,
            version="" if version is None else version.decode("utf-8", "replace"),
        )
    except StorageError as error:
        raise OpsError(str(error)) from error
    finally:
        database.close()


def last_revision(view: View) -> int:
    """The main revision of the last key of the `key` bucket, 0 when it is empty."""
    if schema.KEY not in view.buckets:
        return 0
    # The largest eight bytes with a key at or behind them: 64 looks instead of reading every leaf.
    low, high = -1, 1 << 64
    while high - low > 1:
        middle = (low + high) // 2
        if view.scan(schema.KEY, middle.to_bytes(8, "big"), None, 1)[0]:
            low = middle
        else:
            high = middle
    return to_int64(max(low, 0))
