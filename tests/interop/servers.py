"""Members under test: a balsad or a real etcd on free ports and a data dir, and etcdctl beside them.

with start(balsad(), tmp_path / "data") as member:
    member.etcdctl("put", "a", "1")
    member.kill()
with start(real(), tmp_path / "data", like=member) as member: ...
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real import etcd_34, real_etcd, real_etcdctl, real_etcdutl

START_S = 30.0
STOP_S = 20.0


@dataclass(frozen=True)
class Program:
    """A server that can be started: its name in messages and its command."""

    name: str
    command: tuple[str, ...]


def balsad() -> Program:
    """Our server, or skip the test while there is none.

    With INTEROP_REAL_FOR_OURS=1 the real etcd takes its part: so a test shows that it asks nothing unfair.
    """
    if os.environ.get("INTEROP_REAL_FOR_OURS") == "1":
        return real()
    if importlib.util.find_spec("balsad.main") is None:
        pytest.skip("balsad.main is not there yet")
    return Program("balsad", (sys.executable, "-m", "balsad"))


def real() -> Program:
    return Program("etcd 3.5.1", (real_etcd(),))


def programs() -> list[str]:
    """For parametrize: who may play a part; `program` gives it."""
    return ["balsad", "real"]


def program(name: str) -> Program:
    return balsad() if name == "balsad" else real()


def real_34() -> Program:
    return Program("etcd 3.4", (etcd_34(),))


class HeldPort:
    """A port of 127.0.0.1 that the kernel gave and gives nobody else while this is held.

    The socket is bound but does not listen; a server that sets SO_REUSEADDR can still listen there.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()


def clean_environment() -> dict[str, str]:
    """This process's environment without what etcd and its tools would read, in UTC."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ETCD", "BALSAD")) and "proxy" not in name.lower()
    }
    return {**kept, "TZ": "UTC"}


class Member:
    """A running server. `flags` follow the usual ones and so win over them."""

    def __init__(self, program: Program, data_dir: Path, flags: tuple[str, ...], like: Member | None) -> None:
        self.program = program
        self.data_dir = data_dir
        self.client_port: HeldPort = HeldPort() if like is None else like.client_port
        self.peer_port: HeldPort = HeldPort() if like is None else like.peer_port
        self.client_url = f"http://127.0.0.1:{self.client_port.number}"
        self.peer_url = f"http://127.0.0.1:{self.peer_port.number}"
        self.log_path = data_dir.parent / f"{data_dir.name}.{program.name.replace(' ', '-')}.log"
        self.command = [
            *program.command,
            f"--data-dir={data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster=default={self.peer_url}",
            # Ten times shorter than usual, so that a start takes no second.
            "--heartbeat-interval=10",
            "--election-timeout=100",
            *flags,
        ]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        """host:port for gRPC."""
        return f"127.0.0.1:{self.client_port.number}"

    def logs(self, lines: int = 60) -> str:
        text = self.log_path.read_text("utf-8", "replace")
        return f"--- {self.program.name}, {self.log_path}\n" + "\n".join(text.splitlines()[-lines:])

    def wait_healthy(self, seconds: float = START_S) -> None:
        """Return when /health says true, alarms aside. Fails the test with the log when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"{self.program.name} ended with {self.process.returncode}\n{self.logs()}")
            if self.is_healthy():
                return
            time.sleep(0.05)
        pytest.fail(f"{self.program.name} is not healthy after {seconds} s\n{self.logs()}")

    def is_healthy(self) -> bool:
        try:
            answer = self.get("/health")
            return bool(answer["health"] == "true") or str(answer.get("reason")).startswith("ALARM")
        except (OSError, ValueError, KeyError):
            return False

    def get(self, path: str) -> Any:
        """The JSON answer of an HTTP GET; an HTTP error's body counts as an answer too."""
        return self.http("GET", path)[1]

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON body (or None) and headers of one HTTP request."""
        status, data, fields = fetch(self.client_url + path, method, body, headers)
        return status, json.loads(data) if data.strip() else None, fields

    def etcdctl(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> str:
        """What the real etcdctl prints; the test fails when it does and `check` is set."""
        return run_tool(
            real_etcdctl(), f"--endpoints={self.client_url}", *arguments, check=check, env=env, logs=self.logs
        )

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
                pytest.fail(f"{self.program.name} does not stop on SIGTERM\n{self.logs()}")

    def kill(self) -> None:
        """SIGKILL to it and to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)


@contextlib.contextmanager
def start(
    program: Program, data_dir: Path, *flags: str, like: Member | None = None, healthy: bool = True
) -> Iterator[Member]:
    """A member on `data_dir`, stopped at the end if the test did not stop or kill it itself.

    `like` gives the ports of an earlier one, for a data dir that changes hands.
    """
    member = Member(program, data_dir, flags, like)
    try:
        if healthy:
            member.wait_healthy()
        yield member
        member.stop()
    except BaseException:
        member.kill()
        raise


def finish(*command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status of a command line tool and what it printed, stdout first."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**clean_environment(), **(env or {})}, check=False
    )
    return done.returncode, done.stdout + done.stderr


def run_tool(
    *command: str, check: bool = True, env: dict[str, str] | None = None, logs: Callable[[], str] | None = None
) -> str:
    """What a command line tool printed; fails the test when it does not end with 0 and `check` is set."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**clean_environment(), **(env or {})}, check=False
    )
    if not check:
        return done.stdout + done.stderr
    if done.returncode != 0:
        pytest.fail(
            f"{Path(command[0]).name} {' '.join(command[1:])}: {done.returncode}\n{done.stdout}{done.stderr}"
            + (logs() if logs is not None else "")
        )
    return done.stdout


def fetch(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one HTTP request; an HTTP error's too."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def our_etcdutl(*arguments: str, check: bool = True) -> str:
    """What our etcdutl prints, or skip the test while there is none."""
    if os.environ.get("INTEROP_REAL_FOR_OURS") == "1":
        return etcdutl(*arguments, check=check)
    if importlib.util.find_spec("balsad.ctl.etcdutl") is None:
        pytest.skip("balsad.ctl.etcdutl is not there yet")
    code = "import sys; from balsad.ctl.etcdutl import main; sys.exit(main())"
    status, printed = finish(sys.executable, "-c", code, *arguments)
    if "is not there yet" in printed:
        pytest.skip(printed.strip())
    if check and status != 0:
        pytest.fail(f"our etcdutl {' '.join(arguments)}: {status}\n{printed}")
    return printed


def etcdutl(*arguments: str, check: bool = True) -> str:
    """What the real etcdutl prints."""
    return run_tool(real_etcdutl(), *arguments, check=check)


def copy_data_dir(source: Path, target: Path) -> Path:
    """The data dir as a crash would leave it on another disk, taken while nobody writes."""
    shutil.copytree(source, target)
    return target
