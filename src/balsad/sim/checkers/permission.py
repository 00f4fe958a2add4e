"""Who is not allowed to does nothing, and who is allowed to is let, from the answer to a change of permissions on.

While a change is under way either may be. Each request is judged that began and ended between two changes. A change
that was asked for, not answered, and asked for again may be done a second time later, also after its opposite; what
that would allow, or forbid, is not judged from then on.
"""

from __future__ import annotations

from typing import Final

from balsad.errors import PermissionDeniedError
from balsad.sim.history import DONE, History

_ALLOWS: Final = frozenset(("disable", "grant"))
_FORBIDS: Final = frozenset(("enable", "revoke"))
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
    late: set[str] = set()  # what may be done again at any time

    def add(until: float) -> None:
        is_allowed = not is_enabled or is_granted
        if not late & (_FORBIDS if is_allowed else _ALLOWS):
            spans.append((since, until, is_allowed))

    for step in history.permissions:
        add(step.invoked)
        if step.outcome != DONE:
            return spans
        if step.is_tried_blindly:
            late.add(step.kind)
        if step.kind in ("enable", "disable"):
            is_enabled = step.kind == "enable"
        else:
            is_granted = step.kind == "grant"
        since = step.returned
    add(float("inf"))
    return spans
