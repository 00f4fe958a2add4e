"""JSON of any depth: the standard reader where it can, else one that does not recurse.

A key of the v2 tree may have thousands of parts, each of which takes two
levels of a snapshot's JSON; the standard reader stops at about five hundred.
"""

from __future__ import annotations

import json
import re
from typing import Final

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


def loads(text: str) -> object:
    """The value in `text`. Raises ValueError."""
    try:
        value: object = json.loads(text)
    except RecursionError:
        value = _loads_flat(text)
    return value


def _loads_flat(text: str) -> object:
    """Like json.loads, with the open arrays and objects in a list."""
    root: list[object] = []
    containers: list[list[object] | dict[str, object]] = [root]
    keys: list[str] = [""]
    pos = _skip(text, 0)
    while True:
        # A value, or the end of an empty container, is due at `pos`.
        char = text[pos : pos + 1]
        opened: list[object] | dict[str, object] | None = None
        if char == "{":
            opened = {}
        elif char == "[":
            opened = []
        if opened is not None:
            _store(containers[-1], keys[-1], opened)
            containers.append(opened)
            keys.append("")
            pos = _skip(text, pos + 1)
            if isinstance(opened, dict) and text[pos : pos + 1] != "}":
                keys[-1], pos = _key(text, pos)
                continue
            if isinstance(opened, list) and text[pos : pos + 1] != "]":
                continue
        else:
            value, pos = _scalar(text, pos)
            _store(containers[-1], keys[-1], value)
            pos = _skip(text, pos)
        # Close what ends here, up to the next comma.
        while len(containers) > 1:
            container = containers[-1]
            char = text[pos : pos + 1]
            if char == ("}" if isinstance(container, dict) else "]"):
                containers.pop()
                keys.pop()
                pos = _skip(text, pos + 1)
                continue
            if char != ",":
                raise ValueError(f"expected a comma or the end of {type(container).__name__} at character {pos}")
            pos = _skip(text, pos + 1)
            if isinstance(container, dict):
                keys[-1], pos = _key(text, pos)
            break
        else:
            if pos != len(text):
                raise ValueError(f"expected the end at character {pos}")
            return root[0]


def _skip(text: str, pos: int) -> int:
    match = _SPACE.match(text, pos)
    return pos if match is None else match.end()


def _store(container: list[object] | dict[str, object], key: str, value: object) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container.append(value)


def _key(text: str, pos: int) -> tuple[str, int]:
    if text[pos : pos + 1] != '"':
        raise ValueError(f"expected a string at character {pos}")
    key, pos = _DECODER.raw_decode(text, pos)
    pos = _skip(text, pos)
    if text[pos : pos + 1] != ":":
        raise ValueError(f"expected a colon at character {pos}")
    return key, _skip(text, pos + 1)


def _scalar(text: str, pos: int) -> tuple[object, int]:
    value, end = _DECODER.raw_decode(text, pos)
    return value, end
