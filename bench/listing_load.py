"""A prefix of very many keys, listed a page at a time, as Kubernetes does it: every page tells how many keys are left.

Pages after the first are asked at the revision of the first and begin behind
the last key of the one before, so that all of them are one listing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench import bars
from bench.connection import GRPC_PREFIX, Connection, LoadError, connect, grpc_message, run_loop
from bench.cpu import Meter
from bench.figures import Bar, Sample, Samples
from bench.load import Load, Request, Target, percentile, send_all
from bench.setting import Cell, Setting
from bench.single import sample_of
from bench.workloads import RANGE, TXN, puts_request
from tests.interop.servers import Member

GROUP: Final = "listing"
LIMIT: Final = 500
PREFIX: Final = b"listed/"
PREFIX_END: Final = b"listed0"
LISTINGS: Final = 3
"""In each round."""


def listed_key(number: int) -> bytes:
    return b"%b%08d" % (PREFIX, number)


def fill(address: str, keys: int) -> None:
    """Raises LoadError."""
    bodies = [
        puts_request([listed_key(number) for number in range(first, min(first + 100, keys))])
        for first in range(0, keys, 100)
    ]
    send_all(Request(TXN, bodies), Target(address, 1, 4), Meter([]))


class _Listing(Connection):
    """Asks for page after page, as often as is wanted, and looks at every answer."""

    takes_data = True

    def __init__(self, authority: str, keys: int, listings: int) -> None:
        super().__init__(RANGE, authority)
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keys = keys
        self._left = listings
        self._listed = 0
        self._revision = 0
        self._next = PREFIX
        self._parts: list[bytes] = []

    def ask(self, now: float) -> None:
        request = rpc.RangeRequest(key=self._next, range_end=PREFIX_END, limit=LIMIT, revision=self._revision)
        self.begin_call(grpc_message(request.SerializeToString()), now)
        self.flush()

    def received(self, stream: int, data: bytes) -> None:
        self._parts.append(data)

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.latencies.append(now - started)
        answer = rpc.RangeResponse.FromString(b"".join(self._parts)[GRPC_PREFIX:])
        self._parts = []
        left = self._keys - self._listed
        wanted = min(LIMIT, left)
        if not is_ok or answer.count != left or len(answer.kvs) != wanted or answer.more != (left > wanted):
            self.failed_whole(f"a wrong page behind {self._listed} keys: {answer.count}, {len(answer.kvs)}")
            return
        if answer.kvs[-1].key != listed_key(self._listed + wanted - 1):
            self.failed_whole(f"a wrong key: {answer.kvs[-1].key!r}")
            return
        self._listed += wanted
        self._revision = self._revision or answer.header.revision
        self._next = answer.kvs[-1].key + b"\0"
        if not answer.more:
            self._left -= 1
            self._listed, self._revision, self._next = 0, 0, PREFIX
        if self._left:
            self.ask(time.perf_counter())
        elif not self.done.done():
            self.done.set_result(None)

    def failed_whole(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(f"listing: {reason} {self.failure or ''}"))


async def _drive(address: str, keys: int, listings: int, meter: Meter) -> Load:
    one = _Listing(address, keys, listings)
    try:
        await connect(address, one)
        with meter:
            began = time.perf_counter()
            one.ask(began)
            await one.done
            lasted = time.perf_counter() - began
    finally:
        one.close()
    ordered = sorted(one.latencies)
    return Load(
        done=len(ordered),
        failed=0,
        seconds=lasted,
        p50_s=percentile(ordered, 0.5),
        p99_s=percentile(ordered, 0.99),
        answer_bytes=one.data_bytes / len(ordered),
    )


def listed(address: str, keys: int, listings: int, meter: Meter) -> Load:
    """List all keys so many times; a call is a page. Raises LoadError."""
    return run_loop(_drive(address, keys, listings, meter))


def _cell(keys: int) -> Cell:
    def measure_one(member: Member) -> Sample:
        pids = [member.process.pid]
        meter = Meter(pids)
        load = listed(member.address, keys, LISTINGS, meter)
        return {**sample_of(load, meter, pids), "seconds": load.seconds / LISTINGS}

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            for form, member in members.items():
                setting.progress.say(f"{keys} keys, {form}")
                fill(member.address, keys)
                listed(member.address, keys, 1, Meter([]))
            return setting.in_turn(lambda contender: measure_one(members[contender.form]))

    # A page of 500 keys counts all that are left at etcd; ours must not.
    claims = bars.both(Bar("per_s", at_least=10.0), bars.P99_NO_WORSE)
    return Cell(GROUP, f"listing of {keys} keys in pages of {LIMIT}, 1 client", claims, run)


def cells(is_quick: bool) -> list[Cell]:
    return [_cell(10_000 if is_quick else 100_000)]
