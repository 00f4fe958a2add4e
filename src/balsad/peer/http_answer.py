"""Reading the answer to an HTTP/1.1 request, as a machine without sockets.

    head ──> body of a known length ──────> complete
         ├─> chunks ──> trailers ─────────> complete
         └─> body until the connection ends ──eof──> complete

Source: RFC 9112.
"""

from __future__ import annotations

import re
from typing import Final

from balsad.transport.http1_request import BadRequestError, ChunkedBody

HEAD_BYTES_MAX: Final = 64 << 10
_ENDLESS: Final = 1 << 62

_AT_HEAD: Final = 0
_AT_LENGTH: Final = 1
_AT_CHUNKS: Final = 2
_UNTIL_EOF: Final = 3
_COMPLETE: Final = 4

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")


class BrokenAnswerError(Exception):
    """What came back is no HTTP answer, or ended too early."""


class AnswerReader:
    """Takes the bytes of one answer as they come and gives those of its body."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is there."""
        self.headers: dict[str, str] = {}
        """Names in lower case; of a name that came twice the first value counts."""
        self.surplus = b""
        """What came behind the answer."""
        self._state = _AT_HEAD
        self._head = b""
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._rest = b""

    @property
    def is_complete(self) -> bool:
        return self._state == _COMPLETE

    @property
    def may_stay_open(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._state == _COMPLETE and not self.surplus and self.headers.get("connection", "").lower() != "close"

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in `data`. Raises: BrokenAnswerError."""
        if self._state == _AT_HEAD:
            seen = max(0, len(self._head) - 3)
            self._head += data
            data = self._read_head(seen)
            if self._state == _AT_HEAD:
                return b""
        if self._state == _AT_CHUNKS:
            return self._unchunk(data)
        if self._state == _AT_LENGTH:
            body = data[: self._left]
            self._left -= len(body)
            if not self._left:
                self._state = _COMPLETE
                self.surplus += data[len(body) :]
            return body
        if self._state == _UNTIL_EOF:
            return data
        self.surplus += data
        return b""

    def feed_eof(self) -> None:
        """The connection has ended. Raises: BrokenAnswerError when the answer has not."""
        if self._state == _UNTIL_EOF:
            self._state = _COMPLETE
        elif self._state != _COMPLETE:
            raise BrokenAnswerError("EOF" if self._state == _AT_HEAD and not self._head else "unexpected EOF")

    def _read_head(self, seen: int) -> bytes:
        """Parse the head if it is whole, which its first `seen` bytes are not; gives what came behind it."""
        while True:
            found = _HEAD_END.search(self._head, seen)
            if found is None:
                if len(self._head) > HEAD_BYTES_MAX:
                    raise BrokenAnswerError("head of the answer is too large")
                return b""
            lines = self._head[: found.start()].split(b"\n")
            rest = self._head[found.end() :]
            status = _STATUS_LINE.fullmatch(lines[0].rstrip(b"\r"))
            if status is None:
                raise BrokenAnswerError(f"malformed HTTP response {lines[0][:64]!r}")
            headers: dict[str, str] = {}
            for line in lines[1:]:
                name, colon, value = line.decode("latin-1").partition(":")
                if not colon or not name or name != name.strip():
                    raise BrokenAnswerError(f"malformed MIME header line {line[:64]!r}")
                headers.setdefault(name.lower(), value.strip())
            code = int(status.group(1))
            if code >= 200:
                break
            # An interim answer; the real one follows.
            self._head = rest
            seen = 0
        self._head = b""
        self.status = code
        self.headers = headers
        self._begin_body(code, headers)
        return rest

    def _begin_body(self, status: int, headers: dict[str, str]) -> None:
        length = headers.get("content-length", "")
        if status in (204, 304):
            self._state = _COMPLETE
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise BrokenAnswerError(f"unsupported transfer encoding {headers['transfer-encoding'][:64]!r}")
            self._chunks = ChunkedBody(_ENDLESS)
            self._state = _AT_CHUNKS
        elif length:
            if not (length.isascii() and length.isdigit()) or len(length) > 18:
                raise BrokenAnswerError(f"bad Content-Length {length[:64]!r}")
            self._left = int(length)
            self._state = _AT_LENGTH if self._left else _COMPLETE
        else:
            self._state = _UNTIL_EOF

    def _unchunk(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        if self._rest:
            data = self._rest + data
        try:
            done, pos = chunks.feed(data, 0)
        except BadRequestError as error:
            raise BrokenAnswerError("malformed chunked encoding") from error
        self._rest = b""
        if done:
            self._state = _COMPLETE
            self.surplus = data[pos:]
        elif pos < len(data):
            self._rest = data[pos:]
        parts = chunks.parts
        if not parts:
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body
