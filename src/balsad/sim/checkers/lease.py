"""Leases: never over early, over in the end, and their keys gone together.

Early is before the holder's last renewal (counted from when it was asked for) plus the TTL it was told,
less what the fastest clock runs ahead. Who revokes a lease ends it when he likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from balsad.sim.checkers.keyspace import is_write
from balsad.sim.history import DONE, REFUSED, UNKNOWN, History, LeaseStep
from balsad.sim.requests import Delete, KeyValue, Request, Txn, covers

if TYPE_CHECKING:
    from balsad.sim.checkers.linearizable import Truth

SHOWN_MAX = 5


def check_leases(history: History, truth: Truth) -> list[str]:
    wrong: list[str] = []
    by_lease: dict[int, list[LeaseStep]] = {}
    for step in history.leases:
        by_lease.setdefault(step.lease, []).append(step)
    ends = _ends(history, truth)
    for lease, steps in by_lease.items():
        wrong += _judge_answers(lease, steps, truth)
        if lease in ends:
            wrong += _judge_end(history, lease, steps, ends[lease])
    wrong += _judge_last(history)
    return wrong[:SHOWN_MAX]


Gone = dict[bytes, tuple[int, float]]
"""Of a lease's keys: the revision at which each went, and when that was first told."""


def _ends(history: History, truth: Truth) -> dict[int, Gone]:
    """What watches told of deleted keys that hung on a lease, unless some client deleted them."""
    claimed = {
        operation.revision
        for operation in history.operations
        if operation.outcome == DONE and operation.result is not None and is_write(operation.request, operation.result)
    }
    doubtful = [operation.request for operation in history.operations if operation.outcome == UNKNOWN]
    last: dict[bytes, dict[int, KeyValue | None]] = {}
    for revision in sorted(truth.events):
        for key, kv in truth.events[revision].items():
            last.setdefault(key, {})[revision] = kv
    found: dict[int, Gone] = {}
    for watch in history.watches:
        for message in watch.messages:
            for event in message.events:
                if not event.is_delete:
                    continue
                key, revision = event.kv.key, event.kv.mod
                if revision in claimed or any(_may_delete(request, key) for request in doubtful):
                    continue
                before = [kv for at, kv in last.get(key, {}).items() if at < revision]
                kv = before[-1] if before else None
                if kv is None or not kv.lease:
                    continue
                gone = found.setdefault(kv.lease, {})
                known = gone.get(key)
                if known is None or message.at < known[1]:
                    gone[key] = revision, message.at
    return found


def _may_delete(request: Request, key: bytes) -> bool:
    match request:
        case Delete():
            return covers(request.key, request.end, key)
        case Txn():
            return any(_may_delete(each, key) for each in request.success + request.failure)
        case _:
            return False


def _judge_end(history: History, lease: int, steps: list[LeaseStep], gone: Gone) -> Iterator[str]:
    revisions = sorted({revision for revision, _ in gone.values()})
    if len(revisions) > 1:
        yield f"lease {lease} lost its keys one after the other: {gone}"
    told = min(at for _, at in gone.values())
    if any(step.kind == "revoke" and step.outcome != REFUSED and step.invoked <= told for step in steps):
        return
    for step in steps:
        if step.kind in ("grant", "renew") and step.outcome == DONE and step.told_ttl > 0:
            lives_until = step.invoked + step.told_ttl / history.clock_rate_max
            if told < lives_until:
                yield (
                    f"lease {lease} was over at {told:.3f}, but its {step.kind} at {step.invoked:.3f} "
                    f"promised {step.told_ttl} s"
                )


def _judge_answers(lease: int, steps: list[LeaseStep], truth: Truth) -> Iterator[str]:
    known_gone = float("inf")
    for step in sorted(steps, key=_by_call):
        if step.outcome != DONE:
            continue
        is_gone = (step.kind == "renew" and step.told_ttl <= 0) or (step.kind == "ask" and not step.is_known)
        if step.kind == "grant" and step.told_ttl < step.ttl:
            yield f"lease {lease} was granted {step.told_ttl} s instead of {step.ttl}"
        if is_gone or step.kind == "revoke":
            known_gone = min(known_gone, step.returned)
        elif step.invoked > known_gone:
            yield f"lease {lease} lives at {step.invoked:.3f}, after it was said to be gone at {known_gone:.3f}"
        if step.kind == "ask" and not is_gone:
            held = _held(lease, truth)
            if tuple(sorted(step.keys)) not in held:
                yield f"lease {lease} was said to hold {step.keys}, it only ever held {held}"


def _held(lease: int, truth: Truth) -> list[tuple[bytes, ...]]:
    """All sets of keys that hung on a lease, one after the other.

    Which of them an answer tells is not promised: a follower has it from whom it takes for the leader, as of then,
    and puts its own revision above it; and who is not the leader any more, and does not know it, answers too.
    """
    keys: set[bytes] = set()
    held: list[tuple[bytes, ...]] = [()]
    for revision in sorted(truth.events):
        for key, kv in truth.events[revision].items():
            if kv is not None and kv.lease == lease:
                keys.add(key)
            else:
                keys.discard(key)
        if tuple(sorted(keys)) != held[-1]:
            held.append(tuple(sorted(keys)))
    return held


def _by_call(step: LeaseStep) -> float:
    return step.invoked


def _judge_last(history: History) -> Iterator[str]:
    """When all was over, every lease had had its time."""
    for final in history.finals:
        if final.leases:
            yield f"{final.machine} still has leases {final.leases} at the end"
        left = [kv.key for kv in final.kvs if kv.lease]
        if left:
            yield f"{final.machine} still has keys of leases at the end: {left}"
