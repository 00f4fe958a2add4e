"""Strings as Go's encoding/json writes them, for JSON that must be equal byte for byte; and JSON from outside, read.

Go escapes `<`, `>`, `&`, U+2028 and U+2029, knows short forms only for quote,
backslash, newline, carriage return and tab, leaves the rest as UTF-8, and
writes the six characters `\\ufffd` for each byte that is not UTF-8 (such bytes
arrive here as the surrogates of `errors="surrogateescape"`).

Source: Go encoding/json encodeState.string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

_SPECIAL: Final = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')
_SHORT: Final[dict[str, str]] = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    short = _SHORT.get(char)
    if short is not None:
        return short
    if "\ud800" <= char <= "\udfff":
        return "\\ufffd"
    return f"\\u{ord(char):04x}"


def quote(text: str) -> str:
    """The JSON string of `text`, with its quotes."""
    return '"' + _SPECIAL.sub(_escape, text) + '"'


def string_array(values: Iterable[str]) -> str:
    """The JSON array of `values`; an empty one is `null`, as Go writes a nil slice."""
    body = ",".join([quote(value) for value in values])
    return f"[{body}]" if body else "null"


def byte_order(text: str) -> bytes:
    """A sort key that orders strings as Go does, by their bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a surrogate pair, which only somebody else's JSON can bring.
        return text.encode("utf-8", "replace")


def loads(text: str | bytes) -> Any:
    """Python's reading of a JSON text. Raises ValueError, also for one so deep that Python's reader gives it up."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON too deep") from error
