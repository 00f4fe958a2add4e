"""What a gRPC proxy remembers of ranges, and what makes it forget."""

from __future__ import annotations

import pytest

from balsad.errors import CompactedError
from balsad.proxy.range_cache import ANSWERS_MAX, BYTES_MAX, ENTRY_BYTES_MAX, RangeCache

TOKEN = b"t"


def question(text: str) -> tuple[bytes, bytes]:
    return TOKEN, text.encode()


def test_an_answer_is_given_again_to_whoever_shows_the_same_token() -> None:
    cache = RangeCache()
    cache.add(question("a"), b"a", b"", 0, b"answer")

    assert cache.get(question("a"), 0) == b"answer"
    assert cache.get((b"another", b"a"), 0) is None
    assert cache.get(question("b"), 0) is None


@pytest.mark.parametrize(
    ("key", "end", "forgotten"),
    [
        (b"b", b"", True),
        (b"a", b"", False),
        (b"d", b"", False),
        (b"a", b"b", False),
        (b"a", b"c", True),
        (b"a", b"\0", True),
        (b"z", b"\0", False),
    ],
)
def test_a_write_in_the_range_makes_it_forgotten(key: bytes, end: bytes, forgotten: bool) -> None:
    cache = RangeCache()
    cache.add(question("range"), b"b", b"d", 0, b"answer")
    cache.add(question("past"), b"b", b"d", 7, b"as it was")

    cache.invalidate(key, end)

    assert (cache.get(question("range"), 0) is None) == forgotten
    # What was, stays.
    assert cache.get(question("past"), 7) == b"as it was"


def test_a_range_without_an_end_is_forgotten_too() -> None:
    """etcd's proxy keeps it for ever."""
    cache = RangeCache()
    cache.add(question("all"), b"\0", b"\0", 0, b"answer")

    cache.invalidate(b"k", b"")

    assert cache.get(question("all"), 0) is None
    assert len(cache) == 0


def test_what_is_compacted_is_refused_and_the_present_still_kept() -> None:
    cache = RangeCache()
    cache.add(question("past"), b"a", b"", 3, b"old")
    cache.compact(5)
    cache.compact(4)

    with pytest.raises(CompactedError):
        cache.get(question("past"), 3)
    cache.add(question("past"), b"a", b"", 5, b"gone")
    cache.add(question("present"), b"a", b"", 0, b"new")
    assert cache.get(question("past"), 5) is None
    assert cache.get(question("present"), 0) == b"new"


def test_neither_answers_nor_requests_grow_without_bound() -> None:
    cache = RangeCache()
    for number in range(ANSWERS_MAX + 10):
        cache.add(question(str(number)), b"k%d" % number, b"", 0, b"x")
    assert len(cache) == ANSWERS_MAX
    assert cache.get(question("9"), 0) is None
    assert cache.get(question("10"), 0) == b"x"

    cache.add(question("large"), b"a", b"", 0, bytes(ENTRY_BYTES_MAX))
    cache.add((TOKEN, bytes(ENTRY_BYTES_MAX)), b"a", b"", 0, b"x")
    assert len(cache) == ANSWERS_MAX
    for number in range(200):
        cache.add(question(f"big{number}"), b"a", b"", 0, bytes(ENTRY_BYTES_MAX - 100))
    assert len(cache) <= BYTES_MAX // (ENTRY_BYTES_MAX - 100)
    cache.invalidate(b"a", b"")
    assert cache.get(question("big199"), 0) is None
