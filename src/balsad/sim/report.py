"""What a run was like, in a few lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from balsad.errors import PermissionDeniedError
from balsad.sim.plan import Plan, plan_of

if TYPE_CHECKING:
    from balsad.sim.world import World

SHOWN_MAX = 20


def replay_line(seed: int, plan: Plan, plant: str = "") -> str:
    """The command that brings it about again."""
    line = f"python -m balsad.sim --seed {seed}"
    if plant:
        return f"{line} --plant {plant}"
    usual = plan_of(seed)
    if plan.members != usual.members:
        line += f" --members {plan.members}"
    if plan.seconds != usual.seconds:
        line += f" --seconds {plan.seconds:g}"
    return line


def report(world: World) -> str:
    history = world.history
    outcomes = Counter(operation.outcome for operation in history.operations)
    permissions = Counter(step.kind for step in history.permissions)
    permissions.update("denied" for operation in history.operations if operation.error == PermissionDeniedError.message)
    lines = [
        f"seed {world.seed}, {world.plan.members} founders, {world.timeline.now:.1f} s, trace {world.trace}",
        f"operations: {len(history.operations)} ("
        + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        + f"), lease requests {len(history.leases)}, compactions {len(history.compactions)}",
        f"watches: {len(history.watches)} with {sum(len(watch.messages) for watch in history.watches)} messages",
        f"log: {len(world.witness.entries)} entries, {len(world.witness.leaders)} terms with a leader; lives "
        + ", ".join(f"{machine.name} {machine.lives}" for machine in world.machines),
        "changes of members: "
        + (", ".join(f"{kind} {count}" for kind, count in sorted(world.changes.items())) or "none"),
        "permissions: " + (", ".join(f"{kind} {count}" for kind, count in sorted(permissions.items())) or "none"),
        "faults: " + (", ".join(f"{kind} {count}" for kind, count in sorted(world.faults.items())) or "none"),
    ]
    if world.violations:
        lines.append(f"{len(world.violations)} violations:")
        lines += [f"  {text}" for text in world.violations[:SHOWN_MAX]]
    else:
        lines.append("all laws held")
    return "\n".join(lines)
