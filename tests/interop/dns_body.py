"""What happens in a network where this process answers for DNS: `python -m tests.interop.dns_body STORY FOLDER`.

It runs in namespaces of its own (tests.nemesis.sandbox), with resolv.conf pointing at port 53 here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.interop.dns_server import DnsServer, Zone
from tests.interop.servers import Program, balsad, clean_environment, finish, real
from tests.real import real_etcdctl
from tests.unit.peer.certificates import Authority

DOMAIN = "example.com"
KINDS = {"o": balsad, "r": real}
OURS = (sys.executable, "-c", "import sys; from balsad.ctl.etcdctl import main; sys.exit(main())")
READY_S = 30.0


def host(at: int) -> str:
    return f"m{at + 1}.{DOMAIN}"


class Members:
    """Members that know nothing of each other but the domain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def start(self, at: int, program: Program, *flags: str, scheme: str = "http") -> subprocess.Popen[bytes]:
        name = f"m{at + 1}"
        log = self.folder / f"{name}.log"
        command = [
            *program.command,
            f"--name={name}",
            f"--data-dir={self.folder / name}",
            f"--listen-client-urls=http://127.0.0.1:{12379 + 1000 * at}",
            f"--advertise-client-urls=http://{host(at)}:{12379 + 1000 * at}",
            f"--listen-peer-urls={scheme}://127.0.0.1:{12380 + 1000 * at}",
            f"--initial-advertise-peer-urls={scheme}://{host(at)}:{12380 + 1000 * at}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            *flags,
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean_environment()
            )
        self.processes.append(process)
        self.logs.append(log)
        return process

    def said(self) -> str:
        return "\n".join(f"--- {log}\n{log.read_text()[-4000:]}" for log in self.logs)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()


def zone(count: int = 3, *, secure: bool = False, name: str = "") -> Zone:
    """The records of a cluster."""
    service = f"_etcd-server{'-ssl' if secure else ''}{name}._tcp.{DOMAIN}"
    clients = f"_etcd-client{name}._tcp.{DOMAIN}"
    return Zone(
        srv={
            service: [(10, 5, 12380 + 1000 * at, host(at)) for at in range(count)],
            clients: [(10, 5, 12379 + 1000 * at, host(at)) for at in range(count)],
        },
        addresses={host(at): "127.0.0.1" for at in range(count)},
    )


def ctl(tool: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    return finish(*tool, "--command-timeout=3s", *arguments)


def wait_until_served(tool: tuple[str, ...], count: int, *flags: str) -> None:
    """Until all members have said their names, which DNS does not know."""
    deadline = time.monotonic() + READY_S
    while True:
        status, printed = ctl(tool, *flags, "member", "list")
        if status == 0 and all(f", m{at + 1}, " in printed for at in range(count)):
            return
        assert time.monotonic() < deadline, printed
        time.sleep(0.1)


def founds(dns: DnsServer, members: Members, kinds: str, *, secure: bool = False, name: str = "") -> None:
    """Members of these kinds found a cluster, and both tools find it."""
    dns.zone = zone(len(kinds), secure=secure, name=name)
    flags = [f"--discovery-srv={DOMAIN}"]
    authority = Authority(members.folder)
    if name:
        flags.append(f"--discovery-srv-name={name.removeprefix('-')}")
    for at, kind in enumerate(kinds):
        more = list(flags)
        if secure:
            cert, key = authority.issue(f"peer-{at}", (host(at), "127.0.0.1"))
            more += [f"--peer-cert-file={cert}", f"--peer-key-file={key}", f"--peer-trusted-ca-file={authority.file}"]
            more.append("--peer-client-cert-auth")
        members.start(at, KINDS[kind](), *more, scheme="https" if secure else "http")
    for tool in ((real_etcdctl(),), OURS):
        wait_until_served(tool, len(kinds), *flags)
        status, listed = ctl(tool, *flags, "member", "list")
        assert status == 0, listed
        for at in range(len(kinds)):
            peer_url = f"{'https' if secure else 'http'}://{host(at)}:{12380 + 1000 * at}"
            assert f"started, m{at + 1}, {peer_url}, http://{host(at)}:{12379 + 1000 * at}, false" in listed, listed
        assert ctl(tool, *flags, "put", "a", "1") == (0, "OK\n")
        # These ask the addresses of --endpoints whatever DNS knows.
        status, printed = ctl(tool, *flags, "endpoint", "health")
        assert status == 1 and "127.0.0.1:2379 is unhealthy" in printed, printed
        status, printed = ctl(tool, *flags, "endpoint", "status")
        assert status == 1 and "Failed to get the status of endpoint 127.0.0.1:2379" in printed, printed


def ooo(dns: DnsServer, members: Members) -> None:
    founds(dns, members, "ooo")


def orr(dns: DnsServer, members: Members) -> None:
    founds(dns, members, "orr")


def named(dns: DnsServer, members: Members) -> None:
    founds(dns, members, "o", name="-blue")


def secure(dns: DnsServer, members: Members) -> None:
    founds(dns, members, "oor", secure=True)


def long(dns: DnsServer, members: Members) -> None:
    """Too many records for a datagram: both kinds ask again over TCP."""
    dns.zone = zone(2)
    dns.zone.udp_records_max = 1
    flags = f"--discovery-srv={DOMAIN}"
    members.start(0, balsad(), flags)
    members.start(1, real(), flags)
    for tool in ((real_etcdctl(),), OURS):
        wait_until_served(tool, 2, flags)
    assert {way for way, _ in dns.asked} == {"udp", "tcp"}


def refusals(dns: DnsServer, members: Members) -> None:
    """Starts that fail, and commands that find nothing: both kinds say the same."""
    nobody = Zone(addresses=zone().addresses)
    others = zone()
    others.srv = {f"_etcd-server._tcp.{DOMAIN}": [(1, 1, 13380, host(1)), (1, 1, 14380, host(2))]}
    wrong_scheme = zone(1, secure=True)
    gone = Zone(srv=zone(1).srv, addresses={})
    for records, words in (
        (nobody, "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl"),
        (others, 'error setting up initial cluster: cannot find local etcd member \\"m1\\" in SRV records'),
        (wrong_scheme, "has scheme mismatch with expected peer"),
        (gone, f"lookup {host(0)}"),
    ):
        dns.zone = records
        for program in (real(), balsad()):
            process = members.start(0, program, f"--discovery-srv={DOMAIN}")
            assert process.wait(READY_S) == 1, members.said()
            assert words in members.logs[-1].read_text(), (words, members.said())
    dns.zone = zone(1)
    said = []
    for tool in ((real_etcdctl(),), OURS):
        status, printed = ctl(tool, f"--discovery-srv={DOMAIN}", "--insecure-discovery=false", "get", "a")
        assert f'ignoring discovered insecure endpoint "http://{host(0)}.:12379"' in printed, printed
        status, printed = ctl(tool, "--discovery-srv=nowhere.org", "get", "a")
        said.append((status, printed))
    assert said[0] == said[1], said
    assert "dns lookup errors" in said[0][1]


STORIES = {story.__name__: story for story in (ooo, orr, named, secure, long, refusals)}


def run(name: str, folder: Path) -> None:
    config = folder / "resolv.conf"
    config.write_text("nameserver 127.0.0.1\n")
    for command in (["ip", "link", "set", "lo", "up"], ["mount", "--bind", str(config), "/etc/resolv.conf"]):
        subprocess.run(command, check=True)
    dns = DnsServer(Zone(), 53)
    members = Members(folder)
    try:
        STORIES[name](dns, members)
    except BaseException:
        print(members.said())
        raise
    finally:
        members.stop()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
