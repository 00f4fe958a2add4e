"""Clusters whose members find each other in a registry, which is another etcd of either kind."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.servers import (
    HeldPort,
    Member,
    Program,
    balsad,
    clean_environment,
    fetch,
    program,
    programs,
    real,
    run_tool,
    start,
)
from tests.real import real_etcdctl
from tests.unit.peer.certificates import Authority

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KINDS = {"o": balsad, "r": real}
READY_S = 40.0
ROOT = "/_etcd/registry/"


class Newcomer:
    """A member that is told of a registry, not of the others."""

    def __init__(self, folder: Path, name: str, program: Program, *flags: str) -> None:
        self.name = name
        self.client, self.peer = HeldPort(), HeldPort()
        self.client_url = f"http://127.0.0.1:{self.client.number}"
        self.peer_url = f"http://127.0.0.1:{self.peer.number}"
        self.log = folder / f"{name}.log"
        self.flags = (
            f"--name={name}",
            f"--data-dir={folder / name}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
        )
        self.restart(program, *flags)

    def restart(self, program: Program, *flags: str) -> None:
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*program.command, *self.flags, *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean_environment(),
            )

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def is_healthy(self) -> bool:
        assert self.process.poll() is None, self.said()
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(json.loads(fetch(self.client_url + "/health")[1])["health"] == "true")
        return False

    def ends(self) -> str:
        """What it said, once it has given up."""
        assert self.process.wait(READY_S) == 1, self.said()
        return self.said()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.release()
        self.peer.release()


class Newcomers:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Newcomer] = []

    def start(self, name: str, program: Program, *flags: str) -> Newcomer:
        self.all.append(Newcomer(self.folder, name, program, *flags))
        return self.all[-1]

    def wait(self, *members: Newcomer) -> None:
        deadline = time.monotonic() + READY_S
        while not all(member.is_healthy() for member in members):
            assert time.monotonic() < deadline, "\n".join(member.said()[-3000:] for member in members)
            time.sleep(0.05)


@contextlib.contextmanager
def newcomers(folder: Path) -> Iterator[Newcomers]:
    folder.mkdir()
    made = Newcomers(folder)
    try:
        yield made
    finally:
        for member in made.all:
            member.close()


def listed(member: Newcomer) -> dict[str, str]:
    """Ids of the members of a cluster by name, as etcdctl lists them."""
    text = run_tool(real_etcdctl(), f"--endpoints={member.client_url}", "member", "list")
    return {fields[2]: fields[0] for fields in (line.split(", ") for line in text.splitlines())}


# v3


@pytest.mark.parametrize("who", programs())
def test_who_registers_first_is_in(tmp_path: Path, who: str) -> None:
    """Nobody serves before all are there; who comes too late is told so; the registry holds what etcd's would."""
    with start(program(who), tmp_path / "registry") as registry, newcomers(tmp_path / "new") as new:
        flags = ("--discovery-token=t1", f"--discovery-endpoints={registry.client_url}")
        registry.etcdctl("put", f"{ROOT}t1/_config/size", "3")
        first = [new.start(name, balsad(), *flags) for name in ("m1", "m2")]
        deadline = time.monotonic() + READY_S
        while registry.etcdctl("get", f"{ROOT}t1/members", "--prefix", "--keys-only").count(ROOT) < 2:
            assert time.monotonic() < deadline
        assert not any("ready to serve client requests" in member.said() for member in first)

        third = new.start("m3", balsad(), *flags)
        new.wait(*first, third)

        ids = listed(third)
        keys = registry.etcdctl("get", f"{ROOT}t1/members", "--prefix").split()
        assert dict(zip(keys[::2], keys[1::2], strict=True)) == {
            f"{ROOT}t1/members/{ids[member.name]}": f"{member.name}={member.peer_url}" for member in new.all
        }
        late = new.start("m4", balsad(), *flags).ends()
        assert "failed to join discovery cluster (discovery: cluster is full)" in late
        # Who has a log does not ask.
        third.process.terminate()
        third.process.wait(READY_S)
        registry.stop()
        third.restart(balsad(), *flags)
        new.wait(third)
        assert "discovery token is ignored since cluster already initialized" in third.said()


def test_a_registry_with_users_and_certificates(tmp_path: Path) -> None:
    """All flags of the connection; then the same by a configuration file."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server", ("127.0.0.1",))
    own_cert, own_key = authority.issue("newcomer")
    tls = (f"--cert-file={cert}", f"--key-file={key}", "--client-cert-auth", f"--trusted-ca-file={authority.file}")
    with start(real(), tmp_path / "registry", healthy=False) as plain:
        plain.wait_healthy()
        plain.etcdctl("put", f"{ROOT}t/_config/size", "1")
        plain.etcdctl("put", f"{ROOT}u/_config/size", "1")
        plain.etcdctl("user", "add", "root:secret")
        plain.etcdctl("user", "grant-role", "root", "root")
        plain.etcdctl("auth", "enable")
    url = plain.client_url.replace("http:", "https:")
    secure = (*tls, f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
    with (
        start(real(), tmp_path / "registry", *secure, like=plain, healthy=False),
        newcomers(tmp_path / "new") as new,
    ):
        common = (
            f"--discovery-endpoints={url}",
            "--discovery-insecure-transport=false",
            f"--discovery-cacert={authority.file}",
            f"--discovery-cert={own_cert}",
            f"--discovery-key={own_key}",
            "--discovery-dial-timeout=3s",
            "--discovery-request-timeout=4s",
            "--discovery-keepalive-time=20s",
            "--discovery-keepalive-timeout=5s",
        )
        refused = new.start("m1", balsad(), *common, "--discovery-token=t", "--discovery-user=root:wrong").ends()
        assert "authentication failed, invalid user ID or password" in refused
        member = new.start("m1", balsad(), *common, "--discovery-token=t", "--discovery-user=root:secret")
        new.wait(member)

        port, peer = HeldPort(), HeldPort()
        config = {
            "name": "m2",
            "data-dir": str(tmp_path / "new" / "m2"),
            "listen-client-urls": f"http://127.0.0.1:{port.number}",
            "advertise-client-urls": f"http://127.0.0.1:{port.number}",
            "listen-peer-urls": f"http://127.0.0.1:{peer.number}",
            "initial-advertise-peer-urls": f"http://127.0.0.1:{peer.number}",
            "discovery-config": {
                "token": "u",
                "client": {
                    "endpoints": [url],
                    "request-timeout": 4_000_000_000,
                    "secure": {
                        "insecure-transport": False,
                        "cacert": authority.file,
                        "cert": own_cert,
                        "key": own_key,
                    },
                    "auth": {"username": "root", "password": "secret"},
                },
            },
        }
        (tmp_path / "etcd.yaml").write_text(json.dumps(config))
        by_file = new.start("m2", balsad(), f"--config-file={tmp_path / 'etcd.yaml'}")
        by_file.client_url = f"http://127.0.0.1:{port.number}"
        new.wait(by_file)


def test_a_registry_without_a_size(tmp_path: Path) -> None:
    with start(balsad(), tmp_path / "registry") as registry, newcomers(tmp_path / "new") as new:
        members = []
        for token, size in (("none", None), ("word", "x"), ("zero", "0"), ("less", "-1")):
            if size is not None:
                registry.etcdctl("put", f"{ROOT}{token}/_config/size", "--", size)
            flags = (f"--discovery-token={token}", f"--discovery-endpoints={registry.client_url}")
            members.append(new.start(token, balsad(), *flags))
        for member in members:
            reason = "size key not found" if member.name == "none" else "size key is bad"
            assert f"failed to join discovery cluster (discovery: {reason})" in member.ends()
            assert not (tmp_path / "new" / member.name / "member" / "wal").exists()


def test_a_registry_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    with start(real(), tmp_path / "registry") as registry:
        registry.etcdctl("put", f"{ROOT}t/_config/size", "1")
    with newcomers(tmp_path / "new") as new:
        flags = (
            "--discovery-token=t",
            f"--discovery-endpoints={registry.client_url}",
            "--discovery-request-timeout=1s",
        )
        member = new.start("m1", balsad(), *flags)
        deadline = time.monotonic() + READY_S
        while "retry connecting to discovery service" not in member.said():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with start(real(), tmp_path / "registry", like=registry):
            new.wait(member)


def test_flags_that_do_not_go_together(tmp_path: Path) -> None:
    with newcomers(tmp_path / "new") as new:
        cases = (
            (("--discovery-token=t",), "both --discovery-token and --discovery-endpoints must be set"),
            (("--discovery-endpoints=http://127.0.0.1:1",), "both --discovery-token and --discovery-endpoints"),
            (("--discovery-proxy=p", "--discovery-user=u"), "both v2 discovery settings (discovery, discovery-proxy)"),
            (
                ("--discovery-token=t", "--discovery-endpoints=a", "--discovery-srv=b"),
                "multiple discovery or bootstrap",
            ),
            (
                ("--discovery-token=t", "--discovery-endpoints=http://127.0.0.1:1", "--initial-cluster-state=existing"),
                "discovery endpoints should not be set when joining existing initial cluster",
            ),
            (
                ("--discovery=http://127.0.0.1:1/x", "--initial-cluster-state=existing"),
                "discovery URL should not be set when joining existing initial cluster",
            ),
            (("--discovery-token=t", "--discovery-endpoints=http://127.0.0.1:1", "--discovery-user=u"), "a password"),
            (("--discovery-token=t", "--discovery-endpoints=http://127.0.0.1:1", "--discovery-cert=c"), "KeyFile and"),
            (("--discovery=ftp://x/y", "--discovery-fallback=exit"), "invalid discovery URL"),
        )
        # All at the same time: most of it is starting Python.
        members = [new.start(f"m{at}", balsad(), *flags) for at, (flags, _) in enumerate(cases)]
        for member, (_, words) in zip(members, cases, strict=True):
            assert words in member.ends()


# By URL


def make_token(registry: Member, token: str, size: str) -> str:
    """The URL of a token in a registry of API v2."""
    url = f"{registry.client_url}/v2/keys/discovery/{token}"
    form = urllib.parse.urlencode({"value": size}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, body, _ = fetch(f"{url}/_config/size", "PUT", form, headers)
    assert status == 201, body
    return url


@pytest.mark.parametrize(("who", "kinds"), [("real", "oor"), ("real", "orr"), ("balsad", "oor")])
def test_both_kinds_meet_at_a_url(tmp_path: Path, who: str, kinds: str) -> None:
    with (
        start(program(who), tmp_path / "registry", "--enable-v2") as registry,
        newcomers(tmp_path / "new") as new,
    ):
        url = make_token(registry, "t", "3")
        members = [
            new.start(f"m{at + 1}", KINDS[kind](), f"--discovery={url}", "--discovery-fallback=exit")
            for at, kind in enumerate(kinds)
        ]
        new.wait(*members)

        ids = listed(members[0])
        nodes = json.loads(fetch(url)[1])["node"]["nodes"]
        assert {node["key"].rpartition("/")[2]: node["value"] for node in nodes} == {
            ids[member.name]: f"{member.name}={member.peer_url}" for member in members
        }
        for program_late in (balsad(), real()):
            late = new.start("m4", program_late, f"--discovery={url}", "--discovery-fallback=exit").ends()
            assert "discovery: cluster is full" in late


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no size", "failed to join discovery cluster (100: Key not found (/discovery/t"),
        ("bad size", "discovery: size key is bad"),
        ("no registry", "discovery: bad discovery endpoint"),
        ("registered before", "discovery: found duplicate id"),
        ("same name", "discovery: found duplicate name"),
    ],
)
def test_what_a_url_refuses_it_refuses_to_both(tmp_path: Path, case: str, words: str) -> None:
    with start(real(), tmp_path / "registry", "--enable-v2") as registry, newcomers(tmp_path / "new") as new:
        for at, newcomer in enumerate((real(), balsad())):
            name = f"m{at}"
            url = make_token(registry, f"t{at}", "x" if case == "bad size" else "2" if case == "same name" else "1")
            if case == "no size":
                url += "x"
            elif case == "no registry":
                url = f"{registry.client_url}/metrics"
            flags = (f"--discovery={url}", "--discovery-fallback=exit")
            if case == "same name":
                new.start(name, real(), *flags)
                ended = new.start(name, newcomer, *flags, f"--data-dir={tmp_path / 'new' / f'other-{name}'}")
            elif case == "registered before":
                ended = new.start(name, real(), *flags)
                new.wait(ended)
                ended.process.kill()
                ended.process.wait()
                ended.restart(newcomer, *flags, f"--data-dir={tmp_path / 'new' / f'empty-{name}'}")
            else:
                ended = new.start(name, newcomer, *flags)
            assert words in ended.ends()


@pytest.mark.parametrize("who", programs())
def test_who_comes_too_late_is_a_proxy(tmp_path: Path, who: str) -> None:
    """It passes HTTP on to those who came in time, and does so after a restart; --proxy asks the registry, too."""
    with start(real(), tmp_path / "registry", "--enable-v2") as registry, newcomers(tmp_path / "new") as new:
        url = make_token(registry, "t", "1")
        first = new.start("m1", balsad(), "--enable-v2", f"--discovery={url}")
        new.wait(first)
        late = new.start("m2", program(who), f"--discovery={url}")
        asked = new.start("m3", program(who), "--proxy=on", f"--discovery={url}")
        for proxy in (late, asked):
            assert passed_on(first, proxy)
        assert "discovery cluster is full, falling back to proxy" in late.said()
        if who == "balsad":
            # The real one stumbles over the folder that it began to make for a member.
            late.process.terminate()
            late.process.wait()
            late.restart(program(who), f"--discovery={url}")
            assert passed_on(first, late)


def passed_on(member: Newcomer, proxy: Newcomer) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if b"m1" in fetch(f"{proxy.client_url}/v2/members")[1]:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False
