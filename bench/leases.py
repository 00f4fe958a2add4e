"""Leases by the ten thousand: granted, kept alive on streams, and left to expire."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench.connection import Connection, LoadError, call, connect_all, grpc_message, run_loop
from bench.cpu import Meter
from bench.load import Load, Request, Target, percentile, send_all
from bench.workloads import RANGE, TXN

GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
LONG_TTL_S: Final = 3600
STREAMS: Final = 10
IN_FLIGHT: Final = 10
"""Keep-alives that wait for an answer on each stream."""
EXPIRY_LONGEST_S: Final = 180.0


def grant(address: str, lease_ids: Sequence[int], meter: Meter, ttl_s: int = LONG_TTL_S) -> Load:
    """Grant them, by 100 clients. Raises LoadError."""
    bodies = [rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl_s).SerializeToString() for lease_id in lease_ids]
    return send_all(Request(GRANT, bodies), Target(address, 10, 10), meter)


def attach_keys(address: str, lease_ids: Sequence[int]) -> None:
    """Put a key on each. Raises LoadError."""
    bodies = []
    for first in range(0, len(lease_ids), 100):
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"leased/%d" % lease_id, value=b"v", lease=lease_id))
            for lease_id in lease_ids[first : first + 100]
        ]
        bodies.append(rpc.TxnRequest(success=puts).SerializeToString())
    send_all(Request(TXN, bodies), Target(address, 1, 4), Meter([]))


def count_keys(address: str) -> int:
    """How many of the keys are left that `attach_keys` put. Raises LoadError."""
    question = rpc.RangeRequest(key=b"leased/", range_end=b"leased0", count_only=True).SerializeToString()
    return rpc.RangeResponse.FromString(call(address, RANGE, question)).count


def wait_expired(address: str) -> None:
    """Return when the last key is gone. Raises LoadError."""
    deadline = time.monotonic() + EXPIRY_LONGEST_S
    while left := count_keys(address):
        if time.monotonic() > deadline:
            raise LoadError(f"after {EXPIRY_LONGEST_S:g} s {left} leases have not expired")
        time.sleep(0.1)


class _KeepAlives(Connection):
    """One stream that asks for each lease in turn and always waits for `IN_FLIGHT` answers."""

    takes_data = True

    def __init__(self, authority: str, lease_ids: Sequence[int]) -> None:
        super().__init__(KEEP_ALIVE, authority)
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.expired = 0
        self._left = deque(
            grpc_message(rpc.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()) for lease_id in lease_ids
        )
        self._asked: deque[float] = deque()
        self._stream = 0
        self._partial = b""

    def begin(self) -> None:
        now = time.perf_counter()
        self._stream = self.open_stream(now)
        for _ in range(IN_FLIGHT):
            self._ask(now)
        self.flush()

    def _ask(self, now: float) -> None:
        if self._left:
            self.send_on(self._stream, self._left.popleft())
            self._asked.append(now)

    def received(self, stream: int, data: bytes) -> None:
        now = time.perf_counter()
        data = self._partial + data
        pos = 0
        while len(data) - pos >= 5:
            end = pos + 5 + int.from_bytes(data[pos + 1 : pos + 5], "big")
            if end > len(data):
                break
            # An expired lease is answered, too: with a TTL of 0.
            self.expired += rpc.LeaseKeepAliveResponse.FromString(data[pos + 5 : end]).TTL <= 0
            pos = end
            self.latencies.append(now - self._asked.popleft())
            self._ask(now)
        self._partial = data[pos:]
        if not self._asked and not self.done.done():
            self.done.set_result(None)

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.failed_whole("the stream ended")

    def failed_whole(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(f"keep-alive: {reason} {self.failure or ''}"))


async def _keep_alive(address: str, lease_ids: Sequence[int], meter: Meter) -> Load:
    opened = [_KeepAlives(address, lease_ids[number::STREAMS]) for number in range(STREAMS)]
    try:
        await connect_all(address, opened)
        with meter:
            began = time.perf_counter()
            for one in opened:
                one.begin()
            for one in opened:
                await one.done
            lasted = time.perf_counter() - began
    finally:
        for one in opened:
            one.close()
    latencies = sorted(latency for one in opened for latency in one.latencies)
    return Load(
        done=len(latencies),
        failed=sum(one.expired for one in opened),
        seconds=lasted,
        p50_s=percentile(latencies, 0.5),
        p99_s=percentile(latencies, 0.99),
        answer_bytes=sum(one.data_bytes for one in opened) / max(1, len(latencies)),
    )


def keep_alive(address: str, lease_ids: Sequence[int], meter: Meter) -> Load:
    """Renew each once, on streams of their own connections. Raises LoadError."""
    load = run_loop(_keep_alive(address, lease_ids, meter))
    if load.failed:
        raise LoadError(f"{load.failed} of {load.done} leases had expired")
    return load
