"""Scenario files: commands, and what they print.

    # a comment
    campaign 1 key=value other=(1,2)
    input lines
    ----
    expected output, up to a blank line

Output that has blank lines itself stands between two pairs of `----`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_ARGUMENT = re.compile(r"\s*([^\s=()]+)(?:=(\([^)]*\)|[^\s(]*))?")


class Argument(NamedTuple):
    key: str
    values: list[str]


class Command(NamedTuple):
    line: int
    name: str
    arguments: list[Argument]
    input: str
    expected: str

    def value(self, key: str) -> str | None:
        for argument in self.arguments:
            if argument.key == key and argument.values:
                return argument.values[0]
        return None

    def plain(self) -> list[str]:
        """The arguments without a value."""
        return [argument.key for argument in self.arguments if not argument.values]


def parse_directive(text: str) -> tuple[str, list[Argument]]:
    parts: list[Argument] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _ARGUMENT.match(text, position)
        if match is None or match.end() == position:
            raise ValueError(f"cannot parse directive {text!r} at column {position}")
        key, value = match.groups()
        if value is None:
            values = []
        elif value.startswith("("):
            values = [part.strip() for part in value[1:-1].split(",")] if value != "()" else []
        else:
            values = [value]
        parts.append(Argument(key, values))
        position = match.end()
    return parts[0].key, parts[1:]


def parse(path: Path) -> list[Command]:
    lines = path.read_text(encoding="utf-8").split("\n")
    commands: list[Command] = []
    at = 0
    while at < len(lines):
        start = at
        directive = lines[at].strip()
        at += 1
        if not directive or directive.startswith("#"):
            continue
        while directive.endswith("\\") and at < len(lines):
            directive = directive[:-1].rstrip() + " " + lines[at].strip()
            at += 1
        name, arguments = parse_directive(directive)
        if name == "subtest":
            continue
        given: list[str] = []
        while at < len(lines) and lines[at] != "----":
            given.append(lines[at])
            at += 1
        if at == len(lines):
            raise ValueError(f"{path}:{start + 1}: {name} has no ---- line")
        at += 1
        expected: list[str] = []
        if at < len(lines) and lines[at] == "----":
            at += 1
            while at + 1 < len(lines) and not (lines[at] == "----" and lines[at + 1] == "----"):
                expected.append(lines[at])
                at += 1
            at += 2
        else:
            while at < len(lines) and lines[at].strip():
                expected.append(lines[at])
                at += 1
        commands.append(Command(start + 1, name, arguments, "\n".join(given), "\n".join(expected)))
    return commands
