"""Commands of etcdctl that wait: watch, lock, elect, keep-alive, make-mirror; and what ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.servers import program, programs, start
from tests.interop.tool_pair import Printed, Tool, ours_commands
from tests.real import real_etcdctl

pytestmark = [pytest.mark.real]

WAIT_S = 20.0


@pytest.fixture(params=programs())
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Tool]]:
    """Ours and theirs, each with a server of its own."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(start(program(request.param), tmp_path / name)) for name in ("one", "two")]
        yield [
            Tool("ours", tmp_path, ours_commands(), servers[0].address),
            Tool("theirs", tmp_path, {"etcdctl": [real_etcdctl()]}, servers[1].address),
        ]


class Waiting:
    """A command that goes on until it is interrupted; what it prints so far is in a file."""

    def __init__(self, tool: Tool, line: str) -> None:
        self.tool = tool
        self.path = tool.folder / "out"
        with open(self.path, "wb") as out, open(tool.folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=tool.folder,
                env=tool.env,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait_for(self, lines: int) -> None:
        """Wait until it has printed so many lines."""
        deadline = time.monotonic() + WAIT_S
        while self.path.read_bytes().count(b"\n") < lines:
            assert time.monotonic() < deadline, f"{self.tool.name} printed only {self.path.read_bytes()!r}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> Printed:
        """Interrupt it; gives what it printed."""
        os.kill(self.process.pid, number)
        printed = self.ended()
        assert self.process.stdin is not None
        self.process.stdin.close()
        return printed

    def ended(self) -> Printed:
        status = self.process.wait(WAIT_S)
        err = self.tool.mask((self.tool.folder / "err").read_bytes())
        errors = "\n".join(line for line in err.splitlines() if not line.startswith('{"level"'))
        return Printed(status, self.tool.mask(self.path.read_bytes()), errors)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("--prefix w", (3, 6, 9, 12)),
        ("--prefix w --prev-kv", (3, 6, 11, 16)),
        ("--prefix w -w json", (1, 2, 3, 4)),
        ("w x", (3, 6, 9, 12)),
        ("--prefix w --hex", (3, 6, 9, 12)),
        ("--prefix w -w fields", (11, 22, 33, 44)),
    ],
)
def test_watch_prints_what_happens(pair: list[Tool], options: str, lines: tuple[int, ...]) -> None:
    seen = []
    for tool in pair:
        tool.run("etcdctl put w/0 before")
        watch = Waiting(tool, f"etcdctl watch {options} --rev 2")
        watch.wait_for(lines[0])
        # One by one, because a response tells the store's revision, which may be ahead of its events.
        for line, count in zip(("put w/1 1", "put w/1 2", "del w/1"), lines[1:], strict=True):
            tool.run(f"etcdctl {line}")
            watch.wait_for(count)
        seen.append(watch.end())

    assert seen[0] == seen[1]
    assert seen[0].status == -signal.SIGINT


def test_watch_runs_a_command_for_each_event(pair: list[Tool]) -> None:
    told = '"$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_REVISION"'
    seen = []
    for tool in pair:
        tool.run("etcdctl put k '1 \"q\"'; etcdctl del k")
        watch = Waiting(tool, f"etcdctl watch k --rev 2 -- sh -c 'echo {told}'")
        watch.wait_for(8)
        seen.append(watch.end())

    assert seen[0] == seen[1]
    assert '"PUT" "k" "1 \\"q\\"" 3' in seen[0].out


@pytest.mark.parametrize("command", ["false", "sh -c 'exit 3'", "nosuchcommand x", "/no/such", "sh -c 'kill -9 $$'"])
def test_watch_ends_when_its_command_fails(pair: list[Tool], command: str) -> None:
    seen = []
    for tool in pair:
        tool.run("etcdctl put k 1")
        seen.append(tool.run(f"timeout 10 etcdctl watch k --rev 1 -- {command}"))

    assert seen[0] == seen[1]
    assert seen[0].status == 1


def test_watch_of_a_compacted_revision(pair: list[Tool]) -> None:
    for options in ("", "-w json"):
        seen = []
        for tool in pair:
            tool.run("etcdctl put k 1; etcdctl put k 2; etcdctl put k 3; etcdctl compaction 3")
            seen.append(tool.run(f"timeout 10 etcdctl watch k --rev 2 {options}"))
        assert seen[0] == seen[1]
        assert seen[0].status == 5


@pytest.mark.parametrize(
    "line",
    [
        "etcdctl watch",
        "etcdctl watch --",
        "etcdctl watch a --",
        "etcdctl watch a b --prefix",
        "ETCDCTL_WATCH_KEY=a etcdctl watch b",
        "ETCDCTL_WATCH_RANGE_END=b etcdctl watch a",
        "ETCDCTL_WATCH_KEY=a etcdctl watch b -- echo",
        "printf 'foo\\n\\nwatch\\nwatch a b --prefix\\n' | etcdctl watch -i",
        "printf 'watch a --nosuch\\n' | etcdctl watch -i",
        "printf 'watch a --\\n' | etcdctl watch -i",
    ],
)
def test_watches_that_cannot_be(pair: list[Tool], line: str) -> None:
    ours, theirs = (tool.run(line) for tool in pair)

    assert ours == theirs
    assert ours.status


def test_watch_takes_its_key_from_the_environment(pair: list[Tool]) -> None:
    seen = []
    for tool in pair:
        tool.run("etcdctl put a 1; etcdctl put b 2; etcdctl put c 3")
        tool.env |= {"ETCDCTL_WATCH_KEY": "a", "ETCDCTL_WATCH_RANGE_END": "c"}
        watch = Waiting(tool, "etcdctl watch --rev 1")
        watch.wait_for(6)
        seen.append(watch.end())

    assert seen[0] == seen[1]


def test_several_watches_at_once_and_progress(pair: list[Tool]) -> None:
    seen = []
    for tool in pair:
        tool.run("etcdctl put a 1; etcdctl put b 2")
        watch = Waiting(tool, "etcdctl watch -i")
        assert watch.process.stdin is not None
        watch.process.stdin.write(b"watch a --rev 1\n")
        watch.process.stdin.flush()
        watch.wait_for(3)
        watch.process.stdin.write(b"watch b --rev 1\n")
        watch.process.stdin.flush()
        watch.wait_for(6)
        watch.process.stdin.write(b"progress\n")
        watch.process.stdin.flush()
        watch.wait_for(8)
        seen.append(watch.end())

    assert seen[0] == seen[1]
    assert seen[0].out.endswith("progress notify: 3\nprogress notify: 3\n")


@pytest.mark.parametrize("name", programs())
def test_progress_is_told_to_who_watches_from_the_next_revision_on(name: str, tmp_path: Path) -> None:
    """As a Kubernetes API server does after each list; nothing happens meanwhile."""
    with start(program(name), tmp_path / "data", "--experimental-watch-progress-notify-interval=200ms") as server:
        tool = Tool("theirs", tmp_path, {"etcdctl": [real_etcdctl()]}, server.address)
        tool.run("etcdctl put a 1")
        watch = Waiting(tool, "etcdctl watch a --progress-notify --rev 3")
        watch.wait_for(2)
        assert watch.end().out.startswith("progress notify: 2\nprogress notify: 2\n")


def test_a_lock_is_held_until_a_signal_and_waits_for_its_turn(pair: list[Tool]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        seen = []
        for tool in pair:
            first = Waiting(tool, "etcdctl lock mutex")
            first.wait_for(2)
            second = tool.start("etcdctl lock mutex echo mine")
            time.sleep(0.3)
            assert second.poll() is None, "two hold the lock"
            held = tool.run("etcdctl get --prefix mutex/ --keys-only | grep -c mutex")
            seen.append((held, first.end(number), tool.finish(second)))
        assert seen[0] == seen[1]
        assert seen[0][1].status == 0
        assert seen[0][2].out == "mine\n"


def test_a_lock_given_up_while_waiting(pair: list[Tool]) -> None:
    seen = []
    for tool in pair:
        first = Waiting(tool, "etcdctl lock mutex")
        first.wait_for(2)
        (tool.folder / "second").mkdir()
        second = tool.start("exec etcdctl lock mutex")
        time.sleep(0.5)
        os.kill(second.pid, signal.SIGINT)
        seen.append((tool.finish(second), tool.run("etcdctl get --prefix mutex/ --keys-only | grep -c mutex")))
        first.end()

    assert seen[0] == seen[1]


def test_an_election_and_who_listens(pair: list[Tool]) -> None:
    seen = []
    for tool in pair:
        leader = Waiting(tool, "etcdctl elect race one")
        leader.wait_for(2)
        heard = tool.start("timeout -s INT 1.5 etcdctl elect -l race")
        seen.append((tool.finish(heard), leader.end(), tool.run("etcdctl get --prefix race/")))

    assert seen[0] == seen[1]
    assert seen[0][0].out.endswith("\none\n")
    assert seen[0][2].out == ""


def test_keep_alive_goes_on_until_the_lease_is_gone(pair: list[Tool]) -> None:
    seen = []
    for tool in pair:
        tool.run("etcdctl lease grant 3 | cut -d' ' -f2 > lease")
        kept = Waiting(tool, "etcdctl lease keep-alive $(cat lease)")
        kept.wait_for(2)
        tool.run("etcdctl lease revoke $(cat lease)")
        printed = kept.ended()
        lines = printed.out.splitlines()
        seen.append((printed.status, lines[0], lines[-1]))

    assert seen[0] == seen[1]
    assert "expired or revoked." in seen[0][2]


def test_a_mirror_copies_and_follows(pair: list[Tool]) -> None:
    """Each mirrors its server to the other's, under a prefix of its own."""
    for tool, other in (pair, pair[::-1]):
        name = tool.name
        tool.run(f"etcdctl put {name}/a 1; etcdctl put {name}/b 2")
        mirror = Waiting(tool, f"etcdctl make-mirror {other.endpoint} --prefix {name}/ --dest-prefix copy-of-{name}/")
        deadline = time.monotonic() + WAIT_S
        while "b\n2" not in other.run(f"etcdctl get --prefix copy-of-{name}/").out:
            assert time.monotonic() < deadline, "nothing was copied"
        tool.run(f"etcdctl put {name}/c 3; etcdctl del {name}/a; etcdctl put elsewhere x")
        while "c\n3" not in other.run(f"etcdctl get --prefix copy-of-{name}/").out:
            assert time.monotonic() < deadline, "nothing was followed"
        time.sleep(0.2)
        copied = other.run("etcdctl get --prefix copy-of").out
        assert copied == f"copy-of-{name}/b\n2\ncopy-of-{name}/c\n3\n"
        mirror.end()
        other.run("etcdctl del --prefix copy-of")
