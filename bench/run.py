"""Measure balsad beside the real etcd 3.5.1: `make bench`, or `python -m bench.run --help`.

Both run at once on data dirs of their own, and are loaded in turn: etcd, ours,
ours, etcd, ... so that what else the machine does hits both. A ratio is ours
to etcd's in the same round; of throughput more is better, of all else less.
Ratios of throughput move by a fifth and more between runs of one and the same
server: look at their range, at the CPU time per call, and at `others`: the
cores that neither the servers nor the load used.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from bench import cluster, h2load, large, listing_load, load, scale, single, watch_load
from bench.connection import LoadError
from bench.contenders import COMPILED, UNCOMPILED, Contender, etcd, instead, ours
from bench.figures import Row, rows
from bench.report import LOAD_HEADING, Progress, is_load, json_line, lines, summary
from bench.setting import Cell, Setting

GROUPS = {module.GROUP: module.cells for module in (single, scale, watch_load, listing_load, cluster, large)}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short, small pair of each: shows that it works, no more"
    )
    parser.add_argument("--group", action="append", choices=tuple(GROUPS), help="only these; may be repeated")
    parser.add_argument("--only", action="append", help="cells whose name contains this text; may be repeated")
    parser.add_argument("--list", action="store_true", help="the cells' names, one a line, and no measurement")
    parser.add_argument(
        "--form", choices=(UNCOMPILED, COMPILED, "both"), help="of ours; both, or with --quick uncompiled"
    )
    parser.add_argument("--pairs", type=int, help="rounds: runs of each server for each cell (5)")
    parser.add_argument("--seconds", type=float, help="how long a load takes (4)")
    parser.add_argument("--keys", type=int, help="keys in the large store (1000000)")
    parser.add_argument("--check", action="store_true", help="end with 3 when a bar is not met")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--generator", choices=("auto", "h2load", "own"), default="auto")
    parser.add_argument("--ours", default="", help="command of the server in our place")
    parser.add_argument("--theirs", default="", help="command of the server in etcd's place")
    parser.add_argument("--dir", default=None, help="where the data dirs go; must be on a disk, not in memory")
    parser.add_argument("--keep", default=None, help="where filled stores are kept for the next run")
    options = parser.parse_args(arguments)
    quick = options.quick
    options.pairs = options.pairs or (1 if quick else 5)
    options.seconds = options.seconds or (0.5 if quick else 4.0)
    options.keys = options.keys or (20_000 if quick else 1_000_000)
    options.form = options.form or (UNCOMPILED if quick else "both")
    return options


def chosen(options: argparse.Namespace) -> list[Cell]:
    return [
        cell
        for group in options.group or GROUPS
        for cell in GROUPS[group](options.quick)
        if not options.only or any(text in f"{cell.group}: {cell.name}" for text in options.only)
    ]


def contenders(options: argparse.Namespace) -> list[Contender]:
    """The real etcd first, then our forms."""
    found = [etcd(options.theirs)]
    if options.ours:
        return [*found, instead(options.ours)]
    forms = (UNCOMPILED, COMPILED) if options.form == "both" else (options.form,)
    return [*found, *(ours(form) for form in forms)]


def run(options: argparse.Namespace) -> list[Row]:
    """Every chosen cell's rows, printed as they come."""
    uses_h2load = options.generator == "h2load" or (options.generator == "auto" and h2load.is_installed())
    progress = Progress()
    cells = chosen(options)
    if not cells:
        raise LoadError("no cell has such a name; --list has them all")
    progress.say("the servers are made ready")
    found: list[Row] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir)))
        setting = Setting(
            contenders=contenders(options),
            pairs=options.pairs,
            seconds=options.seconds,
            keys=options.keys,
            is_quick=options.quick,
            generate=h2load.generate if uses_h2load else load.generate,
            folder=folder,
            keep=Path(options.keep) if options.keep else None,
            progress=progress,
            shared=stack.enter_context(contextlib.ExitStack()),
        )
        if not options.json:
            generator = "h2load" if uses_h2load else "bench.load"
            progress.clear()
            print(f"load by {generator}, {options.pairs} rounds of {options.seconds:g} s; fsync is on")
        said_heading = False
        for number, cell in enumerate(cells):
            progress.prefix = f"{number + 1} of {len(cells)}: {cell.group}: {cell.name}: "
            made = rows(cell.group, cell.name, cell.run(setting), cell.bars)
            progress.clear()
            found += made
            if options.json:
                for row in made:
                    print(json_line(row), flush=True)
                continue
            if any(map(is_load, made)) and not said_heading:
                print(LOAD_HEADING)
                said_heading = True
            print(f"{cell.group}: {cell.name}")
            for row in made:
                print("\n".join(lines(row)), flush=True)
    return found


def raise_open_files() -> None:
    """As many open files as this process may have, for itself and the servers it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.list:
        print("\n".join(f"{cell.group}: {cell.name}" for cell in chosen(options)))
        return 0
    raise_open_files()
    try:
        found = run(options)
    except (LoadError, pytest.skip.Exception, pytest.fail.Exception) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not options.json:
        print("\n".join(summary(found)))
    return 3 if options.check and any(not verdict.is_met for row in found for verdict in row.verdicts()) else 0


def _end(number: int, frame: object) -> None:
    """The servers are sessions of their own: nobody would end them when SIGTERM ended us at once."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
