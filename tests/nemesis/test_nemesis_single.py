"""One member under mixed load, killed and stopped again and again: what it acknowledged is there, its files are good.

Puts, txns, deletes, leases, compactions, defragmentation and backups go on while SIGKILL and SIGSTOP meet them.
Ten rounds; 200 with BALSAD_SOAK=1. NEMESIS_SEED repeats a course.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, balsad, etcdutl, real, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

ROUNDS = 200 if os.environ.get("BALSAD_SOAK") else 10
SEED = int(os.environ.get("NEMESIS_SEED", "0")) or 20
WRITERS = 3
TTL_S = 600
FLAGS = ("--snapshot-count=150", "--max-snapshots=2", "--max-wals=2", "--log-level=warn")

# What a dying or sleeping member leaves its clients with.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
CALL_S = 4.0

Answer = rpc.PutResponse | rpc.DeleteRangeResponse | rpc.TxnResponse | rpc.LeaseRevokeResponse


@dataclass
class Writer:
    """One client with keys and leases of its own, one request at a time.

    `sure` is what was acknowledged, by key; `open` what the last request may have done when it was cut short.
    """

    number: int
    sure: dict[bytes, bytes | None] = field(default_factory=dict)
    open: list[dict[bytes, bytes | None]] = field(default_factory=list)
    leases: dict[int, set[bytes]] = field(default_factory=dict)
    open_leases: set[int] = field(default_factory=set)
    open_revokes: set[int] = field(default_factory=set)
    count: int = 0
    revision: int = 0
    failure: BaseException | None = None

    @property
    def prefix(self) -> bytes:
        return b"s%d/" % self.number

    def run(self, address: str, stop: threading.Event, seed: int) -> None:
        chance = random.Random(seed * 100 + self.number)
        try:
            with connect(address) as client:
                while not stop.is_set():
                    self.step(client, chance)
        except grpc.RpcError as error:
            if error.code() not in GONE:
                self.failure = error
        except BaseException as error:
            self.failure = error

    def step(self, client: V3, chance: random.Random) -> None:
        self.count += 1
        value = b"%d" % self.count + b"." * chance.choice((0, 0, 0, 300, 9000))
        key = self.prefix + b"%d" % chance.randrange(9)
        dice = chance.random()
        if dice < 0.5:
            self.change({key: value})
            self.done(client.call("KV/Put", rpc.PutRequest(key=key, value=value), rpc.PutResponse, CALL_S))
        elif dice < 0.65:
            self.change({key: None})
            self.done(client.call("KV/DeleteRange", rpc.DeleteRangeRequest(key=key), rpc.DeleteRangeResponse, CALL_S))
        elif dice < 0.85:
            # Both or none.
            pair = self.prefix + b"left", self.prefix + b"right"
            self.change(dict.fromkeys(pair, value))
            puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=one, value=value)) for one in pair]
            self.done(client.call("KV/Txn", rpc.TxnRequest(success=puts), rpc.TxnResponse, CALL_S))
        elif dice < 0.93 or not self.leases:
            lease = 100_000 * (self.number + 1) + self.count
            self.open_leases = {lease}
            client.lease_grant(lease, TTL_S)
            self.leases[lease] = set()
            self.open_leases = set()
            leased = self.prefix + b"lease-%d" % lease
            self.change({leased: value})
            self.leases[lease].add(leased)
            self.done(client.call("KV/Put", rpc.PutRequest(key=leased, value=value, lease=lease), rpc.PutResponse))
        else:
            lease = chance.choice(sorted(self.leases))
            self.change(dict.fromkeys(self.leases[lease]))
            self.open_revokes = {lease}
            answer = client.lease_revoke(lease)
            self.open_revokes = set()
            del self.leases[lease]
            self.done(answer)

    def change(self, keys: dict[bytes, bytes | None]) -> None:
        self.open = [keys]

    def done(
        self, answer: rpc.PutResponse | rpc.DeleteRangeResponse | rpc.TxnResponse | rpc.LeaseRevokeResponse
    ) -> None:
        assert answer.header.revision >= self.revision, "the revision went back"
        self.revision = answer.header.revision
        for keys in self.open:
            self.sure.update(keys)
        self.open = []

    def check(self, client: V3) -> None:
        """All that was acknowledged is there; what was open happened whole or not at all."""
        assert self.failure is None, self.failure
        answer = client.range(self.prefix, range_end=self.prefix[:-1] + b"0")
        assert answer.header.revision >= self.revision, "the revision went back"
        found = {kv.key: kv.value for kv in answer.kvs}
        expected = {key: value for key, value in self.sure.items() if value is not None}
        if found != expected:
            assert self.open, _difference(expected, found)
            for keys in self.open:
                self.sure.update(keys)
            expected = {key: value for key, value in self.sure.items() if value is not None}
            assert found == expected, f"open was {self.open}\n" + _difference(expected, found)
        self.open = []
        self.sure = dict(expected)
        self._check_leases(client)

    def _check_leases(self, client: V3) -> None:
        mine = {lease for lease in client.leases() if lease // 100_000 == self.number + 1}
        assert set(self.leases) - self.open_revokes <= mine, "an acknowledged lease is gone"
        assert mine <= set(self.leases) | self.open_leases, "a revoked lease is there"
        self.leases = {lease: self.leases.get(lease, set()) for lease in mine}
        for lease in mine:
            told = client.call(
                "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease, keys=True), rpc.LeaseTimeToLiveResponse
            )
            assert set(told.keys) == {key for key in self.leases[lease] if self.sure.get(key) is not None}
            assert told.grantedTTL == TTL_S
            self.leases[lease] = set(told.keys)
        self.open_leases, self.open_revokes = set(), set()


def _difference(expected: dict[bytes, bytes], found: dict[bytes, bytes]) -> str:
    return "\n".join(
        f"{key!r}: expected {expected.get(key, b'nothing')[:40]!r}, found {found.get(key, b'nothing')[:40]!r}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    )


class Trouble:
    """Compactions, defragmentation and backups meanwhile; the last backup that came through whole is kept."""

    def __init__(self) -> None:
        self.compacted = 0
        self.backup = b""
        self.backup_revision = 0
        self.failure: BaseException | None = None

    def run(self, address: str, stop: threading.Event, seed: int) -> None:
        chance = random.Random(seed)
        try:
            with connect(address) as client:
                while not stop.wait(chance.uniform(0.02, 0.15)):
                    self.step(client, chance)
        except grpc.RpcError as error:
            if error.code() not in GONE:
                self.failure = error
        except BaseException as error:
            self.failure = error

    def step(self, client: V3, chance: random.Random) -> None:
        dice = chance.random()
        revision = client.range(b"none").header.revision
        if dice < 0.25:
            client.defragment()
        elif dice < 0.45:
            self.backup = client.snapshot()
            self.backup_revision = revision
        elif revision - 15 > self.compacted:
            client.compact(revision - 15, physical=chance.random() < 0.5)
            self.compacted = revision - 15


def go(member: Member, writers: list[Writer], trouble: Trouble, chance: random.Random, seed: int) -> None:
    """Load, now and then asleep, until a kill."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=writer.run, args=(member.address, stop, seed), daemon=True) for writer in writers
    ]
    threads.append(threading.Thread(target=trouble.run, args=(member.address, stop, seed), daemon=True))
    for thread in threads:
        thread.start()
    for _ in range(chance.randrange(3)):
        time.sleep(chance.uniform(0.05, 0.4))
        os.killpg(member.process.pid, signal.SIGSTOP)
        time.sleep(chance.choice((0.02, 0.2, 0.6)))
        if chance.random() < 0.3:
            break  # killed in its sleep
        os.killpg(member.process.pid, signal.SIGCONT)
    else:
        time.sleep(chance.uniform(0.05, 0.6))
    member.kill()
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def snapshot_status(db: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(etcdutl("snapshot", "status", str(db), "-w", "json"))
    return found


def real_hash(data_dir: Path) -> tuple[int, int, int]:
    """Revision, compaction and HashKV that a real etcd finds on a copy of the data dir."""
    with start(real(), data_dir, *FLAGS) as member, connect(member.address) as client:
        return settled_hash(client)


def settled_hash(client: V3) -> tuple[int, int, int]:
    """Once a compaction that the kill interrupted is through: the hash stays the same for a while."""
    last = client.hash_kv()
    since = time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.1)
        again = client.hash_kv()
        if again.hash != last.hash:
            last, since = again, time.monotonic()
    return last.header.revision, last.compact_revision, last.hash


@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_killed_and_stopped_again_and_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    chance = random.Random(SEED)
    writers = [Writer(number) for number in range(WRITERS)]
    trouble = Trouble()
    like: Member | None = None
    expected_hash: tuple[int, int, int] | None = None
    compared = 0
    for turn in range(ROUNDS):
        with start(balsad(), data_dir, *FLAGS, like=like) as member:
            like = member
            with connect(member.address) as client:
                for writer in writers:
                    writer.check(client)
                assert trouble.failure is None, trouble.failure
                if expected_hash is not None:
                    assert settled_hash(client) == expected_hash
                    compared += 1
                    expected_hash = None
            before = sum(writer.count for writer in writers)
            go(member, writers, trouble, chance, SEED * 1000 + turn)
            assert sum(writer.count for writer in writers) > before, "no load at all"
        db = tmp_path / "killed.db"
        shutil.copyfile(data_dir / "member/snap/db", db)
        snapshot_status(db)
        if trouble.backup:
            backup = tmp_path / "backup.db"
            backup.write_bytes(trouble.backup)
            assert snapshot_status(backup)["revision"] >= trouble.backup_revision
            trouble.backup = b""
        if turn % 50 == 5:
            copy = tmp_path / f"copy-{turn}"
            shutil.copytree(data_dir, copy)
            expected_hash = real_hash(copy)
            shutil.rmtree(copy)
    assert compared
