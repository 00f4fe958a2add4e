"""Moments as Go's time.Time writes them in JSON: RFC 3339 with up to nine digits of a second.

    1637574600123456000 ns   2021-11-22T09:50:00.123456Z
    0 (no moment at all)     0001-01-01T00:00:00Z, Go's zero time

Source: Go time.Time.MarshalJSON.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

NS: Final = 1_000_000_000
ZERO_TEXT: Final = "0001-01-01T00:00:00Z"

_FORM: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1 to 9999, as text has them.
_SECONDS_MIN: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_SECONDS_MAX: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


def format_ns(unix_ns: int) -> str:
    """The moment in UTC; 0 is Go's zero time."""
    if unix_ns == 0:
        return ZERO_TEXT
    seconds, fraction = divmod(unix_ns, NS)
    # Not strftime, whose years before 1000 have fewer digits.
    text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(timespec="seconds")
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + "Z"


def parse_ns(text: str) -> int:
    """Unix nanoseconds of the moment, in whatever zone; 0 for Go's zero time. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    if text.startswith("0001-01-01T00:00:00"):
        return 0
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC) - _EPOCH
    seconds = moment.days * 86400 + moment.seconds
    if sign:
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds += offset if sign == "-" else -offset
        if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
            raise ValueError(f"not a time: {text!r}")
    return seconds * NS + int((fraction or "").ljust(9, "0"))
