"""A list of revoked certificates: the real etcd asks it about each that a client shows, and so does ours."""

from __future__ import annotations

import datetime
import ssl
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.interop.servers import HeldPort, program, programs, start
from tests.unit.peer.certificates import Authority

pytestmark = pytest.mark.real


def write_list(path: Path, *revoked: str) -> None:
    """`revoked`: files of certificates."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([]))
        .last_update(now - datetime.timedelta(hours=1))
        .next_update(now + datetime.timedelta(days=1))
    )
    for file in revoked:
        serial = x509.load_pem_x509_certificate(Path(file).read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def is_served(url: str, cert: str, key: str) -> bool:
    # Without authorities of its own, as OpenSSL shows along what it knows of the issuer.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(cert, key)
    try:
        with urllib.request.urlopen(f"{url}/version", timeout=10, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("who", programs())
def test_every_certificate_that_a_client_shows_is_looked_up(who: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    bare, bare_key = authority.issue("bare")
    chained, chained_key = authority.issue("chained")
    with open(chained, "a", encoding="ascii") as file:
        file.write(Path(authority.file).read_text("ascii"))
    revoked = tmp_path / "revoked.pem"
    write_list(revoked)
    port = HeldPort()
    url = f"https://127.0.0.1:{port.number}"
    flags = (
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.file}",
        f"--client-crl-file={revoked}",
    )

    with start(program(who), tmp_path / "data", *flags, healthy=False) as member:
        deadline = time.monotonic() + 30
        while not is_served(url, bare, bare_key):
            assert time.monotonic() < deadline, member.logs()
            time.sleep(0.1)
        assert is_served(url, chained, chained_key)

        write_list(revoked, authority.file)
        assert is_served(url, bare, bare_key)
        assert not is_served(url, chained, chained_key)
        assert "rejected connection" in member.logs()
    port.release()
