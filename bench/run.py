"""Measure balsad and the real etcd 3.5.1 side by side: `python -m bench.run --help`.

Both run at once on data dirs of their own, and are loaded in turn: ours,
theirs, theirs, ours, ... so that what else the machine does hits both. A ratio
above 1 means that balsad did more calls in a second. Ratios move by a fifth
and more between runs of one and the same server: look at their range, at the
CPU time per call, and at how busy others kept the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import h2load, load
from bench.cpu import cpu_seconds, machine_busy_seconds
from bench.load import Load, LoadError
from bench.workloads import Workload, fill, revision, workloads
from tests.interop.servers import Member, Program, balsad, real, start

Generate = Callable[..., Load]

FLAGS = ("--heartbeat-interval=100", "--election-timeout=1000", "--log-level=warn")


@dataclass(frozen=True, slots=True)
class Sample:
    """One load on one server."""

    load: Load
    cpu_us: float
    """CPU microseconds of the server for each call."""
    others: float
    """Cores that neither the server nor the load used, on average."""


def measure(member: Member, workload: Workload, generate: Generate, seconds: float) -> Sample:
    """Load the server once; raises LoadError when it did not do what it was asked."""
    revision_before = revision(member.address)
    cpu, busy, own = cpu_seconds(member.process.pid), machine_busy_seconds(), own_cpu_seconds()
    found: Load = generate(
        member.address,
        workload.request,
        connections=workload.connections,
        streams=workload.streams,
        seconds=seconds,
    )
    cpu, busy, own = (
        cpu_seconds(member.process.pid) - cpu,
        machine_busy_seconds() - busy,
        own_cpu_seconds() - own,
    )
    if found.failed or not found.done:
        raise LoadError(f"{workload.name}: {found.done} done, {found.failed} failed")
    written = revision(member.address) - revision_before
    if written < found.done * workload.writes or (written and not workload.writes):
        raise LoadError(f"{workload.name}: {found.done} calls made {written} revisions")
    workload.probe(member.address)
    return Sample(load=found, cpu_us=cpu / found.done * 1e6, others=max(busy - cpu - own, 0) / found.seconds)


def own_cpu_seconds() -> float:
    """CPU time of this process and of the load generators that it ran."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def median(values: list[float]) -> float:
    return statistics.median(values)


COLUMNS: list[tuple[str, Callable[[Sample], float], int]] = [
    ("per_s", lambda sample: sample.load.per_second, 0),
    ("p50_ms", lambda sample: sample.load.p50_s * 1000, 3),
    ("p99_ms", lambda sample: sample.load.p99_s * 1000, 3),
    ("cpu_us", lambda sample: sample.cpu_us, 1),
]
"""What a row says of each server: name, value of one sample, digits."""


def row(name: str, ours: list[Sample], theirs: list[Sample]) -> dict[str, object]:
    """What is said of a workload: medians of all runs, and the ratio of each pair."""
    ratios = [mine.load.per_second / its.load.per_second for mine, its in zip(ours, theirs, strict=True)]
    return {
        "workload": name,
        "ratio": round(median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        **{
            f"{who}_{what}": round(median([value(sample) for sample in samples]), digits)
            for who, samples in (("ours", ours), ("theirs", theirs))
            for what, value, digits in COLUMNS
        },
        "others": round(max(sample.others for sample in ours + theirs), 2),
    }


HEADING = (
    f"{'workload':32} {'ours/s':>8} {'etcd/s':>8} {'ratio':>6} {'(range)':13}"
    f" {'p50 ms':>13} {'p99 ms':>15} {'CPU us/call':>15} {'others':>6}"
)


def line(found: dict[str, object]) -> str:
    ratios = found["ratios"]
    assert isinstance(ratios, list)
    spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
    return (
        f"{found['workload']:32} {found['ours_per_s']:8.0f} {found['theirs_per_s']:8.0f}"
        f" {found['ratio']:6.2f} {spread:13}"
        f" {found['ours_p50_ms']:6.2f}/{found['theirs_p50_ms']:6.2f}"
        f" {found['ours_p99_ms']:7.2f}/{found['theirs_p99_ms']:7.2f}"
        f" {found['ours_cpu_us']:7.1f}/{found['theirs_cpu_us']:7.1f}"
        f" {found['others']:6.2f}"
    )


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short pair: shows that it works, proves nothing")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each server for each workload")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long a run takes")
    parser.add_argument("--only", default="", help="workloads whose name contains this text")
    parser.add_argument("--generator", choices=("auto", "h2load", "own"), default="auto")
    parser.add_argument("--ours", default="", help="command of the server in our place")
    parser.add_argument("--theirs", default="", help="command of the server in etcd's place")
    parser.add_argument("--dir", default=None, help="where the data dirs go; it should be on a disk, not in memory")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)
    if options.quick:
        options.pairs, options.seconds = 1, 1.0
    return options


def run(options: argparse.Namespace) -> None:
    uses_h2load = options.generator == "h2load" or (options.generator == "auto" and h2load.is_installed())
    generate: Generate = h2load.generate if uses_h2load else load.generate
    ours = Program("ours", tuple(options.ours.split())) if options.ours else balsad()
    theirs = Program("theirs", tuple(options.theirs.split())) if options.theirs else real()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir)))
        members = [
            stack.enter_context(start(program, folder / name, *FLAGS))
            for program, name in ((ours, "ours"), (theirs, "theirs"))
        ]
        for member in members:
            fill(member.address)
        if not options.json:
            print(
                f"load by {'h2load' if uses_h2load else 'bench.load'}, {options.pairs} pairs of {options.seconds:g} s"
            )
            print(HEADING, flush=True)
        for workload in workloads():
            if options.only not in workload.name:
                continue
            samples: tuple[list[Sample], list[Sample]] = ([], [])
            for pair in range(options.pairs):
                for which in (0, 1) if pair % 2 == 0 else (1, 0):
                    samples[which].append(measure(members[which], workload, generate, options.seconds))
            found = row(workload.name, *samples)
            print(json.dumps(found) if options.json else line(found), flush=True)


def main() -> int:
    try:
        run(parse_arguments(sys.argv[1:]))
    except (LoadError, pytest.skip.Exception, pytest.fail.Exception) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
