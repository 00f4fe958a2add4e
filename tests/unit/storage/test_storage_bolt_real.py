"""The real etcd's tools judge our files, and we theirs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2
from balsad.storage import Backend, schema
from balsad.storage.bolt import check, hash_contents
from tests.interop.servers import etcdutl, real, start
from tests.interop.v3 import connect
from tests.unit.storage.bolt_history import History, content_hash, snapshot_bytes

pytestmark = pytest.mark.real
SOAK = bool(os.environ.get("BALSAD_SOAK"))


def status_of(path: Path) -> dict[str, int]:
    """etcdutl snapshot status: runs bbolt's own check, then hashes."""
    status: dict[str, int] = json.loads(etcdutl("snapshot", "status", str(path), "-w", "json"))
    return status


@pytest.mark.parametrize("seed", range(40 if SOAK else 2))
def test_random_histories_pass_bbolts_own_check(tmp_path: Path, seed: int) -> None:
    history = History(RealDisk(), str(tmp_path / "db"), seed)
    sent = tmp_path / "sent.db"

    for round_number in range(120 if SOAK else 24):
        history.write()
        history.commit()
        history.compare()
        history.disturb()
        if round_number % 6 == 5:
            snapshot = history.backend.snapshot()
            history.snapshots.append((snapshot, {name: dict(items) for name, items in history.model.items()}))
            # The oldest pinned snapshot has seen the most commits since.
            snapshot, model = history.snapshots[0]
            sent.write_bytes(snapshot_bytes(snapshot))
            status = status_of(sent)
            assert status["hash"] == content_hash(model)
            assert status["totalKey"] == sum(map(len, model.values()))
            assert status["totalSize"] == snapshot.size
    history.backend.commit()
    assert hash_contents(history.backend.database.view).value == content_hash(history.model)
    history.close()
    assert status_of(tmp_path / "db")["hash"] == content_hash(history.model)


def test_a_fresh_store_is_a_fresh_etcds(tmp_path: Path) -> None:
    """The real etcd starts on a db made here, beside its own write-ahead log."""
    data_dir = tmp_path / "member.etcd"
    with start(real(), data_dir) as member:
        pass
    db = data_dir / "member" / "snap" / "db"
    theirs = Backend.open(RealDisk(), str(db))
    buckets = sorted(theirs.database.view.buckets)
    items = {bucket: theirs.scan(bucket, b"", None) for bucket in buckets}
    size = theirs.size
    theirs.close()
    db.unlink()

    ours = Backend.open(RealDisk(), str(db))
    schema.create_all_buckets(ours)
    for bucket in buckets:
        for key, value in items[bucket]:
            ours.put(bucket, key, value)
    ours.commit()

    assert buckets == sorted(schema.ALL_BUCKETS)
    assert ours.size <= size  # small buckets stand inside the root leaf, as in theirs
    ours.close()
    with start(real(), data_dir, like=member) as member:
        member.etcdctl("put", "a", "1")
        assert member.etcdctl("get", "a", "--print-value-only") == "1\n"


def test_a_real_etcds_store_is_changed_in_place_and_taken_back(tmp_path: Path) -> None:
    data_dir = tmp_path / "member.etcd"
    with start(real(), data_dir) as member:
        with connect(member.address) as v3:
            for number in range(400):
                v3.put(b"key%d" % (number % 100), b"x" * 500)
            v3.delete(b"key1", range_end=b"key2")
            v3.compact(300)
        member.etcdctl("user", "add", "root", "--no-password")
        with connect(member.address) as v3:
            their_hash = v3.call("Maintenance/Hash", rpc_pb2.HashRequest(), rpc_pb2.HashResponse).hash
    db = data_dir / "member" / "snap" / "db"
    copy = tmp_path / "copy.db"
    shutil.copy(db, copy)

    backend = Backend.open(RealDisk(), str(db))
    database = backend.database
    assert check(database.view, database.freelist, strict=True) == []
    assert backend.hash() == their_hash
    assert hash_contents(database.view).value == status_of(copy)["hash"]
    kept = backend.scan(schema.KEY, b"", None)
    assert len(kept) > 100
    # Take every record out and put it back, so that each page is one of ours.
    for key, _ in kept:
        backend.delete(schema.KEY, key)
    backend.commit()
    for key, value in kept:
        backend.put(schema.KEY, key, value)
    backend.commit()
    assert backend.hash() == their_hash
    assert check(backend.database.view, backend.database.freelist, strict=True) == []
    backend.close()

    assert status_of(db)["hash"] == status_of(copy)["hash"]
    with start(real(), data_dir, like=member) as member:
        assert member.etcdctl("get", "key20", "--print-value-only") == "x" * 500 + "\n"
        with connect(member.address) as v3:
            for number in range(100):
                v3.put(b"key%d" % number, b"new")
        member.etcdctl("defrag")
        member.etcdctl("snapshot", "save", str(tmp_path / "saved.db"))
    assert status_of(tmp_path / "saved.db")["totalKey"] > len(kept)
    again = Backend.open(RealDisk(), str(db))
    assert check(again.database.view, again.database.freelist, strict=True) == []
    again.close()
