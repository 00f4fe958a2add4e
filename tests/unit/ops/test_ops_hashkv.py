"""The hash of a file's key space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balsad.ops.errors import OpsError
from balsad.ops.hashkv import HashKv, hashkv
from tests.interop.servers import real, start
from tests.interop.v3 import V3
from tests.unit.ops.snapshot_files import make_db, make_snapshot


def test_all_and_up_to_a_revision(tmp_path: Path) -> None:
    """The first eleven revisions of a short and a longer history are the same."""
    make_db(tmp_path / "short", 10)
    make_db(tmp_path / "long", 30)

    whole = hashkv(str(tmp_path / "long"))

    assert (whole.hash_revision, whole.compact_revision) == (32, -1)
    assert whole == hashkv(str(tmp_path / "long"), 32)
    assert hashkv(str(tmp_path / "long"), 11) == hashkv(str(tmp_path / "short"), 11)
    assert hashkv(str(tmp_path / "long"), 12).hash != hashkv(str(tmp_path / "short"), 12).hash


def test_the_file_stays_as_it_is(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "s.db")
    before = snapshot.read_bytes()

    hashkv(str(snapshot))

    assert snapshot.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["s.db"]


@pytest.mark.parametrize(
    ("rev", "words"),
    [(5, "mvcc: required revision has been compacted"), (99, "mvcc: required revision is a future revision")],
)
def test_a_revision_that_is_not_there(tmp_path: Path, rev: int, words: str) -> None:
    make_db(tmp_path / "db", 30, compacted=20)

    with pytest.raises(OpsError) as caught:
        hashkv(str(tmp_path / "db"), rev)
    assert str(caught.value) == words
    assert hashkv(str(tmp_path / "db"), 20).compact_revision == 20


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"stat .*: no such file or directory"):
        hashkv(str(tmp_path / "none"))


@pytest.mark.real
def test_the_hash_is_the_real_members(tmp_path: Path) -> None:
    snapshot = tmp_path / "s.db"
    with start(real(), tmp_path / "data") as member:
        for number in range(30):
            member.etcdctl("put", f"key{number % 7}", f"value {number}")
        member.etcdctl("del", "key3")
        member.etcdctl("compact", "12")
        member.etcdctl("put", "key3", "again")
        client = V3(member.address)
        theirs = [client.hash_kv(rev) for rev in (0, 20)]
        client.close()
        member.etcdctl("snapshot", "save", str(snapshot))
        revision = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]["header"]["revision"]

    for rev, found in zip((0, 20), theirs, strict=True):
        assert hashkv(str(snapshot), rev) == HashKv(
            hash=found.hash, hash_revision=rev or revision, compact_revision=found.compact_revision
        )
