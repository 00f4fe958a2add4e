"""JSON read as Go's encoding/json reads it: the same texts are taken, the same words said of the others.

Values stay raw, as places in the text, until their field's type is known:

    object_fields(b'{"key":"YQ==","limit":"3"}', 0, ends)  ->  {"key": (7, 13), "limit": (22, 25)}

Where each object and array ends is noted when the text is first scanned (`ends`, by where it begins), so that values
within values are not gone through again for every level.

Source: Go encoding/json scanner.go, decode.go (1.16).
"""

from __future__ import annotations

import json
import re
from typing import Final

from balsad.go_quote import quote_go

DEPTH_MAX: Final = 10_000
_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
_SPACES: Final = re.compile(rb"[ \t\r\n]*")
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]*')
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


class GoJsonError(ValueError):
    """What is wrong with a JSON text, in Go's words."""


class EndOfInputError(GoJsonError):
    """The text ended within a value, or before it (`is_empty`)."""

    def __init__(self, is_empty: bool) -> None:
        super().__init__("EOF" if is_empty else "unexpected EOF")
        self.is_empty = is_empty


def _bad(char: int, where: str) -> GoJsonError:
    if char == ord("'"):
        shown = r"'\''"
    elif char == ord('"'):
        shown = "'\"'"
    else:
        shown = f"'{quote_go(chr(char))[1:-1]}'"
    return GoJsonError(f"invalid character {shown} {where}")


Span = tuple[int, int]
"""Where a value begins and ends."""
Ends = dict[int, int]


def scan(text: bytes, pos: int = 0, ends: Ends | None = None) -> Span:
    """Where the first value begins and ends; what is in it is noted in `ends`. Raises GoJsonError, EndOfInputError."""
    pos = skip_space(text, pos)
    start = pos
    if pos >= len(text):
        raise EndOfInputError(True)
    if ends is None:
        ends = {}
    else:
        known = ends.get(start)
        if known is not None:
            return start, known
    try:
        return start, _scan(text, pos, ends)
    except IndexError:
        raise EndOfInputError(False) from None


def skip_space(text: bytes, pos: int) -> int:
    if pos < len(text) and text[pos] in _SPACE:
        found = _SPACES.match(text, pos)
        assert found is not None
        return found.end()
    return pos


def _scan(text: bytes, pos: int, ends: Ends) -> int:
    """The end of the value at `pos`. Raises IndexError where the text ends too early."""
    open_with: list[int] = []
    open_at: list[int] = []
    while True:
        # A value begins here.
        pos = skip_space(text, pos)
        char = text[pos]
        if char in b"{[":
            open_with.append(char)
            open_at.append(pos)
            if len(open_with) > DEPTH_MAX:
                raise GoJsonError("exceeded max depth")
            pos = skip_space(text, pos + 1)
            if text[pos] == char + 2:  # } or ]
                pos += 1
                open_with.pop()
                ends[open_at.pop()] = pos
            elif char == ord("["):
                continue
            else:
                pos = _scan_key(text, pos)
                continue
        elif char == ord('"'):
            pos = _scan_string(text, pos + 1)
        elif char in _LITERALS:
            pos = _scan_literal(text, pos, _LITERALS[char])
        elif char == ord("-") or char in _DIGITS:
            pos = _scan_number(text, pos)
        else:
            raise _bad(char, "looking for beginning of value")
        # A value has ended.
        while open_with:
            pos = skip_space(text, pos)
            char = text[pos]
            pos += 1
            if open_with[-1] == ord("["):
                if char == ord(","):
                    break
                if char != ord("]"):
                    raise _bad(char, "after array element")
            else:
                if char == ord(","):
                    pos = _scan_key(text, skip_space(text, pos))
                    break
                if char != ord("}"):
                    raise _bad(char, "after object key:value pair")
            open_with.pop()
            ends[open_at.pop()] = pos
        else:
            return pos


def _scan_key(text: bytes, pos: int) -> int:
    if text[pos] != ord('"'):
        raise _bad(text[pos], "looking for beginning of object key string")
    pos = skip_space(text, _scan_string(text, pos + 1))
    if text[pos] != ord(":"):
        raise _bad(text[pos], "after object key")
    return pos + 1


def _scan_string(text: bytes, pos: int) -> int:
    while True:
        # Values are long and plain: no look at each of their bytes.
        plain = _PLAIN.match(text, pos)
        assert plain is not None
        pos = plain.end()
        char = text[pos]
        pos += 1
        if char == ord('"'):
            return pos
        if char == ord("\\"):
            char = text[pos]
            pos += 1
            if char == ord("u"):
                for _ in range(4):
                    if text[pos] not in _HEX:
                        raise _bad(text[pos], "in \\u hexadecimal character escape")
                    pos += 1
            elif char not in b'bfnrt\\/"':
                raise _bad(char, "in string escape code")
        elif char < 0x20:
            raise _bad(char, "in string literal")


def _scan_literal(text: bytes, pos: int, word: bytes) -> int:
    for expected in word[1:]:
        pos += 1
        if text[pos] != expected:
            raise _bad(text[pos], f"in literal {word.decode()} (expecting '{chr(expected)}')")
    return pos + 1


def _scan_number(text: bytes, pos: int) -> int:
    """A number at the very end of the text is whole; one that breaks off is not."""
    size = len(text)
    if text[pos] == ord("-"):
        pos += 1
        if text[pos] not in _DIGITS:
            raise _bad(text[pos], "in numeric literal")
    if text[pos] == ord("0"):
        pos += 1
    else:
        while pos < size and text[pos] in _DIGITS:
            pos += 1
    if pos < size and text[pos] == ord("."):
        pos += 1
        if text[pos] not in _DIGITS:
            raise _bad(text[pos], "after decimal point in numeric literal")
        while pos < size and text[pos] in _DIGITS:
            pos += 1
    if pos < size and text[pos] in b"eE":
        pos += 1
        if text[pos] in b"+-":
            pos += 1
        if text[pos] not in _DIGITS:
            raise _bad(text[pos], "in exponent of numeric literal")
        while pos < size and text[pos] in _DIGITS:
            pos += 1
    return pos


def whole(text: bytes) -> bytes:
    """The one value of the text, raw. Raises GoJsonError. Source: json.Unmarshal, checkValid."""
    try:
        start, end = scan(text)
    except EndOfInputError:
        raise GoJsonError("unexpected end of JSON input") from None
    rest = skip_space(text, end)
    if rest < len(text):
        raise _bad(text[rest], "after top-level value")
    return text[start:end]


def kind_of(raw: bytes) -> str:
    """What Go calls a value of this kind in its complaints."""
    char = raw[:1]
    if char == b'"':
        return "string"
    if char == b"{":
        return "object"
    if char == b"[":
        return "array"
    return "bool" if char in (b"t", b"f") else "number"


def mismatch(raw: bytes, go_type: str, *, with_number: bool = False) -> GoJsonError:
    kind = kind_of(raw)
    if kind == "number" and with_number:
        kind = f"number {raw.decode()}"
    return GoJsonError(f"json: cannot unmarshal {kind} into Go value of type {go_type}")


def object_fields(text: bytes, at: int, ends: Ends) -> dict[str, Span]:
    """The fields of the value at `at`, which was scanned. Raises GoJsonError when it is no object."""
    if text[at] != ord("{"):
        raise mismatch(text[at : at + 1], "map[string]json.RawMessage")
    fields: dict[str, Span] = {}
    pos = skip_space(text, at + 1)
    while text[pos] != ord("}"):
        start, end = scan(text, pos)
        name = text_of(text[start:end])
        pos = skip_space(text, end) + 1  # the colon
        fields[name] = start, end = scan(text, pos, ends)
        pos = skip_space(text, end)
        if text[pos] == ord(","):
            pos = skip_space(text, pos + 1)
    return fields


def array_items(text: bytes, at: int, ends: Ends) -> list[Span]:
    """The items of the value at `at`, which was scanned. Raises GoJsonError when it is no array."""
    if text[at] != ord("["):
        raise mismatch(text[at : at + 1], "[]json.RawMessage")
    items: list[Span] = []
    pos = skip_space(text, at + 1)
    while text[pos] != ord("]"):
        start, end = scan(text, pos, ends)
        items.append((start, end))
        pos = skip_space(text, end)
        if text[pos] == ord(","):
            pos = skip_space(text, pos + 1)
    return items


def text_of(raw: bytes) -> str:
    """The text of a string that was scanned; what is no UTF-8, or half a surrogate pair, becomes U+FFFD as in Go."""
    text: str = json.loads(raw.decode("utf-8", "replace"), strict=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
