"""One log in two hands: what the real etcd writes we read and continue, and the other way round."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.membership import cluster_id, encode_member, member_id, new_member
from balsad.proto import raft_internal_pb2
from balsad.raft.codec import decode_conf_change, encode_conf_change, encode_entry, encode_hard_state
from balsad.raft.messages import ConfChange, ConfChangeType, Entry, EntryType, HardState
from balsad.storage import DataDir, Snapshotter
from balsad.storage.wal import (
    INLINE,
    Replay,
    Wal,
    WalOptions,
    WalSnapshot,
    decode_metadata,
    encode_metadata,
    read_log,
    repair,
    valid_snapshot_entries,
)
from balsad.storage.wal.record import CRC, ENTRY, METADATA, SNAPSHOT, STATE, encode_batch, encode_record, frame_record
from balsad.storage.wal.replay import Decoder
from balsad.storage.wal.segments import Segment, list_segments
from tests.interop.servers import HeldPort, Member, real, start
from tests.interop.v3 import V3

pytestmark = pytest.mark.real

DISK: Disk = RealDisk()
OPTIONS = WalOptions(sync=INLINE)


def wal_of(data_dir: Path) -> str:
    return DataDir(str(data_dir)).wal


def put_entry(index: int, term: int, key: bytes, value: bytes) -> Entry:
    """The log entry of a put, as a server would propose it."""
    request = raft_internal_pb2.InternalRaftRequest()
    request.header.ID = 0x7000_0000_0000_0000 + index
    request.put.key = key
    request.put.value = value
    return Entry(EntryType.NORMAL, term, index, request.SerializeToString())


def logged_puts(replay: Replay) -> list[bytes]:
    """The keys of the log's puts; requests of the v2 store, which a server makes for itself, are another message."""
    keys: list[bytes] = []
    for entry in replay.entries:
        try:
            request = raft_internal_pb2.InternalRaftRequest.FromString(entry.data)
        except DecodeError:
            continue
        if entry.type == EntryType.NORMAL and request.HasField("put"):
            keys.append(request.put.key)
    return keys


def go_on(data_dir: Path, keys: list[str], value: bytes = b"ours") -> Replay:
    """Open a log as a server does and add committed puts."""
    wal, replay = Wal.open_and_read(DISK, wal_of(data_dir), WalSnapshot(), OPTIONS)
    state = replay.hard_state
    last = replay.entries[-1].index
    for at, key in enumerate(keys, last + 1):
        wal.save(HardState(state.term, state.vote, at), [put_entry(at, state.term, key.encode(), value)])
    wal.close()
    return replay


def rewritten(path: str) -> bytes:
    """A segment's content, decoded and encoded again by us."""
    decoder = Decoder(DISK, [Segment(path, 0, 0)])
    written = b""
    running = 0
    while kind := decoder.next():
        if kind == CRC:
            running = decoder.crc
            written += frame_record(CRC, running, b"")
            continue
        if kind == ENTRY:
            frame, running = encode_batch([decoder.entry()], None, running)
        elif kind == STATE:
            frame, running = encode_batch([], decoder.hard_state(), running)
        elif kind == METADATA:
            frame, running = encode_record(METADATA, encode_metadata(*decode_metadata(decoder.data)), running)
        else:
            assert kind == SNAPSHOT
            frame, running = encode_record(SNAPSHOT, decoder.data, running)
        written += frame
    decoder.close()
    return written


def test_a_real_log_is_read_record_by_record(tmp_path: Path) -> None:
    with start(real(), tmp_path / "data") as member:
        for number in range(20):
            member.etcdctl("put", f"key{number}", "v" * number * 100)
        member.etcdctl("lease", "grant", "100")
        status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        member.kill()

    path = wal_of(tmp_path / "data")
    replay = read_log(DISK, path, WalSnapshot())

    assert [entry.index for entry in replay.entries] == list(range(1, status["raftIndex"] + 1))
    assert decode_metadata(replay.metadata) == (status["header"]["member_id"], status["header"]["cluster_id"])
    assert replay.hard_state.vote == status["header"]["member_id"]
    assert logged_puts(replay) == [b"key%d" % number for number in range(20)]
    change = decode_conf_change(replay.entries[0].data)
    assert (change.type, change.node_id) == (ConfChangeType.ADD_NODE, status["header"]["member_id"])
    assert encode_conf_change(change) == replay.entries[0].data
    # And it is written again byte for byte.
    segment = list_segments(DISK, path)[0].path
    ours = rewritten(segment)
    theirs = Path(segment).read_bytes()
    assert theirs[: len(ours)] == ours
    assert not any(theirs[len(ours) :])
    assert encode_hard_state(replay.hard_state) in ours
    assert encode_entry(replay.entries[-1]) in ours


def test_a_new_members_log_of_ours_starts_the_real_etcd(tmp_path: Path) -> None:
    """Metadata, the member as a committed conf change, HardState, and two puts behind them."""
    data_dir = DataDir(str(tmp_path / "data"))
    like: Any = SimpleNamespace(client_port=HeldPort(), peer_port=HeldPort())
    url = f"http://127.0.0.1:{like.peer_port.number}"
    founder = new_member("default", (url,), "etcd-cluster")
    cluster = cluster_id([founder.id])
    data_dir.prepare(DISK)
    wal = Wal.create(DISK, data_dir.wal, encode_metadata(founder.id, cluster), OPTIONS)
    change = ConfChange(ConfChangeType.ADD_NODE, founder.id, encode_member(founder))
    first = Entry(EntryType.CONF_CHANGE, 1, 1, encode_conf_change(change))
    wal.save(HardState(1, 0, 1), [first])
    wal.save(HardState(1, founder.id, 3), [put_entry(2, 1, b"a", b"1"), put_entry(3, 1, b"b", b"2")])
    wal.close()

    with start(real(), tmp_path / "data", like=like) as member:
        values = member.etcdctl("get", "", "--prefix", "--print-value-only").split()
        status = json.loads(member.etcdctl("endpoint", "status", "-w", "json"))[0]["Status"]
        members = json.loads(member.etcdctl("member", "list", "-w", "json"))["members"]

    assert values == ["1", "2"]
    assert founder.id == member_id([url], "etcd-cluster")
    assert (status["header"]["member_id"], status["header"]["cluster_id"]) == (founder.id, cluster)
    assert [(each["ID"], each["peerURLs"], each["name"]) for each in members] == [(founder.id, [url], "default")]
    assert read_log(DISK, data_dir.wal, WalSnapshot()).entries[0] == first


def put_until_killed(member: Member, prefix: str, count: int) -> list[str]:
    """Put keys from several threads until `count` are acknowledged, then kill -9; the acknowledged ones."""
    acknowledged: list[str] = []
    enough = threading.Event()

    def work(number: int) -> None:
        client = V3(member.address)
        at = 0
        while True:
            key = f"{prefix}-{number}-{at}"
            at += 1
            try:
                client.put(key.encode(), b"theirs" * 50)
            except Exception:
                client.close()
                return
            acknowledged.append(key)
            if len(acknowledged) >= count:
                enough.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)
    os.killpg(member.process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    member.kill()
    return acknowledged


def test_a_killed_etcds_log_is_continued_by_us_and_back(tmp_path: Path) -> None:
    """What it acknowledged is in the log; what we add, it applies.

    Its db is not asked for its own puts: killed under load, etcd 3.5.0 to 3.5.2 may hold a
    consistent_index that is ahead of the data, and skips entries of the log then.
    """
    data_dir = tmp_path / "data"
    theirs: list[str] = []
    ours: list[str] = []
    like: Member | None = None
    for turn in range(2):
        with start(real(), data_dir, like=like) as member:
            assert set(member.etcdctl("get", "ours", "--prefix", "--keys-only").split()) == set(ours)
            theirs += put_until_killed(member, f"theirs{turn}", 200)
            like = member
        more = [f"ours{turn}-{number}" for number in range(50)]
        replay = go_on(data_dir, more)
        assert {key.decode() for key in logged_puts(replay)} >= {*theirs, *ours}
        ours += more

    with start(real(), data_dir, like=like) as member:
        assert set(member.etcdctl("get", "ours", "--prefix", "--keys-only").split()) == set(ours)


def test_segments_of_both(tmp_path: Path) -> None:
    """They cut a segment that we filled, we cut one that they began: each reads the other's."""
    data_dir = tmp_path / "data"
    path = wal_of(data_dir)
    with start(real(), data_dir) as member:
        member.kill()
    go_on(data_dir, [f"ours{number}" for number in range(63)], bytes(1_000_000))
    assert len(list_segments(DISK, path)) == 1
    with start(real(), data_dir, like=member) as member:
        client = V3(member.address)
        for number in range(2):
            client.put(b"theirs%d" % number, bytes(1_000_000))
        client.close()
    assert len(list_segments(DISK, path)) == 2

    go_on(data_dir, [f"more{number}" for number in range(66)], bytes(1_000_000))

    segments = list_segments(DISK, path)
    assert len(segments) == 3
    for segment in segments:
        assert Path(segment.path).read_bytes().startswith(rewritten(segment.path))
    with start(real(), data_dir, like=member) as member:
        assert len(member.etcdctl("get", "", "--prefix", "--keys-only").split()) == 63 + 2 + 66


def test_a_torn_end_is_cut_where_etcd_cuts_it(tmp_path: Path) -> None:
    with start(real(), tmp_path / "data") as member:
        for number in range(5):
            member.etcdctl("put", f"key{number}", "v" * 2000)
        member.kill()
    path = wal_of(tmp_path / "data")
    segment = list_segments(DISK, path)[0].path
    written = len(rewritten(segment))
    with open(segment, "r+b") as file:
        # The last record but one is the last put: its middle sector never reached the disk.
        file.seek((written - 1000) // 512 * 512)
        file.write(bytes(512))
    torn = Path(segment).read_bytes()

    assert repair(DISK, path) == segment
    ours = os.stat(segment).st_size
    assert Path(f"{segment}.broken").read_bytes() == torn
    os.unlink(f"{segment}.broken")
    Path(segment).write_bytes(torn)
    with start(real(), tmp_path / "data", like=member) as member:
        # The last is gone with its record, unless the db, which commits every 100 ms, has it.
        assert len(member.etcdctl("get", "key", "--prefix", "--keys-only").split()) in (4, 5)
        member.kill()

    assert Path(f"{segment}.broken").read_bytes() == torn
    theirs = Path(segment).read_bytes()
    assert theirs[:ours] == torn[:ours]
    assert theirs[ours : ours + 8] != torn[ours : ours + 8]  # from there on it wrote anew
    assert len(read_log(DISK, path, WalSnapshot()).entries) > 0


def test_real_snap_files(tmp_path: Path) -> None:
    with start(real(), tmp_path / "data", "--snapshot-count=10") as member:
        for number in range(35):
            member.etcdctl("put", f"key{number}", "v")
        member.kill()
    data_dir = DataDir(str(tmp_path / "data"))

    known = valid_snapshot_entries(DISK, data_dir.wal)
    snapshot = Snapshotter(DISK, data_dir.snap).load_newest(known)

    assert snapshot is not None
    assert (snapshot.index, snapshot.term) == (known[-1].index, known[-1].term)
    assert len(known) >= 3
    assert snapshot.conf_state == known[-1].conf_state
    assert len(snapshot.conf_state.voters) == 1
    assert set(json.loads(snapshot.data)) == {"Root", "WatcherHub", "CurrentIndex", "Stats", "CurrentVersion"}
    replay = read_log(DISK, data_dir.wal, WalSnapshot(snapshot.index, snapshot.term))
    assert replay.entries[0].index == snapshot.index + 1
    # Ours in its place: the same bytes.
    path = os.path.join(data_dir.snap, f"{snapshot.term:016x}-{snapshot.index:016x}.snap")
    theirs = Path(path).read_bytes()
    os.unlink(path)
    Snapshotter(DISK, data_dir.snap).save(snapshot)
    assert Path(path).read_bytes() == theirs
    with start(real(), tmp_path / "data", "--snapshot-count=10", like=member) as member:
        assert len(member.etcdctl("get", "key", "--prefix", "--keys-only").split()) == 35
