"""Is there an order of these operations that one copy could have gone through? Wing and Gong's search, with a memory.

An operation took its effect at one moment between its call and its return. So it may come
next, if no other that is left returned before it was called. What never returned may come
at any time after its call, or never. Two ways that did the same operations and reached the same
state go on alike: the second is not gone.

    put 1 [0..3]   put 2 [1..2]   get 1 [4..5]      put 2, put 1, get 1
    put 1 [0..1]   put 2 [2..3]   get 1 [4..5]      none

Where it is known in which order some took their effect (etcd tells revisions), they have a rank,
and are tried in that order alone.

Source: Wing, Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for Linearizability" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

O = TypeVar("O")  # noqa: E741
S = TypeVar("S", bound=Hashable)

NEVER: Final = float("inf")
STEPS_MAX: Final = 300_000


@dataclass(slots=True, frozen=True)
class Item(Generic[O]):
    """One operation. Without a rank it may take its effect between any two others."""

    operation: O
    invoked: float
    returned: float = NEVER
    rank: int | None = None
    must_be: bool = True  # False: it may never have taken effect


@dataclass(slots=True)
class Verdict(Generic[O]):
    """`order` is one that explains everything. Without one, `stuck` could not be explained after all before it."""

    is_linearizable: bool
    order: list[tuple[Item[O], Hashable]] = field(default_factory=list)  # each with the state after it
    stuck: Item[O] | None = None
    gave_up: bool = False


Step = Callable[[S, O, int | None], Iterable[S]]
"""(state, operation, rank of what must follow) -> every state in which it may leave the copy; none: it can't be now."""


def search(items: list[Item[O]], initial: S, step: Step[S, O], *, steps_max: int = STEPS_MAX) -> Verdict[O]:
    """Find an order. `steps_max` bounds how long a history without one is searched."""
    ranked = sorted((item for item in items if item.rank is not None), key=_by_rank)
    free = sorted((item for item in items if item.rank is None), key=_by_call)
    # Of the ranked from each place on, the earliest return.
    returns = [NEVER] * (len(ranked) + 1)
    for at in range(len(ranked) - 1, -1, -1):
        returns[at] = min(returns[at + 1], ranked[at].returned)
    wanted = sum(1 << at for at, item in enumerate(free) if item.must_be)
    certain = [(at, item) for at, item in enumerate(free) if item.must_be]
    # The youngest first: what hung for long mostly came to nothing.
    doubtful = [(at, item) for at, item in enumerate(free) if not item.must_be][::-1]

    def successors(place: int, used: int, state: S) -> Iterator[tuple[int, int, S, Item[O]]]:
        deadline = returns[place]
        for at, item in enumerate(free):
            if not used >> at & 1 and item.returned < deadline:
                deadline = item.returned
        next_rank = ranked[place].rank if place < len(ranked) else None
        if place < len(ranked) and ranked[place].invoked <= deadline:
            item = ranked[place]
            for after in step(state, item.operation, next_rank):
                yield place + 1, used, after, item
        for at, item in certain:
            if item.invoked > deadline:
                break
            if not used >> at & 1:
                for after in step(state, item.operation, next_rank):
                    yield place, used | 1 << at, after, item
        # What may also never have been comes last: most often it need not. And of that, what helps the next one first.
        later: list[tuple[int, int, S, Item[O]]] = []
        for at, item in doubtful:
            if item.invoked > deadline or used >> at & 1:
                continue
            for after in step(state, item.operation, next_rank):
                if after == state and item.returned == NEVER:
                    # It explains nothing here: with n of these there were 2**n ways to the same place.
                    continue
                found = place, used | 1 << at, after, item
                if place == len(ranked) or any(True for _ in step(after, ranked[place].operation, None)):
                    yield found
                else:
                    later.append(found)
        yield from later

    seen: set[tuple[int, int, S]] = {(0, 0, initial)}
    ways = [successors(0, 0, initial)]
    order: list[tuple[Item[O], Hashable]] = []
    farthest = 0
    place = used = 0
    steps = 0
    if not ranked and not wanted:
        return Verdict(True)
    while ways:
        found = next(ways[-1], None)
        if found is None:
            ways.pop()
            if order:
                order.pop()
            continue
        place, used, state, item = found
        key = (place, used, state)
        if key in seen:
            continue
        steps += 1
        if steps > steps_max:
            return Verdict(False, stuck=ranked[farthest] if farthest < len(ranked) else None, gave_up=True)
        seen.add(key)
        order.append((item, state))
        farthest = max(farthest, place)
        if place == len(ranked) and used & wanted == wanted:
            return Verdict(True, order)
        ways.append(successors(place, used, state))
    if farthest < len(ranked):
        return Verdict(False, stuck=ranked[farthest])
    return Verdict(False, stuck=next((item for at, item in enumerate(free) if item.must_be), None))


def _by_rank(item: Item[O]) -> tuple[int, float]:
    assert item.rank is not None
    return item.rank, item.invoked


def _by_call(item: Item[O]) -> float:
    return item.invoked
