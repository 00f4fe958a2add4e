"""HTTP requests that go on to a member, and its answers as they come: also of watches, which wait for long.

Source: etcd server/proxy/httpproxy/reverse.go, proxy.go.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.api import refuse
from balsad.observe.logs import get_logger
from balsad.peer import AnswerReader, BrokenAnswerError, Dialer, DialError, dial_error, go_error, request_head
from balsad.proxy.v2_director import Director, Endpoint

if TYPE_CHECKING:
    from balsad.observe.metrics import Metrics
    from balsad.transport import HttpRequest, HttpResponder

READ_BYTES: Final = 64 << 10
ROOM_BYTES: Final = 256 << 10
"""What may wait for a client before no more is read for it."""
WHOLE_BYTES_MAX: Final = 1 << 20
"""An answer of a known length up to this is passed on in one piece."""
_log = get_logger(__name__)
# Of one connection, not of the message. Source: RFC 2616, 13.5.1.
_ONE_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers")
    + ("transfer-encoding", "upgrade")
)
_OURS: Final = frozenset(("host", "content-length"))
_SERVICE_UNAVAILABLE: Final = 503
_BAD_GATEWAY: Final = 502
_NOT_IMPLEMENTED: Final = 501
_METHOD_NOT_ALLOWED: Final = 405


class _NoAnswerError(Exception):
    """Nothing came that could be passed on."""


class Forwarder:
    """The handler of a v2 proxy. A time of 0 is none."""

    def __init__(
        self,
        director: Director,
        dialer: Dialer,
        metrics: Metrics,
        *,
        read_timeout_s: float,
        write_timeout_s: float,
        is_readonly: bool,
    ) -> None:
        self._director = director
        self._dialer = dialer
        self._metrics = metrics
        self._read_timeout_s = read_timeout_s or None
        self._write_timeout_s = write_timeout_s or None
        self._is_readonly = is_readonly
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def config(self, request: HttpRequest, responder: HttpResponder) -> None:
        """/v2/config/local/proxy"""
        if request.method != "GET":
            if self._is_readonly:
                responder.respond(_NOT_IMPLEMENTED, {}, b"")
            else:
                refuse(responder, _METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": "GET"})
            return
        told = {"endpoints": [str(endpoint.url) for endpoint in self._director.endpoints]}
        responder.respond(200, {}, json.dumps(told, separators=(",", ":")).encode() + b"\n")

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        if self._is_readonly and request.method != "GET":
            responder.respond(_NOT_IMPLEMENTED, {}, b"")
            return
        task = asyncio.get_running_loop().create_task(self._forward(request, responder), name="v2 request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        responder.on_close = lambda: _cancel(task)

    async def _forward(self, request: HttpRequest, responder: HttpResponder) -> None:
        method = request.method
        self._metrics.proxy_requests.of(method).inc()
        endpoints = self._director.endpoints
        if not endpoints:
            self._drop(method, "zero_endpoints")
            _refuse(responder, _SERVICE_UNAVAILABLE, "zero endpoints currently available")
            return
        began = time.perf_counter()

        def handled(code: int) -> None:
            self._metrics.proxy_handled.of(method, str(code)).inc()
            self._metrics.proxy_handling_s.of(method).observe(time.perf_counter() - began)

        for endpoint in endpoints:
            try:
                await self._ask(endpoint, request, responder, handled)
                return
            except (DialError, _NoAnswerError) as error:
                self._drop(method, "failed_sending_request")
                _log.info("failed to direct request", extra={"url": str(endpoint.url), "error": error})
                self._director.failed(endpoint)
        self._drop(method, "failed_getting_response")
        _refuse(responder, _BAD_GATEWAY, f"unable to get response from {len(endpoints)} endpoint(s)")

    async def _ask(
        self, endpoint: Endpoint, request: HttpRequest, responder: HttpResponder, handled: Callable[[int], None]
    ) -> None:
        """Pass a request on and its answer back. Raises: DialError, _NoAnswerError: then nothing was passed back."""
        url = endpoint.url
        reader, writer = await self._connect(endpoint)
        try:
            answer = AnswerReader()
            body = b""
            try:
                writer.write(
                    request_head(request.method, request.target, url.address, _sent(request), len(request.body))
                )
                writer.write(request.body)
                async with asyncio.timeout(self._write_timeout_s):
                    await writer.drain()
                while not answer.status:
                    async with asyncio.timeout(self._read_timeout_s):
                        body += answer.feed(await _read(reader))
            except (OSError, BrokenAnswerError) as error:
                raise _NoAnswerError(go_error(error)) from error
            handled(answer.status)
            await self._pass_back(request.method, answer, body, reader, responder)
        finally:
            writer.transport.abort()

    async def _connect(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = endpoint.url
        arguments = self._dialer.arguments(url)
        try:
            async with asyncio.timeout(self._dialer.timeout_s):
                if url.is_unix:
                    return await asyncio.open_unix_connection(url.address, limit=READ_BYTES, **arguments)
                return await asyncio.open_connection(url.host, url.port_number, limit=READ_BYTES, **arguments)
        except OSError as error:
            raise dial_error(url, error) from error

    async def _pass_back(
        self,
        method: str,
        answer: AnswerReader,
        body: bytes,
        reader: asyncio.StreamReader,
        responder: HttpResponder,
    ) -> None:
        headers = {_canonical(name): value for name, value in answer.headers.items() if name not in _ONE_HOP | _OURS}
        length = answer.headers.get("content-length", "")
        if method == "HEAD":
            # It is told how long the body would be, and gets none.
            body = bytes(min(int(length), WHOLE_BYTES_MAX)) if length.isdigit() else b""
        if method == "HEAD" or answer.is_complete:
            responder.respond(answer.status, headers, body)
            return
        is_whole = length.isdigit() and int(length) <= WHOLE_BYTES_MAX
        if not is_whole:
            responder.start(answer.status, headers)
            if body:
                responder.write(body)
        try:
            while not answer.is_complete:
                async with asyncio.timeout(self._read_timeout_s):
                    data = await reader.read(READ_BYTES)
                if not data:
                    answer.feed_eof()
                    break
                part = answer.feed(data)
                if is_whole:
                    body += part
                elif part:
                    responder.write(part)
                    if not responder.has_room(ROOM_BYTES):
                        await _writable(responder)
        except (OSError, BrokenAnswerError) as error:
            _log.info("the member's answer broke off", extra={"error": go_error(error)})
            if is_whole:
                _refuse(responder, _BAD_GATEWAY, "the member's answer broke off")
                return
        if is_whole:
            responder.respond(answer.status, headers, body)
        else:
            responder.end()

    def _drop(self, method: str, why: str) -> None:
        self._metrics.proxy_dropped.of(method, why).inc()


def _cancel(task: asyncio.Task[None]) -> None:
    _log.info("client closed request prematurely")
    task.cancel()


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(READ_BYTES)
    if not data:
        raise BrokenAnswerError("EOF")
    return data


async def _writable(responder: HttpResponder) -> None:
    """Return when the client has read most of what waits for it."""
    freed = asyncio.Event()
    responder.on_writable = freed.set
    await freed.wait()


def _sent(request: HttpRequest) -> dict[str, str]:
    headers = {_canonical(name): value for name, value in request.headers.items() if name not in _ONE_HOP | _OURS}
    host, colon, _ = request.peer_address.rpartition(":")
    if colon:
        before = request.headers.get("x-forwarded-for")
        host = host.strip("[]")
        headers["X-Forwarded-For"] = f"{before}, {host}" if before else host
    headers["Connection"] = "close"
    return headers


def _canonical(name: str) -> str:
    """As Go writes names: `x-etcd-index` is X-Etcd-Index."""
    return "-".join([part[:1].upper() + part[1:] for part in name.split("-")])


def _refuse(responder: HttpResponder, status: int, text: str) -> None:
    _log.info(text)
    if not responder.closed:
        body = json.dumps({"message": f"httpproxy: {text}"}, separators=(",", ":")).encode()
        responder.respond(status, {"Content-Type": "application/json"}, body)
