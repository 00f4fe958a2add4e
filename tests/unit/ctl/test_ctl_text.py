"""Tabs, tables, numbers, quoted words: text as Go and its packages make it."""

from __future__ import annotations

import pytest

from balsad.ctl.go_text import back_quote, bytes_of, humanize_bytes, parse_int, parse_uint, text_of, unquote
from balsad.ctl.printers.table import table_text
from balsad.ctl.tabwriter import align
from balsad.ctl.versions import API_VERSION, VERSION


@pytest.mark.parametrize(
    ("text", "aligned"),
    [
        ("a\tb\nccc\td\n", "a\tb\nccc\td\n"),
        ("a\tb\nccccccc\td\n", "a\tb\nccccccc\td\n"),
        ("a\tb\ncccccccc\td\n", "a\t\tb\ncccccccc\td\n"),
        ("\ta\tb\n\tcccccccc\td\n", "\ta\t\tb\n\tcccccccc\td\n"),
        ("long cell one\tx\n\na\ty\n", "long cell one\tx\n\na\ty\n"),
        ("no tabs\na\tb\n", "no tabs\na\tb\n"),
        ("a\tb\tc\naaaaaaaaa\tbbbbbbbbb\tc\n", "a\t\tb\t\tc\naaaaaaaaa\tbbbbbbbbb\tc\n"),
    ],
)
def test_columns_are_aligned_block_by_block(text: str, aligned: str) -> None:
    assert align(text) == aligned


def test_a_table() -> None:
    assert table_text(["ID", "db_size"], [["1", "20 kB"], ["22222222", ""]]).splitlines() == [
        "+----------+---------+",
        "|    ID    | DB SIZE |",
        "+----------+---------+",
        "|        1 |   20 kB |",
        "| 22222222 |         |",
        "+----------+---------+",
    ]


def test_a_table_without_rows() -> None:
    assert table_text(["a"], []).splitlines() == ["+---+", "| A |", "+---+", "+---+"]


def test_long_cells_are_wrapped_as_evenly_as_they_can_be() -> None:
    text = "memberID:10276657743932975437 alarm:NOSPACE , memberID:1 alarm:CORRUPT "

    assert table_text(["errors"], [[text]]).splitlines() == [
        "+--------------------------------+",
        "|             ERRORS             |",
        "+--------------------------------+",
        "|  memberID:10276657743932975437 |",
        "|     alarm:NOSPACE , memberID:1 |",
        "|                 alarm:CORRUPT  |",
        "+--------------------------------+",
    ]


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (20480, "20 kB"), (9949, "9.9 kB")]
    + [(9950, "10 kB"), (1_234_567, "1.2 MB"), (2_147_483_648, "2.1 GB"), (999_999, "1000 kB")],
)
def test_sizes(size: int, words: str) -> None:
    """Source: go-humanize's tests, and etcdctl's tables."""
    assert humanize_bytes(size) == words


@pytest.mark.parametrize(
    ("text", "base", "number"),
    [("12", 10, 12), ("-7", 10, -7), ("+7", 10, 7), ("ff", 16, 255), ("0x1F", 0, 31), ("0b11", 0, 3), ("0o17", 0, 15)],
)
def test_numbers(text: str, base: int, number: int) -> None:
    assert parse_int(text, base) == number


@pytest.mark.parametrize("text", ["", "-", "x", "1 ", "1.0", "0x", "\u0663", "--1"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_int(text)


def test_unsigned_numbers() -> None:
    assert parse_uint("ffffffffffffffff", 16) == 2**64 - 1
    with pytest.raises(ValueError, match="value out of range"):
        parse_uint("10000000000000000", 16)
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_uint("-1", 16)


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"a b"', "a b"),
        ('"a\\"b\\\\"', 'a"b\\'),
        ('"\\x41\\u00e9\\n\\101"', "A\u00e9\nA"),
        ("`raw \\n`", "raw \\n"),
        ('"\\xff"', "\udcff"),
        ('""', ""),
    ],
)
def test_quoted_strings(literal: str, text: str) -> None:
    assert unquote(literal) == text


@pytest.mark.parametrize("literal", ["a", '"a', '"a"b"', '"\\q"', '"\\x4"', '"\\u12"', '"\\400"', '"\\ud800"', '"\\'])
def test_what_is_no_quoted_string(literal: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        unquote(literal)


def test_bytes_survive_as_text() -> None:
    assert bytes_of(text_of(b"a\xff\xc3\xa9")) == b"a\xff\xc3\xa9"


def test_back_quotes_where_they_can_be() -> None:
    assert (back_quote("foo"), back_quote("a`b"), back_quote("a\nb")) == ("`foo`", '"a`b"', '"a\\nb"')


def test_the_tools_name_the_servers_release() -> None:
    from balsad.config import versions

    assert (VERSION, API_VERSION) == (versions.ETCD_VERSION, versions.API_VERSION)
