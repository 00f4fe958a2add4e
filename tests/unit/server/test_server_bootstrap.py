"""Founding and restarting: whatever moment the power went, the next start goes on from there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from balsad.config import StartError
from balsad.env import Env
from balsad.membership import Member as ClusterMember
from balsad.raft import ConfState, Entry, EntryType, HardState, Snapshot
from balsad.server.bootstrap import Booted, ExistingCluster, boot, needs_existing
from balsad.storage import Backend, Snapshotter, StorageError, schema
from balsad.storage.wal import INLINE, Wal, WalOptions, WalSnapshot
from balsad.v2store import Store as V2Store
from balsad.v2store import save as save_tree
from tests.property.memory_disk import PowerCut
from tests.unit.server.server_kit import Clock, NoChance, config_of
from tests.unit.storage.bolt_disks import MappingDisk

OPTIONS = WalOptions(sync=INLINE, segment_bytes=1 << 14)
DATA = "/d/data"


def new_disk() -> MappingDisk:
    disk = MappingDisk()
    disk.makedirs("/d")
    disk.sync_dir("/")
    disk.operations = 0
    return disk


def boot_on(disk: MappingDisk, *, existing: ExistingCluster | None = None, **fields: Any) -> Booted:
    env = Env(clock=Clock(), random=NoChance(), disk=disk)
    return boot(config_of("/d", **fields), env, OPTIONS, existing)


def close(booted: Booted) -> None:
    booted.backend.close()
    booted.wal.close()


def identity(booted: Booted) -> tuple[int, int]:
    return booted.member_id, booted.cluster.cluster_id


def entries_of(booted: Booted) -> list[Entry]:
    log = booted.log_storage
    first, last = log.first_index(), log.last_index()
    return log.entries(first, last + 1) if last >= first else []


# Founding


def test_a_new_member_writes_one_committed_entry_a_member() -> None:
    booted = boot_on(new_disk())

    assert booted.is_new
    assert [entry.type for entry in entries_of(booted)] == [EntryType.CONF_CHANGE]
    assert booted.hard_state == HardState(1, 0, 1)
    assert booted.cluster.members() == []  # they come in when the entries are applied


def test_wherever_the_power_goes_a_new_member_is_founded_in_the_end() -> None:
    """Each write in turn is the last one; what was not synced is kept in part."""
    whole = new_disk()
    expected = boot_on(whole)
    steps = whole.operations
    assert steps > 10
    for cut_at in range(steps):
        for seed in range(4):
            disk = new_disk()
            disk.cut_at = cut_at
            with pytest.raises(PowerCut):
                boot_on(disk)
            again = disk.restart(random.Random(cut_at * 100 + seed))
            again.makedirs("/d")

            booted = boot_on(again)

            assert identity(booted) == identity(expected), cut_at
            assert entries_of(booted) == entries_of(expected), cut_at
            assert booted.hard_state == HardState(1, 0, 1), cut_at
            close(booted)
            third = boot_on(again)
            assert not third.is_new
            assert entries_of(third) == entries_of(expected), cut_at


def test_a_log_without_entries_is_not_founded_under_other_flags() -> None:
    """It may be that of a member that joined others: they say what is in it."""
    disk = new_disk()
    existing = ExistingCluster(77, [ClusterMember(id=5, name="default", peer_urls=("http://127.0.0.1:1",))])
    booted = boot_on(disk, existing=existing, initial_cluster_state="existing")
    assert (booted.member_id, booted.cluster.cluster_id) == (5, 77)
    close(booted)

    again = boot_on(disk)

    assert identity(again) == (5, 77)
    assert entries_of(again) == []
    assert again.hard_state.is_empty()


def test_who_joins_asks_only_while_there_is_no_log() -> None:
    disk = new_disk()
    config = config_of("/d", initial_cluster_state="existing")
    env = Env(clock=Clock(), random=NoChance(), disk=disk)
    assert needs_existing(config, env)
    assert not needs_existing(config_of("/d"), env)
    close(boot_on(disk))
    assert not needs_existing(config, env)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "stranger"}, 'couldn\'t find local name "stranger"'),
        ({"initial_cluster": "default=http://127.0.0.1:1,other=http://127.0.0.1:1"}, "identical ID"),
    ],
)
def test_founding_is_refused_before_anything_is_written(fields: dict[str, Any], words: str) -> None:
    disk = new_disk()
    with pytest.raises(StartError, match=words):
        boot_on(disk, **fields)
    assert disk.listdir("/d") == []


# Restarting


def grown(disk: MappingDisk, *, commit: int, applied: int, last: int) -> None:
    """A member whose log ends with `last`, calls `commit` committed, and whose db has `applied`."""
    booted = boot_on(disk)
    backend = booted.backend
    schema.write_consistent_index(backend, applied, 2)
    backend.close()
    entries = [Entry(EntryType.NORMAL, 2, index, b"") for index in range(2, last + 1)]
    booted.wal.save(HardState(2, 1, commit), entries)
    booted.wal.close()


def test_a_restart_takes_what_the_log_says() -> None:
    disk = new_disk()
    grown(disk, commit=4, applied=3, last=6)

    booted = boot_on(disk)

    assert not booted.is_new
    assert booted.hard_state == HardState(2, 1, 4)
    assert [entry.index for entry in entries_of(booted)] == [1, 2, 3, 4, 5, 6]
    assert booted.snapshot_index == 0


def test_what_the_db_holds_was_committed() -> None:
    """The commit index is not synced by itself: a power cut takes it back, but not the entries."""
    disk = new_disk()
    grown(disk, commit=2, applied=5, last=6)

    assert boot_on(disk).hard_state == HardState(2, 1, 5)


@pytest.mark.parametrize(("commit", "applied"), [(4, 7), (7, 4)])
def test_a_log_that_lost_its_end_is_refused(commit: int, applied: int) -> None:
    disk = new_disk()
    grown(disk, commit=commit, applied=applied, last=6)

    with pytest.raises(StorageError, match=r"the log ends with entry 6, but .* entry 7") as broken:
        boot_on(disk)

    assert broken.value.path == f"{DATA}/member/wal"
    assert all(inode is None or inode.locked_by is None for inode in disk.names.values())


def test_an_old_db_without_its_log_is_refused() -> None:
    disk = new_disk()
    grown(disk, commit=4, applied=3, last=6)
    for name in disk.listdir(f"{DATA}/member/wal"):
        disk.unlink(f"{DATA}/member/wal/{name}")

    with pytest.raises(StorageError, match=r"member/snap/db: it holds what a log up to entry 3 said, but .*wal"):
        boot_on(disk)


def test_a_log_without_a_db_begins_at_its_beginning() -> None:
    disk = new_disk()
    grown(disk, commit=4, applied=3, last=6)
    disk.unlink(f"{DATA}/member/snap/db")

    booted = boot_on(disk)

    assert schema.read_consistent_index(booted.backend) == (0, 0)
    assert len(entries_of(booted)) == 6


# With snapshots


def snapped(disk: MappingDisk, *, applied: int) -> None:
    """A member with a snapshot at 4, whose db has `applied`."""
    grown(disk, commit=6, applied=applied, last=6)
    wal, _ = Wal.open_and_read(disk, f"{DATA}/member/wal", WalSnapshot(), OPTIONS)
    conf_state = ConfState((boot_identity(disk),))
    Snapshotter(disk, f"{DATA}/member/snap").save(Snapshot(4, 2, conf_state, save_tree(V2Store())))
    wal.save_snapshot(WalSnapshot(4, 2, conf_state))
    wal.close()


def boot_identity(disk: MappingDisk) -> int:
    return identity(boot_on(new_disk()))[0]


def test_a_restart_from_a_snapshot() -> None:
    disk = new_disk()
    snapped(disk, applied=5)

    booted = boot_on(disk)

    assert booted.snapshot_index == 4
    assert [entry.index for entry in entries_of(booted)] == [5, 6]
    assert booted.log_storage.snapshot().conf_state.voters == (booted.member_id,)


def test_a_db_older_than_the_snapshot_is_refused() -> None:
    disk = new_disk()
    snapped(disk, applied=3)

    with pytest.raises(StorageError, match=r"snap/db: database file index 3 does not match with snapshot \(index 4\)"):
        boot_on(disk)


def test_a_db_that_came_with_the_snapshot_is_taken_over() -> None:
    """The power went after the log knew of the snapshot, and before its db was put in place."""
    disk = new_disk()
    snapped(disk, applied=3)
    received = f"{DATA}/member/snap/{4:016x}.snap.db"
    backend = Backend.open(disk, received)
    schema.create_all_buckets(backend)
    backend.put(schema.KEY, b"from", b"the leader")
    schema.write_consistent_index(backend, 4, 2)
    backend.close()

    booted = boot_on(disk)

    assert booted.backend.get(schema.KEY, b"from") == b"the leader"
    assert schema.read_consistent_index(booted.backend) == (4, 2)
    assert not disk.exists(received)
    assert booted.snapshot_index == 4


def test_a_missing_db_is_refused_when_there_is_a_snapshot() -> None:
    disk = new_disk()
    snapped(disk, applied=5)
    disk.unlink(f"{DATA}/member/snap/db")

    with pytest.raises(StartError, match=r"database file .*snap/db.* of the backend is missing"):
        boot_on(disk)
    assert not disk.exists(f"{DATA}/member/snap/db")


def test_an_orphaned_snapshot_is_left_aside() -> None:
    """The file was written and the power went before the log knew: the one before it counts."""
    disk = new_disk()
    snapped(disk, applied=6)
    Snapshotter(disk, f"{DATA}/member/snap").save(Snapshot(6, 2, ConfState((1,)), save_tree(V2Store())))

    assert boot_on(disk).snapshot_index == 4


def break_tree(disk: MappingDisk) -> str:
    path = f"{DATA}/member/snap/{2:016x}-{4:016x}.snap"
    disk.unlink(path)
    Snapshotter(disk, f"{DATA}/member/snap").save(Snapshot(4, 2, ConfState((1,)), b"no JSON"))
    return path


def break_consistent_index(disk: MappingDisk) -> str:
    path = f"{DATA}/member/snap/db"
    backend = Backend.open(disk, path)
    backend.put(schema.META, schema.CONSISTENT_INDEX, b"short")
    backend.close()
    return path


def break_members(disk: MappingDisk) -> str:
    path = f"{DATA}/member/snap/db"
    backend = Backend.open(disk, path)
    backend.put(schema.CLUSTER, schema.DOWNGRADE, b"{no JSON")
    backend.close()
    return path


@pytest.mark.parametrize("damage", [break_tree, break_consistent_index, break_members])
def test_what_cannot_be_read_is_named(damage: Any) -> None:
    disk = new_disk()
    snapped(disk, applied=5)
    path = damage(disk)

    with pytest.raises(StorageError) as broken:
        boot_on(disk)

    assert broken.value.path == path
    assert all(inode is None or inode.locked_by is None for inode in disk.names.values())


# Forced alone


def test_force_new_cluster_forgets_what_was_not_committed() -> None:
    disk = new_disk()
    grown(disk, commit=4, applied=4, last=6)

    booted = boot_on(disk, force_new_cluster=True)

    assert [entry.index for entry in entries_of(booted)] == [1, 2, 3, 4]
    assert booted.hard_state.commit == 4


def test_force_new_cluster_keeps_what_the_db_holds() -> None:
    """Were those entries dropped, others would take their numbers and be held for applied."""
    disk = new_disk()
    grown(disk, commit=2, applied=5, last=6)

    booted = boot_on(disk, force_new_cluster=True)

    assert [entry.index for entry in entries_of(booted)] == [1, 2, 3, 4, 5]
    assert booted.hard_state.commit == 5
