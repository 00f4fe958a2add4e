"""ServerConfig: all that a member is told when it starts, as one frozen value.

Field names are the flags' names with underscores, units last. Zeros that mean "the default" are already replaced.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from typing import Final

from balsad.config.urls import Url, format_url_map, parse_url, parse_url_map

DEFAULT_NAME: Final = "default"
DEFAULT_PEER_URL: Final = "http://localhost:2380"
DEFAULT_CLIENT_URL: Final = "http://localhost:2379"
DEFAULT_QUOTA_BYTES: Final = 2 * 1024 * 1024 * 1024
NEW: Final = "new"
EXISTING: Final = "existing"
PERIODIC: Final = "periodic"
REVISION: Final = "revision"
LOG_ROTATION: Final = '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'


class ConfigError(Exception):
    """The configuration is wrong; the text is the sentence etcd logs."""


class FileValueError(Exception):
    """A value that etcd complains of on stderr, without a log line."""


class StartError(Exception):
    """The member cannot start with this configuration; the text is the sentence etcd logs.

    `headline` is the fatal line's message, where etcd has one that says more than "discovery failed".
    """

    def __init__(self, text: str, headline: str = "") -> None:
        super().__init__(text)
        self.headline = headline


class ClusterFullError(StartError):
    """All places in the cluster to be are taken, and `--discovery-fallback` says to become a proxy of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """One side's certificates: of the clients' listeners or of the peers'."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""  # shown to other servers in place of cert_file
    client_key_file: str = ""
    client_cert_auth: bool = False
    trusted_ca_file: str = ""
    crl_file: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    skip_client_san_verification: bool = False
    auto_tls: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.cert_file and not self.key_file

    @property
    def asks_for_certificates(self) -> bool:
        """Clients must show a certificate: `client_cert_auth`, or a CA file alone."""
        return self.client_cert_auth or bool(self.trusted_ca_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    # the member
    name: str = DEFAULT_NAME
    data_dir: str = "default.etcd"
    wal_dir: str = ""
    snapshot_count: int = 100_000
    snapshot_catchup_entries: int = 5_000
    heartbeat_interval_ms: int = 100
    election_timeout_ms: int = 1_000
    initial_election_tick_advance: bool = True
    listen_peer_urls: tuple[Url, ...] = (parse_url(DEFAULT_PEER_URL),)
    listen_client_urls: tuple[Url, ...] = (parse_url(DEFAULT_CLIENT_URL),)
    listen_client_http_urls: tuple[Url, ...] = ()
    listen_metrics_urls: tuple[Url, ...] = ()
    max_snapshots: int = 5  # 0: keep all
    max_wals: int = 5  # 0: keep all
    quota_backend_bytes: int = DEFAULT_QUOTA_BYTES  # negative: no quota
    backend_bbolt_freelist_type: str = "map"
    backend_batch_interval_s: float = 0.1
    backend_batch_limit: int = 10_000
    max_txn_ops: int = 128
    max_request_bytes: int = 1_572_864
    max_concurrent_streams: int = 0xFFFF_FFFF
    grpc_keepalive_min_time_s: float = 5.0
    grpc_keepalive_interval_s: float = 7_200.0
    grpc_keepalive_timeout_s: float = 20.0
    socket_reuse_port: bool = False
    socket_reuse_address: bool = False
    raft_read_timeout_s: float = 5.0
    raft_write_timeout_s: float = 5.0

    # the cluster
    initial_advertise_peer_urls: tuple[Url, ...] = (parse_url(DEFAULT_PEER_URL),)
    initial_cluster: str = f"{DEFAULT_NAME}={DEFAULT_PEER_URL}"
    initial_cluster_state: str = NEW
    initial_cluster_token: str = "etcd-cluster"
    advertise_client_urls: tuple[Url, ...] = (parse_url(DEFAULT_CLIENT_URL),)
    discovery: str = ""
    discovery_fallback: str = "proxy"
    discovery_proxy: str = ""
    discovery_srv: str = ""
    discovery_srv_name: str = ""
    discovery_endpoints: tuple[str, ...] = ()
    discovery_token: str = ""
    discovery_dial_timeout_s: float = 2.0
    discovery_request_timeout_s: float = 5.0
    discovery_keepalive_time_s: float = 2.0
    discovery_keepalive_timeout_s: float = 6.0
    discovery_insecure_transport: bool = True
    discovery_insecure_skip_tls_verify: bool = False
    discovery_cert: str = ""
    discovery_key: str = ""
    discovery_cacert: str = ""
    discovery_user: str = ""
    discovery_password: str = field(default="", repr=False)
    strict_reconfig_check: bool = True
    pre_vote: bool = True
    max_learners: int = 1
    auto_compaction_retention: str = "0"
    auto_compaction_mode: str = PERIODIC
    # Off since etcd 3.4, yet those who moved here from before ask /v2/keys without a flag.
    enable_v2: bool = True
    v2_deprecation: str = "not-yet"

    # who may come in
    client_tls: TlsConfig = TlsConfig()
    peer_tls: TlsConfig = TlsConfig()
    self_signed_cert_validity_years: int = 1
    cipher_suites: tuple[str, ...] = ()  # Go's names
    tls_min_version: str = "TLS1.2"
    tls_max_version: str = ""  # empty: the newest
    cors: tuple[str, ...] = ("*",)
    host_whitelist: tuple[str, ...] = ("*",)
    auth_token: str = "simple"
    bcrypt_cost: int = 10
    auth_token_ttl_s: int = 300

    # what an operator sees
    enable_pprof: bool = False
    metrics: str = "basic"
    enable_grpc_gateway: bool = True
    logger: str = "zap"
    log_outputs: tuple[str, ...] = ("default",)
    log_level: str = "info"
    log_format: str = "json"
    enable_log_rotation: bool = False
    log_rotation_config_json: str = LOG_ROTATION
    enable_distributed_tracing: bool = False
    distributed_tracing_address: str = "localhost:4317"
    distributed_tracing_service_name: str = "etcd"
    distributed_tracing_instance_id: str = ""
    distributed_tracing_sampling_rate: int = 0

    # checks and housekeeping
    initial_corrupt_check: bool = False
    corrupt_check_time_s: float = 0.0  # 0: never
    compact_hash_check: bool = False
    compact_hash_check_time_s: float = 60.0
    enable_lease_checkpoint: bool = False
    enable_lease_checkpoint_persist: bool = False
    compaction_batch_limit: int = 1_000
    compaction_sleep_interval_s: float = 0.01
    watch_progress_notify_interval_s: float = 600.0
    warning_apply_duration_s: float = 0.1
    warning_unary_request_duration_s: float = 0.3
    downgrade_check_time_s: float = 5.0
    bootstrap_defrag_threshold_megabytes: int = 0  # 0: never
    memory_mlock: bool = False
    value_cache_bytes: int = 256 << 20  # of values of current revisions in memory; 0: none
    txn_mode_write_with_shared_buffer: bool = True
    stop_grpc_service_on_defrag: bool = False
    fast_lease_keep_alive: bool = True
    feature_gates: str = ""
    experimental_enable_v2v3: str = ""
    unsafe_no_fsync: bool = False
    force_new_cluster: bool = False

    # the v2 proxy
    proxy: str = "off"
    proxy_failure_wait_ms: int = 5_000
    proxy_refresh_interval_ms: int = 30_000
    proxy_dial_timeout_ms: int = 1_000
    proxy_write_timeout_ms: int = 5_000
    proxy_read_timeout_ms: int = 0

    @property
    def election_ticks(self) -> int:
        """How many heartbeats without a leader begin an election."""
        return self.election_timeout_ms // self.heartbeat_interval_ms

    @property
    def tick_s(self) -> float:
        return self.heartbeat_interval_ms / 1000

    @property
    def election_timeout_s(self) -> float:
        """As raft counts it, in whole ticks."""
        return self.election_ticks * self.heartbeat_interval_ms / 1000

    @property
    def request_timeout_s(self) -> float:
        """How long a request may take: 5 s for queues and disks, and two elections. Source: ServerConfig.ReqTimeout."""
        return 5.0 + 2 * self.election_timeout_s

    @property
    def peer_dial_timeout_s(self) -> float:
        return 1.0 + self.election_timeout_s

    @property
    def min_lease_ttl_s(self) -> int:
        """A lease lives longer than an election lasts: 3/2 election timeouts, in whole seconds rounded up."""
        ticks_ms = (3 * self.election_ticks) // 2 * self.heartbeat_interval_ms
        return -(-ticks_ms // 1000)

    @property
    def is_new_cluster(self) -> bool:
        return self.initial_cluster_state == NEW

    @property
    def member_dir(self) -> str:
        return os.path.join(self.data_dir, "member")

    @property
    def extensive_metrics(self) -> bool:
        return self.metrics == "extensive"

    def initial_cluster_urls(self) -> dict[str, tuple[Url, ...]]:
        """Peer URLs of each member of the initial cluster, by name.

        Raises: StartError.
        """
        try:
            return parse_url_map(self.initial_cluster)
        except ValueError as problem:
            raise StartError(f"error setting up initial cluster: {problem}") from None

    def allows_origin(self, origin: str) -> bool:
        """Whether a page from `origin` may read our answers."""
        return not self.cors or "*" in self.cors or origin in self.cors

    def allows_host(self, host: str) -> bool:
        """Whether a plain HTTP request may name `host`."""
        return not self.host_whitelist or "*" in self.host_whitelist or host in self.host_whitelist


def cluster_of_name(name: str, urls: tuple[Url, ...]) -> str:
    """The initial cluster of a member alone."""
    return format_url_map({name or DEFAULT_NAME: urls})
