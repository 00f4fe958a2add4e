"""After the worst: a cluster anew from a backup, or from one member that is left; tools and members of both kinds."""

from __future__ import annotations

import contextlib
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.clusters import Cluster, Seat, cluster
from tests.interop.servers import Program, balsad, etcdutl, our_etcdutl, real, start
from tests.interop.v3 import connect

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KINDS = {"o": balsad, "r": real}
UTLS = {"o": our_etcdutl, "r": etcdutl}


def programs(kinds: str) -> dict[str, Program]:
    return {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}


def backup(folder: Path, who: Program) -> Path:
    """A backup of a store with a history: values, a lease, a user, a compaction."""
    path = folder / "backup.db"
    with start(who, folder / "before") as member:
        for at in range(30):
            member.etcdctl("put", f"key{at % 7}", f"value {at}")
        lease = member.etcdctl("lease", "grant", "1000").split()[1]
        member.etcdctl("put", "leased", "x", f"--lease={lease}")
        member.etcdctl("user", "add", "root:r")
        member.etcdctl("compact", "10")
        member.etcdctl("snapshot", "save", str(path))
    return path


@contextlib.contextmanager
def restored(folder: Path, snapshot: Path, utls: str, kinds: str, *flags: str):  # type: ignore[no-untyped-def]
    """A running cluster whose members were restored by these tools and are run by these programs."""
    members = Cluster(folder, [Seat(f"m{at + 1}") for at in range(len(kinds))], ())
    try:
        for seat, utl in zip(members.seats, utls, strict=True):
            UTLS[utl](
                "snapshot",
                "restore",
                str(snapshot),
                f"--name={seat.name}",
                f"--data-dir={folder / seat.name}",
                f"--initial-cluster={members.initial}",
                f"--initial-advertise-peer-urls={seat.peer_url}",
                "--initial-cluster-token=anew",
                *flags,
            )
        for name, program in programs(kinds).items():
            members.start(name, program)
        members.wait_healthy()
        yield members
    finally:
        members.stop()
        for seat in members.seats:
            seat.client.release()
            seat.peer.release()


@pytest.mark.parametrize(("utls", "kinds"), [("oro", "roo"), ("ror", "oro")])
def test_three_members_from_one_backup(tmp_path: Path, utls: str, kinds: str) -> None:
    """Whichever tool restored a member, whichever program runs it: they are one cluster, with the ids of its token."""
    snapshot = backup(tmp_path, KINDS[utls[0]]())
    with restored(tmp_path, snapshot, utls, kinds) as members:
        members.assert_equal()
        assert members.ctl("get", "key1", at="m2").splitlines() == ["key1", "value 29"]
        assert "found 1 leases" in members.ctl("lease", "list", at="m3")
        assert members.ctl("user", "list", at="m1") == "root\n"
        members.ctl("put", "more", "1", at="m3")
        listed = members.ctl("member", "list", at="m1").splitlines()
        assert {line.split(", ")[3] for line in listed} == {seat.peer_url for seat in members.seats}
        members.assert_equal()


def test_clients_of_a_bumped_revision_are_told_to_begin_anew(tmp_path: Path) -> None:
    """`--bump-revision` and `--mark-compacted` of 3.6: what a watcher saw of the lost future does not come back."""
    snapshot = backup(tmp_path, balsad())
    flags = ("--bump-revision=1000000", "--mark-compacted", "--initial-memory-map-size=1073741824")
    with restored(tmp_path, snapshot, "ooo", "oro", *flags) as members:
        for seat in members.seats:
            with connect(f"127.0.0.1:{seat.client.number}") as v3:
                status = v3.status()
                assert status.header.revision > 1_000_000
                with pytest.raises(grpc.RpcError, match="required revision has been compacted"):
                    v3.range(b"key1", revision=33)
                assert v3.range(b"key1").kvs[0].value == b"value 29"
                watch = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"key1", start_revision=33))
                stub = v3.channel.stream_stream(
                    "/etcdserverpb.Watch/Watch",
                    request_serializer=rpc.WatchRequest.SerializeToString,
                    response_deserializer=rpc.WatchResponse.FromString,
                )
                answers = stub(iter([watch]), timeout=10)
                cancelled = next(answer for answer in answers if answer.canceled)
                assert cancelled.compact_revision > 1_000_000
        members.ctl("put", "more", "1", at="m2")
        members.assert_equal()


@pytest.mark.parametrize(("before", "after"), [("rro", "r"), ("oor", "o"), ("rrr", "o"), ("ooo", "r")])
def test_the_last_member_goes_on_alone(tmp_path: Path, before: str, after: str) -> None:
    """`--force-new-cluster` on the data of m1, which another program may have written; then others join it."""
    with cluster(tmp_path, programs(before), "--snapshot-count=10") as members:
        for at in range(25):
            members.ctl("put", f"k{at}", "v", at="m1")
        members.ctl("put", "last", "word", at="m3")
        members.assert_equal()
        # Stopped in order it knows what is committed. What a killed member has in its log beyond that is forgotten.
        members.members.pop("m1").stop()
        for member in members.members.values():
            member.kill()
        members.members.clear()
        # A member of one does not wait for the others.
        alone = members.start("m1", KINDS[after](), "--force-new-cluster")

        members.wait_healthy("m1")

        listed = members.ctl("member", "list", at="m1").splitlines()
        assert [line.split(", ")[2:4] for line in listed] == [["m1", members.seat("m1").peer_url]]
        assert members.ctl("get", "last", at="m1").splitlines() == ["last", "word"]
        members.ctl("put", "new", "life", at="m1")
        # Without the flag it goes on as it is; with it once more nothing is lost.
        for flags in ((), ("--force-new-cluster",), ()):
            alone.stop()
            alone = members.start("m1", KINDS[after](), *flags)
            members.wait_healthy("m1")
            assert members.ctl("get", "new", at="m1").splitlines() == ["new", "life"]
        url = members.seat("m2").peer_url
        assert "added to cluster" in members.ctl("member", "add", "m2", f"--peer-urls={url}", at="m1")
        members.seats.pop()
        members.start("m2", KINDS[before[2]](), "--initial-cluster-state=existing", data="m2-new")
        members.wait_healthy("m2")
        members.assert_equal()
