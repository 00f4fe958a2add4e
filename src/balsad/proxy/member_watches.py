"""The proxy's own watches at members: a stream for each token, kept up for as long as somebody watches.

    asked --created--> watching --canceled--> gone
      ^--- stream lost, from the next revision ---'  (also of those that were asked for only)

Source: etcd client/v3 watch.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from balsad.client.grpc_status import UNAUTHENTICATED, Status
from balsad.client.http2 import Stream
from balsad.client.link import Wire
from balsad.observe.logs import get_logger
from balsad.proto import rpc_pb2
from balsad.proxy.upstream import Metadata, Upstream

METHOD: Final = "/etcdserverpb.Watch/Watch"
RETRY_S: Final = 0.1
RETRY_S_MAX: Final = 2.0
_log = get_logger(__name__)


class MemberWatch:
    """A watch of one range: `on_response` hears all that a member says of it, across lost connections."""

    def __init__(self, key: bytes, end: bytes, revision: int, on_response: Callable[[Any], None]) -> None:
        self.key = key
        self.end = end
        self.next_revision = revision
        """What is asked for when it has to be asked again; whoever takes the responses counts it up."""
        self.on_response = on_response
        self.id = 0
        self.is_gone = False

    def request(self) -> bytes:
        create = rpc_pb2.WatchCreateRequest(
            key=self.key,
            range_end=self.end,
            start_revision=self.next_revision,
            progress_notify=True,
            prev_kv=True,
            watch_id=self.id,
        )
        return rpc_pb2.WatchRequest(create_request=create).SerializeToString()


class MemberWatches:
    """One stream to a member; it ends with its last watch."""

    def __init__(self, upstream: Upstream, metadata: Metadata) -> None:
        self._upstream = upstream
        self._metadata = metadata
        self._watches: dict[int, MemberWatch] = {}
        self._asked: deque[MemberWatch] = deque()
        """Those that are not created, in the order of their requests, in which the answers come."""
        self._last_id = 0
        self._stream: Stream | None = None
        self._wire: Wire | None = None
        self._is_opening = False
        self._generation = 0
        self._retry_s = RETRY_S
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: MemberWatch) -> None:
        self._last_id += 1
        watch.id = self._last_id
        self._watches[watch.id] = watch
        if self._stream is not None:
            self._ask(watch)
        elif self._timer is None:
            self._open()

    def remove(self, watch: MemberWatch) -> None:
        watch.is_gone = True
        was_there = self._watches.pop(watch.id, None) is not None
        if not self._watches:
            self.close()
        elif was_there and self._stream is not None:
            cancel = rpc_pb2.WatchCancelRequest(watch_id=watch.id)
            self._send(rpc_pb2.WatchRequest(cancel_request=cancel).SerializeToString())

    @property
    def is_idle(self) -> bool:
        return not self._watches

    def close(self) -> None:
        self._generation += 1
        self._is_opening = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stream is not None and self._wire is not None:
            self._stream.cancel()
            self._wire.flush_soon()
        self._stream = None
        self._asked.clear()

    def _open(self) -> None:
        if self._is_opening:
            return
        self._is_opening = True
        self._generation += 1
        generation = self._generation
        self._upstream.when_ready(
            lambda wire: self._begin(wire, generation), lambda status: self._lose(status, generation)
        )

    def _begin(self, wire: Wire, generation: int) -> None:
        if generation != self._generation:
            return
        self._is_opening = False
        self._wire = wire
        self._stream = wire.connection.open(METHOD, self._metadata, _Hearing(self, generation))
        for watch in list(self._watches.values()):
            self._ask(watch)

    def _ask(self, watch: MemberWatch) -> None:
        self._asked.append(watch)
        self._send(watch.request())

    def _send(self, message: bytes) -> None:
        if self._stream is not None and self._wire is not None:
            self._stream.send(message)
            self._wire.flush_soon()

    def hear(self, data: bytes, generation: int) -> None:
        if generation != self._generation:
            return
        try:
            response = rpc_pb2.WatchResponse.FromString(data)
        except DecodeError:
            _log.error("a member sent what is no watch response")
            return
        if response.created:
            self._retry_s = RETRY_S
            if not self._asked:
                return
            # A refused one may come without its id.
            watch = self._asked.popleft()
            if watch.is_gone:
                return
        else:
            found = self._watches.get(response.watch_id)
            if found is None:
                return
            watch = found
        if response.canceled:
            self._watches.pop(watch.id, None)
            watch.is_gone = True
        watch.on_response(response)

    def lose(self, status: Status, generation: int) -> None:
        self._lose(status, generation)

    def _lose(self, status: Status, generation: int) -> None:
        if generation != self._generation:
            return
        self._is_opening = False
        self._stream = None
        self._asked.clear()
        if status.code == UNAUTHENTICATED:
            # The token is good no more: asking again would say the same.
            watches, self._watches = list(self._watches.values()), {}
            for watch in watches:
                watch.is_gone = True
                watch.on_response(rpc_pb2.WatchResponse(canceled=True, cancel_reason=status.text))
            return
        if self._watches and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._retry_s, self._try_again)
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)

    def _try_again(self) -> None:
        self._timer = None
        if self._watches:
            self._open()


class _Hearing:
    """What one stream's connection calls; a stream that was given up is not listened to."""

    def __init__(self, watches: MemberWatches, generation: int) -> None:
        self._watches = watches
        self._generation = generation

    def on_message(self, data: bytes) -> None:
        self._watches.hear(data, self._generation)

    def on_end(self, status: Status) -> None:
        self._watches.lose(status, self._generation)
