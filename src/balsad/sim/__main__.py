"""python -m balsad.sim: live through one seed and say what was wrong."""

from __future__ import annotations

import argparse
import logging
import sys

from balsad.sim.plan import plan_of
from balsad.sim.plants import PLANTS
from balsad.sim.report import report
from balsad.sim.tale import Tale
from balsad.sim.world import World


def main(arguments: list[str] | None = None) -> int:
    """0 when all laws held, 1 when not."""
    parser = argparse.ArgumentParser(
        prog="python -m balsad.sim", description="Run members on simulated time, disks and networks."
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--members", type=int, default=0, help="how many found the cluster (by chance)")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long there are faults (60)")
    parser.add_argument(
        "--plant", choices=sorted(PLANTS), help="let the members have this bug, in a world that shows it"
    )
    parser.add_argument("--tale", metavar="FILE", help="write down all that happens, with the members' logs")
    options = parser.parse_args(arguments)
    if options.plant:
        planted = PLANTS[options.plant]
        world = World(options.seed, planted.plan, plant=planted.plant)
    else:
        world = World(options.seed, plan_of(options.seed, members=options.members, seconds=options.seconds))
    if options.tale:
        with open(options.tale, "w", encoding="utf-8") as file, Tale(world, file, logging.INFO):
            world.run()
    else:
        world.run()
    print(report(world))
    return 1 if world.violations else 0


if __name__ == "__main__":
    sys.exit(main())
