"""A server's TLS: certificates, whom to trust, what to speak.

Certificate and key are looked at again for every handshake, as etcd does, so
that renewed files count for new connections without a restart.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from balsad.transport.revocation import RevocationList

# What etcd's --cipher-suites calls them, and what OpenSSL does.
CIPHER_SUITES: Final[dict[str, str]] = {
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
# TLS 1.3 has suites of its own, which are always all on, as in Go.
TLS13_SUITES: Final = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))

PeerCertificate = dict[str, Any]
"""What `ssl.SSLSocket.getpeercert` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """What a listener needs to speak TLS. Files are PEM."""

    cert_file: str
    key_file: str
    trusted_ca_file: str = ""
    """Whose client certificates are trusted; naming one makes a client certificate obligatory."""
    client_cert_auth: bool = False
    """A client certificate is obligatory, of the system's authorities if none are named."""
    revocations: RevocationList | None = None
    """Whose certificates are turned away after the handshake."""
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    """Go's names, or OpenSSL's; none means the defaults."""
    allows_peer: Callable[[PeerCertificate], bool] | None = None
    """A further look at a certificate that is in order, as for allowed names."""


class CertificateKeeper:
    """The context of a listener, made anew when the files on disk change."""

    def __init__(self, tls: ServerTls) -> None:
        """Raises OSError, ssl.SSLError and ValueError when there is nothing to serve with."""
        self.tls = tls
        self._stamp = _stamp(tls)
        self.context = make_context(tls)
        self.context.sni_callback = self._on_hello

    def _on_hello(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        """Called early in every handshake, whether it names a server or not."""
        stamp = _stamp(self.tls)
        if stamp != self._stamp and stamp is not None:
            try:
                fresh = make_context(self.tls)
            except (OSError, ValueError):
                # Half written, perhaps: go on with the old pair and look again at the next handshake.
                return None
            # New connections start from the first context, this one has begun already.
            self.context.load_cert_chain(self.tls.cert_file, self.tls.key_file)
            handshake.context = fresh
            self._stamp = stamp
        return None


def why_unusable(tls: ServerTls) -> str:
    """Why nothing can be served with these files, in Go's words; empty if something can."""
    if not tls.cert_file or not tls.key_file:
        return f"KeyFile and CertFile must both be present[key: {tls.key_file}, cert: {tls.cert_file}]"
    for path, pem in ((tls.cert_file, "certificate input"), (tls.key_file, "key input"), (tls.trusted_ca_file, "")):
        if not path:
            continue
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            return f"open {path}: {(error.strerror or str(error)).lower()}"
        if pem and b"-----BEGIN " not in data:
            return f"tls: failed to find any PEM data in {pem}: {path}"
    try:
        make_context(tls)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"tls: private key does not match public key: {tls.key_file}, {tls.cert_file}"
        if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
            return f"no certificate found in {tls.trusted_ca_file}"
        return f"{tls.cert_file}, {tls.key_file}: {error}"
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def make_context(tls: ServerTls) -> ssl.SSLContext:
    """Raises OSError, ssl.SSLError; ValueError for a cipher suite nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    if tls.max_version is not None:
        context.maximum_version = tls.max_version
    if tls.cipher_suites:
        context.set_ciphers(openssl_ciphers(tls.cipher_suites))
    context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.trusted_ca_file:
        context.load_verify_locations(tls.trusted_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    elif tls.client_cert_auth:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def openssl_ciphers(names: tuple[str, ...]) -> str:
    """OpenSSL's list of these suites. Raises ValueError for one that nobody knows."""
    ciphers = []
    for name in names:
        if name in TLS13_SUITES:
            continue
        if name.startswith("TLS_") and name not in CIPHER_SUITES:
            raise ValueError(f"unexpected TLS cipher suite {name!r}")
        ciphers.append(CIPHER_SUITES.get(name, name))
    return ":".join(ciphers) if ciphers else "DEFAULT"


def common_name(certificate: PeerCertificate) -> str:
    """The subject's common name, the last if there are several, as Go has it."""
    found = ""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                found = str(value)
    return found


def _stamp(tls: ServerTls) -> tuple[int, ...] | None:
    try:
        parts: list[int] = []
        for path in (tls.cert_file, tls.key_file):
            status = os.stat(path)
            parts += (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        return None
    return tuple(parts)
