"""Who waits for the next sync of the log is asked again at run time, from what the last ones took."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.storage import StorageError
from balsad.storage.wal import AUTO, Wal, WalOptions, WalSnapshot, read_log, valid_snapshot_entries
from balsad.storage.wal.sync_choice import HOLD_MAX_S, HOLD_S, INLINE_SECONDS_MAX, QUICK_S, ROW, SLOW_S, SyncChoice
from balsad.storage.wal.waiter import HelperProcess

DISK: Disk = RealDisk()
QUICK = INLINE_SECONDS_MAX / 4


def note(choice: SyncChoice, seconds: float, now: float, count: int = 1) -> None:
    for _ in range(count):
        choice.note(seconds, now)


def test_one_slow_sync_moves_the_next_to_the_helper() -> None:
    choice = SyncChoice(by_helper=False)
    note(choice, SLOW_S * 0.9, 100.0)
    assert not choice.by_helper

    note(choice, SLOW_S, 100.0)

    assert choice.by_helper


def test_syncs_none_of_which_is_quick_move_to_the_helper() -> None:
    """A disk that has become slower, without any sync that is felt alone."""
    choice = SyncChoice(by_helper=False)

    note(choice, QUICK_S * 1.1, 100.0, ROW)

    assert choice.by_helper


def test_large_batches_stay_inline_while_some_are_quick() -> None:
    choice = SyncChoice(by_helper=False)

    for _ in range(10):
        note(choice, QUICK_S * 1.5, 100.0, ROW // 2)
        note(choice, QUICK, 100.0)

    assert not choice.by_helper


def test_a_row_of_quick_syncs_comes_back_inline_after_the_hold() -> None:
    choice = SyncChoice(by_helper=False)
    note(choice, SLOW_S, 100.0)

    note(choice, QUICK, 100.0 + HOLD_S * 0.5, 4 * ROW)
    assert choice.by_helper
    note(choice, QUICK, 100.0 + HOLD_S, ROW)

    assert not choice.by_helper


def test_a_slow_one_begins_the_row_and_the_hold_anew() -> None:
    choice = SyncChoice(by_helper=False)
    note(choice, SLOW_S, 100.0)
    note(choice, QUICK, 102.0, ROW - 1)

    note(choice, SLOW_S, 102.0)
    note(choice, QUICK, 102.0, 4 * ROW)
    assert choice.by_helper
    note(choice, QUICK, 103.0, ROW - 1)
    assert choice.by_helper
    note(choice, QUICK, 103.0)

    assert not choice.by_helper


def test_who_comes_back_too_early_waits_longer_the_next_time() -> None:
    choice = SyncChoice(by_helper=False)
    now, holds = 100.0, []
    for _ in range(8):
        note(choice, SLOW_S, now)
        began = now
        while choice.by_helper:
            now += 0.25
            note(choice, QUICK, now, ROW)
        holds.append(now - began)

    assert holds == [1, 2, 4, 8, 16, 30, 30, 30]
    now += HOLD_MAX_S + 1
    note(choice, SLOW_S, now)
    note(choice, QUICK, now + HOLD_S, ROW)
    assert not choice.by_helper


def test_a_disk_that_is_always_slow_stays_with_the_helper() -> None:
    choice = SyncChoice(by_helper=True)

    for second in range(100):
        note(choice, INLINE_SECONDS_MAX * 1.5, 100.0 + second, ROW)

    assert choice.by_helper


def test_what_was_slow_only_at_the_start_comes_inline() -> None:
    choice = SyncChoice(by_helper=True)

    note(choice, QUICK, 100.0, ROW)

    assert not choice.by_helper


def test_a_rush_that_is_expected_moves_to_the_helper_at_once_and_until_it_is_over() -> None:
    choice = SyncChoice(by_helper=False)

    choice.expect(100.0, 3.0)
    assert choice.by_helper
    note(choice, QUICK, 102.9, 4 * ROW)
    assert choice.by_helper
    note(choice, QUICK, 103.0, ROW)

    assert not choice.by_helper


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowDisk(RealDisk):
    """Its syncs take so long by the clock, and are counted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds = QUICK
        self.inline = 0

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.inline += 1
        self.clock.now += self.seconds
        os.fdatasync(fd)


class Loop:
    """An event loop as far as a log needs one."""

    def __init__(self, wal: Wal) -> None:
        self._wal = wal
        self.watched: list[int] = []
        wal.on_watch(self._watch)

    def _watch(self, fileno: int, is_wanted: bool) -> None:
        if is_wanted:
            self.watched.append(fileno)
        else:
            self.watched.remove(fileno)

    def turn(self) -> None:
        readable, _writable, _other = select.select(self.watched, [], [], 30)
        assert readable == [self._wal.fileno()]
        self._wal.on_readable()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(clock: Clock) -> SlowDisk:
    return SlowDisk(clock)


def create(
    tmp_path: Path, disk: SlowDisk, clock: Clock, make_waiter: Callable[[], HelperProcess] = HelperProcess
) -> tuple[Wal, Loop]:
    options = WalOptions(sync=AUTO, segment_bytes=4096, clock=clock, make_waiter=make_waiter)
    wal = Wal.create(disk, str(tmp_path / "wal"), b"\x08\x01\x10\x02", options)
    assert wal.is_inline
    return wal, Loop(wal)


def test_the_helper_is_started_when_it_is_missed_and_asked_once_it_lives(
    tmp_path: Path, disk: SlowDisk, clock: Clock
) -> None:
    wal, loop = create(tmp_path, disk, clock)
    told: list[int] = []
    disk.seconds = SLOW_S

    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: told.append(1))
    assert told == [1]
    disk.inline = 0
    wal.save(None, [Entry(0, 1, 2, b"b")], True, lambda: told.append(2))
    assert (told, disk.inline) == ([1, 2], 1)  # it is only starting
    loop.turn()
    wal.save(None, [Entry(0, 1, 3, b"c")], True, lambda: told.append(3))
    assert (told, disk.inline) == ([1, 2], 1)
    assert not wal.is_inline
    loop.turn()

    assert told == [1, 2, 3]
    wal.close()
    assert [entry.index for entry in read_log(DISK, str(tmp_path / "wal"), WalSnapshot()).entries] == [1, 2, 3]


def test_a_log_goes_there_and_back_through_changes_of_segment(tmp_path: Path, disk: SlowDisk, clock: Clock) -> None:
    """The helper syncs the segment that is the last one then, also when others were cut while it had nothing to do."""
    wal, loop = create(tmp_path, disk, clock)
    told: list[int] = []
    wal.expect_rush(1.0)
    loop.turn()
    ways: list[bool] = []
    for index in range(1, 241):
        if index == 160:
            wal.expect_rush(1.0)
        wal.save(None, [Entry(0, 1, index, bytes(300))], True, lambda at=index: told.append(at))  # type: ignore[misc]
        ways.append(wal.is_inline)
        if told[-1:] != [index]:
            loop.turn()
        clock.now += 1.0 if index == 80 else 0.0
        if index == 80:
            # What the real helper's syncs take on a busy machine must not decide here.
            assert wal._way.choice is not None
            wal._way.choice.by_helper = False

    assert told == list(range(1, 241))
    assert ways[:80] == [False] * 80
    assert ways[80:159] == [True] * 79
    assert ways[159] is False
    assert wal._segments[-1].sequence > 10
    wal.close()
    assert len(read_log(DISK, str(tmp_path / "wal"), WalSnapshot()).entries) == 240


def test_a_helper_that_ends_at_once_leaves_the_log_inline(tmp_path: Path, disk: SlowDisk, clock: Clock) -> None:
    """Slow, but right: a process that could not be started is no reason to stop."""

    def broken() -> HelperProcess:
        helper = HelperProcess()
        helper._process.kill()
        helper._process.wait()
        return helper

    wal, loop = create(tmp_path, disk, clock, broken)
    told: list[int] = []

    wal.expect_rush(10.0)
    loop.turn()
    assert loop.watched == []
    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: told.append(1))
    wal.expect_rush(10.0)

    assert told == [1]
    assert wal.is_inline
    assert wal.fileno() == -1
    wal.close()


def test_a_helper_lost_at_work_fails_the_log(tmp_path: Path, disk: SlowDisk, clock: Clock) -> None:
    """What became of the sync it was at, nobody knows."""
    wal, loop = create(tmp_path, disk, clock)
    failures: list[StorageError] = []
    wal.failed = failures.append
    wal.expect_rush(10.0)
    loop.turn()
    helper = wal._way.waiter
    assert isinstance(helper, HelperProcess)
    helper._process.kill()
    helper._process.wait()

    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: pytest.fail("not on disk"))
    loop.turn()

    assert len(failures) == 1
    wal.close()


def test_a_snapshots_record_waits_for_no_sync_of_its_own_while_the_helper_is_at_one(
    tmp_path: Path, disk: SlowDisk, clock: Clock
) -> None:
    """The sync under way may have begun before the record was written: the next one is what brings it to the disk."""
    wal, loop = create(tmp_path, disk, clock)
    told: list[str] = []
    wal.expect_rush(10.0)
    loop.turn()
    disk.inline = 0

    def first_saved() -> None:
        told.append("first")
        wal.save(None, [Entry(0, 1, 2, b"b")], True, lambda: told.append("second"))

    wal.save(HardState(1, 1, 1), [Entry(0, 1, 1, b"a")], True, first_saved)
    wal.save_snapshot(WalSnapshot(1, 1, ConfState(voters=(1,))), lambda: told.append("record"))
    loop.turn()
    assert told == ["first"]
    loop.turn()

    assert told == ["first", "second", "record"]
    assert disk.inline == 0
    wal.close()
    assert valid_snapshot_entries(DISK, str(tmp_path / "wal"))[-1].index == 1


def test_a_snapshots_record_that_no_save_follows_gets_a_sync_of_its_own(
    tmp_path: Path, disk: SlowDisk, clock: Clock
) -> None:
    wal, loop = create(tmp_path, disk, clock)
    told: list[str] = []
    wal.expect_rush(10.0)
    loop.turn()
    disk.inline = 0

    wal.save(HardState(1, 1, 1), [Entry(0, 1, 1, b"a")], True, lambda: told.append("save"))
    wal.save_snapshot(WalSnapshot(1, 1, ConfState(voters=(1,))), lambda: told.append("record"))
    loop.turn()
    assert (told, disk.inline) == (["save", "record"], 1)
    wal.save_snapshot(WalSnapshot(1, 1, ConfState(voters=(1,))), lambda: told.append("at once"))

    assert (told, disk.inline) == (["save", "record", "at once"], 2)
    wal.close()
