"""Raft's log and the log in memory beside plain lists."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from balsad.raft import CompactedError, Entry, MemoryLog, UnavailableError
from balsad.raft.log import RaftLog
from balsad.raft.sizes import entries_size


class LogBesideAList(RuleBasedStateMachine):
    """Place 0 of the model is the entry before the first; the model forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryLog()
        self.log = RaftLog(self.storage)
        self.model: list[Entry] = [Entry(0, 0, 0, b"")]
        self.term = 1
        self.compacted = 0
        self.handed_out: list[tuple[list[Entry], list[Entry]]] = []

    def made(self, first: int, count: int) -> list[Entry]:
        return [Entry(0, self.term, first + place, b"x" * (place * 7 % 5)) for place in range(count)]

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        entries = self.made(len(self.model), count)
        self.log.append(entries)
        self.model += entries

    @rule(back=st.integers(1, 5), count=st.integers(1, 5))
    def replace(self, back: int, count: int) -> None:
        """A leader of a new term overwrites the end."""
        first = max(len(self.model) - back, self.log.committed + 1)
        self.term += 1
        entries = self.made(first, count)
        last = self.log.maybe_append(first - 1, self.model[first - 1].term, entries, 0)
        assert last == first + count - 1
        self.model[first:] = entries

    @rule(back=st.integers(1, 5))
    def append_what_is_there(self, back: int) -> None:
        first = max(len(self.model) - back, self.log.committed + 1)
        again = [Entry(entry.type, entry.term, entry.index, entry.data) for entry in self.model[first:]]
        assert self.log.maybe_append(first - 1, self.model[first - 1].term, again, 0) == len(self.model) - 1

    @rule(ahead=st.integers(1, 4))
    def append_after_what_is_not_there(self, ahead: int) -> None:
        assert self.log.maybe_append(len(self.model) - 1 + ahead, self.term, [], 0) == -1
        assert self.log.maybe_append(len(self.model) - 1, self.term + 1, [], 0) == -1

    @rule()
    def write(self) -> None:
        """A Ready goes out and is saved."""
        entries = self.log.unstable.next_entries()
        self.handed_out.append((entries, list(entries)))
        self.log.unstable.accept_in_progress()
        self.storage.append(entries)
        if entries:
            self.log.unstable.stable_to(entries[-1].index, entries[-1].term)

    @rule(count=st.integers(1, 6))
    def commit_and_apply(self, count: int) -> None:
        self.log.commit_to(min(self.log.committed + count, len(self.model) - 1))
        entries = self.log.next_committed(True)
        first = self.log.applied + 1
        assert entries == self.model[first : self.log.committed + 1]
        if entries:
            self.log.accept_applying(entries[-1].index, 0, True)
            self.log.applied_to(entries[-1].index, 0)

    @precondition(lambda self: min(self.log.applied, self.storage.last_index()) > self.compacted)
    @rule()
    def compact(self) -> None:
        self.compacted = min(self.log.applied, self.storage.last_index(), self.log.unstable.offset - 1)
        if self.compacted >= self.storage.first_index():
            self.storage.compact(self.compacted)
        self.compacted = self.storage.first_index() - 1

    @rule(low=st.integers(0, 30), count=st.integers(0, 12), size=st.integers(0, 60))
    def read(self, low: int, count: int, size: int) -> None:
        high = min(low + count, len(self.model))
        if low > high:
            return
        if low <= self.compacted:
            try:
                self.log.slice(low, high, size)
            except CompactedError:
                return
            raise AssertionError("read what is compacted")
        found = self.log.slice(low, high, size)
        assert found == self.model[low : low + len(found)]
        if high > low:
            assert found
        # As many as fit: one more would be too much, and no more than one is too much.
        assert len(found) <= 1 or entries_size(found) <= size
        if low + len(found) < high:
            assert entries_size(self.model[low : low + len(found) + 1]) > size

    @invariant()
    def terms_are_those_of_the_model(self) -> None:
        assert self.log.last_index() == len(self.model) - 1
        assert self.log.first_index() == self.compacted + 1
        for index, entry in enumerate(self.model):
            assert self.log.term(index) == (entry.term if index >= self.compacted else -1)
        assert self.log.term(len(self.model)) == -1

    @invariant()
    def the_stable_log_says_so_too(self) -> None:
        for index in (self.compacted - 1, self.storage.last_index() + 1):
            try:
                self.storage.term(index)
            except (CompactedError, UnavailableError):
                continue
            raise AssertionError(f"{index} has a term")

    @invariant()
    def lists_handed_out_stay(self) -> None:
        for given, was in self.handed_out[-5:]:
            assert given == was


TestLogBesideAList = LogBesideAList.TestCase
