"""One file, two readers: what the real etcd wrote and what we wrote mean the same to both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad.env.real import real_env
from balsad.errors import CompactedError
from balsad.lease import Lessor
from balsad.mvcc import Store
from balsad.proto import rpc_pb2
from balsad.storage import Backend
from tests.unit.mvcc.mvcc_model import Delete, Op, Put, apply, put
from tests.unit.mvcc.mvcc_real_etcd import RealEtcd

pytestmark = pytest.mark.real

KEYS = [b"key%02d" % i for i in range(25)] + [b"\0", b"\xff\xff", b"long" * 50]
LEASES = [11, 12, 1 << 62]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[RealEtcd]:
    member = RealEtcd(tmp_path)
    member.start()
    yield member
    member.stop()


class OurStore:
    """Our store on a file; leases and all."""

    def __init__(self, path: Path) -> None:
        self.backend = Backend.open(real_env().disk, str(path))
        self.lessor = Lessor(2, self.backend)
        self.lessor.recover()
        self.store = Store(self.backend, leases=self.lessor, compaction_batch=10)
        self.store.restore()

    def close(self) -> None:
        self.backend.commit()
        self.backend.close()

    def finish_compactions(self) -> None:
        while self.store.compactions:
            self.store.compactions[0].step()


def random_txn(rnd: random.Random) -> list[Op]:
    """Writes that may stand in one txn: no key twice."""
    if rnd.random() < 0.15:
        low, high = sorted(rnd.sample(KEYS, 2))
        return [Delete(low, rnd.choice([b"", high, high, b"\0" if rnd.random() < 0.1 else b""]))]
    chosen = rnd.sample(KEYS, 1 if rnd.random() < 0.6 else rnd.randrange(2, 6))
    ops: list[Op] = []
    for key in chosen:
        if rnd.random() < 0.2:
            ops.append(Delete(key))
        else:
            value = rnd.choice([b"", rnd.randbytes(10), rnd.randbytes(rnd.randrange(5000))])
            ops.append(Put(key, value, rnd.choice([0, 0, *LEASES])))
    return ops


def apply_to_etcd(etcd: RealEtcd, ops: list[Op]) -> None:
    request = rpc_pb2.TxnRequest()
    for op in ops:
        if isinstance(op, Put):
            request.success.add().request_put.CopyFrom(rpc_pb2.PutRequest(key=op.key, value=op.value, lease=op.lease))
        else:
            request.success.add().request_delete_range.CopyFrom(
                rpc_pb2.DeleteRangeRequest(key=op.key, range_end=op.end)
            )
    if len(ops) == 1 and isinstance(ops[0], Put):
        etcd.put(request.success[0].request_put)
    else:
        etcd.txn(request)


def everything(etcd: RealEtcd, revision: int = 0) -> tuple[list[bytes], int]:
    answer = etcd.range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision))
    return [kv.SerializeToString() for kv in answer.kvs], answer.header.revision


Seen = tuple[dict[int, list[bytes]], dict[int, tuple[int, int]], dict[int, list[bytes]], int]


def look(etcd: RealEtcd, lowest: int, lowest_hash: int) -> Seen:
    """All that can be asked: ranges and hashes at many revisions, keys of leases, the revision."""
    _, current = everything(etcd)
    ranges = {revision: everything(etcd, revision)[0] for revision in range(lowest, current + 1, 7)}
    hashes: dict[int, tuple[int, int]] = {}
    for revision in [*range(lowest_hash, current, 11), current]:
        answer = etcd.hash_kv(revision)
        hashes[revision] = (answer.hash, answer.compact_revision)
    return ranges, hashes, {lease: etcd.lease_keys(lease) for lease in LEASES[:2]}, current


def check(ours: OurStore, seen: Seen) -> None:
    ranges, hashes, lease_keys, current = seen
    store = ours.store
    assert store.current_revision == current
    for revision, kvs in ranges.items():
        assert store.range(b"\0", b"\0", revision=revision).kvs == kvs
    for revision, expected in hashes.items():
        result = store.hash_by_revision(revision)
        assert (result.hash, result.compact_revision) == expected, f"at {revision}"
    for lease, keys in lease_keys.items():
        held = ours.lessor.lookup(lease)
        assert (held.sorted_keys() if held else []) == keys


def test_we_read_what_etcd_wrote_and_etcd_reads_what_we_wrote(etcd: RealEtcd, tmp_path: Path) -> None:
    """Revision, ranges, lease attachments and HashKV, before and after compactions on either side."""
    rnd = random.Random(20)
    for lease in LEASES:
        etcd.grant(lease, 3600)
    for _ in range(150):
        apply_to_etcd(etcd, random_txn(rnd))
    before_compaction = look(etcd, 1, 2)
    etcd.stop()
    ours = OurStore(etcd.db)
    assert ours.store.compact_revision == -1
    check(ours, before_compaction)
    ours.close()

    etcd.start()
    compacted = before_compaction[3] - 60
    etcd.compact(compacted)
    etcd.revoke(LEASES[2])
    after_compaction = look(etcd, compacted, compacted + 1)
    etcd.stop()

    ours = OurStore(etcd.db)
    store = ours.store
    assert (store.compact_revision, len(store.compactions)) == (compacted, 0)
    check(ours, after_compaction)
    with pytest.raises(CompactedError):
        store.range(b"a", revision=compacted - 1)

    while store.current_revision < after_compaction[3] + 100:
        apply(store, [op for op in random_txn(rnd) if not (isinstance(op, Put) and op.lease == LEASES[2])])
    put(store, b"doomed", b"v")
    txn = store.write()
    txn.delete_range(b"doomed")
    txn.delete_range(b"key00", b"key05")
    tombstone = txn.end()
    store.compact(tombstone)
    ours.finish_compactions()
    txn = store.write()
    for key in ours.lessor.revoke(LEASES[0]):
        txn.delete_range(key)
    txn.end()
    for _ in range(50):
        apply(store, [op for op in random_txn(rnd) if not (isinstance(op, Put) and op.lease in (LEASES[0], LEASES[2]))])
    current = store.current_revision
    held = ours.lessor.lookup(LEASES[1])
    assert held is not None
    our_view: Seen = (
        {revision: store.range(b"\0", b"\0", revision=revision).kvs for revision in range(tombstone, current + 1, 7)},
        {
            revision: (result.hash, result.compact_revision)
            for revision in range(tombstone + 1, current + 1, 11)
            if (result := store.hash_by_revision(revision))
        },
        {LEASES[0]: [], LEASES[1]: held.sorted_keys()},
        current,
    )
    ours.close()

    etcd.start()
    assert everything(etcd)[1] == current
    for revision, kvs in our_view[0].items():
        assert everything(etcd, revision)[0] == kvs
    for revision, expected in our_view[1].items():
        answer = etcd.hash_kv(revision)
        assert (answer.hash, answer.compact_revision) == expected, f"at {revision}"
    assert etcd.lease_keys(LEASES[1]) == our_view[2][LEASES[1]]


def test_a_compaction_stopped_half_way_is_finished_by_whoever_opens_the_file(etcd: RealEtcd) -> None:
    """What is left of the work is found in the file, and neither reads nor hashes can tell the difference."""
    rnd = random.Random(3)
    for _ in range(1200):
        etcd.put(rpc_pb2.PutRequest(key=b"key%d" % rnd.randrange(20), value=b"v"))
    _, current = everything(etcd)
    compacted = current - 10
    expected = everything(etcd, compacted)[0]
    etcd.stop()
    ours = OurStore(etcd.db)
    job = ours.store.compact(compacted)
    while job.deleted < 500:
        job.step()
    assert not job.finished
    half_way = ours.store.hash_by_revision(current).hash
    ours.close()

    ours = OurStore(etcd.db)
    assert (ours.store.compact_revision, len(ours.store.compactions)) == (compacted, 1)
    assert ours.store.hash_by_revision(current).hash == half_way
    assert ours.store.range(b"\0", b"\0", revision=compacted).kvs == expected
    ours.close()

    etcd.start()
    assert everything(etcd, compacted)[0] == expected
    etcd.compact(compacted + 1)  # waits behind the one that was left
    answer = etcd.hash_kv(current)
    assert answer.compact_revision == compacted + 1
    etcd.stop()

    ours = OurStore(etcd.db)
    assert (ours.store.compact_revision, len(ours.store.compactions)) == (compacted + 1, 0)
    assert ours.store.hash_by_revision(current).hash == answer.hash
    assert len(ours.backend.scan(b"key", b"", None)) < 40
    ours.close()
