"""TLS for clients: a context from certificate files, as etcd's client reads them."""

from __future__ import annotations

from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, SSLContext, TLSVersion


def client_context(
    *, cacert: str = "", cert: str = "", key: str = "", insecure_skip_verify: bool = False
) -> SSLContext:
    """A context for HTTP/2 that trusts `cacert` (default: the system's authorities) and shows `cert`.

    Raises: OSError for a file that cannot be read, ssl.SSLError for one that is no certificate or key.
    """
    # Not create_default_context: from Python 3.13 on it refuses authorities without a key usage, which Go takes.
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    if cacert:
        context.load_verify_locations(cafile=cacert)
    else:
        context.load_default_certs()
    context.minimum_version = TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    if cert:
        context.load_cert_chain(cert, key)
    if insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
