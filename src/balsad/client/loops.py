"""The event loop that the client runs on: asyncio's, or a small one for command line tools.

The client is written against `Loop`, the few methods of an asyncio event loop
that it needs. A library user passes nothing and gets the running asyncio loop;
a command line tool runs the very same coroutines on `SmallLoop`, because
importing asyncio takes longer than the whole command should.

Futures and tasks of the small loop are awaited like asyncio's. A cancelled
task gets `Cancelled`, a BaseException, at its await.
"""

from __future__ import annotations

import errno
import heapq
import select
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from ssl import SSLContext, SSLSocket

    from balsad.client.loop_faces import FutureLike, Loop, ProtocolLike

T = TypeVar("T")

_READ_SIZE: Final = 256 << 10


class Cancelled(BaseException):
    """Thrown into a task of the small loop that was cancelled."""


async def sleep(loop: Loop, seconds: float) -> None:
    """Wait that long, on either loop."""
    future = loop.create_future()
    handle = loop.call_later(seconds, _wake, future)
    try:
        await future
    finally:
        handle.cancel()


def _wake(future: FutureLike) -> None:
    if not future.done():
        future.set_result(None)


class Future:
    """A value that comes later, on the small loop."""

    __slots__ = ("_callbacks", "_done", "_error", "_loop", "_value")

    def __init__(self, loop: SmallLoop) -> None:
        self._loop = loop
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any, /) -> None:
        assert not self._done, "a future is decided once"
        self._value = value
        self._finish()

    def set_exception(self, error: BaseException, /) -> None:
        assert not self._done, "a future is decided once"
        self._error = error
        self._finish()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def _finish(self) -> None:
        self._done = True
        for callback in self._callbacks:
            self._loop.call_soon(callback)
        self._callbacks.clear()

    def __await__(self) -> Generator[Future, None, Any]:
        if not self._done:
            yield self
        return self.result()


class Task(Future):
    """A coroutine that runs on the small loop."""

    __slots__ = ("_cancelled", "_coro", "_waits_for")

    def __init__(self, loop: SmallLoop, coro: Coroutine[Any, Any, Any]) -> None:
        super().__init__(loop)
        self._coro = coro
        self._cancelled = False
        self._waits_for: Future | None = None
        loop.call_soon(self._step)

    def cancel(self) -> None:
        """Throw Cancelled at its await; a task that has ended stays as it is."""
        if not self._done and not self._cancelled:
            self._cancelled = True
            waits_for, self._waits_for = self._waits_for, None
            if waits_for is not None and self._step in waits_for._callbacks:
                waits_for._callbacks.remove(self._step)
                self._loop.call_soon(self._step)
            # Otherwise the next step is already due, and will throw.

    def _step(self) -> None:
        self._waits_for = None
        try:
            if self._cancelled:
                self._cancelled = False
                waits_for = self._coro.throw(Cancelled())
            else:
                waits_for = self._coro.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
        except (Exception, Cancelled) as error:
            self.set_exception(error)
        else:
            self._waits_for = waits_for
            if waits_for._done:
                self._loop.call_soon(self._step)
            else:
                waits_for._callbacks.append(self._step)


class _Timer:
    __slots__ = ("args", "callback", "order", "when")

    def __init__(self, when: float, order: int, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.when = when
        self.order = order
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def __lt__(self, other: _Timer) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class SmallLoop:
    """Callbacks, timers, sockets and coroutines for one command."""

    def __init__(self) -> None:
        self._ready: deque[_Timer] = deque()
        self._timers: list[_Timer] = []
        self._order = 0
        self._poll = select.poll()
        self._watched: dict[int, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}
        self.before_wait: Callable[[], None] | None = None

    def time(self) -> float:
        return time.monotonic()

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> _Timer:
        timer = _Timer(0.0, 0, callback, args)
        self._ready.append(timer)
        return timer

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> _Timer:
        self._order += 1
        timer = _Timer(self.time() + delay, self._order, callback, args)
        heapq.heappush(self._timers, timer)
        return timer

    def create_future(self) -> Future:
        return Future(self)

    def create_task(self, coro: Coroutine[Any, Any, Any], /) -> Task:
        return Task(self, coro)

    def run(self, main: Awaitable[T]) -> T:
        """Run until `main` is done and give its value; other tasks stay where they are."""

        async def wrapper() -> T:
            return await main

        task = Task(self, wrapper())
        while not task._done:
            self._turn()
        value: T = task.result()
        return value

    def _turn(self) -> None:
        ready = self._ready
        if not ready:
            self._wait()
        for _ in range(len(ready)):
            timer = ready.popleft()
            if timer.callback is not None:
                timer.callback(*timer.args)

    def _wait(self) -> None:
        """Wait for the next timer or socket, and queue what it calls for."""
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        timeout_ms: float | None = None
        if timers:
            timeout_ms = max(0.0, (timers[0].when - self.time()) * 1000)
        if self.before_wait is not None:
            self.before_wait()
        for fd, events in self._poll.poll(timeout_ms):
            on_read, on_write = self._watched.get(fd, (None, None))
            if on_read is not None and events & ~select.POLLOUT:
                self.call_soon(on_read)
            if on_write is not None and events & ~select.POLLIN:
                self.call_soon(on_write)
        now = self.time()
        while timers and timers[0].when <= now:
            self._ready.append(heapq.heappop(timers))

    # ---- sockets

    def watch(self, fd: int, on_read: Callable[[], None] | None, on_write: Callable[[], None] | None = None) -> None:
        """Call back while `fd` can be read, or written; None and None forget it."""
        events = (select.POLLIN if on_read is not None else 0) | (select.POLLOUT if on_write is not None else 0)
        if not events:
            if self._watched.pop(fd, None) is not None:
                self._poll.unregister(fd)
            return
        self._watched[fd] = (on_read, on_write)
        self._poll.register(fd, events)

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: str,
        port: int,
        /,
        *,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[SmallTransport, Any]:
        """Connect over TCP, to the first of the host's addresses that answers. Raises OSError."""
        error: OSError = OSError(f"no address for {host!r}")
        # As bytes a name spares importing the codec of international names.
        name = host.encode() if host.isascii() else host
        for family, kind, number, _name, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, number)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return await self._connect(sock, address, protocol_factory, ssl, server_hostname)
            except OSError as failed:
                error = failed
        raise error

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], Any],
        path: str,
        /,
        *,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[SmallTransport, Any]:
        """Connect to a socket in the file system. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        return await self._connect(sock, path, protocol_factory, ssl, server_hostname)

    async def _connect(
        self,
        sock: socket.socket,
        address: Any,
        protocol_factory: Callable[[], Any],
        ssl: SSLContext | None,
        server_hostname: str | None,
    ) -> tuple[SmallTransport, Any]:
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                await self._writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, f"connect: {errno.errorcode.get(code, code)}")
            if ssl is not None:
                sock = await self._shake_hands(sock, ssl, server_hostname)
        except BaseException:
            self.watch(sock.fileno(), None)
            sock.close()
            raise
        protocol = protocol_factory()
        transport = SmallTransport(self, sock, protocol, tls=ssl is not None)
        protocol.connection_made(transport)
        return transport, protocol

    async def _shake_hands(self, sock: socket.socket, context: SSLContext, server_hostname: str | None) -> SSLSocket:
        from ssl import SSLWantReadError, SSLWantWriteError

        secure = context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        while True:
            try:
                secure.do_handshake()
                return secure
            except SSLWantReadError:
                await self._readable(secure)
            except SSLWantWriteError:
                await self._writable(secure)
            except BaseException:
                secure.close()
                raise

    async def _readable(self, sock: socket.socket) -> None:
        future = Future(self)
        self.watch(sock.fileno(), lambda: _wake(future))
        try:
            await future
        finally:
            self.watch(sock.fileno(), None)

    async def _writable(self, sock: socket.socket) -> None:
        future = Future(self)
        self.watch(sock.fileno(), None, lambda: _wake(future))
        try:
            await future
        finally:
            self.watch(sock.fileno(), None)


class SmallTransport:
    """A connected socket of the small loop, as asyncio's transports are."""

    def __init__(self, loop: SmallLoop, sock: socket.socket, protocol: ProtocolLike, *, tls: bool) -> None:
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._out = bytearray()
        self._closing = False
        self._lost = False
        self._again: tuple[type[Exception], ...] = (BlockingIOError, InterruptedError)
        if tls:
            from ssl import SSLWantReadError, SSLWantWriteError

            self._again = (BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)
        loop.watch(sock.fileno(), self._on_readable)
        # TLS may already hold decrypted bytes that poll knows nothing of.
        loop.call_soon(self._on_readable)

    def write(self, data: bytes, /) -> None:
        if self._lost or self._closing:
            return
        self._out += data
        self._flush()

    def close(self) -> None:
        """Close once what was written is gone."""
        if not self._closing:
            self._closing = True
            self._flush()

    def abort(self) -> None:
        self._lose(None)

    def _flush(self) -> None:
        while self._out and not self._lost:
            try:
                del self._out[: self._sock.send(self._out)]
            except self._again:
                self._loop.watch(self._sock.fileno(), self._on_readable, self._flush)
                return
            except OSError as error:
                self._loop.call_soon(self._lose, error)
                return
        if self._lost:
            return
        if self._closing:
            self._lose(None)
        else:
            self._loop.watch(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        while not self._lost:
            try:
                data = self._sock.recv(_READ_SIZE)
            except self._again:
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._lose(None)
                return
            self._protocol.data_received(data)
            if len(data) < 16384:
                # Most likely all there was; poll says when there is more. TLS
                # gives a record at a time, so ask it until it has none.
                if len(self._again) == 2:
                    return

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.watch(self._sock.fileno(), None)
            self._sock.close()
            self._loop.call_soon(self._protocol.connection_lost, error)
