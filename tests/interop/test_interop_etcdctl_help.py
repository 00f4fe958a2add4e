"""Help is an interface: every command's, and what is said of command lines that are wrong, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balsad.ctl import etcdctl_tree, etcdutl_tree
from balsad.ctl.command import Command
from tests.interop.tool_pair import Tool, ours_commands
from tests.real import real_etcdctl, real_etcdutl

pytestmark = [pytest.mark.real]


def paths(command: Command) -> Iterator[str]:
    if not command.extra:
        yield command.path
        for below in command.commands:
            yield from paths(below)


LINES = [
    *(f"{path} --help" for path in paths(etcdctl_tree.make_root())),
    *(f"{path} -h" for path in paths(etcdutl_tree.make_root())),
    *"""
etcdctl
etcdctl help
etcdctl help help
etcdctl help get
etcdctl help lease gran
etcdctl help foo bar
etcdctl lease
etcdctl lease nosuch
etcdctl foo
etcdctl l
etcdctl completion
etcdctl putt
etcdctl --version
etcdctl vers
etcdctl get foo -z
etcdctl get -w
etcdctl --dial-timeout=5 get x
etcdctl --hex=maybe get
etcdctl --endpoints='"a' get
etcdctl lock l --ttl=x
etcdutl
etcdutl help
etcdutl help foo
etcdutl help help
etcdutl vresion
etcdutl --foo
etcdutl snapshot
etcdutl snapshot foo
etcdutl snapshot s
etcdutl snapshot sa -h
etcdutl snapshot restore x --foo
etcdutl backup
etcdutl hash
""".strip().splitlines(),
]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tool, Tool]:
    folder = tmp_path_factory.mktemp("tools")
    ours = Tool("ours", folder, ours_commands())
    theirs = Tool("theirs", folder, {"etcdctl": [real_etcdctl()], "etcdutl": [real_etcdutl()]})
    for tool in (ours, theirs):
        tool.mask = lambda data: data.decode()  # type: ignore[method-assign]
    return ours, theirs


@pytest.mark.parametrize("line", LINES)
def test_help_is_the_same(line: str, tools: tuple[Tool, Tool]) -> None:
    ours, theirs = tools

    assert ours.run(line) == theirs.run(line)
