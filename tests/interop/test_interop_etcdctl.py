"""Our etcdctl and the real ones, line by line: standard output, standard error, exit status.

Each tool has a server of its own, both of the same make, that hears the same
lines in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.servers import Member, program, programs, start
from tests.interop.tool_pair import Printed, Tool, compare, ours_commands
from tests.real import etcdctl_34, real_etcdctl, real_etcdutl

pytestmark = [pytest.mark.real]

FLAGS = ("--bcrypt-cost=4",)

KEYS = r"""
etcdctl version
etcdctl put foo bar
etcdctl put foo1 bar1
etcdctl put foo bar2 --prev-kv
etcdctl put foo bar3 -w json
etcdctl put foo bar4 --prev-kv -w fields
etcdctl put foo bar4 --prev-kv -w json --hex
etcdctl get foo
etcdctl get foo -w json
etcdctl get foo -w fields
etcdctl get foo -w table
etcdctl get foo -w nope
etcdctl get foo --hex
etcdctl get foo --print-value-only
etcdctl get --prefix foo --keys-only
etcdctl get --prefix foo --count-only
etcdctl get --prefix foo --count-only -w fields
etcdctl get --prefix "" --limit 1 -w json
etcdctl get --prefix foo --order=DESCEND --sort-by=KEY
etcdctl get --prefix foo --sort-by=version --order=descend
etcdctl get --prefix foo --sort-by=BAD
etcdctl get --prefix foo --order=BAD
etcdctl get foo --rev=2
etcdctl get foo --rev=999
etcdctl get foo fop
etcdctl get foo --from-key
etcdctl get foo --from-key --prefix
etcdctl get
etcdctl get nosuch
etcdctl get foo --consistency=s
etcdctl get foo --consistency=x
etcdctl put
etcdctl put onlykey
echo -n stdinvalue | etcdctl put fromstdin
etcdctl get fromstdin
etcdctl put foo --ignore-value
etcdctl put nosuch --ignore-value
etcdctl put foo x --ignore-value
etcdctl put nosuch x --ignore-lease
etcdctl put foo bar --lease=deadbeef
etcdctl put foo bar --lease=xyz
etcdctl put -- -k -v
etcdctl get -- -k
etcdctl put bin "$(printf '\001\377x')"
etcdctl get bin -w fields
etcdctl get bin -w json
etcdctl get bin | od -c
etcdctl put '<&>"' "$(printf 'a\tb\nc')"
etcdctl get '<&>"' -w json
etcdctl get '<&>"' -w fields
etcdctl del nosuch
etcdctl del foo1 --prev-kv
etcdctl del foo -w json
etcdctl del --prefix fo -w fields --prev-kv
etcdctl del a b c
etcdctl del --prefix "" --prev-kv
etcdctl put "" x
etcdctl get ""
etcdctl nosuchcommand
etcdctl get foo --nosuchflag
etcdctl get foo --rev=x
etcdctl ge foo
etcdctl put k v
etcdctl get k -w protobuf | tail -c 5 | od -An -tx1
ETCDCTL_WRITE_OUT=json etcdctl get foo
ETCDCTL_FOO=1 etcdctl get foo
etcdctl --endpoints=$EP get foo
ETCDCTL_API=9 etcdctl get foo
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=$EP,$EP get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=http://$EP/ get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1 --command-timeout=200ms get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1,$EP get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=nohost --command-timeout=200ms get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints= get k
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=https://$EP --command-timeout=300ms get k
"""

TXN = r"""
etcdctl put a 1
printf 'value("a") = "1"\n\nput a 2\nput b 3\n\nget a\n\n' | etcdctl txn -i
printf 'mod("a") > "0"\n\nget a\ndel a\n\nput a 1\n\n' | etcdctl txn
printf 'mod("a") > "0"\n\nget a\ndel a\n\nput a 1\n\n' | etcdctl txn
printf 'create("b") != "0"\nversion("b") < "3"\n\nput b x\n\n\n' | etcdctl txn -w json
printf '\nput tk "t v" --prev-kv\nget --prefix t\ndel b --prev-kv\n\n\n' | etcdctl txn -w json
printf '\nget --prefix t\n\n\n' | etcdctl txn -w fields
printf '\n\n\n' | etcdctl txn
printf 'val("a")="0"\n\nget b\n\n\n' | etcdctl txn
printf 'nonsense\n\nget b\n\n\n' | etcdctl txn
printf 'foo("b") = "0"\n\nget b\n\n\n' | etcdctl txn
printf '\nput q 1\nput q 2\n\n\n' | etcdctl txn
printf '\nfrob q\n\n\n' | etcdctl txn
printf '\nget q --order=x\n\n\n' | etcdctl txn
printf 'x' | etcdctl txn
etcdctl txn extra
etcdctl compaction 3
etcdctl compaction 3
etcdctl compact 99
etcdctl compaction
etcdctl compaction abc
etcdctl compact 4 --physical
etcdctl get a --rev=2
"""

MAINTENANCE = r"""
etcdctl put a 1
etcdctl defrag
etcdctl alarm list
etcdctl alarm disarm
etcdctl alarm disarm -w json
etcdctl alarm list x
etcdctl endpoint health
etcdctl endpoint health -w json
etcdctl endpoint health -w fields
etcdctl endpoint status | tr , '\n' | sed -n '3p;5p;6p'
etcdctl endpoint status -w json
etcdctl endpoint status -w table | head -2 | tail -1
etcdctl endpoint status --cluster | cut -d, -f1
etcdctl endpoint hashkv | cut -d, -f1
etcdctl endpoint hashkv -w json
etcdctl endpoint hashkv --rev 99
etcdctl endpoint status -w protobuf
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1,$EP --command-timeout=300ms endpoint status -w fields
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1 --command-timeout=300ms endpoint health
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1 --command-timeout=300ms defrag
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1 --command-timeout=300ms endpoint hashkv
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=127.0.0.1:1 --dial-timeout=300ms --user=a:b get k
etcdctl member list
etcdctl member list -w table
etcdctl member list -w json
etcdctl member list -w fields
etcdctl member add
etcdctl member add x http://127.0.0.1:1
etcdctl member add x
etcdctl member add x --peer-urls=127.0.0.1:1
etcdctl member remove 1234
etcdctl member remove xyz
etcdctl member update 1234 --peer-urls=http://127.0.0.1:9
etcdctl member promote 1234
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=$EP move-leader 1234
etcdctl move-leader
etcdctl snapshot save snap.db; ls snap.db*; stat -c %a snap.db
etcdctl snapshot save a b
etcdctl snapshot save nosuch/dir
env -u ETCDCTL_ENDPOINTS etcdctl --endpoints=$EP,$EP snapshot save x
etcdctl snapshot status snap.db | cut -d, -f2
etcdctl snapshot status nosuch.db
etcdctl snapshot restore snap.db --data-dir r.etcd 2>/dev/null; ls r.etcd r.etcd/member
etcdctl snapshot restore snap.db --data-dir r.etcd
etcdutl snapshot status snap.db -w fields | grep Rev
etcdutl snapshot status snap.db -w nope
etcdutl snapshot restore snap.db
etcdutl snapshot restore snap.db --data-dir r2.etcd --name x
etcdutl snapshot restore nosuch.db --data-dir r3.etcd 2>&1 | tail -1
etcdutl snapshot save x
etcdutl defrag
etcdutl version
etcdctl check perf --load=x
etcdctl check datascale --load=x
etcdctl make-mirror
etcdctl member add s1 --peer-urls=http://127.0.0.1:9 | tr ',"' '\n\n' | sort
"""

LEASES = r"""
etcdctl lease grant 100
etcdctl lease grant 100 -w json
etcdctl lease grant 100 -w fields
etcdctl lease grant
etcdctl lease grant abc
etcdctl lease grant 9000000001
etcdctl lease list | head -1
etcdctl lease revoke 1234
etcdctl lease revoke xyz
etcdctl lease timetolive 1234
etcdctl lease timetolive 1234 -w json
etcdctl lease keep-alive 1234
etcdctl lease keep-alive --once 1234
etcdctl lease grant 300 | awk '{print $2}' > lease
etcdctl put k v --lease=$(cat lease)
etcdctl get k -w json
etcdctl get k -w fields
etcdctl lease timetolive $(cat lease) --keys | sed 's/remaining([0-9]*s)/remaining/'
etcdctl lease timetolive $(cat lease) --keys -w json | sed 's/"ttl":[0-9]*/"ttl":T/'
etcdctl lease keep-alive --once $(cat lease)
etcdctl lease keep-alive --once $(cat lease) -w json
etcdctl lease revoke $(cat lease)
etcdctl get k
etcdctl lease timetolive $(cat lease)
etcdctl lease revoke $(cat lease)
etcdctl lock l1 echo held
etcdctl lock l1 -- sh -c 'echo $ETCD_LOCK_KEY | cut -c1-3; exit 7'
etcdctl lock l1 nosuchcommand
etcdctl lock
etcdctl elect
etcdctl elect a
etcdctl elect -l a b
"""

AUTH = r"""
etcdctl role add r1
etcdctl role add r1
etcdctl role add ""
etcdctl role list
etcdctl role get nosuch
etcdctl role grant-permission r1 readwrite foo
etcdctl role grant-permission r1 read --prefix bar/
etcdctl role grant-permission r1 write --from-key zoo
etcdctl role grant-permission r1 nonsense foo
etcdctl role grant-permission r1 read a z
etcdctl role grant-permission r1 read a z --prefix
etcdctl role grant-permission nosuch read foo
etcdctl role get r1
etcdctl role get r1 -w json
etcdctl role get r1 -w fields
etcdctl role revoke-permission r1 foo
etcdctl role revoke-permission r1 foo
etcdctl role revoke-permission r1 --prefix bar/
etcdctl role delete nosuch
etcdctl user add u1:pw
etcdctl user add u1:pw
etcdctl user add u2 --new-user-password=pw2
etcdctl user add u3 --no-password
etcdctl user add :pw
echo secret | etcdctl user add u4 --interactive=false
printf 'pw\npw\n' | etcdctl user add u5
printf 'pw\nother\n' | etcdctl user add u6
etcdctl user list
etcdctl user list -w fields
etcdctl user get u1
etcdctl user get nosuch
etcdctl user grant-role u1 r1
etcdctl user grant-role u1 nosuch
etcdctl user get u1 --detail
etcdctl user revoke-role u1 nosuch
echo pw3 | etcdctl user passwd u2 --interactive=false
etcdctl auth status
etcdctl auth enable
etcdctl user add root:rpw
etcdctl auth enable
etcdctl get foo
etcdctl --user=root:bad get foo
etcdctl --user=root:rpw put foo 1
etcdctl --user=u1:pw get a
etcdctl --user=u1:pw put b 1
etcdctl --user=u1 --password=pw get a
printf 'rpw\n' | etcdctl --user=root get foo
ETCDCTL_USER=root:rpw etcdctl get foo
etcdctl --user=root:rpw auth status
etcdctl --user=root:rpw auth status -w json
etcdctl --user=root:rpw user delete root
etcdctl --user=u1:pw member list | wc -l
etcdctl --user=u1:pw endpoint health
etcdctl endpoint health
timeout 5 etcdctl --user=u1:pw watch 0
timeout 5 etcdctl --user=u1:pw watch 0 -w json
etcdctl --user=root:rpw auth disable
etcdctl get foo
"""

GROUPS = {"keys": KEYS, "txn": TXN, "maintenance": MAINTENANCE, "leases": LEASES, "auth": AUTH}

# What 3.5 has and 3.4 has not, or had in other words.
NEWER = (
    *("version", "--count-only", "-w protobuf", "txn -w json", "auth status", "nosuch", "-w nope", "endpoint"),
    *("--rev=x", "ETCDCTL_FOO", "ETCDCTL_API"),
)

OLD_GROUPS = {
    name: [line for line in lines.strip().splitlines() if not any(word in line for word in NEWER)][:60]
    for name, lines in (("keys", KEYS), ("txn", TXN), ("auth", AUTH))
}


@pytest.fixture(params=programs())
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    """Two servers of the same make."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(start(program(request.param), tmp_path / name, *FLAGS)) for name in ("one", "two")]
        yield made[0], made[1]


def run_lines(ours: Tool, theirs: Tool, lines: list[str]) -> None:
    """Every line is compared; the first that differs fails with all its words."""
    assert lines
    for line in lines:
        compare(ours, theirs, line)


@pytest.mark.parametrize("group", GROUPS)
def test_etcdctl_speaks_as_3_5_1(group: str, servers: tuple[Member, Member], tmp_path: Path) -> None:
    ours = Tool("ours", tmp_path, ours_commands(), servers[0].address)
    theirs = Tool("theirs", tmp_path, {"etcdctl": [real_etcdctl()], "etcdutl": [real_etcdutl()]}, servers[1].address)
    run_lines(ours, theirs, GROUPS[group].strip().splitlines())


@pytest.mark.parametrize("group", OLD_GROUPS)
def test_etcdctl_speaks_as_3_4(group: str, servers: tuple[Member, Member], tmp_path: Path) -> None:
    ours = Tool("ours", tmp_path, ours_commands(), servers[0].address)
    theirs = Tool("theirs", tmp_path, {"etcdctl": [etcdctl_34()]}, servers[1].address)
    run_lines(ours, theirs, OLD_GROUPS[group])


@pytest.mark.parametrize("name", programs())
def test_members_can_be_listed_without_a_quorum(name: str, tmp_path: Path) -> None:
    """An operator repairs a cluster just then; the real tool gives up, as of 3.5."""
    with start(program(name), tmp_path / "one") as member:
        ours = Tool("ours", tmp_path, ours_commands(), member.address)
        ours.run("etcdctl member add second --peer-urls=http://127.0.0.1:9")

        listed = ours.run("etcdctl --command-timeout=3s member list | cut -d, -f2,3,4 | sort")

    assert listed == Printed(0, " started, default, http://HOST\n unstarted, , http://127.0.0.1:9\n", "")
