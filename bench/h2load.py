"""Load by nghttp2's h2load: written in C, so that little of the machine goes into asking.

It does not look at grpc-status: a call that fails has no message, which
`Load.answer_bytes` shows. One h2load repeats one request; for a target of
several connections a few of them share these, each with a body of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.connection import LoadError, grpc_message
from bench.cpu import Meter
from bench.load import Load, Request, Target, percentile

PROCESSES = 4
"""So many for a target at most, and so many different keys."""


def is_installed() -> bool:
    return shutil.which("h2load") is not None


def _shares(targets: Sequence[Target], processes: int) -> list[Target]:
    """The targets, each cut into so many of nearly equal size (fewer where there are fewer connections)."""
    shares = []
    for target in targets:
        parts = min(processes, target.connections)
        for part in range(parts):
            count = target.connections * (part + 1) // parts - target.connections * part // parts
            shares.append(Target(target.address, count, target.streams))
    return shares


def generate(
    request: Request, targets: Sequence[Target], seconds: float, meter: Meter, processes: int = PROCESSES
) -> Load:
    """The same as `bench.load.generate`, with few of the bodies. Raises LoadError."""
    shares = _shares(targets, processes)
    with meter, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = [_start(request, share, seconds, folder / str(number), number) for number, share in enumerate(shares)]
        outputs = []
        try:
            for process in started:
                outputs.append(process.communicate(timeout=seconds * 4 + 60)[0])
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"h2load does not end: {error}") from error
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        loads = [_read(output) for output in outputs]
        latencies = sorted(
            int(line.rpartition("\t")[2]) / 1e6
            for number in range(len(shares))
            for line in (folder / str(number) / "log").read_text().splitlines()
        )
    done = sum(load.done for load in loads)
    return Load(
        done=done,
        failed=sum(load.failed for load in loads),
        seconds=max(load.seconds for load in loads),
        p50_s=percentile(latencies, 0.5),
        p99_s=percentile(latencies, 0.99),
        answer_bytes=sum(load.answer_bytes for load in loads) / max(1, done),
    )


def _start(request: Request, target: Target, seconds: float, folder: Path, number: int) -> subprocess.Popen[str]:
    folder.mkdir()
    body = folder / "body"
    body.write_bytes(grpc_message(request.bodies[number * 97 % len(request.bodies)]))
    return subprocess.Popen(
        [
            "h2load",
            f"--clients={target.connections}",
            f"--max-concurrent-streams={target.streams}",
            "--threads=1",
            f"--duration={round(seconds * 1000)}ms",
            f"--data={body}",
            "--header=content-type: application/grpc",
            "--header=te: trailers",
            f"--log-file={folder / 'log'}",
            f"http://{target.address}{request.path}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _read(output: str) -> Load:
    """What one h2load says, but for the latencies; `answer_bytes` is the sum here."""
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", output)
    data = re.search(r"\((\d+)\) data", output)
    if counts is None or finished is None or data is None:
        raise LoadError(f"h2load: {output[-500:]}")
    return Load(
        done=int(counts[2]),
        failed=int(counts[3]) + int(counts[4]) + int(counts[5]),
        seconds=float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[finished[2]],
        p50_s=0.0,
        p99_s=0.0,
        answer_bytes=float(data[1]),
    )
