"""A whole database for a member that is too far behind: its message, then the file, in one POST.

    u64 length, raftpb.Message (MsgSnap)   the bytes of the bbolt file

Source: etcd rafthttp snapshot_sender.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.codec import frame_message
from balsad.peer.errands import Errands
from balsad.peer.greeting import Identity
from balsad.peer.http_client import HttpClient, RequestFailedError, go_error
from balsad.peer.pipeline import PostRefusedError, RemovedError, check_post_answer
from balsad.peer.sizes import human_bytes
from balsad.raft.messages import Message
from balsad.storage import StorageError

if TYPE_CHECKING:
    from balsad.peer.backend import DbSnapshot
    from balsad.peer.counts import PeerCounts
    from balsad.peer.status import PeerStatus
    from balsad.peer.url_picker import UrlPicker

log = get_logger(__name__)

CHUNK_BYTES: Final = 256 << 10
ANSWER_S_MAX: Final = 600.0
"""The other member writes the file to its disk for good before it answers."""
NAME: Final = "sendMsgSnap"


class SnapshotSender:
    """Sends snapshots to one member, one at a time."""

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
        observe_s: Callable[[int, float], None],
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
        self._observe_s = observe_s
        self._errands = Errands()

    def send(self, message: Message, db: DbSnapshot) -> None:
        """Send it and report how that went; `db` is closed in the end."""
        if self._counts.snapshot_sends_in_flight:
            # The one under way has its result reported; raft goes on from there.
            db.close()
            return
        self._counts.snapshot_sends_in_flight += 1

        def end() -> None:
            self._counts.snapshot_sends_in_flight -= 1
            db.close()

        self._errands.start(self._send(message, db), f"snapshot to {format_id(self._peer_id)}", end)

    def stop(self) -> None:
        self._errands.stop()

    async def wait_closed(self) -> None:
        await self._errands.wait()

    async def _send(self, message: Message, db: DbSnapshot) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        counts = self._counts
        snapshot = message.snapshot
        frame = frame_message(message)
        size = len(frame) - 8 + db.size
        fields: dict[str, object] = {
            "snapshot-index": 0 if snapshot is None else snapshot.index,
            "remote-peer-id": format_id(self._peer_id),
            "bytes": size,
            "size": human_bytes(size),
        }
        log.info("sending database snapshot", extra=fields)
        try:
            await self._post(frame, db)
        except (RequestFailedError, PostRefusedError, StorageError, OSError) as error:
            text = go_error(error)
            log.warning("failed to send database snapshot", extra={**fields, "error": text})
            self._status.deactivate(NAME, "post", text)
            counts.send_failures += 1
            counts.snapshot_send_failures += 1
            self._on_unreachable(self._peer_id)
            self._on_snapshot_result(self._peer_id, False)
        else:
            self._status.activate()
            self._on_snapshot_result(self._peer_id, True)
            log.info("sent database snapshot", extra=fields)
            counts.bytes_sent += size
            counts.snapshot_sends += 1
            self._observe_s(self._peer_id, loop.time() - begun)

    async def _post(self, frame: bytes, db: DbSnapshot) -> None:
        url = self._picker.pick()
        path = "/raft/snapshot"
        try:
            answer = await self._client.post_chunks(
                url,
                path,
                self._identity.post_headers("application/octet-stream"),
                _body(frame, db),
                answer_timeout_s=ANSWER_S_MAX,
            )
            check_post_answer(answer, self._identity, self._peer_id, f"{url}{path}")
        except RemovedError:
            self._picker.unreachable(url)
            self._on_removed()
            raise
        except (RequestFailedError, PostRefusedError):
            self._picker.unreachable(url)
            raise


async def _body(frame: bytes, db: DbSnapshot) -> AsyncIterator[bytes]:
    yield frame
    offset = 0
    while chunk := db.read(offset, CHUNK_BYTES):
        yield chunk
        offset += len(chunk)
        # Others have their turn, also when the socket takes everything.
        await asyncio.sleep(0)
