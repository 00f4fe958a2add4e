"""Clients that push more than a member can pass on are turned away with etcd's words, and its memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from balsad.errors import RequestTimedOutError, TooManyRequestsError
from balsad.proto import rpc_pb2
from balsad.server.driver import INBOX_BYTES_MAX
from bench.connection import Connection, call, connect, grpc_message, run_loop
from bench.workloads import PUT, TXN, put_request, puts_request
from tests.interop.clusters import cluster
from tests.interop.servers import Member, balsad, real, start
from tests.interop.v3 import connect as connect_v3

CONNECTIONS = 16
VALUE_BYTES = 1_400_000
CALLS = int(INBOX_BYTES_MAX * 2.2 / VALUE_BYTES / CONNECTIONS)
MEMORY_MIB_MAX = 900
"""What waits is there as a request and as an entry: about 600. All that is pushed would be half as much again."""


class Pusher(Connection):
    """Counts how its calls end; a repeated end, being a number in a header table, not always."""

    def __init__(self, authority: str, ends: Counter[str]) -> None:
        super().__init__(PUT, authority)
        self._ends = ends
        self.left = CALLS

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.left -= 1

    def failed_whole(self, reason: str) -> None:
        self.left = 0
        self._ends[f"connection: {reason}"] += 1

    def _judge(self, block: bytes) -> bool:
        for error in (TooManyRequestsError, RequestTimedOutError):
            if error().text.encode() in block:
                self._ends[error().text] += 1
        return super()._judge(block)


def resident_mib(member: Member) -> int:
    lines = Path(f"/proc/{member.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) >> 10


def put_by_gateway(member: Member) -> tuple[int, Any]:
    request = urllib.request.Request(f"{member.client_url}/v3/kv/put", b'{"key": "aw==", "value": "dg=="}')
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def push(member: Member) -> tuple[Counter[str], int, tuple[int, Any]]:
    """How the calls ended, the most memory the member had, in MiB, and what its gateway said when it was full."""
    ends: Counter[str] = Counter()
    pushers = [await connect(member.address, Pusher(member.address, ends)) for _ in range(CONNECTIONS)]
    message = grpc_message(put_request(b"k", b"v" * VALUE_BYTES))
    for pusher in pushers:
        for _ in range(CALLS):
            pusher.begin_call(message, 0.0)
        pusher.flush()
    most = 0
    gateway: tuple[int, Any] = (0, None)
    deadline = time.monotonic() + 60.0
    while any(pusher.left for pusher in pushers):
        assert time.monotonic() < deadline, f"calls without an end: {ends}"
        most = max(most, resident_mib(member))
        if ends and gateway[0] == 0:
            gateway = await asyncio.to_thread(put_by_gateway, member)
        await asyncio.sleep(0.05)
    for pusher in pushers:
        pusher.close()
    return ends, most, gateway


@pytest.mark.timeout(150)
def test_who_is_cut_off_from_the_quorum_turns_clients_away_before_its_memory_is_full(tmp_path: Path) -> None:
    """etcd lets all of it wait: with a few times as much it takes gigabytes."""
    with cluster(tmp_path, dict.fromkeys(("m0", "m1", "m2"), balsad())) as one:
        alone = one.members["m0"]
        one.make_leader("m1")
        others = [one.members["m1"].process.pid, one.members["m2"].process.pid]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        with connect_v3(alone.address) as v3:
            one.until("nobody leads", lambda: v3.status().leader == 0)

        ends, most, gateway = run_loop(push(alone))

        assert set(ends) == {TooManyRequestsError().text, RequestTimedOutError().text}
        assert most < MEMORY_MIB_MAX
        refusal = TooManyRequestsError()
        assert (gateway[0], gateway[1]["code"], gateway[1]["message"]) == (500, refusal.code, refusal.text)
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        one.until("it serves again", lambda: one.ctl("put", "k", "v", at="m0").strip() == "OK")
        one.assert_equal()


KEYS = 60_000
SLOW_TXNS = 12
UNAPPLIED = 8000


def slow_txn() -> bytes:
    """It counts all keys a hundred times, which takes etcd a while, and writes, so that it goes through the log."""
    count = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k", range_end=b"l", count_only=True))
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"slow", value=b"v"))
    return rpc_pb2.TxnRequest(success=[put, *[count] * 100]).SerializeToString()


class Silent(Connection):
    """How its calls end is of no interest."""

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        pass

    def failed_whole(self, reason: str) -> None:
        pass


async def fall_behind(member: Member) -> tuple[grpc.RpcError, tuple[int, Any]]:
    """Have it commit more than it can apply; what it says then to a put, and to one by the gateway."""
    slow = await connect(member.address, Silent(TXN, member.address))
    quick = [await connect(member.address, Silent(PUT, member.address)) for _ in range(20)]
    for _ in range(SLOW_TXNS):
        slow.begin_call(grpc_message(slow_txn()), 0.0)
    slow.flush()
    await asyncio.sleep(0.2)
    for pusher in quick:
        for _ in range(UNAPPLIED // len(quick)):
            pusher.begin_call(grpc_message(put_request(b"q")), 0.0)
        pusher.flush()
    try:
        for _ in range(40):
            await asyncio.sleep(0.1)
            with connect_v3(member.address) as v3:
                try:
                    await asyncio.to_thread(v3.call, "KV/Put", rpc_pb2.PutRequest(key=b"q"), rpc_pb2.PutResponse, 0.1)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        return error, await asyncio.to_thread(put_by_gateway, member)
    finally:
        for pusher in (slow, *quick):
            pusher.close()
    pytest.fail("it was never behind")


@pytest.mark.timeout(120)
def test_the_words_are_those_of_etcd_that_is_behind_with_applying(tmp_path: Path) -> None:
    with start(real(), tmp_path / "real") as member:
        for first in range(0, KEYS, 100):
            puts = puts_request([b"k%07d" % number for number in range(first, first + 100)])
            call(member.address, TXN, puts)

        error, (status, body) = run_loop(fall_behind(member))

        ours = TooManyRequestsError()
        assert (error.code().value[0], error.details()) == (ours.code, ours.text)
        assert (status, body["code"], body["message"]) == (500, ours.code, ours.text)
        member.kill()
