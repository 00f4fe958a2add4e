"""Calls that go on to a member as they came: the same bytes, the client's token, what is left of its time.

A call that finds a connection ready is passed on in the turn it arrived in, without a task. While none can be made it
is refused at once, as etcd's proxy does: it is the client who knows whether it may be tried again.

Source: etcd server/proxy/grpcproxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from balsad import errors
from balsad.client.channel import API_VERSION, Channel
from balsad.client.grpc_status import INTERNAL, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN, Status
from balsad.client.http2 import Stream
from balsad.client.link import Wire
from balsad.errors import RequestError
from balsad.transport import Call

ROOM_BYTES: Final = 256 << 10
"""What may wait for a client before the member is asked to wait, too."""
UNSENT_BYTES_MAX: Final = 8 << 20
"""What a client may have sent on a stream that the member does not take."""

Metadata = tuple[tuple[str, str], ...]

_KNOWN: Final = frozenset(
    kind.message
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RequestError) and kind.message.startswith("etcdserver: ")
)


def metadata_of(call: Call) -> Metadata:
    """What of a call's headers is passed on."""
    given = call.headers.metadata
    found: Metadata = (("client-api-version", API_VERSION),)
    token = given.get(b"token")
    if token:
        found += (("token", token.decode("utf-8", "surrogateescape")),)
    if given.get(b"hasleader") == b"true":
        found += (("hasleader", "true"),)
    if call.deadline is not None:
        found += (("grpc-timeout", f"{max(1, int(call.deadline * 1000))}m"),)
    return found


class Exchange:
    """A question and its one answer, or what it ended with."""

    def __init__(self, upstream: Upstream, path: str, metadata: Metadata, message: bytes, done: Done) -> None:
        self._upstream = upstream
        self._path = path
        self._metadata = metadata
        self._message = message
        self._done = done
        self._answer: bytes | None = None
        self._stream: Stream | None = None
        self._wire: Wire | None = None
        self._is_over = False

    def begin(self, wire: Wire) -> None:
        if self._is_over:
            return
        self._wire = wire
        self._stream = wire.connection.open(self._path, self._metadata, self)
        self._stream.send(self._message, last=True)
        wire.flush_soon()

    def on_message(self, data: bytes) -> None:
        self._answer = data

    def on_end(self, status: Status) -> None:
        if self._is_over:
            return
        if status.unprocessed:
            # Surely no member saw it.
            self._upstream.when_ready(self.begin, self.fail)
            return
        self._is_over = True
        answer = self._answer
        if status.code == OK and answer is None:
            status = Status(INTERNAL, "the server ended the call without an answer")
        elif answer is not None and len(answer) > self._upstream.receive_bytes_max:
            status = too_large("received", len(answer), self._upstream.receive_bytes_max)
        self._done(status, answer or b"")

    def fail(self, status: Status) -> None:
        if not self._is_over:
            self._is_over = True
            self._done(status, b"")

    def cancel(self) -> None:
        self._is_over = True
        if self._stream is not None and self._wire is not None:
            self._stream.cancel()
            self._wire.flush_soon()


Done = Callable[[Status, bytes], None]


class Upstream:
    """The members, as clients of the proxy see them."""

    def __init__(self, channel: Channel, *, send_bytes_max: int, receive_bytes_max: int) -> None:
        self.channel = channel
        self.send_bytes_max = send_bytes_max
        self.receive_bytes_max = receive_bytes_max
        self._waiting: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
        self.channel.close()

    def when_ready(self, begin: Callable[[Wire], None], fail: Callable[[Status], None]) -> None:
        """Call `begin` with a connection, at once if there is one, or `fail` when none can be made."""
        wire = self.channel.ready_wire()
        if wire is not None:
            begin(wire)
            return
        task = asyncio.ensure_future(self._wait(begin, fail))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _wait(self, begin: Callable[[Wire], None], fail: Callable[[Status], None]) -> None:
        try:
            wire = await self.channel.wire()
        except RequestError as error:
            fail(Status(int(error.code), error.text))
            return
        if wire is None:
            fail(Status(UNAVAILABLE, f'connection error: desc = "transport: {self.channel.last_error}"'))
        else:
            begin(wire)

    def ask(self, path: str, metadata: Metadata, message: bytes, done: Done) -> Exchange:
        """Ask a member; `done` gets the status and, when that is OK, the answer."""
        exchange = Exchange(self, path, metadata, message, done)
        if len(message) > self.send_bytes_max:
            exchange.fail(too_large("send", len(message), self.send_bytes_max))
        else:
            self.when_ready(exchange.begin, exchange.fail)
        return exchange

    def pass_on(self, call: Call, message: bytes, done: Done) -> None:
        """Ask what the client asks, for as long as it waits."""
        exchange = self.ask(call.headers.path, metadata_of(call), message, done)
        if not call.closed:
            call.on_cancel = exchange.cancel


def too_large(verb: str, size: int, limit: int) -> Status:
    """`verb`: send or received."""
    what = "trying to send" if verb == "send" else "grpc: received"
    return Status(RESOURCE_EXHAUSTED, f"{what} message larger than max ({size} vs. {limit})")


def end(call: Call, status: Status, *, is_told_apart: bool) -> None:
    """End a call with what a member said.

    What etcd's proxy asks by its client's services loses its code on the way: etcd's own errors become Unknown, with
    their words.
    """
    code = status.code
    if not is_told_apart and status.text in _KNOWN:
        code = UNKNOWN
    call.fail(code, status.text)


class Passage:
    """A stream whose messages go through as they come, either way."""

    def __init__(self, upstream: Upstream, call: Call) -> None:
        self._upstream = upstream
        self._call = call
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._has_said_all = False
        self._stream: Stream | None = None
        self._wire: Wire | None = None
        call.on_writable = self._on_writable
        upstream.when_ready(self._begin, self._fail)

    # What the client says.

    def on_message(self, message: bytes) -> None:
        if len(message) > self._upstream.send_bytes_max:
            self._fail(too_large("send", len(message), self._upstream.send_bytes_max))
            self.on_cancel()
            return
        stream, wire = self._stream, self._wire
        if stream is None or wire is None:
            self._early.append(message)
            self._early_bytes += len(message)
            unsent = self._early_bytes
        else:
            stream.send(message)
            wire.flush_soon()
            unsent = stream.queued_bytes
        if unsent > UNSENT_BYTES_MAX:
            self._fail(Status(RESOURCE_EXHAUSTED, "grpc-proxy: the member does not take what is sent"))
            self.on_cancel()

    def on_half_close(self) -> None:
        self._has_said_all = True
        if self._stream is not None and self._wire is not None:
            self._stream.finish()
            self._wire.flush_soon()

    def on_cancel(self) -> None:
        if self._stream is not None and self._wire is not None:
            self._stream.cancel()
            self._wire.flush_soon()

    def _on_writable(self) -> None:
        if self._stream is not None and self._wire is not None:
            self._stream.resume()
            self._wire.flush_soon()

    # What the member says.

    def _begin(self, wire: Wire) -> None:
        call = self._call
        if call.closed:
            return
        self._wire = wire
        self._stream = stream = wire.connection.open(call.headers.path, metadata_of(call), Receiver(self, call))
        for message in self._early:
            stream.send(message)
        self._early.clear()
        if self._has_said_all:
            stream.finish()
        wire.flush_soon()

    def _fail(self, status: Status) -> None:
        self._call.fail(status.code, status.text)

    def on_answer(self, data: bytes) -> None:
        call = self._call
        if len(data) > self._upstream.receive_bytes_max:
            self._fail(too_large("received", len(data), self._upstream.receive_bytes_max))
            self.on_cancel()
            return
        call.send(data)
        if not call.has_room(ROOM_BYTES) and self._stream is not None:
            self._stream.pause()


class Receiver:
    """The member's end of a Passage."""

    def __init__(self, passage: Passage, call: Call) -> None:
        self._passage = passage
        self._call = call

    def on_message(self, data: bytes) -> None:
        self._passage.on_answer(data)

    def on_end(self, status: Status) -> None:
        if status.code == OK:
            self._call.finish()
        else:
            self._call.fail(status.code, status.text)
