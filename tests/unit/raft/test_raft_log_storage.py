from __future__ import annotations

import pytest

from balsad.raft import (
    CompactedError,
    ConfState,
    Entry,
    HardState,
    MemoryLog,
    RaftPanic,
    Snapshot,
    SnapshotOutOfDateError,
    UnavailableError,
)
from balsad.raft.sizes import entries_size, entry_size
from tests.unit.raft.raft_cluster import stored


def log_from_three() -> MemoryLog:
    """Compacted to 3 (term 3), then entries 4 and 5."""
    log = MemoryLog()
    log.append(stored(1, 2, 3, 4, 5))
    log.compact(3)
    return log


def test_an_empty_log_begins_at_one() -> None:
    log = MemoryLog()

    assert (log.first_index(), log.last_index(), log.term(0)) == (1, 0, 0)
    assert log.initial_state() == (HardState(), ConfState())
    with pytest.raises(UnavailableError):
        log.entries(1, 1)


def test_the_term_before_the_first_entry_is_still_known() -> None:
    """Source: raft's TestStorageTerm."""
    log = log_from_three()

    assert [log.term(index) for index in (3, 4, 5)] == [3, 4, 5]
    with pytest.raises(CompactedError):
        log.term(2)
    with pytest.raises(UnavailableError):
        log.term(6)


def test_entries_come_within_the_limit_but_at_least_one() -> None:
    """Source: raft's TestStorageEntries."""
    log = MemoryLog()
    entries = stored(3, 4, 5, 6)
    log.append(entries)
    log.compact(1)

    with pytest.raises(CompactedError):
        log.entries(1, 3)
    assert log.entries(2, 5) == entries[1:]
    assert log.entries(2, 5, 0) == entries[1:2]
    both = entries_size(entries[1:3])
    assert log.entries(2, 5, both) == entries[1:3]
    assert log.entries(2, 5, both + entry_size(entries[3]) - 1) == entries[1:3]
    assert log.entries(2, 5, both + entry_size(entries[3])) == entries[1:]
    with pytest.raises(RaftPanic, match=r"hi\(6\) is out of bound lastindex\(4\)"):
        log.entries(2, 6)


def test_what_was_handed_out_survives_truncation_and_compaction() -> None:
    log = MemoryLog()
    log.append(stored(1, 1, 1))
    handed_out = log.entries(1, 4)

    log.append(stored(2, first=2))
    log.compact(1)

    assert [(entry.index, entry.term) for entry in handed_out] == [(1, 1), (2, 1), (3, 1)]
    assert log.entries(2, 3) == stored(2, first=2)


@pytest.mark.parametrize(
    ("added", "kept"),
    [
        (stored(1, 2, first=1), stored(4, 5, first=4)),
        (stored(3, 4, 5, first=3), stored(4, 5, first=4)),
        (stored(3, 6, 6, first=3), stored(6, 6, first=4)),
        (stored(4, 5, 5, first=4), stored(4, 5, 5, first=4)),
        (stored(3, 5, first=3), stored(5, first=4)),
        (stored(5, first=4), stored(5, first=4)),
        (stored(5, first=6), stored(4, 5, 5, first=4)),
    ],
)
def test_append_replaces_what_follows_and_skips_what_is_compacted(added: list[Entry], kept: list[Entry]) -> None:
    """Source: raft's TestStorageAppend."""
    log = log_from_three()

    log.append(added)

    assert log.entries(4, log.last_index() + 1) == kept


def test_append_must_not_leave_a_gap() -> None:
    with pytest.raises(RaftPanic, match=r"missing log entry \[last: 5, append at: 7\]"):
        log_from_three().append(stored(5, first=7))


def test_compaction_goes_forward_only() -> None:
    log = log_from_three()

    for index in (2, 3):
        with pytest.raises(CompactedError):
            log.compact(index)
    log.compact(5)
    assert (log.first_index(), log.last_index(), log.term(5)) == (6, 5, 5)
    with pytest.raises(RaftPanic):
        log.compact(6)


def test_create_snapshot_takes_the_term_from_the_log() -> None:
    log = log_from_three()
    state = ConfState((1, 2, 3))

    snapshot = log.create_snapshot(4, state, b"data")

    assert snapshot == Snapshot(4, 4, state, b"data") == log.snapshot()
    with pytest.raises(SnapshotOutOfDateError):
        log.create_snapshot(4, state, b"data")
    assert log.create_snapshot(5, None, b"more").conf_state == state


def test_apply_snapshot_begins_anew() -> None:
    log = log_from_three()

    log.apply_snapshot(Snapshot(9, 7, ConfState((1,)), b"data"))

    assert (log.first_index(), log.last_index(), log.term(9)) == (10, 9, 7)
    assert log.initial_state()[1] == ConfState((1,))
    with pytest.raises(SnapshotOutOfDateError):
        log.apply_snapshot(Snapshot(9, 7, ConfState((1,)), b"data"))
