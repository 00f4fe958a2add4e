"""Clusters of balsad and the real etcd together: who leads, who follows, who joins, who is replaced."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.interop.clusters import Cluster, Seat, cluster
from tests.interop.servers import Program, balsad, real
from tests.interop.v3 import connect

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

KINDS = {"o": balsad, "r": real}


def three(kinds: str) -> dict[str, Program]:
    return {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}


@pytest.mark.parametrize("kinds", ["oor", "orr"])
def test_anyone_leads_anyone_follows(tmp_path: Path, kinds: str) -> None:
    """Each member in turn leads; writes, reads and leases go through every member meanwhile."""
    with cluster(tmp_path, three(kinds)) as members:
        for leader in members.seats:
            members.make_leader(leader.name)
            for asked in members.seats:
                name = f"{leader.name}-{asked.name}"
                members.ctl("put", name, "v", at=asked.name)
                assert members.ctl("get", name, at=leader.name).splitlines() == [name, "v"]
                lease = members.ctl("lease", "grant", "60", at=asked.name).split()[1]
                assert "keepalived with TTL(60)" in members.ctl("lease", "keep-alive", "--once", lease, at=asked.name)
                assert "granted with TTL(60s)" in members.ctl("lease", "timetolive", lease, at=asked.name)
                members.ctl("put", f"leased-{name}", "v", f"--lease={lease}", at=asked.name)
                members.ctl("lease", "revoke", lease, at=asked.name)
                assert members.ctl("get", f"leased-{name}", at=leader.name) == ""
        members.assert_equal()


@pytest.mark.parametrize(("leader", "follower"), [("o", "r"), ("r", "o")])
def test_a_follower_far_behind_gets_a_snapshot(tmp_path: Path, leader: str, follower: str) -> None:
    """A member of either kind sends its db to one of the other, who serves it and follows on."""
    flags = ("--snapshot-count=50",)
    with cluster(tmp_path, three(leader + leader + follower), *flags) as members:
        members.make_leader("m1")
        members.members["m3"].kill()
        address = f"127.0.0.1:{members.seat('m1').client.number}"
        with connect(address) as v3:
            # More than the 5,000 entries that are kept for those who are a little behind.
            for at in range(5_600):
                v3.put(b"k%d" % (at % 700), b"v%d" % at)
        members.start("m3", KINDS[follower]())
        members.wait_healthy("m3")
        members.assert_equal()
        members.ctl("put", "after", "the snapshot", at="m3")
        members.assert_equal()


@pytest.mark.parametrize("kinds", ["oo", "rr", "or"])
def test_both_join_a_running_cluster(tmp_path: Path, kinds: str) -> None:
    """A balsad and a real etcd join clusters of either kind by `member add`; a learner is promoted."""
    with cluster(tmp_path, {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}) as members:
        members.ctl("put", "before", "1")
        joiner = balsad() if kinds != "oo" else real()
        _add(members, "m3", joiner, learner=True)
        members.until(
            "the learner is ready", lambda: "promoted" in members.ctl("member", "promote", members.id_of("m3"))
        )
        members.wait_healthy("m3")
        assert members.ctl("get", "before", at="m3").splitlines() == ["before", "1"]
        members.assert_equal()


def _add(members: Cluster, name: str, program: Program, *, learner: bool = False) -> None:
    if all(seat.name != name for seat in members.seats):
        members.seats.append(Seat(name))
    url = members.seat(name).peer_url
    extra = ["--learner"] if learner else []
    members.until(
        f"{name} may be added", lambda: "added" in members.ctl("member", "add", name, f"--peer-urls={url}", *extra)
    )
    members.start(name, program, "--initial-cluster-state=existing", data=f"{name}-{program.name.replace(' ', '-')}")


def test_a_cluster_moves_from_etcd_to_balsad_and_back(tmp_path: Path) -> None:
    """Member by member, under load; no acknowledged write is lost, and all hold the same throughout."""
    with cluster(tmp_path, three("rrr")) as members:
        load = _Load(members)
        load.start()
        try:
            for program in (balsad(), real()):
                for name in ("m1", "m2", "m3"):
                    _replace(members, name, program)
        finally:
            load.stop()
        members.assert_equal()
        assert load.acknowledged > 100
        with connect(f"127.0.0.1:{members.seat('m1').client.number}") as v3:
            for key, value in load.last.items():
                found = v3.range(key).kvs[0].value
                assert int(found) >= value, f"{key!r}: {found!r}, acknowledged {value}"


def _replace(members: Cluster, name: str, program: Program) -> None:
    others = [seat.name for seat in members.seats if seat.name != name]
    old_id = members.id_of(name)
    members.until(f"{name} may go", lambda: "removed" in members.ctl("member", "remove", old_id, at=others[0]))
    members.members.pop(name).kill()
    _add(members, name, program)
    members.wait_healthy(name)


class _Load:
    """Puts rising numbers under a few keys, at whichever member answers."""

    def __init__(self, members: Cluster) -> None:
        self._members = members
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.acknowledged = 0
        self.last: dict[bytes, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            for seat in list(self._members.seats):
                try:
                    with connect(f"127.0.0.1:{seat.client.number}") as v3:
                        for _ in range(50):
                            number += 1
                            key = b"load-%d" % (number % 7)
                            v3.put(key, b"%d" % number)
                            self.last[key] = number
                            self.acknowledged += 1
                            if self._stop.is_set():
                                return
                except Exception:
                    self._stop.wait(0.05)
