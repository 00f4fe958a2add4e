"""Flags from ETCDCTL_*, and what stands in their way. Source: etcd pkg/flags/flag.go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from balsad.ctl.console import Console, Exit
from balsad.ctl.context import read_environment, split_user
from balsad.ctl.flags import BOOL, DURATION, STRING, STRINGS, Flag, FlagSet

Read = Callable[[list[str]], tuple[FlagSet, list[dict[str, str]]]]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Parses arguments, then reads the environment; gives the flags and what was logged."""
    for name in ("ETCDCTL_API", "ETCDCTL_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)

    def run(args: list[str]) -> tuple[FlagSet, list[dict[str, str]]]:
        flags = FlagSet(
            [
                Flag(STRINGS, "endpoints", ["127.0.0.1:2379"], ""),
                Flag(STRING, "write-out", "simple", "", "w"),
                Flag(BOOL, "hex", False, ""),
                Flag(DURATION, "dial-timeout", 2_000_000_000, ""),
            ]
        )
        flags.parse(args)
        path = tmp_path / "errors"
        with open(path, "wb") as errors:
            try:
                read_environment(flags, Console(errors.fileno(), errors.fileno()))
            except Exit as ended:
                assert ended.status == 1
        return flags, [json.loads(line) for line in path.read_text().splitlines()]

    return run


def test_flags_that_were_not_given_come_from_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "a:1,b:2")
    monkeypatch.setenv("ETCDCTL_WRITE_OUT", "json")
    monkeypatch.setenv("ETCDCTL_HEX", "true")
    flags, logged = read([])

    assert (flags.texts("endpoints"), flags.text("write-out"), flags.on("hex")) == (["a:1", "b:2"], "json", True)
    assert logged == []


def test_a_flag_given_twice_is_fatal(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "a:1")
    _flags, logged = read(["--endpoints=b:2"])

    assert [line["level"] for line in logged] == ["fatal"]
    assert logged[0]["msg"].startswith("conflicting environment variable is shadowed")
    assert logged[0]["environment-variable"] == "ETCDCTL_ENDPOINTS"


def test_an_unknown_variable_is_only_warned_of(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_FOO", "1")
    _flags, logged = read([])

    assert [(line["level"], line["environment-variable"]) for line in logged] == [("warn", "ETCDCTL_FOO=1")]


def test_an_empty_variable_sets_nothing_and_is_warned_of(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_WRITE_OUT", "")
    flags, logged = read([])

    assert flags.text("write-out") == "simple"
    assert [line["level"] for line in logged] == ["warn"]


def test_a_value_that_does_not_parse_leaves_zero(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_DIAL_TIMEOUT", "soon")
    flags, logged = read([])

    assert flags.number("dial-timeout") == 0
    assert logged == []


def test_names_and_passwords() -> None:
    context = None
    assert split_user(context, "", "pw", "") == ("", "")  # type: ignore[arg-type]
    assert split_user(context, "root:a:b", "", "") == ("root", "a:b")  # type: ignore[arg-type]
    assert split_user(context, "root:a", "pw", "") == ("root:a", "pw")  # type: ignore[arg-type]
