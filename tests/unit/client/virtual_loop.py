"""The small loop on a clock that jumps to the next timer, and a channel whose server is the test."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

from balsad.client.codec import Message
from balsad.client.loops import SmallLoop


class VirtualLoop(SmallLoop):
    """Waits take no time: when nothing is ready, the clock is the next timer's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _wait(self) -> None:
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        assert timers, "everybody waits and nothing will happen"
        self.now = max(self.now, timers[0].when)
        while timers and timers[0].when <= self.now:
            self._ready.append(heapq.heappop(timers))


class FakeStream:
    """A stream whose other end is the test: what was sent is in `sent`, `answer` and `fail` are the server."""

    def __init__(self, loop: SmallLoop) -> None:
        self.sent: list[Any] = []
        self.cancelled = False
        self._loop = loop
        self._answers: deque[Any] = deque()
        self._waiter: Any = None

    def answer(self, *messages: Message) -> None:
        self._answers.extend(messages)
        self._wake()

    def fail(self, error: Exception | None) -> None:
        """End it: with an error, or in good order."""
        self._answers.append(error)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- what RpcStream offers

    def send(self, message: Message, *, last: bool = False) -> None:
        self.sent.append(message)

    async def receive(self, _kind: type[Message]) -> Any:
        while not self._answers:
            self._waiter = self._loop.create_future()
            await self._waiter
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read(self) -> bytes | None:
        from balsad.client import codec

        answer = await self.receive(Message)
        return None if answer is None else codec.encode(answer)

    def cancel(self) -> None:
        self.cancelled = True
        self.fail(_Gone())


class _Gone(Exception):
    """What a reader of a cancelled stream hears."""


class FakeChannel:
    """Opens streams that the test answers, one after the other."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.streams: list[FakeStream] = []
        self.require_leader: list[bool] = []

    async def stream(self, _path: str, *, deadline: float | None = None, require_leader: bool = False) -> FakeStream:
        del deadline
        stream = FakeStream(self.loop)
        self.streams.append(stream)
        self.require_leader.append(require_leader)
        return stream
