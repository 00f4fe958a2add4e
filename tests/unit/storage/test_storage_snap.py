""".snap files and the dbs that come with a leader's snapshot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.proto import snap_pb2
from balsad.raft.codec import encode_snapshot
from balsad.raft.messages import ConfState, Snapshot
from balsad.storage import SnapError, Snapshotter, StorageError, WalSnapshot
from balsad.storage.snap import decode_snap_file, encode_snap_file, snap_name

DISK: Disk = RealDisk()


def snapshot(index: int, term: int = 1) -> Snapshot:
    return Snapshot(index, term, ConfState(voters=(1, 2, 3)), b'{"Root":%d}' % index)


@pytest.fixture
def snapshotter(tmp_path: Path) -> Snapshotter:
    return Snapshotter(DISK, str(tmp_path))


def names(snapshotter: Snapshotter) -> list[str]:
    return sorted(os.listdir(snapshotter.path))


def test_saved_and_loaded(snapshotter: Snapshotter) -> None:
    snapshotter.save(snapshot(10))
    snapshotter.save(snapshot(20, 2))

    assert names(snapshotter) == [
        "0000000000000001-000000000000000a.snap",
        "0000000000000002-0000000000000014.snap",
    ]
    assert snapshotter.load_newest() == snapshot(20, 2)
    assert os.stat(os.path.join(snapshotter.path, snap_name(1, 10))).st_mode & 0o777 == 0o600


def test_the_bytes_are_etcds(snapshotter: Snapshotter) -> None:
    snapshotter.save(snapshot(10))

    content = Path(snapshotter.path, snap_name(1, 10)).read_bytes()
    made = snap_pb2.snapshot.FromString(content)
    assert made.data == encode_snapshot(snapshot(10))
    assert made.SerializeToString() == content


def test_an_empty_snapshot_is_not_written(snapshotter: Snapshotter) -> None:
    snapshotter.save(Snapshot())

    assert names(snapshotter) == []
    assert snapshotter.load_newest() is None


def test_only_what_the_log_knows_counts(snapshotter: Snapshotter) -> None:
    """The file is written before its record: a crash between them leaves a file nobody relies on."""
    for index in (10, 20, 30):
        snapshotter.save(snapshot(index))
    known = [WalSnapshot(0, 0), WalSnapshot(10, 1), WalSnapshot(20, 1), WalSnapshot(30, 2)]

    assert snapshotter.load_newest(known) == snapshot(20)
    assert snapshotter.load_newest([]) is None
    assert len(names(snapshotter)) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "snap: empty snapshot"),
        (b"\x08\x05", "snap: empty snapshot"),
        (b"\x08\x00\x12\x01x", "snap: empty snapshot"),
        (b"\x08\x05\x12\x01x", "snap: crc mismatch: expected 00000005, found"),
        (b"\x08\x05\x12\x7fx", "snap: no snapshot: 127 bytes of data expected, 1 found"),
        (encode_snap_file(snapshot(40))[:-1], "snap: no snapshot"),
    ],
)
def test_an_unreadable_file_is_set_aside(snapshotter: Snapshotter, content: bytes, reason: str) -> None:
    snapshotter.save(snapshot(10))
    broken = Path(snapshotter.path, snap_name(1, 40))
    broken.write_bytes(content)

    with pytest.raises(SnapError, match=reason) as caught:
        snapshotter.read(str(broken))
    assert caught.value.path == str(broken)
    assert snapshotter.load_newest() == snapshot(10)
    assert names(snapshotter) == [snap_name(1, 10), snap_name(1, 40) + ".broken"]


def test_a_checksum_that_fits_nonsense(snapshotter: Snapshotter) -> None:
    """Data that is no raftpb.Snapshot, with a right checksum."""
    from crc32c import crc32c

    content = snap_pb2.snapshot(crc=crc32c(b"\xff"), data=b"\xff").SerializeToString()

    with pytest.raises(SnapError, match="snap: no snapshot"):
        decode_snap_file("x.snap", content)


def test_a_file_that_is_gone(snapshotter: Snapshotter) -> None:
    with pytest.raises(StorageError, match="no such file or directory"):
        snapshotter.read(os.path.join(snapshotter.path, "none.snap"))
    with pytest.raises(StorageError, match="no such file or directory"):
        Snapshotter(DISK, os.path.join(snapshotter.path, "nowhere")).load_newest()


def test_a_received_db(snapshotter: Snapshotter) -> None:
    assert snapshotter.save_db(0x2A, [b"abc", b"def"]) == 6
    assert snapshotter.save_db(0x2A, [b"other"]) == 5  # the first one stays, as in etcd

    assert names(snapshotter) == ["000000000000002a.snap.db"]
    assert Path(snapshotter.db_path(0x2A)).read_bytes() == b"abcdef"


def test_an_interrupted_db_leaves_nothing(snapshotter: Snapshotter) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    with pytest.raises(StorageError):
        snapshotter.save_db(7, chunks())
    assert names(snapshotter) == []


def test_clean_up(snapshotter: Snapshotter) -> None:
    for name in ("db", "db.tmp.123", "tmp-5", "tmp0816", snap_name(1, 10), "000000000000002a.snap.db"):
        Path(snapshotter.path, name).write_bytes(b"")

    removed = snapshotter.clean_up()

    assert [os.path.basename(each) for each in removed] == ["db.tmp.123", "tmp-5", "tmp0816"]
    assert names(snapshotter) == ["0000000000000001-000000000000000a.snap", "000000000000002a.snap.db", "db"]


def test_dbs_older_than_the_snapshot_go(snapshotter: Snapshotter) -> None:
    for index in (5, 10, 11):
        snapshotter.save_db(index, [b"x"])
    Path(snapshotter.path, "other.snap.db").write_bytes(b"")

    snapshotter.release_dbs(10)

    assert names(snapshotter) == ["000000000000000a.snap.db", "000000000000000b.snap.db", "other.snap.db"]


def test_purge_keeps_the_newest_of_each_kind(snapshotter: Snapshotter) -> None:
    for index in range(1, 8):
        snapshotter.save(snapshot(index, 1 if index < 5 else 2))
        snapshotter.save_db(index, [b"x"])

    removed = snapshotter.purge(5)

    assert sorted(os.path.basename(each) for each in removed) == [
        "0000000000000001-0000000000000001.snap",
        "0000000000000001-0000000000000002.snap",
        "0000000000000001.snap.db",
        "0000000000000002.snap.db",
    ]
    assert snapshotter.load_newest() == snapshot(7, 2)
