"""Watches: events of keys as they happen, across lost connections.

    queued --request sent--> asked --created--> watching --canceled--> ended
       ^                       |                   |  \\
       '---- stream lost ------'-------------------'   '--queue full--> parked --drained--> queued

Watchers of a client share one stream (two, if some do not require a leader).
A watcher remembers the revision it must see next, so a new stream, or a
parked watcher, goes on without a gap and without seeing anything twice.

A watcher nobody reads is parked at the server's cost of nothing: its watch is
canceled and asked for again, from the next revision, once it is read.

Source: etcd client/v3 watch.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from balsad.client import codec
from balsad.client.kv import Key, key_range
from balsad.client.loops import sleep
from balsad.client.messages import (
    Event,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)

if TYPE_CHECKING:
    from balsad.client.channel import Channel, RpcStream
    from balsad.errors import RequestError

_PATH: Final = "/etcdserverpb.Watch/Watch"
_NO_ID: Final = -1
_RECONNECT_WAIT_S: Final = 0.05
_QUEUE_BYTES_MAX: Final = 16 << 20


class Watcher:
    """One watch: iterate over its responses, and `cancel` it.

    The iteration raises when the server cancels the watch: CompactedError when
    the revision it needs is gone (`compact_revision` says what is left),
    PermissionDeniedError, NoLeaderError.
    """

    def __init__(self, stream: WatchStream, request: WatchCreateRequest) -> None:
        self.id = _NO_ID
        self.error: RequestError | None = None
        self.compact_revision = 0
        self._stream = stream
        self._request = request
        self._next_revision = request.start_revision
        self._responses: deque[tuple[WatchResponse, int]] = deque()
        self._bytes = 0
        self._waiter: Any = None
        self._ended = False
        self._parked = False
        self._fragments: list[Event] = []

    def cancel(self) -> None:
        """Watch no longer; a reader sees the end of the iteration."""
        if not self._ended:
            self._stream._drop(self)
            self._end()

    async def next(self) -> WatchResponse | None:
        """The next response; None when the watch is over.

        A watch that the server canceled ends with a response whose `canceled`
        is set, and `error` says why.
        """
        while not self._responses:
            if self._ended:
                return None
            if self._parked:
                self._parked = False
                self._stream._ask(self)
            self._waiter = self._stream._channel.loop.create_future()
            await self._waiter
        response, size = self._responses.popleft()
        self._bytes -= size
        return response

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> WatchResponse:
        response = await self.next()
        if response is None:
            raise StopAsyncIteration
        if response.canceled:
            assert self.error is not None
            raise self.error
        return response

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self) -> None:
        self._ended = True
        self.id = _NO_ID
        self._wake()

    def _fail(self, error: RequestError, response: WatchResponse | None = None) -> None:
        """The server ended it: the reader gets one last response."""
        if not self._ended:
            self.error = error
            self._responses.append((response or WatchResponse(canceled=True), 0))
            self._end()

    def _take(self, response: WatchResponse, size: int) -> bool:
        """Queue a response; False when the queue is full and the watcher must be parked."""
        events: Sequence[Event] = response.events
        if response.fragment:
            self._fragments += events
            return True
        if self._fragments:
            events = [*self._fragments, *events]
            self._fragments = []
        if events:
            self._next_revision = events[-1].kv.mod_revision + 1
        elif response.header.revision >= self._next_revision:
            self._next_revision = response.header.revision + 1
        response.events = list(events)
        self._responses.append((response, size))
        self._bytes += size
        self._wake()
        return self._bytes <= _QUEUE_BYTES_MAX


class WatchStream:
    """All watches of a client on one gRPC stream."""

    def __init__(self, channel: Channel, *, require_leader: bool) -> None:
        self._channel = channel
        self._require_leader = require_leader
        self._watchers: dict[int, Watcher] = {}
        self._queued: deque[Watcher] = deque()
        self._asked: Watcher | None = None
        self._progress_due = 0
        self._canceling: set[int] = set()
        self._call: RpcStream | None = None
        self._task: Any = None

    def watch(self, request: WatchCreateRequest) -> Watcher:
        watcher = Watcher(self, request)
        self._ask(watcher)
        return watcher

    def request_progress(self) -> None:
        """Ask for one progress notification for all watchers."""
        if self._call is not None:
            self._call.send(WatchRequest(progress_request=WatchProgressRequest()))
        else:
            self._progress_due += 1
            self._start()

    def close(self) -> None:
        """End every watch."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for watcher in self._all():
            watcher._end()
        self._watchers.clear()
        self._queued.clear()
        self._asked = None

    # ---- the shared stream

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._channel.loop.create_task(self._run())

    def _all(self) -> list[Watcher]:
        asked = [] if self._asked is None else [self._asked]
        return [*self._watchers.values(), *asked, *self._queued]

    def _ask(self, watcher: Watcher) -> None:
        self._queued.append(watcher)
        if self._call is None:
            self._start()
        else:
            self._send_next()

    def _send_next(self) -> None:
        """Ask for the next watcher; one at a time, so that answers are told apart."""
        if self._asked is not None or self._call is None or not self._queued:
            return
        watcher = self._asked = self._queued.popleft()
        request = watcher._request
        request.start_revision = watcher._next_revision
        self._call.send(WatchRequest(create_request=request))

    def _drop(self, watcher: Watcher) -> None:
        """Forget a watcher, on the server too."""
        if watcher.id != _NO_ID:
            self._cancel_id(watcher.id)
            self._watchers.pop(watcher.id, None)
        elif watcher in self._queued:
            self._queued.remove(watcher)
        # One that was asked for stays until its answer, so that answers keep their order.

    def _cancel_id(self, watch_id: int) -> None:
        if watch_id not in self._canceling and self._call is not None:
            self._canceling.add(watch_id)
            self._call.send(WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id)))

    async def _run(self) -> None:
        from balsad.client.errors import ClientClosedError
        from balsad.errors import Code, NoLeaderError, RequestError

        try:
            while self._all() or self._progress_due:
                try:
                    await self._serve_stream()
                except ClientClosedError:
                    return
                except RequestError as error:
                    code = getattr(error, "status", error.code)
                    if isinstance(error, NoLeaderError) or code not in (Code.UNAVAILABLE, Code.INTERNAL):
                        for watcher in self._all():
                            watcher._fail(error)
                        self._watchers.clear()
                        self._queued.clear()
                        self._asked = None
                        return
                await sleep(self._channel.loop, _RECONNECT_WAIT_S)
        finally:
            self._call = None

    async def _serve_stream(self) -> None:
        """Open the stream, ask for every watcher, deliver until it breaks. Raises RequestError."""
        call = await self._channel.stream(_PATH, require_leader=self._require_leader)
        self._queued.extendleft(reversed([*self._watchers.values(), *([] if self._asked is None else [self._asked])]))
        for watcher in self._watchers.values():
            watcher.id = _NO_ID
            watcher._fragments = []
        self._watchers = {}
        self._asked = None
        self._canceling = set()
        self._queued = deque(watcher for watcher in self._queued if not watcher._ended)
        self._call = call
        try:
            for _ in range(self._progress_due):
                call.send(WatchRequest(progress_request=WatchProgressRequest()))
            self._progress_due = 0
            self._send_next()
            while True:
                data = await call.read()
                if data is None:
                    return
                self._on_response(codec.decode(WatchResponse, data), len(data))
        finally:
            self._call = None
            call.cancel()

    def _on_response(self, response: WatchResponse, size: int) -> None:
        if response.created:
            self._on_created(response)
            return
        if response.watch_id == _NO_ID and not response.canceled and not response.events:
            for watcher in list(self._watchers.values()):
                self._deliver(watcher, WatchResponse(header=response.header), 0)
            return
        found = self._watchers.get(response.watch_id)
        if response.canceled:
            self._canceling.discard(response.watch_id)
            if found is not None:
                self._watchers.pop(response.watch_id, None)
                self._on_canceled(found, response)
        elif found is not None:
            self._deliver(found, response, size)
        else:
            self._cancel_id(response.watch_id)

    def _deliver(self, watcher: Watcher, response: WatchResponse, size: int) -> None:
        if not watcher._take(response, size):
            self._cancel_id(watcher.id)
            self._watchers.pop(watcher.id, None)
            watcher.id = _NO_ID
            watcher._parked = True

    def _on_created(self, response: WatchResponse) -> None:
        watcher, self._asked = self._asked, None
        if watcher is not None:
            if response.watch_id == _NO_ID or (response.canceled and response.cancel_reason):
                from balsad.client.errors import error_of_reason

                watcher._fail(error_of_reason(response.cancel_reason))
            elif watcher._ended:
                self._cancel_id(response.watch_id)
            else:
                watcher.id = response.watch_id
                self._watchers[watcher.id] = watcher
                if not watcher._next_revision:
                    watcher._next_revision = response.header.revision + 1
        self._send_next()

    def _on_canceled(self, watcher: Watcher, response: WatchResponse) -> None:
        from balsad.client.errors import error_of_reason
        from balsad.errors import CompactedError

        if response.compact_revision:
            watcher.compact_revision = response.compact_revision
            response.events = []
            watcher._fail(CompactedError(), response)
        elif response.cancel_reason:
            response.events = []
            watcher._fail(error_of_reason(response.cancel_reason), response)
        else:
            watcher._end()


class Watches:
    """`client.watch`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._streams: dict[bool, WatchStream] = {}

    def _stream(self, require_leader: bool) -> WatchStream:
        stream = self._streams.get(require_leader)
        if stream is None:
            stream = self._streams[require_leader] = WatchStream(self._channel, require_leader=require_leader)
        return stream

    def watch(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        from_key: bool = False,
        revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        filters: Sequence[int] = (),
        fragment: bool = False,
        require_leader: bool = True,
    ) -> Watcher:
        """Watch a range from `revision` on (0: from now on).

        `filters` are WatchCreateRequest.NOPUT and NODELETE; `fragment` lets the
        server cut what is too large for one message, it is put together again here.
        With `require_leader` a member that lost its leader ends the watch.
        """
        first, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
        request = WatchCreateRequest(
            key=first,
            range_end=end,
            start_revision=revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            filters=list(filters),
            fragment=fragment,
        )
        return self._stream(require_leader).watch(request)

    def request_progress(self, *, require_leader: bool = True) -> None:
        """Ask the server to tell all watchers how far they are."""
        self._stream(require_leader).request_progress()

    def close(self) -> None:
        """End every watch of the client."""
        for stream in self._streams.values():
            stream.close()
