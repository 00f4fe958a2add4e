from __future__ import annotations

import pytest

from balsad.raft import ConfState, Entry, RaftPanic, Snapshot
from balsad.raft.unstable import Unstable
from tests.unit.raft.raft_cluster import stored


def unstable(offset: int, *terms: int, snapshot: Snapshot | None = None) -> Unstable:
    made = Unstable(offset)
    made.snapshot = snapshot
    if terms:
        made.truncate_and_append(stored(*terms, first=offset))
    return made


def test_terms_of_entries_and_of_the_snapshot_before_them() -> None:
    """Source: raft's TestUnstableMaybeTerm."""
    made = unstable(5, 1, 2, snapshot=Snapshot(4, 1, ConfState((1,))))

    assert [made.term(index) for index in (3, 4, 5, 6, 7)] == [-1, 1, 1, 2, -1]


def test_each_entry_is_handed_out_once() -> None:
    made = unstable(5, 1, 1)
    assert made.next_entries() == stored(1, 1, first=5)

    made.accept_in_progress()
    assert made.next_entries() == []

    made.truncate_and_append(stored(1, first=7))
    assert made.next_entries() == stored(1, first=7)


def test_a_list_handed_out_never_changes() -> None:
    made = unstable(5, 1)
    handed_out = made.next_entries()
    made.accept_in_progress()

    made.truncate_and_append(stored(1, first=6))
    made.truncate_and_append(stored(2, first=5))

    assert handed_out == stored(1, first=5)


def test_a_list_taken_in_never_changes() -> None:
    mine = stored(1, first=5)
    made = Unstable(5)
    made.truncate_and_append(mine)

    made.truncate_and_append(stored(1, 1, first=6))

    assert len(mine) == 1
    assert made.entries == stored(1, 1, 1, first=5)


@pytest.mark.parametrize(
    ("index", "term", "offset", "left"),
    [
        (5, 1, 6, stored(1, first=6)),
        (6, 1, 7, []),
        (6, 2, 5, stored(1, 1, first=5)),
        (4, 1, 5, stored(1, 1, first=5)),
        (7, 1, 5, stored(1, 1, first=5)),
    ],
)
def test_what_is_on_disk_is_forgotten_unless_it_was_replaced(
    index: int, term: int, offset: int, left: list[Entry]
) -> None:
    """Source: raft's TestUnstableStableTo."""
    made = unstable(5, 1, 1)
    made.accept_in_progress()

    made.stable_to(index, term)

    assert (made.offset, made.entries) == (offset, left)


def test_replacing_entries_voids_what_was_being_written_of_them() -> None:
    """Source: raft's TestUnstableTruncateAndAppend."""
    made = unstable(5, 1, 1, 1)
    made.accept_in_progress()

    made.truncate_and_append(stored(2, first=6))

    assert made.entries == [*stored(1, first=5), *stored(2, first=6)]
    assert made.next_entries() == stored(2, first=6)

    made.truncate_and_append(stored(3, 3, first=4))
    assert (made.offset, made.next_entries()) == (4, stored(3, 3, first=4))


def test_a_snapshot_is_handed_out_once_and_forgotten_when_stable() -> None:
    made = unstable(5, 1)
    made.restore(Snapshot(9, 2, ConfState((1,))))
    assert (made.offset, made.entries) == (10, [])
    assert made.next_snapshot() is made.snapshot is not None

    made.accept_in_progress()
    assert made.next_snapshot() is None

    made.stable_snapshot_to(8)
    assert made.snapshot is not None
    made.stable_snapshot_to(9)
    assert made.snapshot is None


def test_a_slice_must_lie_within() -> None:
    made = unstable(5, 1, 1)

    assert made.slice(5, 7) == stored(1, 1, first=5)
    for low, high in ((4, 6), (5, 8), (7, 6)):
        with pytest.raises(RaftPanic):
            made.slice(low, high)
