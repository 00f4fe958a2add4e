"""The lines of `etcdctl txn`. Refusals were asked of etcdctl 3.5.1."""

from __future__ import annotations

import os

import pytest

from balsad.client.messages import Compare, DeleteRangeRequest, PutRequest, RangeRequest
from balsad.ctl.commands.txn import parse_compare, parse_request, split_words
from balsad.ctl.console import Console, Failure


@pytest.mark.parametrize(
    ("line", "compare"),
    [
        ('mod("k") > "3"', Compare(key=b"k", target=Compare.MOD, result=Compare.GREATER, mod_revision=3)),
        ('m("k") < "3"', Compare(key=b"k", target=Compare.MOD, result=Compare.LESS, mod_revision=3)),
        ('create("k") = "0"', Compare(key=b"k", target=Compare.CREATE, create_revision=0)),
        ("c(`k`) != `0`", Compare(key=b"k", target=Compare.CREATE, result=Compare.NOT_EQUAL, create_revision=0)),
        ('ver("a b") = "1" and more', Compare(key=b"a b", target=Compare.VERSION, version=1)),
        ('version("\\x00") = "-1"', Compare(key=b"\0", target=Compare.VERSION, version=-1)),
        ('val("k") = ""', Compare(key=b"k", target=Compare.VALUE, value=b"")),
        ('value( "k")   =   "v"', Compare(key=b"k", target=Compare.VALUE, value=b"v")),
        ('lease("k") = "1f"', Compare(key=b"k", target=Compare.LEASE, lease=31)),
    ],
)
def test_compares(line: str, compare: Compare) -> None:
    assert parse_compare(line) == compare


@pytest.mark.parametrize(
    ("line", "words", "status"),
    [
        ("nonsense", "malformed comparison: nonsense", 3),
        ('val("a")="1"', 'malformed comparison: val("a")="1"; got val("a")  ""', 3),
        ('val("a") ="1"', 'malformed comparison: val("a") ="1"; got val("a") ="1" ""', 3),
        ("val(a) = 1", 'malformed comparison: val(a) = 1; got val("")  ""', 3),
        ('val("a" = "1"', 'malformed comparison: val("a" = "1"; got val("a")  ""', 3),
        ('foo("a") = "1"', 'malformed comparison: foo("a") = "1" (unknown target foo)', 3),
        ('mod("a") = "x"', 'invalid txn compare request: mod("a") = "x"', 3),
        ('mod("a") ~ "1"', "Unknown result op", 2),
    ],
)
def test_what_is_no_compare(line: str, words: str, status: int) -> None:
    with pytest.raises(Failure) as raised:
        parse_compare(line)

    assert (raised.value.text, raised.value.status) == (words, status)


@pytest.fixture
def console() -> Console:
    null = os.open(os.devnull, os.O_WRONLY)
    return Console(null, null)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("put k v", PutRequest(key=b"k", value=b"v")),
        ('put "k 1" "v\\n" --prev-kv', PutRequest(key=b"k 1", value=b"v\n", prev_kv=True)),
        ("put 'it is' x --lease=1f", PutRequest(key=b"it is", value=b"x", lease=31)),
        ("pu k v", PutRequest(key=b"k", value=b"v")),
        ("get k", RangeRequest(key=b"k")),
        ("get --prefix k --limit 3", RangeRequest(key=b"k", range_end=b"l", limit=3)),
        ('get --prefix ""', RangeRequest(key=b"\0", range_end=b"\0")),
        ("get k --sort-by=version --order=descend", RangeRequest(key=b"k", sort_target=1, sort_order=2)),
        ("get k --sort-by=key --order=ascend", RangeRequest(key=b"k")),
        ("del a b --prev-kv", DeleteRangeRequest(key=b"a", range_end=b"b", prev_kv=True)),
        ("del --from-key a", DeleteRangeRequest(key=b"a", range_end=b"\0")),
    ],
)
def test_requests(console: Console, line: str, request_: object) -> None:
    assert parse_request(console, line) == request_


@pytest.mark.parametrize(
    ("line", "words", "status"),
    [
        ("put", "invalid txn compare request: put", 3),
        ("foo a", "invalid txn request: foo a", 3),
        ("get a --nosuch", "invalid txn request: get a --nosuch", 3),
        ("get a --order=x", "bad sort order x", 4),
        ("del a b c", "del command needs one argument as key and an optional argument as range_end", 128),
        ('put "\\q" x', "invalid syntax", 3),
    ],
)
def test_what_is_no_request(console: Console, line: str, words: str, status: int) -> None:
    with pytest.raises(Failure) as raised:
        parse_request(console, line)

    assert (raised.value.text, raised.value.status) == (words, status)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('"a b" \'c d\' e"f', ["a b", "c d", 'e"f']),
        ('"say \\"hi\\""', ['say "hi"']),
        ("''", [""]),
        ("", []),
    ],
)
def test_words_of_a_line(line: str, words: list[str]) -> None:
    assert split_words(line) == words
