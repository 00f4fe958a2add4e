"""Our etcdctl with ETCDCTL_API=2 beside the real ones: standard output, standard error, exit status.

Each tool has a server of its own, both of the same make, that hears the same lines in the same order.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad.ctl.v2.app import Command
from balsad.ctl.v2.tree import COMMANDS
from tests.interop.servers import Member, fetch, program, programs, start
from tests.interop.tool_pair import Printed, Tool, compare, ours_commands
from tests.real import etcdctl_34, real_etcdctl

pytestmark = [pytest.mark.real]

KEYS = r"""
etcdctl ls
etcdctl set /test wzxmt
etcdctl get /test
etcdctl -o extended get /test
etcdctl -o json get /test
etcdctl -o extended set /test third
etcdctl -o nope get /test
etcdctl set /test x --swap-with-value no
etcdctl set --swap-with-index 1 /test x
etcdctl set /test x --swap-with-value third
etcdctl set /ttl x --ttl 100
etcdctl set /ttl 'a "b" <c> & ü' --ttl 0x1000
etcdctl -o json get /ttl | sed -E 's/"(expiration|ttl)":[^,}]*//g'
echo -n from stdin | etcdctl set /stdin
etcdctl set /stdin < /dev/null
etcdctl set
etcdctl set -- /dash -v
etcdctl get
etcdctl get /nope
etcdctl -o json get /nope
etcdctl mk /test x
etcdctl mk /made one
etcdctl mk /queue one --in-order
etcdctl mk --in-order /queue two --ttl 50
etcdctl -o extended mk /made2/in/dirs x
etcdctl mkdir /dir
etcdctl mkdir /dir
etcdctl -o json mkdir /dir2
etcdctl setdir /dir3 --ttl 100
etcdctl updatedir /dir --ttl 100
etcdctl updatedir /nodir
etcdctl get /dir
etcdctl set /dir x
etcdctl update /test y
etcdctl update /test
etcdctl ls --sort
etcdctl ls / --sort -r
etcdctl ls -sort -recursive -p /
etcdctl ls /test
etcdctl ls -r /made2 /queue
etcdctl -o extended ls /made2
etcdctl -o json ls /made2 -r
etcdctl get -q=false --sort /test
etcdctl get //test/../test
etcdctl get 'a b%2f?&'
etcdctl set 'a b%2f?&' 'c d=%2f?&'
etcdctl get 'a b%2f?&'
etcdctl rm /dir2/
etcdctl rm /queue
etcdctl rm --dir /queue
etcdctl rm /queue -r
etcdctl rm /made --with-value no
etcdctl rm /made --with-index 1
etcdctl rm /made --with-value one
etcdctl rm /test
etcdctl -o extended rm /dash
etcdctl -o extended rm --dir /dir2
etcdctl rmdir /dir3
etcdctl rmdir /made2
etcdctl rm /
etcdctl watch
etcdctl watch /made2/in/dirs --after-index 3
etcdctl watch --after-index 4 -r /
etcdctl -o extended watch /test --after-index 4
etcdctl exec-watch /x
ETCDCTL_ENDPOINTS= etcdctl --endpoint $EP ls --sort
ETCDCTL_ENDPOINTS= etcdctl -C $EP ls --sort
ETCDCTL_ENDPOINTS= ETCDCTL_PEERS=$EP etcdctl ls --sort
ETCDCTL_ENDPOINTS= ETCDCTL_ENDPOINT=$EP etcdctl ls --sort
etcdctl --no-sync set /x y
etcdctl --debug set /x 'y z'
etcdctl --debug --no-sync get /x
etcdctl --endpoints $EP,http://127.0.0.1:1 ls --sort
etcdctl --endpoints 127.0.0.1:2379 ls
etcdctl --endpoints localhost:2379 --no-sync ls
etcdctl --endpoints http://127.0.0.1:x ls
etcdctl --endpoints http://127.0.0.1:1 ls
etcdctl --endpoints http://127.0.0.1:1 --no-sync rm /x
etcdctl --endpoints http://127.0.0.1:1 member list
etcdctl --endpoints http://127.0.0.1:1 cluster-health
etcdctl --total-timeout 0 ls
etcdctl --total-timeout 0 --no-sync ls
etcdctl --cert-file nope ls
etcdctl --ca-file nope ls
etcdctl --ca-file nope cluster-health
etcdctl cluster-health
""".strip().splitlines()

MEMBERS = r"""
etcdctl member list
etcdctl member list x
etcdctl member add
etcdctl member add two http://127.0.0.1:1 x
etcdctl member add two 127.0.0.1:1
etcdctl member add two ftp://127.0.0.1:1
etcdctl member remove
etcdctl member remove beef
etcdctl member remove default
etcdctl member update
etcdctl member update beef http://127.0.0.1:2
etcdctl member update xyz http://127.0.0.1:2
etcdctl member update beef nope
etcdctl member update $(etcdctl member list | cut -d: -f1) http://127.0.0.1:4
etcdctl member list
etcdctl member add two http://127.0.0.1:4
""".strip().splitlines()

AUTH = r"""
etcdctl user list
etcdctl user list x
etcdctl role list
etcdctl role list x
etcdctl auth enable x
etcdctl auth enable
etcdctl auth disable
etcdctl user add
etcdctl user add root:rootpw
etcdctl user add root:rootpw
echo -e 'secret\nmore' | etcdctl user add typed
etcdctl user add empty:
etcdctl user add alice:a:b
etcdctl user get alice
etcdctl user get nobody
etcdctl user get
etcdctl role add reader
etcdctl role add reader
etcdctl role add root
etcdctl role add 'a role'
etcdctl role add
etcdctl role get reader
etcdctl role get nobody
etcdctl role grant reader
etcdctl role grant reader --path /a/../b --read
etcdctl role grant reader --path '/r/*'
etcdctl role grant reader --path '/r/*' --read --write
etcdctl role grant reader --path '/r/*' --read
etcdctl role grant reader --path '/r/*' --read
etcdctl role grant reader --path '/w' --rw
etcdctl role grant nobody --path '/w' --rw
etcdctl role get reader
etcdctl role revoke reader --path '/w' -write
etcdctl role revoke reader --path '/w' -write
etcdctl role get reader
etcdctl role list
etcdctl user grant alice
etcdctl user grant alice --roles reader
etcdctl user grant alice --roles reader
etcdctl user grant alice --roles nobody
etcdctl user grant alice --roles 'a role' --roles root
etcdctl user grant nobody --roles reader
etcdctl user get alice
etcdctl user revoke alice --roles root
etcdctl user revoke alice --roles root
etcdctl user list
echo changed | etcdctl user passwd alice
echo changed | etcdctl user passwd nobody
etcdctl auth enable
etcdctl auth enable
etcdctl set /r/x guest
etcdctl -u alice:changed get /r/x
etcdctl -u alice:changed set /r/x y
etcdctl -u alice:changed set /w y
etcdctl -u alice:wrong get /r/x
etcdctl --username alice:changed user list
etcdctl --username alice:changed user get alice
etcdctl --username alice:changed role get reader
ETCDCTL_USERNAME=root:rootpw etcdctl user list
echo rootpw | etcdctl -u root role list
etcdctl role get guest
etcdctl -u root:rootpw role get guest
etcdctl -u root:rootpw role get root
etcdctl -u root:rootpw role grant root --path /x --read
etcdctl -u root:rootpw role remove root
etcdctl -u root:rootpw user remove root
etcdctl -u root:rootpw role revoke guest --path '/*' --rw
etcdctl set /r/x guest
etcdctl get /r/x
etcdctl ls
etcdctl member list
etcdctl -u root:rootpw user remove typed
etcdctl -u root:rootpw user remove typed
etcdctl -u root:rootpw role remove reader
etcdctl -u root:rootpw role remove reader
etcdctl -u alice:changed auth disable
etcdctl -u root:rootpw auth disable
etcdctl -u root:rootpw auth disable
etcdctl user remove root
etcdctl user list
""".strip().splitlines()


def paths(commands: tuple[Command, ...], above: str = "etcdctl") -> Iterator[str]:
    for command in commands:
        yield f"{above} {command.name}"
        yield from paths(command.commands, f"{above} {command.name}")


HELP = [
    *(f"{path} --help" for path in paths(COMMANDS) if not path.endswith(("remove", "list", "revoke"))),
    *"""
etcdctl
etcdctl help
etcdctl -h
etcdctl help help
etcdctl help member
etcdctl help nope
etcdctl member help add
etcdctl member help
etcdctl member nope
etcdctl member -bad
etcdctl nope
etcdctl version
etcdctl -v
etcdctl --bad
etcdctl -o
etcdctl ---x
etcdctl -o json --output simple ls
etcdctl --timeout x ls
etcdctl ls -q --quorum
etcdctl ls -q=x
etcdctl set --bad
etcdctl set --ttl 99999999999999999999 a b
etcdctl rm --with-index x
etcdctl member add --bad
etcdctl backup --data-dir
""".strip().splitlines(),
]


def pair(folder: Path, theirs: str) -> tuple[Tool, Tool]:
    tools = Tool("ours", folder, ours_commands()), Tool("theirs", folder, {"etcdctl": [theirs]})
    for tool in tools:
        tool.env["ETCDCTL_API"] = "2"
    return tools


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tool, Tool]:
    return pair(tmp_path_factory.mktemp("v2tools"), real_etcdctl())


def at(tool: Tool, member: Member) -> Tool:
    tool.endpoint = tool.env["EP"] = tool.env["ETCDCTL_ENDPOINTS"] = member.client_url
    return tool


@contextlib.contextmanager
def two_members(name: str, folder: Path, ours: Tool, theirs: Tool) -> Iterator[tuple[Tool, Tool]]:
    """A server for each of the two tools, both of the same make."""
    with (
        start(program(name), folder / "ours", "--enable-v2") as first,
        start(program(name), folder / "theirs", "--enable-v2") as second,
    ):
        for member in (first, second):
            deadline = time.monotonic() + 20
            while member.get("/version")["etcdcluster"] == "not_decided":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield at(ours, first), at(theirs, second)


def test_v2_help_is_the_same(tools: tuple[Tool, Tool]) -> None:
    for line in HELP:
        compare(*tools, line)


@pytest.mark.parametrize("group", ["KEYS", "MEMBERS"])
def test_v2_commands_speak_as_3_5_1(group: str, tools: tuple[Tool, Tool], tmp_path: Path) -> None:
    with two_members("real", tmp_path, *tools) as (ours, theirs):
        for line in globals()[group]:
            compare(ours, theirs, line)


def test_v2_tls_to_a_plain_port_fails_as_with_3_5_1(tools: tuple[Tool, Tool], tmp_path: Path) -> None:
    # Which of the two the kernel tells depends on who was quicker.
    unavailable = "Error: client: etcd cluster is unavailable or misconfigured; error #0: "
    possible = {
        Printed(status, "", f"{unavailable}{reason}\n\nerror #0: {reason}\n")
        for status, reason in ((4, "EOF"), (2, "read tcp HOST->EP: read: connection reset by peer"))
    }
    with two_members("real", tmp_path, *tools) as pair:
        for tool in pair:
            printed = tool.run("etcdctl --endpoints https://${EP#http://} get /x")
            assert printed in possible, printed


@pytest.mark.parametrize("name", programs())
def test_v2_users_and_roles_on_either_server(name: str, tmp_path: Path) -> None:
    """3.4 says the same of them as 3.5."""
    judge = etcdctl_34() if name == "balsad" else real_etcdctl()
    with two_members(name, tmp_path, *pair(tmp_path / "tools", judge)) as (ours, theirs):
        for line in AUTH:
            compare(ours, theirs, line)


def test_v2_watches_tell_what_happens_and_end_well_when_interrupted(tools: tuple[Tool, Tool], tmp_path: Path) -> None:
    ours, theirs = tools
    lines = (
        "exec etcdctl watch -r -f /w",
        "exec etcdctl watch /w/a",
        "exec etcdctl exec-watch -r /w -- sh -c 'echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"
        " $ETCD_WATCH_MODIFIED_INDEX'",
    )
    with two_members("real", tmp_path, ours, theirs):
        waiting = {tool.name: [tool.start(line) for line in lines] for tool in tools}
        for tool in tools:
            wait_for_watchers(tool, len(lines))
            tool.run("etcdctl set /w/a 1; sleep 0.3; etcdctl mkdir /w/dir; sleep 0.3; etcdctl rm /w/a")
        time.sleep(0.5)
        said = {}
        for tool in tools:
            for process in waiting[tool.name]:
                process.send_signal(signal.SIGINT)
            said[tool.name] = [tool.finish(process) for process in waiting[tool.name]]

    assert said["ours"] == said["theirs"]
    assert [printed.status for printed in said["ours"]] == [0, 0, 0]
    assert said["ours"][1].out == "1\n"


def wait_for_watchers(tool: Tool, count: int) -> None:
    deadline = time.monotonic() + 20
    while json.loads(fetch(f"{tool.endpoint}/v2/stats/store")[1])["watchers"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
