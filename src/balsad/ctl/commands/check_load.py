"""Writing under load, for `check perf` and `check datascale`: many clients, one rate, every answer timed.

Source: etcdctl check.go, pkg/report/report.go.
"""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from typing import Any

from balsad.client.client import Client
from balsad.client.kv import put_request
from balsad.client.loops import SmallLoop, sleep
from balsad.ctl.console import EXIT_BAD_FEATURE, EXIT_ERROR, EXIT_INVALID_INPUT, Console, Failure
from balsad.ctl.context import Context
from balsad.durations import SECOND, format_duration
from balsad.go_quote import quote_go

_MODELS = {"small": "s", "medium": "m", "large": "l", "xLarge": "xl"}
_TICK_S = 0.005
_BAR_WIDTH = 80
_BAR_TICK_S = 0.2


def load_model(name: str) -> str:
    """s, m, l or xl."""
    model = _MODELS.get(name, name)
    if model not in _MODELS.values():
        raise Failure(EXIT_BAD_FEATURE, f"unknown load option {name}")
    return model


class Results:
    """What the answers took, in seconds, and what went wrong."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    @property
    def slowest(self) -> float:
        return max(self.latencies, default=0.0)

    @property
    def stddev(self) -> float:
        if not self.latencies:
            return 0.0
        mean = sum(self.latencies) / len(self.latencies)
        return math.sqrt(sum((one - mean) ** 2 for one in self.latencies) / len(self.latencies))


class Load:
    """Clients that put random keys under a prefix."""

    def __init__(
        self, loop: SmallLoop, clients: list[Client], prefix: bytes, *, key_size: int, value_size: int
    ) -> None:
        self.results = Results()
        self.stopped = False
        self._loop = loop
        self._clients = clients
        self._prefix = prefix
        self._padding = bytes(key_size)
        self._value = bytes(value_size)
        self._queue: deque[bytes] = deque()
        self._idle: deque[Any] = deque()
        self._ended = False

    async def run(self, *, rate: float = 0.0, seconds: float = 0.0, count: int = 0, bar: Bar | None = None) -> None:
        """Put `rate` keys a second for so many seconds, or `count` keys as fast as it goes."""
        began = self._loop.time()
        workers = [self._loop.create_task(self._work(client, bar if count else None)) for client in self._clients]
        sent = 0
        while not self.stopped:
            elapsed = self._loop.time() - began
            if seconds and elapsed >= seconds:
                break
            due = int(elapsed * rate) + 1 if rate else count
            while sent < due and len(self._queue) < len(self._clients):
                self._offer(os.urandom(8) + self._padding[8:])
                sent += 1
            if count and sent >= count:
                break
            if bar is not None and seconds:
                bar.show(int(elapsed))
            await sleep(self._loop, _TICK_S)
        self._ended = True
        while self._idle:
            self._idle.popleft().set_result(None)
        for worker in workers:
            await worker
        self.results.seconds = self._loop.time() - began

    def _offer(self, key: bytes) -> None:
        self._queue.append(self._prefix + key)
        if self._idle:
            self._idle.popleft().set_result(None)

    async def _work(self, client: Client, bar: Bar | None) -> None:
        from balsad.errors import RequestError

        while True:
            while not self._queue:
                if self._ended:
                    return
                waiter = self._loop.create_future()
                self._idle.append(waiter)
                await waiter
            key = self._queue.popleft()
            began = self._loop.time()
            try:
                await client.kv.do(put_request(key, self._value))
            except RequestError as error:
                self.results.errors[str(error)] += 1
            else:
                self.results.latencies.append(self._loop.time() - began)
            if bar is not None:
                bar.show(len(self.results.latencies))


class Bar:
    """A line that counts up, on a terminal with a bar: ` 12 / 60 Booooo      !  20.00% 00m48s`."""

    def __init__(self, context: Context, total: int) -> None:
        self._console: Console = context.console
        self._loop = context.loop
        self._total = total
        self._began = context.loop.time()
        self._shown_at = -1.0
        self._width = _BAR_WIDTH if os.isatty(1) else 0

    def show(self, value: int, *, last: bool = False) -> None:
        """Draw it, at most five times a second."""
        now = self._loop.time()
        if not last and now - self._shown_at < _BAR_TICK_S:
            return
        self._shown_at = now
        left = f" {value} / {self._total} "
        share = value / self._total
        right = f" {share * 100:6.2f}%"
        elapsed = now - self._began
        if last:
            right += f" {format_duration(round(elapsed) * SECOND)}"
        elif value:
            minutes, seconds = divmod(int(elapsed / share - elapsed), 60)
            right += f" {minutes:02d}m{seconds:02d}s"
        width = self._width - len(left) - len(right) - 2
        if width > 0:
            full = int(width * share)
            left += "B" + ("o" * full + ("m" if full < width else "")).ljust(width)[:width] + "!"
        self._console.write(f"\r{left}{right}".encode() + (b"\n" if last else b""))
        self._console.flush()


def connected_clients(context: Context, count: int) -> list[Client]:
    """So many clients as the flags describe them."""
    settings = context.settings()
    return [context.connect(settings) for _ in range(count)]


def check_empty(context: Context, client: Client, prefix: bytes, text: str) -> None:
    """Refuse to write where somebody else's keys are."""
    response = context.call(client.kv.get(prefix, prefix=True, limit=1))
    if response.kvs:
        name = context.flags.text("prefix")
        raise Failure(EXIT_INVALID_INPUT, text.replace("PREFIX", quote_go(name), 1).replace("PREFIX", name))


def compact(context: Context, client: Client, revision: int) -> None:
    context.console.print(f"Compacting with revision {revision}")
    context.call(client.kv.compact(revision, physical=True, timeout=30.0))
    context.console.print(f"Compacted with revision {revision}")


def defragment_all(context: Context, client: Client) -> None:
    for endpoint in client.endpoints:
        context.console.print(f"Defragmenting {quote_go(endpoint)}")
        context.call(client.only(endpoint).maintenance.defragment(timeout=30.0), status=EXIT_ERROR)
        context.console.print(f"Defragmented {quote_go(endpoint)}")


def print_errors(context: Context, results: Results) -> None:
    context.console.print("FAIL: too many errors")
    for text, count in results.errors.items():
        context.console.print(f"FAIL: ERROR({text}) -> {count}")
