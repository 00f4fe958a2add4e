"""The way a log's syncs go: inline or by the helper process, which is started when it is first missed.

no helper --missed--> starting --it has answered a question--> there
          <--it ended before that: inline, from then on--
"""

from __future__ import annotations

from collections.abc import Callable

from balsad.storage.errors import StorageError
from balsad.storage.wal.sync_choice import SyncChoice
from balsad.storage.wal.waiter import Waiter


class SyncWay:
    """Without a `choice` it is always the helper that waits, if there is one."""

    def __init__(self, make_waiter: Callable[[], Waiter], clock: Callable[[], float]) -> None:
        self._make_waiter = make_waiter
        self._clock = clock
        self.choice: SyncChoice | None = None
        self.waiter: Waiter | None = None
        self.is_starting = False
        # Told the helper's fileno when it is to be watched from now on (True), or no more (False).
        self.watch: Callable[[int, bool], None] | None = None

    def start_now(self, fd: int) -> None:
        """Have a helper for the segment `fd` from the first sync on.

        Raises: OSError when no process can be started; StorageError when it ends at once.
        """
        try:
            self.waiter = self._make_waiter()
        except OSError:
            self.choice = None
            raise
        self.waiter.use(fd)
        self.waiter.nudge()
        self.waiter.result("")

    def helper(self, fd: int) -> Waiter | None:
        """Who is to wait for the sync that is due; None: whoever saves. Starts a helper that is missed."""
        choice = self.choice
        if choice is not None and not choice.by_helper:
            return None
        if self.waiter is None and choice is not None:
            self._start(fd)
        return None if self.is_starting else self.waiter

    def expect_rush(self, for_s: float, fd: int) -> None:
        """Much else is going to be written to the disk for so many seconds."""
        if self.choice is not None:
            self.choice.expect(self._clock(), for_s)
            if self.waiter is None:
                self._start(fd)

    def _start(self, fd: int) -> None:
        """A process takes a while to start: until it says that it lives, it is asked nothing else."""
        try:
            waiter = self._make_waiter()
        except OSError:
            self.choice = None  # slow, but right
            return
        self.waiter = waiter
        self.is_starting = True
        waiter.use(fd)
        waiter.nudge()
        if self.watch is not None:
            self.watch(waiter.fileno(), True)

    def started(self, path: str) -> None:
        """The helper has answered its first question, or ended before."""
        self.is_starting = False
        waiter = self.waiter
        assert waiter is not None
        try:
            waiter.result(path)
        except StorageError:
            self.choice = None
            self.waiter = None
            if self.watch is not None:
                self.watch(waiter.fileno(), False)
            waiter.close()

    def note(self, seconds: float) -> None:
        """A sync that has just ended took so long."""
        if self.choice is not None:
            self.choice.note(seconds, self._clock())

    @property
    def is_inline(self) -> bool:
        return self.waiter is None or self.is_starting or (self.choice is not None and not self.choice.by_helper)

    def fileno(self) -> int:
        return -1 if self.waiter is None else self.waiter.fileno()

    def close(self) -> None:
        if self.waiter is not None:
            self.waiter.close()
