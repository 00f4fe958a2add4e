"""How Go reads numbers and quoted strings, and how etcdctl writes sizes.

etcdctl's words are an interface, and Go's strconv and go-humanize wrote many
of them. Strings carry bytes that are no UTF-8 as lone surrogates, as Python's
"surrogateescape" does.
"""

from __future__ import annotations

from typing import Final

from balsad.go_quote import quote_go

_INT64_MAX: Final = (1 << 63) - 1
_UINT64_MAX: Final = (1 << 64) - 1
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")


def text_of(data: bytes) -> str:
    """Bytes as a string that can be turned back into the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The bytes of a string made by `text_of`."""
    return text.encode("utf-8", "surrogateescape")


def back_quote(text: str) -> str:
    """A string as %#q writes it: in back quotes where that is possible."""
    if "`" in text or any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in text):
        return quote_go(text)
    return f"`{text}`"


def unquote(text: str) -> str:
    """The string that a Go literal in double or back quotes stands for. Raises ValueError."""
    if len(text) >= 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        return text[1:-1].replace("\r", "")
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError("invalid syntax")
    out = bytearray()
    pos, end = 1, len(text) - 1
    simple = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
    while pos < end:
        char = text[pos]
        pos += 1
        if char in '"\n':
            raise ValueError("invalid syntax")
        if char != "\\":
            out += bytes_of(char)
            continue
        if pos >= end:
            raise ValueError("invalid syntax")
        kind = text[pos]
        pos += 1
        if kind in simple:
            out.append(simple[kind])
            continue
        size = {"x": 2, "u": 4, "U": 8}.get(kind)
        digits, base = (text[pos : pos + size], 16) if size else (text[pos - 1 : pos + 2], 8)
        wanted = size or 3
        if len(digits) != wanted or pos - (0 if size else 1) + wanted > end:
            raise ValueError("invalid syntax")
        if any(digit not in ("0123456789abcdefABCDEF" if base == 16 else "01234567") for digit in digits):
            raise ValueError("invalid syntax")
        number = int(digits, base)
        pos += wanted if size else 2
        if kind in ("u", "U"):
            if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise ValueError("invalid syntax")
            out += chr(number).encode()
        elif number > 255:
            raise ValueError("invalid syntax")
        else:
            out.append(number)
    return text_of(bytes(out))


def _digits(text: str, base: int) -> int | None:
    """The number, or None if the text is none. Base 0 takes Go's prefixes and underscores."""
    if base == 0:
        lowered = text.lower()
        for prefix, found in (("0x", 16), ("0b", 2), ("0o", 8)):
            if lowered.startswith(prefix):
                return _digits(text[2:].replace("_", ""), found) if text[2:] else None
        if len(text) > 1 and text[0] == "0":
            return _digits(text[1:].replace("_", ""), 8)
        return _digits(text.replace("_", "") if text[:1] != "_" else text, 10)
    allowed = "0123456789abcdef"[:base]
    if not text or any(char not in allowed for char in text.lower()):
        return None
    return int(text, base)


def parse_int(text: str, base: int = 10) -> int:
    """As strconv.ParseInt with 64 bits. Raises ValueError."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    number = _digits(rest, base)
    if number is None:
        raise ValueError(f"strconv.ParseInt: parsing {quote_go(text)}: invalid syntax")
    if number * sign > _INT64_MAX or number * sign < -_INT64_MAX - 1:
        raise ValueError(f"strconv.ParseInt: parsing {quote_go(text)}: value out of range")
    return number * sign


def parse_uint(text: str, base: int = 10) -> int:
    """As strconv.ParseUint with 64 bits. Raises ValueError."""
    number = _digits(text, base)
    if number is None:
        raise ValueError(f"strconv.ParseUint: parsing {quote_go(text)}: invalid syntax")
    if number > _UINT64_MAX:
        raise ValueError(f"strconv.ParseUint: parsing {quote_go(text)}: value out of range")
    return number


def parse_bool(text: str) -> bool:
    """As strconv.ParseBool. Raises ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote_go(text)}: invalid syntax")


def humanize_bytes(size: int) -> str:
    """A size in powers of a thousand: 20 kB, 1.2 MB."""
    if size < 10:
        return f"{size} B"
    value, names = float(size), ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    step = 0
    while value >= 1000 and step < len(names) - 1:
        value /= 1000
        step += 1
    # Rounded to a tenth, half away from zero, before deciding how to write it.
    value = int(size / 1000**step * 10 + 0.5) / 10
    return f"{value:.1f} {names[step]}" if value < 10 else f"{value:.0f} {names[step]}"
