"""Load by nghttp2's h2load: written in C, so that little of the machine goes into asking.

It does not look at grpc-status; whoever uses it checks by other means that the
calls did what they should. It repeats one request, where `bench.load` goes
through a thousand keys.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.load import Load, LoadError, Request, grpc_message, percentile


def is_installed() -> bool:
    return shutil.which("h2load") is not None


def generate(address: str, request: Request, *, connections: int, streams: int, seconds: float) -> Load:
    """The same as `bench.load.generate`, with the first of the bodies alone. Raises LoadError."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(grpc_message(request.bodies[0]))
        done = subprocess.run(
            [
                "h2load",
                f"--clients={connections}",
                f"--max-concurrent-streams={streams}",
                "--threads=1",
                f"--duration={seconds:g}",
                f"--data={body}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"--log-file={log}",
                f"http://{address}{request.path}",
            ],
            capture_output=True,
            text=True,
            timeout=seconds * 4 + 60,
            check=False,
        )
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
        if done.returncode != 0 or counts is None:
            raise LoadError(f"h2load: {done.stdout[-500:]}{done.stderr[-500:]}")
        finished = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
        if finished is None:
            raise LoadError(f"h2load: {done.stdout[-500:]}")
        lasted = float(finished[1]) * (0.001 if finished[2] == "ms" else 1)
        latencies = sorted(int(line.split("\t")[2]) / 1e6 for line in log.read_text().splitlines())
    return Load(
        done=int(counts[2]),
        failed=int(counts[3]) + int(counts[4]) + int(counts[5]),
        seconds=lasted,
        p50_s=percentile(latencies, 0.5),
        p99_s=percentile(latencies, 0.99),
    )
