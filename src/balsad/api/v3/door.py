"""What every gRPC request passes before its handler: who may ask this member anything at all.

What does not change between requests with the same header block is worked out
once and kept on the shared Headers.

Source: etcd server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from balsad.api.v3.led_streams import LedStreams
from balsad.errors import InternalError, NoLeaderError, NotSupportedForLearnerError
from balsad.observe.cells import Counter
from balsad.server.access import shows_token

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.transport import Call, Headers, StreamHandler

MessageT = TypeVar("MessageT", bound=Message)


class Caller:
    """What a header block says of its requests."""

    __slots__ = ("requests", "requires_leader", "shows_token")

    def __init__(self, requests: Counter, requires_leader: bool, shows_token: bool) -> None:
        self.requests = requests
        self.requires_leader = requires_leader
        self.shows_token = shows_token


class Door:
    def __init__(self, service: Service) -> None:
        self._service = service
        self.client_requests: dict[tuple[str, str], Counter] = {}
        self._led = LedStreams(service)

    def admit(self, headers: Headers, *, kind: str = "unary", serves_learner: bool = False) -> Caller:
        """Raises: NoLeaderError, NotSupportedForLearnerError."""
        caller: Caller | None = headers.memo
        if caller is None:
            caller = headers.memo = self._caller(headers, kind)
        caller.requests.value += 1
        service = self._service
        if caller.requires_leader and service.leader == 0:
            raise NoLeaderError
        # Who leads is no learner: the members need not be looked through for every request.
        if not serves_learner and not service.driver.is_leader and service.is_learner:
            raise NotSupportedForLearnerError
        return caller

    def keep_led(self, call: Call, handler: StreamHandler) -> StreamHandler:
        """An admitted stream; it ends when its client asked for a leader and there is none for long."""
        caller: Caller = call.headers.memo
        if caller.requires_leader:
            self._led.add(call, handler)
        return handler

    def _caller(self, headers: Headers, kind: str) -> Caller:
        metadata = headers.metadata
        version = metadata.get(b"client-api-version", b"unknown").decode("ascii", "replace")
        # A client may send what it likes: a bounded number of distinct versions is counted apart.
        key = (kind, version if len(self.client_requests) < 64 else "unknown")
        counter = self.client_requests.setdefault(key, Counter())
        return Caller(counter, metadata.get(b"hasleader") == b"true", shows_token(headers))


def decode(message: type[MessageT], raw: bytes) -> MessageT:
    """Raises: InternalError in the words of grpc-go."""
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise InternalError(f"grpc: error unmarshalling request: {error}") from None
