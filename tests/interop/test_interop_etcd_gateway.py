"""`etcd gateway` beside the real one: what it says, and clients that go through it to members that come and go."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.servers import HeldPort, balsad, clean_environment, fetch, program, programs, start
from tests.real import real_etcd, real_etcdctl

pytestmark = pytest.mark.real

LINES = """
gateway
gateway --help
gateway start --help
gateway start -h
gateway nope
gateway --nope
gateway start --nope
gateway start --retry-delay=x
gateway start --endpoints=
gateway start --endpoints=nope
gateway start --listen-addr=nope
gateway start --listen-addr=256.0.0.1:1
gateway start --endpoints=256.0.0.1:1
gateway start --endpoints=http://127.0.0.1:23799 --listen-addr=127.0.0.1:23799
""".strip().splitlines()


def command(name: str) -> list[str]:
    return [real_etcd()] if name == "real" else [sys.executable, "-m", "balsad"]


def said(name: str, line: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command(name), *line.split()],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )
    return done.returncode, done.stdout, "\n".join(x for x in done.stderr.split("\n") if not x.startswith('{"level'))


@pytest.mark.parametrize("line", LINES)
def test_what_the_gateway_says(line: str) -> None:
    assert said("ours", line) == said("real", line)


@contextmanager
def gateway(name: str, folder: Path, *endpoints: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Its address, and what it has logged."""
    port = HeldPort()
    address = f"127.0.0.1:{port.number}"
    log = folder / f"gateway-{name}.log"
    notified = folder / f"notify-{name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, log.open("wb") as out:
        systemd.bind(str(notified))
        systemd.settimeout(20)
        process = subprocess.Popen(
            [
                *command(name),
                "gateway",
                "start",
                f"--endpoints={','.join(endpoints)}",
                f"--listen-addr={address}",
                "--retry-delay=300ms",
            ],
            stderr=out,
            env={**clean_environment(), "NOTIFY_SOCKET": str(notified)},
        )
        try:
            assert systemd.recv(100) == b"READY=1"
            yield (
                address,
                lambda: [json.loads(line)["msg"] for line in log.read_text().splitlines() if line.startswith("{")],
            )
        finally:
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize("name", programs())
def test_clients_reach_members_through_a_gateway(name: str, tmp_path: Path) -> None:
    kind = "ours" if name == "balsad" else "real"
    nobody = HeldPort()
    with start(program(name), tmp_path / "one") as first, start(balsad(), tmp_path / "two") as second:
        urls = (f"http://127.0.0.1:{nobody.number}", first.client_url, second.client_url)
        with gateway(kind, tmp_path, *urls) as (address, logged):
            env = {**clean_environment(), "ETCDCTL_ENDPOINTS": address}
            big = "x" * 1_000_000
            for step in range(4):
                done = subprocess.run(
                    [real_etcdctl(), "put", "k"], input=f"{step}{big}", text=True, env=env, timeout=30, check=True
                )
                assert done.returncode == 0
            seen = [fetch(f"{url}/metrics")[1].count(b"\netcd_mvcc_put_total 2\n") for url in urls[1:]]
            assert seen == [1, 1], "each had its turn"
            second.kill()
            for _ in range(3):
                found = subprocess.run(
                    [real_etcdctl(), "get", "k", "--print-value-only"],
                    capture_output=True,
                    text=True,
                    env=env,
                    check=True,
                ).stdout
                assert len(found) == len(big) + 2
            until(lambda: logged().count("deactivated endpoint") == 2)
            with start(balsad(), tmp_path / "two", like=second):
                until(lambda: "activated" in logged())
            assert "failed to activate endpoint (stay inactive for another interval)" in logged()
            assert logged()[:4] == [
                "Running: ",
                "notifying init daemon",
                "successfully notified init daemon",
                "ready to proxy client requests",
            ]


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)
