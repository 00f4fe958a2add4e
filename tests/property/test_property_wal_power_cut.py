"""What was synced to a log outlives every power cut, and the log opens again without hands.

Unless a sector is there in part, which etcd and we take for a broken record rather than a torn one: then the log says
where, and all that was synced lies before that place.
"""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.raft.messages import ConfState, Entry, HardState, Snapshot
from balsad.storage import Snapshotter
from balsad.storage.wal import INLINE, Replay, Wal, WalError, WalOptions, WalSnapshot, read_log, wal_exists
from tests.property.memory_disk import MemoryDisk, PowerCut

OPTIONS = WalOptions(sync=INLINE, segment_bytes=6000, clock=lambda: 0.0)
WAL = "/member/wal"
SOAK = bool(os.environ.get("BALSAD_SOAK"))


class Story:
    """A log's owner: what it wrote, record by record, and how many of these were promised to be there."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.records: list[Entry | HardState] = []
        self.promised = 0
        self.term = 1
        self.last_index = 0
        self.commit = 0
        self.created = False
        # With records of one size the left-overs of a cut line up with what is written later.
        self.sizes = rnd.choice(((0, 10, 100, 500, 504, 512, 2000), (100,), (500,)))

    def live(self, disk: MemoryDisk) -> None:
        """Create or open the log, check what it holds, and write on until the power goes."""
        if wal_exists(disk, WAL):
            wal, replay = Wal.open_and_read(disk, WAL, WalSnapshot(), OPTIONS)
            assert replay.metadata == b"whose"
            self.recognize(replay)
        else:
            assert not self.created
            wal = Wal.create(disk, WAL, b"whose", OPTIONS)
            self.created = True
        while True:
            self.save(wal)

    def save(self, wal: Wal) -> None:
        rnd = self.rnd
        entries: list[Entry] = []
        if rnd.random() < 0.8:
            if rnd.random() < 0.1 and self.last_index > self.commit:
                # Another leader: entries that were not committed are overwritten.
                self.term += 1
                self.last_index = rnd.randint(self.commit, self.last_index - 1)
            for _ in range(rnd.choice((1, 1, 2, 5, 20))):
                self.last_index += 1
                size = rnd.choice(self.sizes)
                payload = rnd.randbytes(size) if rnd.random() < 0.7 else bytes(size)
                entries.append(Entry(0, self.term, self.last_index, payload))
        elif rnd.random() < 0.5:
            self.commit = rnd.randint(self.commit, self.last_index)
        hard_state = HardState(self.term, 1, self.commit) if rnd.random() < 0.7 else None
        before = next((state for state in reversed(self.records) if isinstance(state, HardState)), HardState())
        self.records += entries
        if hard_state is not None:
            self.records.append(hard_state)
        wal.save(hard_state, entries, must_sync=False)
        if entries or (hard_state is not None and (hard_state.term, hard_state.vote) != (before.term, before.vote)):
            self.promised = len(self.records)

    def recognize(self, replay: Replay) -> None:
        """The log must hold a prefix of the records that covers all promised ones; go on from there."""
        for count in range(len(self.records), self.promised - 1, -1):
            entries: list[Entry] = []
            hard_state = HardState()
            for record in self.records[:count]:
                if isinstance(record, HardState):
                    hard_state = record
                else:
                    del entries[record.index - 1 :]
                    entries.append(record)
            if (entries, hard_state) == (replay.entries, replay.hard_state):
                del self.records[count:]
                self.promised = count
                self.last_index = len(entries)
                self.commit = hard_state.commit
                return
        raise AssertionError(f"{self.promised} records were promised, found {replay.hard_state} {replay.entries}")


def open_by_hand(disk: MemoryDisk, said: WalError) -> None:
    """What an operator does about it: lay the segment aside, cut it where the log says it is broken."""
    fd = disk.open(said.path, os.O_RDWR)
    assert said.offset is not None
    disk.ftruncate(fd, said.offset)
    disk.fsync(fd)
    disk.close(fd)


@settings(max_examples=3000 if SOAK else 300, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 60), min_size=1, max_size=12), tears=st.booleans())
def test_synced_records_outlive_power_cuts(seed: int, cuts: list[int], tears: bool) -> None:
    rnd = random.Random(seed)
    disk = MemoryDisk()
    disk.makedirs("/member")
    disk.sync_dir("/")
    story = Story(rnd)
    for cut in cuts:
        disk.cut_at = disk.operations + cut
        try:
            story.live(disk)
        except PowerCut:
            pass
        disk = disk.restart(rnd, tears)
        if tears and wal_exists(disk, WAL):
            try:
                read_log(disk, WAL, WalSnapshot())
            except WalError as error:
                open_by_hand(disk, error)
                # What was torn and then cut off was never promised, as `recognize` sees to.
                read_log(disk, WAL, WalSnapshot())
        if not wal_exists(disk, WAL):
            # Its creation was not through yet, so nothing was ever saved.
            assert not story.records
            story.created = False

    if wal_exists(disk, WAL):
        wal, replay = Wal.open_and_read(disk, WAL, WalSnapshot(), OPTIONS)
        story.recognize(replay)
        wal.close()


@settings(max_examples=1000 if SOAK else 100, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 30), tears=st.booleans())
def test_a_snap_file_is_there_whole_or_not_at_all(seed: int, cut: int, tears: bool) -> None:
    rnd = random.Random(seed)
    disk = MemoryDisk()
    disk.makedirs("/snap")
    disk.sync_dir("/")
    disk.cut_at = disk.operations + cut
    saved = 0
    try:
        for index in range(1, 10):
            Snapshotter(disk, "/snap").save(Snapshot(index, 1, ConfState((1,)), rnd.randbytes(2000)))
            saved = index
    except PowerCut:
        pass
    disk = disk.restart(rnd, tears)

    newest = Snapshotter(disk, "/snap").load_newest()

    assert (newest.index if newest is not None else 0) in (saved, saved + 1)
    assert not [name for name in disk.listdir("/snap") if name.endswith(".broken")]
