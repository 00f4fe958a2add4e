"""Spans of time in Go's words: `1h30m`, `1.5s`, `882.246µs`. Held as whole nanoseconds.

Source: Go time.ParseDuration and time.Duration.String.
"""

from __future__ import annotations

import re
from typing import Final

from balsad.go_quote import quote_go

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

_UNITS: Final = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_PART: Final = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>[^0-9.]*)")
_NANOSECONDS_MAX: Final = (1 << 63) - 1


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as `300ms`, `-1.5h` or `2h45m`; a bare `0` needs no unit.

    Raises: ValueError, in the words of Go's time.ParseDuration.
    """
    quoted = quote_go(text)
    invalid = f"time: invalid duration {quoted}"
    rest = text
    negative = rest.startswith("-")
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(invalid)
    total = 0
    while rest:
        part = _PART.match(rest)
        assert part is not None
        whole, fraction, unit = part["whole"], part["fraction"] or "", part["unit"]
        if not whole and not fraction:
            raise ValueError(invalid)
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote_go(unit)} in duration {quoted}")
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            digits = fraction[:19]
            if int(digits) > _NANOSECONDS_MAX:
                digits = fraction[:18]
            total += int(float(int(digits)) * (scale / 10 ** len(digits)))  # in floats, as Go does
        if total > _NANOSECONDS_MAX:
            raise ValueError(invalid)
        rest = rest[part.end() :]
    return -total if negative else total


def format_duration(nanoseconds: int) -> str:
    """How Go prints a time.Duration: `0s`, `100ms`, `1.5s`, `1h0m0s`."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    span = abs(nanoseconds)
    if span < MICROSECOND:
        return f"{sign}{span}ns"
    if span < MILLISECOND:
        return f"{sign}{_decimal(span, 3)}µs"
    if span < SECOND:
        return f"{sign}{_decimal(span, 6)}ms"
    minutes, rest = divmod(span, MINUTE)
    text = f"{_decimal(rest, 9)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return sign + text


def format_seconds(seconds: float) -> str:
    """format_duration of seconds, as the house's clocks count them."""
    return format_duration(round(seconds * SECOND))


def _decimal(value: int, digits: int) -> str:
    whole, fraction = divmod(value, 10**digits)
    return f"{whole}.{fraction:0{digits}d}".rstrip("0").rstrip(".")
