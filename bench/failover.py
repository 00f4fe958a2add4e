"""How long nobody can put when a leader is killed.

Both others are asked for a new put every few milliseconds, each on its own
connection and however many still wait for an answer: a put that was handed to
the dead leader is lost, and waits until the server gives it up.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.connection import Connection, LoadError, connect, grpc_message, run_loop
from bench.cpu import Meter
from bench.figures import OTHERS, Sample
from bench.workloads import PUT, put_request
from tests.interop.clusters import Cluster

EVERY_S: Final = 0.005
BEFORE_S: Final = 1.0
AFTER_S: Final = 1.0
NOTICED_S: Final = 0.1
"""A shorter time without an answer is not the leader's absence."""
LONGEST_S: Final = 20.0


@dataclass(slots=True)
class _Puts:
    """When puts succeeded, by perf_counter."""

    successes: list[float] = field(default_factory=list)
    failed: int = 0


class _Putter(Connection):
    def __init__(self, authority: str, puts: _Puts) -> None:
        super().__init__(PUT, authority)
        self._puts = puts

    def ended(self, stream: int, is_ok: bool, started: float, now: float) -> None:
        if is_ok:
            self._puts.successes.append(now)
        else:
            self._puts.failed += 1


async def _kill_under_puts(one: Cluster, leader: str) -> float:
    """The pause, in seconds."""
    puts = _Puts()
    putters = {member.address: _Putter(member.address, puts) for name, member in one.members.items() if name != leader}
    message = grpc_message(put_request(b"while the leader dies"))
    killed_at = 0.0
    try:
        for address, putter in putters.items():
            await connect(address, putter)
        began = time.perf_counter()
        while True:
            now = time.perf_counter()
            for putter in putters.values():
                putter.begin_call(message, now)
                putter.flush()
            if not killed_at and now - began >= BEFORE_S:
                if not puts.successes:
                    raise LoadError("no put succeeded before the leader was killed")
                one.members[leader].kill()
                killed_at = time.perf_counter()
            if killed_at:
                pause = longest_pause(killed_at, puts.successes)
                if pause >= NOTICED_S and puts.successes[-1] - killed_at >= pause + AFTER_S:
                    return pause
                if now - killed_at > LONGEST_S:
                    raise LoadError(f"puts do not go on after the leader was killed {LONGEST_S:g} s ago")
            await asyncio.sleep(EVERY_S)
    finally:
        for putter in putters.values():
            putter.close()


def longest_pause(killed_at: float, successes: Sequence[float]) -> float:
    """The longest time without a success from the kill to the last of them. Both in seconds of one clock, in order.

    What was committed before is answered a little after, so the pause need not begin with the kill.
    """
    times = [killed_at, *(at for at in successes if at > killed_at)]
    return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


def measure(one: Cluster) -> Sample:
    """Kill the leader, wait for the next one's answers, and bring the dead one back."""
    leader = one.leader()
    program = one.members[leader].program
    pids = [member.process.pid for name, member in one.members.items() if name != leader]
    with Meter(pids) as meter:
        pause = run_loop(_kill_under_puts(one, leader))
    one.start(leader, program)
    one.wait_healthy()
    return {"pause_s": pause, OTHERS: meter.others}
