"""Who waits for the disk: inline on a fast one, a process of its own on a slow one."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.env import Disk
from balsad.env.real import RealDisk
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.storage import StorageError
from balsad.storage.wal import AUTO, HELPER, INLINE, Wal, WalOptions, WalSnapshot, read_log, valid_snapshot_entries
from balsad.storage.wal.waiter import HelperProcess, measure_sync

DISK: Disk = RealDisk()
WHOSE = b"\x08\x01\x10\x02"
SMALL = WalOptions(sync=HELPER, segment_bytes=4096)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "wal")


def turn_of_the_loop(wal: Wal) -> None:
    """Wait until the helper has something to say, and let the log hear it."""
    readable, _writable, _other = select.select([wal.fileno()], [], [], 30)
    assert readable
    wal.on_readable()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def helper_of(wal: Wal) -> HelperProcess:
    waiter = wal._way.waiter
    assert isinstance(waiter, HelperProcess)
    return waiter


def test_done_comes_from_the_event_loop(path: str) -> None:
    seconds: list[float] = []
    wal = Wal.create(DISK, path, WHOSE, WalOptions(sync=HELPER, segment_bytes=4096, on_sync=seconds.append))
    told: list[int] = []
    seconds.clear()

    wal.save(HardState(1, 1, 0), [Entry(0, 1, 1, b"a")], True, lambda: told.append(1))
    assert told == []
    turn_of_the_loop(wal)

    assert told == [1]
    assert len(seconds) == 1
    assert seconds[0] > 0
    wal.save(HardState(1, 1, 1), [], False, lambda: told.append(2))
    assert told == [1, 2]  # needs no sync, so it is through at once
    wal.close()


def test_without_done_the_caller_waits(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)

    wal.save(HardState(1, 1, 0), [Entry(0, 1, 1, b"a")])
    wal.close()

    assert len(read_log(DISK, path, WalSnapshot()).entries) == 1


def test_one_save_at_a_time(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: None)

    with pytest.raises(AssertionError, match="not done"):
        wal.save(None, [Entry(0, 1, 2, b"a")], True, lambda: None)
    wal.close()


def test_segments_change_behind_the_event_loop(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    told: list[int] = []
    for index in range(1, 61):
        wal.save(HardState(1, 1, index), [Entry(0, 1, index, bytes(300))], True, lambda at=index: told.append(at))  # type: ignore[misc]
        turn_of_the_loop(wal)
    names = [os.path.basename(each) for each in wal.segment_paths]
    assert len(names) > 4
    assert set(names) <= set(os.listdir(path))
    wal.close()

    assert told == list(range(1, 61))
    replay = read_log(DISK, path, WalSnapshot())
    assert [entry.index for entry in replay.entries] == told
    assert replay.hard_state == HardState(1, 1, 60)


def test_a_snapshot_record_may_come_while_a_segment_changes(path: str) -> None:
    """It waits for the change here, and `done` still comes from the loop."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    told: list[int] = []
    wal.save(HardState(1, 1, 1), [Entry(0, 1, 1, bytes(5000))], True, lambda: told.append(1))

    wal.save_snapshot(WalSnapshot(1, 1, ConfState((1,))))
    assert told == []
    turn_of_the_loop(wal)
    assert told == [1]
    wal.save(None, [Entry(0, 1, 2, b"b")], True, lambda: told.append(2))
    wal.save_snapshot(WalSnapshot(1, 1, ConfState((1,))))  # beside a plain sync
    turn_of_the_loop(wal)
    assert told == [1, 2]
    wal.close()

    assert len(read_log(DISK, path, WalSnapshot()).entries) == 2
    assert [each.index for each in valid_snapshot_entries(DISK, path)] == [0, 1, 1]


def test_closing_ends_the_helper(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    pid = helper_of(wal).pid
    wal.save(None, [Entry(0, 1, 1, bytes(5000))], True, lambda: None)
    assert alive(pid)

    wal.close()

    assert not alive(pid)
    assert len(read_log(DISK, path, WalSnapshot()).entries) == 1


def test_a_dead_helper_is_a_failed_log(path: str) -> None:
    """What it may have heard from the kernel, nobody will hear again."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    failures: list[StorageError] = []
    wal.failed = failures.append
    pid = helper_of(wal).pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))

    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: failures.append(StorageError("", "done was called")))
    turn_of_the_loop(wal)

    assert [error.reason for error in failures] == ["the process that syncs the log is gone"]
    with pytest.raises(StorageError, match="is gone"):
        wal.save(None, [Entry(0, 1, 2, b"a")])
    wal.close()


def test_a_failed_sync_in_the_helper_names_the_file(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    failures: list[StorageError] = []
    wal.failed = failures.append
    reading, writing = os.pipe()
    helper_of(wal).use(reading)  # no fdatasync on a pipe

    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: None)
    turn_of_the_loop(wal)

    assert str(failures[0]) == f"{wal.segment_paths[0]}: fdatasync: invalid argument"
    with pytest.raises(StorageError, match="invalid argument"):
        wal.save(None, [Entry(0, 1, 2, b"a")])
    wal.close()
    os.close(reading)
    os.close(writing)


SERVER = """
import os, sys, time
from balsad.env.real import RealDisk
from balsad.raft.messages import Entry
from balsad.storage.wal import HELPER, Wal, WalOptions

wal = Wal.create(RealDisk(), sys.argv[1], b"x", WalOptions(sync=HELPER))
print(wal._way.waiter.pid, flush=True)
wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: None)
time.sleep(60)
"""


def test_the_helper_dies_with_a_killed_server_and_frees_the_log(path: str) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, path], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        pid = int(server.stdout.readline())
        wait_until(lambda: os.path.exists(path) and alive(pid))
    finally:
        server.kill()
        server.wait()
        server.stdout.close()

    # The next server waits for it to let go rather than fail.
    wal, replay = Wal.open_and_read(DISK, path, WalSnapshot(), WalOptions(sync=INLINE))
    assert len(replay.entries) <= 1
    wal.close()
    wait_until(lambda: not alive(pid))


def test_the_helper_holds_the_lock_it_syncs_under(path: str) -> None:
    """While it still works for a dead server, nobody else can open the log."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    segment = wal.segment_paths[0]
    os.kill(helper_of(wal).pid, signal.SIGSTOP)
    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: None)
    for each in wal._segments:
        os.close(each.fd)  # the server is gone
    wal._segments.clear()

    with open(segment, "rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(helper_of(wal).pid, signal.SIGCONT)
        helper_of(wal).close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wal._fd = -1
    wal.close()


def test_a_terminals_interrupt_does_not_end_the_helper(path: str) -> None:
    """The whole process group gets it; the server is still writing."""
    wal = Wal.create(DISK, path, WHOSE, SMALL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(helper_of(wal).pid, number)
    told: list[int] = []

    wal.save(None, [Entry(0, 1, 1, b"a")], True, lambda: told.append(1))
    turn_of_the_loop(wal)

    assert told == [1]
    wal.close()


class Clock:
    """Tells a time that stands still but for the syncs of a slow disk."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowDisk(RealDisk):
    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.clock.now += self.seconds


@pytest.mark.parametrize(("seconds", "inline"), [(0.0001, True), (0.0004, True), (0.002, False)])
def test_the_disk_decides(path: str, seconds: float, inline: bool) -> None:
    clock = Clock()

    wal = Wal.create(SlowDisk(clock, seconds), path, WHOSE, WalOptions(sync=AUTO, segment_bytes=4096, clock=clock))

    assert wal.is_inline == inline
    assert (wal.fileno() == -1) == inline
    wal.close()
    assert read_log(DISK, path, WalSnapshot()).metadata == WHOSE


def test_without_a_helper_the_log_waits_itself(path: str) -> None:
    """No process can be started: slow, but right."""

    def refuse() -> HelperProcess:
        raise OSError(11, "Resource temporarily unavailable")

    clock = Clock()
    options = WalOptions(sync=AUTO, segment_bytes=4096, clock=clock, make_waiter=refuse)

    wal = Wal.create(SlowDisk(clock, 0.01), path, WHOSE, options)

    assert wal.is_inline
    wal.close()
    with pytest.raises(StorageError, match="start of the helper process"):
        Wal.open_and_read(DISK, path, WalSnapshot(), WalOptions(sync=HELPER, segment_bytes=4096, make_waiter=refuse))


def test_measuring_changes_nothing_in_the_log(path: str) -> None:
    wal = Wal.create(DISK, path, WHOSE, WalOptions(sync=INLINE, segment_bytes=4096))
    wal.save(HardState(1, 1, 0), [Entry(0, 1, 1, b"a")])
    before = Path(wal.segment_paths[0]).read_bytes()

    assert measure_sync(DISK, wal._fd, wal._offset, time.perf_counter) > 0

    assert Path(wal.segment_paths[0]).read_bytes() == before
    wal.close()
