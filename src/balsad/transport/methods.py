"""The methods a server has, what was counted of each, and how a request's headers lead to one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from balsad.errors import RequestError
from balsad.go_quote import quote_go
from balsad.transport.grpc_words import (
    CONTENT_TYPE,
    RESERVED,
    RESPONSE_BLOCK,
    content_subtype,
    decode_binary,
    parse_timeout,
    response_block,
)
from balsad.transport.header_block import Field

if TYPE_CHECKING:
    from balsad.transport.call import Call
    from balsad.transport.faces import StreamHandler

CODE_OK: Final = 0
CODE_CANCELED: Final = 1
CODE_RESOURCE_EXHAUSTED: Final = 8
CODE_UNIMPLEMENTED: Final = 12

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))


class Method:
    """A method and its counters, plain numbers that only grow.

    A unary call touches as few of them as say it all: its messages follow from
    the calls, and a call answered by `fast` counts in `fast_answered` alone.
    """

    def __init__(
        self,
        path: str,
        handler: Callable[[Call, bytes], None] | None,
        fast: Callable[[Headers, bytes], bytes | None] | None,
        factory: Callable[[Call], StreamHandler] | None,
    ) -> None:
        self.path = path
        service, _, name = path[1:].rpartition("/")
        self.service = service
        self.name = name
        self.handler = handler
        self.fast = fast
        self.factory = factory
        self.fast_answered = 0
        self.calls = 0
        self.messages_in = 0
        self.messages_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.ok = 0
        self.failed: dict[int, int] = {}
        self.code_when_gone = CODE_CANCELED
        """What a call counts as whose client reset it or left."""
        self.observe: Callable[[float, bool], None] | None = None
        """Told how many seconds each call took and whether it failed, once `time_calls` was called."""

    @property
    def is_stream(self) -> bool:
        return self.factory is not None

    @property
    def started(self) -> int:
        """Calls begun."""
        return self.calls + self.fast_answered

    @property
    def received(self) -> int:
        """Messages that came in."""
        return self.messages_in if self.is_stream else self.started

    @property
    def sent(self) -> int:
        """Messages that went out."""
        return self.messages_out if self.is_stream else self.ok + self.fast_answered

    @property
    def handled(self) -> dict[int, int]:
        """Calls ended, by status code."""
        ended = dict(self.failed)
        ok = self.ok + self.fast_answered
        if ok:
            ended[CODE_OK] = ok
        return ended

    def time_calls(self, observe: Callable[[float, bool], None], now: Callable[[], float]) -> None:
        """From now on tell `observe` how long calls take; who never asks for it pays nothing for it."""
        self.observe = observe
        handler, fast, factory = self.handler, self.fast, self.factory
        if handler is not None:

            def timed_handler(call: Call, message: bytes) -> None:
                call.began = now()
                handler(call, message)

            self.handler = timed_handler
        if fast is not None:

            def timed_fast(headers: Headers, message: bytes) -> bytes | None:
                began = now()
                try:
                    answer = fast(headers, message)
                except RequestError:
                    observe(now() - began, True)
                    raise
                if answer is not None:
                    observe(now() - began, False)
                return answer

            self.fast = timed_fast
        if factory is not None:

            def timed_factory(call: Call) -> StreamHandler:
                call.began = now()
                return factory(call)

            self.factory = timed_factory

    def count_failed(self, code: int) -> None:
        self.failed[code] = self.failed.get(code, 0) + 1


class Headers:
    """The headers of a request, shared by all requests that came with the same header block."""

    def __init__(self, path: str, authority: str, metadata: dict[bytes, bytes], fields: list[Field]) -> None:
        self.path = path
        self.authority = authority
        self.metadata = metadata
        self.fields = fields
        self.memo: Any = None
        self.method: Method | None = None
        self.unary: Method | None = None
        """The method, if a call needs nothing but its message and the usual answer."""
        self.response_block = RESPONSE_BLOCK
        # What opens an answer that is trailers only.
        self.trailers_block = RESPONSE_BLOCK
        # A refusal that needs no handler; code 0 is none. Of an HTTP request the code is HTTP's.
        self.refusal_code = 0
        self.refusal_text = ""
        self.is_reset = False
        self.is_http = False
        self.is_gzip = False


class Router:
    """From the fields of a request to its `Headers`."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}
        self.services: set[str] = set()

    def add(self, method: Method) -> None:
        self.methods[method.path] = method
        self.services.add(method.service)

    def route(self, fields: list[Field], serves_http: bool, serves_grpc: bool = True) -> tuple[Headers, bytes]:
        """The headers and the raw grpc-timeout (empty: none).

        `serves_http` says whether what is not gRPC goes to the HTTP handler, as
        it does over TLS; otherwise such a stream is reset. Without `serves_grpc`
        all goes there.
        Source: grpc-go decodeHeader, operateHeaders, handleStream.
        """
        path = authority = http_method = content_type = timeout = encoding = b""
        subtype: bytes | None = None
        metadata: dict[bytes, bytes] = {}
        for name, value in fields:
            if name == b":path":
                path = value
            elif name == b":method":
                http_method = value
            elif name == b"content-type":
                content_type = value
                valid = content_subtype(value)
                if valid is not None:
                    subtype = valid
                    metadata.setdefault(name, value)
            elif name == b"grpc-timeout":
                timeout = value
            elif name == b"grpc-encoding":
                encoding = value
            elif name == b":authority":
                authority = value
                metadata.setdefault(name, value)
            elif name[:1] == b":" or name in RESERVED:
                continue
            elif name.endswith(b"-bin"):
                decoded = decode_binary(value)
                if decoded is not None:
                    metadata.setdefault(name, decoded)
            else:
                metadata.setdefault(name, value)
        headers = Headers(
            path.decode("utf-8", "surrogateescape"), authority.decode("utf-8", "replace"), metadata, fields
        )
        if not are_valid(fields):
            headers.is_reset = True
        elif serves_http and not (serves_grpc and content_type.startswith(CONTENT_TYPE)):
            headers.is_http = True
            headers.is_reset = not http_method or not path
        elif subtype is None:
            self._refuse(headers, serves_http, "invalid gRPC request content-type")
        elif http_method != b"POST":
            self._refuse(headers, serves_http, "invalid gRPC request method")
        elif timeout and parse_timeout(timeout) is None:
            text = "rpc error: code = Internal desc = malformed time-out: transport: timeout is not understood: "
            self._refuse(headers, serves_http, text + quote_go(timeout.decode("utf-8", "surrogateescape")))
        else:
            headers.response_block = response_block(subtype, encoding == b"gzip")
            headers.trailers_block = response_block(subtype, False)
            self._resolve(headers, encoding)
        return headers, timeout

    def _refuse(self, headers: Headers, serves_http: bool, text: str) -> None:
        # Behind TLS it is Go's net/http that speaks HTTP/2 and it says why; elsewhere grpc-go just resets.
        if serves_http:
            headers.is_http = True
            headers.refusal_code = 500
            headers.refusal_text = text
        else:
            headers.is_reset = True

    def _resolve(self, headers: Headers, encoding: bytes) -> None:
        path = headers.path
        method = self.methods.get(path if path[:1] == "/" else "/" + path)
        if method is None:
            service, slash, name = (path[1:] if path[:1] == "/" else path).rpartition("/")
            if not slash:
                headers.refusal_code = CODE_RESOURCE_EXHAUSTED
                headers.refusal_text = f"malformed method name: {quote_go(path)}"
            elif service in self.services:
                headers.refusal_code = CODE_UNIMPLEMENTED
                headers.refusal_text = f"unknown method {name} for service {service}"
            else:
                headers.refusal_code = CODE_UNIMPLEMENTED
                headers.refusal_text = f"unknown service {service}"
        elif encoding not in (b"", b"identity", b"gzip"):
            headers.refusal_code = CODE_UNIMPLEMENTED
            name = quote_go(encoding.decode("utf-8", "surrogateescape"))
            headers.refusal_text = f"grpc: Decompressor is not installed for grpc-encoding {name}"
        else:
            headers.method = method
            headers.is_gzip = encoding == b"gzip"
            if method.handler is not None and headers.response_block is RESPONSE_BLOCK:
                headers.unary = method


def are_valid(fields: list[Field]) -> bool:
    """Whether these can be the fields of a request.

    Source: golang.org/x/net http2 readMetaFrame, checkPseudos.
    """
    seen: set[bytes] = set()
    regular = False
    for name, value in fields:
        if _BAD_VALUE.search(value):
            return False
        if name[:1] == b":":
            if regular or name not in _PSEUDO or name in seen:
                return False
            seen.add(name)
        elif _NAME.fullmatch(name) is None:
            return False
        else:
            regular = True
    return True
