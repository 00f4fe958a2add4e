"""Random histories of a store beside a model of dicts."""

from __future__ import annotations

import random

from crc32c import crc32c

from balsad.env.protocols import Disk
from balsad.storage import Backend, BackendSnapshot, DefragJob, Next, defragment, schema
from balsad.storage.bolt import View, check

BUCKETS = (b"auth", b"key", b"lease", b"meta", b"wide")
Model = dict[bytes, dict[bytes, bytes]]


def content_hash(model: Model) -> int:
    """What etcdutl prints as the hash of a file with this content."""
    value = 0
    for name in sorted(model):
        value = crc32c(name, value)
        for key, item in sorted(model[name].items()):
            value = crc32c(key + item, value)
    return value


def snapshot_bytes(snapshot: BackendSnapshot, piece: int = 50_000) -> bytes:
    return b"".join(snapshot.read(offset, piece) for offset in range(0, snapshot.size, piece))


def leaf_ids(view: View, bucket: bytes) -> list[int]:
    """The numbers of a bucket's leaf pages, in the order of their keys."""
    return [int.from_bytes(page[:8], "little") for page in view.leaves(view.buckets[bucket].root)]


class History:
    """A store, what should be in it, and the pinned snapshots with what should be in them."""

    def __init__(self, disk: Disk, path: str, seed: int) -> None:
        self.disk = disk
        self.path = path
        self.rnd = random.Random(seed)
        self.backend = Backend.open(disk, path, sync=False)
        self.model: Model = {name: {} for name in BUCKETS}
        self.snapshots: list[tuple[BackendSnapshot, Model]] = []
        self.defrag: DefragJob | None = None
        self.defrags = 0
        self.revision = 1
        for name in BUCKETS:
            self.backend.create_bucket(name)

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.backend.put(bucket, key, value)
        self.model[bucket][key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.backend.delete(bucket, key)
        self.model[bucket].pop(key, None)

    def write(self) -> None:
        """A batch as etcd makes them: new revisions appended, small buckets changed, old revisions compacted."""
        rnd = self.rnd
        for _ in range(rnd.choice((0, 1, 10, 300, 1500))):
            self.revision += 1
            size = rnd.choice((0, 10, 100, 256, 1024, rnd.choice((5, 5, 5, 9000, 40_000))))
            self.put(schema.KEY, schema.encode_revision(self.revision, 0), rnd.randbytes(size))
        for bucket in (schema.LEASE, b"wide"):
            for _ in range(rnd.choice((0, 5, 200))):
                key = rnd.randrange(3000).to_bytes(rnd.choice((2, 8, 300)), "big")
                if rnd.random() < 0.6:
                    self.put(bucket, key, rnd.randbytes(rnd.choice((0, 20, 700))))
                else:
                    self.delete(bucket, key)
        for bucket in (schema.KEY, schema.LEASE, b"wide"):
            keys = sorted(self.model[bucket])
            if keys and rnd.random() < 0.4:
                for key in self.some_of(keys):
                    self.delete(bucket, key)

    def some_of(self, keys: list[bytes]) -> list[bytes]:
        kind = self.rnd.randrange(3)
        if kind == 0:
            return self.rnd.sample(keys, len(keys) * self.rnd.randrange(1, 101) // 100)
        if kind == 1:
            return keys[: self.rnd.randrange(len(keys) + 1)]
        first = self.rnd.randrange(len(keys))
        return keys[first : self.rnd.randrange(first, len(keys) + 1)]

    def commit(self) -> None:
        """Whole or in slices, with puts and reads between them."""
        rnd = self.rnd
        if rnd.random() < 0.5:
            self.backend.commit()
            return
        job = self.backend.commit_job()
        if job is None:
            return
        while not job.step():
            if rnd.random() < 0.1:
                self.put(schema.AUTH, b"%d" % rnd.randrange(99), b"meanwhile")
            if rnd.random() < 0.02:
                self.compare_bucket(rnd.choice(BUCKETS))
            if rnd.random() < 0.2:
                self.go_on_defragmenting()
        if rnd.random() < 0.2:
            self.backend.commit()  # finishes the job, and commits what came meanwhile
        job.flush()
        job.finish()

    def disturb(self) -> None:
        """Snapshots come and go, the file is defragmented or opened again."""
        rnd = self.rnd
        if rnd.random() < 0.2:
            snapshot = self.backend.snapshot()
            self.snapshots.append((snapshot, {name: dict(items) for name, items in self.model.items()}))
        if self.snapshots and rnd.random() < 0.3:
            self.snapshots.pop(rnd.randrange(len(self.snapshots)))[0].close()
        if self.defrag is None and rnd.random() < 0.1:
            defragment(self.backend)
        if self.defrag is None and rnd.random() < 0.3:
            self.defrag = DefragJob(self.backend, leaves_per_step=7)
        self.go_on_defragmenting()
        if self.defrag is not None and rnd.random() < 0.1:
            self.defrag.close()
            self.defrag = None
        if not self.snapshots and self.defrag is None and rnd.random() < 0.15:
            self.backend.close()
            self.backend = Backend.open(self.disk, self.path, sync=False)

    def go_on_defragmenting(self) -> None:
        job, rnd = self.defrag, self.rnd
        if job is None:
            return
        following = Next.STEP
        for _ in range(rnd.choice((1, 5, 100, 1000))):
            if following is Next.FLUSH:
                job.flush()
            following = job.step()
            if following is Next.SWITCH:
                break
        if following is Next.FLUSH:
            job.flush()
        if following is Next.SWITCH and not self.backend.committing and rnd.random() < 0.7:
            assert job.switch() is Next.FLUSH
            job.flush()
            assert job.step() is Next.CLOSE
            job.close()
            self.defrag = None
            self.defrags += 1

    def compare(self) -> None:
        """The file is sound, and holds what the model says."""
        database = self.backend.database
        assert check(database.view, database.freelist, strict=True) == []
        for bucket in BUCKETS:
            self.compare_bucket(bucket)

    def compare_bucket(self, bucket: bytes) -> None:
        rnd = self.rnd
        items = sorted(self.model[bucket].items())
        assert self.backend.scan(bucket, b"", None) == items
        for key, value in rnd.sample(items, min(10, len(items))):
            assert self.backend.get(bucket, key) == value
            assert self.backend.get(bucket, key + b"\0") == self.model[bucket].get(key + b"\0")
        if items:
            start, end = sorted((rnd.choice(items)[0], rnd.choice(items)[0]))
            limit = rnd.randrange(0, 50)
            expected = [(key, value) for key, value in items if start <= key < end]
            assert self.backend.scan(bucket, start, end, limit) == (expected[:limit] if limit else expected)

    def close(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        if self.defrag is not None:
            self.defrag.close()
        self.backend.close()
