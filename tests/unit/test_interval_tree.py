"""The interval tree beside a list of ranges that is looked through from front to back."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.interval_tree import IntervalTree

points = st.binary(max_size=2).map(lambda data: bytes(byte % 4 for byte in data) or b"\0")
ends = st.one_of(st.just(b""), st.just(b"\0"), points)
ranges = st.tuples(points, ends)


def holds(of: tuple[bytes, bytes], point: bytes) -> bool:
    key, end = of
    if end == b"":
        return point == key
    return point >= key and (end == b"\0" or point < end)


def canonical(of: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """[k, k\0) and k alone are one range written in two ways."""
    key, end = of
    return key, key + b"\0" if end == b"" else end


# Every key of two bytes 0..3, and what lies between: enough to tell any two of the ranges apart.
UNIVERSE = sorted(
    {bytes(byte for byte in key) for a in range(5) for b in range(5) for key in ((a,), (a, b), (a, b, 0), (a, b, 9))}
)


def built(of: list[tuple[bytes, bytes]]) -> IntervalTree[tuple[bytes, bytes]]:
    tree: IntervalTree[tuple[bytes, bytes]] = IntervalTree()
    for each in of:
        tree.insert(*each, each)
    return tree


@settings(max_examples=200)
@given(inserted=st.lists(ranges, max_size=30), removed=st.lists(st.integers(0, 29), max_size=20), asked=ranges)
def test_searches_find_what_a_look_at_every_range_finds(
    inserted: list[tuple[bytes, bytes]], removed: list[int], asked: tuple[bytes, bytes]
) -> None:
    tree = built(inserted)
    by_range = {canonical(each): each for each in inserted}
    for place in removed:
        if place < len(inserted):
            expected = by_range.pop(canonical(inserted[place]), None)
            assert tree.remove(*inserted[place]) == (expected is not None)

    left = set(by_range.values())
    assert len(tree) == len(left)
    for each in left:
        assert tree.get(*each) == each
    for point in UNIVERSE:
        assert set(tree.stab(point)) == {each for each in left if holds(each, point)}
    touching = {each for each in left if any(holds(each, point) and holds(asked, point) for point in UNIVERSE)}
    assert set(tree.intersect(*asked)) == touching
    whole = [point for point in UNIVERSE if holds(asked, point)]
    assert tree.covers(*asked) == (bool(whole) and all(any(holds(each, point) for each in left) for point in whole))
    starts = [start for start, _, _ in tree.items()]
    assert starts == sorted(starts)


def test_a_range_inserted_twice_keeps_the_last_value() -> None:
    tree: IntervalTree[int] = IntervalTree()
    tree.insert(b"a", b"c", 1)
    tree.insert(b"a", b"c", 2)

    assert (len(tree), tree.get(b"a", b"c"), tree.stab(b"b")) == (1, 2, [2])
    assert tree.get(b"a", b"") is None


def test_neighbours_cover_together_and_a_gap_is_seen() -> None:
    """As auth asks: is everything of the request permitted, if only by several permissions?"""
    tree: IntervalTree[int] = IntervalTree()
    tree.insert(b"a", b"c", 1)
    tree.insert(b"c", b"e", 2)
    tree.insert(b"f", b"\0", 3)

    assert tree.covers(b"a", b"e")
    assert tree.covers(b"b", b"d")
    assert not tree.covers(b"a", b"f")
    assert tree.covers(b"x", b"\0")
    assert not tree.covers(b"b", b"\0")
    assert tree.covers(b"e\xff", b"") is False


def test_the_tree_stays_flat_whatever_the_order() -> None:
    """An AVL tree is never higher than 1.45 log2 n: searches stay short with ten thousand watchers."""
    ascending = [b"%05d" % i for i in range(10_000)]
    shuffled = random.Random(1).sample(ascending, len(ascending))
    for order in (ascending, ascending[::-1], shuffled):
        tree: IntervalTree[int] = IntervalTree()
        for i, key in enumerate(order):
            tree.insert(key, key + b"x", i)
        for key in order[::3]:
            tree.remove(key, key + b"x")

        assert tree._root is not None
        assert tree._root.height <= 1.45 * math.log2(len(tree) + 2)
        assert tree.stab(order[1]) == [1]
