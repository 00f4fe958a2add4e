"""What the real etcd answers to a scrape soon after its start."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real import real_etcd


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(bound.getsockname()[1]) for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


@contextmanager
def real_member(folder: Path, *flags: str) -> Iterator[str]:
    """A healthy real etcd; gives its client URL."""
    client, peer = _free_ports(2)
    client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [
        real_etcd(),
        f"--data-dir={folder}/data",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--log-level=error",
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_healthy(client_url)
            yield client_url
        finally:
            process.kill()


def _wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if b"true" in answer.read():
                    return
        except OSError:
            assert time.monotonic() < deadline, "the real etcd did not start"
        time.sleep(0.05)


def real_scrape(folder: Path) -> str:
    with real_member(folder, "--metrics=extensive") as url:
        # The cluster's version is decided a moment after the start.
        deadline = time.monotonic() + 20
        while True:
            with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
                text: str = answer.read().decode()
            if "etcd_cluster_version" in text or time.monotonic() > deadline:
                return text
            time.sleep(0.05)
