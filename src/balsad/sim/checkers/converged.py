"""In the end all members hold the same."""

from __future__ import annotations

from balsad.sim.history import History


def check_converged(history: History) -> list[str]:
    wrong: list[str] = []
    if not history.finals:
        return wrong
    first = history.finals[0]
    for other in history.finals[1:]:
        for what in ("revision", "compact_revision", "hash", "kvs"):
            here, there = getattr(first, what), getattr(other, what)
            if here != there:
                wrong.append(f"{what}: {first.machine} has {here}, {other.machine} {there}")
        if sorted(first.leases) != sorted(other.leases):
            wrong.append(f"leases: {first.machine} has {first.leases}, {other.machine} {other.leases}")
    return wrong
