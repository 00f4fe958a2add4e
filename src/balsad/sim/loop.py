"""Virtual time: one queue of events for a whole world, and for each process in it an event loop of its own.

    Timeline   what happens next, in the order of (time, number): the only order there is
    Process    an asyncio event loop over it: its clock may run fast or slow, it may be frozen, and killed

A process works in no time at all, except where something says that it waited: `spend` moves
its own present ahead of the world's, and whatever else it has to do comes later. What it
sends meanwhile leaves at its own present. When a process is dead nothing of it runs any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import random

    # To a type checker the abstract one lacks too much to be made.
    Loop = asyncio.BaseEventLoop
else:
    Loop = asyncio.AbstractEventLoop

T = TypeVar("T")

EXECUTOR_DELAY_S_MAX: Final = 0.002
"""How long a job for a thread waits until one takes it up."""


class Dead(BaseException):
    """The process does not exist any more; no `except Exception` may stop that."""


class Event:
    """Something that will happen; a process sees it as its TimerHandle."""

    __slots__ = ("_cancelled", "args", "callback", "context", "number", "process", "when", "when_local")

    def __init__(
        self,
        when: float,
        number: int,
        process: Process | None,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when_local: float = 0.0,
    ) -> None:
        self.when = when
        self.number = number
        self.process = process
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.when_local = when_local  # 0: not a timer
        self._cancelled = False

    def __lt__(self, other: Event) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self._cancelled = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self._cancelled


class Timeline:
    """The world's time and what is to come."""

    def __init__(self, rnd: random.Random) -> None:
        self.now = 0.0
        self.random = rnd
        self.steps = 0
        self._number = 0
        self._heap: list[tuple[float, int, Event]] = []

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> Event:
        """Have the world call `callback` then, or now if `when` is past."""
        return self.put(when, None, callback, args, None)

    def put(
        self,
        when: float,
        process: Process | None,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when_local: float = 0.0,
    ) -> Event:
        self._number += 1
        event = Event(max(when, self.now), self._number, process, callback, args, context, when_local)
        heapq.heappush(self._heap, (event.when, self._number, event))
        return event

    def run(self, until: float) -> None:
        """Let all happen up to the time `until`."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, number, event = heapq.heappop(heap)
            callback = event.callback
            if callback is None:
                continue
            process = event.process
            self.now = when
            if process is None:
                self.steps += 1
                callback(*event.args)
                continue
            if process.is_dead:
                continue
            if process.busy_until > when:
                # As in asyncio, timers that are due take their place behind what is ready already.
                self._number += 1
                heapq.heappush(heap, (process.busy_until, self._number, event))
                continue
            if event.when_local and process.time() + 1e-9 < event.when_local:
                # The process's clock was slowed down since.
                heapq.heappush(heap, (process.world_time(event.when_local), number, event))
                continue
            self.steps += 1
            process.run_callback(callback, event.args, event.context)
        self.now = max(self.now, until)


class Process(Loop):
    """The event loop of one process."""

    def __init__(self, timeline: Timeline, name: str) -> None:
        self.timeline = timeline
        self.name = name
        self.is_dead = False
        self.busy_until = 0.0
        # Of an exception that a callback or a task let through.
        self.on_exception: Callable[[str, BaseException | None], None] | None = None
        self._rate = 1.0
        self._world_then = 0.0
        self._local_then = 1000.0
        self._offload_now: float | None = None
        self._readers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self._unread: set[int] = set()  # what became readable before somebody waited for it
        # A task that is collected while it waits complains, at a time that no seed decides.
        self._tasks: list[asyncio.Task[Any]] = []

    # Time.

    @property
    def now(self) -> float:
        """The world's time at which this process is."""
        if self._offload_now is not None:
            return self._offload_now
        return max(self.timeline.now, self.busy_until)

    def spend(self, seconds: float) -> None:
        """The process, or its thread that is at work now, waited so long."""
        if self._offload_now is not None:
            self._offload_now += seconds
        else:
            self.busy_until = self.now + seconds

    def freeze(self, seconds: float) -> None:
        """Nothing of the process runs for so long, as when the machine swaps or a virtual one is moved."""
        self.busy_until = max(self.busy_until, self.timeline.now + seconds)

    def drift(self, rate: float) -> None:
        """Let its monotonic clock run at `rate` from now on."""
        local = self.time()
        self._world_then, self._local_then, self._rate = self.now, local, rate

    def time(self) -> float:
        return self._local_then + (self.now - self._world_then) * self._rate

    def world_time(self, local: float) -> float:
        return self._world_then + (local - self._local_then) / self._rate

    # Callbacks.

    def run_callback(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        """Let the process do one thing."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
        except Dead:
            pass
        except Exception as error:
            self._complain(f"in {getattr(callback, '__qualname__', callback)}", error)
        finally:
            events._set_running_loop(before)

    def _complain(self, message: str, error: BaseException | None) -> None:
        if not self.is_dead and self.on_exception is not None:
            self.on_exception(message, error)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Event:
        return self.timeline.put(self.now, self, callback, args, context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Event:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Event:
        return self.timeline.put(self.world_time(when), self, callback, args, context, when)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._complain(str(context.get("message", "")), context.get("exception"))

    # Futures, tasks, threads.

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if len(self._tasks) > 64:
            self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do it in one piece a little later; its end is told when the time it spent is over."""
        future: asyncio.Future[T] = self.create_future()
        began = self.now + self.timeline.random.random() * EXECUTOR_DELAY_S_MAX
        self.timeline.put(began, None, self._run_offloaded, (future, func, args), None)
        return future

    def _run_offloaded(self, future: asyncio.Future[Any], func: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.is_dead:
            return
        result: object = None
        error: Exception | None = None
        self._offload_now = self.timeline.now
        try:
            result = func(*args)
        except Dead:
            return
        except Exception as raised:
            error = raised
        finally:
            ended = self._offload_now
            self._offload_now = None
        self.timeline.put(ended, self, _settle, (future, result, error), None)

    # Files that become readable.

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self._readers[fd] = (callback, args)
        if fd in self._unread:
            self.call_soon(self.make_readable, fd)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def make_readable(self, fd: int) -> None:
        """Whoever waits for `fd` finds something to read."""
        reader = self._readers.get(fd)
        if reader is None:
            self._unread.add(fd)
        else:
            self._unread.discard(fd)
            reader[0](*reader[1])

    # What asyncio asks of a loop.

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def kill(self) -> None:
        """End it, in the midst of whatever it does."""
        self.is_dead = True
        self._readers.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, Coroutine):
                try:
                    coroutine.close()
                except (Dead, RuntimeError, ValueError):
                    pass  # it is the one that runs now, or would not go


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
