"""A data dir out of a snapshot file: the one etcdutl would make, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.mvcc import NoLeases, Store
from balsad.ops.errors import OpsError
from balsad.ops.hashkv import hashkv
from balsad.ops.restore import RestoreOptions, snapshot_restore
from balsad.ops.snapshot_status import snapshot_status
from balsad.storage import Backend, DataDir, Snapshotter, schema
from balsad.storage.bolt import Database
from balsad.storage.wal import WalSnapshot, read_log, valid_snapshot_entries
from balsad.storage.wal.replay import Decoder
from balsad.storage.wal.segments import list_segments
from tests.interop.servers import HeldPort, clean_environment, real, start
from tests.real import real_etcdutl
from tests.unit.ops.snapshot_files import make_db, make_snapshot

DISK: Disk = RealDisk()
THREE = {
    "name": "m2",
    "initial_cluster": "m1=http://10.0.0.1:1,m2=http://10.0.0.2:1,m3=http://10.0.0.3:1,m2=http://10.0.0.4:1",
    "initial_advertise_peer_urls": "http://10.0.0.2:1,http://10.0.0.4:1",
    "initial_cluster_token": "tok",
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return make_snapshot(tmp_path / "s.db")


def options(snapshot: Path, data_dir: Path, **fields: Any) -> RestoreOptions:
    return RestoreOptions(snapshot_path=str(snapshot), data_dir=str(data_dir), **fields)


def no_resolver(address: str) -> str:
    raise OSError(f"lookup {address}: no such host")


def as_flags(asked: RestoreOptions) -> list[str]:
    flags = [
        asked.snapshot_path,
        f"--data-dir={asked.data_dir}",
        f"--name={asked.name}",
        f"--initial-cluster={asked.initial_cluster}",
        f"--initial-cluster-token={asked.initial_cluster_token}",
        f"--initial-advertise-peer-urls={asked.initial_advertise_peer_urls}",
    ]
    if asked.wal_dir:
        flags.append(f"--wal-dir={asked.wal_dir}")
    if asked.skip_hash_check:
        flags.append("--skip-hash-check")
    return flags


def restore_theirs(asked: RestoreOptions) -> str:
    """What etcdutl says at the end when it fails, empty when it does not."""
    ran = subprocess.run(
        [real_etcdutl(), "snapshot", "restore", *as_flags(asked)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
        timeout=60,
    )
    return ran.stderr.splitlines()[-1].removeprefix("Error: ") if ran.returncode else ""


def contents(path: str) -> dict[tuple[bytes, bytes], bytes]:
    """Every item of every bucket."""
    database = Database.open(DISK, path, read_only=True)
    found = {
        (bucket, key): value
        for bucket in database.view.buckets
        for keys, values in database.view.items(bucket)
        for key, value in zip(keys, values, strict=True)
    }
    database.close()
    return found


def log_of(path: str) -> list[tuple[int, bytes]]:
    decoder = Decoder(DISK, list_segments(DISK, path))
    found = []
    while kind := decoder.next():
        found.append((kind, decoder.data))
    decoder.close()
    return found


def files_below(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


# What is made


def test_the_parts_fit_together(tmp_path: Path, snapshot: Path) -> None:
    restored = snapshot_restore(options(snapshot, tmp_path / "data", **THREE))

    data_dir = DataDir(str(tmp_path / "data"))
    assert (restored.data_dir, restored.wal_dir, restored.snap_dir) == (data_dir.path, data_dir.wal, data_dir.snap)
    assert files_below(tmp_path / "data") == [
        "member",
        "member/snap",
        "member/snap/0000000000000001-0000000000000003.snap",
        "member/snap/db",
        "member/wal",
        "member/wal/0000000000000000-0000000000000000.wal",
    ]
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert os.stat(data_dir.db).st_mode & 0o777 == 0o600
    known = valid_snapshot_entries(DISK, data_dir.wal)
    assert [(each.index, each.term) for each in known] == [(0, 0), (3, 1)]
    snap = Snapshotter(DISK, data_dir.snap).load_newest(known)
    assert snap is not None
    assert snap.conf_state == known[1].conf_state
    assert restored.member_id in snap.conf_state.voters
    assert read_log(DISK, data_dir.wal, WalSnapshot(3, 1)).hard_state.commit == 3
    db = contents(data_dir.db)
    members = [json.loads(value) for (bucket, _key), value in db.items() if bucket == schema.MEMBERS]
    assert sorted(member["name"] for member in members) == ["m1", "m2", "m3"]
    assert not [key for bucket, key in db if bucket == schema.MEMBERS_REMOVED]
    assert db[schema.META, schema.CONSISTENT_INDEX] == schema.encode_u64(3)
    assert db[schema.META, schema.TERM] == schema.encode_u64(1)


@pytest.mark.real
@pytest.mark.parametrize("fields", [THREE, {}])
def test_the_same_bytes_as_etcdutls(tmp_path: Path, snapshot: Path, fields: dict[str, str]) -> None:
    fields = fields or {"initial_cluster": "default=http://localhost:2380"}
    snapshot_restore(options(snapshot, tmp_path / "ours", **fields))
    assert restore_theirs(options(snapshot, tmp_path / "theirs", **fields)) == ""
    ours, theirs = DataDir(str(tmp_path / "ours")), DataDir(str(tmp_path / "theirs"))

    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs")
    assert log_of(ours.wal) == log_of(theirs.wal)
    name = next(each for each in os.listdir(ours.snap) if each.endswith(".snap"))
    assert Path(ours.snap, name).read_bytes() == Path(theirs.snap, name).read_bytes()
    # etcdutl leaves the old cluster's ConfState in the db; ours says who votes now.
    differing = set(contents(ours.db).items() ^ contents(theirs.db).items())
    assert {where for where, _value in differing} <= {(schema.META, schema.CONF_STATE)}


def test_a_wal_dir_of_its_own(tmp_path: Path, snapshot: Path) -> None:
    asked = options(snapshot, tmp_path / "data", wal_dir=str(tmp_path / "fast" / "wal"))

    restored = snapshot_restore(asked)

    assert restored.wal_dir == asked.wal_dir
    assert os.listdir(asked.wal_dir) == ["0000000000000000-0000000000000000.wal"]
    assert os.listdir(tmp_path / "fast") == ["wal"]
    assert os.listdir(tmp_path / "data" / "member") == ["snap"]


def test_the_default_wal_dir_may_be_named(tmp_path: Path, snapshot: Path) -> None:
    """etcdctl and etcdutl always pass one."""
    snapshot_restore(options(snapshot, tmp_path / "data", wal_dir=str(tmp_path / "data" / "member" / "wal")))

    assert sorted(os.listdir(tmp_path / "data" / "member")) == ["snap", "wal"]


def test_an_empty_data_dir_is_used(tmp_path: Path, snapshot: Path) -> None:
    (tmp_path / "data").mkdir()

    snapshot_restore(options(snapshot, tmp_path / "data"))

    assert os.listdir(tmp_path / "data") == ["member"]


def test_the_name_gives_the_data_dir(tmp_path: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    restored = snapshot_restore(
        RestoreOptions(snapshot_path=str(snapshot), name="m", initial_cluster="m=http://localhost:2380")
    )

    assert restored.data_dir == "m.etcd"
    assert os.path.isdir(tmp_path / "m.etcd" / "member" / "wal")


def test_a_file_of_a_data_dir_has_no_hash(tmp_path: Path) -> None:
    make_db(tmp_path / "db")

    with pytest.raises(OpsError, match="snapshot missing hash but --skip-hash-check=false"):
        snapshot_restore(options(tmp_path / "db", tmp_path / "data"))
    restored = snapshot_restore(options(tmp_path / "db", tmp_path / "data", skip_hash_check=True))

    assert restored.revision == 32


def test_a_wrong_hash_may_be_skipped_but_not_a_broken_db(tmp_path: Path, snapshot: Path) -> None:
    data = bytearray(snapshot.read_bytes())
    data[-1] ^= 1
    snapshot.write_bytes(data)
    snapshot_restore(options(snapshot, tmp_path / "data", skip_hash_check=True))
    for page in range(2 * 4096, len(data) - 32, 4096):
        data[page + 8] = 0x55
    snapshot.write_bytes(data)

    with pytest.raises(OpsError, match=r"page \d+ is broken"):
        snapshot_restore(options(snapshot, tmp_path / "other", skip_hash_check=True))
    assert not (tmp_path / "other").exists()


def test_the_key_space_stays(tmp_path: Path, snapshot: Path) -> None:
    before = hashkv(str(snapshot))

    snapshot_restore(options(snapshot, tmp_path / "data"))

    assert hashkv(DataDir(str(tmp_path / "data")).db) == before


def test_bump_revision(tmp_path: Path, snapshot: Path) -> None:
    """Watchers from before the restore must learn that their revisions are gone."""
    asked = options(snapshot, tmp_path / "data", bump_revision=1_000_000, mark_compacted=True)

    restored = snapshot_restore(asked)

    db = DataDir(asked.data_dir).db
    assert restored.revision == snapshot_status(db).revision == 1_000_032
    found = contents(db)
    assert found[schema.META, schema.SCHEDULED_COMPACT] == schema.encode_revision(1_000_032, 0)
    assert found[schema.KEY, schema.encode_revision(1_000_032, 0)] == b""


def test_a_bumped_store_of_ours(tmp_path: Path, snapshot: Path) -> None:
    asked = options(snapshot, tmp_path / "data", bump_revision=100, mark_compacted=True)
    snapshot_restore(asked)

    backend = Backend.open(DISK, DataDir(asked.data_dir).db)
    store = Store(backend, leases=NoLeases())
    store.restore()

    assert (store.current_revision, store.compact_revision) == (132, 132)
    assert store.range(b"key0", b"").count == 1
    backend.close()


# What is refused


REFUSED = [
    ({"name": "x"}, 'couldn\'t find local name "x" in the initial cluster configuration'),
    ({"initial_cluster": ""}, 'couldn\'t find local name "default" in the initial cluster configuration'),
    ({"initial_cluster": "default=ftp://h:1"}, "URL scheme must be http, https, unix, or unixs: ftp://h:1"),
    (
        {"initial_advertise_peer_urls": "http://localhost"},
        'URL address does not have the form "host:port": http://localhost',
    ),
    ({"initial_advertise_peer_urls": "http://10.0.0.1:1/p"}, "URL must not contain a path: http://10.0.0.1:1/p"),
    (
        {"initial_cluster": "default=http://10.0.0.1:1", "initial_advertise_peer_urls": "http://10.0.0.2:1"},
        "--initial-cluster has default=http://10.0.0.1:1 but missing from "
        '--initial-advertise-peer-urls=http://10.0.0.2:1 ("http://10.0.0.2:1"(resolved from "http://10.0.0.2:1") != '
        '"http://10.0.0.1:1"(resolved from "http://10.0.0.1:1"))',
    ),
    (
        {
            "initial_cluster": "default=http://10.0.0.1:1,b=http://10.0.0.1:1",
            "initial_advertise_peer_urls": "http://10.0.0.1:1",
        },
        "initial cluster b=http://10.0.0.1:1,default=http://10.0.0.1:1 has duplicate url",
    ),
    ({"snapshot_path": "none.db"}, "open none.db: no such file or directory"),
    ({"snapshot_path": "short.db"}, "seek short.db: invalid argument"),
    ({"snapshot_path": "no-hash.db"}, "snapshot missing hash but --skip-hash-check=false"),
    ({"snapshot_path": "changed.db"}, "expected sha256 {hash}, got {found}"),
    ({"data_dir": "full"}, 'data-dir "full" not empty or could not be read'),
    ({"data_dir": "file"}, 'data-dir "file" not empty or could not be read'),
    ({"wal_dir": "full"}, 'wal-dir "full" exists'),
]


@pytest.fixture
def surroundings(tmp_path: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Files to stumble over; gives the two hashes of the changed one."""
    monkeypatch.chdir(tmp_path)
    data = bytearray(snapshot.read_bytes())
    Path("short.db").write_bytes(data[:20])
    Path("no-hash.db").write_bytes(data[:-32])
    hash_before = list(data[-32:])
    data[9000] ^= 1
    Path("changed.db").write_bytes(data)
    hash_now = list(hashlib.sha256(data[:-32]).digest())
    Path("full").mkdir()
    Path("full", "mine").write_text("mine")
    Path("file").write_text("mine")
    return (
        "[" + " ".join(map(str, hash_before)) + "]",
        "[" + " ".join(map(str, hash_now)) + "]",
    )


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_a_refusal_leaves_nothing(
    tmp_path: Path, snapshot: Path, surroundings: tuple[str, str], fields: dict[str, str], words: str
) -> None:
    before = files_below(tmp_path)
    asked = replace(RestoreOptions(snapshot_path="s.db", data_dir="data"), **fields)

    with pytest.raises(OpsError) as caught:
        snapshot_restore(asked, resolve=no_resolver)

    assert str(caught.value) == words.format(hash=surroundings[0], found=surroundings[1])
    assert files_below(tmp_path) == before


@pytest.mark.real
@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_etcdutl_says_the_same(
    tmp_path: Path, snapshot: Path, surroundings: tuple[str, str], fields: dict[str, str], words: str
) -> None:
    asked = replace(RestoreOptions(snapshot_path="s.db", data_dir="data"), **fields)

    said = restore_theirs(asked)

    assert said == words.format(hash=surroundings[0], found=surroundings[1])


def test_flags_that_belong_together(tmp_path: Path, snapshot: Path) -> None:
    """Source: etcd 3.6 etcdutl snapshot_command.go."""
    for fields in ({"bump_revision": 5}, {"mark_compacted": True}):
        with pytest.raises(OpsError, match="--mark-compacted required if --revision-bump > 0"):
            snapshot_restore(options(snapshot, tmp_path / "data", **fields))


def test_a_host_nobody_knows(tmp_path: Path, snapshot: Path) -> None:
    url = "http://nowhere.invalid:1"
    asked = options(snapshot, tmp_path / "data", initial_cluster=f"default={url}", initial_advertise_peer_urls=url)

    with pytest.raises(OpsError) as caught:
        snapshot_restore(asked, resolve=no_resolver)

    assert str(caught.value) == (
        f"failed to resolve {url} to match --initial-cluster=default={url} "
        f'(failed to resolve "{url}" (lookup nowhere.invalid:1: no such host))'
    )


class FailingDisk(RealDisk):
    """Fails at the n-th write, sync or rename."""

    def __init__(self, fails_at: int) -> None:
        self.left = fails_at
        self.failed = False

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.failed = True
            raise OSError(28, "No space left on device")

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:  # type: ignore[override]
        self._step()
        return os.pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Any, offset: int) -> int:
        self._step()
        return os.pwritev(fd, buffers, offset)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._step()

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._step()

    def rename(self, old: str, new: str) -> None:  # type: ignore[override]
        self._step()
        os.rename(old, new)


def test_a_failing_disk_leaves_nothing(tmp_path: Path, snapshot: Path) -> None:
    before = files_below(tmp_path)
    failures = 0
    for fails_at in range(1000):
        disk = FailingDisk(fails_at)
        try:
            snapshot_restore(options(snapshot, tmp_path / "a" / "data"), disk=disk)
        except OpsError as error:
            failures += 1
            assert "no space left on device" in str(error)
            assert files_below(tmp_path) == before
        else:
            assert not disk.failed
            break

    assert failures > 10
    assert (tmp_path / "a" / "data" / "member").is_dir()


# What the real etcd makes of it


@pytest.mark.real
def test_the_real_etcd_serves_what_we_restored(tmp_path: Path) -> None:
    """Its own snapshot, by us into one member and into three."""
    snapshot = tmp_path / "s.db"
    with start(real(), tmp_path / "before") as member:
        for number in range(30):
            member.etcdctl("put", f"key{number % 7}", f"value {number}")
        member.etcdctl("lease", "grant", "1000")
        member.etcdctl("compact", "10")
        member.etcdctl("snapshot", "save", str(snapshot))
        hash_before = json.loads(member.etcdctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]["hash"]
        all_before = member.etcdctl("get", "", "--prefix")
    like: Any = SimpleNamespace(client_port=HeldPort(), peer_port=HeldPort())
    url = f"http://127.0.0.1:{like.peer_port.number}"

    restored = snapshot_restore(
        options(snapshot, tmp_path / "data", initial_cluster=f"default={url}", initial_advertise_peer_urls=url)
    )

    assert hashkv(str(snapshot)).hash == hash_before
    with start(real(), tmp_path / "data", like=like) as member:
        status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        hash_now = json.loads(member.etcdctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]["hash"]
        members = json.loads(member.etcdctl("member", "list", "-w", "json"))["members"]
        assert member.etcdctl("get", "", "--prefix") == all_before
        member.etcdctl("put", "more", "1")
    assert hash_now == hash_before
    assert status["header"]["revision"] == restored.revision
    assert (status["header"]["member_id"], status["header"]["cluster_id"]) == (
        restored.member_id,
        restored.cluster_id,
    )
    assert [each["peerURLs"] for each in members] == [[url]]


@pytest.mark.real
def test_three_real_members_from_one_snapshot(tmp_path: Path, snapshot: Path) -> None:
    ports = [SimpleNamespace(client_port=HeldPort(), peer_port=HeldPort()) for _ in range(3)]
    urls = [f"http://127.0.0.1:{each.peer_port.number}" for each in ports]
    cluster = ",".join(f"m{number}={url}" for number, url in enumerate(urls))
    for number, url in enumerate(urls):
        asked = options(
            snapshot,
            tmp_path / f"m{number}",
            name=f"m{number}",
            initial_cluster=cluster,
            initial_advertise_peer_urls=url,
        )
        snapshot_restore(asked)

    def flags(number: int) -> tuple[str, ...]:
        return (f"--name=m{number}", f"--initial-cluster={cluster}")

    first: Any = ports[0]
    second: Any = ports[1]
    third: Any = ports[2]
    with (
        start(real(), tmp_path / "m0", *flags(0), like=first, healthy=False) as one,
        start(real(), tmp_path / "m1", *flags(1), like=second, healthy=False) as two,
        start(real(), tmp_path / "m2", *flags(2), like=third, healthy=False) as three,
    ):
        for member in (one, two, three):
            member.wait_healthy()
        one.etcdctl("put", "more", "1")
        assert two.etcdctl("get", "more", "--print-value-only") == "1\n"
        assert three.etcdctl("get", "key0", "--print-value-only") == "value 20\n"


@pytest.mark.real
def test_the_real_etcd_serves_a_bumped_revision(tmp_path: Path, snapshot: Path) -> None:
    like: Any = SimpleNamespace(client_port=HeldPort(), peer_port=HeldPort())
    url = f"http://127.0.0.1:{like.peer_port.number}"
    asked = options(
        snapshot,
        tmp_path / "data",
        initial_cluster=f"default={url}",
        initial_advertise_peer_urls=url,
        bump_revision=1000,
        mark_compacted=True,
    )
    snapshot_restore(asked)

    with start(real(), tmp_path / "data", like=like) as member:
        status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        assert status["header"]["revision"] == 1032
        refused = member.etcdctl("get", "key0", "--rev=1031", check=False)
        assert member.etcdctl("get", "key0", "--print-value-only") == "value 20\n"
    assert "required revision has been compacted" in refused
