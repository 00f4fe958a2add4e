"""The hash of a db file's key space, as members compare it: `etcdutl hashkv`.

Source: etcd 3.6 etcdutl/etcdutl/hashkv_command.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from balsad.env import Disk
from balsad.env.real import real_env
from balsad.errors import RequestError
from balsad.mvcc import NoLeases, Store
from balsad.ops.db_file import open_db
from balsad.ops.errors import OpsError
from balsad.storage import StorageError
from balsad.storage.bolt import LeafRun, Stretch, View, leaf_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class HashKv:
    """`hash_revision` is the newest revision in the hash, `compact_revision` -1 before the first compaction."""

    hash: int
    hash_revision: int
    compact_revision: int


class _ReadOnly:
    """A view of a file as the store's backend; what is written to it is forgotten."""

    def __init__(self, path: str, view: View) -> None:
        self.path = path
        self._view = view

    def create_bucket(self, bucket: bytes) -> None:
        pass

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        pass

    def delete(self, bucket: bytes, key: bytes) -> None:
        pass

    def lend_pending(self, bucket: bytes, take: Callable[[dict[bytes, bytes | None]], None]) -> None:
        take({})

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self._view.get(bucket, key) if bucket in self._view.buckets else None

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]:
        if bucket not in self._view.buckets:
            return []
        keys, values = self._view.scan(bucket, start, end, limit)
        return list(zip(keys, values, strict=True))

    def runs(self, bucket: bytes, key_size: int) -> Iterator[LeafRun] | None:
        mapping = self._view.mapping
        if bucket not in self._view.buckets:
            return None
        return leaf_runs(self._view, bucket, key_size, lambda count, offset: mapping[offset : offset + count])

    def stretches(self, bucket: bytes) -> Iterator[Stretch]:
        return self._view.stretches(bucket) if bucket in self._view.buckets else iter(())

    def stretches_between(
        self, bucket: bytes, start: bytes, end: bytes, page_bytes: int
    ) -> tuple[list[Stretch], bytes | None]:
        if bucket not in self._view.buckets:
            return [], None
        return self._view.stretches_between(bucket, start, end, page_bytes)


def hashkv(path: str, rev: int = 0, disk: Disk | None = None) -> HashKv:
    """Hash the key space up to `rev`, 0 being all of it; the file is not changed.

    Raises: OpsError.
    """
    database = open_db(real_env().disk if disk is None else disk, path)
    try:
        store = Store(_ReadOnly(path, database.view), leases=NoLeases())
        store.restore()
        result = store.hash_by_revision(rev)
        return HashKv(hash=result.hash, hash_revision=result.revision, compact_revision=result.compact_revision)
    except RequestError as refusal:
        raise OpsError(refusal.text.removeprefix("etcdserver: ")) from refusal
    except StorageError as error:
        raise OpsError(str(error)) from error
    finally:
        database.close()
