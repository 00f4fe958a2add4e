"""The helper that waits for a slow disk on the log's behalf, in simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.sim.loop import Dead
from balsad.storage import StorageError

if TYPE_CHECKING:
    import random

    from balsad.sim.disk import File, SimDisk
    from balsad.sim.loop import Process

# No file has it: the process only watches it.
FILENO = 7


class SimWaiter:
    """storage.wal's Waiter: what it was told to do happens when its time is over, unless the process ended before."""

    def __init__(self, disk: SimDisk, process: Process, rnd: random.Random) -> None:
        self._disk = disk
        self._process = process
        self._random = rnd
        self._file: File | None = None
        self._ends = 0.0
        self._seconds = 0.0
        self._work: Callable[[], None] | None = None
        self._failed = ""
        self._answered = False
        self._closed = False

    def fileno(self) -> int:
        return FILENO

    def use(self, fd: int) -> None:
        self._file = self._disk.file_of(fd)

    def sync(self) -> None:
        file = self._file
        assert file is not None
        count = len(file.unsynced)
        self._begin(lambda: self._sync(file, count), 1)

    def cut(self, fd: int, folder_fd: int, old_path: str, new_path: str) -> None:
        old, new = self._file, self._disk.file_of(fd)
        folder = self._disk.folder_of(folder_fd)
        assert old is not None
        old_count, new_count = len(old.unsynced), len(new.unsynced)

        def work() -> None:
            self._sync(old, old_count)
            self._sync(new, new_count)
            self._disk.rename(old_path, new_path)
            if not self._disk.volume.lies:
                folder.sync()
            self._file = new

        self._begin(work, 3)

    def _sync(self, file: File, count: int) -> None:
        if not self._disk.volume.lies:
            file.sync(count)

    def nudge(self) -> None:
        self._begin(lambda: None, 0)

    def _begin(self, work: Callable[[], None], syncs: int) -> None:
        volume, process = self._disk.volume, self._process
        self._seconds = sum(volume.sync_s * self._random.expovariate(1.0) for _ in range(syncs))
        self._ends = process.now + self._seconds + 0.000_05
        self._work = work
        self._failed = ""
        failure = volume.failure
        if failure is not None and failure[0] == "sync" and syncs:
            volume.failure = None
            volume.failed = True
            self._failed = "fdatasync: input/output error"
        process.timeline.at(self._ends, self._at_end, work)

    def _at_end(self, work: Callable[[], None]) -> None:
        process = self._process
        if process.is_dead or self._closed or self._work is not work:
            return
        self._do()
        if process.is_dead:
            return
        self._answered = True
        process.timeline.put(self._ends, process, self._tell, (), None)

    def _tell(self) -> None:
        if self._answered:
            self._process.make_readable(FILENO)

    def _do(self) -> None:
        work, self._work = self._work, None
        if work is not None and not self._failed:
            try:
                work()
            except OSError as error:
                self._failed = str(error.strerror).lower()
            except Dead:
                pass

    def result(self, path: str) -> float:
        process = self._process
        if self._work is not None:
            process.spend(max(0.0, self._ends - process.now))
            self._do()
        self._answered = False
        if self._failed:
            raise StorageError(path, self._failed)
        return self._seconds

    def close(self) -> None:
        self._closed = True
