"""Free pages: spans, readers, the stored list."""

from __future__ import annotations

import random
from array import array

import pytest

from balsad.storage import CorruptDatabaseError
from balsad.storage.bolt.freelist import Freelist, freelist_of, read_freelist_page
from balsad.storage.bolt.page import FREELIST, HEADER


def test_neighbours_become_one_span() -> None:
    freelist = freelist_of([4, 5, 9, 11])

    freelist.add(10, 1)
    freelist.add(6, 1)

    assert freelist.spans() == [(4, 3), (9, 3)]
    assert freelist.free_count == 6


def test_the_shortest_span_that_fits_is_taken() -> None:
    freelist = freelist_of([4, 5, 6, 7, 20, 21, 30])

    assert freelist.take(2) == 20
    assert freelist.take(3) == 4
    assert freelist.spans() == [(7, 1), (30, 1)]
    assert freelist.take(2) == 0
    assert freelist.free_count == 2


def test_spans_agree_with_a_set_of_pages() -> None:
    """Whatever is taken and given back, the spans are the runs of the free pages."""
    rnd = random.Random(1)
    freelist = Freelist()
    free: set[int] = set()
    held: list[tuple[int, int]] = [(start, 10) for start in range(10, 1000, 10)]
    for _ in range(3000):
        if held and rnd.random() < 0.5:
            start, length = held.pop(rnd.randrange(len(held)))
            freelist.add(start, length)
            free.update(range(start, start + length))
        else:
            count = rnd.choice((1, 1, 2, 7, 30))
            start = freelist.take(count)
            if start:
                taken = set(range(start, start + count))
                assert taken <= free
                free -= taken
                held.append((start, count))
            else:
                assert not any(set(range(page, page + count)) <= free for page in free)
        assert freelist.free_count == len(free)
    assert [page for start, length in freelist.spans() for page in range(start, start + length)] == sorted(free)
    assert all(start + length not in free and start - 1 not in free for start, length in freelist.spans())


def test_replaced_pages_wait_for_older_readers() -> None:
    freelist = Freelist()
    freelist.readers = [5]
    freelist.begin(6)
    freelist.freed(6, [(40, 1)])  # in state 5, not in 6

    assert freelist.begin(7) == []
    freelist.readers = [6]
    assert freelist.begin(7) == [(40, 1)]


def test_pages_that_no_reader_ever_saw_do_not_wait() -> None:
    """A long snapshot must not make the file grow by every page written since."""
    freelist = Freelist()
    freelist.readers = [5]
    freelist.begin(6)
    freelist.allocated(40)
    freelist.freed(6, [])
    freelist.begin(7)
    freelist.freed(7, [(40, 2), (41, 1)])  # 40 came after the reader, 41 before

    assert freelist.begin(8) == [(40, 2)]
    assert freelist.pending_count() == 1


def test_a_reader_that_came_between_keeps_what_it_saw() -> None:
    freelist = Freelist()
    freelist.readers = [5]
    freelist.begin(6)
    freelist.allocated(40)
    freelist.freed(6, [])
    freelist.begin(7)
    freelist.readers.append(6)  # sees page 40, while 7 is being built
    freelist.freed(7, [(40, 1)])

    assert freelist.begin(8) == []
    freelist.readers.remove(6)
    assert freelist.begin(9) == [(40, 1)]


def freelist_page(count: int, ids: list[int], flags: int = FREELIST) -> bytes:
    return (HEADER.pack(2, flags, count, 0) + array("Q", ids).tobytes()).ljust(4096, b"\0")


def test_a_stored_list_is_read() -> None:
    assert read_freelist_page("db", 2, freelist_page(3, [9, 4, 7]), 4096, 10) == [4, 7, 9]
    assert read_freelist_page("db", 2, freelist_page(0xFFFF, [2, 4, 5, 6]), 4096, 10) == [4, 5]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (freelist_page(1, [4], flags=2), "expected freelist page 2, found leaf page 2"),
        (freelist_page(511, []), "expected at most 510 ids, found a count of 511"),
        (freelist_page(1, [10]), "expected free pages from 2 to 9, found page 10"),
    ],
)
def test_a_broken_list_is_an_error_that_says_where(page: bytes, said: str) -> None:
    with pytest.raises(CorruptDatabaseError, match=said) as caught:
        read_freelist_page("db", 2, page, 4096, 10)
    assert caught.value.offset == 2 * 4096
