"""Calls over several endpoints: which connection, how often, with what token.

Unary calls and streams wait until some endpoint is ready, or their time is
over. Endpoints take turns. A call that surely never reached a server is sent
again; a call that changes nothing, or may be repeated, is sent again when the
server was not available; a refused token is renewed once.

Source: etcd client/v3 retry_interceptor.go, retry.go; grpc-go's round robin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from balsad.client import codec
from balsad.client.codec import M, Message
from balsad.client.endpoints import Endpoint
from balsad.client.grpc_status import CANCELED, INTERNAL, OK, UNAVAILABLE, Status
from balsad.client.http2 import Stream
from balsad.client.link import BACKOFF_MAX_S, Link, Wire
from balsad.client.loops import sleep

if TYPE_CHECKING:
    from ssl import SSLContext

    from balsad.client.loop_faces import Handle, Loop
    from balsad.errors import RequestError

API_VERSION: Final = "3.5"
_ATTEMPTS_MAX: Final = 100
_RETRY_WAIT_S: Final = 0.025
_RETRY_JITTER: Final = 0.10
_DEADLINE_CODE: Final = 4
_DEADLINE_TEXT: Final = "context deadline exceeded"
_CLOSED_TEXT: Final = "the client connection is closing"
_BAD_TOKEN: Final = "etcdserver: invalid auth token"
_AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"
_QUEUE_BYTES_MAX: Final = 8 << 20
_REQUIRE_LEADER: Final = (("hasleader", "true"),)


class _Unary:
    """The handler of a call with one answer."""

    __slots__ = ("answer", "future")

    def __init__(self, future: Any) -> None:
        self.future = future
        self.answer: bytes | None = None

    def on_message(self, data: bytes) -> None:
        self.answer = data

    def on_end(self, status: Status) -> None:
        if not self.future.done():
            self.future.set_result(status)


class RpcStream:
    """A call whose messages come one by one. `read` gives None at its orderly end."""

    def __init__(self, loop: Loop, wire: Wire) -> None:
        self._loop = loop
        self._wire = wire
        self._stream: Stream | None = None
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._status: Status | None = None
        self._waiter: Any = None
        self._timer: Handle | None = None

    def on_message(self, data: bytes) -> None:
        self._messages.append(data)
        self._bytes += len(data)
        if self._bytes > _QUEUE_BYTES_MAX and self._stream is not None:
            self._stream.pause()
        self._wake()

    def on_end(self, status: Status) -> None:
        if self._status is None:
            self._status = status
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def send(self, message: Message, *, last: bool = False) -> None:
        """Send a message; `last` says that nothing more will be sent."""
        if self._status is None and self._stream is not None:
            self._stream.send(codec.encode(message), last=last)
            self._wire.flush_soon()

    async def read(self) -> bytes | None:
        """The next message. Raises RequestError when the call failed."""
        while not self._messages:
            if self._status is not None:
                self._drop_timer()
                if self._status.code == OK:
                    return None
                raise _error_of(self._status)
            self._waiter = self._loop.create_future()
            await self._waiter
        data = self._messages.popleft()
        self._bytes -= len(data)
        if self._bytes < _QUEUE_BYTES_MAX // 2 and self._stream is not None:
            self._stream.resume()
            self._wire.flush_soon()
        return data

    async def receive(self, kind: type[M]) -> M | None:
        """The next message, decoded."""
        data = await self.read()
        return None if data is None else codec.decode(kind, data)

    def cancel(self) -> None:
        """Give the call up; a reader is told that it was canceled."""
        self._drop_timer()
        if self._stream is not None:
            self._stream.cancel()
            self._wire.flush_soon()
        self.on_end(Status(CANCELED, "context canceled"))

    def _expire(self) -> None:
        if self._stream is not None and self._status is None:
            self._stream.cancel()
            self._wire.flush_soon()
            self.on_end(Status(_DEADLINE_CODE, _DEADLINE_TEXT))

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Channel:
    """Connections to all endpoints, and the calls on them. Deadlines are times of the loop's clock."""

    def __init__(
        self,
        loop: Loop,
        endpoints: Sequence[str],
        *,
        tls: SSLContext | None = None,
        either_mode: bool = False,
        server_name: str = "",
        keepalive_time_s: float = 0.0,
        keepalive_timeout_s: float = 6.0,
        random: Callable[[], float],
        backoff_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self.loop = loop
        self._backoff_max_s = backoff_max_s
        self.token = ""
        self.authenticate: Callable[[float | None], Any] | None = None
        # Told of each attempt of a unary call that an endpoint refused, or did not answer in time.
        self.on_failure: Callable[[int, Status], None] | None = None
        self._random = random
        self._closed = False
        self._waiters: deque[Any] = deque()
        self._tls = tls
        self._either_mode = either_mode
        self._server_name = server_name
        self._keepalive_time_s = keepalive_time_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._links: list[Link] = [self._make_link(text) for text in endpoints]
        self._turn = -1
        self._started = False

    def _make_link(self, text: str) -> Link:
        return Link(
            self.loop,
            Endpoint(text, self._server_name),
            tls=self._tls,
            either_mode=self._either_mode,
            keepalive_time_s=self._keepalive_time_s,
            keepalive_timeout_s=self._keepalive_timeout_s,
            random=self._random,
            on_change=self._on_link_change,
            backoff_max_s=self._backoff_max_s,
        )

    @property
    def endpoints(self) -> list[str]:
        return [link.endpoint.text for link in self._links]

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these endpoints from now on; those that stay keep their connection."""
        kept = {link.endpoint.text: link for link in self._links}
        links = [kept.pop(text) if text in kept else self._make_link(text) for text in endpoints]
        self._links = links
        for link in kept.values():
            link.close()
        if self._started:
            for link in links:
                link.start()

    @property
    def was_ready(self) -> bool:
        """Whether any endpoint ever answered."""
        return any(link.was_ready for link in self._links)

    @property
    def last_error(self) -> Exception | None:
        """Why some endpoint cannot be reached, for people to read."""
        return next((link.error for link in self._links if link.error is not None), None)

    def close(self) -> None:
        """Disconnect; calls under way fail."""
        self._closed = True
        for link in self._links:
            link.close()
        self._wake_waiters()

    async def unary(
        self,
        path: str,
        request: Message,
        kind: type[M],
        *,
        deadline: float | None = None,
        repeatable: bool = False,
        require_leader: bool = False,
    ) -> M:
        """One request, one answer. Raises RequestError."""
        data = codec.encode(request)
        attempt = tries = 0
        renewed = False
        while True:
            answer, status = await self._call_once(path, data, deadline, require_leader)
            if status.code != OK and not status.unprocessed and self.on_failure is not None:
                self.on_failure(tries, status)
                tries += 1
            if status.code == OK:
                if answer is None:
                    raise _error_of(Status(INTERNAL, "the server ended the call without an answer"))
                return codec.decode(kind, answer)
            if status.code == _DEADLINE_CODE and status.text == _DEADLINE_TEXT:
                raise self._timeout()
            if status.unprocessed:
                continue
            if status.text == _BAD_TOKEN and self.authenticate is not None and not renewed and path != _AUTHENTICATE:
                renewed = True
                self.token = ""
                await self.authenticate(deadline)
                continue
            attempt += 1
            if status.code != UNAVAILABLE or not repeatable or attempt >= _ATTEMPTS_MAX:
                raise _error_of(status)
            if attempt % (len(self._links) // 2 + 1) == 0:
                await self._pause(_RETRY_WAIT_S * (1 + _RETRY_JITTER * (2 * self._random() - 1)), deadline)

    async def stream(
        self,
        path: str,
        *,
        deadline: float | None = None,
        require_leader: bool = False,
    ) -> RpcStream:
        """Open a call of many messages. Raises RequestError when no endpoint is ready in time."""
        if self.authenticate is not None:
            await self.authenticate(deadline)
        wire = await self._pick(deadline)
        call = RpcStream(self.loop, wire)
        call._stream = wire.connection.open(path, self._metadata(deadline, require_leader), call)
        wire.flush_soon()
        if deadline is not None:
            call._timer = self.loop.call_later(max(0.0, deadline - self.loop.time()), call._expire)
        return call

    # ---- one attempt

    async def _call_once(
        self, path: str, data: bytes, deadline: float | None, require_leader: bool
    ) -> tuple[bytes | None, Status]:
        wire = await self._pick(deadline)
        call = _Unary(self.loop.create_future())
        stream = wire.connection.open(path, self._metadata(deadline, require_leader), call)
        stream.send(data, last=True)
        wire.flush_soon()
        timer: Handle | None = None
        if deadline is not None:
            late = Status(_DEADLINE_CODE, _DEADLINE_TEXT)
            timer = self.loop.call_later(max(0.0, deadline - self.loop.time()), call.on_end, late)
        status: Status | None = None
        try:
            status = await call.future
            return call.answer, status
        finally:
            if timer is not None:
                timer.cancel()
            if status is None or status.code == _DEADLINE_CODE:
                stream.cancel()
                wire.flush_soon()

    def _metadata(self, deadline: float | None, require_leader: bool) -> tuple[tuple[str, str], ...]:
        metadata: tuple[tuple[str, str], ...] = (("client-api-version", API_VERSION),)
        if require_leader:
            metadata += _REQUIRE_LEADER
        if self.token:
            metadata += (("token", self.token),)
        if deadline is not None:
            # The client's own clock ends the call; rounding what the server is
            # told lets it know the header block again.
            left_ms = max(1, int((deadline - self.loop.time()) * 1000) + 1)
            if left_ms > 1000:
                left_ms = (left_ms + 99) // 100 * 100
            metadata += (("grpc-timeout", f"{left_ms}m"),)
        return metadata

    # ---- which connection

    def start(self) -> None:
        """Connect to all endpoints; the first call would do so as well."""
        if not self._started:
            self._started = True
            self._turn = int(self._random() * len(self._links))
            for link in self._links:
                link.start()

    def ready_wire(self) -> Wire | None:
        """A connection on which a call can begin now; the endpoints take turns."""
        count = len(self._links)
        for step in range(1, count + 1):
            link = self._links[(self._turn + step) % count]
            if link.usable:
                self._turn = (self._turn + step) % count
                assert link.wire is not None
                return link.wire
        return None

    @property
    def is_resting(self) -> bool:
        """No endpoint can be reached, and none is just being tried."""
        return all(link.is_resting for link in self._links)

    async def wire(self, deadline: float | None = None) -> Wire | None:
        """A connection that is ready, or None as soon as no endpoint can be reached. Raises RequestError."""
        return await self._find(deadline, patient=False)

    async def _pick(self, deadline: float | None) -> Wire:
        """A connection that is ready; the endpoints take turns."""
        wire = await self._find(deadline, patient=True)
        assert wire is not None
        return wire

    async def _find(self, deadline: float | None, *, patient: bool) -> Wire | None:
        self.start()
        while True:
            if self._closed:
                from balsad.client.errors import ClientClosedError

                raise ClientClosedError
            wire = self.ready_wire()
            if wire is not None:
                return wire
            if not patient and self.is_resting:
                return None
            if deadline is not None and self.loop.time() >= deadline:
                raise self._timeout()
            await self._wait_for_change(deadline)

    async def _wait_for_change(self, deadline: float | None) -> None:
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        timer = None
        if deadline is not None:
            timer = self.loop.call_later(max(0.0, deadline - self.loop.time()), _finish, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _on_link_change(self, link: Link) -> None:
        if link.usable or link.is_resting:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            _finish(waiter)

    async def _pause(self, seconds: float, deadline: float | None) -> None:
        if deadline is not None:
            seconds = min(seconds, max(0.0, deadline - self.loop.time()))
        await sleep(self.loop, seconds)
        if deadline is not None and self.loop.time() >= deadline:
            raise self._timeout()

    def _timeout(self) -> RequestError:
        from balsad.client.errors import CallTimeoutError

        error = CallTimeoutError()
        error.__cause__ = self.last_error
        return error


def _finish(waiter: Any) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _error_of(status: Status) -> RequestError:
    from balsad.client.errors import CallTimeoutError, ClientClosedError, error_of

    if status.code == _DEADLINE_CODE and status.text == _DEADLINE_TEXT:
        return CallTimeoutError()
    if status.code == CANCELED and status.text in ("context canceled", _CLOSED_TEXT):
        return ClientClosedError()
    return error_of(status.code, status.text)
