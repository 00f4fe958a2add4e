"""The command tree: finding, prefixes, suggestions, help."""

from __future__ import annotations

import pytest

from balsad.ctl import etcdctl_tree, etcdutl_tree
from balsad.ctl.command import Command, UnknownCommandError
from balsad.ctl.flags import BOOL, STRING, Flag


def tree() -> Command:
    return etcdctl_tree.make_root()


@pytest.mark.parametrize(
    ("args", "path", "left"),
    [
        (["get", "a"], "etcdctl get", ["a"]),
        (["compact", "5"], "etcdctl compaction", ["5"]),
        (["end", "st"], "etcdctl endpoint status", []),
        (["-w", "json", "get", "a"], "etcdctl get", ["-w", "json", "a"]),
        (["--endpoints", "get", "put", "a", "b"], "etcdctl put", ["--endpoints", "get", "a", "b"]),
        (["--endpoints=x", "put", "a"], "etcdctl put", ["--endpoints=x", "a"]),
        (["--debug", "get", "a"], "etcdctl get", ["--debug", "a"]),
        (["member", "--hex", "list"], "etcdctl member list", ["--hex"]),
        (["lease", "nosuch"], "etcdctl lease", ["nosuch"]),
        (["lease"], "etcdctl lease", []),
        (["get", "--", "put"], "etcdctl get", ["--", "put"]),
        ([], "etcdctl", []),
        (["--", "get"], "etcdctl", ["--", "get"]),
    ],
)
def test_finding(args: list[str], path: str, left: list[str]) -> None:
    command, rest = tree().find(args)

    assert (command.path, rest) == (path, left)


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("l", ["del", "lease", "lock"]), ("gte", ["get"]), ("completion", ["compaction"]), ("zzzzzz", [])],
)
def test_unknown_commands_suggest_known_ones(word: str, suggested: list[str]) -> None:
    with pytest.raises(UnknownCommandError) as raised:
        tree().find([word])

    assert raised.value.command.suggestions(word) == suggested
    assert str(raised.value).startswith(f'unknown command "{word}" for "etcdctl"')


def test_commands_of_later_releases_need_their_whole_name() -> None:
    root = etcdutl_tree.make_root()

    with pytest.raises(UnknownCommandError):
        root.find(["hash"])
    assert root.find(["hashkv", "f"])[0].name == "hashkv"


def test_every_command_that_runs_names_a_function_that_is_there() -> None:
    from importlib import import_module

    def check(command: Command) -> None:
        if command.run:
            module, _, function = command.run.partition(":")
            assert callable(getattr(import_module(module), function)), command.path
        for below in command.commands:
            check(below)

    check(etcdctl_tree.make_root())
    check(etcdutl_tree.make_root())


def test_flags_of_the_command_and_of_those_above_it() -> None:
    leaf = Command("leaf", run="m:f", flags=[Flag(BOOL, "own", False, "")])
    middle = Command("middle", commands=[leaf], persistent_flags=[Flag(BOOL, "shared", False, "")])
    Command("root", commands=[middle], persistent_flags=[Flag(STRING, "all", "", "")])

    assert sorted(leaf.inherited_flags.flags) == ["all", "shared"]
    assert sorted(leaf.local_flags.flags) == ["own"]
    assert sorted(middle.local_flags.flags) == ["shared"]
    assert leaf.use_line == "root middle leaf [flags]"
