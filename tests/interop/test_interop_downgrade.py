"""Taking a cluster one minor version down: judged as the real etcd judges it, and told to members of both kinds."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.clusters import Cluster, cluster
from tests.interop.servers import Member, balsad, fetch, finish, program, real, start
from tests.interop.v3 import connect

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

OUR_ETCDCTL = (sys.executable, "-c", "import sys; from balsad.ctl.etcdctl import main; sys.exit(main())")

VALIDATE, ENABLE, CANCEL = 0, 1, 2
FORMAT = ("INVALID_ARGUMENT", "etcdserver: wrong downgrade target version format")
TARGET = ("INVALID_ARGUMENT", "etcdserver: invalid downgrade target version")
BUSY = ("FAILED_PRECONDITION", "etcdserver: cluster has a downgrade job in progress")
NONE = ("FAILED_PRECONDITION", "etcdserver: no inflight downgrade job")


def ask(address: str, action: int, version: str = "", timeout: float = 5.0) -> tuple[str, str]:
    """The code and words of the answer; OK and the version told when there is none to complain of."""
    with connect(address) as v3:
        request = rpc.DowngradeRequest(action=action, version=version)  # type: ignore[arg-type]
        try:
            return "OK", v3.call("Maintenance/Downgrade", request, rpc.DowngradeResponse, timeout).version
        except grpc.RpcError as error:
            return error.code().name, str(error.details())


@pytest.mark.parametrize("who", ["balsad", "real"])
def test_what_is_judged(tmp_path: Path, who: str) -> None:
    with start(program(who), tmp_path / "data") as member:
        wait_for_version(member)
        for version in ("", "3", "x", "v3.4", " 3.4", "3.4.0.1"):
            assert ask(member.address, VALIDATE, version) == FORMAT
        for version in ("3.5", "3.3", "3.6", "4.4"):
            assert ask(member.address, VALIDATE, version) == TARGET
        for version in ("3.4", "3.4.0", "3.4.9", "3.4.0-rc.1"):
            assert ask(member.address, VALIDATE, version) == ("OK", "3.5.0")
        assert ask(member.address, CANCEL) == NONE
        assert ask(member.address, ENABLE, "3.5") == TARGET
        assert ask(member.address, 7) == ("UNKNOWN", "etcdserver: unknown method")
        # etcd 3.5 carries this out, yet never answers.
        timeout = 5.0 if who == "balsad" else 0.5
        enabled = ask(member.address, ENABLE, "3.4", timeout)
        assert enabled == ("OK", "3.5.0") or who == "real"
        assert ask(member.address, VALIDATE, "3.4") == BUSY
        assert ask(member.address, ENABLE, "3.4") == BUSY
        cancelled = ask(member.address, CANCEL, "", timeout)
        assert cancelled == ("OK", "3.5.0") or who == "real"
        assert ask(member.address, CANCEL) == NONE


def wait_for_version(member: Member) -> None:
    """The leader decides it a moment after the start."""
    made = Cluster(member.data_dir, [], ())
    made.until("a cluster version", lambda: member.get("/version")["etcdcluster"] == "3.5.0")


@pytest.mark.parametrize("kinds", ["oor", "orr"])
def test_all_members_know(tmp_path: Path, kinds: str) -> None:
    """What one was told, members of the other kind enter too."""
    programs = {f"m{at + 1}": balsad() if kind == "o" else real() for at, kind in enumerate(kinds)}

    def known(members: Cluster, state: bytes) -> bool:
        return all(fetch(f"{seat.peer_url}/downgrade/enabled")[1] == state for seat in members.seats)

    with cluster(tmp_path, programs) as members:
        members.until("a version", lambda: members.members["m1"].get("/version")["etcdcluster"] == "3.5.0")
        assert ask(members.members["m1"].address, ENABLE, "3.4") == ("OK", "3.5.0")
        members.until("all know", lambda: known(members, b"true"))
        ask(members.members["m3"].address, CANCEL, "", 0.5)
        members.until("all know", lambda: known(members, b"false"))
        ask(members.members["m3"].address, ENABLE, "3.4", 0.5)
        members.until("all know", lambda: known(members, b"true"))
        # Ours goes on serving after a restart, as from 3.6 on; etcd 3.5 would refuse.
        members.members["m1"].stop()
        members.start("m1", balsad())
        members.wait_healthy("m1")
        assert known(members, b"true")
        assert ask(members.members["m1"].address, CANCEL) == ("OK", "3.5.0")
        members.until("all know", lambda: known(members, b"false"))
        members.assert_equal()


def test_our_etcdctl_says_it_as_that_of_36(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data") as member:
        wait_for_version(member)

        def say(*arguments: str) -> tuple[int, str]:
            status, printed = finish(*OUR_ETCDCTL, f"--endpoints={member.client_url}", "downgrade", *arguments)
            return status, printed.splitlines()[-1]

        assert say("validate", "3.4") == (0, "Downgrade validate success, cluster version 3.5.0")
        assert say("enable", "3.4") == (0, "Downgrade enable success, cluster version 3.5.0")
        assert say("enable", "3.4") == (1, f"Error: {BUSY[1]}")
        assert say("cancel") == (0, "Downgrade cancel success, cluster version 3.5.0")
        assert say("cancel") == (1, f"Error: {NONE[1]}")
        assert say("validate") == (128, "Error: TARGET_VERSION not provided")
        assert say("validate", "3.4", "x") == (128, "Error: too many arguments")
        assert say("enable", "x") == (1, f"Error: {FORMAT[1]}")


def test_only_root_may(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "data") as member:
        wait_for_version(member)
        member.etcdctl("user", "add", "root:r")
        member.etcdctl("user", "grant-role", "root", "root")
        member.etcdctl("auth", "enable")
        assert ask(member.address, ENABLE, "3.4")[0] == "INVALID_ARGUMENT"
        status, printed = finish(
            *OUR_ETCDCTL, f"--endpoints={member.client_url}", "--user=root:r", "downgrade", "validate", "3.4"
        )
        assert (status, printed) == (0, "Downgrade validate success, cluster version 3.5.0\n")
