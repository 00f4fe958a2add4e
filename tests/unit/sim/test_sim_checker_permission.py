"""Histories of what guests did, and of what they were allowed to."""

from __future__ import annotations

import pytest

from balsad.errors import PermissionDeniedError
from balsad.sim.checkers import check_permissions
from balsad.sim.history import DONE, REFUSED, History, Operation, PermissionStep
from balsad.sim.requests import Put

DENIED = PermissionDeniedError.message
NEVER = float("inf")


def history(*operations: Operation) -> History:
    """Enabled from 10 to 11, granted from 20 to 21, revoked from 30 to 31; at 40 something is tried, with no answer."""
    times = (("enable", 10.0), ("grant", 20.0), ("revoke", 30.0))
    steps = [PermissionStep(kind, begun, begun + 1.0, DONE) for kind, begun in times]
    return History(operations=list(operations), permissions=[*steps, PermissionStep("grant", 40.0)])


def op(begun: float, ended: float, outcome: str, error: str = "", client: str = "g1") -> Operation:
    return Operation(1, client, "m1", Put(b"g/0", b"v"), begun, ended, outcome, error=error)


@pytest.mark.parametrize(
    "good",
    [
        op(1, 2, DONE),
        op(12, 13, REFUSED, DENIED),
        op(22, 23, DONE),
        op(32, 33, REFUSED, DENIED),
        # While a change is under way either may be.
        op(9.5, 10.5, REFUSED, DENIED),
        op(19, 20.5, DONE),
        op(29, 30.5, REFUSED, DENIED),
        op(30.5, 32, DONE),
        op(41, 42, DONE),
        op(32, NEVER, DONE),
        # Refused for another reason; somebody else.
        op(22, 23, REFUSED, "etcdserver: too many requests"),
        op(32, 33, DONE, client="c1"),
    ],
    ids=str,
)
def test_good(good: Operation) -> None:
    assert check_permissions(history(good)) == []


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (op(12, 13, DONE), "without permission"),
        (op(31, 39, DONE), "without permission"),
        (op(1, 2, REFUSED, DENIED), "although allowed"),
        (op(21, 29, REFUSED, DENIED), "although allowed"),
    ],
    ids=["not granted yet", "revoked", "not enabled yet", "granted"],
)
def test_bad(bad: Operation, word: str) -> None:
    found = check_permissions(history(bad))
    assert len(found) == 1 and word in found[0]


def test_disabled_again_everybody_may() -> None:
    told = history(op(52, 53, DONE))
    told.permissions[-1] = PermissionStep("disable", 50.0, 51.0, DONE)
    assert check_permissions(told) == []
    told.operations.append(op(45, 46, DONE))
    assert len(check_permissions(told)) == 1


def test_a_change_that_was_tried_blindly_may_come_true_later() -> None:
    """As when the leader that was asked sleeps on the request while the next one does it, and is heard last of all."""
    told = history(op(32, 33, DONE), op(34, 35, REFUSED, DENIED))
    told.permissions[1].is_tried_blindly = True  # the grant
    assert check_permissions(told) == []
    told.operations.append(op(22, 23, REFUSED, DENIED))
    assert len(check_permissions(told)) == 1
    told.permissions[2].is_tried_blindly = True  # the revocation, of what was not granted by then
    assert len(check_permissions(told)) == 1
