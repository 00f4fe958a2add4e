"""Who is doing what: the stacks of threads, and of the tasks of this event loop, which wait without a thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import CodeType, FrameType
from typing import Any, NamedTuple

from balsad.api.web.pprof.profile import Place, Stack


class Strand(NamedTuple):
    """What Go has goroutines for."""

    state: str
    stack: Stack


def strands() -> list[Strand]:
    """The threads, this one first, then the tasks."""
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    found = [
        Strand(
            f"{'running' if ident == own else 'waiting'}, thread {names.get(ident, ident)}",
            stack_of(frames[ident]),
        )
        for ident in sorted(frames, key=lambda ident: ident != own)
    ]
    current = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not current:
            found.append(Strand(f"waiting, task {task.get_name()}", task_stack(task.get_coro())))
    return found


def stack_of(frame: FrameType | None) -> Stack:
    places = []
    while frame is not None:
        places.append(place_of(frame.f_code, frame.f_lineno, frame.f_globals.get("__name__")))
        frame = frame.f_back
    return tuple(places)


def task_stack(coroutine: Any) -> Stack:
    """From what is awaited in the end outwards."""
    places: list[Place] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            places.append(place_of(frame.f_code, frame.f_lineno, frame.f_globals.get("__name__")))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return tuple(reversed(places))


def place_of(code: CodeType, line: int | None, module: object = None) -> Place:
    name = f"{module}.{code.co_qualname}" if module else code.co_qualname
    return Place(name, code.co_filename, line or code.co_firstlineno)
