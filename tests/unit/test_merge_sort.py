"""Sorting in slices gives what sorting at once gives, with a bounded piece of work for each."""

from __future__ import annotations

import random

import pytest

from balsad import merge_sort
from balsad.merge_sort import MergeSort
from balsad.mvcc.sorted_keys import SortedKeys


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 8192, 30_000])
@pytest.mark.parametrize("order", ["by chance", "in order", "backwards", "alike"])
def test_it_sorts(count: int, order: str) -> None:
    keys = [b"%07d" % number for number in range(count)]
    if order == "by chance":
        random.Random(count).shuffle(keys)
    elif order == "backwards":
        keys.reverse()
    elif order == "alike":
        keys = [key[:5] for key in keys]
    sort = MergeSort(keys)
    steps = 0
    while not sort.step(1000):
        steps += 1
    assert [key for stretch in sort.stretches for key in stretch] == sorted(keys)
    assert all(sort.stretches)
    if order != "alike":
        assert max(map(len, sort.stretches), default=0) <= merge_sort._STRETCH
        # Each key is sorted once in its run and once in its stretch; runs are what one step takes at least.
        assert steps >= count // merge_sort._RUN + (count // 3000 if count > merge_sort._RUN else 0) - 1


def test_sorted_keys_take_what_was_sorted() -> None:
    keys = [b"%07d" % number for number in range(0, 40_000, 2)]
    random.Random(7).shuffle(keys)
    sort = MergeSort(keys)
    while not sort.step(500):
        pass
    one, other = SortedKeys(), SortedKeys()
    one.take_stretches(sort.stretches)
    other.reset(keys)
    for chance in range(200):
        number = random.Random(chance).randrange(40_000)
        key, end = b"%07d" % number, b"%07d" % (number + 700)
        for each in (one, other):
            if number % 2:
                each.add(key)
            elif each.between(key, key + b"\0", 1):
                each.remove(key)
        assert one.count(key, end) == other.count(key, end)
        assert one.count(b"", key) == other.count(b"", key)
        assert one.between(key, end, 10) == other.between(key, end, 10)
    assert one.between(b"", b"\0", 0) == other.between(b"", b"\0", 0)
    assert len(one) == len(other)
