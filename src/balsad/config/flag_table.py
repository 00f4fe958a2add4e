"""Every flag of the server by name: those listed, those 3.5.1 is silent about, those of other releases, our own.

Source: etcd server/etcdmain/config.go and server/embed/config.go of 3.4 to 3.7.
"""

from __future__ import annotations

from typing import Final

from balsad.config.flag_kinds import (
    BOOL,
    DEBUG,
    IGNORED,
    INT,
    SECONDS,
    SET,
    TEXT,
    UINT,
    UINT32,
    URLS,
    Flag,
)
from balsad.config.listed_flags import LISTED

_SILENT_IN_351: Final = (
    Flag("client-cert-file", TEXT, target="client_tls.client_cert_file"),
    Flag("client-key-file", TEXT, target="client_tls.client_key_file"),
    Flag("peer-client-cert-file", TEXT, target="peer_tls.client_cert_file"),
    Flag("peer-client-key-file", TEXT, target="peer_tls.client_key_file"),
    Flag("raft-read-timeout", SECONDS, target="raft_read_timeout_s"),
    Flag("raft-write-timeout", SECONDS, target="raft_write_timeout_s"),
    Flag("enable-grpc-gateway", BOOL),
    Flag("experimental-downgrade-check-time", SECONDS, target="downgrade_check_time_s"),
    Flag("experimental-memory-mlock", BOOL, target="memory_mlock"),
)

_LATER: Final = (
    Flag("listen-client-http-urls", URLS),
    Flag("max-concurrent-streams", UINT32),
    Flag("tls-min-version", TEXT),
    Flag("tls-max-version", TEXT),
    Flag("max-learners", INT),
    Flag("experimental-max-learners", INT, target="max_learners"),
    Flag("log-format", TEXT),
    Flag("feature-gates", TEXT),
    Flag("snapshot-catchup-entries", UINT),
    Flag("experimental-snapshot-catchup-entries", UINT, target="snapshot_catchup_entries"),
    Flag("experimental-snapshot-catch-up-entries", UINT, target="snapshot_catchup_entries"),
    Flag("experimental-enable-lease-checkpoint-persist", BOOL, target="enable_lease_checkpoint_persist"),
    Flag("experimental-compact-hash-check-enabled", BOOL, target="compact_hash_check"),
    Flag("experimental-compact-hash-check-time", SECONDS, target="compact_hash_check_time_s"),
    Flag("compact-hash-check-time", SECONDS, target="compact_hash_check_time_s"),
    Flag("corrupt-check-time", SECONDS, target="corrupt_check_time_s"),
    Flag("compaction-batch-limit", INT),
    Flag("compaction-sleep-interval", SECONDS, target="compaction_sleep_interval_s"),
    Flag("experimental-compaction-sleep-interval", SECONDS, target="compaction_sleep_interval_s"),
    Flag("watch-progress-notify-interval", SECONDS, target="watch_progress_notify_interval_s"),
    Flag("downgrade-check-time", SECONDS, target="downgrade_check_time_s"),
    Flag("warning-apply-duration", SECONDS, target="warning_apply_duration_s"),
    Flag("warning-unary-request-duration", SECONDS, target="warning_unary_request_duration_s"),
    Flag("experimental-warning-unary-request-duration", SECONDS, target="warning_unary_request_duration_s"),
    Flag("memory-mlock", BOOL),
    Flag("bootstrap-defrag-threshold-megabytes", UINT),
    Flag("experimental-stop-grpc-service-on-defrag", BOOL, target="stop_grpc_service_on_defrag"),
    Flag("peer-skip-client-san-verification", BOOL, target="peer_tls.skip_client_san_verification"),
    Flag("enable-distributed-tracing", BOOL),
    Flag("distributed-tracing-address", TEXT),
    Flag("distributed-tracing-service-name", TEXT),
    Flag("distributed-tracing-instance-id", TEXT),
    Flag("distributed-tracing-sampling-rate", INT),
    Flag("experimental-distributed-tracing-sampling-rate", INT, target="distributed_tracing_sampling_rate"),
    Flag("discovery-endpoints", SET),
    Flag("discovery-token", TEXT),
    Flag("discovery-dial-timeout", SECONDS, target="discovery_dial_timeout_s"),
    Flag("discovery-request-timeout", SECONDS, target="discovery_request_timeout_s"),
    Flag("discovery-keepalive-time", SECONDS, target="discovery_keepalive_time_s"),
    Flag("discovery-keepalive-timeout", SECONDS, target="discovery_keepalive_timeout_s"),
    Flag("discovery-insecure-transport", BOOL),
    Flag("discovery-insecure-skip-tls-verify", BOOL),
    Flag("discovery-cert", TEXT),
    Flag("discovery-key", TEXT),
    Flag("discovery-cacert", TEXT),
    Flag("discovery-user", TEXT),
    Flag("discovery-password", TEXT),
)

_EARLIER: Final = (
    Flag("experimental-backend-bbolt-freelist-type", TEXT, target="backend_bbolt_freelist_type"),
    Flag("log-output", SET, target="log_outputs"),
    Flag("debug", DEBUG, target="log_level"),
    Flag("log-package-levels", IGNORED),
    Flag("next-cluster-version-compatible", IGNORED),
)

_OURS: Final = (Flag("experimental-value-cache-bytes", UINT, target="value_cache_bytes"),)

_IGNORED: Final = tuple(
    Flag(name, IGNORED)
    for name in (
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "config",
        "force",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
        "snapshot",
        "v",
        "vv",
        "test.coverprofile",
        "test.outputdir",
    )
)

CONFIG_FILE: Final = Flag("config-file", TEXT)
VERSION: Final = Flag("version", BOOL)

SETTINGS: Final = (
    tuple(flag for section in LISTED for flag in section.flags) + _SILENT_IN_351 + _LATER + _EARLIER + _OURS
)
"""The flags that set a field, or once did."""

FLAGS: Final = {flag.name: flag for flag in (*SETTINGS, *_IGNORED, CONFIG_FILE, VERSION)}
