"""The sender's end of a stream: the other member asked for it, this one fills it.

    no connection ──attach──> open ──(socket full)──> full ──(room again)──> open
         <──(lost, replaced, silent for 5 s)──┴──────────┘

While the socket is full messages wait as they are: their entries lie in the
log anyway. 4096 of them may wait; what does not fit is lost, and raft hears it.

Source: etcd rafthttp stream.go (streamWriter).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.membership import format_id
from balsad.observe.logs import get_logger
from balsad.peer.codec import AppEncoder, EncodedEntries, MessageEncoder
from balsad.peer.stream_kind import MSGAPP, StreamKind
from balsad.raft.messages import Message

if TYPE_CHECKING:
    from balsad.peer.counts import PeerCounts
    from balsad.peer.exchange import OutgoingStream
    from balsad.peer.status import PeerStatus

log = get_logger(__name__)

QUEUE_MAX: Final = 4096
BEAT_S: Final = 5.0 / 3
WRITE_S_MAX: Final = 5.0
_BATCH_BYTES: Final = 1 << 20


class StreamWriter:
    """One of the two streams to one member. `send` what there is, then `flush`."""

    def __init__(
        self,
        kind: StreamKind,
        *,
        local_id: int,
        peer_id: int,
        status: PeerStatus,
        counts: PeerCounts,
        encoded: EncodedEntries,
        on_unreachable: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self.kind = kind
        self.is_working = False
        self._peer_id = peer_id
        self._status = status
        self._counts = counts
        self._encoded = encoded
        self._on_unreachable = on_unreachable
        self._clock = clock
        self._stream: OutgoingStream | None = None
        self._encoder: MessageEncoder | AppEncoder = MessageEncoder()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._waiting: deque[Message] = deque()
        self._unsent_bytes = 0
        self._stuck_since = 0.0
        self._fields = {
            "stream-writer-type": kind.name,
            "local-member-id": format_id(local_id),
            "remote-peer-id": format_id(peer_id),
        }
        log.info("started stream writer with remote peer", extra=self._fields)

    def attach(self, stream: OutgoingStream) -> None:
        """The other member opened the stream, perhaps once more."""
        was_open = self._drop()
        self._encoder = AppEncoder(self._encoded) if self.kind is MSGAPP else MessageEncoder()
        log.info(
            "set message encoder",
            extra={
                "from": self._fields["local-member-id"],
                "to": self._fields["remote-peer-id"],
                "stream-type": self.kind.name,
            },
        )
        self._stream = stream
        stream.on_lost = self._on_lost
        stream.on_writable = self._on_writable
        self._status.activate()
        self.is_working = True
        if was_open:
            log.warning("closed TCP streaming connection with remote peer", extra=self._fields)
        log.info("established TCP streaming connection with remote peer", extra=self._fields)

    def send(self, message: Message) -> bool:
        """Take a message for the next flush; False when there is no room for it."""
        stream = self._stream
        assert stream is not None
        if stream.is_full or self._waiting:
            if len(self._waiting) >= QUEUE_MAX:
                return False
            self._waiting.append(message)
            return True
        frame = self._encoder.encode(message)
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes > _BATCH_BYTES:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what `send` took."""
        stream = self._stream
        if not self._out or stream is None:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self._counts.bytes_sent += len(data)
        stream.write(data)

    def beat(self) -> None:
        """Have the other member know that the link is alive; called every 5/3 s. Drops a link that takes nothing."""
        stream = self._stream
        if stream is None:
            return
        unsent = stream.unsent_bytes
        if not stream.is_full or unsent < self._unsent_bytes:
            self._stuck_since = 0.0
        elif not self._stuck_since:
            self._stuck_since = self._clock()
        elif self._clock() - self._stuck_since >= WRITE_S_MAX:
            self._on_lost("write: i/o timeout")
            stream.abort()
            return
        self._unsent_bytes = unsent
        if not stream.is_full:
            self._counts.bytes_sent += len(self._encoder.beat)
            stream.write(self._encoder.beat)

    def stop(self) -> None:
        if self._drop():
            log.warning("closed TCP streaming connection with remote peer", extra=self._fields)
        log.info("stopped TCP streaming connection with remote peer", extra=self._fields)

    def _on_writable(self) -> None:
        stream = self._stream
        waiting = self._waiting
        while waiting and stream is not None and not stream.is_full:
            frame = self._encoder.encode(waiting.popleft())
            self._out.append(frame)
            self._out_bytes += len(frame)
            if self._out_bytes > _BATCH_BYTES:
                self.flush()
        self.flush()

    def _on_lost(self, why: str) -> None:
        self._stream = None
        self._status.deactivate(self.kind.name, "write", why)
        self._counts.send_failures += 1
        self._forget()
        # What was under way may never have arrived.
        self._on_unreachable(self._peer_id)
        log.warning("lost TCP streaming connection with remote peer", extra=self._fields)

    def _drop(self) -> bool:
        stream, self._stream = self._stream, None
        if stream is None:
            return False
        stream.close()
        had_messages = bool(self._waiting)
        self._forget()
        if had_messages:
            self._on_unreachable(self._peer_id)
        return True

    def _forget(self) -> None:
        self.is_working = False
        self._waiting.clear()
        self._out.clear()
        self._out_bytes = 0
        self._unsent_bytes = 0
        self._stuck_since = 0.0
