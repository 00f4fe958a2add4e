"""What the member's rooms counted on their own, copied into the metrics when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.config.versions import ETCD_VERSION, GO_VERSION
from balsad.membership import format_id

if TYPE_CHECKING:
    from balsad.observe.metrics import Metrics
    from balsad.server.lease_expiry import LeaseExpiry
    from balsad.server.service import Service


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
    metrics.slow_apply.value = applier.slow_applies
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
    metrics.db_open_read_transactions.value = backend.open_readers
    metrics.range_total.value = ranges()
    metrics.put_total.value = applier.counts.puts
    metrics.delete_total.value = applier.counts.deletes
    metrics.txn_total.value = applier.counts.txns
    metrics.put_size_bytes.value = applier.counts.put_bytes
    metrics.keys.value = store.key_count
    metrics.watch_streams.value = watchers.stream_count
    metrics.watchers.value = watchers.watcher_count
    metrics.slow_watchers.value = watchers.slow_count
    metrics.events.value = watchers.event_count
    metrics.current_revision.value = store.current_revision
    metrics.compact_revision.value = store.compact_revision
    metrics.auth_revision.value = service.auth.revision
    metrics.lease_granted.value = applier.counts.leases_granted
    metrics.lease_revoked.value = applier.counts.leases_revoked
