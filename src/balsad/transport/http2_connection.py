"""The server's end of an HTTP/2 connection: bytes in, handlers called, bytes out. Owns no socket and no clock.

The event loop's transport is passed in; the loop calls this object directly
as its protocol. What a handler sends while a read is being processed is only
appended to `out`; one write at the end of the read carries all of it.

We announce a header table of size 0. Once a client obeys, a header block
means the same on every connection, so `block bytes -> Headers` is one
dictionary shared by all, and the usual unary request (a known block, then the
whole message in one DATA frame) is served without an object of its own.

Source: RFC 9113; limits and words as grpc-go http2_server.go.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from balsad.errors import RequestError
from balsad.transport import frames
from balsad.transport.call import Call, WholeCall, whole_answer
from balsad.transport.frames import (
    DATA,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    FLAG_PRIORITY,
    FRAME_SIZE_MAX,
    HEADERS,
    PREFACE,
    SETTINGS,
    STREAM_ID_MAX,
    Http2Error,
    unpack_frame_head,
    unpack_u32,
    window_update,
)
from balsad.transport.grpc_words import parse_timeout, read_timeout
from balsad.transport.header_block import (
    Field,
    HeaderBlockError,
    HeaderListTooLargeError,
    decode_stateless,
    find_timeout,
    is_timeout_field,
)
from balsad.transport.http2_base import (
    AWAITING_PREFACE,
    AWAITING_SETTINGS,
    CLOSED,
    LOOKED_AT_LAST,
    OPEN,
    OUT_PIECES_MAX,
    QUEUED_IN_READ_MAX,
    READ_S_MAX,
    STREAM_WINDOW,
)
from balsad.transport.http2_control import Http2Control
from balsad.transport.http2_exchange import Http2Exchange

if TYPE_CHECKING:
    from balsad.transport.methods import Headers

# DATA frame header and gRPC message prefix: (length << 8, flags, stream id, compressed, message length).
unpack_message_head: Final = Struct(">IBIBI").unpack_from

CACHED_BLOCK_MAX: Final = 2048
# How a block begins that changes the table's size: to 0, and to any (RFC 7541, 6.3).
TABLE_OF_NOTHING: Final = b"\x20"
TABLE_SIZES: Final = frozenset(bytes((first,)) for first in range(0x20, 0x40))
TIMEOUT_BYTES_MAX: Final = 16


class Http2Connection(Http2Control):
    """One client."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if self.state == CLOSED:
            return
        self.last_read_at = self.clock()
        self.in_batch = True
        # What is appended from here on is written below.
        self.is_dirty = True
        try:
            self._process(data)
        except Http2Error as error:
            self._close_with(error.code, error.text)
            return
        finally:
            self.in_batch = False
        if self.waiting:
            self._pump_waiting()
        self.flush()

    # Frames.

    def _process(self, data: bytes) -> None:
        if self.buffered:
            data = self.buffered + data
            self.buffered = b""
        pos = 0
        if self.state < OPEN:
            pos = self._open(data)
            if pos < 0:
                self.buffered = data
                return
        end = len(data)
        out = self.out
        streams = self.streams
        server = self.server
        cache = server.header_cache
        # Bytes of fast requests, settled with the connection's window at the end.
        received = 0
        started = server.stopwatch()
        left = self.stride
        while end - pos >= 9:
            if self.paused or len(out) > OUT_PIECES_MAX or self.queued_bytes > QUEUED_IN_READ_MAX:
                self.flush()
                if self.paused or self.state == CLOSED:
                    break
            left -= 1
            if left < 0:
                if server.stopwatch() - started > server.turn_s:
                    self._wait_a_turn()
                    break
                left = self.stride = min(2 * self.stride, LOOKED_AT_LAST)
            word, flags, stream_id = unpack_frame_head(data, pos)
            start = pos + 9
            stop = start + (word >> 8)
            if stop > end:
                if word >> 8 > FRAME_SIZE_MAX:
                    raise Http2Error(frames.FRAME_SIZE_ERROR, "frame too large")
                break
            kind = word & 0xFF
            if kind == HEADERS and flags == FLAG_END_HEADERS and self.fast_lane:
                block = data[start:stop]
                headers: Headers | None = cache.get(block)
                is_timed = headers is None
                if is_timed:
                    headers = self._find_timed(block)
                if headers is not None and self.last_stream_id < stream_id <= STREAM_ID_MAX and stream_id & 1:
                    method = headers.unary
                    if method is not None and end - stop >= 14:
                        data_word, data_flags, data_id, compressed, length = unpack_message_head(data, stop)
                        message_stop = stop + 14 + length
                        if (
                            data_word == (length + 5) << 8
                            and data_flags == FLAG_END_STREAM
                            and data_id == stream_id
                            and not compressed
                            and message_stop <= end
                            and length <= FRAME_SIZE_MAX - 5
                        ):
                            # The usual request: known headers, then the whole message.
                            self.last_stream_id = stream_id
                            received += length + 5
                            message = data[stop + 14 : message_stop]
                            pos = message_stop
                            fast = method.fast
                            answer: bytes | None = None
                            if fast is not None:
                                try:
                                    answer = fast(headers, message)
                                except RequestError as error:
                                    self._fail_fast(stream_id, headers, length, error)
                                    continue
                            if answer is None:
                                # The answer comes later.
                                if len(streams) >= self.streams_limit:
                                    self._refuse_stream(stream_id)
                                    continue
                                call = WholeCall(self, stream_id, headers)
                                streams[stream_id] = call
                                method.calls += 1
                                method.bytes_in += length
                                if is_timed:
                                    self._arm_deadline(call, self.block_timeout_s)
                                assert method.handler is not None
                                try:
                                    method.handler(call, message)
                                except RequestError as error:
                                    call.fail(error.code, error.text)
                                continue
                            size = len(answer) + 5
                            if size > self.fast_answer_max or size > self.send_window:
                                self._answer_slowly(stream_id, headers, length, answer)
                                continue
                            self.send_window -= size
                            out.append(whole_answer(stream_id, answer))
                            method.fast_answered += 1
                            method.bytes_in += length
                            method.bytes_out += size - 5
                            continue
                    if method is not None and len(streams) < self.streams_limit:
                        # Busy clients send many HEADERS before the first DATA.
                        self.last_stream_id = stream_id
                        opened = streams[stream_id] = Call(self, stream_id, headers)
                        if is_timed:
                            self._arm_deadline(opened, self.block_timeout_s)
                        pos = stop
                        continue
            elif kind == DATA and flags == FLAG_END_STREAM and stop - start >= 5 and not self.block_stream_id:
                stream = streams.get(stream_id)
                if (
                    type(stream) is Call
                    and not stream.begun
                    and stream.headers.unary is not None
                    and stream.chunks is None
                    and not data[start]
                    and unpack_u32(data, start + 1)[0] == stop - start - 5
                    and stop - start <= FRAME_SIZE_MAX
                ):
                    received += stop - start
                    stream.recv_closed = True
                    pos = stop
                    stream.on_message(data[start + 5 : stop])
                    continue
            if word >> 8 > FRAME_SIZE_MAX:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "frame too large")
            self._on_frame(kind, flags, stream_id & STREAM_ID_MAX, data, start, stop)
            pos = stop
            if self.state == CLOSED:
                return
        if received:
            self._count_received(received)
            self.reset_ping_strikes = True
        if pos < end:
            self.buffered = data[pos:] if pos else data
        if pos and not self.is_waiting and self.state != CLOSED and server.stopwatch() - started > READ_S_MAX:
            self._wait_a_turn()

    def _open(self, data: bytes) -> int:
        """Where the first frame after the preface begins, -1 while it is not all here."""
        pos = 0
        if self.state == AWAITING_PREFACE:
            if len(data) < len(PREFACE):
                if not PREFACE.startswith(data):
                    raise Http2Error(frames.PROTOCOL_ERROR, "not an HTTP/2 preface")
                return -1
            if not data.startswith(PREFACE):
                raise Http2Error(frames.PROTOCOL_ERROR, "not an HTTP/2 preface")
            self.state = AWAITING_SETTINGS
            self.out.append(self._settings())
            self._arm(self.limits.preface_timeout_s)
            pos = len(PREFACE)
        if len(data) - pos < 9:
            self.buffered = data[pos:]
            return len(data)
        word, flags, _ = unpack_frame_head(data, pos)
        if word & 0xFF != SETTINGS or flags & FLAG_ACK:
            raise Http2Error(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self.state = OPEN
        self._arm(self.limits.keepalive_time_s)
        return pos

    def _on_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        size = stop - start
        if self.block_stream_id and (kind != frames.CONTINUATION or stream_id != self.block_stream_id):
            raise Http2Error(frames.PROTOCOL_ERROR, "a header block is not continued")
        if kind == DATA:
            self._on_data(flags, stream_id, data, start, stop)
        elif kind == HEADERS:
            self._on_headers(flags, stream_id, data[start:stop])
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, data, start, size)
        elif kind == frames.RST_STREAM:
            self._on_rst_stream(stream_id, size)
        elif kind == frames.PING:
            self._on_ping(flags, stream_id, data[start:stop])
        elif kind == SETTINGS:
            self._on_settings(flags, stream_id, data, start, stop)
        elif kind == frames.CONTINUATION:
            if not self.block_stream_id:
                raise Http2Error(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
            self._add_to_block(flags, data[start:stop])
        elif kind == frames.PRIORITY:
            if size != 5:
                raise Http2Error(frames.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
            self._count_nuisance()
        elif kind == frames.PUSH_PROMISE:
            raise Http2Error(frames.PROTOCOL_ERROR, "clients do not push")
        elif kind == frames.GOAWAY:
            if stream_id or size < 8:
                raise Http2Error(frames.PROTOCOL_ERROR, "malformed GOAWAY")
            self._count_nuisance()
        else:
            self._count_nuisance()

    def _on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        if not stream_id & 1:
            raise Http2Error(frames.PROTOCOL_ERROR, "HEADERS on a stream that no client can open")
        if flags & (FLAG_PADDED | FLAG_PRIORITY):
            skip = (1 if flags & FLAG_PADDED else 0) + (5 if flags & FLAG_PRIORITY else 0)
            padding = block[0] if flags & FLAG_PADDED and block else 0
            if len(block) < skip + padding:
                raise Http2Error(frames.PROTOCOL_ERROR, "padding is longer than the frame")
            block = block[skip : len(block) - padding]
        self.block_flags = flags
        if flags & FLAG_END_HEADERS:
            self._on_block(stream_id, block)
            return
        self.fast_lane = False
        self.block_stream_id = stream_id
        self.block_parts = [block]
        self.block_bytes = len(block)

    def _add_to_block(self, flags: int, part: bytes) -> None:
        self.block_parts.append(part)
        self.block_bytes += len(part)
        limits = self.limits
        if self.block_bytes > limits.header_list_bytes_max or len(self.block_parts) > limits.header_block_frames_max:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "header block too large")
        if flags & FLAG_END_HEADERS:
            stream_id = self.block_stream_id
            block = b"".join(self.block_parts)
            self.block_stream_id = 0
            self.block_parts = []
            self.fast_lane = self.is_stateless and not self.draining
            self._on_block(stream_id, block)

    def _on_block(self, stream_id: int, block: bytes) -> None:
        server = self.server
        timeout_s = -1.0
        headers: Headers | None = None
        if not self.is_stateless and block[:1] == TABLE_OF_NOTHING and block[1:2] not in TABLE_SIZES:
            # The usual first request. Nothing that was remembered is left, and nothing may be from here on.
            block = block[1:]
            self._forget_table()
        if self.is_stateless:
            headers = server.header_cache.get(block)
            if headers is None:
                headers = self._find_timed(block)
                timeout_s = self.block_timeout_s
        if headers is None:
            fields = self._decode(block)
            headers, timeout = server.router.route(fields, self.secure and server.serves_http, server.serves_grpc)
            if timeout:
                timeout_s = parse_timeout(timeout) or 0.0
            if headers.method is not None and self.is_stateless and len(block) <= CACHED_BLOCK_MAX:
                if timeout:
                    self._remember_timed(block, headers)
                else:
                    server.remember(block, headers)
        end_stream = self.block_flags & FLAG_END_STREAM != 0
        stream = self.streams.get(stream_id)
        if stream is not None:
            # Trailers of the client, which gRPC does not use.
            if not end_stream or stream.recv_closed:
                raise Http2Error(frames.PROTOCOL_ERROR, "second HEADERS on a stream")
            stream.on_half_close()
            return
        if stream_id <= self.last_stream_id:
            # Trailers for a call that we ended early.
            self._count_nuisance()
            return
        self.last_stream_id = stream_id
        self._open_stream(stream_id, headers, timeout_s, end_stream)

    def _decode(self, block: bytes) -> list[Field]:
        try:
            if self.is_stateless:
                return decode_stateless(block, self.limits.header_list_bytes_max)
            decoder = self.decoder
            if decoder is None:
                decoder = self.decoder = Decoder(max_header_list_size=self.limits.header_list_bytes_max)
            fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
        except (HeaderListTooLargeError, OversizedHeaderListError):
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "header list too large") from None
        except (HeaderBlockError, HPACKError) as error:
            # hpack shows some bytes as what they are to Python: an address of this process, which is nobody's business.
            raise Http2Error(frames.COMPRESSION_ERROR, str(error).partition("<memory")[0].rstrip(": ")) from error
        if decoder.header_table.maxsize == 0:
            self._forget_table()
        return fields

    def _forget_table(self) -> None:
        """The client has shrunk its header table to nothing and may not grow it again."""
        self.decoder = None
        self.is_stateless = True
        self.fast_lane = not self.draining

    def _open_stream(self, stream_id: int, headers: Headers, timeout_s: float, end_stream: bool) -> None:
        if self.draining and self.goaway_sent:
            return
        if len(self.streams) >= self.streams_limit:
            self._refuse_stream(stream_id)
            return
        if headers.is_reset:
            self._count_nuisance()
            self.out.append(frames.rst_stream(stream_id, frames.PROTOCOL_ERROR))
            return
        if headers.is_http:
            self._open_exchange(stream_id, headers, end_stream)
            return
        call = Call(self, stream_id, headers)
        if headers.refusal_code:
            call.recv_closed = end_stream
            call.fail(headers.refusal_code, headers.refusal_text)
            return
        self.streams[stream_id] = call
        if timeout_s >= 0:
            self._arm_deadline(call, timeout_s)
        method = headers.method
        assert method is not None
        if method.factory is not None:
            method.calls += 1
            call.begun = True
            try:
                call.handler = method.factory(call)
            except RequestError as error:
                call.fail(error.code, error.text)
        if end_stream:
            call.on_half_close()

    def _open_exchange(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        exchange = Http2Exchange(self, stream_id, headers)
        self.streams[stream_id] = exchange
        if headers.refusal_code:
            exchange.recv_closed = end_stream
            fields = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
            exchange.respond(headers.refusal_code, fields, headers.refusal_text.encode() + b"\n")
        elif end_stream:
            exchange.on_half_close()

    def _find_timed(self, block: bytes) -> Headers | None:
        """Headers known from a block that differs from this one in grpc-timeout alone.

        Clients with deadlines send another timeout with every call; it is left
        in `block_timeout_s`, -1 without one.
        """
        self.block_timeout_s = -1.0
        pos = find_timeout(block)
        if pos < 0 or pos >= len(block):
            return None
        stop = pos + 1 + (block[pos] & 127)
        headers = self.server.timed_header_cache.get(block[:pos] + block[stop:])
        if headers is None or stop > len(block):
            return None
        seconds = read_timeout(block[pos:stop])
        if seconds < 0:
            return None
        self.block_timeout_s = seconds
        return headers

    def _remember_timed(self, block: bytes, headers: Headers) -> None:
        """Keep what this block decodes to, whatever its grpc-timeout.

        What stands before the value was read as a field's name, and would be
        again: the same bytes before it leave a decoder in the same place.
        """
        pos = find_timeout(block)
        if pos < 0 or sum([name == b"grpc-timeout" for name, _ in headers.fields]) != 1:
            return
        length = block[pos] & 127
        if length <= TIMEOUT_BYTES_MAX and is_timeout_field(block, pos, self.limits.header_list_bytes_max):
            self.server.remember_timed(block[:pos] + block[pos + 1 + length :], headers)

    def _on_data(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        size = stop - start
        self._count_received(size)
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self.last_stream_id or not stream_id & 1:
                raise Http2Error(frames.PROTOCOL_ERROR, "DATA on a stream that is not open")
            if not size:
                self._count_nuisance()
            return
        if stream.recv_closed:
            self._drop_stream(stream, frames.STREAM_CLOSED)
            return
        if flags & FLAG_PADDED:
            padding = data[start] if size else 1
            if padding >= size:
                raise Http2Error(frames.PROTOCOL_ERROR, "padding is longer than the frame")
            start += 1
            stop -= padding
        end_stream = flags & FLAG_END_STREAM
        stream.recv_used += size
        if stream.recv_used > STREAM_WINDOW:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "stream window exceeded")
        if end_stream:
            stream.recv_closed = True
        elif stream.recv_used > STREAM_WINDOW >> 1:
            self.out.append(window_update(stream_id, stream.recv_used))
            stream.recv_used = 0
        if stop > start:
            if not stream.closed:
                stream.on_data(data[start:stop])
                if self.partial_bytes > self.limits.partial_bytes_max:
                    raise Http2Error(frames.ENHANCE_YOUR_CALM, "too many unfinished messages")
                if self.server.held_bytes > self.limits.held_bytes_max:
                    self.server.make_room()
        elif not end_stream:
            self._count_nuisance()
        if end_stream and not stream.closed:
            stream.on_half_close()

    # Calls of the fast lane that need more than the usual answer.

    def _fail_fast(self, stream_id: int, headers: Headers, length: int, error: RequestError) -> None:
        self._count_whole_call(stream_id, headers, length).fail(error.code, error.text)

    def _answer_slowly(self, stream_id: int, headers: Headers, length: int, answer: bytes) -> None:
        self._count_whole_call(stream_id, headers, length).respond(answer)

    def _count_whole_call(self, stream_id: int, headers: Headers, length: int) -> Call:
        call = WholeCall(self, stream_id, headers)
        self.streams[stream_id] = call
        method = headers.unary
        assert method is not None
        method.calls += 1
        method.bytes_in += length
        return call

    def _arm_deadline(self, call: Call, timeout_s: float) -> None:
        call.deadline = timeout_s
        call.timer_tick = self.server.arm(call, timeout_s)
