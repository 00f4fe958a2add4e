"""grpc.health.v1.Health: one service, the empty name, serving as long as the member does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3.door import decode
from balsad.errors import Code, RequestError
from balsad.proto import health_pb2

if TYPE_CHECKING:
    from balsad.transport import Call, RpcServer

_Response = health_pb2.HealthCheckResponse


def register(server: RpcServer) -> None:
    server.unary("/grpc.health.v1.Health/Check", check)
    server.stream("/grpc.health.v1.Health/Watch", _WatchCall)


def check(call: Call, raw: bytes) -> None:
    if decode(health_pb2.HealthCheckRequest, raw).service:
        call.fail(Code.NOT_FOUND, "unknown service")
    else:
        call.respond(_Response(status=_Response.SERVING).SerializeToString())


class _WatchCall:
    """Says the state at once; it stays what it is until the stream ends."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def on_message(self, raw: bytes) -> None:
        try:
            known = not decode(health_pb2.HealthCheckRequest, raw).service
        except RequestError as error:
            self._call.fail(error.code, error.text)
            return
        status = _Response.SERVING if known else _Response.SERVICE_UNKNOWN
        self._call.send(_Response(status=status).SerializeToString())

    def on_half_close(self) -> None:
        pass

    def on_cancel(self) -> None:
        pass
