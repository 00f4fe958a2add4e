"""Ends of leases and their checkpoints, applied.

Source: etcd server/etcdserver/apply.go (LeaseRevoke, LeaseCheckpoint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balsad.lease import Lessor
    from balsad.mvcc import Store
    from balsad.proto import rpc_pb2
    from balsad.server.apply.tally import Tally


def revoke(store: Store, lessor: Lessor, lease_id: int, counts: Tally) -> None:
    """Raises: LeaseNotFoundError."""
    keys = lessor.revoke(lease_id)
    counts.leases_revoked += 1
    counts.add(0, deletes=len(keys))
    if keys:
        write = store.write()
        try:
            write.delete_keys(keys)
        finally:
            write.end()


def checkpoint(lessor: Lessor, request: rpc_pb2.LeaseCheckpointRequest, now: float) -> None:
    for one in request.checkpoints:
        lessor.checkpoint(one.ID, one.remaining_TTL, now)
