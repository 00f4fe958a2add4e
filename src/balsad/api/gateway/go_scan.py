"""JSON read as Go's encoding/json reads it: the same texts are taken, the same words said of the others.

Values stay raw until their field's type is known:

    object_fields(b'{"key":"YQ==","limit":"3"}')  ->  {"key": b'"YQ=="', "limit": b'"3"'}

Source: Go encoding/json scanner.go, decode.go (1.16).
"""

from __future__ import annotations

import json
from typing import Final

from balsad.go_quote import quote_go

DEPTH_MAX: Final = 10_000
_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
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


def scan(text: bytes, pos: int = 0) -> tuple[int, int]:
    """Where the first value begins and ends. Raises GoJsonError, EndOfInputError."""
    pos = skip_space(text, pos)
    start = pos
    if pos >= len(text):
        raise EndOfInputError(True)
    try:
        return start, _scan(text, pos)
    except IndexError:
        raise EndOfInputError(False) from None


def skip_space(text: bytes, pos: int) -> int:
    while pos < len(text) and text[pos] in _SPACE:
        pos += 1
    return pos


def _scan(text: bytes, pos: int) -> int:
    """The end of the value at `pos`. Raises IndexError where the text ends too early."""
    open_with: list[int] = []
    while True:
        # A value begins here.
        while text[pos] in _SPACE:
            pos += 1
        char = text[pos]
        if char in b"{[":
            open_with.append(char)
            if len(open_with) > DEPTH_MAX:
                raise GoJsonError("exceeded max depth")
            pos += 1
            while text[pos] in _SPACE:
                pos += 1
            if text[pos] == char + 2:  # } or ]
                pos += 1
                open_with.pop()
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
            while text[pos] in _SPACE:
                pos += 1
            char = text[pos]
            pos += 1
            if open_with[-1] == ord("["):
                if char == ord(","):
                    break
                if char != ord("]"):
                    raise _bad(char, "after array element")
            else:
                if char == ord(","):
                    while text[pos] in _SPACE:
                        pos += 1
                    pos = _scan_key(text, pos)
                    break
                if char != ord("}"):
                    raise _bad(char, "after object key:value pair")
            open_with.pop()
        else:
            return pos


def _scan_key(text: bytes, pos: int) -> int:
    if text[pos] != ord('"'):
        raise _bad(text[pos], "looking for beginning of object key string")
    pos = _scan_string(text, pos + 1)
    while text[pos] in _SPACE:
        pos += 1
    if text[pos] != ord(":"):
        raise _bad(text[pos], "after object key")
    return pos + 1


def _scan_string(text: bytes, pos: int) -> int:
    while True:
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


def object_fields(raw: bytes) -> dict[str, bytes]:
    """The fields of a value that was scanned; none of `null`. Raises GoJsonError when it is no object."""
    if raw == b"null":
        return {}
    if raw[:1] != b"{":
        raise mismatch(raw, "map[string]json.RawMessage")
    fields: dict[str, bytes] = {}
    pos = skip_space(raw, 1)
    while raw[pos] != ord("}"):
        start, end = scan(raw, pos)
        name = text_of(raw[start:end])
        pos = skip_space(raw, end) + 1  # the colon
        start, end = scan(raw, pos)
        fields[name] = raw[start:end]
        pos = skip_space(raw, end)
        if raw[pos] == ord(","):
            pos = skip_space(raw, pos + 1)
    return fields


def array_items(raw: bytes) -> list[bytes]:
    """The items of a value that was scanned. Raises GoJsonError when it is no array."""
    if raw[:1] != b"[":
        raise mismatch(raw, "[]json.RawMessage")
    items: list[bytes] = []
    pos = skip_space(raw, 1)
    while raw[pos] != ord("]"):
        start, end = scan(raw, pos)
        items.append(raw[start:end])
        pos = skip_space(raw, end)
        if raw[pos] == ord(","):
            pos = skip_space(raw, pos + 1)
    return items


def text_of(raw: bytes) -> str:
    """The text of a string that was scanned; what is no UTF-8, or half a surrogate pair, becomes U+FFFD as in Go."""
    text: str = json.loads(raw.decode("utf-8", "replace"), strict=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
