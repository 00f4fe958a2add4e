"""TLS spoken to a plain listener: served with the same certificates, and no less strictly."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsad.transport import Limits, ServerTls
from tests.unit.transport.running_server import Authority, Running, read_all, wait_for
from tests.unit.transport.test_transport_tls import GET, ask_http, call, handshake


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> tuple[str, str]:
    return authority.issue("client", "alice")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def both(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Running]:
    """A plain listener that takes TLS too."""
    cert, key = authority.issue("server", "toy-server")
    tls = ServerTls(cert_file=cert, key_file=key, trusted_ca_file=authority.ca, client_cert_auth=True)
    with Running(use_uvloop=request.param == "uvloop", limits=Limits(handshake_timeout_s=1.0)) as running:
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        plain = running.listener
        running.listener = running.run(running.server.listen_bound(bound, also_tls=tls))
        running.soon(plain.close)
        running.port = running.listener.port
        yield running


def test_who_speaks_tls_is_served_as_on_a_secure_listener(
    both: Running, authority: Authority, client_pair: tuple[str, str]
) -> None:
    assert call(both, authority, client_pair, "Who", b"") == b"alice"
    # More than the pair of sockets holds: both directions have to wait for each other.
    assert call(both, authority, client_pair, "Echo", b"x" * 1_900_000) == b"x" * 1_900_000
    assert ask_http(both, authority.client_context(client_pair, ("http/1.1",))).endswith(b"alice/health")


def test_who_does_not_is_served_too(both: Running) -> None:
    with both.connect() as sock:
        sock.sendall(GET)
        assert read_all(sock).startswith(b"HTTP/1.1 200 OK")


def test_no_certificate_no_service(both: Running, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path).issue("client", "alice")
    for context in (authority.client_context(), authority.client_context(stranger)):
        try:
            assert ask_http(both, context) == b""
        except (ssl.SSLError, ConnectionResetError):
            pass


def test_a_handshake_that_does_not_go_on_is_dropped(both: Running) -> None:
    with both.connect() as silent, both.connect() as broken:
        silent.sendall(b"\x16")
        broken.sendall(b"\x16\x03\x01\xff\xff" + b"x" * 1000)
        assert b"HTTP" not in read_all(broken)
        assert read_all(silent) == b""
    wait_for(lambda: not both.server.handshakes and not both.server.connections)


def test_a_client_that_leaves_is_forgotten(both: Running, authority: Authority, client_pair: tuple[str, str]) -> None:
    with handshake(both, authority.client_context(client_pair)):
        wait_for(lambda: len(both.server.connections) == 1)
    wait_for(lambda: not both.server.connections)
