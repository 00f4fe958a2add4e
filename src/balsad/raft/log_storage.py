"""The stable log that raft reads, and the one kept in memory beside the WAL.

Indexes of a MemoryLog after snapshot 5 and four more entries, compacted to 7:

    snapshot 5        | not kept 6, 7 | entries 8, 9 |
    first_index() = 8   term(7) still known   last_index() = 9
"""

from __future__ import annotations

from typing import Protocol

from balsad.raft.errors import CompactedError, RaftPanic, SnapshotOutOfDateError, UnavailableError
from balsad.raft.kinds import NO_LIMIT
from balsad.raft.messages import ConfState, Entry, HardState, Snapshot
from balsad.raft.sizes import limit_size


class LogStorage(Protocol):
    """What raft asks of the stable log. Lists handed out belong to the caller; entries in them are shared."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The saved state and the configuration of the newest snapshot."""
        ...

    def entries(self, low: int, high: int, size_max: int) -> list[Entry]:
        """Entries low <= index < high, as many as fit `size_max` bytes but at least one.

        Raises: CompactedError; UnavailableError.
        """
        ...

    def term(self, index: int) -> int:
        """The term at first_index() - 1 <= index <= last_index().

        Raises: CompactedError; UnavailableError.
        """
        ...

    def first_index(self) -> int: ...

    def last_index(self) -> int: ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot.

        Raises: SnapshotTemporarilyUnavailableError when one must be made first: raft asks again later.
        """
        ...


class MemoryLog:
    """A LogStorage in memory: the very entries that went through raft, compacted from the front.

    Source: raft's MemoryStorage.
    """

    __slots__ = ("_entries", "_hard_state", "_offset", "_offset_term", "_snapshot")

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        # The entry before the first one kept: its term is still needed to match logs.
        self._offset = 0
        self._offset_term = 0
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.conf_state

    def set_hard_state(self, state: HardState) -> None:
        self._hard_state = state

    def entries(self, low: int, high: int, size_max: int = NO_LIMIT) -> list[Entry]:
        offset = self._offset
        if low <= offset:
            raise CompactedError
        count = len(self._entries)
        if high > offset + count + 1:
            raise RaftPanic(f"entries' hi({high}) is out of bound lastindex({offset + count})")
        if not count:
            raise UnavailableError
        found = self._entries[low - offset - 1 : high - offset - 1]
        if size_max >= NO_LIMIT:
            return found
        return limit_size(found, size_max)

    def term(self, index: int) -> int:
        place = index - self._offset
        if place > 0:
            if place > len(self._entries):
                raise UnavailableError
            return self._entries[place - 1].term
        if place < 0:
            raise CompactedError
        return self._offset_term

    def first_index(self) -> int:
        return self._offset + 1

    def last_index(self) -> int:
        return self._offset + len(self._entries)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Begin anew from this snapshot.

        Raises: SnapshotOutOfDateError when it is not newer than the one we have.
        """
        # A first snapshot may carry nothing but the configuration: both indexes are 0 then.
        if self._snapshot.index != 0 and self._snapshot.index >= snapshot.index:
            raise SnapshotOutOfDateError
        self._snapshot = snapshot
        self._offset = snapshot.index
        self._offset_term = snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState | None, data: bytes) -> Snapshot:
        """Make the newest snapshot one at `index`, and give it. None keeps the last one's configuration.

        Raises: SnapshotOutOfDateError.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDateError
        if index > self.last_index():
            raise RaftPanic(f"snapshot {index} is out of bound lastindex({self.last_index()})")
        if conf_state is None:
            conf_state = self._snapshot.conf_state
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forget all entries up to and including `index`, which must be applied. Raises: CompactedError."""
        count = index - self._offset
        if count <= 0:
            raise CompactedError
        if count > len(self._entries):
            raise RaftPanic(f"compact {index} is out of bound lastindex({self.last_index()})")
        self._offset_term = self._entries[count - 1].term
        self._offset = index
        del self._entries[:count]

    def append(self, entries: list[Entry]) -> None:
        """Take entries as stable, in place of what was at their indexes and after."""
        if not entries:
            return
        at = entries[0].index - self._offset - 1
        have = len(self._entries)
        if at == have:
            self._entries.extend(entries)
            return
        if at < 0:
            # Some of them are compacted away already, perhaps all.
            if at + len(entries) <= 0:
                return
            entries = entries[-at:]
            at = 0
        if at > have:
            raise RaftPanic(f"missing log entry [last: {self.last_index()}, append at: {entries[0].index}]")
        del self._entries[at:]
        self._entries.extend(entries)
