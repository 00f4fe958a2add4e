"""A member whose db was tampered with while it was stopped: found out at its start, by the leader, after a compaction.

Members of both kinds lead and are tampered with.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from balsad.env.real import real_env
from balsad.storage import Backend, schema
from tests.interop.clusters import Cluster, cluster
from tests.interop.servers import Program, balsad, real

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KINDS = {"o": balsad, "r": real}
CORRUPT = "etcdserver: corrupt cluster"


def programs(kinds: str) -> dict[str, Program]:
    return {f"m{at + 1}": KINDS[kind]() for at, kind in enumerate(kinds)}


def tamper(folder: Path) -> None:
    """Change a letter of a stored value, as a broken disk might."""
    backend = Backend.open(real_env().disk, str(folder / "member" / "snap" / "db"))
    rows = backend.scan(schema.KEY, b"", None)
    changed = [(key, value.replace(b"honest", b"forged")) for key, value in rows if b"honest" in value]
    assert changed
    for key, value in changed:
        backend.put(schema.KEY, key, value)
    backend.close()


def tampered(members: Cluster, name: str) -> str:
    """Stop a member that does not lead, and change its db; gives its id."""
    others = [seat.name for seat in members.seats if seat.name != name]
    if members.leader() == name:
        members.make_leader(others[0])
    members.ctl("put", "key", "honest", at=others[0])
    members.assert_equal()
    member_id = members.id_of(name)
    members.members[name].stop()
    tamper(members.folder / name)
    return member_id


@pytest.mark.parametrize("kinds", ["oor", "rro", "ooo"])
def test_it_does_not_start_where_it_looks_before(tmp_path: Path, kinds: str) -> None:
    # etcd learns from a snapshot file whom to ask, and else asks nobody.
    flags = ("--snapshot-count=5",) if "r" in kinds else ()
    with cluster(tmp_path, programs(kinds), *flags) as members:
        for at in range(10):
            members.ctl("put", f"k{at}", "honest", at="m1")
        member_id = tampered(members, "m3")

        again = members.start("m3", KINDS[kinds[2]](), "--experimental-initial-corrupt-check")

        assert again.process.wait(20) == 1
        assert f"{member_id} found data inconsistency with peers" in again.logs()
        # With another's data it may.
        members.members["m1"].stop()
        members.start("m1", KINDS[kinds[0]](), "--experimental-initial-corrupt-check")
        members.wait_healthy("m1")
        members.ctl("put", "another", "honest", at="m1")


@pytest.mark.parametrize("kinds", ["oor", "rro"])
def test_the_leader_finds_out(tmp_path: Path, kinds: str) -> None:
    """Whoever is asked refuses from then on, until somebody disarms the alarm."""
    with cluster(tmp_path, programs(kinds), "--experimental-corrupt-check-time=1s") as members:
        member_id = tampered(members, "m3")
        members.start("m3", KINDS[kinds[2]]())

        members.until("the alarm", lambda: "CORRUPT" in members.ctl("alarm", "list", at="m1"))

        # etcd 3.5 names nobody; later ones name who differs from the leader.
        wanted = f"memberID:{int(member_id, 16)} " if kinds[0] == "o" else ""
        assert members.ctl("alarm", "list", at="m1") == f"{wanted}alarm:CORRUPT \n"
        for asked in ("m1", "m2", "m3"):
            assert CORRUPT in members.ctl("put", "a", "b", at=asked, check=False)
            assert CORRUPT in members.ctl("lease", "grant", "60", at=asked, check=False)
        # What it holds it still tells, as etcd 3.5 does.
        assert "honest" in members.ctl("get", "key", at="m2")
        members.members["m3"].stop()
        assert "alarm:CORRUPT" in members.ctl("alarm", "disarm", at="m1")
        members.ctl("put", "a", "b", at="m1")


@pytest.mark.parametrize(("kinds", "alone"), [("ooo", True), ("oo", False)])
def test_a_compaction_shows_who_is_alone(tmp_path: Path, kinds: str, alone: bool) -> None:
    """Of three members the one is named; of two nobody knows which: the alarm is everybody's."""
    flags = ("--experimental-compact-hash-check-enabled", "--experimental-compact-hash-check-time=1s")
    last = f"m{len(kinds)}"
    with cluster(tmp_path, programs(kinds), *flags) as members:
        member_id = tampered(members, last)
        members.start(last, balsad())
        members.wait_healthy(last)
        for at in range(3):
            members.ctl("put", "key", f"honest-{at}", at="m1")

        members.ctl("compaction", "4", at="m1")

        members.until("the alarm", lambda: "CORRUPT" in members.ctl("alarm", "list", at="m1"))
        wanted = f"memberID:{int(member_id, 16)} alarm:CORRUPT \n" if alone else "alarm:CORRUPT \n"
        assert members.ctl("alarm", "list", at="m1") == wanted
        assert CORRUPT in members.ctl("put", "a", "b", at="m1", check=False)


def test_members_in_order_raise_no_alarm(tmp_path: Path) -> None:
    """All checks at once, under writes and compactions; a start behind and ahead of the others passes."""
    flags = (
        "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
        "--compact-hash-check-time=1s",
        "--corrupt-check-time=1s",
    )
    with cluster(tmp_path, programs("ooo"), *flags) as members:
        for round_ in range(3):
            for at in range(20):
                members.ctl("put", f"k{at % 7}", f"v{round_}-{at}", at=f"m{at % 3 + 1}")
            members.ctl("compaction", str(20 * round_ + 10), at="m2")
            behind, other = f"m{round_ + 1}", f"m{(round_ + 1) % 3 + 1}"
            members.make_leader(other)
            members.members[behind].stop()
            members.ctl("put", "meanwhile", "x", at=other)
            members.start(behind, balsad())
            members.wait_healthy(behind)
        assert members.ctl("alarm", "list") == ""
        members.assert_equal()
