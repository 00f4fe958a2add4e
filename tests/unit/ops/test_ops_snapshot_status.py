"""What is said of a snapshot file: the same as etcdutl says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.ops.errors import OpsError
from balsad.ops.snapshot_status import SnapshotStatus, snapshot_status
from balsad.storage import Backend, schema
from tests.interop.servers import clean_environment, etcdutl, real, start
from tests.real import real_etcdutl
from tests.unit.ops.snapshot_files import make_db, make_snapshot


def theirs(path: Path) -> SnapshotStatus:
    found = json.loads(etcdutl("snapshot", "status", str(path), "-w", "json"))
    return SnapshotStatus(
        hash=found["hash"], revision=found["revision"], total_key=found["totalKey"], total_size=found["totalSize"]
    )


def test_a_status(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "s.db")

    status = snapshot_status(str(snapshot))

    assert status.revision == 32
    # 30 puts, a tombstone; two of meta; two of membership; clusterVersion.
    assert status.total_key == 31 + 2 + 2 + 1
    assert status.total_size == (snapshot.stat().st_size - 32) // 4096 * 4096
    assert status.version == ""


def test_no_revision_yet(tmp_path: Path) -> None:
    backend = Backend.open(RealDisk(), str(tmp_path / "db"))
    backend.close()
    assert snapshot_status(str(tmp_path / "db")) == SnapshotStatus(hash=0, revision=0, total_key=0, total_size=16384)

    backend = Backend.open(RealDisk(), str(tmp_path / "db"))
    schema.create_all_buckets(backend)
    backend.put(schema.META, schema.STORAGE_VERSION, b"3.6.0")
    backend.close()
    status = snapshot_status(str(tmp_path / "db"))
    assert (status.revision, status.total_key, status.version) == (0, 1, "3.6.0")


@pytest.mark.real
def test_the_status_of_our_files_is_etcdutls(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "s.db", 3000)
    make_db(tmp_path / "db", 50, compacted=20)

    assert snapshot_status(str(snapshot)) == theirs(snapshot)
    assert snapshot_status(str(tmp_path / "db")) == theirs(tmp_path / "db")


@pytest.mark.real
def test_the_status_of_real_files_is_etcdutls(tmp_path: Path) -> None:
    snapshot = tmp_path / "s.db"
    with start(real(), tmp_path / "data") as member:
        for number in range(20):
            member.etcdctl("put", f"key{number % 7}", "v" * number * 50)
        member.etcdctl("del", "key3")
        member.etcdctl("lease", "grant", "1000")
        member.etcdctl("role", "add", "r")
        member.etcdctl("compact", "10")
        member.etcdctl("snapshot", "save", str(snapshot))
    db = tmp_path / "data" / "member" / "snap" / "db"

    assert snapshot_status(str(snapshot)) == theirs(snapshot)
    assert snapshot_status(str(db)) == theirs(db)


def flip(*places: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for place in places:
            data[place] ^= 0xFF

    return change


def cut(size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        del data[size:]

    return change


# What of it bbolt finds and words; the first meta page is at 16, the second at 4112.
BROKEN = [
    (cut(0), "write {path}: bad file descriptor"),
    (cut(100), "invalid database"),
    (cut(5000), "file size too small"),
    (flip(16, 4112), "invalid database"),
    (flip(20, 4116), "version mismatch"),
    (flip(72, 4168), "checksum error"),
]


def broken(tmp_path: Path, change: Callable[[bytearray], None]) -> Path:
    path = make_snapshot(tmp_path / "s.db")
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_file(tmp_path: Path, change: Callable[[bytearray], None], words: str) -> None:
    path = broken(tmp_path, change)

    with pytest.raises(OpsError) as caught:
        snapshot_status(str(path))
    assert str(caught.value) == words.format(path=path)


@pytest.mark.real
@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_etcdutl_says_the_same(tmp_path: Path, change: Callable[[bytearray], None], words: str) -> None:
    path = broken(tmp_path, change)

    ran = subprocess.run(
        [real_etcdutl(), "snapshot", "status", str(path)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, "Error: " + words.format(path=path))


@pytest.mark.parametrize(
    ("name", "words"),
    [("none.db", "stat {path}: no such file or directory"), ("folder", "open {path}: is a directory")],
)
def test_no_file(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(OpsError) as caught:
        snapshot_status(str(tmp_path / name))
    assert str(caught.value) == words.format(path=tmp_path / name)


def test_a_file_without_its_end_is_refused(tmp_path: Path) -> None:
    """Where etcdutl dies of a bus error."""
    path = broken(tmp_path, cut(9000))

    with pytest.raises(OpsError, match=r"s\.db at offset 0: page 0 is broken: expected a file of at least \d+ pages"):
        snapshot_status(str(path))


def test_a_page_that_is_none(tmp_path: Path) -> None:
    """Where etcdutl panics."""

    def change(data: bytearray) -> None:
        for page in range(2 * 4096, len(data) - 32, 4096):
            if data[page + 8] == 2:
                data[page + 8] = 0x55

    with pytest.raises(OpsError, match=r"page \d+ is broken: .* unknown type 0x55"):
        snapshot_status(str(broken(tmp_path, change)))


def test_the_older_meta_page_is_not_needed(tmp_path: Path) -> None:
    path = make_snapshot(tmp_path / "s.db")
    whole = snapshot_status(str(path))
    data = bytearray(path.read_bytes())
    txids = [int.from_bytes(data[meta + 64 : meta + 72], "little") for meta in (0, 4096)]
    data[16 if txids[0] < txids[1] else 4112] ^= 0xFF
    path.write_bytes(data)

    assert snapshot_status(str(path)) == whole


def test_a_failed_check_lists_what_is_wrong(tmp_path: Path) -> None:
    """Two children of a branch become one and the same page."""
    path = tmp_path / "db"
    make_db(path, 3000)
    data = bytearray(path.read_bytes())
    for at in range(2 * 4096, len(data), 4096):
        if data[at + 8] == 1 and data[at + 10] > 2:
            data[at + 24 : at + 32] = data[at + 40 : at + 48]
    path.write_bytes(data)

    with pytest.raises(OpsError) as caught:
        snapshot_status(str(path))

    said = str(caught.value).splitlines()
    assert said[0] == f"snapshot file integrity check failed. {len(said) - 1} errors found."
    assert any(line.endswith(": multiple references") for line in said)
