"""The other checkers on histories known good and bad: watches, leases, durability, convergence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balsad.sim.checkers import judge
from balsad.sim.history import DONE as OK
from balsad.sim.history import Compaction
from tests.unit.sim.histories import Book, kv, progress, told, was_deleted, was_put

A2 = kv(b"a", b"1", 2)
B3 = kv(b"b", b"1", 3)
A4 = kv(b"a", b"2", 4, 2, 2)


def three_puts(book: Book) -> None:
    book.put((1, 2), b"a", b"1", 2)
    book.put((3, 4), b"b", b"1", 3)
    book.put((5, 6), b"a", b"2", 4)


def laws(write: Callable[[Book], None]) -> set[str]:
    """The names of the laws that a history breaks."""
    book = Book()
    write(book)
    return {sentence.split(":")[0] for sentence in judge(book.history)}


# Watches.


def all_of_it(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), told(5, was_put(B3)), progress(6, 3), told(7, was_put(A4)), progress(8, 4))


def in_one_message(book: Book) -> None:
    three_puts(book)
    book.watch(told(9, was_put(A2), was_put(B3), was_put(A4)))


def cut_off_and_resumed(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), ended=4)
    book.watch(told(8, was_put(B3), was_put(A4)), start=3)


def one_key_of_two(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), told(7, was_put(A4)), key=b"a")


def compacted_away(book: Book) -> None:
    three_puts(book)
    book.history.compactions.append(Compaction(4, 6.5, 7.0, OK))
    watch = book.watch(start=2, ended=9)
    watch.is_canceled, watch.compact_revision = True, 4


@pytest.mark.parametrize("write", [all_of_it, in_one_message, cut_off_and_resumed, one_key_of_two, compacted_away])
def test_good_watches_pass(write: Callable[[Book], None]) -> None:
    assert laws(write) == set()


def one_left_out(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), told(7, was_put(A4)))


def left_out_below_a_progress(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), progress(8, 4), ended=9)


def one_told_twice(book: Book) -> None:
    three_puts(book)
    book.watch(told(3, was_put(A2)), told(4, was_put(A2)), told(9, was_put(B3), was_put(A4)))


def out_of_order(book: Book) -> None:
    three_puts(book)
    book.watch(told(9, was_put(B3), revision=4), told(9.5, was_put(A2), revision=4), told(10, was_put(A4)))


def before_where_it_was_to_begin(book: Book) -> None:
    three_puts(book)
    book.watch(told(9, was_put(A2), was_put(B3), was_put(A4)), start=3)


def of_another_key(book: Book) -> None:
    three_puts(book)
    book.watch(told(9, was_put(A2), was_put(B3), was_put(A4)), key=b"a")


def not_as_it_happened(book: Book) -> None:
    three_puts(book)
    book.get((7, 8), b"b", 4, B3)
    book.watch(told(9, was_put(A2), was_deleted(b"b", 3), was_put(A4)))


def half_a_revision(book: Book) -> None:
    from balsad.sim.requests import Put, PutResult, Txn, TxnResult

    both = Txn((), (Put(b"a", b"1"), Put(b"b", b"1")))
    book.txn((1, 2), both, 2, TxnResult(True, (PutResult(), PutResult())))
    book.watch(told(3, was_put(A2)), told(3, was_put(kv(b"b", b"1", 2))))


def a_header_behind_its_events(book: Book) -> None:
    three_puts(book)
    book.watch(told(9, was_put(A2), was_put(B3), was_put(A4), revision=3))


def canceled_for_a_compaction_behind_it(book: Book) -> None:
    three_puts(book)
    book.history.compactions.append(Compaction(2, 6.5, 7.0, OK))
    watch = book.watch(told(3, was_put(A2)), told(5, was_put(B3)), start=2, ended=9)
    watch.is_canceled, watch.compact_revision = True, 2


def canceled_for_a_compaction_that_never_was(book: Book) -> None:
    three_puts(book)
    watch = book.watch(start=2, ended=9)
    watch.is_canceled, watch.compact_revision = True, 4


@pytest.mark.parametrize(
    "write",
    [
        one_left_out,
        left_out_below_a_progress,
        one_told_twice,
        out_of_order,
        before_where_it_was_to_begin,
        of_another_key,
        half_a_revision,
        a_header_behind_its_events,
        canceled_for_a_compaction_behind_it,
        canceled_for_a_compaction_that_never_was,
    ],
)
def test_bad_watches_are_found(write: Callable[[Book], None]) -> None:
    assert "watch" in laws(write)


def test_a_watch_and_a_read_that_contradict_each_other_are_found() -> None:
    assert laws(not_as_it_happened)


# Leases.


def leased(book: Book, told_gone_at: float, *, renewed_at: float = 0.0) -> None:
    book.lease("grant", (1, 2), ttl=5, told=5)
    book.put((2, 3), b"a", b"1", 2, lease=7)
    book.put((2, 3), b"b", b"1", 3, lease=7)
    if renewed_at:
        book.lease("renew", (renewed_at, renewed_at + 0.5), told=5)
    gone = (was_deleted(b"a", 4), was_deleted(b"b", 4))
    put_a, put_b = kv(b"a", b"1", 2, lease=7), kv(b"b", b"1", 3, lease=7)
    book.watch(told(3, was_put(put_a), was_put(put_b)), told(told_gone_at, *gone))


def test_a_lease_that_lived_as_long_as_promised() -> None:
    assert laws(lambda book: leased(book, 6.5)) == set()
    assert laws(lambda book: leased(book, 9.5, renewed_at=4.0)) == set()


def test_a_lease_that_ended_early_is_found() -> None:
    assert "lease" in laws(lambda book: leased(book, 4.0))
    assert "lease" in laws(lambda book: leased(book, 6.5, renewed_at=4.0))


def test_a_lease_that_was_revoked_may_end_at_once() -> None:
    def write(book: Book) -> None:
        leased(book, 4.0)
        book.lease("revoke", (3.5, 4.5), revision=4)

    assert laws(write) == set()


def test_a_lease_that_lives_after_it_was_gone_is_found() -> None:
    def write(book: Book) -> None:
        book.lease("grant", (1, 2), ttl=5, told=5)
        book.lease("revoke", (3, 4), revision=1)
        book.lease("renew", (5, 6), told=5)

    assert "lease" in laws(write)


def asked_then_renewed(book: Book, *, is_known: bool) -> None:
    book.lease("grant", (1, 2), ttl=2, told=2)
    book.lease("ask", (5, 6), told=-1).is_known = is_known
    book.lease("renew", (7, 8), told=2)


def test_a_lease_that_lives_after_it_was_not_found_is_found() -> None:
    assert "lease" in laws(lambda book: asked_then_renewed(book, is_known=False))


def test_a_lease_that_is_overdue_but_not_revoked_may_be_renewed() -> None:
    """By the leader that follows, which gives every lease its time anew."""
    assert laws(lambda book: asked_then_renewed(book, is_known=True)) == set()


def test_a_grant_of_less_than_was_asked_for_is_found() -> None:
    assert "lease" in laws(lambda book: book.lease("grant", (1, 2), ttl=5, told=3) and None)


def test_a_lease_that_is_said_to_hold_what_it_held_passes() -> None:
    """Also if it is not what it holds any more: a leader that was deposed may have answered."""

    def write(book: Book) -> None:
        leased(book, 6.5)
        for keys in ((), (b"a",), (b"a", b"b")):
            book.lease("ask", (3.5, 4), told=3, revision=3).keys = keys

    assert laws(write) == set()


def test_a_lease_that_is_said_to_hold_what_it_never_held_is_found() -> None:
    def write(book: Book) -> None:
        leased(book, 6.5)
        book.lease("ask", (3.5, 4), told=3, revision=3).keys = (b"b",)

    assert "lease" in laws(write)


def test_a_lease_that_never_ends_is_found() -> None:
    assert "lease" in laws(lambda book: book.final("m1", 1, leases=(7,)))


def test_keys_that_go_one_after_the_other_are_found() -> None:
    def write(book: Book) -> None:
        book.lease("grant", (1, 2), ttl=2, told=2)
        book.put((2, 3), b"a", b"1", 2, lease=7)
        book.put((2, 3), b"b", b"1", 3, lease=7)
        put_a, put_b = kv(b"a", b"1", 2, lease=7), kv(b"b", b"1", 3, lease=7)
        book.watch(
            told(3, was_put(put_a), was_put(put_b)), told(9, was_deleted(b"a", 4)), told(9, was_deleted(b"b", 5))
        )

    assert laws(write)


# The end.


def test_what_was_acknowledged_is_there() -> None:
    def write(book: Book) -> None:
        three_puts(book)
        book.final("m1", 4, A4, B3)
        book.final("m2", 4, A4, B3)

    assert laws(write) == set()


@pytest.mark.parametrize(
    ("revision", "kvs"), [(4, (A4,)), (4, (A2, B3)), (3, (A2, B3)), (4, (kv(b"a", b"x", 4, 2, 2), B3))]
)
def test_what_was_acknowledged_and_is_gone_is_found(revision: int, kvs: tuple[object, ...]) -> None:
    def write(book: Book) -> None:
        three_puts(book)
        book.final("m1", revision, *kvs)  # type: ignore[arg-type]

    assert "durable" in laws(write)


def test_members_that_end_up_different_are_found() -> None:
    def write(book: Book) -> None:
        three_puts(book)
        book.final("m1", 4, A4, B3, hash=1)
        book.final("m2", 4, A4, B3, hash=2)

    assert laws(write) == {"converged"}
