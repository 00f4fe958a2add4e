"""Data dirs and backups change hands between balsad and the real etcd, and nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, balsad, etcdutl, our_etcdutl, program, real, real_34, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

ALL = {"key": b"\0", "range_end": b"\0"}
LEASE = 0x7151
NOSPACE = 1


@dataclass
class State:
    """What a member shows of its store."""

    revision: int
    kvs: list[kv_pb2.KeyValue]
    hash: int
    compact_revision: int
    leases: list[int]
    lease_keys: list[bytes]
    alarms: list[tuple[int, int]]
    members: list[rpc.Member]


def state_of(client: V3) -> State:
    answer = client.range(**ALL)
    hashed = client.hash_kv()
    alarms = client.alarm(rpc.AlarmRequest(action=rpc.AlarmRequest.GET)).alarms
    leases = client.leases()
    return State(
        revision=answer.header.revision,
        kvs=list(answer.kvs),
        hash=hashed.hash,
        compact_revision=hashed.compact_revision,
        leases=leases,
        lease_keys=sorted(client.lease_keys(LEASE).keys) if LEASE in leases else [],
        alarms=sorted((alarm.memberID, alarm.alarm) for alarm in alarms),
        members=list(client.members().members),
    )


def assert_state(client: V3, expected: State) -> None:
    """Soon after a start the state is the expected one; an unfinished compaction may still have to end."""
    deadline = time.monotonic() + 5
    while state_of(client) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert state_of(client) == expected


def fill(client: V3) -> None:
    for number in range(50):
        client.put(b"k%03d" % (number % 20), b"v%d" % number)
    client.delete(b"k00", range_end=b"k005")
    client.lease_grant(LEASE, 3600)
    client.put(b"leased/a", b"x", lease=LEASE)
    client.put(b"leased/b", b"", lease=LEASE)
    client.put(b"\x00\xff", b"\xff\x00" * 3000)


def change(client: V3) -> None:
    """A txn, a compaction in the middle, more after it."""
    client.txn(
        rpc.TxnRequest(
            compare=[rpc.Compare(key=b"k010", target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, version=0)],
            success=[
                rpc.RequestOp(request_put=rpc.PutRequest(key=b"t1", value=b"1")),
                rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"k010")),
                rpc.RequestOp(request_put=rpc.PutRequest(key=b"t2", value=b"2", lease=LEASE)),
            ],
        )
    )
    revision = client.put(b"mark", b"").header.revision
    client.compact(revision)
    for number in range(30):
        client.put(b"after/%d" % number, b"x" * number)
    client.delete(b"after/1", range_end=b"after/2")


def raise_alarm(client: V3) -> None:
    member_id = client.status().header.member_id
    client.alarm(rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=member_id, alarm=NOSPACE))


def lower_alarm(client: V3) -> None:
    member_id = client.status().header.member_id
    client.alarm(rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=NOSPACE))
    client.put(b"again", b"writable")


def defragment(client: V3) -> None:
    client.put(b"before", b"defrag")
    client.defragment()
    client.put(b"behind", b"defrag")


def defragment_at_rest(client: V3) -> None:
    """The same for etcd up to 3.5.5, which defragments without writing the consistent index.

    Killed soon after, it would apply again what had not been committed before.
    """
    client.put(b"before", b"defrag")
    time.sleep(0.5)
    client.defragment()
    client.put(b"behind", b"defrag")


def revoke(client: V3) -> None:
    client.lease_revoke(LEASE)
    client.put(b"end", b"")


STAGES: list[Callable[[V3], None]] = [fill, change, raise_alarm, lower_alarm, defragment, revoke]


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("first", ["balsad", "real"])
def test_a_data_dir_goes_from_hand_to_hand(first: str, end: str, tmp_path: Path) -> None:
    """Each stage by the other server; before it, all that the earlier ones left is there and hashes alike."""
    names = [first, "real" if first == "balsad" else "balsad"]
    data_dir = tmp_path / "data"
    state: State | None = None
    raft_index = 0
    like: Member | None = None
    for number, stage in enumerate(STAGES):
        with start(program(names[number % 2]), data_dir, like=like) as member, connect(member.address) as client:
            like = member
            if state is not None:
                assert_state(client, state)
            if stage is defragment and member.program == real():
                stage = defragment_at_rest
            stage(client)
            state = state_of(client)
            status = client.status()
            assert status.raftIndex > raft_index
            raft_index = status.raftIndex
            if end == "kill":
                member.kill()
            else:
                member.stop()
    with start(program(names[len(STAGES) % 2]), data_dir, like=like) as member, connect(member.address) as client:
        assert state is not None
        assert_state(client, state)
    status_of_file(data_dir / "member/snap/db", state.revision)


@pytest.mark.parametrize("first", ["balsad", "real"])
def test_raft_snapshots_go_from_hand_to_hand(first: str, tmp_path: Path) -> None:
    """With a snapshot every ten entries each server starts from the other's .snap and cut-off log."""
    names = [first, "real" if first == "balsad" else "balsad"]
    data_dir = tmp_path / "data"
    state: State | None = None
    like: Member | None = None
    for number in range(4):
        flags = ("--snapshot-count=10", "--max-snapshots=2", "--max-wals=2")
        with start(program(names[number % 2]), data_dir, *flags, like=like) as member:
            like = member
            with connect(member.address) as client:
                if state is not None:
                    assert_state(client, state)
                for turn in range(35):
                    client.put(b"k%d" % turn, b"%d" % number)
                state = state_of(client)
        assert len(list((data_dir / "member/snap").glob("*.snap"))) >= 2


def status_of_file(path: Path, revision: int) -> None:
    """The real etcdutl accepts the db and finds that revision in it."""
    status = json.loads(etcdutl("snapshot", "status", str(path), "-w", "json"))
    assert status["revision"] == revision


def restored(tool: str, backup: Path, data_dir: Path, like: Member, *flags: str) -> None:
    """`backup` made into a data dir by our etcdutl or the real one."""
    run = our_etcdutl if tool == "balsad" else etcdutl
    run(
        "snapshot",
        "restore",
        str(backup),
        f"--data-dir={data_dir}",
        "--name=default",
        f"--initial-cluster=default={like.peer_url}",
        f"--initial-advertise-peer-urls={like.peer_url}",
        *flags,
    )


@pytest.mark.parametrize(
    ("saved_by", "restored_by", "served_by"),
    [
        ("balsad", "real", "real"),
        ("balsad", "real", "balsad"),
        ("balsad", "balsad", "real"),
        ("balsad", "balsad", "balsad"),
        ("real", "balsad", "real"),
        ("real", "balsad", "balsad"),
        ("real", "real", "balsad"),
    ],
)
def test_a_backup_goes_from_hand_to_hand(saved_by: str, restored_by: str, served_by: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with start(program(saved_by), tmp_path / "data") as member, connect(member.address) as client:
        fill(client)
        change(client)
        state = state_of(client)
        backup.write_bytes(client.snapshot())
    assert backup.stat().st_size % 512 == 32
    status_of_file(backup, state.revision)

    restored(restored_by, backup, tmp_path / "restored", member)

    with start(program(served_by), tmp_path / "restored", like=member) as member, connect(member.address) as client:
        assert_kept(client, state, member)
        assert client.put(b"new", b"life").header.revision == state.revision + 1


def assert_kept(client: V3, state: State, member: Member) -> None:
    """Keys, history and leases are there; the one member is the restored one, with this server's URLs."""
    found = state_of(client)
    assert (found.revision, found.kvs, found.hash) == (state.revision, state.kvs, state.hash)
    assert (found.leases, found.lease_keys) == (state.leases, state.lease_keys)
    assert [list(one.peerURLs) for one in found.members] == [[member.peer_url]]
    assert [list(one.clientURLs) for one in found.members] == [[member.client_url]]


@pytest.mark.parametrize(
    ("lived", "restored_by", "served_by"), [("balsad", "real", "real"), ("real", "balsad", "balsad")]
)
def test_a_copied_db_is_restored_without_its_hash(lived: str, restored_by: str, served_by: str, tmp_path: Path) -> None:
    """member/snap/db of a stopped member, which ends in no hash."""
    with start(program(lived), tmp_path / "data") as member, connect(member.address) as client:
        fill(client)
        change(client)
        state = state_of(client)
        member.stop()
    shutil.copyfile(tmp_path / "data/member/snap/db", tmp_path / "copied.db")

    refusal = (our_etcdutl if restored_by == "balsad" else etcdutl)(
        "snapshot", "restore", str(tmp_path / "copied.db"), f"--data-dir={tmp_path / 'refused'}", check=False
    )
    assert "snapshot missing hash but --skip-hash-check=false" in refusal
    restored(restored_by, tmp_path / "copied.db", tmp_path / "restored", member, "--skip-hash-check=true")

    with start(program(served_by), tmp_path / "restored", like=member) as member, connect(member.address) as client:
        assert_kept(client, state, member)


def test_an_older_data_dir_is_taken_over(tmp_path: Path) -> None:
    """A member of 3.4 becomes one of ours, as it would become one of 3.5."""
    with start(real_34(), tmp_path / "data") as member, connect(member.address) as client:
        fill(client)
        change(client)
        state = state_of(client)
    with start(balsad(), tmp_path / "data", like=member) as member, connect(member.address) as client:
        assert_state(client, state)
        client.put(b"new", b"life")
