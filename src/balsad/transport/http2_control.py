"""The frames of an HTTP/2 connection that carry no request: settings, windows, pings, resets."""

from __future__ import annotations

from typing import Final

from balsad.transport import frames
from balsad.transport.frames import (
    FLAG_ACK,
    FRAME_SIZE_MAX,
    SETTINGS_ACK,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    Http2Error,
    unpack_u32,
    window_update,
)
from balsad.transport.http2_base import (
    CONNECTION_WINDOW,
    DRAIN_PING,
    IDLE_PING_INTERVAL_S,
    STREAM_WINDOW,
    Http2Base,
)

PING_STRIKES_MAX: Final = 2


class Http2Control(Http2Base):
    """A connection that minds its control frames."""

    __slots__ = ()

    def _settings(self) -> bytes:
        limits = self.limits
        settings = [
            (frames.SETTINGS_HEADER_TABLE_SIZE, 0),
            (frames.SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frames.SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
        ]
        if limits.streams_max < 0xFFFFFFFF:
            settings.append((frames.SETTINGS_MAX_CONCURRENT_STREAMS, limits.streams_max))
        return frames.settings_frame(settings) + window_update(0, CONNECTION_WINDOW - WINDOW_DEFAULT)

    def _on_window_update(self, stream_id: int, data: bytes, start: int, size: int) -> None:
        if size != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        increment: int = unpack_u32(data, start)[0] & WINDOW_MAX
        if not increment:
            raise Http2Error(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if not stream_id:
            self.send_window += increment
            if self.send_window > WINDOW_MAX:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "connection window overflows")
            return
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_window_update(increment)
        elif stream_id > self.last_stream_id or not stream_id & 1:
            raise Http2Error(frames.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is not open")

    def _on_rst_stream(self, stream_id: int, size: int) -> None:
        if size != 4:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise Http2Error(frames.PROTOCOL_ERROR, "RST_STREAM on a stream that is not open")
        self._count_nuisance()
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._remove(stream)
            stream.on_gone()

    def _on_settings(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        if stream_id:
            raise Http2Error(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & FLAG_ACK:
            if stop > start:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with settings")
            self._count_nuisance()
            return
        if (stop - start) % 6:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._count_nuisance(1.0 + len(self.blocked) / 64)
        for pos in range(start, stop, 6):
            key = data[pos] << 8 | data[pos + 1]
            value: int = unpack_u32(data, pos + 2)[0]
            if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
            elif key == frames.SETTINGS_MAX_FRAME_SIZE:
                if not FRAME_SIZE_MAX <= value <= 0xFFFFFF:
                    raise Http2Error(frames.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            elif key == frames.SETTINGS_ENABLE_PUSH:
                if value > 1:
                    raise Http2Error(frames.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
            elif key == frames.SETTINGS_MAX_HEADER_LIST_SIZE:
                self.peer_header_list_max = value
        self.out.append(SETTINGS_ACK)

    def _set_initial_window(self, value: int) -> None:
        if value > WINDOW_MAX:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        # Streams keep what they have used, so their windows move with this one, also below zero.
        self.peer_initial_window = value
        self.fast_answer_max = min(value, FRAME_SIZE_MAX)
        if value + self.surplus_max > WINDOW_MAX:
            for stream in self.streams.values():
                if value - stream.send_used > WINDOW_MAX:
                    raise Http2Error(frames.FLOW_CONTROL_ERROR, "stream window overflows")
        for stream in list(self.blocked.values()):
            if value > stream.send_used:
                del self.blocked[stream.stream_id]
                self.waiting[stream.stream_id] = stream

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Source: grpc-go handlePing."""
        if len(payload) != 8:
            raise Http2Error(frames.FRAME_SIZE_ERROR, "PING of a wrong size")
        if stream_id:
            raise Http2Error(frames.PROTOCOL_ERROR, "PING on a stream")
        if flags & FLAG_ACK:
            if payload == DRAIN_PING and self.draining and not self.goaway_sent:
                self.goaway_sent = True
                self.out.append(frames.goaway(self.last_stream_id, frames.NO_ERROR, b""))
            self._count_nuisance()
            return
        self.out.append(frames.PING_ACK_HEAD + payload)
        now = self.last_read_at
        last = self.last_ping_at
        self.last_ping_at = now
        if self.reset_ping_strikes:
            self.reset_ping_strikes = False
            self.ping_strikes = 0
            return
        limits = self.limits
        if not self.streams and not limits.ping_without_calls:
            if now - last < IDLE_PING_INTERVAL_S:
                self.ping_strikes += 1
        elif now - last < limits.ping_interval_s_min:
            self.ping_strikes += 1
        if self.ping_strikes > PING_STRIKES_MAX:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "too_many_pings")
