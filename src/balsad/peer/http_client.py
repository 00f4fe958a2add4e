"""A small HTTP/1.1 client for what members ask each other, with a pool of idle connections.

Every failure is a DialError or a RequestFailedError whose text reads like Go's, since it ends in log lines that
operators search for.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from balsad.peer.http_answer import AnswerReader, BrokenAnswerError
from balsad.peer.tls import CertificateRefusedError, make_client_context

if TYPE_CHECKING:
    from balsad.config import Url
    from balsad.peer.tls import PeerTls

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
READ_BYTES: Final = 256 << 10
BODY_BYTES_MAX: Final = 100 << 20
"""The largest answer that is taken: a lease may have many keys."""
IDLE_S_MAX: Final = 4.8
"""Members close a connection on which nothing came for five seconds."""
IDLE_COUNT_MAX: Final = 8
KEEPALIVE_S: Final = 30
STALL_S_MAX: Final = 300.0
"""How long a body may find no taker; its receiver may have a slow disk."""


class RequestFailedError(Exception):
    """No answer came, or none that can be understood."""


class DialError(RequestFailedError):
    """Nobody can be reached at this address."""

    is_refused = False
    """Whether there is a machine at the address that says so itself."""


class Answer:
    """A whole answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body without the newline that Go's http.Error adds."""
        return self.body.decode("utf-8", "replace").removesuffix("\n")


def request_head(method: str, path: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """A request's head in Go's order; `length` None is a body in chunks, 0 none."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if length is None:
        lines.append("Transfer-Encoding: chunked")
    elif length or method == "POST":
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in sorted(headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def go_error(error: BaseException) -> str:
    """What Go would call it."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "i/o timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection reset by peer"
    if isinstance(error, BrokenPipeError):
        return "broken pipe"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class _Connection:
    __slots__ = ("idle_since", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since = 0.0

    @property
    def is_dead(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None or self.writer.is_closing()


class Dialer:
    """How to reach members: with which certificates, how long to try."""

    def __init__(self, tls: PeerTls | None, timeout_s: float) -> None:
        self._tls = tls
        self.timeout_s = timeout_s

    def arguments(self, url: Url) -> dict[str, Any]:
        """What `create_connection` needs besides host and port. Raises: DialError."""
        if not url.is_secure:
            return {}
        try:
            context = self._tls.client_context() if self._tls is not None else make_client_context("")
        except (OSError, ValueError) as error:
            raise DialError(go_error(error)) from error
        name = self._tls.server_name if self._tls is not None else ""
        return {"ssl": context, "server_hostname": name or url.host}

    def check(self, transport: asyncio.BaseTransport) -> None:
        """See that the certificate of the server has an allowed name. Raises: DialError."""
        if self._tls is not None and transport.get_extra_info("ssl_object") is not None:
            try:
                self._tls.check_name(transport.get_extra_info("peercert") or {})
            except CertificateRefusedError as error:
                raise DialError(str(error)) from error


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel find out when the other machine is gone."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    except (OSError, AttributeError):
        pass


class HttpClient:
    """Requests to members, one at a time on a connection."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._idle: dict[str, list[_Connection]] = {}
        self._closed = False

    async def request(
        self,
        method: str,
        url: Url,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        timeout_s: float,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> Answer:
        """The answer to a request. Raises: DialError, RequestFailedError."""
        head = request_head(method, path, url.address, headers or {}, len(body))
        where = f'{method.capitalize()} "{url}{path}"'
        try:
            async with asyncio.timeout(timeout_s):
                connection, is_fresh = await self._connect(url)
                try:
                    return await self._exchange(url, connection, head + body, body_bytes_max)
                except (OSError, BrokenAnswerError) as error:
                    if is_fresh or method != "GET":
                        raise RequestFailedError(f"{where}: {go_error(error)}") from error
                # The connection died while it was idle: a GET may be asked again.
                connection = await self._dial(url)
                try:
                    return await self._exchange(url, connection, head + body, body_bytes_max)
                except (OSError, BrokenAnswerError) as error:
                    raise RequestFailedError(f"{where}: {go_error(error)}") from error
        except TimeoutError as error:
            raise RequestFailedError(
                f"{where}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            ) from error

    async def post_chunks(
        self,
        url: Url,
        path: str,
        headers: Mapping[str, str],
        chunks: AsyncIterable[bytes],
        *,
        answer_timeout_s: float,
    ) -> Answer:
        """Post a body of unknown length as it comes; the answer may arrive before its end.

        There is no limit to how long sending takes, as long as the other side takes something now and then.
        Raises: DialError, RequestFailedError, and what `chunks` raises.
        """
        connection = await self._dial(url)
        try:
            return await self._send_chunks(connection, url, path, headers, chunks, answer_timeout_s)
        finally:
            connection.writer.transport.abort()

    async def _send_chunks(
        self,
        connection: _Connection,
        url: Url,
        path: str,
        headers: Mapping[str, str],
        chunks: AsyncIterable[bytes],
        answer_timeout_s: float,
    ) -> Answer:
        writer = connection.writer
        answering = asyncio.ensure_future(_read_answer(connection.reader, AnswerReader(), BODY_BYTES_MAX))
        try:
            try:
                writer.write(request_head("POST", path, url.address, headers, None))
                async for chunk in chunks:
                    writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    async with asyncio.timeout(STALL_S_MAX):
                        await writer.drain()
                    if answering.done():
                        break
                else:
                    writer.write(b"0\r\n\r\n")
                    await writer.drain()
            except ConnectionError:
                # Perhaps it said why before it closed; without an answer the reader fails too.
                pass
            async with asyncio.timeout(answer_timeout_s):
                return await answering
        except (OSError, BrokenAnswerError) as error:
            raise RequestFailedError(f'Post "{url}{path}": {go_error(error)}') from error
        finally:
            if not answering.done():
                answering.cancel()
            await asyncio.wait((answering,))
            if not answering.cancelled():
                answering.exception()

    def close(self) -> None:
        """Drop the idle connections; requests under way end on their own."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.writer.transport.abort()
        self._idle.clear()

    async def _connect(self, url: Url) -> tuple[_Connection, bool]:
        now = asyncio.get_running_loop().time()
        idle = self._idle.get(url.text, [])
        while idle:
            connection = idle.pop()
            if not connection.is_dead and now - connection.idle_since < IDLE_S_MAX:
                return connection, False
            connection.writer.transport.abort()
        return await self._dial(url), True

    async def _dial(self, url: Url) -> _Connection:
        arguments = self._dialer.arguments(url)
        try:
            async with asyncio.timeout(self._dialer.timeout_s):
                if url.is_unix:
                    reader, writer = await asyncio.open_unix_connection(url.address, limit=READ_BYTES, **arguments)
                else:
                    reader, writer = await asyncio.open_connection(
                        url.host, url.port_number, limit=READ_BYTES, **arguments
                    )
        except OSError as error:
            raise dial_error(url, error) from error
        try:
            self._dialer.check(writer.transport)
        except DialError:
            writer.transport.abort()
            raise
        keep_alive(writer.transport)
        return _Connection(reader, writer)

    async def _exchange(self, url: Url, connection: _Connection, data: bytes, body_bytes_max: int) -> Answer:
        answer_reader = AnswerReader()
        keep = False
        try:
            connection.writer.write(data)
            answer = await _read_answer(connection.reader, answer_reader, body_bytes_max)
            keep = answer_reader.may_stay_open and not self._closed
        finally:
            if not keep:
                connection.writer.transport.abort()
        if keep:
            connection.idle_since = asyncio.get_running_loop().time()
            idle = self._idle.setdefault(url.text, [])
            if len(idle) < IDLE_COUNT_MAX:
                idle.append(connection)
            else:
                connection.writer.transport.abort()
        return answer


def dial_error(url: Url, error: BaseException) -> DialError:
    """Source: Go's net.OpError."""
    if isinstance(error, ssl.SSLError):
        return DialError(go_error(error))
    if isinstance(error, socket.gaierror):
        return DialError(f"dial tcp: lookup {url.host}: no such host")
    found = DialError(f"dial {'unix' if url.is_unix else 'tcp'} {url.address}: {go_error(error)}")
    found.is_refused = _is_refused(error)
    return found


def _is_refused(error: BaseException) -> bool:
    """Whether every address of a name refused: the event loop puts several errors into one text."""
    if isinstance(error, ConnectionRefusedError):
        return True
    codes = _ERRNO.findall(str(error)) if isinstance(error, OSError) else []
    return bool(codes) and all(int(code) == errno.ECONNREFUSED for code in codes)


async def _read_answer(reader: asyncio.StreamReader, answer: AnswerReader, body_bytes_max: int) -> Answer:
    parts: list[bytes] = []
    size = 0
    while not answer.is_complete:
        data = await reader.read(READ_BYTES)
        if not data:
            answer.feed_eof()
            break
        part = answer.feed(data)
        if part:
            parts.append(part)
            size += len(part)
            if size > body_bytes_max:
                raise BrokenAnswerError(f"response body exceeds {body_bytes_max} bytes limit")
    return Answer(answer.status, answer.headers, b"".join(parts))
