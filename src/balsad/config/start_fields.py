"""The fields of the log line `starting an etcd server`. Source: etcd server/embed/etcd.go print."""

from __future__ import annotations

import os

from balsad.config import versions
from balsad.config.checks import compaction_retention
from balsad.config.server_config import ServerConfig
from balsad.durations import MILLISECOND, format_duration, format_seconds


def start_fields(config: ServerConfig, *, member_initialized: bool) -> dict[str, object]:
    retention = format_duration(compaction_retention(config.auto_compaction_mode, config.auto_compaction_retention))
    return {
        "etcd-version": versions.ETCD_VERSION,
        "git-sha": versions.GIT_SHA,
        "go-version": versions.GO_VERSION,
        "go-os": versions.go_os(),
        "go-arch": versions.go_arch(),
        "max-cpu-set": len(os.sched_getaffinity(0)),
        "max-cpu-available": os.cpu_count() or 1,
        "member-initialized": member_initialized,
        "name": config.name,
        "data-dir": config.data_dir,
        "wal-dir": config.wal_dir,
        "wal-dir-dedicated": config.wal_dir,
        "member-dir": config.member_dir,
        "force-new-cluster": config.force_new_cluster,
        "heartbeat-interval": format_duration(config.heartbeat_interval_ms * MILLISECOND),
        "election-timeout": format_seconds(config.election_timeout_s),
        "initial-election-tick-advance": config.initial_election_tick_advance,
        "snapshot-count": config.snapshot_count,
        "snapshot-catchup-entries": config.snapshot_catchup_entries,
        "initial-advertise-peer-urls": [str(url) for url in config.initial_advertise_peer_urls],
        "listen-peer-urls": [str(url) for url in config.listen_peer_urls],
        "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
        "listen-client-urls": [str(url) for url in config.listen_client_urls],
        "listen-metrics-urls": [str(url) for url in config.listen_metrics_urls],
        "cors": sorted(config.cors),
        "host-whitelist": sorted(config.host_whitelist),
        "initial-cluster": "" if member_initialized else config.initial_cluster,
        "initial-cluster-state": config.initial_cluster_state,
        "initial-cluster-token": "" if member_initialized else config.initial_cluster_token,
        "quota-size-bytes": config.quota_backend_bytes,
        "pre-vote": config.pre_vote,
        "initial-corrupt-check": config.initial_corrupt_check,
        "corrupt-check-time-interval": format_seconds(config.corrupt_check_time_s),
        "auto-compaction-mode": config.auto_compaction_mode,
        "auto-compaction-retention": retention,
        "auto-compaction-interval": retention,
        "discovery-url": config.discovery,
        "discovery-proxy": config.discovery_proxy,
        "downgrade-check-interval": format_seconds(config.downgrade_check_time_s),
    }
