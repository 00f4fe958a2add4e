"""A profile: how much was counted at which stack. As a gzipped profile.proto, or in Go's text form.

    2 @ 0x1 0x2                                  two were seen at this stack, innermost function first
    #	0x1	balsad.main._first+0x0	.../main.py:330
    #	0x2	balsad.main.run+0x0	.../main.py:244

Python has no program counters: a place gets the number under which it first occurs for its address.
Source: google/pprof proto/profile.proto; Go runtime/pprof printCountProfile.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from balsad.wire import bytes_field, uvarint, varint

TIME_NANOS: Final = 9
DURATION_NANOS: Final = 10
PERIOD: Final = 12
DEFAULT_SAMPLE_TYPE: Final = 14


class Place(NamedTuple):
    """A line of a function."""

    function: str
    file: str
    line: int


Stack = tuple[Place, ...]
"""Innermost first."""


class ValueType(NamedTuple):
    kind: str
    unit: str


def encode(
    counts: Mapping[Stack, Sequence[int]],
    types: Sequence[ValueType],
    *,
    period: tuple[ValueType, int],
    time_ns: int,
    duration_ns: int = 0,
    default_type: str = "",
) -> bytes:
    """The gzipped profile.proto; every stack has a value for each type."""
    strings: dict[str, int] = {"": 0}
    places: dict[Place, int] = {}
    functions: dict[tuple[str, str], int] = {}
    out = bytearray()

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings))

    def value_type(number: int, of: ValueType) -> bytes:
        return bytes_field(number, _numbers((1, text(of.kind)), (2, text(of.unit))))

    for each in types:
        out += value_type(1, each)
    for stack, values in counts.items():
        ids = b"".join(uvarint(places.setdefault(place, len(places) + 1)) for place in stack)
        out += bytes_field(2, bytes_field(1, ids) + bytes_field(2, b"".join(map(varint, values))))
    for place, number in places.items():
        function = functions.setdefault(place[:2], len(functions) + 1)
        line = bytes_field(4, _numbers((1, function), (2, place.line)))
        out += bytes_field(4, _numbers((1, number), (3, number)) + line)
    for (name, file), number in functions.items():
        out += bytes_field(5, _numbers((1, number), (2, text(name)), (3, text(name)), (4, text(file))))
    period_type, period_length = period
    tail = value_type(11, period_type) + _numbers((PERIOD, period_length), (DEFAULT_SAMPLE_TYPE, text(default_type)))
    for value in strings:
        out += _tag(6, 2) + uvarint(len(value.encode("utf-8", "replace"))) + value.encode("utf-8", "replace")
    out += tail + _numbers((TIME_NANOS, time_ns), (DURATION_NANOS, duration_ns))
    return gzip.compress(bytes(out), compresslevel=1)


def count_text(name: str, stacks: Iterable[Stack]) -> str:
    """`goroutine profile: total 2`, then each stack with how often it occurs, the most frequent first."""
    counts: dict[Stack, int] = {}
    for stack in stacks:
        counts[stack] = counts.get(stack, 0) + 1
    addresses: dict[Place, int] = {}
    blocks = [
        f"{count} @{stack_text(stack, addresses)}\n"
        for stack, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return f"{name} profile: total {sum(counts.values())}\n" + "".join(blocks)


def stack_text(stack: Stack, addresses: dict[Place, int]) -> str:
    """The addresses of a stack, and a line for each. `addresses` is filled."""
    numbers = [addresses.setdefault(place, len(addresses) + 1) for place in stack]
    lines = (
        f"#\t{number:#x}\t{place.function}+0x0\t{place.file}:{place.line}\n"
        for number, place in zip(numbers, stack, strict=True)
    )
    return "".join(f" {number:#x}" for number in numbers) + "\n" + "".join(lines)


def _numbers(*fields: tuple[int, int]) -> bytes:
    return b"".join(_tag(number, 0) + varint(value) for number, value in fields if value)


def _tag(number: int, kind: int) -> bytes:
    return uvarint(number << 3 | kind)
