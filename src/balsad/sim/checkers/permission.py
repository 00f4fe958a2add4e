"""Who is not allowed to does nothing, and who is allowed to is let, from the answer to a change of permissions on.

While a change is under way either may be. Each request is judged that began and ended between two changes.
"""

from __future__ import annotations

from typing import Final

from balsad.errors import PermissionDeniedError
from balsad.sim.history import DONE, History

GUEST_PREFIX: Final = "g"
"""The names of clients whose permission comes and goes."""


def check_permissions(history: History) -> list[str]:
    wrong: list[str] = []
    spans = _sure(history)
    for operation in history.operations:
        if not operation.client.startswith(GUEST_PREFIX):
            continue
        for begin, end, is_allowed in spans:
            if begin <= operation.invoked and operation.returned <= end:
                if operation.outcome == DONE and not is_allowed:
                    wrong.append(f"done without permission, which was gone from {begin:.3f} on: {operation}")
                elif operation.error == PermissionDeniedError.message and is_allowed:
                    wrong.append(f"refused, although allowed from {begin:.3f} on: {operation}")
    return wrong


def _sure(history: History) -> list[tuple[float, float, bool]]:
    """From when to when guests surely were, or were not, allowed."""
    spans: list[tuple[float, float, bool]] = []
    is_enabled = is_granted = False
    since = 0.0
    for step in history.permissions:
        spans.append((since, step.invoked, not is_enabled or is_granted))
        if step.outcome != DONE:
            return spans
        if step.kind in ("enable", "disable"):
            is_enabled = step.kind == "enable"
        else:
            is_granted = step.kind == "grant"
        since = step.returned
    spans.append((since, float("inf"), not is_enabled or is_granted))
    return spans
