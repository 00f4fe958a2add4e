"""--listen-client-http-urls: web pages there and nothing else, gRPC at the client URLs and nothing else.

The flag is etcd 3.5.9's, and the judge at hand is 3.5.1; what is expected is from embed/serve.go of 3.5.9.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from pathlib import Path

import grpc
import pytest

from balsad.proto import rpc_pb2 as rpc
from tests.interop.servers import HeldPort, Member, balsad, fetch, finish, start
from tests.interop.v3 import V3
from tests.real import real_etcdctl

RANGE = json.dumps({"key": base64.b64encode(b"k").decode()}).encode()


def test_pages_and_grpc_live_apart(tmp_path: Path) -> None:
    port = HeldPort()
    url = f"http://127.0.0.1:{port.number}"
    with start(balsad(), tmp_path / "data", f"--listen-client-http-urls={url}", healthy=False) as member:
        member.client_url, grpc_url = url, member.client_url
        member.wait_healthy()
        with pytest.raises((OSError, ValueError)):
            fetch(f"{grpc_url}/health")
        code, printed = finish(real_etcdctl(), f"--endpoints={grpc_url}", "put", "k", "v")
        assert (code, printed) == (0, "OK\n")

        status, answer, _ = member.http("POST", "/v3/kv/range", RANGE)
        assert (status, answer["kvs"][0]["value"]) == (200, base64.b64encode(b"v").decode())
        assert fetch(f"{url}/version")[0] == 200
        assert b"etcd_server_has_leader 1" in fetch(f"{url}/metrics")[1]
        assert fetch(f"{url}/v2/keys/a", "PUT", b"value=1")[0] == 201

        # Whoever speaks HTTP/2 to a port of pages is hung up on, as cmux does.
        with socket.create_connection(("127.0.0.1", port.number), timeout=10) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            assert _hung_up(client)
        v3 = V3(f"127.0.0.1:{port.number}")
        with pytest.raises(grpc.RpcError) as refused:
            v3.call("KV/Range", rpc.RangeRequest(key=b"k"), rpc.RangeResponse)
        v3.close()
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        logs = member.logs(400)
        assert '"traffic":"grpc"' in logs and '"traffic":"http"' in logs


def test_over_tls_a_port_of_pages_answers_grpc_with_a_page(tmp_path: Path) -> None:
    data, port = tmp_path / "data", HeldPort()
    probe = HeldPort()
    client_url = f"https://127.0.0.1:{probe.number}"
    flags = (
        "--auto-tls",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-client-http-urls=https://127.0.0.1:{port.number}",
    )
    with start(balsad(), data, *flags, healthy=False) as member:
        _until_serving(member, '"traffic":"http"')
        trusted = data / "fixtures/client/cert.pem"
        context = ssl.create_default_context(cafile=trusted)
        assert b'"health":"true"' in _page(port.number, context)
        assert _page(probe.number, context) == b""
        ctl = (real_etcdctl(), f"--cacert={trusted}", "put", "k", "v")
        assert finish(*ctl, f"--endpoints={client_url}") == (0, "OK\n")
        code, printed = finish(*ctl, f"--endpoints=https://127.0.0.1:{port.number}")
        assert (code, "HTTP status code 404" in printed) == (1, True), printed


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_url_cannot_be_both(scheme: str, tmp_path: Path) -> None:
    port = HeldPort()
    url = f"{scheme}://127.0.0.1:{port.number}"
    flags = (f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-client-http-urls={url}")
    with start(balsad(), tmp_path / "data", *flags, healthy=False) as member:
        assert member.process.wait(30) == 1
        expected = (
            f"cannot bind both --client-listen-urls and --client-listen-http-urls on the same url {url}"
            if scheme == "http"
            else f"must be provided for client url {url} with HTTPS scheme"
        )
        assert expected in member.logs()


def _hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def _until_serving(member: Member, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in member.logs(400):
        assert time.monotonic() < deadline and member.process.poll() is None, member.logs()
        time.sleep(0.05)


def _page(port: int, context: ssl.SSLContext) -> bytes:
    """What GET /health gives over HTTP/1.1 and TLS; nothing when the server hangs up."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = b""
        try:
            while piece := client.recv(65536):
                got += piece
        except (ConnectionResetError, ssl.SSLError):
            pass
        return got
