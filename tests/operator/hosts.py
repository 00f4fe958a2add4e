"""Three hosts as an operator has them: 10.0.0.31 to 33, a unit file, certificates, a data dir; and what he types there.

10.0.0.31 m1 --+
10.0.0.32 m2 --+-- bridge -- 10.0.0.254
10.0.0.33 m3 --+
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop.servers import balsad, clean_environment
from tests.nemesis.network import Network
from tests.nemesis.sandbox import ROOT
from tests.real import etcdctl_34, real_etcdctl
from tests.unit.peer.certificates import Authority

START_S = 60.0
STOP_S = 30.0
QUICK = ("--heartbeat-interval=50", "--election-timeout=500", "--log-level=warn")


@dataclass(frozen=True)
class Tool:
    """An etcdctl: its command, and the release whose ways it has."""

    command: tuple[str, ...]
    release: str
    """`3.4` or `3.5`."""


def tool(name: str) -> Tool:
    if name == "ours":
        code = "import sys; from balsad.ctl.etcdctl import main; sys.exit(main())"
        return Tool((sys.executable, "-c", code), "3.5")
    return Tool((etcdctl_34(),), "3.4") if name == "3.4" else Tool((real_etcdctl(),), "3.5")


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class Host:
    """One of the machines; commands run in its network namespace."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.name = name
        self.address = hosts.network.addresses[name]
        self.folder = hosts.folder / name
        self.folder.mkdir()
        self.data_dir = self.folder / "data"
        cert, key = hosts.authority.issue(name, (self.address, "127.0.0.1", "localhost"))
        self.pki = (f"--cacert={hosts.authority.file}", f"--cert={cert}", f"--key={key}")
        self._pki_v2 = ("--ca-file", hosts.authority.file, "--cert-file", cert, "--key-file", key)
        self.peer_url = f"https://{self.address}:2380"
        self.client_url = f"https://{self.address}:2379"
        self.unit: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._hosts = hosts
        self._tls = [
            f"--cert-file={cert}",
            f"--key-file={key}",
            f"--trusted-ca-file={hosts.authority.file}",
            "--client-cert-auth",
            f"--peer-cert-file={cert}",
            f"--peer-key-file={key}",
            f"--peer-trusted-ca-file={hosts.authority.file}",
            "--peer-client-cert-auth",
        ]

    # systemd, as far as it goes.

    def edit_unit(self, member: str, cluster: str, state: str) -> None:
        """Write the ExecStart of the unit file."""
        self.unit = [
            f"--name={member}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url},http://127.0.0.1:2379",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-token=etcd-cluster",
            f"--initial-cluster-state={state}",
            *self._tls,
            *QUICK,
        ]

    def systemctl_start(self, *, wait: bool = True) -> Callable[[], None]:
        """Start the unit; returns once it says READY=1, or gives what waits for that."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(path))
        self._run([*self._hosts.server, *self.unit], {"NOTIFY_SOCKET": str(path)})

        def wait_ready() -> None:
            notify.settimeout(0.2)
            deadline = time.monotonic() + START_S
            with notify:
                while time.monotonic() < deadline:
                    assert self.process is not None
                    assert self.process.poll() is None, f"{self.name}: the unit failed\n{self.logs()}"
                    with contextlib.suppress(TimeoutError):
                        if b"READY=1" in notify.recv(4096):
                            return
            raise AssertionError(f"{self.name}: not ready after {START_S:g} s\n{self.logs()}")

        if wait:
            wait_ready()
        return wait_ready

    def systemctl_stop(self) -> None:
        """SIGTERM: the process ends by that signal, and in time."""
        self._end(signal.SIGTERM)

    def run_in_foreground(self, *flags: str) -> None:
        """Type `etcd ...` at the shell; `ctrl_c` ends it."""
        self._run([*self._hosts.server, *flags, "--log-level=warn"], {})

    def ctrl_c(self) -> None:
        self._end(signal.SIGINT)

    def die(self) -> None:
        """The machine is gone: nothing is said, its data is lost."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process = None

    def rm_data(self) -> None:
        shutil.rmtree(self.data_dir)

    def _run(self, command: list[str], more: dict[str, str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **more},
                cwd=self.folder,
                start_new_session=True,
            )

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        assert process.wait(STOP_S) == -number, f"{self.name}: ended with {process.returncode}\n{self.logs()}"

    def logs(self, lines: int = 30) -> str:
        text = (self.folder / "log").read_text("utf-8", "replace")
        return f"--- {self.name}\n" + "\n".join(text.splitlines()[-lines:])

    # What he types.

    def etcdctl(self, *words: str, status: int = 0) -> Said:
        """Type `etcdctl ...` on this host, which ends with `status`.

        `TLS3`, `EP1` and `EP3` stand for the usual options.
        """
        said = self.try_etcdctl(*words)
        assert said.status == status, f"{self.name}: etcdctl {' '.join(words)}: {said}\n{self._hosts.logs()}"
        return said

    def etcdctl_v2(self, *words: str) -> str:
        """Type `ETCDCTL_API=2 etcdctl ...` with certificates and this host as the endpoint; what it prints."""
        command = [*self._hosts.tool.command, *self._pki_v2, f"--endpoints={self.client_url}", *words]
        done = self._inside(command, {"ETCDCTL_API": "2"})
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done}\n{self._hosts.logs()}"
        return done.stdout

    def backup(self, folder: str) -> None:
        """Type `ETCDCTL_API=2 etcdctl backup`, with the tool of this test, which needs no server."""
        words = ("backup", "--data-dir", f"{self.data_dir}/", "-backup-dir", folder)
        done = self._inside([*self._hosts.tool.command, *words], {"ETCDCTL_API": "2"})
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done}"

    def curl(self, method: str, url: str, body: str) -> tuple[int, str]:
        """Status and body of an HTTP request with a JSON body."""
        done = self._inside([sys.executable, "-m", "tests.operator.curl", method, url, body], {})
        assert done.returncode == 0, f"{self.name}: {url}: {done}\n{self._hosts.logs()}"
        status, _, text = done.stdout.partition("\n")
        return int(status), text

    def member_add(self, *words: str) -> Said:
        """`etcdctl ... member add ...`, again while the members have not yet been connected for long enough (5 s)."""
        deadline = time.monotonic() + 30
        while True:
            said = self.try_etcdctl(*words)
            if said.status == 0:
                return said
            assert "etcdserver: unhealthy cluster" in said.err and time.monotonic() < deadline, said
            time.sleep(0.5)

    def try_etcdctl(self, *words: str) -> Said:
        spelled: list[str] = []
        for word in words:
            if word == "TLS3":
                spelled += self.pki
            elif word == "EP1":
                spelled.append(f"--endpoints={self.client_url}")
            elif word == "EP3":
                spelled.append("--endpoints=" + ",".join(each.client_url for each in self._hosts.all))
            else:
                spelled.append(word)
        done = self._inside([*self._hosts.tool.command, *spelled], {"ETCDCTL_API": "3"})
        return Said(done.returncode, done.stdout, done.stderr)

    def _inside(self, command: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**clean_environment(), "PYTHONPATH": str(ROOT), **more},
            cwd=self.folder,
            check=False,
        )

    def eventually(self, *words: str, holds: Callable[[str], bool]) -> str:
        """Type it again until what is printed pleases; at most half a minute."""
        deadline = time.monotonic() + 30
        while True:
            out = self.etcdctl(*words).out
            if holds(out):
                return out
            assert time.monotonic() < deadline, f"{self.name}: etcdctl {' '.join(words)} still says\n{out}"
            time.sleep(0.2)


class Hosts:
    """The three, the etcdctl in use, and the certificates."""

    def __init__(self, folder: Path, ctl: str) -> None:
        self.folder = folder
        self.server = list(balsad().command)
        self.tool = tool(ctl)
        self.network = Network(("m1", "m2", "m3"), subnet="10.0.0", first=31)
        self.authority = Authority(folder)
        self.all = [Host(self, name) for name in ("m1", "m2", "m3")]

    def logs(self) -> str:
        return "\n".join(host.logs() for host in self.all if (host.folder / "log").exists())

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Kill all in the end; tell what they logged when something was wrong."""
        try:
            yield
        except BaseException:
            print(self.logs())
            raise
        finally:
            for host in self.all:
                if host.process is not None:
                    with contextlib.suppress(Exception):
                        host.die()

    def start_all(self) -> None:
        """`systemctl start etcd` on each: none is ready before there is a quorum."""
        for wait_ready in [host.systemctl_start(wait=False) for host in self.all]:
            wait_ready()

    def stop_all(self) -> None:
        for host in self.all:
            if host.process is not None:
                host.systemctl_stop()
