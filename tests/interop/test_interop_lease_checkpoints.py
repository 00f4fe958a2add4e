"""What leases have left outlives their leader, and a restart if it is to: seen by etcdctl, beside the real etcd."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.interop.clusters import Cluster, cluster
from tests.interop.servers import Member, Program, real, start
from tests.interop.tweaked_member import tweaked

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ON = "--experimental-enable-lease-checkpoint"
TTL = 100
PASSED_S = 4


def quick() -> Program:
    """A balsad that puts on record every second what leases have left, in place of every five minutes."""
    return tweaked("balsad.server.lease_checkpoints", CHECKPOINT_INTERVAL_S=1)


def grant(member: Member | Cluster, ttl: int = TTL) -> str:
    etcdctl = member.etcdctl if isinstance(member, Member) else member.ctl
    return etcdctl("lease", "grant", str(ttl)).split()[1]


def left(text: str) -> int:
    found = re.search(r"remaining\((\d+)s\)", text)
    assert found is not None, text
    return int(found[1])


@pytest.mark.parametrize("kinds", ["ooo", "orr"])
def test_a_new_leader_goes_on_counting(tmp_path: Path, kinds: str) -> None:
    """Ours leads and records; who leads next, ours or a real etcd, takes it from there; a renewal counts anew."""
    programs = {f"m{at + 1}": quick() if kind == "o" else real() for at, kind in enumerate(kinds)}
    with cluster(tmp_path, programs, ON) as members:
        members.make_leader("m1")
        lease = grant(members)
        fresh = grant(members)
        time.sleep(PASSED_S)
        assert f"keepalived with TTL({TTL})" in members.ctl("lease", "keep-alive", "--once", fresh, at="m2")

        members.make_leader("m2")

        # The new leader lengthens every lease by an election timeout.
        for asked in ("m1", "m2", "m3"):
            assert left(members.ctl("lease", "timetolive", lease, at=asked)) <= TTL - PASSED_S + 2
            assert left(members.ctl("lease", "timetolive", fresh, at=asked)) > TTL - PASSED_S
        # What the new leader clears, ours heeds when it leads again.
        members.ctl("lease", "keep-alive", "--once", lease, at="m3")
        members.make_leader("m1")
        assert left(members.ctl("lease", "timetolive", lease, at="m1")) > TTL - PASSED_S


def test_without_the_flag_a_new_leader_counts_anew(tmp_path: Path) -> None:
    with cluster(tmp_path, {name: quick() for name in ("m1", "m2", "m3")}) as members:
        members.make_leader("m1")
        lease = grant(members)
        time.sleep(PASSED_S)

        members.make_leader("m2")

        assert left(members.ctl("lease", "timetolive", lease, at="m2")) >= TTL - 1


@pytest.mark.parametrize("persist", [True, False])
def test_a_restart_goes_on_counting_if_told_so(tmp_path: Path, persist: bool) -> None:
    flags = (ON, f"{ON}-persist") if persist else (ON,)
    with start(quick(), tmp_path / "data", *flags) as member:
        lease = grant(member)
        time.sleep(PASSED_S)
        assert left(member.etcdctl("lease", "timetolive", lease)) <= TTL - PASSED_S
    with start(quick(), tmp_path / "data", *flags, like=member) as again:
        remaining = left(again.etcdctl("lease", "timetolive", lease))
        assert remaining <= TTL - PASSED_S + 2 if persist else remaining >= TTL - 1


def test_a_feature_gate_does_the_same(tmp_path: Path) -> None:
    """The name of 3.6."""
    gates = "--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true"
    with start(quick(), tmp_path / "data", gates) as member:
        lease = grant(member)
        time.sleep(PASSED_S)
    with start(quick(), tmp_path / "data", gates, like=member) as again:
        assert left(again.etcdctl("lease", "timetolive", lease)) <= TTL - PASSED_S + 2


@pytest.mark.skipif(not os.environ.get("BALSAD_SOAK"), reason="takes five minutes: BALSAD_SOAK=1")
@pytest.mark.timeout(900)
def test_ours_goes_on_counting_what_a_real_leader_recorded(tmp_path: Path) -> None:
    """A real etcd records every five minutes."""
    with cluster(
        tmp_path, {"m1": real(), "m2": tweaked("balsad.server.lease_checkpoints"), "m3": real()}, ON
    ) as members:
        members.make_leader("m1")
        lease = grant(members, 1000)
        time.sleep(305)

        members.make_leader("m2")

        assert left(members.ctl("lease", "timetolive", lease, at="m2")) <= 702
