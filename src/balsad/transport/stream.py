"""One HTTP/2 stream: what waits to be sent on it, its two windows, its end.

open ──(client END_STREAM)──> recv_closed
  │
  └──(finished by the application)──> closed, still listed while data waits ──> gone
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.transport.frames import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_MAX,
    NO_ERROR,
    WINDOW_MAX,
    Http2Error,
    pack_frame_head,
    rst_stream,
)

if TYPE_CHECKING:
    from balsad.transport.http2_base import Http2Base

WRITABLE_MARK: Final = 64 * 1024
# What one stream sends before it is the next one's turn.
PUMP_QUANTUM: Final = 64 * 1024
# Somebody who does read goes on with pieces of this size when all others do not.
PIECE_MIN: Final = 8 * 1024
# From here on, handing a piece to the socket by itself costs less than copying it first.
PIECE_UNCOPIED_MIN: Final = 4 * 1024


class Stream:
    """What gRPC calls and HTTP exchanges have in common.

    Most streams live for microseconds and use few of the attributes: those
    have their first values here, not in `__init__`.
    """

    closed: bool = False
    """Nothing more can be sent: the application ended it, or it was cancelled."""
    recv_closed: bool = False
    recv_used: int = 0
    """Bytes received and not granted again."""
    send_used: int = 0
    """Bytes sent minus what WINDOW_UPDATEs gave back; the window is the peer's initial window minus this."""
    pending: deque[bytes | memoryview] | None = None
    pending_bytes: int = 0
    """Queued behind flow control and a socket that is full."""
    on_writable: Callable[[], None] | None = None
    """Called when `pending_bytes` falls below 64 KiB again."""
    end_frames: bytes | None = None
    timer_tick: int = 0

    def __init__(self, connection: Http2Base, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id

    def on_timer(self) -> None:
        """The deadline has passed."""

    def on_gone(self) -> None:
        """The peer reset the stream, or the connection is lost."""

    def on_data(self, data: bytes) -> None:
        """The peer sent this."""

    def on_half_close(self) -> None:
        """The peer has said all."""

    def queue(self, head: bytes, data: bytes) -> None:
        """Send `head` and `data` as soon as the windows and the socket allow it."""
        connection = self.connection
        if not connection.has_room_for_queue():
            return
        pending = self.pending
        if pending is None:
            pending = self.pending = deque()
        size = len(head) + len(data)
        if head:
            pending.append(head)
        if data:
            pending.append(data if len(data) <= FRAME_SIZE_MAX else memoryview(data))
        self.pending_bytes += size
        connection.queued_bytes += size
        connection.server.held_bytes += size
        if connection.paused:
            connection.waiting[self.stream_id] = self
        else:
            self.pump(PUMP_QUANTUM)

    def has_room(self, most: int) -> bool:
        """Whether more should be sent that can wait elsewhere: `most` bytes may be unread, less in a crowd.

        After a False `on_writable` is called as soon as it pays to ask again.
        """
        pending = self.pending_bytes
        return pending <= WRITABLE_MARK or (pending <= most and not self.connection.server.is_crowded)

    def room(self, most: int) -> int:
        """How much to send of what can be had again: nothing while more than `most` bytes are unread.

        Each who takes a piece leaves the next one a smaller one, so that all together stay within a budget.
        """
        server = self.connection.server
        if self.pending_bytes > (0 if server.is_crowded else most):
            return 0
        return max(PIECE_MIN, server.limits.behind_bytes - server.held_bytes >> 8)

    def end_with(self, frames: bytes) -> None:
        """Write `frames`, the end of this stream, after all that waits."""
        self.closed = True
        if self.pending_bytes:
            self.end_frames = frames
        else:
            self._write_end(frames)
        self.connection.mark()

    def pump(self, quantum: int) -> None:
        """Move up to `quantum` waiting bytes to the connection's output, as the windows allow."""
        connection = self.connection
        if connection.paused:
            return
        stream_id = self.stream_id
        before = self.pending_bytes
        moved = min(before, quantum, connection.send_window, connection.peer_initial_window - self.send_used)
        if moved > 0:
            pending = self.pending
            assert pending is not None
            connection.send_window -= moved
            connection.queued_bytes -= moved
            connection.server.held_bytes -= moved
            self.send_used += moved
            self.pending_bytes = before - moved
            append = connection.out.append
            left = moved
            while left:
                size = min(left, FRAME_SIZE_MAX)
                left -= size
                append(pack_frame_head(size << 8, 0, stream_id))
                while size:
                    chunk = pending[0]
                    length = len(chunk)
                    if length > size:
                        append(chunk[:size])
                        pending[0] = chunk[size:]
                        break
                    size -= length
                    append(chunk)
                    pending.popleft()
            if moved >= PIECE_UNCOPIED_MIN:
                connection.out_is_large = True
        if not self.pending_bytes:
            connection.waiting.pop(stream_id, None)
        elif connection.peer_initial_window > self.send_used:
            connection.waiting[stream_id] = self
        else:
            connection.waiting.pop(stream_id, None)
            connection.blocked[stream_id] = self
        if moved <= 0:
            return
        connection.reset_ping_strikes = True
        connection.mark()
        if not self.pending_bytes and self.end_frames is not None:
            self._write_end(self.end_frames)
        elif before > WRITABLE_MARK >= self.pending_bytes and self.on_writable is not None and not self.closed:
            self.on_writable()

    def drop_received(self) -> None:
        """Forget what is here of a message that is not here whole."""

    def drop_pending(self) -> None:
        """Forget what waits to be sent."""
        connection = self.connection
        connection.waiting.pop(self.stream_id, None)
        connection.blocked.pop(self.stream_id, None)
        connection.queued_bytes -= self.pending_bytes
        connection.server.held_bytes -= self.pending_bytes
        self.pending_bytes = 0
        self.pending = None
        self.end_frames = None

    def on_window_update(self, increment: int) -> None:
        """Raises Http2Error when the window would overflow."""
        connection = self.connection
        self.send_used -= increment
        if -self.send_used > connection.surplus_max:
            connection.surplus_max = -self.send_used
        window = connection.peer_initial_window - self.send_used
        if window > WINDOW_MAX:
            raise Http2Error(FLOW_CONTROL_ERROR, "stream window overflows")
        if self.pending_bytes and window > 0:
            connection.blocked.pop(self.stream_id, None)
            connection.waiting[self.stream_id] = self

    def _write_end(self, frames: bytes) -> None:
        connection = self.connection
        connection.out.append(frames)
        connection.reset_ping_strikes = True
        if not self.recv_closed:
            # Our answer is complete, so the client may stop sending.
            connection.out.append(rst_stream(self.stream_id, NO_ERROR))
        connection.forget(self)
