"""TLS between members: one side's certificates serve as a server and as a client.

    dial     the server's certificate must be in order and, where told, carry the allowed name
    accept   the same of the client's; and one that names addresses must name the one it comes from

Certificates are looked at again for every connection, so that renewed files count without a restart.
Source: etcd client/pkg/transport listener.go, listener_tls.go.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from balsad.config import StartError, TlsConfig
from balsad.go_quote import quote_go
from balsad.observe.logs import get_logger
from balsad.peer.self_signed import self_signed
from balsad.transport import RevocationList, ServerTls
from balsad.transport.tls import CertificateKeeper, common_name, openssl_ciphers, why_unusable

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.env import Env

log = get_logger(__name__)

Certificate = dict[str, Any]
"""What `ssl.SSLObject.getpeercert` gives."""

NAME_REFUSED: Final = "client certificate authentication failed"
_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


class CertificateRefusedError(Exception):
    """The certificate is in order, but not for this connection."""


class PeerTls:
    """What both ends of a connection between members need."""

    def __init__(
        self,
        files: TlsConfig,
        *,
        cipher_suites: tuple[str, ...] = (),
        min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        max_version: ssl.TLSVersion | None = None,
        is_self_signed: bool = False,
    ) -> None:
        """Raises: StartError when the files cannot serve."""
        self.files = files
        self.server_name = ""  # what the others' certificates are checked for, in place of their addresses
        self._cipher_suites = cipher_suites
        self._min_version = min_version
        self._max_version = max_version
        self._is_self_signed = is_self_signed
        self._client: ssl.SSLContext | None = None
        self._client_stamp: tuple[int, ...] = ()
        self._revocations = RevocationList(files.crl_file) if files.crl_file else None
        _check(files)
        unusable = why_unusable(self._server_files())
        if unusable:
            raise StartError(unusable)
        try:
            self.client_context()
        except (OSError, ValueError) as error:
            raise StartError(f"cannot use the peer certificates: {error}") from error

    @staticmethod
    def from_config(config: ServerConfig, env: Env) -> PeerTls | None:
        """What the flags say, None without certificates; --peer-auto-tls makes some. Raises: StartError."""
        files = config.peer_tls
        is_self_signed = False
        if files.auto_tls:
            if files.is_empty:
                hosts = [url.host for url in config.listen_peer_urls]
                folder = os.path.join(config.data_dir, "fixtures", "peer")
                years = config.self_signed_cert_validity_years
                cert, key = self_signed(env.disk, env.clock.time(), folder, hosts, years)
                files = dataclasses.replace(
                    files, cert_file=cert, key_file=key, client_cert_file=cert, client_key_file=key
                )
                is_self_signed = True
            else:
                log.warning("ignoring peer auto TLS since certs given")
        for url in config.listen_peer_urls:
            if not url.is_secure and not files.is_empty:
                log.warning(
                    "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                    extra={"peer-url": url.text},
                )
            if not url.is_secure and files.client_cert_auth:
                log.warning(
                    "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
                    extra={"peer-url": url.text},
                )
        if files.is_empty:
            for url in config.listen_peer_urls:
                if url.is_secure:
                    raise StartError(f"cannot listen on TLS for {url.address}: KeyFile and CertFile are not presented")
            return None
        return PeerTls(
            files,
            cipher_suites=config.cipher_suites,
            min_version=_VERSIONS[config.tls_min_version],
            max_version=_VERSIONS[config.tls_max_version] if config.tls_max_version else None,
            is_self_signed=is_self_signed,
        )

    def server_context(self) -> ssl.SSLContext:
        """The context of a listener. Raises: OSError, ValueError."""
        return CertificateKeeper(self._server_files()).context

    def _server_files(self) -> ServerTls:
        files = self.files
        return ServerTls(
            cert_file=files.cert_file,
            key_file=files.key_file,
            trusted_ca_file=files.trusted_ca_file,
            client_cert_auth=files.client_cert_auth,
            min_version=self._min_version,
            max_version=self._max_version,
            cipher_suites=self._cipher_suites,
        )

    def client_context(self) -> ssl.SSLContext:
        """The context to dial with. Raises: OSError, ValueError."""
        files = self.files
        stamp = _stamp(files)
        if self._client is not None and stamp == self._client_stamp:
            return self._client
        context = make_client_context(files.trusted_ca_file)
        context.minimum_version = self._min_version
        if self._max_version is not None:
            context.maximum_version = self._max_version
        if self._cipher_suites:
            context.set_ciphers(openssl_ciphers(self._cipher_suites))
        if self._is_self_signed:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(files.client_cert_file or files.cert_file, files.client_key_file or files.key_file)
        self._client = context
        self._client_stamp = stamp
        return context

    def check_name(self, certificate: Certificate) -> None:
        """Judge the other side's certificate by the names allowed. Raises: CertificateRefusedError."""
        files = self.files
        if files.allowed_cns and common_name(certificate) not in files.allowed_cns:
            raise CertificateRefusedError(NAME_REFUSED)
        if files.allowed_hostnames and not any(is_for_host(certificate, host) for host in files.allowed_hostnames):
            raise CertificateRefusedError(NAME_REFUSED)

    async def check_client(self, certificate: Certificate, remote_host: str, shown: Iterable[int] = ()) -> None:
        """Judge a client that connected from `remote_host` and has `shown` certificates of these serial numbers.

        Raises: CertificateRefusedError.
        """
        if not certificate:
            return
        if self._revocations is not None:
            refusal = self._revocations.refusal(certificate, shown)
            if refusal:
                raise CertificateRefusedError(refusal)
        self.check_name(certificate)
        if not self.files.skip_client_san_verification:
            await check_address(certificate, remote_host)


def make_client_context(trusted_ca_file: str) -> ssl.SSLContext:
    """A context that trusts this file's authorities, or the system's without one. Raises: OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Like Go, look at the subject alternative names alone.
    context.hostname_checks_common_name = False
    if trusted_ca_file:
        context.load_verify_locations(trusted_ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


async def check_address(certificate: Certificate, host: str) -> None:
    """See that a certificate which names addresses or hosts names `host`, an IP address, too.

    Raises: CertificateRefusedError. Source: etcd checkCertSAN.
    """
    addresses, names = alternative_names(certificate)
    if not addresses and not names:
        return
    if addresses and is_for_host(certificate, host):
        return
    if not names:
        listed = ", ".join(addresses)
        raise CertificateRefusedError(f"x509: certificate is valid for {listed}, not {host}")
    if not await _is_host_among(host, names):
        listed = " ".join(quote_go(name) for name in names)
        raise CertificateRefusedError(f"tls: {quote_go(host)} does not match any of DNSNames [{listed}]")


async def _is_host_among(host: str, names: list[str]) -> bool:
    """Ask DNS both ways whether the address `host` belongs to one of the names."""
    loop = asyncio.get_running_loop()
    wildcards = [name[1:] for name in names if name.startswith("*.")]
    plain = [name for name in names if not name.startswith("*.")]
    try:
        found, aliases, _ = await loop.run_in_executor(None, socket.gethostbyaddr, host)
        for known in (found, *aliases):
            if known in plain or any(known.endswith(wildcard) for wildcard in wildcards):
                return True
    except OSError:
        pass
    for name in plain:
        try:
            answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            continue
        if any(answer[4][0] == host for answer in answers):
            return True
    return False


def alternative_names(certificate: Certificate) -> tuple[list[str], list[str]]:
    """The IP addresses and the DNS names that a certificate is for."""
    addresses: list[str] = []
    names: list[str] = []
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            addresses.append(str(value).strip())
        elif kind == "DNS":
            names.append(str(value))
    return addresses, names


def is_for_host(certificate: Certificate, host: str) -> bool:
    """Whether the certificate is for this name or address. Source: Go's x509 VerifyHostname."""
    addresses, names = alternative_names(certificate)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        wanted = ipaddress.ip_address(bare)
    except ValueError:
        return any(_matches(name.lower(), host.lower().removesuffix(".")) for name in names)
    for address in addresses:
        try:
            if ipaddress.ip_address(address) == wanted:
                return True
        except ValueError:
            continue
    return False


def _matches(pattern: str, host: str) -> bool:
    pattern_labels = pattern.removesuffix(".").split(".")
    host_labels = host.split(".")
    if len(pattern_labels) != len(host_labels) or not all(host_labels):
        return False
    if pattern_labels[0] == "*" and len(pattern_labels) > 1:
        return pattern_labels[1:] == host_labels[1:]
    return pattern_labels == host_labels


def _check(files: TlsConfig) -> None:
    if not files.cert_file or not files.key_file:
        raise StartError(f"KeyFile and CertFile must both be present[key: {files.key_file}, cert: {files.cert_file}]")
    if bool(files.client_cert_file) != bool(files.client_key_file):
        raise StartError(
            "ClientKeyFile and ClientCertFile must both be present or both absent: "
            f"key: {files.client_key_file}, cert: {files.client_cert_file}]"
        )
    if files.allowed_cns and files.allowed_hostnames:
        raise StartError(
            f"AllowedCN and AllowedHostname are mutually exclusive (cn={quote_go(','.join(files.allowed_cns))}, "
            f"hostname={quote_go(','.join(files.allowed_hostnames))})"
        )


def _stamp(files: TlsConfig) -> tuple[int, ...]:
    """Changes when the client's certificate is renewed. Raises: OSError."""
    parts: list[int] = []
    for path in (files.client_cert_file or files.cert_file, files.client_key_file or files.key_file):
        status = os.stat(path)
        parts += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(parts)
