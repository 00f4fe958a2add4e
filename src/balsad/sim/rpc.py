"""gRPC calls between simulated clients and members, from the message on: no HTTP/2 in between.

    Answers     what a client hears of one call
    SimCall     transport.Call for the member, which runs its handlers unchanged
    Front       the member's methods, and the calls that are open

Answers gather until the member flushes, as on a socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from balsad.errors import (
    Code,
    MemberNotEnoughStartedError,
    NotSupportedForLearnerError,
    RequestError,
    TooManyRequestsError,
    UnhealthyError,
)
from balsad.transport import Call, Headers, RpcServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from balsad.sim.loop import Process

OK: Final = 0
LOST: Final = -1
"""The connection broke: nobody knows what became of the request."""
REFUSED: Final = -2
"""There was no connection: the request was never made."""

PIECE_BYTES: Final = 8 * 1024
"""Of what a watcher is told of the past, so much at a time: as of a member with many such watchers."""
HEAVY: Final = 8 << 20
"""What a client that does not read seems to leave unread."""


class Answers(Protocol):
    """The client's end of a call."""

    def on_message(self, message: bytes) -> None: ...

    def on_end(self, code: int, text: str) -> None:
        """`code` is gRPC's, or LOST, or REFUSED."""


class Line(Protocol):
    """The way back to the client."""

    def carry(self, call: SimCall, action: Callable[[], None]) -> None:
        """Do it at the client's, in order, once it has got there; or break the call off."""


class SimCall(Call):
    """A call whose other end is a simulated client."""

    def __init__(self, front: Front, headers: Headers, answers: Answers, line: Line) -> None:
        self.headers = headers
        self.handler = None
        self.front = front
        self.answers = answers
        self.line = line
        self.arrives_last = 0.0
        self.reads = True
        self._unread: list[Callable[[], None]] = []

    @property
    def peer_name(self) -> str:
        return ""

    @property
    def peer_address(self) -> str:
        return "simulated"

    # What the application says.

    def respond(self, message: bytes) -> None:
        self.send(message)
        self.finish()

    def room(self, most: int) -> int:
        # Nobody else's unread bytes count: a simulated client's are not counted either.
        return 0 if self.pending_bytes > most else PIECE_BYTES

    def send(self, message: bytes) -> None:
        if not self.closed:
            self._queue(lambda: self.answers.on_message(message))

    def _end(self, code: int, text: str) -> None:
        self.closed = True
        self.front.calls.pop(self, None)
        self._queue(lambda: self.answers.on_end(code, text))

    def _queue(self, action: Callable[[], None]) -> None:
        if self.reads:
            self.front.queue(self, action)
        else:
            self._unread.append(action)
            self.pending_bytes = HEAVY

    # What the client does.

    def stop_reading(self) -> None:
        self.reads = False

    def read_on(self) -> None:
        """In the member's process."""
        self.reads = True
        unread, self._unread = self._unread, []
        for action in unread:
            self.front.queue(self, action)
        self.pending_bytes = 0
        if unread and not self.closed and self.on_writable is not None:
            self.on_writable()

    def hang_up(self) -> None:
        """The client is gone. In the member's process."""
        self.front.calls.pop(self, None)
        self.on_gone()


class Front:
    """What a member serves, and to whom."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.server = RpcServer(scheduler=process)
        self.calls: dict[SimCall, None] = {}
        self._headers: dict[tuple[str, bytes], Headers] = {}
        self._ready: list[tuple[SimCall, Callable[[], None]]] = []
        self._flush_is_due = False

    def headers(self, path: str, token: bytes) -> Headers:
        found = self._headers.get((path, token))
        if found is None:
            metadata = {b"token": token} if token else {}
            found = self._headers[path, token] = Headers(path, "simulated", metadata, [])
            found.method = self.server.router.methods[path]
        return found

    def begin(
        self, path: str, message: bytes, token: bytes, answers: Answers, line: Line, on_open: Callable[[SimCall], None]
    ) -> None:
        """A request is here. In the member's process; `on_open` hears of the call before its first answer."""
        headers = self.headers(path, token)
        method = headers.method
        assert method is not None
        call = SimCall(self, headers, answers, line)
        self.calls[call] = None
        on_open(call)
        if method.factory is not None:
            method.calls += 1
            call.begun = True
            try:
                call.handler = method.factory(call)
            except RequestError as error:
                call.fail(error.code, error.text)
                return
        call.on_message(message)

    def queue(self, call: SimCall, action: Callable[[], None]) -> None:
        self._ready.append((call, action))
        if not self._flush_is_due:
            self._flush_is_due = True
            self.process.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        """Send what was answered."""
        ready, self._ready = self._ready, []
        for call, action in ready:
            call.line.carry(call, action)


_CERTAIN: Final = frozenset(
    (
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED,
    )
)
_CERTAIN_TEXTS: Final = frozenset(
    (
        NotSupportedForLearnerError.message,
        UnhealthyError.message,
        MemberNotEnoughStartedError.message,
        TooManyRequestsError.message,
    )
)


def is_refusal(code: int, text: str = "") -> bool:
    """Whether the answer says for certain that nothing was done, whatever the request."""
    return code == REFUSED or code in _CERTAIN or text in _CERTAIN_TEXTS
