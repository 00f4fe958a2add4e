"""TLS on real sockets: who is let in, what is spoken, renewed certificates."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from balsad.transport import Limits, RevocationList, ServerTls
from balsad.transport.revocation import revoked_serials
from balsad.transport.tls import openssl_ciphers
from tests.unit.transport.running_server import Authority, Running, read_all, wait_for
from tests.unit.transport.wire_kit import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    frame,
    message,
    read_answers,
    read_frames,
    request_fields,
    settings,
    stateless_block,
    window_update,
)

GET = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> tuple[str, str]:
    return authority.issue("server", "toy-server")


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> tuple[str, str]:
    return authority.issue("client", "alice")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def mutual(request: pytest.FixtureRequest, authority: Authority, server_pair: tuple[str, str]) -> Iterator[Running]:
    tls = ServerTls(
        cert_file=server_pair[0], key_file=server_pair[1], trusted_ca_file=authority.ca, client_cert_auth=True
    )
    with Running(tls=tls, use_uvloop=request.param == "uvloop") as running:
        yield running


def handshake(running: Running, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(running.connect(), server_hostname="localhost")


def ask_http(running: Running, context: ssl.SSLContext) -> bytes:
    with handshake(running, context) as sock:
        sock.sendall(GET)
        return read_all(sock)


def call(running: Running, authority: Authority, pair: tuple[str, str], name: str, body: bytes) -> bytes:
    cert, key = (Path(path).read_bytes() for path in pair)
    credentials = grpc.ssl_channel_credentials(Path(authority.ca).read_bytes(), key, cert)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{running.port}", credentials, options) as channel:
        answer: bytes = channel.unary_unary(f"/toy.Toy/{name}")(body, timeout=10)
    return answer


def test_grpc_with_a_client_certificate(mutual: Running, authority: Authority, client_pair: tuple[str, str]) -> None:
    assert call(mutual, authority, client_pair, "Who", b"") == b"alice"
    assert call(mutual, authority, client_pair, "Echo", b"x" * 1_000_000) == b"x" * 1_000_000


def test_http_with_a_client_certificate(mutual: Running, authority: Authority, client_pair: tuple[str, str]) -> None:
    answer = ask_http(mutual, authority.client_context(client_pair, ("http/1.1",)))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"alice/health")
    assert mutual.requests[-1].secure


def test_http_over_http2(mutual: Running, authority: Authority, client_pair: tuple[str, str]) -> None:
    """Behind TLS etcd answers /health and the gateway over HTTP/2 too."""
    with handshake(mutual, authority.client_context(client_pair, ("h2", "http/1.1"))) as sock:
        assert sock.selected_alpn_protocol() == "h2"
        fields = [(":method", "GET"), (":scheme", "https"), (":path", "/version"), (":authority", "x")]
        sock.sendall(PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, stateless_block(fields)))
        sock.sendall(frame(7, 0, 0, b"\0" * 8))
        data = b""
        while not data.endswith(frame(DATA, END_STREAM, 1)):
            piece = sock.recv(65536)
            assert piece
            data += piece
    assert bytes(read_answers(read_frames(data))[1].data) == b"alice/version"


def test_a_client_without_certificate_is_refused_and_disturbs_nobody(
    mutual: Running, authority: Authority, client_pair: tuple[str, str], tmp_path: Path
) -> None:
    with handshake(mutual, authority.client_context(client_pair)) as sock:
        stranger = Authority(tmp_path).issue("client", "alice")
        for context in (authority.client_context(), authority.client_context(stranger)):
            try:
                assert ask_http(mutual, context) == b""
            except (ssl.SSLError, ConnectionResetError):
                pass
        for garbage in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE, b"\x16\x03\x01\xff\xff" + b"x" * 1000):
            with mutual.connect() as plain:
                plain.sendall(garbage)
                # etcd hangs up without a word; OpenSSL may add its alert.
                assert b"HTTP" not in read_all(plain)
        sock.sendall(GET)
        assert read_all(sock).endswith(b"alice/health")
    assert mutual.crashes == []


def test_a_handshake_that_never_comes(authority: Authority, server_pair: tuple[str, str]) -> None:
    tls = ServerTls(cert_file=server_pair[0], key_file=server_pair[1])
    with (
        Running(tls=tls, limits=Limits(handshake_timeout_s=0.2)) as running,
        running.connect() as silent,
        running.connect() as slow,
    ):
        slow.sendall(b"\x16\x03\x01")
        assert ask_http(running, authority.client_context()).endswith(b"/health")
        assert read_all(silent) == b""
        assert read_all(slow) == b""


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_renewed_certificates_count_for_new_connections(
    authority: Authority, server_pair: tuple[str, str], tmp_path: Path, use_uvloop: bool
) -> None:
    cert, key = tmp_path / "live.crt", tmp_path / "live.key"
    shutil.copy(server_pair[0], cert)
    shutil.copy(server_pair[1], key)
    renewed = authority.issue("renewed", "toy-renewed")
    context = authority.client_context(alpn=("http/1.1",))

    def name(sock: ssl.SSLSocket) -> str:
        certificate = sock.getpeercert()
        assert certificate is not None
        return str(certificate["subject"][0][0][1])  # type: ignore[index]

    with Running(tls=ServerTls(cert_file=str(cert), key_file=str(key)), use_uvloop=use_uvloop) as running:
        with handshake(running, context) as old:
            assert name(old) == "toy-server"
            shutil.copy(renewed[0], cert)
            # A pair that does not match, as in the middle of a renewal: the old one goes on.
            with handshake(running, context) as middle:
                assert name(middle) == "toy-server"
            shutil.copy(renewed[1], key)
            for _ in range(2):
                with handshake(running, context) as fresh:
                    assert name(fresh) == "toy-renewed"
                    assert fresh.selected_alpn_protocol() == "http/1.1"
            old.sendall(GET)
            assert read_all(old).endswith(b"/health")
            cert.unlink()
            with handshake(running, context) as still:
                assert name(still) == "toy-renewed"
        assert running.crashes == []


def test_versions_and_ciphers(authority: Authority, server_pair: tuple[str, str]) -> None:
    tls = ServerTls(
        cert_file=server_pair[0],
        key_file=server_pair[1],
        max_version=ssl.TLSVersion.TLSv1_2,
        cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    )
    with Running(tls=tls) as running:
        with handshake(running, authority.client_context()) as sock:
            assert sock.version() == "TLSv1.2"
            cipher = sock.cipher()
            assert cipher is not None and cipher[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
        newer = authority.client_context()
        newer.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises(ssl.SSLError):
            handshake(running, newer)
    with pytest.raises(ValueError, match="TLS_NO_SUCH"):
        openssl_ciphers(("TLS_NO_SUCH",))


def test_a_name_may_be_turned_away_after_the_handshake(
    authority: Authority, server_pair: tuple[str, str], client_pair: tuple[str, str]
) -> None:
    bob = authority.issue("bob", "bob")
    tls = ServerTls(
        cert_file=server_pair[0],
        key_file=server_pair[1],
        trusted_ca_file=authority.ca,
        allows_peer=lambda certificate: "alice" in str(certificate["subject"]),
    )
    with Running(tls=tls) as running:
        assert ask_http(running, authority.client_context(client_pair)).endswith(b"alice/health")
        try:
            assert ask_http(running, authority.client_context(bob)) == b""
        except (ssl.SSLError, OSError):
            pass


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_a_revoked_certificate_is_turned_away_and_an_old_list_counts(
    form: str, authority: Authority, server_pair: tuple[str, str], client_pair: tuple[str, str], tmp_path: Path
) -> None:
    """Nothing but the list's serial numbers is asked for: OpenSSL would turn everybody away once it is out of date."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization

    revoked = x509.load_pem_x509_certificate(Path(client_pair[0]).read_bytes()).serial_number
    key = serialization.load_pem_private_key((Path(authority.ca).parent / "ca.key").read_bytes(), None)
    then = datetime.datetime(2021, 2, 28)
    builder = x509.CertificateRevocationListBuilder().last_update(then).next_update(then + datetime.timedelta(7))
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "toy-ca")]))
    for serial in (5, revoked, 1 << 150):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(then)
        builder = builder.add_revoked_certificate(entry.build())
    path = tmp_path / "revoked"
    data = builder.sign(key, hashes.SHA256()).public_bytes(getattr(serialization.Encoding, form))
    path.write_bytes(data)
    assert revoked_serials(data) == {5, revoked, 1 << 150}
    for length in range(len(data) if form == "DER" else 0):
        with pytest.raises(ValueError, match="not a certificate revocation list"):
            revoked_serials(data[:length])
    tls = ServerTls(
        cert_file=server_pair[0],
        key_file=server_pair[1],
        trusted_ca_file=authority.ca,
        revocations=RevocationList(str(path)),
    )
    with Running(tls=tls) as running:

        def is_served(pair: tuple[str, str]) -> bool:
            try:
                return ask_http(running, authority.client_context(pair)).endswith(b"/health")
            except (ssl.SSLError, OSError):
                return False

        assert is_served(authority.issue("bob", "bob"))
        assert not is_served(client_pair)
        # Who cannot tell lets nobody in; a new list counts at once.
        path.write_bytes(b"junk")
        assert not is_served(authority.issue("bob", "bob"))
        path.unlink()
        assert not is_served(authority.issue("bob", "bob"))
        fresh = x509.CertificateRevocationListBuilder().last_update(then).next_update(then)
        fresh = fresh.issuer_name(x509.Name([])).sign(key, hashes.SHA256())
        path.write_bytes(fresh.public_bytes(serialization.Encoding.DER))
        assert is_served(client_pair)


def test_files_that_are_not_there_or_no_certificate(tmp_path: Path, server_pair: tuple[str, str]) -> None:
    with pytest.raises(OSError):
        Running(tls=ServerTls(cert_file=str(tmp_path / "none"), key_file=server_pair[1]))


def test_a_client_that_leaves_in_the_middle_of_the_handshake(
    authority: Authority, server_pair: tuple[str, str]
) -> None:
    with Running(tls=ServerTls(cert_file=server_pair[0], key_file=server_pair[1])) as running:
        for _ in range(20):
            with running.connect() as sock:
                sock.sendall(b"\x16\x03\x01\x00\xa5\x01")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert ask_http(running, authority.client_context()).endswith(b"/health")
        assert running.crashes == []


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_a_client_that_never_reads_is_held_behind_tls_too(
    authority: Authority, server_pair: tuple[str, str], use_uvloop: bool
) -> None:
    block = stateless_block(request_fields("/toy.Toy/Echo"))
    hello = PREFACE + settings((4, (1 << 31) - 1)) + window_update(0, (1 << 31) - 1 - 65535)
    body = message(b"many16000")
    asked = 5000
    ids = range(1, 2 * asked, 2)
    requests = b"".join([frame(HEADERS, END_HEADERS, one, block) + frame(DATA, END_STREAM, one, body) for one in ids])
    tls = ServerTls(cert_file=server_pair[0], key_file=server_pair[1])
    with Running(tls=tls, use_uvloop=use_uvloop) as running:
        with handshake(running, authority.client_context(alpn=("h2",))) as sock:
            sock.sendall(hello + requests)
            wait_for(lambda: any(getattr(one, "paused", False) for one in list(running.server.connections)))
            method = next(method for method in running.server.methods if method.name == "Echo")
            assert ask_http(running, authority.client_context()).endswith(b"/health")
            assert method.started < 3000
            ended, rest = 0, b""
            while ended < asked:
                piece = sock.recv(1 << 20)
                assert piece
                rest += piece
                ended += rest.count(b"\x0bgrpc-status\x010")
                rest = rest[-12:]
        assert running.crashes == []
