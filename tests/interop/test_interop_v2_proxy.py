"""`etcd --proxy on` and `readonly` beside the real one's: v2 clients are passed on, and told when nobody answers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.proxies import at_once
from tests.interop.servers import HeldPort, Member, Program, balsad, clean_environment, fetch, program, real, start

START_S = 20.0
SHOWN = ("Content-Type", "X-Etcd-Index", "Allow", "Content-Length")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class V2Proxy:
    def __init__(self, who: Program, data_dir: Path, member: Member, flags: tuple[str, ...]) -> None:
        self.port = HeldPort()
        self.url = f"http://127.0.0.1:{self.port.number}"
        self.log_path = data_dir.with_suffix(".log")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*who.command, f"--data-dir={data_dir}", f"--listen-client-urls={self.url}"),
                    *(f"--advertise-client-urls={self.url}", f"--initial-cluster=default={member.peer_url}", *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
            )

    def wait(self, endpoints: int = 1) -> None:
        """Return when it knows so many members."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(fetch(f"{self.url}/v2/config/local/proxy")[1])
                if len(told["endpoints"]) == endpoints:
                    return
            time.sleep(0.05)
        pytest.fail(self.log_path.read_text())


@contextlib.contextmanager
def start_v2_proxy(who: Program, data_dir: Path, member: Member, *flags: str) -> Iterator[V2Proxy]:
    proxy = V2Proxy(who, data_dir, member, flags)
    try:
        yield proxy
    finally:
        proxy.process.kill()
        proxy.process.wait()


def asked(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    status, answer, headers = fetch(url, method, body, FORM)
    return status, answer, {name: headers[name] for name in SHOWN if name in headers}


@pytest.mark.real
def test_requests_are_passed_on_and_answers_back(tmp_path: Path) -> None:
    def used(who: str) -> list[object]:
        found: list[object] = []
        data = tmp_path / f"{who}-proxy"
        with start(real(), tmp_path / f"{who}-data", "--enable-v2") as member:
            with start_v2_proxy(program(who), data, member, "--proxy=on", "--proxy-failure-wait=100") as proxy:
                proxy.wait()
                keys = f"{proxy.url}/v2/keys"
                found += [
                    asked(f"{keys}/a", "PUT", b"value=1"),
                    asked(f"{keys}/a"),
                    asked(f"{keys}/a", "HEAD"),
                    asked(f"{keys}/nope"),
                    asked(f"{keys}/a?prevExist=false", "PUT", b"value=2"),
                    asked(f"{keys}/big", "PUT", b"value=" + b"x" * 300_000),
                    asked(f"{keys}/?recursive=true"),
                    asked(f"{proxy.url}/v2/config/local/proxy", "POST"),
                    asked(f"{proxy.url}/health"),
                ]
                told: list[object] = []
                watching = threading.Thread(target=lambda: told.append(fetch(f"{keys}/w?wait=true")[1]))
                watching.start()
                time.sleep(0.5)
                fetch(f"{keys}/w", "PUT", b"value=3", FORM)
                watching.join()
                found += told
                member.stop()
                found += [asked(f"{keys}/a"), fetch(f"{keys}/a")[0]]
            # The file of the one is the other's to read.
            found.append((data / "proxy/cluster").read_text().replace(str(member.peer_port.number), "PORT"))
        return found

    printed = at_once(used)
    for ours, theirs in zip(printed["balsad"], printed["real"], strict=True):
        assert ours == theirs


@pytest.mark.real
def test_readonly_and_a_folder_that_changes_hands(tmp_path: Path) -> None:
    """A folder of a proxy's makes a proxy, without any flag; --proxy readonly takes nothing but GET."""
    with start(real(), tmp_path / "data", "--enable-v2") as member:
        with start_v2_proxy(real(), tmp_path / "proxy", member, "--proxy=on") as proxy:
            proxy.wait()
            fetch(f"{proxy.url}/v2/keys/a", "PUT", b"value=1", FORM)
        with start_v2_proxy(
            balsad(), tmp_path / "proxy", member, "--initial-cluster=default=http://127.0.0.1:1"
        ) as proxy:
            proxy.wait()
            assert json.loads(fetch(f"{proxy.url}/v2/keys/a")[1])["node"]["value"] == "1"
        with start_v2_proxy(balsad(), tmp_path / "readonly", member, "--proxy=readonly") as proxy:
            proxy.wait()
            assert fetch(f"{proxy.url}/v2/keys/a", "PUT", b"value=2", FORM)[:2] == (501, b"")
            assert json.loads(fetch(f"{proxy.url}/v2/keys/a")[1])["node"]["value"] == "1"
            # It speaks HTTP/1 only; who leaves in the middle of a watch is forgotten.
            with socket.create_connection(("127.0.0.1", proxy.port.number), timeout=10) as client:
                client.sendall(b"GET /v2/keys/a?wait=true&stream=true HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
            deadline = time.monotonic() + START_S
            while "client closed request prematurely" not in proxy.log_path.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.05)
