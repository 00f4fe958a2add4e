"""How a log is written, and who waits for the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from balsad.storage.wal.segments import SEGMENT_BYTES
from balsad.storage.wal.waiter import HelperProcess, Waiter

# Who waits for the disk.
AUTO: Final = "auto"  # as quick as the disk is found to be
INLINE: Final = "inline"
HELPER: Final = "helper"
NO_SYNC: Final = "no-sync"  # nobody: --unsafe-no-fsync


class WalOptions:
    """How a log is written; one value for all its segments."""

    __slots__ = ("clock", "make_waiter", "on_sync", "on_write", "segment_bytes", "sync")

    def __init__(
        self,
        *,
        sync: str = AUTO,
        segment_bytes: int = SEGMENT_BYTES,
        on_sync: Callable[[float], None] | None = None,
        on_write: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        make_waiter: Callable[[], Waiter] = HelperProcess,
    ) -> None:
        """`on_sync` hears the seconds of every fdatasync, `on_write` the bytes of every write."""
        self.sync = sync
        self.segment_bytes = segment_bytes
        self.on_sync = on_sync
        self.on_write = on_write
        self.clock = clock
        self.make_waiter = make_waiter
