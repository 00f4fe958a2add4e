"""A POST with JSON becomes a gRPC call, its answer JSON again.

    POST /v3/kv/range {"key":"YQ=="}   -->  /etcdserverpb.KV/Range   -->  {"header":{...},"kvs":[...],"count":"1"}
    POST /v3/watch ...                 -->  {"result":{...}} a line, for as long as the client listens

Source: grpc-gateway 1.16 runtime (mux.go, handler.go, errors.go), etcd server/embed/serve.go.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError, Message

from balsad import go_json
from balsad.api.gateway.go_scan import EndOfInputError, Ends, GoJsonError, scan
from balsad.api.gateway.jsonpb import parse, render
from balsad.api.gateway.routes import ROUTES, Route
from balsad.api.loopback import Loopback
from balsad.api.web import refuse
from balsad.errors import Code
from balsad.transport import HttpRequest, HttpResponder, RpcServer

if TYPE_CHECKING:
    from balsad.client.grpc_status import Status
    from balsad.client.http2 import Stream

JSON: Final = {"Content-Type": "application/json"}
_GRPC_TYPE: Final = {"Grpc-Metadata-Content-Type": "application/grpc"}
_UNSENT_BYTES_MAX: Final = 1 << 20
_HTTP_STATUSES: Final = {
    Code.OK: 200,
    Code.CANCELED: 408,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_METADATA_PREFIX: Final = "grpc-metadata-"
_RESERVED: Final = ("grpc-", "te", "content-type", "user-agent", ":")


class Gateway:
    """What a client URL answers below /v3/."""

    def __init__(self, server: RpcServer) -> None:
        self._loopback = Loopback(server)
        self._lines = _Lines()

    def __call__(self, request: HttpRequest, responder: HttpResponder) -> None:
        route = ROUTES.get(request.path)
        if route is None:
            refuse(responder, 404, "Not Found")
            return
        if request.method != "POST":
            refuse(responder, 405, "Method Not Allowed")
            return
        try:
            messages = _read_messages(request.body, route)
        except GoJsonError as error:
            # Where many requests may come, the gateway of etcd forgets to say whose fault it is.
            _answer_error(responder, Code.UNKNOWN if route.has_many_requests else Code.INVALID_ARGUMENT, str(error))
            return
        metadata = _metadata(request)
        if route.has_many_answers:
            call: _Unary | _Streaming = _Streaming(
                route, responder, self._loopback, self._lines, _GRPC_TYPE if messages else {}
            )
        else:
            call = _Unary(route, responder)
        stream = self._loopback.open(route.method, metadata, call)
        call.stream = stream
        responder.on_close = call.on_client_gone
        responder.on_writable = call.on_writable
        for number, message in enumerate(messages, 1):
            stream.send(message, last=number == len(messages) and not route.stays_open)
        if not messages and not route.stays_open:
            stream.finish()
        self._loopback.flush()


def _read_messages(body: bytes, route: Route) -> list[bytes]:
    """The requests, encoded: one, or for a call with many requests all that the body has. Raises GoJsonError.

    What is wrong behind the first of many ends them, and nobody hears of it.
    """
    found: list[bytes] = []
    pos = 0
    ends: Ends = {}
    while True:
        message: Message = route.request()
        try:
            span = scan(body, pos, ends)
            pos = span[1]
            parse(body, span, ends, message)
        except GoJsonError as error:
            if found:
                return found
            if not isinstance(error, EndOfInputError) or not error.is_empty:
                raise
            return [] if route.has_many_requests else [b""]
        found.append(message.SerializeToString())
        if not route.has_many_requests:
            return found


def _metadata(request: HttpRequest) -> tuple[tuple[str, str], ...]:
    """What of the headers a call is told. Source: runtime annotateContext, etcd's token by Authorization."""
    found: list[tuple[str, str]] = []
    for name, value in request.headers.items():
        if name == "authorization":
            found += [("grpcgateway-authorization", value), ("authorization", value)]
        elif name.startswith(_METADATA_PREFIX):
            name = name.removeprefix(_METADATA_PREFIX)
            if name and not name.startswith(_RESERVED):
                found.append((name, value))
        elif name == "grpc-timeout":
            found.append((name, value))
    return tuple(found)


def _error_json(code: int, text: str) -> str:
    quoted = go_json.quote(text)
    return f'{{"error":{quoted},"code":{code},"message":{quoted}}}'


def _answer_error(responder: HttpResponder, code: int, text: str) -> None:
    status = _HTTP_STATUSES.get(Code(code), 500)
    responder.respond(status, JSON, _error_json(code, text).encode())


class _Unary:
    """A call with one answer."""

    def __init__(self, route: Route, responder: HttpResponder) -> None:
        self.stream: Stream | None = None
        self._route = route
        self._responder = responder
        self._answer: bytes | None = None

    def on_message(self, data: bytes) -> None:
        self._answer = data

    def on_end(self, status: Status) -> None:
        responder = self._responder
        if responder.closed:
            return
        if status.code != Code.OK:
            _answer_error(responder, status.code, status.text)
            return
        body = render(_decode(self._route.answer, self._answer or b""))
        responder.respond(200, {**JSON, **_GRPC_TYPE}, body.encode())

    def on_client_gone(self) -> None:
        if self.stream is not None:
            self.stream.cancel()

    def on_writable(self) -> None:
        """The answer is one piece."""


class _Lines:
    """Answers of streams as lines. Many watchers are told the same: the last line is kept for the next."""

    def __init__(self) -> None:
        self._kind: type[Message] | None = None
        self._data = b""
        self._line = b""

    def of(self, kind: type[Message], data: bytes) -> bytes:
        if kind is not self._kind or data != self._data:
            self._line = f'{{"result":{render(_decode(kind, data))}}}\n'.encode()
            self._kind, self._data = kind, data
        return self._line


class _Streaming:
    """A call whose answers become lines. While the client does not read, the call is granted no more room."""

    def __init__(
        self, route: Route, responder: HttpResponder, loopback: Loopback, lines: _Lines, headers: dict[str, str]
    ) -> None:
        self.stream: Stream | None = None
        self._route = route
        self._responder = responder
        self._loopback = loopback
        self._lines = lines
        self._headers = {**JSON, **headers}
        self._has_begun = False

    def on_message(self, data: bytes) -> None:
        responder = self._responder
        if responder.closed:
            return
        self._begin(200)
        responder.write(self._lines.of(self._route.answer, data))
        if self.stream is not None and not responder.has_room(_UNSENT_BYTES_MAX):
            self.stream.pause()

    def on_end(self, status: Status) -> None:
        responder = self._responder
        if responder.closed:
            return
        if status.code != Code.OK:
            http_status = _HTTP_STATUSES.get(Code(status.code), 500)
            self._begin(http_status)
            words = go_json.quote(HTTPStatus(http_status).phrase)
            responder.write(
                f'{{"error":{{"grpc_code":{status.code},"http_code":{http_status},'
                f'"message":{go_json.quote(status.text)},"http_status":{words}}}}}'.encode()
            )
        else:
            self._begin(200)
        responder.end()

    def _begin(self, status: int) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._responder.start(status, self._headers)

    def on_client_gone(self) -> None:
        if self.stream is not None:
            self.stream.cancel()
            self._loopback.flush()

    def on_writable(self) -> None:
        if self.stream is not None:
            self.stream.resume()
            self._loopback.flush()


def _decode(kind: type[Message], data: bytes) -> Message:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise AssertionError(f"this server's own answer is no {kind.__name__}") from error
    return message
