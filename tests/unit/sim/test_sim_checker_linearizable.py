"""The linearizability checker on histories known good and bad."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balsad.sim.checkers import check_linearizable
from balsad.sim.requests import MOD, Compare, Put, PutResult, Range, RangeResult, Txn, TxnResult
from tests.unit.sim.histories import Book, kv, told, was_put


def judged(write: Callable[[Book], None]) -> list[str]:
    book = Book()
    write(book)
    return check_linearizable(book.history)[1]


def swap(mod: int, value: bytes) -> Txn:
    return Txn((Compare(b"a", MOD, mod),), (Put(b"a", value),), (Range(b"a"),))


SWAPPED = TxnResult(True, (PutResult(),))


# Good ones.


def one_after_the_other(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.get((3, 4), b"a", 2, kv(b"a", b"1", 2))
    book.put((5, 6), b"a", b"2", 3)
    book.get((7, 8), b"a", 3, kv(b"a", b"2", 3, 2, 2))
    book.delete((9, 10), b"a", 4, 1)
    book.get((11, 12), b"a", 4, None)


def at_the_same_time_in_either_order(book: Book) -> None:
    book.put((1, 9), b"a", b"1", 3)
    book.put((1, 9), b"a", b"2", 2)
    book.get((2, 8), b"a", 2, kv(b"a", b"2", 2))
    book.get((10, 11), b"a", 3, kv(b"a", b"1", 3, 2, 2))


def what_nobody_heard_of_was_done(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.lost_put(3, b"a", b"2")
    book.get((9, 10), b"a", 3, kv(b"a", b"2", 3, 2, 2))


def what_nobody_heard_of_was_not_done(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.lost_put(3, b"a", b"2")
    book.get((9, 10), b"a", 2, kv(b"a", b"1", 2))


def done_long_after_its_client_gave_up(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.lost_put(3, b"a", b"2")
    book.get((4, 5), b"a", 2, kv(b"a", b"1", 2))
    book.get((9, 10), b"a", 3, kv(b"a", b"2", 3, 2, 2))


def a_stale_read_that_was_asked_for(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 4), b"a", b"2", 3)
    book.get((5, 6), b"a", 2, kv(b"a", b"1", 2), serializable=True)
    book.get((7, 8), b"a", 3, kv(b"a", b"1", 2), at=2)


def one_swap_wins(book: Book) -> None:
    book.put((1, 2), b"a", b"0", 2)
    book.txn((3, 9), swap(2, b"1"), 3, SWAPPED)
    there = RangeResult((kv(b"a", b"1", 3, 2, 2),), 1)
    book.txn((3, 9), swap(2, b"2"), 3, TxnResult(False, (there,)))


def a_lease_ended_and_took_its_keys(book: Book) -> None:
    book.lease("grant", (1, 2), ttl=2, told=2)
    book.put((3, 4), b"a", b"1", 2, lease=7)
    book.put((5, 6), b"b", b"1", 3, lease=7)
    book.get((20, 21), b"a", 4, None)
    book.get((20, 21), b"b", 4, None)


@pytest.mark.parametrize(
    "write",
    [
        one_after_the_other,
        at_the_same_time_in_either_order,
        what_nobody_heard_of_was_done,
        what_nobody_heard_of_was_not_done,
        done_long_after_its_client_gave_up,
        a_stale_read_that_was_asked_for,
        one_swap_wins,
        a_lease_ended_and_took_its_keys,
    ],
)
def test_good_histories_pass(write: Callable[[Book], None]) -> None:
    assert judged(write) == []


# Bad ones.


def a_stale_read(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 4), b"a", b"2", 3)
    book.get((5, 6), b"a", 2, kv(b"a", b"1", 2))


def a_stale_read_under_a_new_revision(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 4), b"a", b"2", 3)
    book.get((5, 6), b"a", 3, kv(b"a", b"1", 2))


def a_read_that_goes_back(book: Book) -> None:
    """Both while the write is under way, but one after the other."""
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 9), b"a", b"2", 3)
    book.get((4, 5), b"a", 3, kv(b"a", b"2", 3, 2, 2))
    book.get((6, 7), b"a", 2, kv(b"a", b"1", 2))


def a_lost_write(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.get((3, 4), b"a", 2, None)


def a_write_done_twice(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.get((3, 4), b"a", 3, kv(b"a", b"1", 3, 2, 2))


def a_refused_write_was_done(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.refused_put((3, 4), b"a", b"2")
    book.get((5, 6), b"a", 3, kv(b"a", b"2", 3, 2, 2))


def a_value_from_nowhere(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.get((3, 4), b"a", 2, kv(b"a", b"7", 2))


def a_read_of_the_future(book: Book) -> None:
    book.get((1, 2), b"a", 2, kv(b"a", b"1", 2))
    book.put((3, 4), b"a", b"1", 2)


def one_revision_for_two(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((1, 2), b"b", b"1", 2)


def both_swaps_win(book: Book) -> None:
    book.put((1, 2), b"a", b"0", 2)
    book.txn((3, 9), swap(2, b"1"), 3, SWAPPED)
    book.txn((3, 9), swap(2, b"2"), 4, SWAPPED)


def half_a_txn(book: Book) -> None:
    both = Txn((), (Put(b"a", b"1"), Put(b"b", b"1")))
    book.txn((1, 2), both, 2, TxnResult(True, (PutResult(), PutResult())))
    book.get((3, 4), b"a", 2, kv(b"a", b"1", 2))
    book.get((3, 4), b"b", 2, None)


def a_deletion_of_nothing_that_was_there(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.delete((3, 4), b"a", 2, 0)


def a_lease_took_one_key_of_two(book: Book) -> None:
    book.lease("grant", (1, 2), ttl=2, told=2)
    book.put((3, 4), b"a", b"1", 2, lease=7)
    book.put((5, 6), b"b", b"1", 3, lease=7)
    book.get((20, 21), b"a", 4, None)
    book.get((22, 23), b"b", 4, kv(b"b", b"1", 3, lease=7))


def a_watch_told_what_a_read_denies(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.watch(told(3, was_put(kv(b"a", b"9", 2))))


def a_serializable_read_of_what_never_was(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 4), b"a", b"2", 3)
    book.get((5, 6), b"a", 2, kv(b"a", b"2", 2), serializable=True)


@pytest.mark.parametrize(
    "write",
    [
        a_stale_read,
        a_stale_read_under_a_new_revision,
        a_read_that_goes_back,
        a_lost_write,
        a_write_done_twice,
        a_refused_write_was_done,
        a_value_from_nowhere,
        a_read_of_the_future,
        one_revision_for_two,
        both_swaps_win,
        half_a_txn,
        a_deletion_of_nothing_that_was_there,
        a_lease_took_one_key_of_two,
        a_watch_told_what_a_read_denies,
        a_serializable_read_of_what_never_was,
    ],
)
def test_bad_histories_are_found(write: Callable[[Book], None]) -> None:
    assert judged(write)
