"""A gRPC proxy under test: ours or the real one, in front of a member."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.interop.servers import HeldPort, Program, clean_environment, fetch, programs, run_tool
from tests.real import real_etcdctl

START_S = 30.0
T = TypeVar("T")


def at_once(run: Callable[[str], T]) -> dict[str, T]:
    """What `run` gives for either server, both at the same time."""
    with ThreadPoolExecutor(2) as threads:
        begun = {who: threads.submit(run, who) for who in programs()}
        return {who: each.result() for who, each in begun.items()}


class Proxy:
    """A running proxy; `flags` follow the usual ones."""

    def __init__(self, program: Program, folder: Path, endpoints: str, flags: tuple[str, ...]) -> None:
        self.program = program
        self.port = HeldPort()
        self.address = f"127.0.0.1:{self.port.number}"
        self.url = f"http://{self.address}"
        self.log_path = folder / f"proxy.{self.port.number}.log"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*program.command, "grpc-proxy", "start", f"--listen-addr={self.address}"),
                    *(f"--endpoints={endpoints}", f"--advertise-client-url={self.address}", *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                cwd=folder,
            )

    def logs(self) -> str:
        text = self.log_path.read_text("utf-8", "replace")
        return f"--- proxy of {self.program.name}\n" + "\n".join(text.splitlines()[-60:])

    def wait_healthy(self, seconds: float = START_S) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the proxy ended with {self.process.returncode}\n{self.logs()}")
            with contextlib.suppress(OSError):
                if b'"health":"true"' in fetch(f"{self.url}/health")[1]:
                    return
            time.sleep(0.05)
        pytest.fail(f"the proxy is not healthy after {seconds} s\n{self.logs()}")

    def etcdctl(self, *arguments: str, check: bool = True) -> str:
        """What the real etcdctl prints."""
        return run_tool(real_etcdctl(), f"--endpoints={self.address}", *arguments, check=check, logs=self.logs)

    def metric(self, name: str) -> float:
        """A metric of the proxy's own."""
        for line in fetch(f"{self.url}/proxy/metrics")[1].decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        pytest.fail(f"the proxy has no metric {name}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def start_proxy(program: Program, folder: Path, endpoints: str, *flags: str, healthy: bool = True) -> Iterator[Proxy]:
    proxy = Proxy(program, folder, endpoints, flags)
    try:
        if healthy:
            proxy.wait_healthy()
        yield proxy
    finally:
        proxy.close()
