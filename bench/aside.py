"""Clients that run beside what is measured, each kind in a process of its own.

    python -m bench.aside puts ADDRESS CONNECTIONS STREAMS KEYS
    python -m bench.aside prober ADDRESS KEY
    python -m bench.aside idle ADDRESS CONNECTIONS

Each says `ready` once it is at work, goes on until its standard input closes, and then prints one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench.connection import Connection, LoadError, connect, connect_all, grpc_message, run_loop
from bench.contenders import ROOT
from bench.load import LoadConnection, Request, percentile, summarize
from bench.workloads import PUT, RANGE, large_key, put_request

EVERY_S: Final = 0.005
LATE_MS: Final = 50.0
PUT_BODIES: Final = 20_000


class Aside:
    """The process; `result` is there once it has ended."""

    def __init__(self, *arguments: str) -> None:
        self.result: dict[str, float] = {}
        self._what = " ".join(arguments[:2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.aside", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self._fail()

    def end(self) -> None:
        """Raises LoadError when it did not do its work to the end."""
        printed, _ = self._process.communicate(timeout=60)
        if self._process.returncode != 0:
            self._fail()
        self.result = json.loads(printed)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _fail(self) -> None:
        self._process.kill()
        said = self._process.communicate()[1].strip().splitlines()
        raise LoadError(f"{self._what}: {said[-1] if said else 'it ended'}")


@contextlib.contextmanager
def aside(*arguments: str) -> Iterator[Aside]:
    """It runs inside, and has its `result` behind."""
    one = Aside(*arguments)
    try:
        one.wait_ready()
        yield one
        one.end()
    finally:
        one.kill()


async def _input_closed() -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)


async def _put_on(address: str, connections: int, streams: int, keys: int) -> dict[str, float]:
    """Puts over keys of the large store, spread over all of it."""
    step = max(1, keys // PUT_BODIES)
    bodies = [put_request(large_key(number)) for number in range(0, keys, step)]
    request = Request(PUT, bodies)
    opened = [
        LoadConnection(request, address, streams, number * len(bodies) // connections) for number in range(connections)
    ]
    for one in opened:
        await connect(address, one)
    began = time.perf_counter()
    for one in opened:
        one.begin()
    print("ready", flush=True)
    await _input_closed()
    lasted = time.perf_counter() - began
    for one in opened:
        one.stop()
    for one in opened:
        await asyncio.wait_for(one.drained, 30)
    load = summarize(opened, lasted)
    return {"done": load.done, "per_s": load.per_second, "p99_ms": load.p99_s * 1000}


class _Probe(Connection):
    """One call at a time; notes how long each took."""

    def __init__(self, authority: str) -> None:
        super().__init__(RANGE, authority)
        self.latencies: list[float] = []
        self.failed = 0

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        self.latencies.append(now - started)
        self.failed += not is_ok

    def failed_whole(self, reason: str) -> None:
        self.failed += 1


async def _probe(address: str, key: bytes) -> dict[str, float]:
    """Asks for one key, serializable, every 5 ms, whatever is still without an answer."""
    probe = await connect(address, _Probe(address))
    message = grpc_message(rpc.RangeRequest(key=key, serializable=True).SerializeToString())
    closed = asyncio.ensure_future(_input_closed())
    gc.disable()
    print("ready", flush=True)
    due = time.perf_counter()
    while not closed.done():
        # The clock of a late answer starts when the question was due, also when this loop was late itself.
        probe.begin_call(message, time.perf_counter())
        probe.flush()
        due += EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due = max(due, time.perf_counter() - EVERY_S)
    for _ in range(1000):
        if not probe.in_flight:
            break
        await asyncio.sleep(0.01)
    if probe.failed or probe.in_flight:
        raise LoadError(f"{probe.failed} questions failed, {probe.in_flight} have no answer: {probe.failure}")
    ordered = sorted(probe.latencies)
    return {
        "asked": len(ordered),
        "p50_ms": percentile(ordered, 0.5) * 1000,
        "p99_ms": percentile(ordered, 0.99) * 1000,
        "longest_ms": ordered[-1] * 1000,
        "over_50": sum(latency * 1000 > LATE_MS for latency in ordered),
    }


async def _idle(address: str, connections: int) -> dict[str, float]:
    """Connections that have said hello and nothing since."""
    opened = [Connection(RANGE, address) for _ in range(connections)]
    await connect_all(address, opened)
    print("ready", flush=True)
    await _input_closed()
    lost = sum(one.failure is not None for one in opened)
    if lost:
        raise LoadError(f"{lost} of {connections} connections were lost")
    for one in opened:
        one.close()
    return {"connections": connections}


def main() -> int:
    what, address, *rest = sys.argv[1:]
    if what == "prober":
        # What is to be seen is how late the server is, not how late this process gets its turn.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        result = run_loop(_probe(address, rest[0].encode()))
    elif what == "idle":
        result = run_loop(_idle(address, int(rest[0])))
    else:
        connections, streams, keys = map(int, rest)
        result = run_loop(_put_on(address, connections, streams, keys))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
