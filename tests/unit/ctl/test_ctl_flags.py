"""Flags as pflag parses them. What pflag says was asked of etcdctl 3.5.1."""

from __future__ import annotations

import pytest

from balsad.ctl.flags import BOOL, DURATION, INT64, STRING, STRINGS, Flag, FlagError, FlagSet


def make() -> FlagSet:
    return FlagSet(
        [
            Flag(BOOL, "prefix", False, ""),
            Flag(BOOL, "interactive", False, "", "i"),
            Flag(INT64, "rev", 0, ""),
            Flag(STRING, "write-out", "simple", "", "w"),
            Flag(STRINGS, "endpoints", ["127.0.0.1:2379"], ""),
            Flag(DURATION, "dial-timeout", 2_000_000_000, ""),
        ]
    )


@pytest.mark.parametrize(
    ("args", "left", "values"),
    [
        (["a", "--prefix", "b"], ["a", "b"], {"prefix": True}),
        (["--prefix=false", "a"], ["a"], {"prefix": False}),
        (["--prefix", "false"], ["false"], {"prefix": True}),
        (["-w", "json"], [], {"write-out": "json"}),
        (["-wjson"], [], {"write-out": "json"}),
        (["-w=json"], [], {"write-out": "json"}),
        (["-iw", "json", "x"], ["x"], {"write-out": "json", "interactive": True}),
        (["-i", "-"], ["-"], {"interactive": True}),
        (["--rev", "-5"], [], {"rev": -5}),
        (["--rev=0x10"], [], {"rev": 16}),
        (["--rev=010"], [], {"rev": 8}),
        (["--rev=1_000"], [], {"rev": 1000}),
        (["a", "--", "--prefix", "-x"], ["a", "--prefix", "-x"], {"prefix": False}),
        (["--write-out="], [], {"write-out": ""}),
        (["--endpoints=a,b", "--endpoints", "c"], [], {"endpoints": ["a", "b", "c"]}),
        (['--endpoints="a,b",c'], [], {"endpoints": ["a,b", "c"]}),
        (["--endpoints="], [], {"endpoints": []}),
        (["--endpoints=,"], [], {"endpoints": ["", ""]}),
        (["--dial-timeout=1m0.5s"], [], {"dial-timeout": 60_500_000_000}),
        (["", "x"], ["", "x"], {}),
    ],
)
def test_parsing(args: list[str], left: list[str], values: dict[str, object]) -> None:
    flags = make()
    flags.parse(args)

    assert flags.args == left
    for name, value in values.items():
        assert flags.flags[name].value == value


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["--nosuch=1"], "unknown flag: --nosuch"),
        (["-z"], "unknown shorthand flag: 'z' in -z"),
        (["-iz"], "unknown shorthand flag: 'z' in -z"),
        (["-=x"], "unknown shorthand flag: '=' in -=x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["--rev"], "flag needs an argument: --rev"),
        (["-w"], "flag needs an argument: 'w' in -w"),
        (["--rev=x"], 'invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            ["--rev=9223372036854775808"],
            'invalid argument "9223372036854775808" for "--rev" flag: '
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        (["--prefix=x"], 'invalid argument "x" for "--prefix" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        (["-ix"], "unknown shorthand flag: 'x' in -x"),
        (
            ["--dial-timeout=5"],
            'invalid argument "5" for "--dial-timeout" flag: time: missing unit in duration "5"',
        ),
        (
            ['--endpoints="a'],
            'invalid argument "\\"a" for "--endpoints" flag: record on line 1; parse error on line 2, '
            'column 0: extraneous or missing " in quoted-field',
        ),
    ],
)
def test_what_does_not_parse(args: list[str], words: str) -> None:
    with pytest.raises(FlagError) as raised:
        make().parse(args)

    assert str(raised.value) == words


def test_a_flag_with_a_short_name_is_named_with_it() -> None:
    flags = FlagSet([Flag(INT64, "count", 0, "", "c")])
    with pytest.raises(FlagError, match='invalid argument "x" for "-c, --count" flag'):
        flags.parse(["-cx"])


def test_defaults_as_help_shows_them() -> None:
    assert [flag.default for flag in make().in_order()] == ["2s", "[127.0.0.1:2379]", "false", "false", "0", "simple"]
