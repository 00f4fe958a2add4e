"""Where CPU time goes: a hundred times in each of its seconds the kernel interrupts, and the stack is noted.

The kernel's timer runs while the process does: who sleeps is not asked, and the event loop serves on, as a note takes
some microseconds. Python hands signals to its main thread only, so what other threads use shows where that one stands;
and what is compiled has no frames of its own, it shows in its caller.
"""

from __future__ import annotations

import signal
import time
from types import CodeType, FrameType
from typing import Final

from balsad.api.web.pprof.profile import Stack, ValueType, encode
from balsad.api.web.pprof.stacks import place_of

HERTZ: Final = 100
PERIOD_NS: Final = 1_000_000_000 // HERTZ
DEPTH_MAX: Final = 64
STACKS_MAX: Final = 100_000
_TYPES: Final = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))


class CpuSampler:
    """One at a time in a process, to be started and stopped in its main thread."""

    def __init__(self) -> None:
        self.is_running = False
        self._counts: dict[tuple[tuple[CodeType, int | None, object], ...], int] = {}
        self._began_ns = 0

    def start(self) -> None:
        """Raises ValueError outside the main thread."""
        signal.signal(signal.SIGPROF, self._note)
        self.is_running = True
        self._counts = {}
        self._began_ns = time.time_ns()
        signal.setitimer(signal.ITIMER_PROF, 1 / HERTZ, 1 / HERTZ)

    def stop(self) -> bytes:
        """The profile, gzipped."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        # One more may be on its way, and the default would end the process.
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        self.is_running = False
        counts: dict[Stack, tuple[int, int]] = {}
        for frames, times in self._counts.items():
            stack = tuple([place_of(*frame) for frame in frames])
            seen = counts.get(stack, (0, 0))[0] + times
            counts[stack] = (seen, seen * PERIOD_NS)
        self._counts = {}
        return encode(
            counts,
            _TYPES,
            period=(_TYPES[1], PERIOD_NS),
            time_ns=self._began_ns,
            duration_ns=time.time_ns() - self._began_ns,
        )

    def _note(self, _number: int, frame: FrameType | None) -> None:
        frames: list[tuple[CodeType, int | None, object]] = []
        while frame is not None and len(frames) < DEPTH_MAX:
            frames.append((frame.f_code, frame.f_lineno, frame.f_globals.get("__name__")))
            frame = frame.f_back
        key = tuple(frames)
        counts = self._counts
        if key in counts or len(counts) < STACKS_MAX:
            counts[key] = counts.get(key, 0) + 1
