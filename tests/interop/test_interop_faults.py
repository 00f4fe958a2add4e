"""Disks that fail under a running member, and files that are broken when it starts.

What was acknowledged outlives every fault; a member that cannot go on says
which file it was, in one line, and ends with 1; what is broken is never served.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.env.real import RealDisk
from balsad.proto import rpc_pb2 as rpc
from balsad.storage import Backend, schema
from tests.interop.faulty_member import faulty
from tests.interop.servers import Member, balsad, copy_data_dir, etcdutl, real, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

END_S = 15.0


def log_lines(member: Member) -> list[dict[str, Any]]:
    lines = []
    for line in member.log_path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def last_words(member: Member) -> str:
    """Why it ended: one line, and no traceback anywhere."""
    text = member.log_path.read_text()
    assert "Traceback" not in text, text
    assert "stacktrace" not in text, text
    fatal = [line for line in log_lines(member) if line["level"] == "fatal"]
    assert len(fatal) == 1, text
    return str(fatal[0]["error"])


def put_until_refused(client: V3, most: int = 500) -> tuple[int, str]:
    """Put key after key; how many were acknowledged, and how the last one ended."""
    for number in range(most):
        try:
            client.put(b"fault%04d" % number, b"v" * 100)
        except grpc.RpcError as error:
            return number, error.code().name
    return most, "OK"


@pytest.mark.parametrize(
    ("op", "part", "number", "flags"),
    [
        ("pwrite", ".wal", errno.ENOSPC, ()),
        ("fdatasync", ".wal", errno.EIO, ()),
        ("pwritev", "/snap/db", errno.ENOSPC, ()),
        ("fdatasync", "/snap/db", errno.EIO, ()),
        ("write", "/snap/tmp", errno.ENOSPC, ("--snapshot-count=5",)),
        ("rename", ".snap", errno.EROFS, ("--snapshot-count=5",)),
    ],
)
def test_a_disk_that_fails(tmp_path: Path, op: str, part: str, number: int, flags: tuple[str, ...]) -> None:
    """The member ends with 1 and names file and reason; on a disk that works again everything acknowledged is there."""
    trigger = tmp_path / "fail"
    data = tmp_path / "data"
    who = faulty(op=op, path=part, errno=number, when=str(trigger))
    with start(who, data, *flags) as member, connect(member.address) as client:
        client.put(b"before", b"1")
        trigger.touch()
        acknowledged, code = put_until_refused(client)
        assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), code
        assert member.process.wait(END_S) == 1
        words = last_words(member)
        assert part.strip("/") in words
        assert os.strerror(number).lower() in words

    with start(balsad(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"before").count == 1
        found = [kv.key for kv in client.range(b"fault", range_end=b"faulu").kvs]
        assert found[:acknowledged] == [b"fault%04d" % count for count in range(acknowledged)]
        # The one that was refused may have happened, no other.
        assert len(found) <= acknowledged + 1


@pytest.mark.parametrize("kind", ["put", "txn"])
def test_nobody_sees_what_the_log_could_not_sync(tmp_path: Path, kind: str) -> None:
    """Writes are applied while the disk takes the log: when its sync fails, that is neither told nor stored."""
    trigger = tmp_path / "fail"
    data = tmp_path / "data"
    # A commit of the database is due by the time the sync fails.
    who = faulty(op="fdatasync", path=".wal", errno=errno.EIO, when=str(trigger), after=0.5)
    with start(who, data) as member, contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        clients = [stack.enter_context(connect(member.address)) for _ in range(6)]
        writer, watcher, *readers = clients
        watch = watcher.watch(rpc.WatchCreateRequest(key=b"a"))
        assert watch.next().created
        for client in clients:
            client.range(b"a")
        writer.put(b"before", b"1")
        time.sleep(0.3)  # committed
        trigger.touch()
        seen = pool.submit(watch.next)
        put = rpc.PutRequest(key=b"a", value=b"untold")
        if kind == "put":
            written = pool.submit(writer.call, "KV/Put", put, rpc.PutResponse)
        else:
            txn = rpc.TxnRequest(success=[rpc.RequestOp(request_put=put)])
            written = pool.submit(writer.call, "KV/Txn", txn, rpc.TxnResponse)
        time.sleep(0.2)  # the sync is under way
        read = [pool.submit(reader.range, b"a") for reader in readers]

        for told in (written, seen, *read):
            error = told.exception(END_S)
            assert isinstance(error, grpc.RpcError), told.result()
            assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert member.process.wait(END_S) == 1
        assert ".wal" in last_words(member)

    backend = Backend.open(RealDisk(), str(db(data)))
    try:
        rows = [value for _, value in backend.scan(schema.KEY, b"\0", None)]
    finally:
        backend.close()
    assert any(b"before" in row for row in rows)
    assert not any(b"untold" in row for row in rows)


@pytest.mark.parametrize(
    ("op", "part"),
    [
        ("fallocate", "wal.tmp"),
        ("pwritev", "/snap/db"),
        ("rename", "member/wal"),
        ("open", ".touch"),
    ],
)
def test_a_disk_that_is_full_from_the_start(tmp_path: Path, op: str, part: str) -> None:
    """Nothing half-made is in the way of the next start."""
    trigger = tmp_path / "fail"
    data = tmp_path / "data"
    trigger.touch()
    who = faulty(op=op, path=part, errno=errno.ENOSPC, when=str(trigger))
    with start(who, data, healthy=False) as member:
        assert member.process.wait(END_S) == 1
        words = last_words(member)
        assert str(data) in words
        assert "no space left on device" in words
    trigger.unlink()
    with start(who, data, like=member) as member, connect(member.address) as client:
        client.put(b"a", b"1")


def test_a_defragmentation_without_space_leaves_the_member_as_it_was(tmp_path: Path) -> None:
    trigger = tmp_path / "fail"
    who = faulty(op="pwritev", path="db.tmp", errno=errno.ENOSPC, when=str(trigger))
    with start(who, tmp_path / "data") as member, connect(member.address) as client:
        client.put(b"a", b"1")
        trigger.touch()
        with pytest.raises(grpc.RpcError) as refused:
            client.defragment()
        assert "no space left on device" in (refused.value.details() or "")
        client.put(b"b", b"1")
        trigger.unlink()
        client.defragment()
        assert client.range(b"a", range_end=b"c").count == 2
        assert not list((tmp_path / "data/member/snap").glob("*.tmp*"))


def test_short_writes(tmp_path: Path) -> None:
    """write(2) may take less than it was given, at any time."""
    data = tmp_path / "data"
    with start(faulty(short=1000), data, "--snapshot-count=10") as member, connect(member.address) as client:
        for number in range(30):
            client.put(b"k%02d" % number, bytes(5_000))
        client.defragment()
        client.put(b"last", b"1")
        hashed = client.hash_kv().hash
    with start(real(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"k", range_end=b"m").count == 31
        assert client.hash_kv().hash == hashed


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_process_that_waits_for_the_disk_dies(tmp_path: Path) -> None:
    """Nobody can tell then what is on disk: the member ends, without having acknowledged what it cannot know."""
    data = tmp_path / "data"
    with start(faulty(wait="helper"), data) as member, connect(member.address) as client:
        client.put(b"a", b"1")
        helpers = children(member.process.pid)
        assert len(helpers) == 1
        os.kill(helpers[0], signal.SIGKILL)
        _, code = put_until_refused(client, 3)
        assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert member.process.wait(END_S) == 1
        assert "the process that syncs the log is gone" in last_words(member)
    with start(faulty(wait="helper"), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"a").count == 1


# Files that are broken at the start


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x55
    path.write_bytes(content)


def record_ends(path: Path) -> list[int]:
    """Where each record of a WAL segment ends."""
    content = path.read_bytes()
    at, ends = 0, []
    while at + 8 <= len(content):
        (head,) = struct.unpack_from("<Q", content, at)
        if not head:
            break
        at += 8 + (head & (1 << 56) - 1) + (head >> 56 & 7 if head >> 63 else 0)
        ends.append(at)
    return ends


def segment(data: Path) -> Path:
    return sorted((data / "member/wal").glob("*.wal"))[-1]


def db(data: Path) -> Path:
    return data / "member/snap/db"


def flip_in_record(data: Path) -> int:
    ends = record_ends(segment(data))
    middle = len(ends) // 2
    flip(segment(data), ends[middle] - 10)
    return ends[middle - 1]


def grow_a_record(data: Path) -> int:
    ends = record_ends(segment(data))
    start_of = ends[len(ends) // 2]
    flip(segment(data), start_of)
    return start_of


def break_both_metas(data: Path) -> int:
    flip(db(data), 24)
    flip(db(data), 4096 + 24)
    return 0


def cut_db(data: Path) -> int:
    os.truncate(db(data), 8192 + 1000)
    return -1


def scramble_pages(data: Path) -> int:
    for offset in range(8192, db(data).stat().st_size, 4096):
        flip(db(data), offset + 8)
    return -1


def lose_the_end_of_the_log(data: Path) -> int:
    ends = record_ends(segment(data))
    os.truncate(segment(data), ends[len(ends) // 2])
    return -1


def lose_the_log(data: Path) -> int:
    shutil.rmtree(data / "member/wal")
    return -1


def lose_all_records(data: Path) -> int:
    os.truncate(segment(data), 0)
    return -1


def lose_db(data: Path) -> int:
    db(data).unlink()
    return -1


def older_db(data: Path) -> int:
    shutil.copyfile(data / "member/old-db", db(data))
    return -1


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Path]]:
    """A data dir of the real etcd, never snapshotted."""
    data = tmp_path_factory.mktemp("plain") / "data"
    with start(real(), data) as member, connect(member.address) as client:
        for number in range(20):
            client.put(b"k%02d" % number, b"v" * 100)
    yield member, data


@pytest.fixture(scope="module")
def snapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Path]]:
    """Another one, with .snap files, and a db from before them."""
    data = tmp_path_factory.mktemp("snapped") / "data"
    with start(real(), data) as member, connect(member.address) as client:
        client.put(b"first", b"1")
    shutil.copyfile(db(data), data / "member/old-db")
    with start(real(), data, "--snapshot-count=10", like=member) as member, connect(member.address) as client:
        for number in range(40):
            client.put(b"k%02d" % number, b"v" * 100)
    assert len(list((data / "member/snap").glob("*.snap"))) >= 2
    yield member, data


def contents(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("damage", "part", "says"),
    [
        (flip_in_record, "0000000000000000-0000000000000000.wal", "crc mismatch: expected"),
        (grow_a_record, "0000000000000000-0000000000000000.wal", ""),
        (lose_the_end_of_the_log, "member/wal", "the log ends with entry"),
        (lose_the_log, "member/snap/db", "has no log"),
        (lose_all_records, "0000000000000000-0000000000000000.wal", "snapshot not found"),
        (break_both_metas, "member/snap/db", "expected a valid meta page"),
        (cut_db, "member/snap/db", "expected a file of at least"),
        (scramble_pages, "member/snap/db", "is broken: expected"),
    ],
)
def test_broken_files_are_found_at_the_start(
    tmp_path: Path, plain: tuple[Member, Path], damage: Callable[[Path], int], part: str, says: str
) -> None:
    """The line names file, offset, expected and found; only the free end of the log is ever touched."""
    member, source = plain
    data = copy_data_dir(source, tmp_path / "data")
    offset = damage(data)
    before = contents(data)

    with start(balsad(), data, like=member, healthy=False) as member:
        assert member.process.wait(END_S) == 1
        words = last_words(member)

    assert part in words
    assert says in words
    if offset >= 0:
        assert f"at offset {offset}:" in words
    after = contents(data)
    assert after.keys() == before.keys()
    for path, content in before.items():
        assert after[path].rstrip(b"\0") == content.rstrip(b"\0"), path


@pytest.mark.parametrize(
    ("damage", "says"),
    [(lose_db, "is missing"), (older_db, "does not match with snapshot (index"), (cut_db, "expected a file of")],
)
def test_a_db_that_does_not_fit_the_snapshot(
    tmp_path: Path, snapped: tuple[Member, Path], damage: Callable[[Path], int], says: str
) -> None:
    member, source = snapped
    data = copy_data_dir(source, tmp_path / "data")
    damage(data)
    before = contents(data)

    with start(balsad(), data, like=member, healthy=False) as member:
        assert member.process.wait(END_S) == 1
        words = last_words(member)

    assert "member/snap/db" in words
    assert says in words
    assert contents(data) == before


def test_a_broken_snap_file_is_laid_aside(tmp_path: Path, snapped: tuple[Member, Path]) -> None:
    """As etcd does: the one before it serves as well, and the log is still there. Nothing is missing afterwards."""
    member, source = snapped
    data = copy_data_dir(source, tmp_path / "data")
    newest = sorted((data / "member/snap").glob("*.snap"))[-1]
    flip(newest, newest.stat().st_size // 2)

    with start(balsad(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"k", range_end=b"l").count == 40
        told = [line for line in log_lines(member) if line["msg"] == "failed to read a snap file"]
        assert "crc mismatch: expected" in told[0]["error"]
        assert told[0]["path"] == str(newest)
    assert not newest.exists()
    assert Path(f"{newest}.broken").exists()


def test_a_torn_end_of_the_log_is_repaired(tmp_path: Path, plain: tuple[Member, Path]) -> None:
    """A record cut off by a crash was never acknowledged: like etcd, cut it away and keep a copy."""
    member, source = plain
    data = copy_data_dir(source, tmp_path / "data")
    last = segment(data)
    ends = record_ends(last)
    os.truncate(last, ends[-1] - 4)

    with start(balsad(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"k", range_end=b"l").count == 20
        client.put(b"more", b"1")
    assert Path(f"{last}.broken").exists()
    with start(real(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"more").count == 1


def test_a_lost_db_is_made_again_from_the_whole_log(tmp_path: Path, plain: tuple[Member, Path]) -> None:
    """Without a snapshot the log still holds everything."""
    member, source = plain
    data = copy_data_dir(source, tmp_path / "data")
    theirs = copy_data_dir(source, tmp_path / "theirs")
    with start(real(), theirs, like=member) as member, connect(member.address) as client:
        expected = client.hash_kv().hash
    db(data).unlink()

    with start(balsad(), data, like=member) as member, connect(member.address) as client:
        assert client.range(b"k", range_end=b"l").count == 20
        assert client.hash_kv().hash == expected


# Kills at bad moments


def fill(client: V3, count: int) -> None:
    for start_at in range(0, count, 100):
        operations = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"big%05d" % number, value=bytes(1_000)))
            for number in range(start_at, min(count, start_at + 100))
        ]
        client.txn(rpc.TxnRequest(success=operations))


@pytest.mark.parametrize("what", ["defragment", "compact"])
def test_killed_in_the_midst_of_it(tmp_path: Path, what: str) -> None:
    """Whatever the file was just turned into, the next start finds all, and the real etcd finds the same."""
    data = tmp_path / "data"
    like: Member | None = None
    for delay_s in (0.003, 0.04):
        with start(balsad(), data, like=like) as member, connect(member.address) as client:
            like = member
            fill(client, 2_000)
            fill(client, 2_000)
            revision = client.put(b"mark", b"1").header.revision
            if what == "defragment":
                stub = client.channel.unary_unary("/etcdserverpb.Maintenance/Defragment")
                pending = stub.future(b"")
            else:
                stub = client.channel.unary_unary("/etcdserverpb.KV/Compact")
                pending = stub.future(rpc.CompactionRequest(revision=revision - 5, physical=True).SerializeToString())
            time.sleep(delay_s)
            member.kill()
            pending.cancel()
    with start(balsad(), data, like=like) as member, connect(member.address) as client:
        # A compaction that was begun goes on by itself; another one waits for it.
        client.put(b"next", b"1")
        client.compact(client.range(b"none").header.revision)
        assert not list((data / "member/snap").glob("db.tmp*"))
    found = []
    for who in (balsad(), real()):
        with start(who, data, like=like) as member, connect(member.address) as client:
            assert client.range(b"big", range_end=b"bih", count_only=True).count == 2_000
            answer = client.hash_kv()
            found.append((answer.header.revision, answer.compact_revision, answer.hash))
    assert found[0] == found[1]
    etcdutl("snapshot", "status", str(db(data)))


def test_killed_while_it_is_founded(tmp_path: Path) -> None:
    """Right after the start, at some moment: the next start founds it, or finds it."""
    data = tmp_path / "data"
    like: Member | None = None
    for delay_s in (0.25, 0.32, 0.4, 0.5):
        with start(balsad(), data, like=like, healthy=False) as like:
            time.sleep(delay_s)
            like.kill()
    with start(balsad(), data, like=like) as member:
        assert member.etcdctl("put", "a", "1") == "OK\n"
