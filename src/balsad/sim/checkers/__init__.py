"""Judges of histories: each takes what clients saw and says, in sentences, what must not have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.sim.checkers.converged import check_converged
from balsad.sim.checkers.durable import check_durable
from balsad.sim.checkers.lease import check_leases
from balsad.sim.checkers.linearizable import Truth, check_linearizable
from balsad.sim.checkers.permission import check_permissions
from balsad.sim.checkers.watch import check_watches

if TYPE_CHECKING:
    from balsad.sim.history import History

__all__ = [
    "Truth",
    "check_converged",
    "check_durable",
    "check_leases",
    "check_linearizable",
    "check_permissions",
    "check_watches",
    "judge",
]


def judge(history: History) -> list[str]:
    """All that is wrong with a history, each sentence after the name of the law that was broken."""
    truth, found = check_linearizable(history)
    wrong = [f"linearizable: {sentence}" for sentence in found]
    wrong += [f"watch: {sentence}" for sentence in check_watches(history, truth)]
    wrong += [f"lease: {sentence}" for sentence in check_leases(history, truth)]
    wrong += [f"permission: {sentence}" for sentence in check_permissions(history)]
    wrong += [f"durable: {sentence}" for sentence in check_durable(history, truth)]
    wrong += [f"converged: {sentence}" for sentence in check_converged(history)]
    return wrong
