"""A request on its way through the log: who waits for it and what it was.

A proposal made here travels inside the Entry as its `context`, so that the
member that decoded a request once need not decode it again when it is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from balsad.errors import RequestError

if TYPE_CHECKING:
    from balsad.auth import Identity
    from balsad.transport import Call

Result = bytes | RequestError
"""A response message, or the refusal."""


class Pending:
    """Somebody waits for request `id`.

    A put of nothing but key and value keeps the request's own bytes: `raw`, with
    the value's length at `value_at` (0 when there is no value). Any other request
    keeps the decoded message in `request`, and who asked in `identity`.
    """

    __slots__ = ("born", "call", "done", "field", "id", "identity", "key", "raw", "request", "value_at")

    def __init__(
        self,
        id: int,
        call: Call | None,
        done: Callable[[Result], None] | None = None,
        field: str = "",
        request: Any = None,
        key: bytes = b"",
        raw: bytes = b"",
        value_at: int = 0,
        identity: Identity | None = None,
    ) -> None:
        self.id = id
        self.call = call
        self.done = done
        self.field = field
        self.request = request
        self.key = key
        self.raw = raw
        self.value_at = value_at
        self.identity = identity
        self.born = 0.0

    def resolve(self, result: Result) -> None:
        if self.done is not None:
            self.done(result)
        elif self.call is not None:
            if isinstance(result, bytes):
                self.call.respond(result)
            else:
                self.call.fail(result.code, result.text)


class ResolveLater:
    """Answers a request later, once its alarm went through the log."""

    __slots__ = ("_pending", "_result")

    def __init__(self, pending: Pending, result: Result) -> None:
        self._pending = pending
        self._result = result

    def __call__(self) -> None:
        self._pending.resolve(self._result)


def plain_put(raw: bytes) -> tuple[bytes, int] | None:
    """The key and where the value's length stands, if `raw` is a PutRequest of a short key and a value, and no more.

    None sends the request through the full decoder; nothing that passes here
    would decode to anything else.
    """
    size = len(raw)
    if size < 5 or raw[0] != 0x0A:
        return None
    key_end = raw[1] + 2
    if not 2 < key_end < 130 or key_end + 2 > size or raw[key_end] != 0x12:
        return None
    at = key_end + 1
    low = raw[at]
    if low < 128:
        if at + 1 + low != size or low == 0:
            return None
    else:
        if at + 2 > size:
            return None
        mid = raw[at + 1]
        if mid < 128:
            if mid == 0 or at + 2 + (low & 127) + (mid << 7) != size:
                return None
        else:
            if at + 3 > size:
                return None
            high = raw[at + 2]
            if high >= 128 or high == 0 or at + 3 + (low & 127) + ((mid & 127) << 7) + (high << 14) != size:
                return None
    return raw[2:key_end], at
