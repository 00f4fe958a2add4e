"""Why a TLS handshake failed, in the words of Go's crypto/tls, which operators search their logs for.

Source: Go crypto/tls (conn.go, handshake_server.go, alert.go) and crypto/x509; OpenSSL's reasons and verify codes.
"""

from __future__ import annotations

import ssl
from typing import Final

_VERIFY: Final = "tls: failed to verify client certificate: x509: "
_NO_TLS: Final = "tls: first record does not look like a TLS handshake"

_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "HTTP_REQUEST": _NO_TLS,
    "HTTPS_PROXY_REQUEST": _NO_TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "UNKNOWN_PROTOCOL": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "BAD_RECORD_TYPE": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "VERSION_TOO_LOW": "tls: client offered only unsupported versions",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "UNEXPECTED_EOF_WHILE_READING": "unexpected EOF",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "remote error: tls: expired certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "remote error: tls: revoked certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "remote error: tls: unsupported certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
}
_VERIFY_CODES: Final = {
    2: "certificate signed by unknown authority",
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    18: "certificate signed by unknown authority",
    19: "certificate signed by unknown authority",
    20: "certificate signed by unknown authority",
    21: "certificate signed by unknown authority",
    26: "certificate specifies an incompatible key usage",
}


def handshake_error(error: OSError) -> str:
    """What Go would log of what a client did instead of shaking hands."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY + _VERIFY_CODES.get(error.verify_code, str(error.verify_message))
    if isinstance(error, ssl.SSLEOFError):
        return "unexpected EOF"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "") or f"tls: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError) or "taking longer" in str(error):
        return "i/o timeout"
    # The loop's word for a client that left without having said anything.
    return "EOF"
