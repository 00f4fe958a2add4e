"""Have the disk begin with what was written to a file, so that a sync that comes a moment later has less to wait for.

    pwrite ── begin_write ──── work ──── fdatasync
                    └─ the device writes ─┘└─ flush ─┘

It is no sync: it says neither that anything is on the disk nor that it failed. The kernel keeps an error for the
fdatasync that follows; that is why SYNC_FILE_RANGE_WRITE stands alone here, as the flags that wait would take it away.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

# Source: sync_file_range(2).
_SYNC_FILE_RANGE_WRITE: Final = 2


def _find() -> Callable[[int, int, int, int], int] | None:
    """None where the C library knows no such thing."""
    try:
        # The call takes a few microseconds and may wait for nobody, so it keeps Python's lock.
        call = ctypes.PyDLL(None).sync_file_range
    except (AttributeError, OSError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call


_sync_file_range: Final = _find()


def begin_write(fd: int, offset: int, count: int) -> None:
    """Begin to write `count` bytes from `offset` on to the disk, if they are not there yet."""
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, count, _SYNC_FILE_RANGE_WRITE)
