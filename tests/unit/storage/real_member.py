"""One member of the real etcd on a data directory of the test's choice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.real import real_etcd, real_etcdctl


def free_ports(count: int) -> list[int]:
    """Ports that the kernel gave and nobody holds now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()


class RealMember:
    """A running etcd 3.5.1; leaving the `with` ends it."""

    def __init__(self, data_dir: Path, *flags: str, name: str = "default", peer_port: int = 0) -> None:
        self.data_dir = data_dir
        client_port, spare_port = free_ports(2)
        self.peer_url = f"http://127.0.0.1:{peer_port or spare_port}"
        self.endpoint = f"http://127.0.0.1:{client_port}"
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self._command = [
            real_etcd(),
            f"--name={name}",
            f"--data-dir={data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={name}={self.peer_url}",
            *flags,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RealMember:
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.try_ctl("endpoint", "health", "--command-timeout=1s") is not None:
                return self
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"etcd did not start:\n{self.log()[-3000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process; SIGKILL is a crash."""
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.process = None

    def try_ctl(self, *arguments: str) -> str | None:
        """What etcdctl prints, or None when it fails."""
        ran = subprocess.run(
            [real_etcdctl(), f"--endpoints={self.endpoint}", *arguments],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return ran.stdout if ran.returncode == 0 else None

    def ctl(self, *arguments: str) -> str:
        """What etcdctl prints; it must succeed."""
        out = self.try_ctl(*arguments)
        assert out is not None, f"etcdctl {arguments} failed:\n{self.log()[-2000:]}"
        return out

    def status(self) -> dict[str, int]:
        """revision, raft index and term, member and cluster id."""
        status = json.loads(self.ctl("endpoint", "status", "-w", "json"))[0]["Status"]
        return {
            "revision": status["header"]["revision"],
            "member_id": status["header"]["member_id"],
            "cluster_id": status["header"]["cluster_id"],
            "raft_index": status["raftIndex"],
            "raft_term": status["raftTerm"],
        }

    def hash_kv(self) -> int:
        return int(json.loads(self.ctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]["hash"])
