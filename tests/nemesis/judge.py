"""Whether a history is one that a store could have had which does one thing after another.

The members tell their whole past by a watch from the first revision. Judged is, that

- all members tell the same past;
- each write that was acknowledged is in it, at its revision, and each write in it was asked for, once;
- each read gives what that past had at the read's revision, and each txn decided by it;
- who began after another had returned comes after it: never an older revision, and for a write a newer one.

The revision orders everything, so this needs no search; it is stricter than linearizability of each key alone.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from balsad.sim.checkers import judge as judge_simulated
from balsad.sim.history import DONE, REFUSED, History, Operation, WatchEvent, WatchSession
from balsad.sim.requests import (
    MOD,
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    Range,
    RangeResult,
    Request,
    Txn,
    TxnResult,
    covers,
)

PAST = "past"
"""The client whose watches tell everything."""

# The other judges search, which takes long when there is much.
SEARCHED_MAX = 10_000


class Past:
    """The store at every revision, made anew from the events."""

    def __init__(self, events: Sequence[WatchEvent]) -> None:
        self.by_revision: dict[int, list[WatchEvent]] = {}
        self._versions: dict[bytes, list[tuple[int, KeyValue | None]]] = {}
        last = 1
        for event in events:
            kv = event.kv
            assert kv.mod >= last, f"events out of order: {event} after revision {last}"
            last = kv.mod
            self.by_revision.setdefault(kv.mod, []).append(event)
            versions = self._versions.setdefault(kv.key, [])
            before = versions[-1][1] if versions else None
            if event.is_delete:
                assert before is not None, f"deleted but not there: {event}"
                versions.append((kv.mod, None))
                continue
            if before is None:
                expected = KeyValue(kv.key, kv.value, kv.mod, kv.mod, 1, kv.lease)
            else:
                expected = KeyValue(kv.key, kv.value, before.create, kv.mod, before.version + 1, kv.lease)
            assert kv == expected, f"{event}, but before it was {before}"
            versions.append((kv.mod, kv))
        self.revision = last

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        versions = self._versions.get(key, [])
        place = bisect.bisect_right(versions, revision, key=lambda version: version[0])
        return versions[place - 1][1] if place else None

    def range(self, asked: Range, revision: int) -> tuple[KeyValue, ...]:
        found = [self.at(key, revision) for key in sorted(self._versions) if covers(asked.key, asked.end, key)]
        return tuple(kv for kv in found if kv is not None)


def judge(history: History) -> None:
    """Judge by the whole past, and as a simulated world is judged. Raises: AssertionError with what does not fit."""
    judge_pasts(
        history.operations, {watch.machine: _events(watch) for watch in history.watches if watch.client == PAST}
    )
    wrong = judge_simulated(history) if len(history.operations) <= SEARCHED_MAX else []
    assert not wrong, "\n".join(wrong)


def _events(watch: WatchSession) -> list[WatchEvent]:
    return [event for message in watch.messages for event in message.events]


def judge_pasts(operations: Sequence[Operation], pasts: dict[str, list[WatchEvent]]) -> None:
    first, *others = pasts.items()
    for name, events in others:
        assert events == first[1], f"{first[0]} and {name} tell different pasts:\n{_difference(first[1], events)}"
    past = Past(first[1])
    owners: dict[int, Operation] = {}
    for operation in operations:
        if operation.outcome == DONE:
            problem = _contradiction(operation, past, owners)
            assert not problem, f"{operation}\n{problem}\n{_around(operations, operation)}"
    _explain(operations, past, owners)
    _judge_order(operations, owners)


def _writes(operation: Operation) -> tuple[Put | Delete, ...]:
    """What it changes; of an open txn what it would."""
    request, result = operation.request, operation.result
    parts: tuple[Request, ...] = (request,)
    if isinstance(request, Txn):
        succeeded = not isinstance(result, TxnResult) or result.succeeded
        parts = request.success if succeeded else request.failure
    return tuple(part for part in parts if isinstance(part, Put | Delete))


def _fits(events: Sequence[WatchEvent], writes: Sequence[Put | Delete]) -> bool:
    if len(events) != len(writes):
        return False
    return all(
        event.kv.key == write.key
        and (event.is_delete if isinstance(write, Delete) else not event.is_delete and event.kv.value == write.value)
        for event, write in zip(events, writes, strict=True)
    )


def _contradiction(operation: Operation, past: Past, owners: dict[int, Operation]) -> str:
    """What of an answer does not fit the past."""
    request, result, revision = operation.request, operation.result, operation.revision
    writes = _writes(operation)
    if isinstance(result, DeleteResult) and not result.deleted:
        assert isinstance(request, Delete)
        there = past.at(request.key, revision)
        return f"but there was {there}" if there is not None else ""
    if writes:
        events = past.by_revision.get(revision, [])
        if not _fits(events, writes):
            return f"acknowledged, but at its revision there is {events or 'nothing'}"
        if revision in owners:
            return f"its revision is also that of {owners[revision]}"
        owners[revision] = operation
    if isinstance(request, Txn):
        assert isinstance(result, TxnResult)
        seen_at = revision - 1 if writes else revision
        holds = True
        for compare in request.compares:
            assert compare.target == MOD
            kv = past.at(compare.key, seen_at)
            holds = holds and (kv.mod if kv is not None else 0) == compare.operand
        if holds != result.succeeded:
            return f"but the comparison {'held' if holds else 'did not hold'} at revision {seen_at}"
        parts = request.success if result.succeeded else request.failure
        for part, told in zip(parts, result.results, strict=True):
            if isinstance(part, Range) and isinstance(told, RangeResult):
                expected = past.range(part, revision)
                if told.kvs != expected:
                    return f"but {part} was {expected}"
    elif isinstance(request, Range):
        assert isinstance(result, RangeResult)
        expected = past.range(request, revision)
        if result.kvs != expected:
            return f"but it was {expected}"
    return ""


def _explain(operations: Sequence[Operation], past: Past, owners: dict[int, Operation]) -> None:
    """Find for each revision that nobody was told of an open request that made it."""
    open_puts: dict[tuple[bytes, bytes], Operation] = {}
    open_deletes: dict[bytes, list[Operation]] = {}
    for operation in operations:
        if operation.outcome in (DONE, REFUSED):
            continue
        for write in _writes(operation):
            if isinstance(write, Put):
                open_puts[write.key, write.value] = operation
            else:
                open_deletes.setdefault(write.key, []).append(operation)
    for revision, events in past.by_revision.items():
        if revision in owners:
            continue
        event = events[0]
        maker: Operation | None = None
        if not event.is_delete:
            maker = open_puts.pop((event.kv.key, event.kv.value), None)
        elif open_deletes.get(event.kv.key):
            # Which of them can't be told; the oldest is always allowed when any is.
            maker = open_deletes[event.kv.key].pop(0)
        assert maker is not None and _fits(events, _writes(maker)), (
            f"revision {revision} holds {events}, which nobody asked for, or twice"
        )
        owners[revision] = maker


def _judge_order(operations: Sequence[Operation], owners: dict[int, Operation]) -> None:
    """In real time revisions never go back."""
    made = {id(operation): revision for revision, operation in owners.items()}
    done = [operation for operation in operations if operation.outcome == DONE]
    by_return = sorted(done, key=lambda operation: operation.returned)
    place, newest = 0, None
    for operation in sorted(operations, key=lambda operation: operation.invoked):
        while place < len(by_return) and by_return[place].returned < operation.invoked:
            if newest is None or by_return[place].revision > newest.revision:
                newest = by_return[place]
            place += 1
        if newest is None:
            continue
        if id(operation) in made:
            assert made[id(operation)] > newest.revision, (
                f"{operation}\nmade revision {made[id(operation)]}, but began after this had returned:\n{newest}"
            )
        elif operation.outcome == DONE and not getattr(operation.request, "serializable", False):
            assert operation.revision >= newest.revision, (
                f"{operation}\nis older than what had returned before it began:\n{newest}"
            )


def _around(operations: Sequence[Operation], operation: Operation) -> str:
    near = [
        other
        for other in operations
        if other is not operation and other.outcome == DONE and abs(other.revision - operation.revision) <= 2
    ]
    return "near it:\n" + "\n".join(f"  {other}" for other in near[:20])


def _difference(one: list[WatchEvent], other: list[WatchEvent]) -> str:
    for place in range(min(len(one), len(other))):
        if one[place] != other[place]:
            return f"{one[place]}\n{other[place]}"
    return f"{len(one)} and {len(other)} events"
