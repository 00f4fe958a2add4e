"""The search for an order beside one that tries them all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.sim.checkers.search import NEVER, Item, search

# A register: ("put", value) or ("get", value).
Deed = tuple[str, int]


def step(state: int, deed: Deed, _next_rank: int | None) -> Iterator[int]:
    kind, value = deed
    if kind == "put":
        yield value
    elif value == state:
        yield state


@st.composite
def items(draw: st.DrawFn) -> list[Item[Deed]]:
    made = []
    for _ in range(draw(st.integers(0, 5))):
        deed = (draw(st.sampled_from(("put", "get"))), draw(st.integers(0, 2)))
        invoked = draw(st.integers(0, 6))
        returned = invoked + draw(st.integers(1, 5))
        is_lost = deed[0] == "put" and draw(st.booleans())
        made.append(Item(deed, float(invoked), NEVER if is_lost else float(returned), None, not is_lost))
    return made


def has_order(items: list[Item[Deed]]) -> bool:
    """Whether any order of all that must be, and some of what may be, is in time and explains the reads."""
    optional = [item for item in items if not item.must_be]
    certain = [item for item in items if item.must_be]
    for chosen in range(1 << len(optional)):
        some = certain + [item for at, item in enumerate(optional) if chosen >> at & 1]
        if any(_explains(order) for order in permutations(some)):
            return True
    return False


def _explains(order: tuple[Item[Deed], ...]) -> bool:
    state = 0
    for at, item in enumerate(order):
        if any(later.returned < item.invoked for later in order[at + 1 :]):
            return False
        if item.operation[0] == "put":
            state = item.operation[1]
        elif item.operation[1] != state:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(items())
def test_the_search_finds_an_order_where_there_is_one(history: list[Item[Deed]]) -> None:
    verdict = search(history, 0, step)
    assert not verdict.gave_up
    assert verdict.is_linearizable == has_order(history)
    if verdict.is_linearizable:
        assert _explains(tuple(item for item, _ in verdict.order))
