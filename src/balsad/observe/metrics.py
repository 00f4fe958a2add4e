# ruff: noqa: E501
"""A member's metrics under etcd's names, with etcd's words of help.

Who owns a number counts it here (`metrics.wal_fsync_s.observe(0.001)`), or counts on its own and copies when asked:
`metrics.on_scrape.append(copy)`, where `copy` sets `metrics.db_size_bytes.value` and the like.
Source: etcd 3.5 metrics.go of each package; two families of 3.5.11 (healthchecks) and one of 3.6 (known_peers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from balsad.observe.cells import (
    Bounds,
    Counter,
    Gauge,
    Histogram,
    Labelled,
    LabelledCounter,
    LabelledGauge,
    LabelledHistogram,
    exponential,
)
from balsad.observe.exposition import Family, Kind, Sample, render
from balsad.observe.grpc_metrics import HANDLING_BOUNDS, MethodCounts, grpc_families
from balsad.observe.process import process_families
from balsad.observe.runtime import runtime_families

_SCRAPE_CODES: Final = ("200", "500", "503")


class Metrics:
    """Every family of one member. `render()` is the text of a scrape."""

    def __init__(self, *, extensive: bool = False) -> None:
        self._singles: list[tuple[str, Kind, str, Counter | Gauge | Histogram]] = []
        self._counters: list[tuple[str, str, LabelledCounter]] = []
        self._gauges: list[tuple[str, str, LabelledGauge]] = []
        self._histograms: list[tuple[str, str, LabelledHistogram]] = []
        self.on_scrape: Final[list[Callable[[], None]]] = []
        """Called before each scrape, to copy what is counted elsewhere."""
        self.methods: Callable[[], Iterable[MethodCounts]] = tuple
        """The transport's methods, asked for at each scrape: `metrics.methods = lambda: rpc_server.methods`."""
        self.grpc_handling_s: Final[LabelledHistogram | None] = (
            Labelled(lambda: Histogram(HANDLING_BOUNDS), "grpc_type", "grpc_service", "grpc_method")
            if extensive
            else None
        )
        """How long calls took, only with `--metrics extensive`."""
        self._scrapes = 0
        self._make_server()
        self._make_disk()
        self._make_store()
        self._make_v2()
        self._make_network()
        self._single(
            "etcd_debugging_mvcc_range_total",
            "counter",
            "Total number of ranges seen by this member.",
            self.range_total,
        )
        self._make_proxy()
        self.compact_revision.value = -1

    # fmt: off
    def _make_server(self) -> None:
        """The member and its raft group."""
        self.has_leader = self._gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.")
        self.is_leader = self._gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.")
        self.is_learner = self._gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.")
        self.leader_changes_seen = self._counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.")
        self.learner_promote_successes = self._counter("etcd_server_learner_promote_successes", "The total number of successful learner promotions while this member is leader.")
        self.learner_promote_failures = self._labelled_counter("etcd_server_learner_promote_failures", "The total number of failed learner promotions (likely learner not ready) while this member is leader.", "Reason")
        self.heartbeat_send_failures = self._counter("etcd_server_heartbeat_send_failures_total", "The total number of leader heartbeat send failures (likely overloaded from slow disk).")
        self.snapshot_apply_in_progress = self._gauge("etcd_server_snapshot_apply_in_progress_total", "1 if the server is applying the incoming snapshot. 0 if none.")
        self.server_id = self._labelled_gauge("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", "server_id")
        self.server_version = self._labelled_gauge("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", "server_version")
        self.go_version = self._labelled_gauge("etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", "server_go_version")
        self.cluster_version = self._labelled_gauge("etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version", "cluster_version")
        self.health_success = self._counter("etcd_server_health_success", "The total number of successful health checks")
        self.health_failures = self._counter("etcd_server_health_failures", "The total number of failed health checks")
        self.healthcheck = self._labelled_gauge("etcd_server_healthcheck", "The result of each kind of healthcheck.", "type", "name")
        self.healthchecks = self._labelled_counter("etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", "type", "name", "status")
        self.proposals_committed = self._gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.")
        self.proposals_applied = self._gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.")
        self.proposals_pending = self._gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.")
        self.proposals_failed = self._counter("etcd_server_proposals_failed_total", "The total number of failed proposals seen.")
        self.slow_apply = self._counter("etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).")
        self.slow_read_indexes = self._counter("etcd_server_slow_read_indexes_total", "The total number of pending read indexes not in sync with leader's or timed out read index requests.")
        self.read_indexes_failed = self._counter("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.")
        self.quota_backend_bytes = self._gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.")
        self.client_requests = self._labelled_counter("etcd_server_client_requests_total", "The total number of client requests per client version.", "type", "client_api_version")
        self.apply_duration_s = self._labelled_histogram("etcd_server_apply_duration_seconds", "The latency distributions of v2 apply called by backend.", exponential(0.0001, 2, 20), "version", "op", "success")
        self.lease_expired = self._counter("etcd_debugging_server_lease_expired_total", "The total number of expired leases.")
        self.auth_revision = self._gauge("etcd_debugging_auth_revision", "The current revision of auth store.")

    def _make_disk(self) -> None:
        """Files."""
        self.wal_fsync_s = self._histogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", exponential(0.001, 2, 14))
        self.wal_write_bytes = self._gauge("etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.")
        self.backend_commit_s = self._histogram("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend.", exponential(0.001, 2, 14))
        self.backend_defrag_s = self._histogram("etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation.", exponential(0.1, 2, 13))
        self.backend_snapshot_s = self._histogram("etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of backend snapshots.", exponential(0.01, 2, 17))
        self.defrag_inflight = self._gauge("etcd_disk_defrag_inflight", "Whether or not defrag is active on the member. 1 means active, 0 means not.")
        self.commit_rebalance_s = self._histogram("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "The latency distributions of commit.rebalance called by bboltdb backend.", exponential(0.001, 2, 14))
        self.commit_spill_s = self._histogram("etcd_debugging_disk_backend_commit_spill_duration_seconds", "The latency distributions of commit.spill called by bboltdb backend.", exponential(0.001, 2, 14))
        self.commit_write_s = self._histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "The latency distributions of commit.write called by bboltdb backend.", exponential(0.001, 2, 14))
        self.snap_fsync_s = self._histogram("etcd_snap_fsync_duration_seconds", "The latency distributions of fsync called by snap.", exponential(0.001, 2, 14))
        self.snap_db_fsync_s = self._histogram("etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing .snap.db file", exponential(0.001, 2, 14))
        self.snap_db_save_s = self._histogram("etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save", exponential(0.1, 2, 10))
        self.snap_save_marshalling_s = self._histogram("etcd_debugging_snap_save_marshalling_duration_seconds", "The marshalling cost distributions of save called by snapshot.", exponential(0.001, 2, 14))
        self.snap_save_s = self._histogram("etcd_debugging_snap_save_total_duration_seconds", "The total latency distributions of save called by snapshot.", exponential(0.001, 2, 14))

    def _make_store(self) -> None:
        """The store."""
        self.range_total = self._counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.")
        self.put_total = self._counter("etcd_mvcc_put_total", "Total number of puts seen by this member.")
        self.delete_total = self._counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.")
        self.txn_total = self._counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.")
        self.db_size_bytes = self._gauge("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.")
        self.db_size_in_use_bytes = self._gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.")
        self.db_open_read_transactions = self._gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions")
        self.hash_s = self._histogram("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", exponential(0.01, 2, 15))
        self.hash_rev_s = self._histogram("etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.", exponential(0.01, 2, 15))
        self.keys = self._gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.")
        self.watch_streams = self._gauge("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.")
        self.watchers = self._gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.")
        self.slow_watchers = self._gauge("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.")
        self.events = self._counter("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.")
        self.pending_events = self._gauge("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.")
        self.current_revision = self._gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.")
        self.compact_revision = self._gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.")
        self.put_size_bytes = self._gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.")
        self.compaction_last_s = self._gauge("etcd_debugging_mvcc_db_compaction_last", "The unix time of the last db compaction. Resets to 0 on start.")
        self.compaction_keys = self._counter("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.")
        self.index_compaction_pause_ms = self._histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "Bucketed histogram of index compaction pause duration.", exponential(0.5, 2, 14))
        self.compaction_pause_ms = self._histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Bucketed histogram of db compaction pause duration.", exponential(1, 2, 13))
        self.compaction_ms = self._histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Bucketed histogram of db compaction total duration.", exponential(100, 2, 14))
        self.lease_granted = self._counter("etcd_debugging_lease_granted_total", "The total number of granted leases.")
        self.lease_revoked = self._counter("etcd_debugging_lease_revoked_total", "The total number of revoked leases.")
        self.lease_renewed = self._counter("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.")
        self.lease_ttl_s = self._histogram("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", exponential(1, 2, 24))

    def _make_v2(self) -> None:
        """The v2 tree."""
        self.v2_reads = self._labelled_counter("etcd_debugging_store_reads_total", "Total number of reads action by (get/getRecursive), local to this member.", "action")
        self.v2_writes = self._labelled_counter("etcd_debugging_store_writes_total", "Total number of writes (e.g. set/compareAndDelete) seen by this member.", "action")
        self.v2_expires = self._counter("etcd_debugging_store_expires_total", "Total number of expired keys.")
        self.v2_watch_requests = self._counter("etcd_debugging_store_watch_requests_total", "Total number of incoming watch requests (new or reestablished).")
        self.http_received = self._labelled_counter("etcd_http_received_total", "Counter of requests received into the system (successfully parsed and authd).", "method")
        self.http_failed = self._labelled_counter("etcd_http_failed_total", "Counter of handle failures of requests (non-watches), by method (GET/PUT etc.) and code (400, 500 etc.).", "method", "code")
        self.http_successful_s = self._labelled_histogram("etcd_http_successful_duration_seconds", "Bucketed histogram of processing time (s) of successfully handled requests (non-watches), by method (GET/PUT etc.).", exponential(0.0005, 2, 13), "method")
        self.v2_watchers = self._gauge("etcd_debugging_store_watchers", "Count of currently active watchers.")

    def _make_proxy(self) -> None:
        """`etcd grpc-proxy`, and `etcd --proxy on`."""
        self.proxy_cache_hits = self._gauge("etcd_grpc_proxy_cache_hits_total", "Total number of cache hits")
        self.proxy_cache_keys = self._gauge("etcd_grpc_proxy_cache_keys_total", "Total number of keys/ranges cached")
        self.proxy_cache_misses = self._gauge("etcd_grpc_proxy_cache_misses_total", "Total number of cache misses")
        self.proxy_events_coalescing = self._counter("etcd_grpc_proxy_events_coalescing_total", "Total number of events coalescing")
        self.proxy_watchers_coalescing = self._gauge("etcd_grpc_proxy_watchers_coalescing_total", "Total number of current watchers coalescing")

        self.proxy_requests = self._labelled_counter("etcd_proxy_requests_total", "Counter requests incoming by method.", "method")
        self.proxy_handled = self._labelled_counter("etcd_proxy_handled_total", "Counter of requests fully handled (by authoratitave servers)", "method", "code")
        self.proxy_dropped = self._labelled_counter("etcd_proxy_dropped_total", "Counter of requests dropped on the proxy.", "method", "proxying_error")
        self.proxy_handling_s = self._labelled_histogram("etcd_proxy_handling_duration_seconds", "Bucketed histogram of handling time of successful events (non-watches), by method (GET/PUT etc.).", exponential(0.0005, 2, 13), "method")

    def _make_network(self) -> None:
        """Peers and streams."""
        self.server_stream_failures = self._labelled_counter("etcd_network_server_stream_failures_total", "The total number of stream failures from the local server.", "Type", "API")
        self.active_peers = self._labelled_gauge("etcd_network_active_peers", "The current number of active peer connections.", "Local", "Remote")
        self.known_peers = self._labelled_gauge("etcd_network_known_peers", "The current number of known peers.", "Local", "Remote")
        self.disconnected_peers = self._labelled_counter("etcd_network_disconnected_peers_total", "The total number of disconnected peers.", "Local", "Remote")
        self.peer_sent_bytes = self._labelled_counter("etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", "To")
        self.peer_received_bytes = self._labelled_counter("etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", "From")
        self.peer_sent_failures = self._labelled_counter("etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", "To")
        self.peer_received_failures = self._labelled_counter("etcd_network_peer_received_failures_total", "The total number of receive failures from peers.", "From")
        self.peer_round_trip_s = self._labelled_histogram("etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", exponential(0.0001, 2, 16), "To")
        self.snapshot_send_success = self._labelled_counter("etcd_network_snapshot_send_success", "Total number of successful snapshot sends", "To")
        self.snapshot_send_failures = self._labelled_counter("etcd_network_snapshot_send_failures", "Total number of snapshot send failures", "To")
        self.snapshot_send_inflights = self._labelled_gauge("etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends", "To")
        self.snapshot_send_s = self._labelled_histogram("etcd_network_snapshot_send_total_duration_seconds", "Total latency distributions of v3 snapshot sends", exponential(0.1, 2, 10), "To")
        self.snapshot_receive_success = self._labelled_counter("etcd_network_snapshot_receive_success", "Total number of successful snapshot receives", "From")
        self.snapshot_receive_failures = self._labelled_counter("etcd_network_snapshot_receive_failures", "Total number of snapshot receive failures", "From")
        self.snapshot_receive_inflights = self._labelled_gauge("etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives", "From")
        self.snapshot_receive_s = self._labelled_histogram("etcd_network_snapshot_receive_total_duration_seconds", "Total latency distributions of v3 snapshot receives", exponential(0.1, 2, 10), "From")

    # fmt: on

    def render(self) -> str:
        """The text of a scrape; see exposition.CONTENT_TYPE."""
        for copy in self.on_scrape:
            copy()
        text = render(self._families())
        self._scrapes += 1
        return text

    def _families(self) -> list[Family]:
        families = [Family(name, kind, help_text, [((), cell)]) for name, kind, help_text, cell in self._singles]
        families += [Family(name, "counter", text, _samples(cells)) for name, text, cells in self._counters]
        families += [Family(name, "gauge", text, _samples(cells)) for name, text, cells in self._gauges]
        families += [Family(name, "histogram", text, _samples(cells)) for name, text, cells in self._histograms]
        families += grpc_families(self.methods(), self.grpc_handling_s)
        families += process_families()
        families += runtime_families(*[version for (version,), _ in self.go_version.items()])
        scrapes: list[Sample] = [((("code", code),), self._scrapes if code == "200" else 0) for code in _SCRAPE_CODES]
        families += [
            Family(
                "promhttp_metric_handler_requests_in_flight",
                "gauge",
                "Current number of scrapes being served.",
                [((), 1)],
            ),
            Family(
                "promhttp_metric_handler_requests_total",
                "counter",
                "Total number of scrapes by HTTP status code.",
                scrapes,
            ),
        ]
        return families

    def _single(self, name: str, kind: Kind, help_text: str, cell: Counter | Gauge | Histogram) -> None:
        self._singles.append((name, kind, help_text, cell))

    def _counter(self, name: str, help_text: str) -> Counter:
        cell = Counter()
        self._single(name, "counter", help_text, cell)
        return cell

    def _gauge(self, name: str, help_text: str) -> Gauge:
        cell = Gauge()
        self._single(name, "gauge", help_text, cell)
        return cell

    def _histogram(self, name: str, help_text: str, bounds: Bounds) -> Histogram:
        cell = Histogram(bounds)
        self._single(name, "histogram", help_text, cell)
        return cell

    def _labelled_counter(self, name: str, help_text: str, *labels: str) -> LabelledCounter:
        cells = Labelled(Counter, *labels)
        self._counters.append((name, help_text, cells))
        return cells

    def _labelled_gauge(self, name: str, help_text: str, *labels: str) -> LabelledGauge:
        cells = Labelled(Gauge, *labels)
        self._gauges.append((name, help_text, cells))
        return cells

    def _labelled_histogram(self, name: str, help_text: str, bounds: Bounds, *labels: str) -> LabelledHistogram:
        cells = Labelled(lambda: Histogram(bounds), *labels)
        self._histograms.append((name, help_text, cells))
        return cells


def _samples(cells: LabelledCounter | LabelledGauge | LabelledHistogram) -> list[Sample]:
    return [(tuple(zip(cells.labels, values, strict=True)), cell) for values, cell in cells.items()]
