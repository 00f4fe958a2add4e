"""What an HTTP/2 connection has besides its frames: output, queues, budgets, timers, its end.

preface ──> first SETTINGS ──> open ──(drain)──> draining ──(last stream ends)──> closed
                                └──(protocol error, flood, queue too long)──> closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hpack import Decoder

from balsad.transport import frames
from balsad.transport.frames import FRAME_SIZE_MAX, STREAM_ID_MAX, WINDOW_DEFAULT, WINDOW_MAX, Http2Error, window_update
from balsad.transport.plain_sink import PlainSink
from balsad.transport.stream import PUMP_QUANTUM, Stream

if TYPE_CHECKING:
    from balsad.transport.faces import Sink
    from balsad.transport.rpc_server import RpcServer

CONNECTION_WINDOW: Final = 16 << 20
STREAM_WINDOW: Final = 1 << 20

# How long one connection may keep the others waiting, and after how many requests that is looked at.
TURN_S_MAX: Final = 0.01
TURN_S_MIN: Final = 0.001
"""They share it while several have more to be done than that."""
READ_S_MAX: Final = 0.002
"""Whoever took longer has a turn to wait: the event loop reads up to 32 times in a row from who sends that much."""
LOOKED_AT_FIRST: Final = 4
LOOKED_AT_LAST: Final = 256
# Answers that wait while a read goes on; more are first handed to the socket, which may say that it is full.
QUEUED_IN_READ_MAX: Final = 4 << 20

# Within one read, output is handed to the socket when this many pieces have gathered;
# what waits is moved to the output in portions of at most 1 MiB.
OUT_PIECES_MAX: Final = 384
PUMPED_PIECES_MAX: Final = 128
CLOSE_TIMEOUT_S: Final = 10.0
DRAIN_PING: Final = b"draining"
KEEPALIVE_PING: Final = b"alive\x00\x00?"
IDLE_PING_INTERVAL_S: Final = 7200.0

AWAITING_PREFACE: Final = 0
AWAITING_SETTINGS: Final = 1
OPEN: Final = 2
CLOSED: Final = 3


class Http2Base:
    """The part of a connection that its streams talk to."""

    # What every read touches stands together: with ten thousand connections each cache line has to be fetched.
    __slots__ = (  # noqa: RUF023
        "state",
        "clock",
        "last_read_at",
        "in_batch",
        "is_dirty",
        "buffered",
        "server",
        "out",
        "streams",
        "stride",
        "paused",
        "queued_bytes",
        "fast_lane",
        "last_stream_id",
        "send_window",
        "fast_answer_max",
        "recv_used",
        "reset_ping_strikes",
        "waiting",
        "out_is_large",
        "plain_sink",
        "sink",
        "goaway_sent",
        "block_bytes",
        "block_flags",
        "block_parts",
        "block_stream_id",
        "block_timeout_s",
        "blocked",
        "decoder",
        "draining",
        "is_stateless",
        "is_waiting",
        "last_ping_at",
        "limits",
        "nuisance_at",
        "nuisance_left",
        "partial_bytes",
        "peer_address",
        "peer_header_list_max",
        "peer_initial_window",
        "peer_name",
        "ping_outstanding",
        "ping_sent_at",
        "ping_strikes",
        "secure",
        "streams_limit",
        "surplus_max",
        "timer_tick",
    )

    def __init__(self, server: RpcServer, sink: Sink, *, secure: bool, peer_name: str, peer_address: str) -> None:
        self.server = server
        self.sink = sink
        self.secure = secure
        self.peer_name = peer_name
        self.peer_address = peer_address
        self.limits = server.limits
        self.clock = server.clock()
        self.streams_limit = min(server.limits.streams_max, server.limits.streams_hard_max)
        self.state = AWAITING_PREFACE
        self.buffered = b""
        self.out: list[Any] = []
        self.out_is_large = False
        """With pieces in it that are better not copied."""
        self.plain_sink = sink if isinstance(sink, PlainSink) else None
        self.is_dirty = False
        self.in_batch = False
        self.is_waiting = False
        """For the next turn of the loop, with frames that are here already."""
        self.stride = LOOKED_AT_FIRST
        self.paused = False
        self.streams: dict[int, Stream] = {}
        # Streams with bytes to send: those whose window is open, and those that wait for theirs.
        self.waiting: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        self.queued_bytes = 0
        self.partial_bytes = 0
        self.send_window = WINDOW_DEFAULT
        self.recv_used = 0
        self.peer_initial_window = WINDOW_DEFAULT
        # No stream's window is further above the initial window than this.
        self.surplus_max = 0
        self.fast_answer_max = FRAME_SIZE_MAX
        self.peer_header_list_max = WINDOW_MAX
        self.last_stream_id = 0
        self.is_stateless = False
        """The client has given up its dynamic header table: equal blocks mean the same."""
        # Made when a block comes that needs one.
        self.decoder: Decoder | None = None
        self.fast_lane = False
        self.block_parts: list[bytes] = []
        self.block_bytes = 0
        self.block_stream_id = 0
        self.block_flags = 0
        self.block_timeout_s = -1.0
        self.nuisance_left = float(server.limits.nuisance_burst)
        self.nuisance_at = self.clock()
        self.reset_ping_strikes = False
        self.ping_strikes = 0
        self.last_ping_at = -IDLE_PING_INTERVAL_S
        self.last_read_at = 0.0
        self.ping_sent_at = 0.0
        self.ping_outstanding = False
        self.timer_tick = 0
        self.draining = False
        self.goaway_sent = False

    # What the event loop calls.

    def connection_made(self, transport: Any) -> None:
        """Only called when this object is the socket's first protocol."""

    def connection_lost(self, error: Exception | None) -> None:
        self.state = CLOSED
        self.fast_lane = False
        self.server.connections.pop(self, None)
        if self.timer_tick:
            self.server.disarm(self, self.timer_tick)
            self.timer_tick = 0
        self.waiting.clear()
        self.blocked.clear()
        self.out.clear()
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            if stream.timer_tick:
                self.server.disarm(stream, stream.timer_tick)
            stream.drop_pending()
            stream.on_gone()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        # A client that does not read is not read from either: what it can make us hold stays bounded.
        self.paused = True
        if self.state != CLOSED:
            self.sink.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if self.state == CLOSED:
            return
        if not self.is_waiting:
            self.sink.resume_reading()
            if not self.in_batch:
                self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError

    def on_timer(self) -> None:
        """Is the client still there? Source: grpc-go keepalive."""
        self.timer_tick = 0
        if self.state == CLOSED:
            # The client does not even take our last words.
            self.sink.abort()
            return
        if self.state < OPEN:
            self.abort()
            return
        limits = self.limits
        now = self.clock()
        if self.ping_outstanding and self.last_read_at <= self.ping_sent_at:
            self.abort()
            return
        self.ping_outstanding = False
        idle = now - self.last_read_at
        if idle < limits.keepalive_time_s:
            self._arm(limits.keepalive_time_s - idle)
            return
        self.ping_outstanding = True
        self.ping_sent_at = now
        self.out.append(frames.ping(KEEPALIVE_PING))
        self.mark()
        self._arm(limits.keepalive_timeout_s)

    # What streams and the server call.

    def mark(self) -> None:
        """Have the output written at the end of this turn of the loop."""
        if not self.is_dirty:
            self.is_dirty = True
            self.server.add_dirty(self)

    def flush(self) -> None:
        """Write what has gathered."""
        out = self.out
        # Whatever is appended meanwhile is written here too.
        self.is_dirty = True
        while out and self.state != CLOSED:
            if self.out_is_large and self.plain_sink is not None:
                pieces = out.copy()
                out.clear()
                self.out_is_large = False
                self.plain_sink.write_pieces(pieces)
            else:
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                self.sink.write(data)
            if self.waiting and not self.paused:
                self._pump_waiting()
        self.is_dirty = False
        if self.goaway_sent and not self.streams:
            self._close_sink()

    def forget(self, stream: Stream) -> None:
        """The stream has ended on our side."""
        stream_id = stream.stream_id
        self.streams.pop(stream_id, None)
        if stream.timer_tick:
            self.server.disarm(stream, stream.timer_tick)
            stream.timer_tick = 0
        if self.goaway_sent and not self.streams:
            self.mark()

    def has_room_for_queue(self) -> bool:
        """Whether one more answer may wait; closes the connection when too much does already."""
        if self.queued_bytes <= self.limits.queue_bytes_max:
            if self.server.held_bytes > self.limits.held_bytes_max:
                self.server.make_room()
            return self.state != CLOSED
        if self.state != CLOSED:
            self.abort()
        return False

    def abort(self) -> None:
        """Drop the connection at once."""
        self.state = CLOSED
        self.fast_lane = False
        self.out.clear()
        for stream in self.streams.values():
            stream.drop_pending()
            stream.drop_received()
        self.sink.abort()

    def drain(self) -> None:
        """Ask the client to open no more streams; the connection closes when the last one has ended."""
        if self.state == CLOSED or self.draining:
            return
        self.draining = True
        self.fast_lane = False
        if self.state < OPEN:
            self.close()
            return
        # What the client sent before it reads this is still served: the answer to the ping comes after all of it.
        self.out.append(frames.goaway(STREAM_ID_MAX, frames.NO_ERROR, b"") + frames.ping(DRAIN_PING))
        self.mark()

    def close(self) -> None:
        """Write what there is and close."""
        if self.state == CLOSED:
            return
        self.flush()
        self._close_sink()

    def _close_sink(self) -> None:
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self.fast_lane = False
        self._arm(CLOSE_TIMEOUT_S)
        self.sink.close()

    def _arm(self, delay_s: float) -> None:
        """Set this connection's one timer."""
        if self.timer_tick:
            self.server.disarm(self, self.timer_tick)
        self.timer_tick = self.server.arm(self, delay_s)

    def _close_with(self, code: int, text: str) -> None:
        if self.state == CLOSED:
            return
        self.out.append(frames.goaway(self.last_stream_id, code, text.encode()))
        self.close()

    @property
    def held_bytes(self) -> int:
        return self.queued_bytes + self.partial_bytes

    def count_partial(self, size: int) -> None:
        """So much more, or less, is here of messages that are not here whole."""
        self.partial_bytes += size
        self.server.held_bytes += size

    # Turns.

    def _wait_a_turn(self) -> None:
        """Let others have theirs, and go on in the next one."""
        if not self.is_waiting:
            self.is_waiting = True
            self.stride = 1
            self.sink.pause_reading()
            self._take_part(1)
            assert self.server.scheduler is not None
            self.server.scheduler.call_soon(self._go_on)

    def _take_part(self, one: int) -> None:
        """One more, or one less, shares the time of the loop with all others that want much of it."""
        server = self.server
        server.taking_turns += one
        server.turn_s = max(TURN_S_MIN, TURN_S_MAX / (1 + server.taking_turns))

    def _go_on(self) -> None:
        self.is_waiting = False
        self._take_part(-1)
        if self.state != CLOSED and not self.paused:
            self.sink.resume_reading()
            self.data_received(b"")

    # Budgets.

    def _refuse_stream(self, stream_id: int) -> None:
        """Turn a stream away before anything was done for it."""
        self._count_nuisance()
        self.out.append(frames.rst_stream(stream_id, frames.REFUSED_STREAM))

    def _count_received(self, size: int) -> None:
        self.recv_used += size
        if self.recv_used > CONNECTION_WINDOW >> 1:
            if self.recv_used > CONNECTION_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "connection window exceeded")
            self.out.append(window_update(0, self.recv_used))
            self.recv_used = 0

    def _count_nuisance(self, cost: float = 1.0) -> None:
        self.nuisance_left -= cost
        if self.nuisance_left >= 0:
            return
        limits = self.limits
        now = self.last_read_at
        refill = (now - self.nuisance_at) * limits.nuisance_per_s
        self.nuisance_at = now
        self.nuisance_left = min(self.nuisance_left + refill, float(limits.nuisance_burst))
        if self.nuisance_left < 0:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _remove(self, stream: Stream) -> None:
        """Take a stream out of all tables, with what waited to be sent on it."""
        stream.drop_pending()
        self.forget(stream)

    def _drop_stream(self, stream: Stream, code: int) -> None:
        self._count_nuisance()
        self._remove(stream)
        self.out.append(frames.rst_stream(stream.stream_id, code))
        stream.on_gone()

    def _pump_waiting(self) -> None:
        """Let the streams whose windows are open send, in turns, until output or windows are full."""
        waiting = self.waiting
        while waiting and self.send_window > 0 and not self.paused and len(self.out) < PUMPED_PIECES_MAX:
            stream_id = next(iter(waiting))
            stream = waiting.pop(stream_id)
            stream.pump(PUMP_QUANTUM)
            if stream_id in waiting:
                # Behind the others.
                del waiting[stream_id]
                waiting[stream_id] = stream
