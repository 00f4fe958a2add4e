"""Defragmenting a data dir that nobody serves."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.ops.defrag import defrag_data_dir
from balsad.ops.errors import OpsError
from balsad.ops.hashkv import hashkv
from balsad.ops.snapshot_status import snapshot_status
from balsad.storage import Backend, DataDir, schema
from tests.interop.servers import etcdutl
from tests.unit.ops.snapshot_files import make_db


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    """One whose db is mostly free pages."""
    data_dir = DataDir(str(tmp_path / "data"))
    os.makedirs(data_dir.snap)
    make_db(Path(data_dir.db), 5000)
    backend = Backend.open(RealDisk(), data_dir.db)
    for key, _value in backend.scan(schema.KEY, b"", None)[:4900]:
        backend.delete(schema.KEY, key)
    backend.close()
    return data_dir


def test_free_pages_go(data_dir: DataDir) -> None:
    before = snapshot_status(data_dir.db)
    hash_before = hashkv(data_dir.db)

    defrag_data_dir(data_dir.path)

    after = snapshot_status(data_dir.db)
    assert after.total_size < before.total_size / 5
    assert (after.hash, after.revision, after.total_key) == (before.hash, before.revision, before.total_key)
    assert hashkv(data_dir.db) == hash_before
    assert os.listdir(data_dir.snap) == ["db"]


@pytest.mark.real
def test_etcdutl_finds_the_result_sound(data_dir: DataDir) -> None:
    defrag_data_dir(data_dir.path)

    assert f"{snapshot_status(data_dir.db).hash:x}" in etcdutl("snapshot", "status", data_dir.db, "-w", "table")


def test_a_db_in_use(data_dir: DataDir) -> None:
    backend = Backend.open(RealDisk(), data_dir.db)

    with pytest.raises(OpsError, match="cannot lock the database file"):
        defrag_data_dir(data_dir.path, lock_wait_s=0)
    backend.close()


def test_it_waits_for_the_lock_and_says_so(data_dir: DataDir) -> None:
    backend = Backend.open(RealDisk(), data_dir.db)
    words: list[str] = []

    def waiting(text: str) -> None:
        words.append(text)
        threading.Thread(target=backend.close).start()

    defrag_data_dir(data_dir.path, waiting=waiting)

    assert words == [
        f'waiting for etcd to close and release its lock on "{data_dir.db}". '
        "To defrag a running etcd instance, omit --data-dir."
    ]


def test_no_data_dir(tmp_path: Path) -> None:
    path = tmp_path / "none"

    with pytest.raises(OpsError) as caught:
        defrag_data_dir(str(path))

    assert str(caught.value) == f"open {path}/member/snap/db: no such file or directory"
    assert not path.exists()
