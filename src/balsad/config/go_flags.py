"""Command lines as Go's flag package reads them, and values as its flag types do.

`-x v`, `-x=v`, `--x v` and `--x=v` are one; a bool takes its value after `=` only; the first word that is no
flag, or `--`, ends the flags. Source: Go flag.FlagSet.parseOne, strconv.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from balsad.config.urls import Url, parse_urls
from balsad.durations import SECOND, parse_duration
from balsad.go_quote import quote_go

PARSE_ERROR: Final = "parse error"
RANGE_ERROR: Final = "value out of range"

Value = bool | int | float | str | tuple[str, ...] | tuple[Url, ...]
Parse = Callable[[str], Value | None]
"""Text to value; None leaves the value as it was. Raises ValueError with the reason."""

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class UsageError(ValueError):
    """The command line is wrong in a way that Go's flag package tells with the usage."""


class HelpRequested(Exception):
    """`-h`, `-help` or `--help`."""


@dataclass(slots=True)
class ParsedLine:
    """What a command line holds: the flags in order of their appearance, and the words after them."""

    flags: list[tuple[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def split_line(arguments: list[str], is_bool: Mapping[str, bool], check: Callable[[str, str], None]) -> ParsedLine:
    """Read flags until they end; `is_bool` knows the flags, `check(name, value)` raises ValueError for bad values.

    Raises: UsageError, HelpRequested.
    """
    line = ParsedLine()
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if len(word) < 2 or word[0] != "-":
            break
        position += 1
        if word == "--":
            break
        body = word[2:] if word.startswith("--") else word[1:]
        if body[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        name, equals, value = body.partition("=")
        if name not in is_bool:
            if name in ("help", "h"):
                raise HelpRequested
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals:
            if is_bool[name]:
                value = "true"
            elif position == len(arguments):
                raise UsageError(f"flag needs an argument: -{name}")
            else:
                value = arguments[position]
                position += 1
        try:
            check(name, value)
        except ValueError as problem:
            kind = "boolean value" if is_bool[name] else "value"
            joint = "for" if is_bool[name] else "for flag"
            raise UsageError(f"invalid {kind} {quote_go(value)} {joint} -{name}: {problem}") from None
        line.flags.append((name, value))
    line.words = arguments[position:]
    return line


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(PARSE_ERROR)


_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)|0[bB](?P<bin>_?[01]+(?:_[01]+)*)"
    r"|0[oO]?(?P<oct>_?[0-7]+(?:_[0-7]+)*)|(?P<dec>0|[1-9][0-9]*(?:_[0-9]+)*))"
)
_BASES: Final = {"dec": 10, "hex": 16, "bin": 2, "oct": 8}


def parse_integer(text: str, low: int, high: int) -> int:
    """A number in Go's notation: decimal, 0x, 0o, 0b, or octal after a bare 0. Raises: ValueError."""
    found = _NUMBER.fullmatch(text)
    if found is None or (found["sign"] and low == 0):
        raise ValueError(PARSE_ERROR)
    kind = found.lastgroup or "dec"
    number = int(found[kind].replace("_", ""), _BASES[kind])
    if found["sign"] == "-":
        number = -number
    if not low <= number <= high:
        raise ValueError(RANGE_ERROR)
    return number


def parse_int(text: str) -> int:
    return parse_integer(text, -(1 << 63), (1 << 63) - 1)


def parse_uint(text: str) -> int:
    return parse_integer(text, 0, (1 << 64) - 1)


def parse_uint32(text: str) -> int:
    try:
        return parse_integer(text, 0, (1 << 32) - 1)
    except ValueError as problem:
        reason = "invalid syntax" if str(problem) == PARSE_ERROR else RANGE_ERROR
        raise ValueError(f"strconv.ParseUint: parsing {quote_go(text)}: {reason}") from None


def parse_seconds(text: str) -> float:
    """Seconds of a Go duration."""
    try:
        return parse_duration(text) / SECOND
    except ValueError:
        raise ValueError(PARSE_ERROR) from None


def parse_debug(text: str) -> str | None:
    """The old `--debug`, as a log level."""
    return "debug" if parse_bool(text) else None


def parse_text(text: str) -> str:
    return text


def parse_list(text: str) -> tuple[str, ...]:
    """Comma-separated, in the order given."""
    return tuple(text.split(",")) if text else ()


def parse_set(text: str) -> tuple[str, ...]:
    """Comma-separated, each once, sorted."""
    return tuple(sorted(set(text.split(","))))


def parse_url_list(text: str) -> tuple[Url, ...] | None:
    """Comma-separated URLs, each once; the empty text changes nothing."""
    if text == "":
        return None
    return tuple(sorted(set(parse_urls(text.split(",")))))


def parse_origins(text: str) -> tuple[str, ...]:
    """`*` or comma-separated URLs."""
    if text == "*":
        return ("*",)
    return tuple(sorted({str(url) for url in parse_urls(text.split(","))}))


def one_of(*choices: str) -> Parse:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("invalid value")
        return text

    return parse


def some_of(*choices: str) -> Parse:
    def parse(text: str) -> str:
        for part in text.split(","):
            if part not in choices:
                raise ValueError(f"invalid value {quote_go(part)}")
        return ",".join(sorted(text.split(",")))

    return parse
