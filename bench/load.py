"""A load generator of our own: every connection keeps a number of calls in flight, bodies are sent in turn.

Requests of one workload differ in their body alone and are made before the
clock starts. `bench.h2load` is the other generator: it takes less of the
machine, this one goes through many keys and looks at every grpc-status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.connection import Connection, LoadError, connect_all, grpc_message, run_loop
from bench.cpu import Meter


@dataclass(frozen=True, slots=True)
class Request:
    """A unary call: `path` is /package.Service/Method; the bodies are sent in turn."""

    path: str
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """A member and how much of a load it gets: `connections` with `streams` calls in flight on each."""

    address: str
    connections: int
    streams: int


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured; latencies in seconds, `answer_bytes` as they came in DATA frames for each call."""

    done: int
    failed: int
    seconds: float
    p50_s: float
    p99_s: float
    answer_bytes: float

    @property
    def per_second(self) -> float:
        return self.done / self.seconds


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class LoadConnection(Connection):
    """Keeps `streams` calls in flight until told to stop, or until `calls` were made."""

    def __init__(
        self, request: Request, authority: str, streams: int, first_body: int, calls: int | None = None
    ) -> None:
        super().__init__(request.path, authority)
        self.latencies: list[float] = []
        self.failed = 0
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._streams = streams
        self._bodies = request.bodies
        self._next_body = first_body % len(request.bodies)
        self._calls_left = calls if calls is not None else 1 << 62
        self._running = False

    def begin(self) -> None:
        self._running = True
        now = time.perf_counter()
        for _ in range(self._streams):
            self._begin_next(now)
        self.flush()
        self._check_drained()

    def stop(self) -> None:
        """Start no more calls; `drained` is done once the open ones are."""
        self._running = False
        self._check_drained()

    def _begin_next(self, now: float) -> None:
        if self._calls_left:
            self._calls_left -= 1
            at = self._next_body
            self._next_body = at + 1 if at + 1 < len(self._bodies) else 0
            self.begin_call(grpc_message(self._bodies[at]), now)

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        if not is_ok:
            self.failed += 1
        elif self._running:
            self.latencies.append(now - started)
        if self._running:
            self._begin_next(now)
        self._check_drained()

    def _check_drained(self) -> None:
        if not self.in_flight and not (self._running and self._calls_left) and not self.drained.done():
            self.drained.set_result(None)

    def failed_whole(self, reason: str) -> None:
        if not self.drained.done():
            self.drained.set_exception(LoadError(reason))


def summarize(opened: Sequence[LoadConnection], seconds: float) -> Load:
    """Raises LoadError when calls failed."""
    failed = sum(one.failed for one in opened)
    if failed:
        raise LoadError(f"{failed} calls failed: {next((one.failure for one in opened if one.failure), None)}")
    latencies = sorted(latency for one in opened for latency in one.latencies)
    return Load(
        done=len(latencies),
        failed=failed,
        seconds=seconds,
        p50_s=percentile(latencies, 0.5),
        p99_s=percentile(latencies, 0.99),
        answer_bytes=sum(one.data_bytes for one in opened) / max(1, len(latencies)),
    )


def _sharing(request: Request, target: Target, number: int) -> LoadConnection:
    """The connection that sends this share of the bodies."""
    size = len(request.bodies)
    first, end = size * number // target.connections, size * (number + 1) // target.connections
    return LoadConnection(request, target.address, target.streams, first, end - first)


async def _drive(request: Request, targets: Sequence[Target], seconds: float | None, meter: Meter) -> Load:
    opened: list[LoadConnection] = []
    try:
        for target in targets:
            for number in range(target.connections):
                if seconds is not None:
                    one = LoadConnection(request, target.address, target.streams, len(opened) * 97)
                else:
                    one = _sharing(request, target, number)
                opened.append(one)
            await connect_all(target.address, opened[-target.connections :])
        with meter:
            began = time.perf_counter()
            for one in opened:
                one.begin()
            if seconds is None:
                for one in opened:
                    await one.drained
            else:
                await asyncio.sleep(seconds)
                for one in opened:
                    one.stop()
            lasted = time.perf_counter() - began
            for one in opened:
                await asyncio.wait_for(one.drained, 60)
    except (OSError, TimeoutError) as error:
        raise LoadError(f"{request.path}: {error or type(error).__name__}") from error
    finally:
        for one in opened:
            one.close()
    return summarize(opened, lasted)


def generate(request: Request, targets: Sequence[Target], seconds: float, meter: Meter) -> Load:
    """Keep the targets' calls in flight for so long, `meter` being open meanwhile. Raises LoadError."""
    return run_loop(_drive(request, targets, seconds, meter))


def send_all(request: Request, target: Target, meter: Meter) -> Load:
    """Send each body once. Raises LoadError."""
    return run_loop(_drive(request, [target], None, meter))
