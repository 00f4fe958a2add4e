"""How the C library's heap gives memory back: not so eagerly that every large message is paid for in page faults.

By itself glibc asks the kernel for each block of 128 KiB and more, and gives the top of its heap back as soon as it
is of about that size. An answer of 300 KiB, or a put of 1 MiB with its copies, then faults in each of its pages anew:
half of what such a request costs.
"""

from __future__ import annotations

import ctypes
from typing import Final

# Source: malloc.h. Named there M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
_TRIM: Final = -1
_MMAP: Final = -3

KEPT_BYTES: Final = 16 << 20
"""So much may lie free at the top of the heap."""
HEAP_BLOCK_BYTES: Final = 4 << 20
"""Larger blocks are the kernel's own business still: more than any request's or answer's should be."""


def keep_freed_memory() -> bool:
    """Have this process keep a bounded piece of what it frees; False where the C library knows no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_TRIM, KEPT_BYTES)) and bool(mallopt(_MMAP, HEAP_BLOCK_BYTES))
