"""Who may found a cluster, who may join one: the real etcd judges by the same cases."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clusters import cluster
from tests.interop.servers import program, programs, start

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.mark.parametrize("who", programs())
@pytest.mark.parametrize("others", programs())
def test_who_lost_its_disk_founds_nothing_anew(tmp_path: Path, who: str, others: str) -> None:
    """A member without its log would vote again where it has voted: the others tell that it was there before."""
    kinds = {"m1": program(others), "m2": program(others), "m3": program(who)}
    with cluster(tmp_path, kinds) as members:
        members.make_leader("m1")
        lost = members.id_of("m3")
        members.members["m3"].kill()

        again = members.start("m3", program(who), data="empty")

        assert again.process.wait(20) == 1
        assert f"member {lost} has already been bootstrapped" in again.logs()
        members.ctl("put", "a", "1", at="m1")


class _OtherMember(http.server.BaseHTTPRequestHandler):
    """What a member of a cluster of another version tells of itself."""

    pages: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("X-Etcd-Cluster-Id", "cafe")
        self.end_headers()
        self.wfile.write(body or b"404 page not found\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def other_member(version: str, peer_url_of_joiner: str, *, downgrades: bool = False) -> Iterator[str]:
    """The peer URL of one that says its cluster has this version."""
    handler: Any = type("_Handler", (_OtherMember,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    handler.pages = {
        "/members": json.dumps(
            [
                {"id": 1, "peerURLs": [url], "name": "other", "clientURLs": ["http://127.0.0.1:1"]},
                {"id": 2, "peerURLs": [peer_url_of_joiner], "name": ""},
            ]
        ).encode(),
        "/version": json.dumps({"etcdserver": f"{version}.9", "etcdcluster": f"{version}.0"}).encode(),
        "/downgrade/enabled": b"true" if downgrades else b"false",
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("who", programs())
@pytest.mark.parametrize(
    ("version", "downgrades", "fits"),
    [("3.6", False, False), ("3.5", False, True), ("2.9", False, False), ("3.6", True, True), ("3.5", True, False)],
)
def test_a_cluster_of_another_version_is_not_joined(
    tmp_path: Path, who: str, version: str, downgrades: bool, fits: bool
) -> None:
    """Ahead of this server only while it is being downgraded. Source: etcd isCompatibleWithCluster."""
    with start(program(who), tmp_path / "ports", healthy=False) as ports:
        ports.kill()
    with other_member(version, ports.peer_url, downgrades=downgrades) as url:
        flags = (f"--initial-cluster=default={ports.peer_url},other={url}", "--initial-cluster-state=existing")
        with start(program(who), tmp_path / "data", *flags, like=ports, healthy=False) as member:
            if fits:
                # It waits for a leader, which that one will never be.
                with pytest.raises(subprocess.TimeoutExpired):
                    member.process.wait(2)
                member.kill()
            else:
                assert member.process.wait(20) == 1
                assert "incompatible with current running cluster" in member.logs()
