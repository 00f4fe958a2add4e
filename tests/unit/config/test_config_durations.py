"""Durations and quotes in Go's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.durations import format_duration, format_seconds, parse_duration
from balsad.go_quote import quote_go


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (882_246, "882.246µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (60_000_000_000, "1m0s"),
        (245_000_000_000, "4m5s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (-7_200_000_000_000, "-2h0m0s"),
        ((1 << 63) - 1, "2562047h47m16.854775807s"),
    ],
)
def test_formats(nanoseconds: int, text: str) -> None:
    """Source: Go time_test.go durationTests."""
    assert format_duration(nanoseconds) == text


def test_seconds() -> None:
    assert (format_seconds(0.1), format_seconds(7200.0)) == ("100ms", "2h0m0s")


@given(st.integers(min_value=-(1 << 62), max_value=1 << 62))
def test_what_is_printed_can_be_read(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("+5s", 5_000_000_000),
        ("-.5s", -500_000_000),
        ("5.s", 5_000_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("10us", 10_000),
        ("10μs", 10_000),
        ("0.3333333333333333333h", 1_200_000_000_000),
    ],
)
def test_reads(text: str, nanoseconds: int) -> None:
    """Source: Go time_test.go parseDurationTests."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'time: invalid duration ""'),
        ("3", 'time: missing unit in duration "3"'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="time: ") as refusal:
        parse_duration(text)

    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a b", '"a b"'),
        ('a"\\', '"a\\"\\\\"'),
        ("\n\t\x01\x7f", '"\\n\\t\\x01\\x7f"'),
        ("ü\u200b", '"ü\\u200b"'),
        ("\udcff", '"\\xff"'),
    ],
)
def test_quotes(text: str, quoted: str) -> None:
    """Source: Go strconv.Quote."""
    assert quote_go(text) == quoted
