"""A certificate of one's own for --auto-tls and --peer-auto-tls: it encrypts, it proves nothing.

Source: etcd client/pkg/transport listener.go (SelfCert).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from balsad.config import StartError
from balsad.observe.logs import get_logger

if TYPE_CHECKING:
    from balsad.env import Disk

log = get_logger(__name__)


def self_signed(disk: Disk, now: float, folder: str, hosts: Iterable[str], validity_years: int) -> tuple[str, str]:
    """Paths of a certificate for `hosts` and its key in `folder`; made unless both are there.

    Raises: StartError.
    """
    if validity_years <= 0:
        reason = "selfSignedCertValidity is invalid,it should be greater than 0"
        log.warning("cannot generate cert", extra={"error": reason})
        raise StartError(reason, f"failed to get {os.path.basename(folder)} self-signed certs")
    cert_path = os.path.abspath(os.path.join(folder, "cert.pem"))
    key_path = os.path.abspath(os.path.join(folder, "key.pem"))
    try:
        disk.makedirs(folder)
        if disk.exists(cert_path) and disk.exists(key_path):
            return cert_path, key_path
        cert, key = _make(now, hosts, validity_years)
        _write(disk, cert_path, cert, 0o644)
        log.info("created cert file", extra={"path": cert_path})
        _write(disk, key_path, key, 0o600)
        log.info("created key file", extra={"path": key_path})
    except OSError as error:
        raise StartError(f"could not make a certificate in {folder}: {error.strerror or error}") from error
    return cert_path, key_path


def _make(now: float, hosts: Iterable[str], validity_years: int) -> tuple[bytes, bytes]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise StartError(
            "--auto-tls and --peer-auto-tls make a certificate with the package `cryptography`, which is not "
            "installed: install balsad[auto-tls], or give a certificate and its key"
        ) from None
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    key = ec.generate_private_key(ec.SECP521R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    begin = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    end = begin + datetime.timedelta(days=365 * validity_years)
    until = end.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    log.warning("automatically generate certificates", extra={"certificate-validity-bound-not-after": until})
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA512())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
    )


def _write(disk: Disk, path: str, data: bytes, mode: int) -> None:
    fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        written = 0
        while written < len(data):
            written += disk.write(fd, data[written:])
    finally:
        disk.close(fd)
