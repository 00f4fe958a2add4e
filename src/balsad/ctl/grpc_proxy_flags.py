# ruff: noqa: E501
"""The flags of `etcd grpc-proxy start`, word for word as etcd 3.5.1 prints them.

Source: etcd server/etcdmain/grpc_proxy.go.
"""

from __future__ import annotations

from typing import Final

from balsad.ctl.flags import BOOL, DURATION, INT, STRING, STRINGS, UINT

_SECOND_NS: Final = 1_000_000_000
_ADDRESS: Final = "127.0.0.1:23790"

# fmt: off
FLAGS: Final = (
    (STRING, "listen-addr", _ADDRESS, "listen address"),
    (STRING, "discovery-srv", "", "domain name to query for SRV records describing cluster endpoints"),
    (STRING, "discovery-srv-name", "", "service name to query when using DNS discovery"),
    (STRING, "metrics-addr", "", "listen for endpoint /metrics requests on an additional interface"),
    (BOOL, "insecure-discovery", False, "accept insecure SRV records"),
    (STRINGS, "endpoints", ["127.0.0.1:2379"], "comma separated etcd cluster endpoints"),
    (STRING, "advertise-client-url", _ADDRESS, "advertise address to register (must be reachable by client)"),
    (STRING, "resolver-prefix", "", "prefix to use for registering proxy (must be shared with other grpc-proxy members)"),
    (INT, "resolver-ttl", 0, "specify TTL, in seconds, when registering proxy endpoints"),
    (STRING, "namespace", "", "string to prefix to all keys for namespacing requests"),
    (BOOL, "enable-pprof", False, 'Enable runtime profiling data via HTTP server. Address is at client URL + "/debug/pprof/"'),
    (STRING, "data-dir", "default.proxy", "Data directory for persistent data"),
    (INT, "max-send-bytes", 1536 << 10, "message send limits in bytes (default value is 1.5 MiB)"),
    (INT, "max-recv-bytes", 0x7FFFFFFF, "message receive limits in bytes (default value is math.MaxInt32)"),
    (DURATION, "grpc-keepalive-min-time", 5 * _SECOND_NS, "Minimum interval duration that a client should wait before pinging proxy."),
    (DURATION, "grpc-keepalive-interval", 7200 * _SECOND_NS, "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable)."),
    (DURATION, "grpc-keepalive-timeout", 20 * _SECOND_NS, "Additional duration of wait before closing a non-responsive connection (0 to disable)."),
    (STRING, "cert", "", "identify secure connections with etcd servers using this TLS certificate file"),
    (STRING, "key", "", "identify secure connections with etcd servers using this TLS key file"),
    (STRING, "cacert", "", "verify certificates of TLS-enabled secure etcd servers using this CA bundle"),
    (BOOL, "insecure-skip-tls-verify", False, "skip authentication of etcd server TLS certificates (CAUTION: this option should be enabled only for testing purposes)"),
    (STRING, "cert-file", "", "identify secure connections to the proxy using this TLS certificate file"),
    (STRING, "key-file", "", "identify secure connections to the proxy using this TLS key file"),
    (STRING, "trusted-ca-file", "", "verify certificates of TLS-enabled secure proxy using this CA bundle"),
    (BOOL, "auto-tls", False, "proxy TLS using generated certificates"),
    (STRING, "client-crl-file", "", "proxy client certificate revocation list file."),
    (UINT, "self-signed-cert-validity", 1, "The validity period of the proxy certificates, unit is year"),
    (BOOL, "experimental-serializable-ordering", False, "Ensure serializable reads have monotonically increasing store revisions across endpoints."),
    (STRING, "experimental-leasing-prefix", "", "leasing metadata prefix for disconnected linearized reads."),
    (BOOL, "debug", False, "Enable debug-level logging for grpc-proxy."),
)
# fmt: on
