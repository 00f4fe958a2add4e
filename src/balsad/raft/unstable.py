"""The end of the log that is not known to be on disk yet.

    index          11 12 13 14 15 16
    entries         a  b  c  d  e  f
    offset = 11, offset_in_progress = 14: a b c were handed out to be written,
    d e f wait for the next Ready.

`offset` may lie below the end of the stable log: then the next write replaces
what is stable there. The whole log ends at offset + len(entries) - 1, also
when there are no entries: then the stable log ends at offset - 1, or the
snapshot is the one at offset - 1.
"""

from __future__ import annotations

from balsad.raft.errors import RaftPanic
from balsad.raft.messages import Entry, Snapshot


class Unstable:
    """Entries and perhaps a snapshot on their way to the disk. Source: raft's unstable."""

    __slots__ = ("_shared", "entries", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self.entries: list[Entry] = []
        self.offset = offset
        self.offset_in_progress = offset
        # `entries` is also in somebody else's hands and must not change under them.
        self._shared = False

    def term(self, index: int) -> int:
        """The term at `index`, or -1 if it is not in here."""
        place = index - self.offset
        if place < 0:
            if self.snapshot is not None and self.snapshot.index == index:
                return self.snapshot.term
            return -1
        if place >= len(self.entries):
            return -1
        return self.entries[place].term

    def next_entries(self) -> list[Entry]:
        """Those whose writing has not begun."""
        begun = self.offset_in_progress - self.offset
        if begun == 0:
            self._shared = True
            return self.entries
        return self.entries[begun:]

    def next_snapshot(self) -> Snapshot | None:
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """The writing of all that is in here has begun."""
        self.offset_in_progress = self.offset + len(self.entries)
        if self.snapshot is not None:
            self.snapshot_in_progress = True

    def stable_to(self, index: int, term: int) -> None:
        """Forget what is on disk now; only if nothing in progress may still overwrite it there.

        An entry that is not in here, or with another term, was replaced since: nothing to forget then.
        """
        place = index - self.offset
        if place < 0 or place >= len(self.entries) or self.entries[place].term != term:
            return
        if place + 1 == len(self.entries):
            self.entries = []
        else:
            self.entries = self.entries[place + 1 :]
        self._shared = False
        self.offset = index + 1
        if self.offset_in_progress < self.offset:
            self.offset_in_progress = self.offset

    def stable_snapshot_to(self, index: int) -> None:
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        self.offset = snapshot.index + 1
        self.offset_in_progress = self.offset
        self.entries = []
        self._shared = False
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: list[Entry]) -> None:
        """Take these entries in place of what was at their indexes and after. The list stays the caller's to read."""
        first = entries[0].index
        end = self.offset + len(self.entries)
        if first == end:
            if not self.entries:
                self.entries = entries
                self._shared = True
            elif self._shared:
                self.entries = self.entries + entries
                self._shared = False
            else:
                self.entries.extend(entries)
        elif first <= self.offset:
            self.entries = entries
            self._shared = True
            self.offset = first
            self.offset_in_progress = first
        else:
            self.entries = self.slice(self.offset, first) + entries
            self._shared = False
            # What was being written from here on is void.
            if self.offset_in_progress > first:
                self.offset_in_progress = first

    def slice(self, low: int, high: int) -> list[Entry]:
        """Entries low <= index < high as a list of the caller's own."""
        if low > high:
            raise RaftPanic(f"invalid unstable.slice {low} > {high}")
        end = self.offset + len(self.entries)
        if low < self.offset or high > end:
            raise RaftPanic(f"unstable.slice[{low},{high}) out of bound [{self.offset},{end}]")
        return self.entries[low - self.offset : high - self.offset]
