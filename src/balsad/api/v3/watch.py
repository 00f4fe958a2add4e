"""etcdserverpb.Watch: many watchers on one stream.

    create --> created reply --> events ... --> canceled reply (cancel, or compacted)

Source: etcd server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from balsad.api.v3.door import Door, decode
from balsad.errors import RequestError, TooManyRequestsError
from balsad.proto import rpc_pb2
from balsad.wire import uvarint, varint

if TYPE_CHECKING:
    from balsad.mvcc import WatchBatch
    from balsad.server.service import Service
    from balsad.transport import Call, RpcServer, StreamHandler

QUEUED_BYTES_MAX: Final = 4 << 20
"""A stream with more than this unsent takes no further events: its watchers fall behind, and catch up later.

Less, while much is unsent to all."""

SHARED_MIN: Final = 16 << 10
"""Larger events are not copied for each who is told of them."""

HELD_MAX: Final = 1000
"""How many requests of a stream may wait until this member can tell who asks."""

WATCHED_BYTES_MAX: Final = 256 << 20
"""How many bytes the keys of all watchers may have together; each may be as long as a request."""
TOO_LONG: Final = "etcdserver: too many requests: the keys that are watched are too long, all together"

DENIED: Final = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
INVALID_WATCH_ID: Final = -1
PROGRESS_RETRY_S: Final = 0.1


class WatchApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door
        self.watched_bytes = 0

    def register(self, server: RpcServer) -> None:
        server.stream("/etcdserverpb.Watch/Watch", self.watch)

    def watch(self, call: Call) -> StreamHandler:
        self._door.admit(call.headers, kind="stream")
        return self._door.keep_led(call, _WatchCall(self, self._service, call))


class _Wishes:
    """What one watcher asked for beyond its events."""

    __slots__ = ("elide_progress", "fragment", "key_bytes", "previous", "progress")

    def __init__(self, request: rpc_pb2.WatchCreateRequest) -> None:
        self.previous = request.prev_kv
        self.fragment = request.fragment
        self.progress = request.progress_notify
        self.elide_progress = False
        self.key_bytes = len(request.key) + len(request.range_end)


class _WatchCall:
    def __init__(self, api: WatchApi, service: Service, call: Call) -> None:
        self._api = api
        self._service = service
        self._call = call
        self._stream = service.store.watchers.open(self._deliver, self._room)
        call.on_writable = self._resume
        self._wishes: dict[int, _Wishes] = {}
        self._progress_timer: asyncio.TimerHandle | None = None
        self._progress_retry: asyncio.TimerHandle | None = None
        self._held: list[bytes] = []

    # The client speaks.

    def on_message(self, raw: bytes) -> None:
        access = self._service.access
        if self._held or access.must_wait(self._call):
            self._hold(raw)
        else:
            self._take(raw)

    def _hold(self, raw: bytes) -> None:
        self._held.append(raw)
        try:
            if len(self._held) == 1:
                self._service.access.when_known(self._call, self._release)
            elif len(self._held) > HELD_MAX:
                raise TooManyRequestsError
        except RequestError as error:
            self._call.fail(error.code, error.text)
            self._close()

    def _release(self) -> None:
        held, self._held = self._held, []
        for raw in held:
            if self._call.closed:
                # One of them was nonsense. Watchers that come later would stay for ever.
                break
            self._take(raw)

    def _take(self, raw: bytes) -> None:
        try:
            request = decode(rpc_pb2.WatchRequest, raw)
        except RequestError as error:
            self._call.fail(error.code, error.text)
            self._close()
            return
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            if self._progress_retry is None:
                # Whoever began in the past has most often caught up after one more step.
                self._service.store.watchers.sync_step()
                self._answer_progress()

    def on_half_close(self) -> None:
        """Nothing more is asked; what was asked for is still told, until the client goes."""

    def on_cancel(self) -> None:
        self._close()

    def _close(self) -> None:
        self._stream.close()
        self._api.watched_bytes -= sum(wishes.key_bytes for wishes in self._wishes.values())
        self._wishes.clear()
        for timer in (self._progress_timer, self._progress_retry):
            if timer is not None:
                timer.cancel()
        self._progress_timer = self._progress_retry = None

    def _create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        revision = self._service.store.current_revision
        filters = request.filters
        reason = ""
        watch_id = INVALID_WATCH_ID
        key = request.key or b"\0"
        if not self._service.access.may_watch(self._call, key, request.range_end):
            self._send_created(revision, watch_id, DENIED)
            return
        wishes = _Wishes(request)
        if self._api.watched_bytes + wishes.key_bytes > WATCHED_BYTES_MAX:
            self._send_created(revision, watch_id, TOO_LONG)
            return
        try:
            watch_id = self._stream.watch(
                key,
                request.range_end,
                request.start_revision,
                request.watch_id,
                no_put=rpc_pb2.WatchCreateRequest.NOPUT in filters,
                no_delete=rpc_pb2.WatchCreateRequest.NODELETE in filters,
            )
        except RequestError as error:
            reason = error.text
        self._send_created(revision, watch_id, reason)
        if not reason:
            self._wishes[watch_id] = wishes
            self._api.watched_bytes += wishes.key_bytes
            self._service.feed_watchers()
            if request.progress_notify and self._progress_timer is None:
                self._arm_progress()

    def _send_created(self, revision: int, watch_id: int, reason: str) -> None:
        """`reason` says why it is not created after all."""
        parts = [self._service.header.at(revision)]
        if watch_id:
            parts.append(b"\x10" + varint(watch_id))
        parts.append(b"\x18\x01")
        if reason:
            text = reason.encode()
            parts.append(b"\x20\x01\x32" + uvarint(len(text)) + text)
        self._call.send(b"".join(parts))

    def _forget(self, watch_id: int) -> None:
        wishes = self._wishes.pop(watch_id, None)
        if wishes is not None:
            self._api.watched_bytes -= wishes.key_bytes

    def _cancel(self, watch_id: int) -> None:
        if not self._stream.cancel(watch_id):
            return
        self._forget(watch_id)
        self._send_canceled(watch_id, self._service.store.current_revision, 0)

    def _send_canceled(self, watch_id: int, revision: int, compact_revision: int) -> None:
        parts = [self._service.header.at(revision)]
        if watch_id:
            parts.append(b"\x10" + varint(watch_id))
        parts.append(b"\x20\x01")
        if compact_revision:
            parts.append(b"\x28" + varint(compact_revision))
        self._call.send(b"".join(parts))

    def _resume(self) -> None:
        """The client has read some: go on with what it refused."""
        if self._stream.resume():
            self._service.feed_watchers()

    # The store speaks.

    def _room(self) -> int:
        """How much the client may be told of the past."""
        return self._call.room(QUEUED_BYTES_MAX)

    def _deliver(self, watch_id: int, batch: WatchBatch) -> bool:
        """Send what happened; False when the client does not keep up."""
        call = self._call
        if call.closed:
            return True
        if not call.has_room(QUEUED_BYTES_MAX):
            return False
        wishes = self._wishes.get(watch_id)
        if batch.compact_revision:
            self._forget(watch_id)
            self._send_canceled(watch_id, batch.revision, batch.compact_revision)
            return True
        if len(batch.events) == 1 and wishes is not None and not wishes.previous:
            # The usual one: what a write tells to everybody.
            wishes.elide_progress = True
            encoded = batch.encoded
            if not encoded:
                encoded = batch.encoded = _with_events(b"", [batch.events[0].encoded])
            head = self._service.header.at(batch.revision)
            if len(encoded) > SHARED_MIN:
                call.send_shared(head + b"\x10" + varint(watch_id) if watch_id else head, encoded)
            else:
                call.send(b"%b\x10%b%b" % (head, varint(watch_id), encoded) if watch_id else head + encoded)
            return True
        if wishes is not None and wishes.previous:
            store = self._service.store
            events = [event.encoded_with_prev(store) for event in batch.events]
        else:
            events = [event.encoded for event in batch.events]
        head = self._service.header.at(batch.revision)
        if watch_id:
            head += b"\x10" + varint(watch_id)
        if wishes is not None:
            if events:
                wishes.elide_progress = True
            if wishes.fragment and len(events) > 1:
                self._send_fragments(head, events)
                return True
        call.send(_with_events(head, events))
        return True

    def _send_fragments(self, head: bytes, events: list[bytes]) -> None:
        limit = self._service.config.max_request_bytes
        at = 0
        while at < len(events):
            size = len(head)
            start = at
            while at < len(events):
                size += len(events[at]) + 6
                if at > start and size >= limit:
                    break
                at += 1
            more = b"\x38\x01" if at < len(events) else b""
            self._call.send(_with_events(head + more, events[start:at]))

    # Progress.

    def _arm_progress(self) -> None:
        service = self._service
        interval = service.config.watch_progress_notify_interval_s
        # Not all streams of a client that reconnected should be told in the same moment.
        jitter = interval * service.env.random.randrange(1000) / 10_000
        self._progress_timer = asyncio.get_running_loop().call_later(interval + jitter, self._notify_progress)

    def _notify_progress(self) -> None:
        self._progress_timer = None
        any_left = False
        for watch_id, wishes in list(self._wishes.items()):
            if not wishes.progress:
                continue
            any_left = True
            if not wishes.elide_progress:
                self._stream.request_progress(watch_id)
            wishes.elide_progress = False
        if any_left:
            self._arm_progress()

    def _answer_progress(self) -> None:
        """Tell the whole stream how far it is, once none of its watchers is behind."""
        self._progress_retry = None
        if self._call.closed:
            return
        if not self._wishes:
            # Nobody watches yet, so nothing can have been missed.
            revision = self._service.store.current_revision
            self._call.send(self._service.header.at(revision) + b"\x10" + varint(INVALID_WATCH_ID))
        elif not self._stream.progress_if_synced():
            self._progress_retry = asyncio.get_running_loop().call_later(PROGRESS_RETRY_S, self._answer_progress)


def _with_events(head: bytes, events: list[bytes]) -> bytes:
    parts = [head]
    for event in events:
        parts.append(b"\x5a" + uvarint(len(event)))
        parts.append(event)
    return b"".join(parts)
