"""What the operating system counts of this process: CPU, memory, file descriptors.

Source: prometheus/client_golang process_collector.go; etcd server/etcdserver/metrics.go for os_fd_*.
"""

from __future__ import annotations

import os
import resource
import threading
from typing import Final

from balsad.observe.exposition import Family, Kind

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UNLIMITED: Final = float((1 << 64) - 1)


def process_families() -> list[Family]:
    """What cannot be read, as outside Linux, is left out."""
    used, limit = open_fds(), fd_limit()
    families = [
        _one("os_fd_used", "gauge", "The number of used file descriptors.", used),
        _one("os_fd_limit", "gauge", "The file descriptor limit.", limit),
        _one("process_open_fds", "gauge", "Number of open file descriptors.", used),
        _one("process_max_fds", "gauge", "Maximum number of open file descriptors.", limit),
        _one(
            "process_virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
            _soft_limit(resource.RLIMIT_AS),
        ),
    ]
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            # The program's name, in parentheses, may hold spaces.
            stat = file.read().rpartition(")")[2].split()
        with open("/proc/stat", encoding="ascii") as file:
            boot_s = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    except (OSError, StopIteration):
        return families
    user, system, threads, started, virtual, resident = (int(stat[place]) for place in (11, 12, 17, 19, 20, 21))
    return [
        *families,
        _one(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (user + system) / _TICKS_PER_S,
        ),
        _one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident * _PAGE_BYTES),
        _one("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", virtual),
        _one(
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            boot_s + started / _TICKS_PER_S,
        ),
        _one("go_threads", "gauge", "Number of OS threads created.", max(threads, threading.active_count())),
    ]


def open_fds() -> int:
    """File descriptors in use, without the one that counts them."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def resident_bytes() -> int:
    """Memory that is really there; 0 where it cannot be read."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def fd_limit() -> int:
    return int(_soft_limit(resource.RLIMIT_NOFILE))


def _soft_limit(kind: int) -> float:
    soft, _ = resource.getrlimit(kind)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _one(name: str, kind: Kind, help_text: str, value: float) -> Family:
    return Family(name, kind, help_text, [((), value)])
