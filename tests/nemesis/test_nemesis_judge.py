"""The judge by the whole past finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balsad.sim.history import DONE, REFUSED, UNKNOWN, Operation, WatchEvent
from balsad.sim.requests import (
    MOD,
    Compare,
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Request,
    Result,
    Txn,
    TxnResult,
)
from tests.nemesis.judge import judge_pasts

K = b"k"
FIRST = KeyValue(K, b"1", 2, 2, 1, 0)
SECOND = KeyValue(K, b"2", 2, 3, 2, 0)
GONE = KeyValue(K, b"", 0, 4, 0, 0)
PAST = [WatchEvent(False, FIRST, None), WatchEvent(False, SECOND, FIRST), WatchEvent(True, GONE, SECOND)]


class _History:
    """Three writes one after the other, and what a test adds."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.events = list(PAST)
        self.add(Put(K, b"1"), 0.0, 1.0, 2, PutResult())
        self.add(Put(K, b"2"), 2.0, 3.0, 3, PutResult())
        self.add(Delete(K), 4.0, 5.0, 4, DeleteResult(1))

    def add(
        self, request: Request, invoked: float, returned: float, revision: int, result: Result | None, how: str = DONE
    ) -> Operation:
        operation = Operation(len(self.operations), "c", "m1", request, invoked, returned, how, revision, result)
        self.operations.append(operation)
        return operation

    def judge(self) -> None:
        judge_pasts(self.operations, {"m1": self.events, "m2": list(self.events)})


def _reads_while_others_write(history: _History) -> None:
    history.add(Range(K), 1.5, 3.5, 2, RangeResult((FIRST,), 1))
    history.add(Range(K), 1.5, 3.5, 3, RangeResult((SECOND,), 1))
    history.add(Range(K, serializable=True), 6.0, 7.0, 2, RangeResult((FIRST,), 1))
    history.add(Txn((Compare(K, MOD, 3),), (Put(K, b"x"),), (Range(K),)), 6.0, 7.0, 4, TxnResult(False, (_nothing(),)))


def _an_open_write_that_was_done(history: _History) -> None:
    history.operations[1].outcome = UNKNOWN
    history.operations[1].returned = float("inf")


def _an_open_write_that_was_not_done(history: _History) -> None:
    history.add(Put(K, b"3"), 1.0, float("inf"), 0, None, UNKNOWN)


def _nothing() -> RangeResult:
    return RangeResult((), 0)


@pytest.mark.parametrize(
    "course", [_reads_while_others_write, _an_open_write_that_was_done, _an_open_write_that_was_not_done]
)
def test_what_may_be(course: Callable[[_History], None]) -> None:
    history = _History()
    course(history)
    history.judge()


def _lost(history: _History) -> None:
    history.add(Put(K, b"3"), 6.0, 7.0, 5, PutResult())


def _refused_but_done(history: _History) -> None:
    history.operations[1].outcome = REFUSED


def _nobody_asked(history: _History) -> None:
    del history.operations[1]


def _stale(history: _History) -> None:
    history.add(Range(K), 3.5, 3.6, 2, RangeResult((FIRST,), 1))


def _never_was(history: _History) -> None:
    history.add(Range(K), 3.5, 3.6, 3, RangeResult((FIRST,), 1))


def _wrong_branch(history: _History) -> None:
    history.add(Txn((Compare(K, MOD, 0),), (Put(K, b"x"),), (Range(K),)), 6.0, 7.0, 4, TxnResult(False, (_nothing(),)))


def _done_before_it_was_asked(history: _History) -> None:
    _an_open_write_that_was_done(history)
    history.operations[1].invoked = 6.0


def _twice(history: _History) -> None:
    history.events.append(WatchEvent(False, KeyValue(K, b"2", 5, 5, 1, 0), None))


def _wrong_version(history: _History) -> None:
    history.events[1] = WatchEvent(False, SECOND._replace(version=1), FIRST)


@pytest.mark.parametrize(
    "course",
    [
        _lost,
        _refused_but_done,
        _nobody_asked,
        _stale,
        _never_was,
        _wrong_branch,
        _done_before_it_was_asked,
        _twice,
        _wrong_version,
    ],
)
def test_what_may_not_be(course: Callable[[_History], None]) -> None:
    history = _History()
    course(history)
    with pytest.raises(AssertionError):
        history.judge()


def test_members_that_tell_different_pasts() -> None:
    with pytest.raises(AssertionError, match="different pasts"):
        judge_pasts([], {"m1": PAST, "m2": PAST[:2]})
