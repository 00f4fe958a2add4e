"""Leases: keys that are deleted unless somebody keeps them alive."""

from balsad.lease.lessor import (
    TTL_S_MAX,
    Lease,
    LeaseBackend,
    LeaseExpiredError,
    LeaseRecoveryJob,
    Lessor,
    NotPrimaryError,
)

__all__ = [
    "TTL_S_MAX",
    "Lease",
    "LeaseBackend",
    "LeaseExpiredError",
    "LeaseRecoveryJob",
    "Lessor",
    "NotPrimaryError",
]
