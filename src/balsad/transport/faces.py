"""What the transport asks of its neighbours: the application, the event loop, and whoever else takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class StreamHandler(Protocol):
    """The application's end of a stream."""

    def on_message(self, message: bytes) -> None: ...

    def on_half_close(self) -> None:
        """The client has said all it will say."""

    def on_cancel(self) -> None:
        """The call is over without the application having ended it; nothing more can be sent."""


class Sink(Protocol):
    """Where a connection's bytes go: an asyncio transport, or a test's."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connection(Protocol):
    """A client, whichever protocol it speaks."""

    def flush(self) -> None: ...

    def drain(self) -> None:
        """End when what is under way has ended."""

    def abort(self) -> None: ...

    @property
    def held_bytes(self) -> int:
        """What waits to be read by the client, and what is here of messages that are not here whole."""


class Timed(Protocol):
    """What a deadline can be set for."""

    def on_timer(self) -> None: ...


class Handle(Protocol):
    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float: ...

    def call_soon(self, callback: Callable[[], None], /) -> Any: ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle: ...
