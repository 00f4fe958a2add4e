"""Starting and stopping: flags and files that shape a member, signals, and what outlives a restart."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.faulty_member import faulty
from tests.interop.servers import (
    HeldPort,
    Member,
    balsad,
    clean_environment,
    copy_data_dir,
    fetch,
    program,
    real,
    start,
)
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]


def wait_until(what: str, happened: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():  # type: ignore[operator]
            return
        time.sleep(0.05)
    pytest.fail(f"{what}: not within {seconds} s")


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["balsad", "real"])
def test_it_dies_of_the_signal_it_was_sent(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """After an orderly end, so that whoever started it sees the signal."""
    with start(program(name), tmp_path / "data") as member:
        member.etcdctl("put", "a", "1")
        member.process.send_signal(number)
        assert member.process.wait(20) == -number
        text = member.log_path.read_text()
        assert f'"signal":"{signal.strsignal(number).lower()}"' in text  # type: ignore[union-attr]
        assert '"closed etcd server"' in text
        assert "Traceback" not in text


class Writing(threading.Thread):
    """Puts key after key until the server is gone."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__()
        self._address = address
        self._number = number
        self.acknowledged: list[bytes] = []
        self.codes: set[grpc.StatusCode] = set()

    def run(self) -> None:
        with connect(self._address) as client:
            for count in range(100_000):
                key = b"w%d-%06d" % (self._number, count)
                try:
                    client.put(key, b"1")
                except grpc.RpcError as error:
                    self.codes.add(error.code())
                    return
                self.acknowledged.append(key)


@pytest.mark.parametrize("wait", ["inline", "helper"])
def test_a_stop_under_load_loses_nothing_acknowledged(tmp_path: Path, wait: str) -> None:
    """SIGTERM amid puts of several clients, with a watcher that holds its stream; on a fast disk and on a slow one."""
    like: Member | None = None
    acknowledged: list[bytes] = []
    for turn in range(2 if wait == "helper" else 1):
        with start(faulty(wait=wait), tmp_path / "data", "--snapshot-count=100", like=like) as like:
            with connect(like.address) as client:
                watch = client.watch(rpc.WatchCreateRequest(key=b"w", range_end=b"x"))
                assert watch.next().created
                writers = [Writing(like.address, turn * 10 + number) for number in range(4)]
                for writer in writers:
                    writer.start()
                time.sleep(0.3)
                like.process.terminate()
                assert like.process.wait(20) == -signal.SIGTERM
                watch.close()
            for writer in writers:
                writer.join(20)
                acknowledged += writer.acknowledged
                assert writer.codes == {grpc.StatusCode.UNAVAILABLE}
            assert "Traceback" not in like.log_path.read_text()
    assert len(acknowledged) > 100
    who = balsad() if wait == "inline" else real()
    with start(who, tmp_path / "data", like=like) as member, connect(member.address) as client:
        found = {kv.key for kv in client.range(b"w", range_end=b"x", keys_only=True).kvs}
        assert set(acknowledged) <= found


def test_a_signal_while_it_starts(tmp_path: Path) -> None:
    """At any moment: it ends by the signal, or by it as Python does before there is a handler; nothing is broken."""
    like: Member | None = None
    for delay_s in (0.1, 0.35, 0.5, 0.7):
        with start(balsad(), tmp_path / "data", like=like, healthy=False) as like:
            time.sleep(delay_s)
            like.process.terminate()
            assert like.process.wait(20) == -signal.SIGTERM
            text = like.log_path.read_text()
            assert "Traceback" not in text
            assert '"level":"fatal"' not in text
    with start(balsad(), tmp_path / "data", like=like) as member:
        assert member.etcdctl("put", "a", "1") == "OK\n"


# What outlives a restart


def test_restarts_without_end_or_change(tmp_path: Path) -> None:
    """Stopped and killed in turn, idle or not: same ids, same hash, and the revision does not move."""
    like: Member | None = None
    seen = set()
    for turn in range(3):
        with start(balsad(), tmp_path / "data", like=like) as like, connect(like.address) as client:
            if turn == 0:
                client.put(b"a", b"1")
                client.delete(b"a")
                client.put(b"b", b"2")
            answer = client.hash_kv()
            seen.add((answer.header.cluster_id, answer.header.member_id, answer.header.revision, answer.hash))
            if turn % 2:
                like.kill()
    assert len(seen) == 1


def test_leases_outlive_a_restart_and_end(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data") as member, connect(member.address) as client:
        client.lease_grant(1, 2)
        client.lease_grant(2, 1000)
        client.put(b"short", b"1", lease=1)
        client.put(b"long", b"1", lease=2)
        client.put(b"moved", b"1", lease=2)
        client.put(b"moved", b"2")
        member.kill()
    with start(balsad(), tmp_path / "data", like=member) as member, connect(member.address) as client:
        assert set(client.leases()) >= {2}
        left = client.lease_keys(2)
        assert (left.grantedTTL, list(left.keys)) == (1000, [b"long"])
        assert 0 < left.TTL <= 1001
        wait_until("the end of the short lease", lambda: client.leases() == [2])
        wait_until("the end of its key", lambda: client.range(b"short").count == 0)
        assert client.range(b"moved").count == 1
        member.kill()
    with start(real(), tmp_path / "data", like=member) as member, connect(member.address) as client:
        assert client.leases() == [2]
        assert client.range(b"short").count == 0


# Flags


def snap_files(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "member/snap").glob("*.snap"))


def test_snapshots_by_count(tmp_path: Path) -> None:
    """The real etcd goes on from our .snap files, and we from its own."""
    data = tmp_path / "data"
    flags = ("--snapshot-count=10", "--max-wals=1")
    like: Member | None = None
    number = 0
    for who in (balsad(), real(), balsad(), real()):
        before = snap_files(data)
        with start(who, data, *flags, like=like) as like, connect(like.address) as client:
            for _ in range(25):
                number += 1
                client.put(b"k%03d" % number, b"1")
            wait_until("a snapshot", lambda before=before: len(set(snap_files(data)) - set(before)) >= 2)
            assert client.range(b"k", range_end=b"l").count == number
            like.kill()


def test_compaction_by_itself(tmp_path: Path) -> None:
    """--auto-compaction-retention=1s: soon what is older than a second is gone."""
    flags = ("--auto-compaction-mode=periodic", "--auto-compaction-retention=1s")
    with start(balsad(), tmp_path / "data", *flags) as member, connect(member.address) as client:
        for number in range(5):
            client.put(b"a", b"%d" % number)

        def compacted() -> bool:
            client.put(b"b", b"1")
            try:
                client.range(b"a", revision=4)
            except grpc.RpcError as error:
                assert error.details() == "etcdserver: mvcc: required revision has been compacted"
                return True
            return False

        wait_until("compaction", compacted)
        assert client.range(b"a").kvs[0].value == b"4"
        assert '"completed auto compaction"' in member.log_path.read_text()


def test_a_start_from_a_config_file(tmp_path: Path) -> None:
    """One file for both: nothing else on the command line, and what the environment says is left aside."""
    for name, who in (("ours", balsad()), ("theirs", real())):
        client, peer = HeldPort(), HeldPort()
        folder = tmp_path / name
        folder.mkdir()
        config = folder / "etcd.yaml"
        config.write_text(
            f"""
name: from-yaml
data-dir: {folder}/data
listen-client-urls: http://127.0.0.1:{client.number}
advertise-client-urls: http://127.0.0.1:{client.number}
listen-peer-urls: http://127.0.0.1:{peer.number}
initial-advertise-peer-urls: http://127.0.0.1:{peer.number}
initial-cluster: from-yaml=http://127.0.0.1:{peer.number}
initial-cluster-token: yaml
max-txn-ops: 2
quota-backend-bytes: 100000000
heartbeat-interval: 10
election-timeout: 100
"""
        )
        process = subprocess.Popen(
            [*who.command, "--config-file", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**clean_environment(), "ETCD_MAX_TXN_OPS": "100", "ETCD_NAME": "from-env"},
        )
        try:
            url = f"http://127.0.0.1:{client.number}"

            def is_up(url: str = url) -> bool:
                try:
                    return fetch(url + "/health")[0] == 200
                except OSError:
                    return False

            wait_until("health", is_up)
            with connect(f"127.0.0.1:{client.number}") as v3:
                assert v3.members().members[0].name == "from-yaml"
                with pytest.raises(grpc.RpcError) as refused:
                    v3.txn(rpc.TxnRequest(compare=[rpc.Compare(key=b"a")] * 3))
                assert refused.value.details() == "etcdserver: too many operations in txn request"
            assert (folder / "data/member/wal").is_dir()
        finally:
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
            client.release()
            peer.release()


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-request-bytes=0"],
        ["--max-txn-ops=0", "--snapshot-count=1"],
        ["--backend-batch-limit=-1", "--backend-batch-interval=0s"],
        ["--experimental-compaction-batch-limit=-1", "--max-wals=0", "--max-snapshots=0"],
    ],
)
def test_flags_of_little_sense(tmp_path: Path, flags: list[str]) -> None:
    """The member starts and does what is left to do. (The real one starts, too; the last makes it panic.)"""
    with start(balsad(), tmp_path / "data", *flags) as member, connect(member.address) as client:
        if "--max-request-bytes=0" in flags:
            with pytest.raises(grpc.RpcError) as refused:
                client.put(b"a", b"1")
            assert refused.value.details() == "etcdserver: request is too large"
        else:
            for number in range(20):
                client.put(b"a", b"%d" % number)
            client.compact(15, physical=True)
            assert client.range(b"a").kvs[0].value == b"19"


def test_a_data_dir_may_move(tmp_path: Path) -> None:
    """No path is written into it."""
    with start(balsad(), tmp_path / "here") as member:
        member.etcdctl("put", "a", "1")
    moved = copy_data_dir(tmp_path / "here", tmp_path / "there")
    with start(balsad(), moved, like=member) as member:
        assert member.etcdctl("get", "a") == "a\n1\n"


def test_ports_are_held_from_the_start(tmp_path: Path) -> None:
    """Who connects while the member starts waits, and is served once it is ready."""
    with start(balsad(), tmp_path / "data") as member:
        with connect(member.address) as client:
            for number in range(300):
                client.put(b"k%d" % number, bytes(1000))
        member.kill()
    with start(balsad(), tmp_path / "data", like=member, healthy=False) as member:
        client = V3(member.address)
        try:
            stub = client.channel.unary_unary("/etcdserverpb.KV/Range")
            request = rpc.RangeRequest(key=b"k", range_end=b"l", count_only=True)
            answer = stub(request.SerializeToString(), wait_for_ready=True, timeout=20)
            assert rpc.RangeResponse.FromString(answer).count == 300
        finally:
            client.close()


@pytest.mark.parametrize(("name", "module"), [("etcd", "balsad.config"), ("etcdctl", "balsad.ctl.command")])
def test_who_interrupts_a_program_that_is_still_being_loaded_sees_no_traceback(
    tmp_path: Path, name: str, module: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
""")
    done = subprocess.run(
        [str(Path(sys.executable).with_name(name)), "version"],
        capture_output=True,
        timeout=60,
        env={**clean_environment(), "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
