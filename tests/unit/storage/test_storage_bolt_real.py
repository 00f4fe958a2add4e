"""The real etcd's tools judge our files, and we theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2
from balsad.storage import Backend, schema
from balsad.storage.bolt import check, hash_contents
from tests.real import real_etcdutl
from tests.unit.storage.bolt_history import History, content_hash, snapshot_bytes
from tests.unit.storage.real_member import RealMember

pytestmark = pytest.mark.real
SOAK = bool(os.environ.get("BALSAD_SOAK"))


def status_of(path: Path) -> dict[str, int]:
    """etcdutl snapshot status: runs bbolt's own check, then hashes."""
    ran = subprocess.run(
        [real_etcdutl(), "snapshot", "status", str(path), "-w", "json"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    status: dict[str, int] = json.loads(ran.stdout)
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
    with RealMember(data_dir) as member:
        port = int(member.peer_url.rsplit(":", 1)[1])
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
    with RealMember(data_dir, peer_port=port) as member:
        member.ctl("put", "a", "1")
        assert member.ctl("get", "a", "--print-value-only") == "1\n"


def test_a_real_etcds_store_is_changed_in_place_and_taken_back(tmp_path: Path) -> None:
    data_dir = tmp_path / "member.etcd"
    with RealMember(data_dir) as member:
        port = int(member.peer_url.rsplit(":", 1)[1])
        for number in range(40):
            member.ctl("put", f"key{number}", "x" * 500)
        member.ctl("user", "add", "root", "--no-password")
        member.ctl("del", "key1", "--prefix")
        member.ctl("compact", "30")
        channel = grpc.insecure_channel(member.endpoint.removeprefix("http://"))
        ask = channel.unary_unary(
            "/etcdserverpb.Maintenance/Hash",
            request_serializer=rpc_pb2.HashRequest.SerializeToString,
            response_deserializer=rpc_pb2.HashResponse.FromString,
        )
        their_hash = ask(rpc_pb2.HashRequest(), timeout=10).hash
        channel.close()
    db = data_dir / "member" / "snap" / "db"
    copy = tmp_path / "copy.db"
    shutil.copy(db, copy)

    backend = Backend.open(RealDisk(), str(db))
    database = backend.database
    assert check(database.view, database.freelist, strict=True) == []
    assert backend.hash() == their_hash
    assert hash_contents(database.view).value == status_of(copy)["hash"]
    kept = backend.scan(schema.KEY, b"", None)
    assert kept
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
    with RealMember(data_dir, peer_port=port) as member:
        assert member.ctl("get", "key20", "--print-value-only") == "x" * 500 + "\n"
        member.ctl("put", "key20", "new")
        member.ctl("defrag")
        member.ctl("snapshot", "save", str(tmp_path / "saved.db"))
    assert status_of(tmp_path / "saved.db")["totalKey"] > len(kept)
    again = Backend.open(RealDisk(), str(db))
    assert check(again.database.view, again.database.freelist, strict=True) == []
    again.close()
