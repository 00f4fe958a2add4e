"""The lines of the log that tell a cluster's version: scripts and the tests of etcd 3.4 wait for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.servers import Member, Program, balsad, real, start
from tests.interop.v3 import connect

LINES = ("set initial cluster version", "enabled capabilities for version", "starting etcd server")


def told(member: Member) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in member.log_path.read_text("utf-8", "replace").splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            if said["msg"] in LINES:
                found.append((said["msg"], said["cluster-version"]))
    return found


@pytest.mark.parametrize("who", [balsad, real], ids=["ours", "theirs"])
def test_the_version_is_told_when_it_is_set_and_when_it_is_known_at_a_start(
    who: Callable[[], Program], tmp_path: Path
) -> None:
    flags = ("--snapshot-count=5",)
    with start(who(), tmp_path / "data", *flags) as member:
        until = time.monotonic() + 30
        while len(first := told(member)) < len(LINES):
            assert time.monotonic() < until, member.logs()
            time.sleep(0.01)
        with connect(member.address) as v3:
            while not list((tmp_path / "data" / "member" / "snap").glob("*.snap")):
                assert time.monotonic() < until, member.logs()
                v3.put(b"a", b"b")
                time.sleep(0.01)
    with start(who(), tmp_path / "data", *flags) as member:
        again = told(member)
    set_, enabled, starting = LINES
    assert first == [(starting, "to_be_decided"), (set_, "3.5"), (enabled, "3.5")]
    # The log goes on in the same file. It is in the snapshot that the second start begins with.
    assert again[len(first) :][:2] == [(enabled, "3.5"), (starting, "3.5")]
