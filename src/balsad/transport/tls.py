"""A server's TLS: certificates, whom to trust, what to speak."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """What a listener needs to speak TLS. Files are PEM."""

    cert_file: str
    key_file: str
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion | None = None
    cipher_suites: tuple[str, ...] = ()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.min_version
        if self.max_version is not None:
            context.maximum_version = self.max_version
        if self.cipher_suites:
            context.set_ciphers(":".join(self.cipher_suites))
        context.load_cert_chain(self.cert_file, self.key_file)
        if self.trusted_ca_file:
            context.load_verify_locations(self.trusted_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        elif self.client_cert_auth:
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context
