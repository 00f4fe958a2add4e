"""Members come, go and change their names, beside the real etcd: what the others see, and who stays out."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2
from tests.interop.clusters import Cluster, Seat, cluster
from tests.interop.servers import HeldPort, Program, balsad, real, real_34
from tests.interop.v3 import connect

pytestmark = [pytest.mark.real, pytest.mark.timeout(150)]

KINDS = {"o": balsad, "r": real}


def programs(kinds: str) -> dict[str, Program]:
    return {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}


def fields_of(members: Cluster, name: str, at: str) -> list[str]:
    """Id, state, name, peer URLs, client URLs of the member on that seat."""
    for line in members.ctl("member", "list", at=at).splitlines():
        fields = line.split(", ")
        if fields[0] == name or fields[2] == name:
            return fields
    raise AssertionError(f"no member {name}")


def test_a_member_too_many_is_refused_in_the_same_words(tmp_path: Path) -> None:
    """With a code that etcd did not mean: a slip in its table of errors."""
    said = []
    for name, kind in KINDS.items():
        (tmp_path / name).mkdir()
        with cluster(tmp_path / name, {"m1": kind()}) as members, connect(members.members["m1"].address) as v3:
            for port in (1, 2):
                request = rpc_pb2.MemberAddRequest(peerURLs=[f"http://127.0.0.1:{port}"])
                try:
                    v3.call("Cluster/MemberAdd", request, rpc_pb2.MemberAddResponse)
                except grpc.RpcError as error:
                    said.append((port, error.code(), error.details()))
    wanted = (2, grpc.StatusCode.UNKNOWN, "etcdserver: re-configuration failed due to not enough started members")
    assert said == [wanted, wanted]


@pytest.mark.parametrize("kinds", ["oor", "rro"])
def test_who_was_removed_ends_and_stays_out(tmp_path: Path, kinds: str) -> None:
    """It ends by itself, whether it hears of it at once or later, and may come back only as somebody new."""
    with cluster(tmp_path, programs(kinds)) as members:
        members.make_leader("m1")
        gone = members.members["m3"]
        member_id = members.id_of("m3")
        members.until("m3 may go", lambda: "removed" in members.ctl("member", "remove", member_id, at="m1"))
        assert gone.process.wait(20) == 0, gone.logs()
        assert "the member has been permanently removed from the cluster" in gone.logs()
        assert "data-dir used by this member must be removed" in gone.logs()
        assert member_id not in members.ctl("member", "list", at="m1")

        again = members.start("m3", KINDS[kinds[2]]())
        assert again.process.wait(20) == 0, again.logs()
        assert "the member has been permanently removed from the cluster" in again.logs()
        fresh = members.start("m3", KINDS[kinds[2]](), "--initial-cluster-state=existing", data="fresh")
        assert fresh.process.wait(20) == 1, fresh.logs()
        assert "member count is unequal" in fresh.logs()
        del members.members["m3"]

        # Nobody is hurt by its tries; its place may be taken by somebody new.
        members.ctl("put", "a", "1", at="m2")
        url = members.seat("m3").peer_url
        members.until(
            "m3 may come", lambda: "added" in members.ctl("member", "add", "m3", f"--peer-urls={url}", at="m1")
        )
        members.start("m3", KINDS[kinds[2]](), "--initial-cluster-state=existing", data="new")
        members.wait_healthy("m3")
        assert members.id_of("m3") != member_id
        members.assert_equal()


@pytest.mark.parametrize("kinds", ["ooo", "rro"])
def test_who_was_away_when_it_was_removed_ends_when_it_comes_back(tmp_path: Path, kinds: str) -> None:
    with cluster(tmp_path, programs(kinds)) as members:
        members.make_leader("m1")
        members.members["m3"].kill()
        member_id = members.id_of("m3")
        members.until("m3 may go", lambda: "removed" in members.ctl("member", "remove", member_id, at="m1"))

        again = members.start("m3", KINDS[kinds[2]]())

        assert again.process.wait(20) == 0, again.logs()
        assert "the member has been permanently removed from the cluster" in again.logs()


@pytest.mark.parametrize("kinds", ["oor", "rro"])
def test_a_member_comes_back_under_another_name_and_address(tmp_path: Path, kinds: str) -> None:
    """Name and client URLs it publishes at its start; peer URLs are changed before."""
    with cluster(tmp_path, programs(kinds)) as members:
        member_id = members.id_of("m3")
        members.make_leader("m1")
        members.members["m3"].stop()
        new_peer, new_client = HeldPort(), HeldPort()
        url, client_url = f"http://127.0.0.1:{new_peer.number}", f"http://127.0.0.1:{new_client.number}"
        members.until(
            "updated", lambda: "updated" in members.ctl("member", "update", member_id, f"--peer-urls={url}", at="m1")
        )
        seat = members.seat("m3")
        old = seat.peer, seat.client
        seat.peer, seat.client = new_peer, new_client

        members.start(
            "m3",
            KINDS[kinds[2]](),
            "--name=renamed",
            f"--initial-advertise-peer-urls={url}",
            f"--advertise-client-urls={client_url}",
            f"--initial-cluster=renamed={url}",
        )
        members.wait_healthy("m3")

        for at in ("m1", "m2", "m3"):
            members.until(
                f"{at} knows",
                lambda at=at: (
                    fields_of(members, member_id, at)[:5]  # type: ignore[misc]
                    == [member_id, "started", "renamed", url, client_url]
                ),
            )
        members.ctl("put", "a", "1", at="m3")
        members.assert_equal()
        for port in old:
            port.release()


def test_the_oldest_member_decides_the_version(tmp_path: Path) -> None:
    """3.4 is among them: the cluster is 3.4. Once it runs ours, or 3.5, the cluster is 3.5, and 3.4 is out."""
    with cluster(tmp_path, {"m1": real_34(), "m2": balsad(), "m3": real()}) as members:

        def version(at: str) -> str:
            return str(members.members[at].get("/version")["etcdcluster"])

        members.until("version 3.4", lambda: {version(at) for at in ("m1", "m2", "m3")} == {"3.4.0"})
        members.ctl("put", "a", "1", at="m2")
        members.make_leader("m2")
        members.members["m1"].stop()
        members.start("m1", balsad())
        members.wait_healthy("m1")
        members.until("version 3.5", lambda: {version(at) for at in ("m1", "m2", "m3")} == {"3.5.0"})
        members.assert_equal()

        members.members["m1"].stop()
        back = members.start("m1", real_34())
        assert back.process.wait(20) != 0
        assert version("m2") == "3.5.0"


@pytest.mark.parametrize("kinds", ["oor", "rro"])
def test_a_leader_hands_over_before_it_stops(tmp_path: Path, kinds: str) -> None:
    """Elections take ten seconds here: who answers at once did not wait for one."""
    slow = ("--heartbeat-interval=1000", "--election-timeout=10000")
    with cluster(tmp_path, programs(kinds), *slow) as members:
        members.make_leader("m1")

        members.members["m1"].stop()

        members.members.pop("m1")
        assert members.leader() in ("m2", "m3")
        members.ctl("put", "a", "1", at="m2")
        assert members.ctl("get", "a", at="m3").splitlines() == ["a", "1"]


@pytest.mark.parametrize("kinds", ["oo", "rr"])
def test_what_cannot_be_added_is_refused_by_both_in_the_same_words(tmp_path: Path, kinds: str) -> None:
    with cluster(tmp_path, programs(kinds)) as members:
        members.seats.append(Seat("m3"))
        m1, m3 = members.seat("m1").peer_url, members.seat("m3").peer_url
        own = members.id_of("m1")

        def say(*arguments: str) -> str:
            return members.ctl("member", *arguments, check=False).strip().splitlines()[-1]

        taken = "Error: etcdserver: Peer URLs already exists"
        members.until("connected for five seconds", lambda: say("add", "m3", f"--peer-urls={m1}") == taken)
        assert say("add", "m3", "--peer-urls=nonsense").startswith("Error: ")
        assert say("remove", "1234") == "Error: etcdserver: member not found"
        assert say("update", "1234", f"--peer-urls={m3}") == "Error: etcdserver: member not found"
        assert say("update", own, f"--peer-urls={members.seat('m2').peer_url}") == taken
        assert say("promote", own) == "Error: etcdserver: can only promote a learner member"
        assert say("promote", "1234") == "Error: etcdserver: member not found"
        members.until("added", lambda: "added" in members.ctl("member", "add", "m3", f"--peer-urls={m3}", "--learner"))
        learner = members.id_of("m3")
        assert (
            say("promote", learner)
            == "Error: etcdserver: can only promote a learner member which is in sync with leader"
        )
        assert "removed" in say("remove", learner)
        assert say("remove", learner) == "Error: etcdserver: member not found"
        # Two voters, one of them not started: a third would make them fewer than a quorum.
        members.until("added", lambda: "added" in members.ctl("member", "add", "m3", f"--peer-urls={m3}"))
        assert say("add", "m4", "--peer-urls=http://127.0.0.1:1") == (
            "Error: etcdserver: re-configuration failed due to not enough started members"
        )


@pytest.mark.parametrize("kinds", ["oo", "rr"])
def test_without_the_strict_check_nobody_waits(tmp_path: Path, kinds: str) -> None:
    """With it, members that met less than five seconds ago count as unhealthy."""
    seat = Seat("m3")
    add = ("member", "add", "m3", f"--peer-urls={seat.peer_url}")
    for name in ("lax", "strict"):
        (tmp_path / name).mkdir()
    with cluster(tmp_path / "lax", programs(kinds), "--strict-reconfig-check=false") as members:
        assert "added to cluster" in members.ctl(*add)
    with cluster(tmp_path / "strict", programs(kinds)) as members:
        assert "etcdserver: unhealthy cluster" in members.ctl(*add, check=False)
