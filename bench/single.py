"""One member under load: puts, ranges and transactions, by 1, 100 and 1000 clients.

Clients that share a connection are streams of it. Every cell has members of
its own with a thousand keys in them, so that no cell's figures hang on those
that were measured before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench import bars
from bench.cpu import Meter, memory_mib
from bench.figures import OTHERS, Sample, Samples
from bench.load import Load, Target
from bench.setting import Cell, Setting
from bench.workloads import (
    PUT_ONE,
    RANGE_LINEARIZABLE,
    RANGE_MANY,
    RANGE_SERIALIZABLE,
    TXN_ONE,
    Workload,
    fill,
    revision,
)

GROUP: Final = "single"
WARM_UP_S: Final = 0.3


def sample_of(load: Load, meter: Meter, pids: Sequence[int]) -> Sample:
    """What is said of a load on these servers."""
    rss, anonymous = memory_mib(pids)
    return {
        "per_s": load.per_second,
        "p50_ms": load.p50_s * 1000,
        "p99_ms": load.p99_s * 1000,
        "cpu_us": meter.servers_s / load.done * 1e6,
        "rss_mib": rss,
        "anon_mib": anonymous,
        OTHERS: meter.others,
    }


def measure(setting: Setting, workload: Workload, targets: Sequence[Target], pids: Sequence[int]) -> Sample:
    """One load on one member or cluster; raises LoadError when it did not do what it was asked."""
    address = targets[0].address
    expected_bytes = workload.probe(address)
    revision_before = revision(address)
    meter = Meter(pids)
    load = setting.generate(workload.request, targets, setting.seconds, meter)
    workload.judge(load, expected_bytes, revision(address) - revision_before)
    workload.probe(address)
    return sample_of(load, meter, pids)


def warm_up(setting: Setting, workload: Workload, targets: Sequence[Target]) -> None:
    setting.generate(workload.request, targets, WARM_UP_S, Meter([]))


def load_cell(group: str, workload: Workload, connections: int, streams: int, claims: bars.Bars) -> Cell:
    """A cell of one workload on one member."""

    def run(setting: Setting) -> Samples:
        with setting.members() as members:
            targets = {form: [Target(member.address, connections, streams)] for form, member in members.items()}
            for form, member in members.items():
                fill(member.address)
                warm_up(setting, workload, targets[form])
            return setting.in_turn(
                lambda contender: measure(
                    setting, workload, targets[contender.form], [members[contender.form].process.pid]
                )
            )

    return Cell(group, f"{workload.name}, {clients_text(connections, streams)}", claims, run)


def clients_text(connections: int, streams: int) -> str:
    clients = connections * streams
    if clients == 1:
        return "1 client"
    return f"{clients} clients on {connections} connection{'s' if connections > 1 else ''}"


def cells(is_quick: bool) -> list[Cell]:
    every = ((1, 1), (1, 100), (10, 10), (100, 1), (100, 10))
    few = ((1, 1), (10, 10), (100, 10))
    shapes = {
        PUT_ONE: every,
        RANGE_LINEARIZABLE: every,
        RANGE_SERIALIZABLE: every,
        RANGE_MANY: few,
        TXN_ONE: few,
    }
    return [
        load_cell(GROUP, workload, connections, streams, bars.single(workload.kind, connections * streams))
        for workload, pairs in shapes.items()
        for connections, streams in pairs
    ]
