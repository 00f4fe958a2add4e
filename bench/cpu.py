"""CPU seconds and memory of a process and all it started, from /proc."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """The process and its living descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(_stat(int(name))[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these and their families, ended and waited-for children included."""
    ticks = 0
    for pid in pids:
        for one in family(pid):
            try:
                ticks += sum(int(field) for field in _stat(one)[11:15])
            except OSError:
                continue
    return ticks / _TICKS_PER_S


def memory_mib(pids: Sequence[int]) -> tuple[float, float]:
    """What they and their families have in memory, in MiB: all of it (RSS), and what is not of files (anonymous)."""
    rss = anonymous = 0
    for pid in pids:
        for one in family(pid):
            try:
                lines = Path(f"/proc/{one}/status").read_text().splitlines()
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in lines)
            rss += int(fields.get("VmRSS", "0").split()[0])
            anonymous += int(fields.get("RssAnon", "0").split()[0])
    return rss / 1024, anonymous / 1024


def machine_busy_seconds() -> float:
    """CPU seconds that anybody on this machine used since it booted."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / _TICKS_PER_S


def own_cpu_seconds() -> float:
    """CPU time of this process and of the load generators that it ran and that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Meter:
    """What was used while it was open (`with Meter(pids) as meter`), known once it is closed.

    `servers_s` is the CPU time of these processes, `others_s` that of all who are neither they nor we, `seconds`
    how long it took.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.servers_s = self.others_s = self.seconds = 0.0
        self._before = (0.0, 0.0, 0.0, 0.0)

    def _read(self) -> tuple[float, float, float, float]:
        return cpu_seconds(self._pids), machine_busy_seconds(), own_cpu_seconds(), time.perf_counter()

    def __enter__(self) -> Meter:
        self._before = self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.servers_s, busy, own, self.seconds = (
            after - before for after, before in zip(self._read(), self._before, strict=True)
        )
        self.others_s = max(busy - self.servers_s - own, 0.0)

    @property
    def others(self) -> float:
        """Cores, on average."""
        return self.others_s / self.seconds if self.seconds else 0.0
