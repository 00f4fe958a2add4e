"""The paths of a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.storage import DataDir, DataDirKind, StorageError

DISK: Disk = RealDisk()


def test_paths() -> None:
    """Source: etcd server/datadir."""
    data_dir = DataDir("/dir/data-dir")

    assert data_dir.member == "/dir/data-dir/member"
    assert data_dir.wal == "/dir/data-dir/member/wal"
    assert data_dir.snap == "/dir/data-dir/member/snap"
    assert data_dir.db == "/dir/data-dir/member/snap/db"
    assert DataDir("/dir/data-dir/").wal == "/dir/data-dir/member/wal"
    assert DataDir("default.etcd", "/fast/wal").wal == "/fast/wal"


@pytest.mark.parametrize(
    ("names", "kind", "unknown"),
    [
        ([], DataDirKind.EMPTY, []),
        (["member"], DataDirKind.MEMBER, []),
        (["proxy"], DataDirKind.PROXY, []),
        (["fixtures", "member"], DataDirKind.MEMBER, ["fixtures"]),
        (["letters"], DataDirKind.EMPTY, ["letters"]),
    ],
)
def test_identify(tmp_path: Path, names: list[str], kind: DataDirKind, unknown: list[str]) -> None:
    """Source: etcd server/etcdmain identifyDataDirOrDie."""
    for name in names:
        (tmp_path / name).mkdir()

    assert DataDir(str(tmp_path)).identify(DISK) == (kind, unknown)


def test_nothing_there_is_empty(tmp_path: Path) -> None:
    assert DataDir(str(tmp_path / "none")).identify(DISK) == (DataDirKind.EMPTY, [])


def test_member_and_proxy_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "member").mkdir()
    (tmp_path / "proxy").mkdir()

    with pytest.raises(StorageError, match="invalid datadir; both member and proxy directories exist"):
        DataDir(str(tmp_path)).identify(DISK)


def test_prepare_makes_private_folders(tmp_path: Path) -> None:
    data_dir = DataDir(str(tmp_path / "a" / "data"))
    old = os.umask(0o022)
    try:
        data_dir.prepare(DISK)
        data_dir.prepare(DISK)
    finally:
        os.umask(old)

    for path in (data_dir.path, data_dir.member, data_dir.snap):
        assert os.stat(path).st_mode & 0o777 == 0o700
        assert not os.path.exists(os.path.join(path, ".touch"))
    assert not os.path.exists(data_dir.wal)  # the log makes it, all at once


def test_prepare_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot access data directory: not a directory"):
        DataDir(str(tmp_path / "file" / "data")).prepare(DISK)


def test_a_wal_dir_of_its_own(tmp_path: Path) -> None:
    data_dir = DataDir(str(tmp_path / "data"), str(tmp_path / "fast" / "wal"))

    data_dir.prepare_wal_dir(DISK)
    DataDir(str(tmp_path / "data")).prepare_wal_dir(DISK)

    assert os.path.isdir(tmp_path / "fast" / "wal")
    assert not os.path.exists(tmp_path / "data")
