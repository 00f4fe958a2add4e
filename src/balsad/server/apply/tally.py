"""How often the store was asked and changed since the start, as etcd's metrics count it.

A range, a put and a delete count wherever they stand, in a txn, too; a compare is a range. A txn is whatever does more
than one of them at once: a put that wants the previous value, the keys of a lease that ends.
Source: etcd server/mvcc/metrics_txn.go.
"""

from __future__ import annotations

from functools import cache


class Tally:
    __slots__ = ("deletes", "leases_granted", "leases_revoked", "put_bytes", "puts", "ranges", "txns")

    def __init__(self) -> None:
        self.ranges = 0
        self.puts = 0
        self.put_bytes = 0
        self.deletes = 0
        self.txns = 0
        self.leases_granted = 0
        self.leases_revoked = 0

    def add(self, ranges: int, puts: int = 0, deletes: int = 0) -> None:
        """What was done at once."""
        self.ranges += ranges
        self.puts += puts
        self.deletes += deletes
        if ranges + puts + deletes > 1:
            self.txns += 1


@cache
def go_name(field: str) -> str:
    """`lease_grant` is LeaseGrant in Go."""
    return "".join([part.capitalize() for part in field.split("_")])
