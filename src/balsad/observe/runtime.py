"""What dashboards of Go programs ask for, as far as a Python process has the like: tasks, memory, objects.

Memory is the kernel's account of this process, without what it shares with others (code). Go's own allocator, its
stacks and its collector have no counterpart, nor have the metrics that tell of their inside.
Source: prometheus/client_golang go_collector.go, for names and help.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Final

from balsad.observe.exposition import Family

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def runtime_families(go_version: str = "") -> list[Family]:
    """`go_version` is the one that is also told as the server's, if it tells any."""
    families = [
        _gauge("go_goroutines", "Number of goroutines that currently exist.", _tasks()),
        Family(
            "go_info",
            "gauge",
            "Information about the Go environment.",
            [((("version", go_version),), 1)] if go_version else [],
        ),
        _gauge("go_memstats_heap_objects", "Number of allocated objects.", sys.getallocatedblocks()),
    ]
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            _, resident, shared, _, _, data, _ = (int(pages) * _PAGE_BYTES for pages in file.read().split())
    except OSError:
        return families
    used = max(resident - shared, 0)
    idle = max(data - used, 0)
    return [
        *families,
        _gauge("go_memstats_alloc_bytes", "Number of bytes allocated and still in use.", used),
        _gauge("go_memstats_heap_alloc_bytes", "Number of heap bytes allocated and still in use.", used),
        _gauge("go_memstats_heap_inuse_bytes", "Number of heap bytes that are in use.", used),
        _gauge("go_memstats_heap_idle_bytes", "Number of heap bytes waiting to be used.", idle),
        _gauge("go_memstats_heap_released_bytes", "Number of heap bytes released to OS.", idle),
        _gauge("go_memstats_heap_sys_bytes", "Number of heap bytes obtained from system.", used + idle),
        _gauge("go_memstats_sys_bytes", "Number of bytes obtained from system.", used + idle + shared),
    ]


def _tasks() -> int:
    """Threads, and the tasks of the loop."""
    try:
        return threading.active_count() + len(asyncio.all_tasks())
    except RuntimeError:
        return threading.active_count()


def _gauge(name: str, help_text: str, value: float) -> Family:
    return Family(name, "gauge", help_text, [((), value)])
