"""A leader that is killed is followed at once where its port says so, and after the election timeout where not.

The election timeout is long here, so that a leader that comes before it has come by the shorter way.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.clusters import Cluster, cluster
from tests.interop.servers import Program, balsad, real
from tests.interop.v3 import connect

ELECTION_S = 8.0
SLOW = ("--heartbeat-interval=100", f"--election-timeout={int(ELECTION_S * 1000)}")


def leader_as_known_by(one: Cluster, name: str) -> int:
    with connect(f"127.0.0.1:{one.seat(name).client.number}") as v3:
        return v3.status().leader


@pytest.mark.timeout(120)
@pytest.mark.parametrize("leader", [balsad, real], ids=["of ours", "of etcd"])
def test_a_leader_that_is_killed_is_followed_before_the_election_timeout(
    leader: Callable[[], Program], tmp_path: Path
) -> None:
    with cluster(tmp_path, {"m0": leader(), "m1": balsad(), "m2": balsad()}, *SLOW) as one:
        one.make_leader("m0")

        dead = leader_as_known_by(one, "m1")
        one.members.pop("m0").kill()

        one.until("another leads", lambda: leader_as_known_by(one, "m1") not in (0, dead), ELECTION_S - 1.0)
        one.ctl("put", "k", "v", at="m1")
        one.start("m0", leader())
        one.wait_healthy()
        one.assert_equal()


@pytest.mark.timeout(120)
def test_a_leader_that_is_paused_is_kept(tmp_path: Path) -> None:
    """Its port does not refuse."""
    with cluster(tmp_path, dict.fromkeys(("m0", "m1", "m2"), balsad()), *SLOW) as one:
        one.make_leader("m0")
        known = leader_as_known_by(one, "m0")

        os.kill(one.members["m0"].process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        assert [leader_as_known_by(one, name) for name in ("m1", "m2")] == [known, known]
        os.kill(one.members["m0"].process.pid, signal.SIGCONT)

        one.ctl("put", "k", "v", at="m1")
        assert [leader_as_known_by(one, name) for name in ("m0", "m1", "m2")] == [known] * 3
