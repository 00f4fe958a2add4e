"""What the listeners for clients speak, by the flags: certificates given, made by --auto-tls, or none.

Source: etcd server/embed/etcd.go (configureClientListeners), client/pkg/transport (TLSInfo).
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Final

from balsad.config import StartError
from balsad.observe.logs import get_logger
from balsad.peer.self_signed import self_signed
from balsad.transport import RevocationList, ServerTls, why_unusable

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.env import Env

log = get_logger(__name__)

_TLS_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


def client_tls(config: ServerConfig, env: Env) -> ServerTls | None:
    """What https listeners speak, if certificates are given or --auto-tls makes some. Raises: StartError."""
    tls = config.client_tls
    cert_file, key_file = tls.cert_file, tls.key_file
    if tls.auto_tls and not tls.is_empty:
        log.warning("ignoring client auto TLS since certs given")
    elif tls.auto_tls:
        hosts = [url.host for url in (*config.listen_client_urls, *config.listen_client_http_urls)]
        folder = os.path.join(config.data_dir, "fixtures", "client")
        years = config.self_signed_cert_validity_years
        cert_file, key_file = self_signed(env.disk, env.clock.time(), folder, hosts, years)
    for url in config.listen_client_urls:
        if not url.is_secure and tls.client_cert_auth:
            log.warning(
                "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                extra={"client-url": url.text},
            )
    urls = (*config.listen_client_urls, *config.listen_client_http_urls, *config.listen_metrics_urls)
    secure = [url for url in urls if url.is_secure]
    if tls.is_empty and not tls.auto_tls:
        if secure:
            raise StartError(f"cannot listen on TLS for {secure[0].address}: KeyFile and CertFile are not presented")
        return None
    if bool(tls.client_cert_file) != bool(tls.client_key_file) and secure:
        raise StartError(
            "ClientKeyFile and ClientCertFile must both be present or both absent: "
            f"key: {tls.client_key_file}, cert: {tls.client_cert_file}]",
            "listener failed",
        )
    made = ServerTls(
        cert_file=cert_file,
        key_file=key_file,
        trusted_ca_file=tls.trusted_ca_file,
        client_cert_auth=tls.client_cert_auth,
        revocations=RevocationList(tls.crl_file) if tls.crl_file else None,
        min_version=_TLS_VERSIONS[config.tls_min_version],
        max_version=_TLS_VERSIONS[config.tls_max_version] if config.tls_max_version else None,
        cipher_suites=config.cipher_suites,
    )
    unusable = why_unusable(made)
    if unusable and secure:
        raise StartError(unusable, "listener failed")
    if unusable:
        for url in config.listen_client_urls:
            log.warning(
                "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                extra={"client-url": url.text, "error": unusable},
            )
        return None
    return made
