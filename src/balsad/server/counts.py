"""What the member's rooms counted on their own, copied into the metrics when somebody scrapes, or telling at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from balsad.config.versions import ETCD_VERSION, GO_VERSION
from balsad.durations import format_seconds
from balsad.errors import Code
from balsad.membership import format_id
from balsad.observe.logs import get_logger

log = get_logger(__name__)

SLOW_SYNC_S: Final = 1.0

_STREAMS: Final = {
    "/etcdserverpb.Watch/Watch": "watch",
    "/etcdserverpb.Lease/LeaseKeepAlive": "lease-keepalive",
}

if TYPE_CHECKING:
    from balsad.env import Clock
    from balsad.mvcc import CompactionJob
    from balsad.observe.cells import Counter, Histogram, LabelledCounter
    from balsad.observe.metrics import Metrics
    from balsad.server.lease_expiry import LeaseExpiry
    from balsad.server.service import Service
    from balsad.transport import Method
    from balsad.v2store import Store as V2Store


def copy_counts(metrics: Metrics, service: Service, lease_expiry: LeaseExpiry, ranges: Callable[[], int]) -> None:
    """Bring every number that is not counted in `metrics` itself up to date; `ranges` tells those seen so far."""
    driver, applier, store, backend = service.driver, service.applier, service.store, service.backend
    watchers = store.watchers
    metrics.has_leader.value = int(driver.leader != 0)
    metrics.is_leader.value = int(driver.is_leader)
    metrics.is_learner.value = int(service.is_learner)
    metrics.leader_changes_seen.value = driver.leader_changes
    metrics.proposals_committed.value = driver.committed_index
    metrics.proposals_applied.value = applier.applied_index
    metrics.proposals_pending.value = len(driver.waiting)
    metrics.proposals_failed.value = driver.proposals_failed
    metrics.heartbeat_send_failures.value = driver.heartbeats_late
    metrics.slow_read_indexes.value = service.reads.slow
    metrics.read_indexes_failed.value = service.reads.failed
    metrics.quota_backend_bytes.value = applier.quota.limit_bytes
    metrics.server_id.of(format_id(service.member_id)).value = 1
    metrics.server_version.of(ETCD_VERSION).value = 1
    metrics.go_version.of(GO_VERSION).value = 1
    version = service.cluster.version
    if version is not None:
        metrics.cluster_version.clear()
        metrics.cluster_version.of(version.short()).value = 1
    metrics.lease_expired.value = lease_expiry.expired_total
    metrics.db_size_bytes.value = backend.size
    metrics.db_size_in_use_bytes.value = backend.size_in_use
    metrics.db_open_read_transactions.value = 1 + backend.open_readers  # etcd, too, counts the one it always has
    metrics.range_total.value = ranges() + applier.counts.ranges
    metrics.put_total.value = applier.counts.puts
    metrics.delete_total.value = applier.counts.deletes
    metrics.txn_total.value = applier.counts.txns
    metrics.put_size_bytes.value = applier.counts.put_bytes
    metrics.keys.value = store.key_count
    metrics.watch_streams.value = watchers.stream_count
    metrics.watchers.value = watchers.watcher_count
    metrics.slow_watchers.value = watchers.slow_count
    metrics.pending_events.value = watchers.pending_count
    metrics.events.value = watchers.event_count
    metrics.current_revision.value = store.current_revision
    metrics.compact_revision.value = store.compact_revision
    metrics.auth_revision.value = service.auth.revision
    metrics.lease_renewed.value = service.lessor.renewals
    metrics.defrag_inflight.value = int(service.is_defragmenting)
    metrics.lease_granted.value = applier.counts.leases_granted
    metrics.lease_revoked.value = applier.counts.leases_revoked


def copy_stream_failures(metrics: Metrics, methods: Iterable[Method]) -> None:
    """Streams that ended because what their client sent is no request, or a larger one than is taken."""
    for method in methods:
        api = _STREAMS.get(method.path)
        if api is not None:
            failures = method.failed.get(Code.INTERNAL, 0) + method.failed.get(Code.RESOURCE_EXHAUSTED, 0)
            if failures:
                metrics.server_stream_failures.of("receive", api).value = failures


def copy_v2_counts(metrics: Metrics, tree: V2Store) -> None:
    """The same of the v2 tree."""
    counters = tree.counters
    _copy_by_action(metrics.v2_reads, counters.reads)
    _copy_by_action(metrics.v2_writes, counters.writes)
    metrics.v2_expires.value = counters.expires
    metrics.v2_watch_requests.value = counters.watch_requests
    metrics.v2_watchers.value = tree.hub.count


def copy_client_requests(metrics: Metrics, requests: Mapping[tuple[str, str], Counter]) -> None:
    """`requests` by kind, which is unary or stream, and by the client's API version."""
    for (kind, version), counter in requests.items():
        metrics.client_requests.of(kind, version).value = counter.value


def _copy_by_action(cells: LabelledCounter, counts: dict[str, int]) -> None:
    for action, count in counts.items():
        cells.of(action).value = count


def observe_commit(metrics: Metrics) -> Callable[[float, float, float], None]:
    """What is told of each commit of the backend: the seconds of all of it, of building pages, of writing them."""

    def observe(all_s: float, built_s: float, written_s: float) -> None:
        metrics.backend_commit_s.observe(all_s)
        # Pages that are filled anew are balanced as they are built: that is no time of its own.
        metrics.commit_rebalance_s.observe(0.0)
        metrics.commit_spill_s.observe(built_s)
        metrics.commit_write_s.observe(written_s)

    return observe


def observe_sync(metrics: Metrics) -> Callable[[float], None]:
    """What is told how many seconds a sync of the log took."""
    observe_s = metrics.wal_fsync_s.observe

    def observe(seconds: float) -> None:
        observe_s(seconds)
        if seconds > SLOW_SYNC_S:
            took = {"took": format_seconds(seconds), "expected-duration": format_seconds(SLOW_SYNC_S)}
            log.warning("slow fdatasync", extra=took)

    return observe


def observe_applied(metrics: Metrics, slow_s: float = 0.1) -> Callable[[str, str, bool, float, int], None]:
    """What is told of what was applied; a cell is looked up once, as there are as many of them as puts."""
    known: dict[tuple[str, str, bool], Histogram] = {}

    def observe(version: str, operation: str, went_well: bool, seconds: float, times: int) -> None:
        cell = known.get((version, operation, went_well))
        if cell is None:
            cell = metrics.apply_duration_s.of(version, operation, "true" if went_well else "false")
            known[version, operation, went_well] = cell
        cell.observe(seconds, times)
        if seconds > slow_s:
            metrics.slow_apply.inc(times)
            log.warning(
                "apply request took too long",
                extra={
                    "took": format_seconds(seconds),
                    "expected-duration": format_seconds(slow_s),
                    "prefix": "",
                    "request": operation,
                    "response": "",
                },
            )

    return observe


def observe_compaction_step(metrics: Metrics) -> Callable[[CompactionJob, float], None]:
    """What is told of each piece of a compaction: it works on the index until it deletes the first row."""

    def observe(job: CompactionJob, seconds: float) -> None:
        pause_ms = metrics.compaction_pause_ms if job.deleted else metrics.index_compaction_pause_ms
        pause_ms.observe(seconds * 1000)

    return observe


def observe_compaction(metrics: Metrics, clock: Clock) -> Callable[[CompactionJob, float], None]:
    def observe(job: CompactionJob, seconds: float) -> None:
        metrics.compaction_last_s.value = int(clock.time())
        metrics.compaction_ms.observe(seconds * 1000)
        metrics.compaction_keys.inc(job.deleted)
        facts = {"compact-revision": job.revision, "took": format_seconds(seconds)}
        log.info("finished scheduled compaction", extra=facts)

    return observe
