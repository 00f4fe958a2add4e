"""Flags as Go's pflag parses them: anywhere, --name=value or --name value, -n value, -nvalue, -- ends them.

Source: github.com/spf13/pflag v1.0.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balsad.ctl.go_text import parse_bool, parse_int
from balsad.durations import format_duration, parse_duration
from balsad.go_quote import quote_go

BOOL: Final = "bool"
INT: Final = "int"
INT64: Final = "int64"
UINT: Final = "uint"
STRING: Final = "string"
DURATION: Final = "duration"
STRINGS: Final = "stringSlice"

Value = bool | int | str | list[str]


class FlagError(Exception):
    """A command line that does not parse."""


class Flag:
    """One flag; durations are kept in nanoseconds. A hidden flag, of a later release, is in no help text."""

    __slots__ = ("changed", "default", "hidden", "kind", "name", "required", "shorthand", "usage", "value")

    def __init__(self, kind: str, name: str, default: Value, usage: str, shorthand: str = "") -> None:
        self.kind = kind
        self.name = name
        self.value = default
        self.usage = usage
        self.shorthand = shorthand
        self.changed = False
        self.required = False
        self.hidden = False
        self.default = self.text()

    @property
    def takes_value(self) -> bool:
        """Whether the next argument belongs to it."""
        return self.kind != BOOL

    def text(self) -> str:
        """The value as Go prints it."""
        value = self.value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            return "[" + ",".join(value) + "]"
        if self.kind == DURATION:
            assert isinstance(value, int)
            return format_duration(value)
        return str(value)

    def set(self, text: str) -> None:
        """Take a value. Raises ValueError, and then holds a zero as Go's would."""
        if self.kind == STRING:
            self.value = text
        elif self.kind == STRINGS:
            parts = _split_csv(text)
            self.value = [*self.value, *parts] if self.changed and isinstance(self.value, list) else parts
        elif self.kind == BOOL:
            self.value = False
            self.value = parse_bool(text)
        elif self.kind == DURATION:
            self.value = 0
            self.value = parse_duration(text)
        elif self.kind == UINT:
            self.value = 0
            if text.startswith("-"):
                raise ValueError(f"strconv.ParseUint: parsing {quote_go(text)}: invalid syntax")
            self.value = parse_int(text, 0)
        else:
            self.value = 0
            self.value = parse_int(text, 0)
        self.changed = True


def _split_csv(text: str) -> list[str]:
    """One line of comma separated values. Raises ValueError."""
    if not text:
        return []
    text = text.split("\n", 1)[0]
    parts: list[str] = []
    pos = 0
    while True:
        if text[pos : pos + 1] == '"':
            part = ""
            pos += 1
            while True:
                end = text.find('"', pos)
                if end < 0:
                    raise ValueError(
                        'record on line 1; parse error on line 2, column 0: extraneous or missing " in quoted-field'
                    )
                part += text[pos:end]
                pos = end + 1
                if text[pos : pos + 1] != '"':
                    break
                part += '"'
                pos += 1
            if text[pos : pos + 1] not in ("", ","):
                raise ValueError(f'parse error on line 1, column {pos}: extraneous or missing " in quoted-field')
            end = pos
        else:
            end = text.find(",", pos)
            end = len(text) if end < 0 else end
            part = text[pos:end]
            if '"' in part:
                raise ValueError(
                    f'parse error on line 1, column {pos + part.index(chr(34))}: bare " in non-quoted-field'
                )
        parts.append(part)
        if end >= len(text):
            return parts
        pos = end + 1


class FlagSet:
    """Flags by name, and the arguments that were left when they were parsed."""

    def __init__(self, flags: Iterable[Flag] = ()) -> None:
        self.flags: dict[str, Flag] = {}
        self.args: list[str] = []
        for flag in flags:
            self.add(flag)

    def add(self, flag: Flag) -> None:
        self.flags.setdefault(flag.name, flag)

    def merge(self, other: FlagSet) -> None:
        for flag in other.flags.values():
            self.add(flag)

    def in_order(self) -> list[Flag]:
        return [self.flags[name] for name in sorted(self.flags)]

    def by_shorthand(self, letter: str) -> Flag | None:
        return next((flag for flag in self.flags.values() if flag.shorthand == letter), None)

    # ---- typed values

    def on(self, name: str) -> bool:
        value = self.flags[name].value
        assert isinstance(value, bool)
        return value

    def number(self, name: str) -> int:
        value = self.flags[name].value
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        value = self.flags[name].value
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> list[str]:
        value = self.flags[name].value
        assert isinstance(value, list)
        return list(value)

    def seconds(self, name: str) -> float:
        return self.number(name) / 1e9

    # ---- parsing

    def parse(self, args: list[str]) -> None:
        """Set the flags in `args`; what is no flag is left in `self.args`. Raises FlagError."""
        self.args = []
        rest = list(args)
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                self.args += rest
                return
            if arg.startswith("--"):
                self._parse_long(arg, rest)
            elif arg.startswith("-") and len(arg) > 1:
                letters = arg[1:]
                while letters:
                    letters = self._parse_short(letters, rest)
            else:
                self.args.append(arg)

    def _parse_long(self, arg: str, rest: list[str]) -> None:
        name = arg[2:]
        if name[0] in "-=":
            raise FlagError(f"bad flag syntax: {arg}")
        name, equals, value = name.partition("=")
        flag = self.flags.get(name)
        if flag is None:
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if not flag.takes_value:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {arg}")
        _set(flag, value)

    def _parse_short(self, letters: str, rest: list[str]) -> str:
        """Take the first letter's flag; gives the letters that are left."""
        flag = self.by_shorthand(letters[0])
        if flag is None:
            raise FlagError(f"unknown shorthand flag: {_quote_rune(letters[0])} in -{letters}")
        left = ""
        if len(letters) > 2 and letters[1] == "=":
            value = letters[2:]
        elif not flag.takes_value:
            value, left = "true", letters[1:]
        elif len(letters) > 1:
            value = letters[1:]
        elif rest:
            value = rest.pop(0)
        else:
            raise FlagError(f"flag needs an argument: {_quote_rune(letters[0])} in -{letters}")
        _set(flag, value)
        return left


def _quote_rune(char: str) -> str:
    inner = quote_go(char)[1:-1]
    return "'" + {'\\"': '"', "'": "\\'"}.get(inner, inner) + "'"


def _set(flag: Flag, value: str) -> None:
    try:
        flag.set(value)
    except ValueError as error:
        name = f"-{flag.shorthand}, --{flag.name}" if flag.shorthand else f"--{flag.name}"
        raise FlagError(f"invalid argument {quote_go(value)} for {quote_go(name)} flag: {error}") from None
