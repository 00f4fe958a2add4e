"""`python -m tests.operator.flows TOOL FOLDER`: what an operator's guide has him type, with what he is shown.

The numbers (S16, ...) are the guide's steps, in its order. What it has typed for API v2
the real etcdctl says, but for the backup.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
import traceback
from pathlib import Path

from tests.operator.hosts import Host, Hosts

MEMBERS = "etcd01=https://10.0.0.31:2380,etcd02=https://10.0.0.32:2380,etcd03=https://10.0.0.33:2380"


def note(what: str) -> None:
    print(what, flush=True)


def member_lines(text: str) -> list[list[str]]:
    """Each line of `member list`: id, status, name, peer URLs, client URLs, learner; the order is that of the ids."""
    rows = [line.split(", ") for line in text.splitlines()]
    assert all(len(row) == 6 for row in rows), text
    numbers = [int(row[0], 16) for row in rows]
    assert numbers == sorted(numbers), text
    return rows


def names_of(text: str) -> set[str]:
    return {row[2] for row in member_lines(text) if row[1] == "started"}


def found_with_one_member(m1: Host) -> None:
    """S5 to S15: a backup of what v2 has, and a new cluster around it."""
    m1.edit_unit("etcd-old", "etcd-old=https://10.0.0.31:2380", "new")
    m1.systemctl_start()
    note("S5, S6: set and get of v2; the same of v3, which is another store")
    assert m1.etcdctl_v2("set", "/test", "wzxmt") == "wzxmt\n"
    assert m1.etcdctl_v2("get", "/test") == "wzxmt\n"
    assert m1.etcdctl("TLS3", "EP1", "get", "/test").out == ""
    assert m1.etcdctl("TLS3", "EP1", "put", "/test", "of v3").out == "OK\n"
    note("S7 to S9: backup of v2 beside the running member; stop, rm -rf, mv")
    time.sleep(1)  # a person is slower than that, and the log a moment late with what is committed
    m1.backup("etcd_backup")
    m1.systemctl_stop()
    m1.rm_data()
    (m1.folder / "etcd_backup").rename(m1.data_dir)

    note("S10: etcd --force-new-cluster, by hand, under another name and the URLs of nobody")
    m1.run_in_foreground(f"-data-dir={m1.data_dir}", "--name=etcd-m1", "--force-new-cluster")
    _await_local(m1)
    rows = member_lines(m1.etcdctl("member", "list").out)
    assert [row[1:4] for row in rows] == [["started", "etcd-m1", "http://localhost:2380"]]
    identity = rows[0][0]
    m1.ctrl_c()

    note("S11: daemon-reload && systemctl start etcd.service")
    m1.edit_unit("etcd-m1", "etcd-m1=https://10.0.0.31:2380", "new")
    m1.systemctl_start()
    note("S12: the value of v2 is there, none of v3 is")
    assert m1.etcdctl_v2("get", "/test") == "wzxmt\n"
    assert m1.etcdctl("get", "/test").out == ""
    assert m1.etcdctl("put", "/test", "of v3").out == "OK\n"
    note("S13: member list")
    m1.eventually("member", "list", holds=lambda out: member_lines(out)[0][4] == m1.client_url)
    assert m1.etcdctl("member", "list").out == (
        f"{identity}, started, etcd-m1, http://localhost:2380, https://10.0.0.31:2379, false\n"
    )
    note("S14, S15: the peer URL is set by curl")
    url = f"http://localhost:2379/v2/members/{identity}"
    assert m1.curl("PUT", url, '{"peerURLs":["https://10.0.0.31:2380"]}') == (204, "")
    assert m1.etcdctl("member", "list").out == (
        f"{identity}, started, etcd-m1, https://10.0.0.31:2380, https://10.0.0.31:2379, false\n"
    )


def _await_local(host: Host) -> None:
    """Until something answers on 127.0.0.1:2379, as a person would: by trying."""
    for _ in range(30):
        try:
            host.etcdctl("endpoint", "health")
            return
        except AssertionError as refused:
            last = refused
    raise last


def check_added(said: str, name: str, url: str, cluster: dict[str, str]) -> str:
    """What `member add` prints. The new id."""
    found = re.fullmatch(
        r"Member +([0-9a-f]+) added to cluster +([0-9a-f]+)\n\n"
        rf'ETCD_NAME="{name}"\n'
        r'ETCD_INITIAL_CLUSTER="([^"]*)"\n'
        rf'ETCD_INITIAL_ADVERTISE_PEER_URLS="{url}"\n'
        r'ETCD_INITIAL_CLUSTER_STATE="existing"\n',
        said,
    )
    assert found, said
    assert dict(pair.split("=", 1) for pair in found[3].split(",")) == {**cluster, name: url}, said
    return found[1]


def add_members(hosts: Hosts) -> None:
    """S16 to S21: from one member to three."""
    m1, m2, m3 = hosts.all
    found_with_one_member(m1)
    peers = {"etcd-m1": m1.peer_url}

    for host, name in ((m2, "etcd-m2"), (m3, "etcd-m3")):
        note(f"S16, S19: member add {name}")
        said = m1.member_add("member", "add", name, f"--peer-urls={host.peer_url}").out
        added = check_added(said, name, host.peer_url, peers)
        peers[name] = host.peer_url
        if host is m2:
            note("S17: member list, while one of two voters runs")
            if hosts.tool.release == "3.4" or "-c" in hosts.tool.command:
                text = m1.etcdctl("member", "list").out
                assert [added, "unstarted", "", host.peer_url, "", "false"] in member_lines(text), text
            else:
                # Since 3.5 the tool asks for a linearizable answer, and gets none from the real server either.
                late = m1.etcdctl("member", "list", status=1)
                assert "context deadline exceeded" in late.err or "request timed out" in late.err, late
        note("S18, S19: the unit of the new node; rm -rf its data; start")
        host.edit_unit(name, ",".join("=".join(pair) for pair in peers.items()), "existing")
        host.data_dir.mkdir(exist_ok=True)
        host.rm_data()
        host.systemctl_start()
    note("S20: member list")
    text = m1.eventually("member", "list", holds=lambda out: names_of(out) == set(peers))
    assert {(row[2], row[3], row[4]) for row in member_lines(text)} == {
        (name, url, url.replace("2380", "2379")) for name, url in peers.items()
    }
    note("S21: the value is everywhere; all units name all three, and restart")
    cluster = ",".join("=".join(pair) for pair in peers.items())
    for host, name in zip(hosts.all, peers, strict=True):
        assert host.etcdctl("get", "/test", "--consistency=s").out == "/test\nof v3\n"
        host.edit_unit(name, cluster, "existing")
        host.systemctl_stop()
        host.systemctl_start()
    for host in hosts.all:
        assert host.etcdctl("get", "/test").out == "/test\nof v3\n"
        assert host.etcdctl_v2("get", "/test") == "wzxmt\n"
    hosts.stop_all()
    for host in hosts.all:
        host.rm_data()


def status_rows(table: str) -> dict[str, list[str]]:
    """The cells of `endpoint status --write-out=table`, by endpoint."""
    lines = table.splitlines()
    heads = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert heads[:9] == [
        *("ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER", "IS LEARNER", "RAFT TERM", "RAFT INDEX"),
        "RAFT APPLIED INDEX",
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| http")]
    return {row[0]: row for row in rows}


def restore_all(hosts: Hosts, backup: Path, *more: str) -> None:
    """S27 to S29, S38: the same backup on each host, as the guide has it: no TLS options there."""
    for number, host in enumerate(hosts.all, 1):
        said = host.etcdctl(
            *("snapshot", "restore", str(backup), f"--name=etcd0{number}", f"--data-dir={host.data_dir}"),
            f"--initial-advertise-peer-urls={host.peer_url}",
            *("--initial-cluster", MEMBERS, "--initial-cluster-token=etcd-cluster"),
            *more,
        )
        assert said.out == "", said
        if hosts.tool.release == "3.5":
            assert "Deprecated: Use `etcdutl snapshot restore` instead." in said.err
        assert "restored snapshot" in said.err


def check_serving(hosts: Hosts) -> None:
    """S31, S32: the table names one leader and the same cluster everywhere; the value is there."""
    m1 = hosts.all[0]
    rows = status_rows(m1.etcdctl("TLS3", "EP3", "endpoint", "status", "--write-out=table").out)
    assert list(rows) == [host.client_url for host in hosts.all]
    assert sorted(row[4] for row in rows.values()) == ["false", "false", "true"]
    assert len({row[6] for row in rows.values()}) == 1
    assert m1.etcdctl("TLS3", "EP3", "get", "/name/1").out == "/name/1\ntest\n"


def back_up_and_restore(hosts: Hosts) -> Path:
    """S22 to S32. The backup."""
    m1 = hosts.all[0]
    for number, host in enumerate(hosts.all, 1):
        host.edit_unit(f"etcd0{number}", MEMBERS, "new")
    hosts.start_all()
    note("S22, S23: put and get")
    assert m1.etcdctl("TLS3", "EP3", "put", "/name/1", "test").out == "OK\n"
    assert m1.etcdctl("TLS3", "EP3", "get", "/name/1").out == "/name/1\ntest\n"
    note("S24: snapshot save")
    backup = m1.folder / "mysnapshot.db"
    assert m1.etcdctl("TLS3", "EP1", "snapshot", "save", "mysnapshot.db").out == "Snapshot saved at mysnapshot.db\n"
    assert backup.stat().st_mode & 0o777 == 0o600
    note("S25: endpoint status")
    status = m1.etcdctl("TLS3", "EP3", "endpoint", "status").out.splitlines()
    assert [line.split(", ")[0] for line in status] == [host.client_url for host in hosts.all]
    assert all(len(line.split(", ")) == 10 for line in status), status
    ids = {row[2]: row[0] for row in member_lines(m1.etcdctl("TLS3", "EP1", "member", "list").out)}
    # What is written after the backup is gone with it.
    m1.etcdctl("TLS3", "EP3", "put", "/name/2", "too late")
    note("S26: stop all, rm -rf")
    hosts.stop_all()
    for host in hosts.all:
        host.rm_data()
    note("S27 to S30: snapshot restore on each, systemctl start etcd on each")
    restore_all(hosts, backup)
    hosts.start_all()
    note("S31, S32: endpoint status as a table, and the value")
    check_serving(hosts)
    assert m1.etcdctl("TLS3", "EP3", "get", "/name/2").out == ""
    restored = m1.eventually("TLS3", "EP1", "member", "list", holds=lambda out: len(names_of(out)) == 3)
    assert {row[2] for row in member_lines(restored)} == set(ids)
    return backup


def replace_a_dead_member(hosts: Hosts) -> None:
    """S35 to S37, with the third host dead."""
    m1, _, m3 = hosts.all
    listed = member_lines(m1.etcdctl("TLS3", "EP1", "member", "list").out)
    dead = next(row[0] for row in listed if row[2] == "etcd03")
    m3.die()
    note("S35: endpoint status of three, one of them dead")
    said = m1.etcdctl("TLS3", "EP3", "endpoint", "status", "--write-out=table", status=1)
    assert f"Failed to get the status of endpoint {m3.client_url} (context deadline exceeded)" in said.err, said
    assert list(status_rows(said.out)) == [host.client_url for host in hosts.all[:2]]
    note("S36: member remove, with certificates but without endpoints")
    said = m1.etcdctl("TLS3", "member", "remove", dead)
    assert re.fullmatch(rf"Member +{dead} removed from cluster +[0-9a-f]+\n", said.out), said
    note("S37: member add, existing, empty data dir, restart")
    said = m1.member_add("TLS3", "EP3", "member", "add", "etcd03", f"--peer-urls={m3.peer_url}")
    peers = {f"etcd0{number}": host.peer_url for number, host in enumerate(hosts.all, 1)}
    added = check_added(said.out, "etcd03", m3.peer_url, {name: peers[name] for name in ("etcd01", "etcd02")})
    listed = member_lines(m1.etcdctl("TLS3", "EP1", "member", "list").out)
    assert [added, "unstarted", "", m3.peer_url, "", "false"] in listed
    m3.edit_unit("etcd03", MEMBERS, "existing")
    m3.rm_data()
    m3.systemctl_start()
    check_serving(hosts)
    assert m3.etcdctl("get", "/name/1", "--consistency=s").out == "/name/1\ntest\n"


def restore_after_a_lost_majority(hosts: Hosts, backup: Path) -> None:
    """S38: from the backup; and from a copied db file, which has no hash at its end."""
    m1, m2, m3 = hosts.all
    m2.die()
    m3.die()
    late = m1.etcdctl("TLS3", "EP1", "put", "/name/3", "nobody agrees", status=1)
    assert "context deadline exceeded" in late.err or "timed out" in late.err, late
    m1.systemctl_stop()
    copied = m1.folder / "copied.db"
    shutil.copy(m1.data_dir / "member/snap/db", copied)
    for source, more in ((backup, ()), (copied, ("--skip-hash-check",))):
        note(f"S38: all three restored from {source.name}")
        for host in hosts.all:
            host.rm_data()
        if more:
            refused = m1.etcdctl(
                *("snapshot", "restore", str(source), "--name=etcd01", f"--data-dir={m1.data_dir}"),
                f"--initial-advertise-peer-urls={m1.peer_url}",
                *("--initial-cluster", MEMBERS, "--initial-cluster-token=etcd-cluster"),
                status=1,
            )
            assert "snapshot missing hash but --skip-hash-check=false" in refused.err, refused
            shutil.rmtree(m1.data_dir, ignore_errors=True)
        restore_all(hosts, source, *more)
        hosts.start_all()
        check_serving(hosts)
        hosts.stop_all()


def reset_the_cluster(hosts: Hosts) -> None:
    """S49: from one that is left of three, with all its data, back to three."""
    m1, m2, m3 = hosts.all
    note("S49: etcd --force-new-cluster on what is left of three, then member add")
    hosts.start_all()
    identity = next(row[0] for row in member_lines(m1.etcdctl("member", "list").out) if row[2] == "etcd01")
    for host in hosts.all:
        host.die()
    m1.unit.append("--force-new-cluster")
    m1.systemctl_start()
    m1.unit.pop()
    rows = member_lines(m1.eventually("member", "list", holds=lambda out: names_of(out) == {"etcd01"}))
    assert [(row[0], row[3]) for row in rows] == [(identity, m1.peer_url)]
    m1.systemctl_stop()
    m1.systemctl_start()
    peers = {"etcd01": m1.peer_url}
    for name, host in (("etcd02", m2), ("etcd03", m3)):
        said = m1.member_add("member", "add", name, f"--peer-urls={host.peer_url}").out
        check_added(said, name, host.peer_url, peers)
        peers[name] = host.peer_url
        host.edit_unit(name, ",".join("=".join(pair) for pair in peers.items()), "existing")
        host.rm_data()
        host.systemctl_start()
    check_serving(hosts)
    hosts.stop_all()


def main() -> int:
    ctl, folder = sys.argv[1], Path(sys.argv[2])
    hosts = Hosts(folder, ctl)
    try:
        with hosts.living():
            add_members(hosts)
            backup = back_up_and_restore(hosts)
            replace_a_dead_member(hosts)
            restore_after_a_lost_majority(hosts, backup)
            reset_the_cluster(hosts)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
