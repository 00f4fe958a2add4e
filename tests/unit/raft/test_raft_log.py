from __future__ import annotations

import pytest

from balsad.raft import CompactedError, ConfState, Entry, RaftPanic, Snapshot
from balsad.raft.log import UNKNOWN, RaftLog
from balsad.raft.sizes import entries_size
from tests.unit.raft.raft_cluster import make_log, stored


def log_of(*terms: int, stable: int = 0, committed: int = 0) -> RaftLog:
    """Entries with these terms, the first `stable` of them on disk."""
    log = RaftLog(make_log((), *terms[:stable]))
    log.append(stored(*terms[stable:], first=stable + 1))
    log.committed = committed
    return log


def test_terms_come_from_both_parts() -> None:
    log = log_of(1, 1, 2, 3, stable=2)

    assert [log.term(index) for index in range(6)] == [0, 1, 1, 2, 3, UNKNOWN]
    assert (log.first_index(), log.last_index(), log.last_term()) == (1, 4, 3)


@pytest.mark.parametrize(
    ("index", "term", "up_to_date"),
    [(2, 4, True), (3, 4, True), (4, 4, True), (2, 2, False), (4, 2, False), (2, 3, False), (3, 3, True), (4, 3, True)],
)
def test_the_later_term_or_else_the_longer_log_is_up_to_date(index: int, term: int, up_to_date: bool) -> None:
    """Raft paper 5.4.1. Source: raft's TestIsUpToDate."""
    assert log_of(1, 2, 3).is_up_to_date(index, term) is up_to_date


@pytest.mark.parametrize(
    ("entries", "conflict"),
    [
        ([], 0),
        (stored(1, 2, 3), 0),
        (stored(2, 3, first=2), 0),
        (stored(1, 2, 3, 4, 4), 4),
        (stored(4, 4, first=4), 4),
        (stored(4, 4), 1),
        (stored(1, 4, 4, first=2), 2),
        (stored(1, 2, 4, 4, first=3), 3),
    ],
)
def test_find_conflict(entries: list[Entry], conflict: int) -> None:
    """Source: raft's TestFindConflict."""
    assert log_of(1, 2, 3).find_conflict(entries) == conflict


@pytest.mark.parametrize(
    ("index", "term", "found"),
    [(9, 5, (9, 5)), (9, 4, (4, 3)), (9, 2, (1, 1)), (4, 3, (4, 3)), (9, 0, (0, 0)), (12, 5, (12, 0)), (0, 9, (0, 0))],
)
def test_find_conflict_by_term(index: int, term: int, found: tuple[int, int]) -> None:
    """Source: raft's TestFindConflictByTerm."""
    log = log_of(1, 3, 3, 3, 5, 5, 5, 5, 5)

    assert log.find_conflict_by_term(index, term) == found


def test_maybe_append_wants_the_entry_before() -> None:
    """Raft paper 5.3. Source: raft's TestLogMaybeAppend."""
    log = log_of(1, 2, 3, committed=1)

    assert log.maybe_append(3, 2, stored(4, first=4), 3) == -1
    assert log.maybe_append(4, 4, stored(4, first=5), 3) == -1
    assert (log.last_index(), log.committed) == (3, 1)


@pytest.mark.parametrize(
    ("index", "term", "terms", "commit", "last", "committed", "log_terms"),
    [
        (3, 3, (), 2, 3, 2, (1, 2, 3)),
        (3, 3, (), 5, 3, 3, (1, 2, 3)),
        (3, 3, (4, 4), 3, 5, 3, (1, 2, 3, 4, 4)),
        (2, 2, (4,), 3, 3, 3, (1, 2, 4)),
        (1, 1, (2,), 3, 2, 2, (1, 2, 3)),
        (0, 0, (1, 2), 0, 2, 1, (1, 2, 3)),
    ],
)
def test_maybe_append_replaces_conflicts_and_commits_what_it_knows(
    index: int, term: int, terms: tuple[int, ...], commit: int, last: int, committed: int, log_terms: tuple[int, ...]
) -> None:
    log = log_of(1, 2, 3, committed=1)

    assert log.maybe_append(index, term, stored(*terms, first=index + 1), commit) == last
    assert log.committed == committed
    assert [entry.term for entry in log.entries(1, 10**9)] == list(log_terms)


def test_committed_entries_are_never_replaced() -> None:
    log = log_of(1, 2, 3, committed=2)

    with pytest.raises(RaftPanic, match=r"entry 2 conflict with committed entry \[committed\(2\)\]"):
        log.maybe_append(1, 1, stored(4, first=2), 2)
    with pytest.raises(RaftPanic, match=r"after\(1\) is out of range \[committed\(2\)\]"):
        log.append(stored(4, first=2))


def test_commit_never_goes_back_nor_beyond_the_log() -> None:
    log = log_of(1, 2, 3, committed=2)

    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(RaftPanic, match=r"tocommit\(4\) is out of range \[lastIndex\(3\)\]\. Was the raft log corr"):
        log.commit_to(4)


def test_a_leader_commits_only_entries_of_its_term() -> None:
    """Raft paper 5.4.2."""
    log = log_of(1, 2, 2)

    assert not log.maybe_commit(1, 2)
    assert not log.maybe_commit(0, 0)
    assert log.maybe_commit(3, 2)
    assert not log.maybe_commit(3, 2)


def test_a_slice_spans_both_parts_within_the_limit() -> None:
    """Source: raft's TestSlice."""
    log = log_of(1, 1, 1, 1, 1, 1, stable=3)
    size = entries_size(log.slice(1, 2, 10**9))

    assert [entry.index for entry in log.slice(2, 6, 10**9)] == [2, 3, 4, 5]
    assert [entry.index for entry in log.slice(2, 6, 0)] == [2]
    assert [entry.index for entry in log.slice(2, 7, 2 * size)] == [2, 3]
    assert [entry.index for entry in log.slice(2, 7, 3 * size - 1)] == [2, 3]
    assert [entry.index for entry in log.slice(2, 7, 3 * size)] == [2, 3, 4]
    assert [entry.index for entry in log.slice(5, 7, size)] == [5]
    with pytest.raises(RaftPanic):
        log.slice(2, 8, 10**9)


def test_what_is_compacted_cannot_be_read() -> None:
    storage = make_log((), 1, 1, 1)
    storage.compact(2)
    log = RaftLog(storage)

    assert (log.term(1), log.term(2)) == (UNKNOWN, 1)
    with pytest.raises(CompactedError):
        log.slice(2, 3, 10**9)


def test_committed_entries_go_out_once_and_in_portions() -> None:
    """Source: raft's TestNextCommittedEnts, TestAppliedTo."""
    entries = stored(1, 1, 1)
    for made in entries:
        made.data = b"x" * 100
    log = RaftLog(make_log(()), applying_size_max=entries_size(entries[:2]))
    log.append(entries)
    log.commit_to(3)

    first = log.next_committed(True)
    assert first == entries[:2]
    log.accept_applying(2, entries_size(first), True)
    assert not log.has_next_committed(True)
    assert log.next_committed(True) == []

    log.applied_to(1, entries_size(first[:1]))
    assert log.has_next_committed(True)
    assert log.next_committed(True) == entries[2:]
    log.accept_applying(3, entries_size(entries[2:]), True)
    log.applied_to(3, entries_size(entries[1:]))
    assert (log.applied, log.applying, log.applying_size) == (3, 3, 0)


def test_with_asynchronous_storage_only_stable_entries_are_applied() -> None:
    log = log_of(1, 1, 1, stable=2, committed=3)

    assert [entry.index for entry in log.next_committed(False)] == [1, 2]
    assert [entry.index for entry in log.next_committed(True)] == [1, 2, 3]


def test_nothing_is_applied_before_a_waiting_snapshot() -> None:
    log = log_of(1, 1, 1, stable=3, committed=1)
    assert log.has_next_committed(True)

    log.restore(Snapshot(9, 2, ConfState((1,))))

    assert not log.has_next_committed(True)
    assert log.next_committed(True) == []
    assert (log.committed, log.first_index(), log.last_index(), log.term(9)) == (9, 10, 9, 2)


@pytest.mark.parametrize("index", [2, 5])
def test_applied_stays_between_itself_and_committed(index: int) -> None:
    log = log_of(1, 1, 1, 1, 1, committed=4)
    log.applied_to(3, 0)

    with pytest.raises(RaftPanic, match=rf"applied\({index}\) is out of range \[prevApplied\(3\), committed\(4\)\]"):
        log.applied_to(index, 0)
