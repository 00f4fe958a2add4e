"""Flags as etcdctl's v2 command line has them: one dash or two, before or behind the arguments.

    set KEY VALUE --ttl 100        is read as        set --ttl 100 KEY VALUE

Flags of a command may stand anywhere behind it: they are moved to the front first, with the word behind each flag
that has no `=`, whether the flag takes a value or not. What Go's flag package then makes of it is the command line.

Source: github.com/urfave/cli v1.22 (reorderArgs, normalizeFlags), Go's flag package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from balsad.ctl.go_text import parse_bool, parse_int
from balsad.durations import parse_duration
from balsad.go_quote import quote_go

BOOL: Final = "bool"
STRING: Final = "string"
STRINGS: Final = "strings"
INT: Final = "int"
DURATION: Final = "duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag under all its names; `default` as help shows it, `value_name` what stands for its value there."""

    names: tuple[str, ...]
    usage: str
    kind: str = BOOL
    default: str = ""
    value_name: str = "value"

    @property
    def help_line(self) -> tuple[str, str]:
        """The two columns of help."""
        placeholder = "" if self.kind == BOOL else f" {self.value_name}"
        forms = [f"{'-' if len(name) == 1 else '--'}{name}{placeholder}" for name in self.names]
        shown = quote_go(self.default) if self.kind == STRING and self.default else self.default
        return ", ".join(forms), self.usage + (f" (default: {shown})" if shown and self.kind != BOOL else "")


HELP: Final = Flag(names=("help", "h"), usage="show help")
VERSION: Final = Flag(names=("version", "v"), usage="print the version")


class UsageError(Exception):
    """A command line that is none."""


class DoubledFlagError(UsageError):
    """A flag was given under two of its names."""


class Values:
    """The flags that were given, by every one of their names, and what is no flag."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self._flags = {name: flag for flag in flags for name in flag.names}
        self._given: dict[str, str | list[str]] = {}
        self._forms: dict[str, list[str]] = {}
        self.args: list[str] = []

    def parse(self, words: list[str]) -> None:
        """Raises UsageError."""
        rest = list(words)
        while rest:
            word = rest[0]
            if len(word) < 2 or word[0] != "-":
                break
            rest.pop(0)
            if word == "--":
                break
            self._take(word, rest)
        self.args = rest
        for name, forms in self._forms.items():
            if len(forms) > 1:
                flag = self._flags[name]
                # As urfave/cli reports it: the form it looks at, then the first one.
                second = next(form for form in flag.names if form in forms and form != flag.names[0])
                raise DoubledFlagError(f"Cannot use two forms of the same flag: {second} {flag.names[0]}")

    def _take(self, word: str, rest: list[str]) -> None:
        name = word[2:] if word.startswith("--") else word[1:]
        if not name or name[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        name, has_value, value = name.partition("=")
        flag = self._flags.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if flag.kind == BOOL:
            value = value if has_value else "true"
        elif not has_value:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        _check(flag, name, value)
        key = flag.names[0]
        forms = self._forms.setdefault(key, [])
        if name not in forms:
            forms.append(name)
        if flag.kind == STRINGS:
            kept = self._given.setdefault(key, [])
            assert isinstance(kept, list)
            kept.append(value)
        else:
            self._given[key] = value

    def text(self, name: str) -> str:
        value = self._given.get(name, self._flags[name].default)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> list[str]:
        value = self._given.get(name, [])
        assert isinstance(value, list)
        return value

    def on(self, name: str) -> bool:
        return parse_bool(self.text(name) or "false")

    def number(self, name: str) -> int:
        return parse_int(self.text(name) or "0", 0)

    def index(self, name: str) -> int:
        """A number as Go makes it a uint64: a negative one is a very large one."""
        return self.number(name) % (1 << 64)

    def seconds(self, name: str) -> float:
        return parse_duration(self.text(name)) / 1e9


def _check(flag: Flag, name: str, value: str) -> None:
    """Raises UsageError, in the words of Go's flag package."""
    try:
        if flag.kind == BOOL:
            parse_bool(value)
        elif flag.kind == INT:
            parse_int(value, 0)
        elif flag.kind == DURATION:
            parse_duration(value)
    except ValueError as error:
        why = "value out of range" if flag.kind == INT and "out of range" in str(error) else "parse error"
        if flag.kind == BOOL:
            raise UsageError(f"invalid boolean value {quote_go(value)} for -{name}: {why}") from error
        raise UsageError(f"invalid value {quote_go(value)} for flag -{name}: {why}") from error


def flags_first(flags: Sequence[Flag], words: list[str]) -> list[str]:
    """The words of a command with its flags moved to the front."""
    names = {name for flag in flags for name in flag.names}
    front: list[str] = []
    back: list[str] = []
    may_be_value = False
    for number, word in enumerate(words):
        if word == "--":
            back += words[number:]
            break
        if may_be_value and not word.startswith("-"):
            may_be_value = False
            front.append(word)
        elif _is_flag(names, word):
            front.append(word)
            may_be_value = "=" not in word
        else:
            back.append(word)
    return front + back


def _is_flag(names: set[str], word: str) -> bool:
    if word == "-" or not word.startswith("-"):
        return False
    bare = word[2:] if word.startswith("--") else word[1:]
    return bare.removeprefix("-").partition("=")[0] in names
