"""What a proxy is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from balsad.transport import ServerTls

RECEIVED_BYTES_MAX = 4 << 20
"""The largest message a client may send: gRPC's default, which etcd's proxy leaves as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    listen_address: str  # host:port, as given
    endpoints: tuple[str, ...]
    advertise_client_url: str
    resolver_prefix: str = ""
    resolver_ttl_s: int = 0
    namespace: bytes = b""
    metrics_url: str = ""
    send_bytes_max: int = 1536 << 10
    receive_bytes_max: int = 0x7FFFFFFF
    keepalive_min_time_s: float = 5.0
    keepalive_interval_s: float = 7200.0
    keepalive_timeout_s: float = 20.0
    tls: ServerTls | None = None  # towards clients
    client_tls: SSLContext | None = None  # towards members
    scrape_tls: SSLContext | None = None  # the same, for their pages
    proxy_tls: SSLContext | None = None  # of the proxy as its own client, for /proxy/health
    enable_pprof: bool = False
    is_ordered: bool = False
