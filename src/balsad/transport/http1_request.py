"""HTTP/1 requests: the head, and bodies in chunks.

Source: RFC 9112; what is refused, and in which words, as Go's net/http.
"""

from __future__ import annotations

import re
from typing import Final

CHUNK_LINE_MAX: Final = 4096
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION: Final = re.compile(r"HTTP/1\.[0-9]+")
_HOST: Final = re.compile(r"[!$%&'()*+,\-.:;=\[\]_~0-9A-Za-z]*")
_BAD_TARGET: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BadRequestError(Exception):
    """The client's bytes are no request we can serve; the connection ends after saying so."""

    def __init__(self, status: str, detail: str = "", body: str = "") -> None:
        super().__init__(detail or status)
        self.status = f"{status}: {detail}" if detail else status
        self.body = body or self.status


def error_answer(error: BadRequestError) -> bytes:
    """What Go's server writes before it closes the connection."""
    return (
        f"HTTP/1.1 {error.status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{error.body}"
    ).encode()


class RequestHead:
    """A request line and its headers."""

    def __init__(self, method: str, target: str, version: str, headers: dict[str, str]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.length = 0
        self.is_chunked = False

    def wants(self, token: str) -> bool:
        """Whether the Connection header has this token."""
        return token in [part.strip() for part in self.headers.get("connection", "").lower().split(",")]

    @property
    def keep_alive(self) -> bool:
        if self.version == "HTTP/1.0":
            return self.wants("keep-alive")
        return not self.wants("close")


class UnknownProtocolError(Exception):
    """The first line is no request line of HTTP/1."""


def parse_request_line(line: bytes) -> tuple[str, str, str]:
    """Method, target and version. Raises UnknownProtocolError."""
    method, space, rest = line.decode("latin-1").partition(" ")
    target, second_space, version = rest.rpartition(" ") if rest.count(" ") == 1 else ("", "", "")
    if not (space and second_space) or _VERSION.fullmatch(version) is None:
        raise UnknownProtocolError
    return method, target, version


def parse_head(data: bytes) -> RequestHead:
    """The head whose lines these are. Raises BadRequestError, UnknownProtocolError.

    Source: net/http readRequest, conn.readRequest, readTransfer.
    """
    lines = data.split(b"\n")
    method, target, version = parse_request_line(lines[0].removesuffix(b"\r"))
    if _TOKEN.fullmatch(method) is None:
        raise BadRequestError("400 Bad Request")
    target = _parse_target(target)
    headers: dict[str, str] = {}
    hosts: list[str] = []
    lengths: list[str] = []
    encodings: list[str] = []
    detail = ""
    name = ""
    for line in lines[1:]:
        line = line.removesuffix(b"\r")
        if not line:
            continue
        if line[:1] in (b" ", b"\t"):
            if not name:
                raise BadRequestError("400 Bad Request")
            headers[name] = (headers[name] + " " + line.strip(b" \t").decode("utf-8", "surrogateescape")).strip()
            continue
        raw_name, colon, raw_value = line.partition(b":")
        if not colon:
            raise BadRequestError("400 Bad Request")
        name = raw_name.decode("latin-1").lower()
        if _TOKEN.fullmatch(name) is None:
            detail = "invalid header name"
        elif _BAD_VALUE.search(raw_value) is not None:
            detail = detail or "invalid header value"
        value = raw_value.strip(b" \t").decode("utf-8", "surrogateescape")
        if name == "host":
            hosts.append(value)
        elif name == "content-length":
            lengths.append(value)
        elif name == "transfer-encoding":
            encodings.append(value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    head = RequestHead(method, target, version, headers)
    _frame_body(head, lengths, encodings)
    if not hosts and version != "HTTP/1.0" and method != "CONNECT":
        raise BadRequestError("400 Bad Request", "missing required Host header")
    if len(hosts) > 1:
        raise BadRequestError("400 Bad Request", "too many Host headers")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise BadRequestError("400 Bad Request", "malformed Host header")
    if detail:
        raise BadRequestError("400 Bad Request", detail)
    return head


def _parse_target(target: str) -> str:
    if target.startswith("/") or target == "*":
        path = target.partition("?")[0]
    else:
        path = target = _strip_origin(target)
    if _BAD_TARGET.search(path) is not None or "\x7f" in target or any(char < " " for char in target):
        raise BadRequestError("400 Bad Request")
    return target


def _strip_origin(target: str) -> str:
    scheme, separator, rest = target.partition("://")
    if not separator or not scheme.isalpha():
        raise BadRequestError("400 Bad Request")
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"


def _frame_body(head: RequestHead, lengths: list[str], encodings: list[str]) -> None:
    if encodings:
        if len(encodings) > 1 or encodings[0].lower() != "chunked":
            raise BadRequestError("501 Not Implemented", body="Unsupported transfer encoding")
        # Go lets chunks win over a length.
        head.is_chunked = True
        head.headers.pop("content-length", None)
    elif lengths:
        first = lengths[0]
        if any(other != first for other in lengths) or not (first.isascii() and first.isdigit()) or len(first) > 18:
            raise BadRequestError("400 Bad Request")
        head.length = int(first)


# Size lines of short chunks that were found to be in order: those of a stream of messages are few.
_SIZES: Final[dict[bytes, int]] = {}
_SIZES_MAX: Final = 4096
_SHORT_LINE_MAX: Final = 3


class ChunkedBody:
    """Decodes a chunked body as it comes."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.parts: list[bytes] = []
        self.size = 0
        self.left = -1  # of the current chunk; -1 wants a size line, -2 the trailers, 0 the line end after a chunk

    def feed(self, data: bytes, pos: int) -> tuple[bool, int]:
        """Whether the body is complete, and how far `data` was used. Raises BadRequestError."""
        while self.left == -1:
            # A whole chunk with a size met before.
            stop = data.find(b"\r\n", pos, pos + _SHORT_LINE_MAX + 2)
            size = _SIZES.get(data[pos:stop], 0) if stop > 0 else 0
            end = stop + 2 + size
            if not size or data[end : end + 2] != b"\r\n" or self.size + size > self.size_max:
                break
            self.parts.append(data[stop + 2 : end])
            self.size += size
            pos = end + 2
        while True:
            if self.left > 0:
                part = data[pos : pos + self.left]
                if not part:
                    return False, pos
                self.parts.append(part)
                self.left -= len(part)
                pos += len(part)
                continue
            stop = data.find(b"\n", pos)
            # However it comes: a line that is too long is refused, too, when its end is here already.
            if (stop if stop >= 0 else len(data)) - pos > CHUNK_LINE_MAX:
                raise BadRequestError("400 Bad Request")
            if stop < 0:
                return False, pos
            line = data[pos:stop].removesuffix(b"\r")
            pos = stop + 1
            if self.left == 0:
                if line:
                    raise BadRequestError("400 Bad Request")
                self.left = -1
            elif self.left == -2:
                if not line:
                    return True, pos
            else:
                digits = line.partition(b";")[0].strip(b" \t")
                if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
                    raise BadRequestError("400 Bad Request")
                self.left = int(digits, 16)
                if len(line) <= _SHORT_LINE_MAX and digits == line and len(_SIZES) < _SIZES_MAX:
                    _SIZES[line] = self.left
                self.size += self.left
                if self.size > self.size_max:
                    raise BadRequestError("413 Request Entity Too Large")
                if self.left == 0:
                    self.left = -2


def head_end(data: bytes, start: int) -> int:
    """The place after the empty line that ends a head, -1 without one."""
    while True:
        stop = data.find(b"\n", start)
        if stop < 0:
            return -1
        if data[stop + 1 : stop + 2] == b"\n":
            return stop + 2
        if data[stop + 1 : stop + 3] == b"\r\n":
            return stop + 3
        start = stop + 1
