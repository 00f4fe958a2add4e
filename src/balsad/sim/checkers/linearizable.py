"""Writes and reads look as if one copy had done them one after the other, each between its call and its return.

Every write says the revision that it made, every read the one it saw. So the order is known of all
that was answered, and what is left to find is where those fit in that nobody heard of again, and
the ends of leases: each took a revision that no answered write has claimed. Reads of the past,
serializable reads and watch events tell what was true at a revision, whenever they were made.

What is found is the truth that other checkers measure by: every event of every revision.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from balsad.sim.checkers.keyspace import Part, State, is_write, named_keys, written_keys
from balsad.sim.checkers.search import NEVER, Item, search
from balsad.sim.history import DONE, REFUSED, History, LeaseStep, Operation
from balsad.sim.requests import KeyValue, Put, Range, RangeResult, Request, Result, Txn, TxnResult

SHOWN_MAX: Final = 5


class Known(NamedTuple):
    """An answered request for these keys: its revision, and what it was told of them."""

    source: str
    request: Request
    revision: int
    told: Result
    is_write: bool


class Lost(NamedTuple):
    """A write of which nobody knows whether it was done."""

    source: str
    request: Request


class Ended(NamedTuple):
    """A lease ran out, or was revoked; at a known revision or at some free one."""

    lease: int
    revision: int = 0


class Seen(NamedTuple):
    """At a revision the key became this, or, None, was deleted; if `previous` is known, it was that before."""

    source: str
    revision: int
    key: bytes
    kv: KeyValue | None
    previous: KeyValue | None = None


What = Known | Lost | Ended | Seen


class Truth:
    """What happened: by revision, what became of which key.

    `sure` are those that were acknowledged or seen. Of a write that nobody heard of again it may be that it
    was this one or another that explains the rest.
    """

    def __init__(self) -> None:
        self.events: dict[int, dict[bytes, KeyValue | None]] = {}
        self.sure: set[tuple[int, bytes]] = set()
        self.keys: set[bytes] = set()  # of which it is known

    def add(self, revision: int, key: bytes, kv: KeyValue | None) -> None:
        self.events.setdefault(revision, {})[key] = kv

    def last(self) -> int:
        return max(self.events, default=1)

    def state_at(self, revision: int) -> dict[bytes, KeyValue]:
        """The keys as they were."""
        kvs: dict[bytes, KeyValue] = {}
        for at in sorted(self.events):
            if at > revision:
                break
            for key, kv in self.events[at].items():
                if kv is None:
                    kvs.pop(key, None)
                else:
                    kvs[key] = kv
        return kvs


def check_linearizable(history: History) -> tuple[Truth, list[str]]:
    truth = Truth()
    wrong = _check_order(history)
    claimed = {
        operation.revision
        for operation in history.operations
        if operation.outcome == DONE and operation.result is not None and is_write(operation.request, operation.result)
    }
    last = max(
        [1]
        + [operation.revision for operation in history.operations if operation.outcome == DONE]
        + [event.kv.mod for watch in history.watches for message in watch.messages for event in message.events]
    )
    free = [revision for revision in range(2, last + 1) if revision not in claimed]
    wrong += _check_free(history, free)
    for part in _parts(history):
        wrong += _check_part(history, part, claimed, free, truth)
    return truth, wrong


# The whole.


def _check_order(history: History) -> list[str]:
    """What was called after another had returned saw its revision, and if it wrote, made a later one."""
    done = [
        operation for operation in history.operations if operation.outcome == DONE and not _is_stale(operation.request)
    ]
    moments = sorted(
        [(operation.invoked, 1, operation.number, operation) for operation in done]
        + [(operation.returned, 0, operation.number, operation) for operation in done]
    )
    wrong: list[str] = []
    highest: Operation | None = None
    writers: dict[int, Operation] = {}
    for _, is_call, _, operation in moments:
        if not is_call:
            if highest is None or operation.revision > highest.revision:
                highest = operation
            continue
        assert operation.result is not None
        writes = is_write(operation.request, operation.result)
        if highest is not None and operation.revision < highest.revision + writes:
            wrong.append(f"{operation} is behind {highest}, which had returned")
        if writes:
            other = writers.setdefault(operation.revision, operation)
            if other is not operation:
                wrong.append(f"one revision for two: {other} and {operation}")
    return wrong[:SHOWN_MAX]


def _is_stale(request: Request) -> bool:
    return isinstance(request, Range) and request.serializable


def _check_free(history: History, free: list[int]) -> list[str]:
    """A revision that no answered write claims was made by one that was not answered, or by the end of a lease."""
    makers = sum(1 for operation in history.operations if operation.outcome not in (DONE, REFUSED))
    makers += len({step.lease for step in history.leases if step.kind == "grant" and step.outcome != REFUSED})
    if len(free) > makers:
        return [f"{len(free)} revisions that only {makers} unanswered writes and leases can have made: {free}"]
    return []


def _parts(history: History) -> list[Part]:
    """The keys, divided so that no write concerns more than one part."""
    keys: set[bytes] = set()
    for operation in history.operations:
        keys |= named_keys(operation.request, operation.result)
    for watch in history.watches:
        for message in watch.messages:
            keys.update(event.kv.key for event in message.events)
    universe = sorted(keys)
    group = {key: {key} for key in universe}
    by_lease: dict[int, set[bytes]] = {}
    for operation in history.operations:
        if isinstance(operation.request, Put) and operation.request.lease:
            by_lease.setdefault(operation.request.lease, set()).add(operation.request.key)
    ties = [written_keys(operation.request, universe) for operation in history.operations]
    ties += by_lease.values()
    for keys_tied in ties:
        tied = sorted(keys_tied)
        for other in tied[1:]:
            if group[other] is not group[tied[0]]:
                group[tied[0]] |= group[other]
                for key in sorted(group[tied[0]]):
                    group[key] = group[tied[0]]
    parts = []
    for key in universe:
        if key == min(group[key]):
            parts.append(Part(sorted(group[key])))
    return parts


# A part.


def _check_part(history: History, part: Part, claimed: set[int], free: list[int], truth: Truth) -> list[str]:
    items: list[Item[What]] = []
    leases = {
        operation.request.lease
        for operation in history.operations
        if isinstance(operation.request, Put) and operation.request.key in part
    }
    for lease_step in history.leases:
        if lease_step.lease in leases:
            items += _lease_items(lease_step, claimed)
    for operation in history.operations:
        items += _items(operation, part)
    items += _seen_items(history, part)

    def step(state: State, what: What, next_rank: int | None) -> Iterable[State]:
        return _step(part, free, state, what, next_rank)

    verdict = search(items, part.empty(), step)
    if verdict.is_linearizable:
        truth.keys.update(part.keys)
        before = part.empty().kvs
        for item, state in verdict.order:
            assert isinstance(state, State)
            what = item.operation
            for key, was, now in zip(part.keys, before, state.kvs, strict=True):
                if was != now:
                    truth.add(state.written, key, now)
                    if isinstance(what, Known):
                        truth.sure.add((state.written, key))
                if isinstance(what, Known) and now is not None and _is_shown(what, key):
                    truth.sure.add((now.mod, key))
            if isinstance(what, Seen):
                truth.sure.add((what.revision, what.key))
            before = state.kvs
        return []
    names = b", ".join(part.keys).decode("latin-1")
    if verdict.gave_up:
        return [f"no order found for {names} in a reasonable time; stuck at {_name(verdict.stuck)}"]
    return [f"no order explains what was seen of {names}; stuck at {_name(verdict.stuck)}"]


def _name(item: Item[What] | None) -> str:
    if item is None:
        return "nothing"
    what = item.operation
    return what.source if isinstance(what, Known | Lost) else str(what)


def _is_shown(known: Known, key: bytes) -> bool:
    """Whether a read showed the key as it is."""
    return isinstance(known.told, RangeResult) and any(kv.key == key for kv in known.told.kvs)


def _items(operation: Operation, part: Part) -> Iterator[Item[What]]:
    request, result = operation.request, operation.result
    if operation.outcome == REFUSED:
        return
    tied = written_keys(request, part.keys)
    if operation.outcome != DONE:
        if any(key in part for key in tied):
            yield Item(Lost(str(operation), request), operation.invoked, NEVER, None, False)
        return
    assert result is not None
    revision = operation.revision
    if isinstance(request, Range):
        if not part.touches(request.key, request.end):
            return
        assert isinstance(result, RangeResult)
        told = part.project(result)
        if request.revision:
            known = Known(str(operation), request, request.revision, told, False)
            yield Item(known, 0.0, operation.returned, 2 * request.revision + 1)
        else:
            known = Known(str(operation), request, revision, told, False)
            called = 0.0 if request.serializable else operation.invoked
            yield Item(known, called, operation.returned, 2 * revision + 1)
        return
    if isinstance(request, Txn) and not written_keys(request, list(_all_keys(request))):
        assert isinstance(result, TxnResult)
        for asked, said in zip(request.success if result.succeeded else request.failure, result.results, strict=True):
            if isinstance(asked, Range) and isinstance(said, RangeResult) and part.touches(asked.key, asked.end):
                known = Known(str(operation), asked, revision, part.project(said), False)
                yield Item(known, operation.invoked, operation.returned, 2 * revision + 1)
        return
    if any(key in part for key in tied):
        writes = is_write(request, result)
        known = Known(str(operation), request, revision, part.project(result), writes)
        yield Item(known, operation.invoked, operation.returned, 2 * revision + (not writes))


def _all_keys(request: Request) -> set[bytes]:
    return named_keys(request, None)


def _lease_items(step: LeaseStep, claimed: set[int]) -> Iterator[Item[What]]:
    if step.kind == "grant" and step.outcome != REFUSED:
        yield Item(Ended(step.lease), step.invoked, NEVER, None, False)
    elif step.kind == "revoke" and step.outcome == DONE and step.revision not in claimed:
        # If it had keys, they went at the revision that it was told. Else that was somebody else's, maybe another
        # revocation's; so this one has no rank.
        yield Item(Ended(step.lease, step.revision), step.invoked, step.returned)


def _seen_items(history: History, part: Part) -> Iterator[Item[What]]:
    """What watches told. Their disagreements are the watch checker's business: here the first one counts."""
    seen: dict[tuple[int, bytes], Seen] = {}
    earliest: dict[tuple[int, bytes], float] = {}
    for watch in history.watches:
        for message in watch.messages:
            for event in message.events:
                kv, previous = event.kv, event.previous
                if kv.key not in part:
                    continue
                place = kv.mod, kv.key
                earliest[place] = min(earliest.get(place, NEVER), message.at)
                known = seen.get(place)
                if known is None or known.previous is None:
                    seen[place] = Seen(str(watch), kv.mod, kv.key, None if event.is_delete else kv, previous)
                if previous is not None:
                    place = previous.mod, previous.key
                    earliest[place] = min(earliest.get(place, NEVER), message.at)
                    seen.setdefault(place, Seen(str(watch), previous.mod, previous.key, previous))
    for place, what in seen.items():
        yield Item(what, 0.0, earliest[place], 2 * what.revision + 1)


def _step(part: Part, free: list[int], state: State, what: What, next_rank: int | None) -> Iterator[State]:
    match what:
        case Known():
            revision = what.revision
            if revision < state.reached or (what.is_write and revision <= state.written):
                return
            kvs, told = part.apply(state.kvs, revision, what.request)
            if told == what.told:
                yield state.write(revision, kvs) if what.is_write else state.reach(revision)
        case Seen():
            kv, deleted, previous = part.get(state, what.key)
            fits = kv == what.kv and (kv is not None or deleted == what.revision)
            if fits and state.reached <= what.revision and what.previous in (None, previous):
                yield state.reach(what.revision)
        case Ended() if what.revision:
            ended = state.ended | {what.lease}
            kvs = part.expire(state.kvs, what.lease)
            if kvs != state.kvs:
                if what.revision in _free_for(free, state, next_rank):
                    yield state.write(what.revision, kvs, ended)
            elif state.reached <= what.revision and (next_rank is None or next_rank > 2 * what.revision):
                yield state.reach(what.revision)._replace(ended=ended)
        case Ended():
            kvs = part.expire(state.kvs, what.lease)
            if kvs != state.kvs:
                for revision in _free_for(free, state, next_rank):
                    yield state.write(revision, kvs, state.ended | {what.lease})
        case Lost():
            if isinstance(what.request, Put) and what.request.lease in state.ended:
                return
            for revision in _free_for(free, state, next_rank):
                kvs, told = part.apply(state.kvs, revision, what.request)
                if is_write(what.request, told):
                    yield state.write(revision, kvs)


def _free_for(free: list[int], state: State, next_rank: int | None) -> list[int]:
    """The unclaimed revisions that a write between this state and what follows can have made."""
    first = bisect_right(free, max(state.written, state.reached))
    last = len(free) if next_rank is None else bisect_right(free, next_rank // 2)
    return free[first:last]
