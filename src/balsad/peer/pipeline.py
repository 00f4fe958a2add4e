"""Messages posted one by one, while there is no stream to send them on.

Four posts may be under way and 64 messages wait; what does not fit is lost.
Source: etcd rafthttp pipeline.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.errands import Errands
from balsad.peer.greeting import CLUSTER_ID, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION, Identity
from balsad.peer.http_client import Answer, HttpClient, RequestFailedError
from balsad.peer.stream_reader import REMOVED
from balsad.raft.codec import encode_message
from balsad.raft.kinds import MSG_SNAP
from balsad.raft.messages import Message
from balsad.transport.http1_connection import reason

if TYPE_CHECKING:
    from balsad.peer.counts import PeerCounts
    from balsad.peer.status import PeerStatus
    from balsad.peer.url_picker import UrlPicker

log = get_logger(__name__)

WORKERS: Final = 4
QUEUE_MAX: Final = 64
POST_S_MAX: Final = 10.0
NAME: Final = "pipeline"


class PostRefusedError(Exception):
    """The other member did not take what was posted."""


class RemovedError(PostRefusedError):
    """The other member says that this one is no member any more."""


def check_post_answer(answer: Answer, identity: Identity, peer_id: int, where: str) -> None:
    """Raises: PostRefusedError, RemovedError. Source: etcd checkPostResponse."""
    status = answer.status
    if status == 204:
        return
    if status == 403:
        raise RemovedError(REMOVED)
    if status != 412:
        raise PostRefusedError(f'unexpected http status {reason(status)} while posting to "{where}"')
    text = answer.text
    if text == INCOMPATIBLE_VERSION:
        log.error("request sent was ignored by peer", extra={"remote-peer-id": format_id(peer_id)})
    elif text == CLUSTER_ID_MISMATCH:
        log.error(
            "request sent was ignored due to cluster ID mismatch",
            extra={
                "remote-peer-id": format_id(peer_id),
                "remote-peer-cluster-id": answer.headers.get(CLUSTER_ID.lower(), ""),
                "local-member-cluster-id": identity.cluster_id_text,
            },
        )
    else:
        text = f'unhandled error "{text}" when precondition failed'
    raise PostRefusedError(text)


class Pipeline:
    """Posts to one member."""

    def __init__(
        self,
        *,
        peer_id: int,
        identity: Identity,
        client: HttpClient,
        picker: UrlPicker,
        status: PeerStatus,
        counts: PeerCounts,
        on_unreachable: Callable[[int], None],
        on_snapshot_result: Callable[[int, bool], None],
        on_removed: Callable[[], None],
    ) -> None:
        self._peer_id = peer_id
        self._identity = identity
        self._client = client
        self._picker = picker
        self._status = status
        self._counts = counts
        self._on_unreachable = on_unreachable
        self._on_snapshot_result = on_snapshot_result
        self._on_removed = on_removed
        self._headers = identity.post_headers("application/protobuf")
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)
        self._errands = Errands()
        self._has_workers = False
        self._fields = {"local-member-id": identity.member_id_text, "remote-peer-id": format_id(peer_id)}
        log.info("started HTTP pipelining with remote peer", extra=self._fields)

    def send(self, message: Message) -> bool:
        """Take a message; False when there is no room for it."""
        if not self._has_workers:
            # Mostly there are streams, and nothing to do here.
            self._has_workers = True
            for number in range(WORKERS):
                self._errands.start(self._work(), f"pipeline {number} to {format_id(self._peer_id)}")
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            return False
        return True

    def stop(self) -> None:
        self._errands.stop()
        log.info("stopped HTTP pipelining with remote peer", extra=self._fields)

    async def wait_closed(self) -> None:
        await self._errands.wait()

    async def _work(self) -> None:
        while True:
            message = await self._queue.get()
            data = encode_message(message)
            try:
                await self._post(data)
            except (RequestFailedError, PostRefusedError) as error:
                self._status.deactivate(NAME, "write", str(error))
                self._counts.send_failures += 1
                self._on_unreachable(self._peer_id)
                if message.type == MSG_SNAP:
                    self._on_snapshot_result(self._peer_id, False)
                continue
            self._status.activate()
            self._counts.bytes_sent += len(data)
            if message.type == MSG_SNAP:
                self._on_snapshot_result(self._peer_id, True)

    async def _post(self, data: bytes) -> None:
        url = self._picker.pick()
        try:
            answer = await self._client.request("POST", url, "/raft", self._headers, data, timeout_s=POST_S_MAX)
            check_post_answer(answer, self._identity, self._peer_id, f"{url}/raft")
        except RemovedError:
            self._picker.unreachable(url)
            self._on_removed()
            raise
        except (RequestFailedError, PostRefusedError):
            self._picker.unreachable(url)
            raise
