"""How gRPC says things in HTTP/2 headers: status and message, timeouts, binary metadata.

Source: gRPC over HTTP2 protocol description; grpc-go internal/transport/http_util.go.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import Final

from balsad.transport.header_block import HeaderBlockError, decode_huffman_once, literal

CONTENT_TYPE: Final = b"application/grpc"

# :status 200, content-type application/grpc (entry 31 of the static table, not indexed).
RESPONSE_BLOCK: Final = b"\x88\x0f\x10" + bytes((len(CONTENT_TYPE),)) + CONTENT_TYPE
OK_BLOCK: Final = literal(b"grpc-status", b"0") + literal(b"grpc-message", b"")

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")  # what stands for a byte that is no UTF-8

_UNIT_S: Final[dict[int, float]] = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}

# Fields that gRPC keeps to itself; the rest is metadata.
RESERVED: Final = frozenset(
    (
        b"grpc-message-type",
        b"grpc-encoding",
        b"grpc-message",
        b"grpc-status",
        b"grpc-timeout",
        b"grpc-status-details-bin",
        b"te",
    )
)


def response_block(subtype: bytes, is_gzip: bool) -> bytes:
    """The header block that answers a request of this content subtype and encoding."""
    block = RESPONSE_BLOCK if not subtype else b"\x88" + literal(b"content-type", CONTENT_TYPE + b"+" + subtype)
    if is_gzip:
        block += literal(b"grpc-encoding", b"gzip")
    return block


def percent_encode(text: str) -> bytes:
    """`text` as it travels in grpc-message."""
    raw = _SURROGATE.sub("\ufffd", text).encode()
    if raw.isalnum():
        return raw
    return b"".join([bytes((byte,)) if 32 <= byte < 127 and byte != 37 else b"%%%02X" % byte for byte in raw])


def trailer_block(code: int, text: str) -> bytes:
    """The trailers that end a call."""
    if code == 0 and not text:
        return OK_BLOCK
    return literal(b"grpc-status", b"%d" % code) + literal(b"grpc-message", percent_encode(text))


def parse_timeout(value: bytes) -> float | None:
    """Seconds of a grpc-timeout value, 0 for a negative one, or None when it is malformed."""
    if not 2 <= len(value) <= 9:
        return None
    unit = _UNIT_S.get(value[-1])
    digits = value[:-1]
    if unit is None:
        return None
    if not digits.isdigit():
        # Go's ParseInt takes a sign.
        if digits[:1] not in (b"+", b"-") or not digits[1:].isdigit():
            return None
    return max(0.0, int(digits) * unit)


# Clients with deadlines send what is left of them, a value in a narrow range.
_TIMEOUTS_SEEN: Final[dict[bytes, float]] = {}
_TIMEOUTS_SEEN_MAX: Final = 4096


def read_timeout(literal_string: bytes) -> float:
    """Seconds of a grpc-timeout as it stands in a header block, length first; -1 when it is malformed."""
    known = _TIMEOUTS_SEEN.get(literal_string)
    if known is not None:
        return known
    raw = literal_string[1:]
    try:
        seconds = parse_timeout(decode_huffman_once(raw) if literal_string[0] & 128 else raw)
    except HeaderBlockError:
        return -1.0
    if seconds is None:
        return -1.0
    if len(_TIMEOUTS_SEEN) >= _TIMEOUTS_SEEN_MAX:
        _TIMEOUTS_SEEN.clear()
    _TIMEOUTS_SEEN[literal_string] = seconds
    return seconds


class GzipError(Exception):
    """A message is not the gzip stream it claims to be."""


def gunzip(data: bytes, size_max: int) -> bytes:
    """What a gzip stream holds, at most one byte over `size_max` of it. Raises GzipError."""
    if not data:
        raise GzipError("EOF")
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data, size_max + 1)
    except zlib.error as error:
        raise GzipError("gzip: invalid header" if data[:3] != b"\x1f\x8b\x08" else "flate: corrupt input") from error
    if not stream.eof and len(text) <= size_max:
        raise GzipError("unexpected EOF")
    return text


def gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(data) + stream.flush()


def decode_binary(value: bytes) -> bytes | None:
    """The bytes of a `-bin` metadata value, padded or not; None when it is not base64."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def encode_binary(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


def content_subtype(content_type: bytes) -> bytes | None:
    """What follows `application/grpc+`, or None when the content type is another one.

    Source: grpc-go grpcutil.ContentSubtype.
    """
    if content_type == CONTENT_TYPE:
        return b""
    if not content_type.startswith(CONTENT_TYPE) or content_type[16:17] not in (b"+", b";"):
        return None
    return content_type[17:]
