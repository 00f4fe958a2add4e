"""Watch as clients of the proxy see it.

    message --> asked whether it may be read --(in the order they came)--> watcher --> Ranges.add

A watch that joins others' is not seen by a member, so a member is asked first whether its client may read the range.
Like etcd's proxy, watch ids are the proxy's own, and progress is not told on request.

Source: etcd server/proxy/grpcproxy/watch.go.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from google.protobuf.message import DecodeError

from balsad.client.errors import error_of
from balsad.client.grpc_status import INTERNAL, OK, RESOURCE_EXHAUSTED, UNKNOWN, Status
from balsad.observe.logs import get_logger
from balsad.proto import rpc_pb2
from balsad.proxy.broadcasts import Ranges, Watcher
from balsad.proxy.upstream import Exchange, Metadata, Upstream, metadata_of
from balsad.transport import Call
from balsad.wire import bytes_field, varint

RANGE: Final = "/etcdserverpb.KV/Range"
ROOM_BYTES: Final = 4 << 20
"""What may wait for a client before its watches leave their broadcasts."""
WAITING_MAX: Final = 50_000
_log = get_logger(__name__)


class _Pending:
    """A request that waits for those before it, and for a member's word."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.is_decided = False
        self.refusal = ""


class WatchStream:
    """One stream of a client: its watchers, and their outlet."""

    def __init__(self, call: Call, upstream: Upstream, ranges: Ranges) -> None:
        self._call = call
        self._upstream = upstream
        self._ranges = ranges
        self._token = call.headers.metadata.get(b"token", b"")
        # The time a stream may take is not that of its questions.
        self._metadata: Metadata = tuple(item for item in metadata_of(call) if item[0] != "grpc-timeout")
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0
        self._pending: deque[_Pending] = deque()
        self._questions: dict[Exchange, None] = {}
        self._parked: dict[Watcher, None] = {}
        self._is_over = False
        call.on_writable = self._on_writable

    # What the client says.

    def on_message(self, message: bytes) -> None:
        try:
            request = rpc_pb2.WatchRequest.FromString(message)
        except DecodeError:
            self._end(INTERNAL, "grpc: error unmarshalling request: proto: illegal wireType")
            return
        if len(self._pending) >= WAITING_MAX:
            self._end(RESOURCE_EXHAUSTED, "grpc-proxy: too many watch requests wait for a member")
            return
        pending = _Pending(request)
        self._pending.append(pending)
        if request.WhichOneof("request_union") == "create_request":
            self._check(pending)
        else:
            pending.is_decided = True
            self._go_on()

    def on_half_close(self) -> None:
        self._end(UNKNOWN, "context canceled")

    def on_cancel(self) -> None:
        self._is_over = True
        for watcher in self._watchers.values():
            self._ranges.remove(watcher)
        for question in list(self._questions):
            question.cancel()
        self._watchers.clear()
        self._parked.clear()
        self._pending.clear()

    def _end(self, code: int, text: str) -> None:
        self._call.fail(code, text)
        self.on_cancel()

    # Requests.

    def _check(self, pending: _Pending) -> None:
        """Ask a member whether the range may be read."""
        create = pending.request.create_request
        key, end = (create.key, create.range_end) if create.key else (b"\0", b"\0")
        key, end = self._ranges.inside((b"", key, end))
        asked = rpc_pb2.RangeRequest(key=key, range_end=end, serializable=True, count_only=True, limit=1)

        def done(status: Status, _answer: bytes) -> None:
            if question:
                self._questions.pop(question[0], None)
            if self._is_over:
                return
            pending.is_decided = True
            if status.code != OK:
                pending.refusal = str(error_of(status.code, status.text))
            self._go_on()

        question: list[Exchange] = []
        question.append(self._upstream.ask(RANGE, self._metadata, asked.SerializeToString(), done))
        if not pending.is_decided:
            self._questions[question[0]] = None

    def _go_on(self) -> None:
        while self._pending and self._pending[0].is_decided:
            pending = self._pending.popleft()
            kind = pending.request.WhichOneof("request_union")
            if kind == "create_request":
                self._create(pending.request.create_request, pending.refusal)
            elif kind == "cancel_request":
                self._cancel(pending.request.cancel_request.watch_id)
            else:
                _log.error("not supported request type by gRPC proxy", extra={"request": str(pending.request).strip()})

    def _create(self, create: rpc_pb2.WatchCreateRequest, refusal: str) -> None:
        nobody = b"\x10" + varint(-1) + b"\x18\x01\x20\x01"
        if refusal:
            self.send(bytes_field(1, b"") + nobody + bytes_field(6, refusal.encode("utf-8", "replace")))
            return
        key, end = create.key, create.range_end
        if end and end <= key and end != b"\0":
            self.send(nobody)
            return
        watcher = Watcher(self, (self._token, key, end), self._next_id, create)
        self._next_id += 1
        self._watchers[watcher.id] = watcher
        self._ranges.add(watcher)

    def _cancel(self, watch_id: int) -> None:
        watcher = self._watchers.pop(watch_id, None)
        if watcher is not None:
            self._parked.pop(watcher, None)
            self._ranges.remove(watcher)
            watcher.tell(watcher.last_header, b"\x20\x01")

    # As an outlet.

    def is_full(self) -> bool:
        return not self._call.has_room(ROOM_BYTES)

    def send(self, message: bytes) -> None:
        self._call.send(message)

    def park(self, watcher: Watcher) -> None:
        self._parked[watcher] = None

    def forget(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher.id, None)

    def _on_writable(self) -> None:
        parked, self._parked = self._parked, {}
        for watcher in parked:
            self._ranges.add(watcher)
