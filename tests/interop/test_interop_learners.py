"""How many learners there may be, seen by etcdctl beside the real etcd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.clusters import Cluster, Seat, cluster
from tests.interop.servers import balsad, program, programs

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

TOO_MANY = "etcdserver: too many learner members in cluster"


def add_learner(members: Cluster, name: str) -> str:
    """What etcdctl says to one more learner, which is not started."""
    if all(seat.name != name for seat in members.seats):
        members.seats.append(Seat(name))
    url = members.seat(name).peer_url
    return members.ctl("member", "add", name, "--learner", f"--peer-urls={url}", check=False)


@pytest.mark.parametrize("who", programs())
def test_one_learner_unless_told_otherwise(tmp_path: Path, who: str) -> None:
    with cluster(tmp_path, {"m1": program(who)}) as members:
        assert "added to cluster" in add_learner(members, "m2")
        assert TOO_MANY in add_learner(members, "m3")


def test_as_many_as_the_flag_allows(tmp_path: Path) -> None:
    """`--max-learners` of 3.6: at an add, at a join and at a restart."""
    with cluster(tmp_path, {"m1": balsad()}, "--max-learners=2") as members:
        assert "added to cluster" in add_learner(members, "m2")
        assert "added to cluster" in add_learner(members, "m3")
        assert TOO_MANY in add_learner(members, "m4")
        members.seats.pop()

        joiner = members.start("m2", balsad(), "--initial-cluster-state=existing", "--max-learners=1")
        assert joiner.process.wait(20) == 1
        assert "too many learner members in cluster (--max-learners=1)" in joiner.logs()
        members.start("m2", balsad(), "--initial-cluster-state=existing")
        members.until("m2 starts", lambda: members.ctl("member", "list", at="m1").count(", started,") == 2)

        members.members["m1"].stop()
        again = members.start("m1", balsad(), "--max-learners=1")
        assert again.process.wait(20) == 1
        assert "too many learner members in cluster (--max-learners=1)" in again.logs()
        members.start("m1", balsad())
        members.wait_healthy("m1")
        assert members.ctl("member", "list", at="m1").count(", true") == 2
