"""Taking many keys out of the ordered set at once leaves what taking them out one by one leaves."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from balsad.mvcc.sorted_keys import SortedKeys


def key_of(number: int) -> bytes:
    return b"%06d" % number


@pytest.mark.parametrize("seed", range(25))
def test_ranges_and_many_keys_are_dropped(seed: int) -> None:
    chances = random.Random(seed)
    numbers = 9000
    wanted = sorted(map(key_of, chances.sample(range(numbers), numbers * 2 // 3)))
    keys = SortedKeys()
    keys.reset(wanted)
    for _ in range(60):
        what = chances.randrange(4)
        key = key_of(chances.randrange(numbers))
        end = chances.choice((b"\0", key_of(chances.randrange(numbers)), key + b"\0"))
        first = bisect_left(wanted, key)
        last = len(wanted) if end == b"\0" else bisect_left(wanted, end)
        if end == b"\0" and chances.random() < 0.9:
            continue
        if what == 0:
            keys.remove_between(key, end)
            del wanted[first : max(first, last)]
        elif what == 1 and last > first:
            share = chances.choice((0.001, 0.02, 0.5, 1.0))
            gone = [one for one in wanted[first:last] if chances.random() < share]
            keys.remove_all(gone)
            wanted = [one for one in wanted if one not in set(gone)]
        elif what == 2:
            count = chances.choice((3, 300, numbers // 3))
            new = sorted(one for one in map(key_of, chances.sample(range(numbers), count)) if one not in set(wanted))
            keys.add_all(new)
            wanted = sorted(wanted + new)
        elif key not in wanted:
            keys.add(key)
            wanted = sorted([*wanted, key])
        assert len(keys) == len(wanted)
        assert keys.between(b"", b"\0", 0) == wanted
        probe, stop = sorted((key_of(chances.randrange(numbers)), key_of(chances.randrange(numbers))))
        assert keys.count(probe, stop) == bisect_left(wanted, stop) - bisect_left(wanted, probe)
        assert keys.between(probe, stop, 5) == wanted[bisect_left(wanted, probe) : bisect_left(wanted, stop)][:5]


def test_a_range_is_dropped_without_a_look_at_each_of_its_keys() -> None:
    looks = 0

    class Key(bytes):
        def __lt__(self, other: bytes) -> bool:
            nonlocal looks
            looks += 1
            return bytes.__lt__(self, other)

    keys = SortedKeys()
    keys.reset(Key(b"%06d" % number) for number in range(50_000))
    looks = 0
    keys.remove_between(Key(b"001000"), Key(b"049000"))
    assert len(keys) == 2000
    assert looks < 200
