"""Snapshot files for the tests: made by a Backend of ours, as a member of etcd 3.5 would have them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from balsad.env.real import RealDisk
from balsad.mvcc import NoLeases, Store
from balsad.storage import Backend, schema
from balsad.wire import bytes_field, uvarint


def put(store: Store, key: bytes, value: bytes) -> None:
    store.put(key, bytes_field(1, key), uvarint(len(value)) + value if value else b"", 0)


def make_db(path: Path, count: int = 30, *, compacted: int = 0) -> Store:
    """A db of `count` puts on ten keys and one delete; the members are those of another cluster."""
    backend = Backend.open(RealDisk(), str(path))
    schema.create_all_buckets(backend)
    store = Store(backend, leases=NoLeases())
    store.restore()
    for number in range(count):
        put(store, b"key%d" % (number % 10), b"value %d" % number)
    with_delete = store.write()
    with_delete.delete_range(b"key3", b"")
    with_delete.end()
    if compacted:
        job = store.compact(compacted)
        while not job.step():
            pass
    backend.put(schema.MEMBERS, b"8e9e05c52164694d", b'{"id":10276657743932975437,"peerURLs":["http://old:2380"]}')
    backend.put(schema.MEMBERS_REMOVED, b"77", b"removed")
    backend.put(schema.CLUSTER, schema.CLUSTER_VERSION, b"3.5.0")
    schema.write_consistent_index(backend, 4711, 7)
    backend.close()
    return store


def make_snapshot(path: Path, count: int = 30) -> Path:
    """What `etcdctl snapshot save` writes: the db and its SHA-256."""
    db = path.with_name(f"{path.name}.of")
    make_db(db, count)
    data = db.read_bytes()
    path.write_bytes(data + hashlib.sha256(data).digest())
    db.unlink()
    return path
