"""Raft's log: what is stable, not yet stable, committed, applied.

    first_index           applied   applying   committed   unstable.offset    last_index
        |                    |          |          |             |                |
        [------- stable (LogStorage) ---------------------------)[--- unstable ---]

applied <= applying <= committed. Source: raft's raftLog.
"""

from __future__ import annotations

from typing import Final

from balsad.raft.errors import CompactedError, RaftPanic, UnavailableError
from balsad.raft.kinds import NO_LIMIT
from balsad.raft.log_storage import LogStorage
from balsad.raft.messages import Entry, Snapshot
from balsad.raft.sizes import entries_size, limit_size
from balsad.raft.unstable import Unstable

# What `term` answers for an index that is compacted away or not there yet.
UNKNOWN: Final = -1


class RaftLog:
    __slots__ = (
        "applied",
        "applying",
        "applying_paused",
        "applying_size",
        "applying_size_max",
        "committed",
        "storage",
        "unstable",
    )

    def __init__(self, storage: LogStorage, applying_size_max: int = NO_LIMIT) -> None:
        before_first = storage.first_index() - 1
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        self.committed = before_first
        # Handed out to be applied, and known to be applied.
        self.applying = before_first
        self.applied = before_first
        # Bytes of the entries handed out but not yet applied; beyond the limit no more go out.
        self.applying_size = 0
        self.applying_size_max = applying_size_max
        self.applying_paused = False

    # Looking things up

    def first_index(self) -> int:
        snapshot = self.unstable.snapshot
        if snapshot is not None:
            return snapshot.index + 1
        return self.storage.first_index()

    def last_index(self) -> int:
        # Nothing unstable: then what is stable ends just before.
        return self.unstable.offset + len(self.unstable.entries) - 1

    def last_term(self) -> int:
        last = self.last_index()
        term = self.term(last)
        if term < 0:
            raise RaftPanic(f"unexpected error when getting the last term at {last}")
        return term

    def term(self, index: int) -> int:
        """The term at `index`, or UNKNOWN."""
        term = self.unstable.term(index)
        if term >= 0:
            return term
        # The entry before the first is compacted away, but its term still serves to match logs.
        if index + 1 < self.first_index() or index > self.last_index():
            return UNKNOWN
        try:
            return self.storage.term(index)
        except (CompactedError, UnavailableError):
            return UNKNOWN

    def match_term(self, index: int, term: int) -> bool:
        return self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends like this is at least as new as ours. Raft paper 5.4.1."""
        ours = self.last_term()
        return term > ours or (term == ours and index >= self.last_index())

    def snapshot(self) -> Snapshot:
        """Raises: SnapshotTemporarilyUnavailableError."""
        snapshot = self.unstable.snapshot
        return snapshot if snapshot is not None else self.storage.snapshot()

    def has_snapshot(self) -> bool:
        """Whether a snapshot waits to be written or is being written."""
        return self.unstable.snapshot is not None

    def entries(self, low: int, size_max: int) -> list[Entry]:
        """Entries from `low` on, as many as fit but at least one. Raises: CompactedError."""
        last = self.last_index()
        if low > last:
            return []
        return self.slice(low, last + 1, size_max)

    def slice(self, low: int, high: int, size_max: int) -> list[Entry]:
        """Entries low <= index < high, as many as fit but at least one. Raises: CompactedError."""
        if low > high:
            raise RaftPanic(f"invalid slice {low} > {high}")
        first = self.first_index()
        if low < first:
            raise CompactedError
        last = self.last_index()
        if high > last + 1:
            raise RaftPanic(f"slice[{low},{high}) out of bound [{first},{last}]")
        if low == high:
            return []
        offset = self.unstable.offset
        if low >= offset:
            return limit_size(self.unstable.slice(low, high), size_max)
        cut = high if high < offset else offset
        try:
            found = self.storage.entries(low, cut, size_max)
        except UnavailableError:
            raise RaftPanic(f"entries[{low}:{cut}) is unavailable from storage") from None
        if high <= offset or len(found) < cut - low:
            return found
        rest = self.unstable.slice(offset, high)
        if size_max >= NO_LIMIT:
            return found + rest
        size = entries_size(found)
        if size >= size_max:
            return found
        rest = limit_size(rest, size_max - size)
        # limit_size gives one entry even if that alone is too much.
        if len(rest) == 1 and size + entries_size(rest) > size_max:
            return found
        return found + rest

    # Appending

    def append(self, entries: list[Entry]) -> None:
        """Take entries, in place of uncommitted ones at their indexes and after."""
        if not entries:
            return
        after = entries[0].index - 1
        if after < self.committed:
            raise RaftPanic(f"after({after}) is out of range [committed({self.committed})]")
        self.unstable.truncate_and_append(entries)

    def maybe_append(self, index: int, term: int, entries: list[Entry], committed: int) -> int:
        """Append what a leader sent after its entry (index, term).

        Gives the index up to which the logs now agree, or -1 if ours has no such entry. Raft paper 5.3.
        """
        if self.term(index) != term:
            return -1
        last_new = index + len(entries)
        conflict = self.find_conflict(entries)
        if conflict:
            if conflict <= self.committed:
                raise RaftPanic(f"entry {conflict} conflict with committed entry [committed({self.committed})]")
            self.append(entries[conflict - index - 1 :])
        self.commit_to(committed if committed < last_new else last_new)
        return last_new

    def find_conflict(self, entries: list[Entry]) -> int:
        """The first index where `entries` disagree with the log or go beyond it; 0 if all are in the log."""
        for entry in entries:
            if self.term(entry.index) != entry.term:
                return entry.index
        return 0

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The largest index up to `index` where our term is at most `term`, and that term (0 if unknown).

        Another log that has `term` at `index` cannot match ours in between.
        """
        while index > 0:
            ours = self.term(index)
            if ours < 0:
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    # Committing and applying

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit up to `index` if that is news and its entry is of `term`. Raft paper 5.4.2."""
        if index <= self.committed or term == 0:
            return False
        # It is unstable still, in general: acks are handled before what they say is forgotten there.
        found = self.unstable.term(index)
        if (found if found >= 0 else self.term(index)) != term:
            return False
        self.committed = index
        return True

    def commit_to(self, index: int) -> None:
        if index > self.committed:
            last = self.last_index()
            if last < index:
                raise RaftPanic(
                    f"tocommit({index}) is out of range [lastIndex({last})]. "
                    "Was the raft log corrupted, truncated, or lost?"
                )
            self.committed = index

    def appliable_index(self, allow_unstable: bool) -> int:
        """Up to where committed entries may be applied: with asynchronous writes only what is on disk here."""
        committed = self.committed
        if not allow_unstable and committed >= self.unstable.offset:
            return self.unstable.offset - 1
        return committed

    def has_next_committed(self, allow_unstable: bool) -> bool:
        if self.applying_paused or self.unstable.snapshot is not None:
            return False
        return self.applying < self.appliable_index(allow_unstable)

    def next_committed(self, allow_unstable: bool) -> list[Entry]:
        """Committed entries that were not yet handed out to be applied, within the limit of outstanding bytes."""
        # A snapshot has to be applied before anything that comes after it.
        if self.committed == self.applying or self.applying_paused or self.unstable.snapshot is not None:
            return []
        low = self.applying + 1
        high = self.appliable_index(allow_unstable) + 1
        if low >= high:
            return []
        room = NO_LIMIT
        if self.applying_size_max < NO_LIMIT:
            room = self.applying_size_max - self.applying_size
            if room <= 0:
                raise RaftPanic(
                    f"applying entry size ({self.applying_size_max}-{self.applying_size})={room} not positive"
                )
        try:
            # They are all stable, in general: a short cut.
            if high <= self.unstable.offset:
                return self.storage.entries(low, high, room)
            return self.slice(low, high, room)
        except (CompactedError, UnavailableError) as error:
            raise RaftPanic(f"unexpected error when getting unapplied entries ({error})") from None

    def accept_applying(self, index: int, size: int, allow_unstable: bool) -> None:
        """Entries up to `index`, of `size` bytes, were handed out."""
        if self.committed < index:
            raise RaftPanic(
                f"applying({index}) is out of range [prevApplying({self.applying}), committed({self.committed})]"
            )
        self.applying = index
        self.applying_size += size
        # If less than all that could go out went out, the limit must have cut it.
        self.applying_paused = self.applying_size >= self.applying_size_max or (
            index < self.committed and index < self.appliable_index(allow_unstable)
        )

    def applied_to(self, index: int, size: int) -> None:
        """Entries up to `index` are applied, the newest of them `size` bytes."""
        if self.committed < index or index < self.applied:
            raise RaftPanic(
                f"applied({index}) is out of range [prevApplied({self.applied}), committed({self.committed})]"
            )
        self.applied = index
        if self.applying < index:
            self.applying = index
        self.applying_size = self.applying_size - size if self.applying_size > size else 0
        self.applying_paused = self.applying_size >= self.applying_size_max

    def restore(self, snapshot: Snapshot) -> None:
        self.committed = snapshot.index
        self.unstable.restore(snapshot)
