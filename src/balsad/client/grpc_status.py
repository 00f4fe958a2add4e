"""How a gRPC call ended: what trailers, resets and foreign answers mean.

Source: gRPC over HTTP/2; grpc-go internal/transport/http_util.go.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
CANCELED: Final = 1
UNKNOWN: Final = 2
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

# What an RST_STREAM means for the call; all others mean INTERNAL.
_RST_CODES: Final = {7: UNAVAILABLE, 8: CANCELED, 11: RESOURCE_EXHAUSTED, 12: PERMISSION_DENIED}
_REFUSED_STREAM: Final = 7
_RST_NAMES: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
# What an HTTP status without a grpc-status means; all others mean UNKNOWN.
_HTTP_CODES: Final = {400: INTERNAL, 401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 404: UNIMPLEMENTED}
_HTTP_CODES.update(dict.fromkeys((429, 502, 503, 504), UNAVAILABLE))


class Status:
    """How a call ended. `unprocessed`: the server certainly never saw it, so it may be sent again."""

    __slots__ = ("code", "text", "unprocessed")

    def __init__(self, code: int, text: str = "", *, unprocessed: bool = False) -> None:
        self.code = code
        self.text = text
        self.unprocessed = unprocessed

    def __repr__(self) -> str:
        return f"Status({self.code}, {self.text!r})"


def status_of(headers: list[tuple[bytes, bytes]], ended: bool) -> Status | None:
    """The end of the call if these headers are its trailers, or if they are no gRPC answer at all."""
    http_status = b""
    content_type = b""
    code: bytes | None = None
    text = b""
    for name, value in headers:
        if name == b"grpc-status":
            code = value
        elif name == b"grpc-message":
            text = value
        elif name == b":status":
            http_status = value
        elif name == b"content-type":
            content_type = value
    if http_status.startswith(b"1"):
        return None
    if code is not None and ended:
        return Status(int(code) if code.isdigit() and len(code) < 10 else UNKNOWN, _unpercent(text))
    if http_status and (http_status != b"200" or not content_type.startswith(b"application/grpc")):
        number = int(http_status) if http_status.isdigit() and len(http_status) < 10 else 0
        shown = content_type.decode("utf-8", "backslashreplace")
        said = f'unexpected HTTP status code received from server: {number}; content-type "{shown}"'
        return Status(_HTTP_CODES.get(number, UNKNOWN), said)
    if ended:
        return Status(INTERNAL, "server closed the stream without sending trailers")
    return None


def status_of_reset(code: int) -> Status:
    """The end of a call whose stream the server reset."""
    name = _RST_NAMES[code] if code < len(_RST_NAMES) else str(code)
    text = f"stream terminated by RST_STREAM with error code: {name}"
    return Status(_RST_CODES.get(code, INTERNAL), text, unprocessed=code == _REFUSED_STREAM)


def _unpercent(text: bytes) -> str:
    """The text of a grpc-message: %XX stands for a byte."""
    if b"%" in text:
        out = bytearray()
        pos = 0
        while pos < len(text):
            if text[pos] == 37 and pos + 2 < len(text):
                try:
                    out.append(int(text[pos + 1 : pos + 3], 16))
                    pos += 3
                    continue
                except ValueError:
                    pass
            out.append(text[pos])
            pos += 1
        text = bytes(out)
    return text.decode("utf-8", "replace")
