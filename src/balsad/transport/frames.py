"""HTTP/2 frames: the numbers, the packers, and the error that ends a connection.

    +-----------------------------------------------+
    |                 Length (24)                   |
    +---------------+---------------+---------------+
    |   Type (8)    |   Flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 Stream Identifier (31)                      |
    +=+=============================================================+
    |                   Frame Payload (0...)                      ...

Source: RFC 9113 sections 4 to 7.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

FLAG_END_STREAM: Final = 0x01
FLAG_ACK: Final = 0x01
FLAG_END_HEADERS: Final = 0x04
FLAG_PADDED: Final = 0x08
FLAG_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11

SETTINGS_HEADER_TABLE_SIZE: Final = 1
SETTINGS_ENABLE_PUSH: Final = 2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 4
SETTINGS_MAX_FRAME_SIZE: Final = 5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 6

FRAME_SIZE_MAX: Final = 16384  # what we take and the most we send, whatever the peer allows
WINDOW_DEFAULT: Final = 65535
WINDOW_MAX: Final = 0x7FFFFFFF
STREAM_ID_MAX: Final = 0x7FFFFFFF

SETTINGS_ACK: Final = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
PING_ACK_HEAD: Final = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00"

# A frame header as (length << 8 | type, flags, stream id with the reserved bit).
unpack_frame_head: Final = Struct(">IBI").unpack_from
pack_frame_head: Final = Struct(">IBI").pack
unpack_u32: Final = Struct(">I").unpack_from
pack_u32: Final = Struct(">I").pack


class Http2Error(Exception):
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One frame."""
    return pack_frame_head(len(payload) << 8 | kind, flags, stream_id) + payload


def header_frames(stream_id: int, block: bytes, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION frames for what does not fit in it."""
    flags = FLAG_END_STREAM if end_stream else 0
    if len(block) <= FRAME_SIZE_MAX:
        return frame(HEADERS, flags | FLAG_END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:FRAME_SIZE_MAX])]
    for pos in range(FRAME_SIZE_MAX, len(block), FRAME_SIZE_MAX):
        last = pos + FRAME_SIZE_MAX >= len(block)
        parts.append(frame(CONTINUATION, FLAG_END_HEADERS if last else 0, stream_id, block[pos : pos + FRAME_SIZE_MAX]))
    return b"".join(parts)


def settings_frame(settings: list[tuple[int, int]]) -> bytes:
    payload = b"".join([key.to_bytes(2, "big") + pack_u32(value) for key, value in settings])
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, pack_u32(increment))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, pack_u32(code))


def goaway(last_stream_id: int, code: int, text: bytes) -> bytes:
    return frame(GOAWAY, 0, 0, pack_u32(last_stream_id) + pack_u32(code) + text)


def ping(payload: bytes, ack: bool = False) -> bytes:
    return frame(PING, FLAG_ACK if ack else 0, 0, payload)
