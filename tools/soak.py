"""The long tests, a part after the other: `make soak`, or `make soak ARGS='nemesis fuzz'` for some of them.

    make soak ARGS=--list                       the parts, what is in them and about how long they take
    make soak ARGS='simulation -- -k 1234'     what follows `--` is pytest's

A part that fails does not keep the next from running. The last lines name what failed, each with the command that
runs it again; a seed, where one was drawn, stands in the test's own words above.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$")


@dataclass(frozen=True)
class Part:
    """Tests that are run together."""

    name: str
    what: str
    minutes: int
    """On two cores that have nothing else to do, roughly."""
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Of pytest."""
    workers: int = 2
    """Side by side. One where members' timing is judged, or all cores are taken by one test."""


PARTS: Final = (
    Part("storage", "power cuts of the db, the log and a whole member, histories for bbolt's own check", 15, (
        "tests/property/test_property_bolt_power_cut.py",
        "tests/property/test_property_wal_power_cut.py",
        "tests/interop/test_interop_power_cut.py",
        "tests/unit/storage/test_storage_bolt_real.py",
    )),
    Part("installed", "pip install in both forms, from a checkout and from the sdist", 5, (
        "tests/interop/test_interop_installed.py",
    ), workers=1),
    Part("defences", "each defence taken out in turn, the slow ones too", 15, ("tests/defences",)),
    Part("kills", "200 rounds of kill -9 and SIGSTOP on a member under load", 20, (
        "tests/nemesis/test_nemesis_single.py",
    ), workers=1),
    Part("nemesis", "three members in network namespaces: every fault, then ten minutes of them at random", 15, (
        "tests/nemesis/test_nemesis_faults.py",
    ), workers=1),
    Part("leases", "a lease that a real leader of five minutes has recorded", 6, (
        "tests/interop/test_interop_lease_checkpoints.py",
    )),
    Part("proxy", "a gRPC proxy whose members are killed one after the other", 1, (
        "tests/interop/test_interop_grpc_proxy_watch.py",
    ), workers=1),
    Part("fuzz", "bytes without sense for every decoder, FUZZ_SECONDS (120) each", 45, ("tests/fuzz",), (
        # It would keep each line that a member logged, as the member's own memory is watched.
        "-p", "no:logging",
    )),
    Part("simulation", "2,000 seeds of whole clusters on simulated time", 120, ("tests/simulation",)),
)  # fmt: skip


def run(part: Part, place: str, options: list[str]) -> tuple[int, list[str]]:
    """pytest's exit status, and the tests that failed; what it prints is passed on as it comes."""
    print(f"\n=== {place}: {part.name}: {part.what}; about {part.minutes} minutes", flush=True)
    side_by_side = ["-n", str(part.workers), "--dist", "worksteal"] if part.workers > 1 else []
    told = ["--timeout=7200", "--durations=5", *side_by_side, *part.options, *options]
    command = [sys.executable, "-m", "pytest", *part.tests, *told]
    failed: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "BALSAD_SOAK": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        line = b""
        # By the piece, not by the line: the dots of a line are what shows that it goes on.
        while piece := _read(process.stdout.fileno()):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            *whole, line = (line + piece).split(b"\n")
            failed += [found[1] for text in whole if (found := FAILED.match(text.decode(errors="replace")))]
    return process.returncode, list(dict.fromkeys(failed))


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, 1 << 16)
        except KeyboardInterrupt:
            pass  # pytest is told, too, and ends


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[cut + 1 :]
    parser = argparse.ArgumentParser(
        prog="make soak ARGS=", usage="make soak ARGS='[--list] [PART ...] [-- PYTEST ...]'"
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--list", action="store_true", help="the parts, and about how long they take")
    parser.add_argument("part", nargs="*", help=", ".join(names))
    asked = parser.parse_args(arguments[:cut])
    unknown = [name for name in asked.part if name not in names]
    if unknown:
        parser.error(f"there is no part {unknown[0]}: there are {', '.join(names)}")
    parts = [part for part in PARTS if not asked.part or part.name in asked.part]
    if asked.list:
        for part in parts:
            print(f"{part.name:11} {part.minutes:4} min  {part.what}")
        return 0
    ended: list[tuple[Part, int, float, list[str]]] = []
    for number, part in enumerate(parts, 1):
        start = time.monotonic()
        status, failed = run(part, f"part {number} of {len(parts)}", options)
        ended.append((part, status, time.monotonic() - start, failed))
        if status == 2:  # interrupted by hand
            break
    print()
    for part, status, seconds, failed in ended:
        # 5: nothing was left to run after what was asked of pytest.
        word = {0: "passed", 2: "interrupted", 5: "nothing to run"}.get(status, "FAILED")
        print(f"{part.name:11} {word} in {seconds / 60:.1f} min")
        for name in failed:
            print(f"    BALSAD_SOAK=1 {shlex.quote(sys.executable)} -m pytest --timeout=7200 {shlex.quote(name)}")
    return int(any(status not in (0, 5) for _, status, _, _ in ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
