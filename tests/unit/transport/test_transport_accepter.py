"""How many clients may come in: the rest waits, and is served when there is room; no crowd closes the port.

Source: etcd embed, LimitListener.
"""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from balsad.transport import Limits, ServerTls, share_descriptors
from tests.unit.transport.running_server import Authority, Running, read_all, wait_for
from tests.unit.transport.test_transport_tls import ask_http

GET = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"])
def use_uvloop(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "uvloop")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_tls(authority: Authority) -> ServerTls:
    cert, key = authority.issue("server", "toy-server")
    return ServerTls(cert_file=cert, key_file=key)


def test_who_is_too_many_waits_for_room(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop, limits=Limits(connections_max=3)) as running:
        held = [running.connect() for _ in range(3)]
        wait_for(lambda: len(running.server.connections) == 3)
        crowd = [running.connect() for _ in range(20)]
        for sock in crowd:
            sock.sendall(GET)
        with running.connect() as late:
            late.settimeout(0.3)
            late.sendall(GET)
            with pytest.raises(TimeoutError):
                late.recv(1)
        assert len(running.server.connections) == 3
        held[0].close()
        # One place is enough for one after the other.
        for sock in crowd:
            assert read_all(sock).endswith(b"/health")
            sock.close()
        for sock in held:
            sock.close()
        assert running.crashes == []


def test_those_who_shake_hands_count(use_uvloop: bool, authority: Authority, server_tls: ServerTls) -> None:
    """A handshake that is not finished holds a descriptor as well as a connection does."""
    limits = Limits(connections_max=5, handshake_timeout_s=0.5)
    with Running(use_uvloop=use_uvloop, limits=limits, tls=server_tls) as running:
        silent = [running.connect() for _ in range(20)]
        most = 0

        def is_over() -> bool:
            nonlocal most
            most = max(most, running.listener.arriving)
            return most == 5 and not running.listener.arriving

        wait_for(is_over)
        for sock in silent:
            sock.close()
        assert ask_http(running, authority.client_context()).endswith(b"/health")
        assert running.crashes == []


def test_tls_on_a_plain_port_counts_three_times(use_uvloop: bool, authority: Authority, server_tls: ServerTls) -> None:
    limits = Limits(connections_max=8, handshake_timeout_s=1.0)
    with Running(use_uvloop=use_uvloop, limits=limits) as running:
        server = running.server
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        running.soon(running.listener.close)
        running.listener = running.run(server.listen_bound(bound, also_tls=server_tls))
        running.port = running.listener.port
        silent = [running.connect() for _ in range(2)]
        for sock in silent:
            sock.sendall(b"\x16\x03\x01")
        wait_for(lambda: server.relays == 2)
        # There is room for one more, but not for one that speaks TLS.
        with running.connect() as third:
            third.sendall(b"\x16\x03\x01")
            assert read_all(third) == b""
        assert server.relays == 2
        with running.connect() as third:
            third.sendall(GET)
            assert read_all(third).endswith(b"/health")
        for sock in silent:
            assert read_all(sock) == b""
            sock.close()
        wait_for(lambda: not server.relays)
        # Who is done gives back all three.
        for _ in range(5):
            assert ask_http(running, authority.client_context()).endswith(b"/health")
        wait_for(lambda: not server.relays and not server.connections and not server.handshakes)
        assert running.crashes == []


def test_a_process_without_descriptors_serves_again_when_it_has_some(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        sock = socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
            sock.settimeout(10)
            sock.connect(("127.0.0.1", running.port))
            sock.sendall(GET)
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        sock.settimeout(10)
        assert read_all(sock).endswith(b"/health")
        sock.close()
        assert running.crashes == []


def test_a_client_that_is_gone_is_asked_after_by_the_kernel(use_uvloop: bool) -> None:
    with Running(use_uvloop=use_uvloop) as running, running.connect():
        wait_for(lambda: bool(running.server.connections))
        (first,) = running.server.connections
        sock = first.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_closing_while_resting_and_while_hands_are_shaken(use_uvloop: bool, server_tls: ServerTls) -> None:
    limits = Limits(connections_max=1)
    with Running(use_uvloop=use_uvloop, limits=limits, tls=server_tls) as running:
        silent, waiting = running.connect(), running.connect()
        wait_for(lambda: running.listener.arriving == 1)
        running.soon(running.listener.close)
        running.soon(running.listener.close)
        assert read_all(silent) == b""
        assert read_all(waiting) == b""
        silent.close()
        waiting.close()
        wait_for(lambda: not running.listener.arriving)
        assert running.crashes == []


def test_a_unix_socket_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    path = str(tmp_path / "toy.sock")
    with Running() as running:
        for _ in range(2):
            listener = running.run(running.server.listen_unix(path))
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                sock.sendall(GET)
                assert read_all(sock).endswith(b"/health")
            running.soon(listener.close)


@pytest.mark.parametrize(
    ("limit", "clients", "peers"),
    [(151, 1, 64), (1024, 810, 128), (20_000, 18_914, 1000), (1 << 30, (1 << 30) - 1086, 1000)],
)
def test_descriptors_are_shared_out(limit: int, clients: int, peers: int) -> None:
    """Etcd leaves all but 150 to clients; here other members cannot be crowded out, nor crowd out anybody else."""
    shares = share_descriptors(limit)
    assert (shares.clients, shares.peers) == (clients, peers)
