"""kill -9 under load, again and again: what was acknowledged is there, and the real tools accept the files.

INTEROP_KILL_ROUNDS sets how often; more of them make a soak test.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import Member, balsad, etcdutl, real, start
from tests.interop.v3 import V3, connect

pytestmark = [pytest.mark.real]

ROUNDS = int(os.environ.get("INTEROP_KILL_ROUNDS", "20"))
WRITERS = 4
FLAGS = ("--snapshot-count=200", "--max-snapshots=2", "--max-wals=2")


class Writer:
    """One client that counts up its keys, one request at a time.

    `acked` is what the server confirmed by key, `maybe` what was on its way
    when the connection broke: it may have happened, whole, or not.
    """

    def __init__(self, number: int) -> None:
        self.prefix = b"w%d/" % number
        self.acked: dict[bytes, bytes] = {}
        self.maybe: dict[bytes, bytes | None] = {}
        self.count = 0
        self.seen_revision = 0
        self.failure: BaseException | None = None

    def run(self, address: str, stop: threading.Event) -> None:
        try:
            with connect(address) as client:
                while not stop.is_set():
                    self.step(client)
        except grpc.RpcError:
            pass
        except BaseException as error:
            self.failure = error

    def step(self, client: V3) -> None:
        self.count += 1
        count = self.count
        key = self.prefix + b"%d" % (count % 7)
        value: bytes | None = b"%d" % count
        twin = self.prefix + b"twin"
        if count % 11 == 0:
            value = None
            self.maybe = {key: None}
            answer = client.delete(key).header
        elif count % 5 == 0:
            # Both keys of a txn, or none.
            self.maybe = {key: value, twin: value}
            ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=one, value=value)) for one in (key, twin)]
            answer = client.txn(rpc.TxnRequest(success=ops)).header
        else:
            self.maybe = {key: value}
            answer = client.put(key, value or b"").header
        assert answer.revision >= self.seen_revision
        self.seen_revision = answer.revision
        for one, new in self.maybe.items():
            if new is None:
                self.acked.pop(one, None)
            else:
                self.acked[one] = new
        self.maybe = {}

    def check(self, client: V3) -> None:
        """All that was confirmed is there; an open request happened whole or not at all."""
        assert self.failure is None, self.failure
        found = {kv.key: kv.value for kv in client.range(self.prefix, range_end=self.prefix[:-1] + b"0").kvs}
        if found != self.acked:
            after = dict(self.acked)
            for key, value in self.maybe.items():
                if value is None:
                    after.pop(key, None)
                else:
                    after[key] = value
            assert self.maybe and found == after, f"acknowledged {self.acked}, open {self.maybe}, found {found}"
            self.acked = after
        self.maybe = {}


def trouble(address: str, stop: threading.Event, seed: int) -> None:
    """Compactions and defragmentation meanwhile, so that a kill also meets those."""
    chance = random.Random(seed)
    try:
        with connect(address) as client:
            while not stop.wait(chance.uniform(0.02, 0.2)):
                if chance.random() < 0.25:
                    client.defragment()
                else:
                    revision = client.range(b"none").header.revision
                    if revision > 20:
                        client.compact(revision - 10, physical=False)
    except grpc.RpcError:
        pass


def load_and_kill(member: Member, writers: list[Writer], seconds: float, seed: int) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(member.address, stop), daemon=True) for writer in writers]
    threads.append(threading.Thread(target=trouble, args=(member.address, stop, seed), daemon=True))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    member.kill()
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def status_of_copy(data_dir: Path, scratch: Path) -> int:
    """The real etcdutl checks the db as the kill left it; gives the revision in it."""
    shutil.copyfile(data_dir / "member/snap/db", scratch)
    status = json.loads(etcdutl("snapshot", "status", str(scratch), "-w", "json"))
    return int(status["revision"])


@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    writers = [Writer(number) for number in range(WRITERS)]
    like: Member | None = None
    chance = random.Random(ROUNDS)
    file_revision = 0
    for turn in range(ROUNDS):
        with start(balsad(), data_dir, *FLAGS, like=like) as member:
            like = member
            with connect(member.address) as client:
                for writer in writers:
                    writer.check(client)
                revision = client.range(b"none").header.revision
                assert revision >= max(file_revision, *(writer.seen_revision for writer in writers))
            before = sum(writer.count for writer in writers)
            load_and_kill(member, writers, chance.uniform(0.1, 0.8), seed=turn)
        assert sum(writer.count for writer in writers) > before, "no load at all"
        file_revision = status_of_copy(data_dir, tmp_path / "copy.db")

    hashes: list[tuple[int, int, int]] = []
    for program in (balsad(), real(), balsad()):
        with start(program, data_dir, *FLAGS, like=like) as member, connect(member.address) as client:
            for writer in writers:
                writer.check(client)
            answer = settled_hash(client)
            hashes.append((answer.header.revision, answer.compact_revision, answer.hash))
    assert hashes[0] == hashes[1] == hashes[2]


def settled_hash(client: V3) -> rpc.HashKVResponse:
    """The hash once a compaction that the last crash interrupted is through: it stays the same for a while."""
    answer = client.hash_kv()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.5:
        time.sleep(0.1)
        again = client.hash_kv()
        if again.hash != answer.hash:
            answer, quiet_since = again, time.monotonic()
    return answer
