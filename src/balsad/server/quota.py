"""How much the backend may hold.

Source: etcd server/etcdserver/quota.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.storage import Backend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from balsad.proto import rpc_pb2

DEFAULT_BYTES: Final = 2 * 1024 * 1024 * 1024
LEASE_COST: Final = 64
KEY_COST: Final = 256


def txn_cost(request: rpc_pb2.TxnRequest) -> int:
    """What the dearer branch of a txn would add; nested txns are not counted, as in etcd."""
    return max(_puts_cost(request.success), _puts_cost(request.failure))


def _puts_cost(operations: Iterable[rpc_pb2.RequestOp]) -> int:
    cost = 0
    for operation in operations:
        if operation.WhichOneof("request") == "request_put":
            put = operation.request_put
            cost += KEY_COST + len(put.key) + len(put.value)
    return cost


class Quota:
    __slots__ = ("_backend", "limit_bytes")

    def __init__(self, backend: Backend, limit_bytes: int) -> None:
        """`limit_bytes` as the flag has it: 0 means the default, a negative number no limit."""
        self._backend = backend
        self.limit_bytes = DEFAULT_BYTES if limit_bytes == 0 else limit_bytes

    def available(self, cost: int) -> bool:
        return self.limit_bytes < 0 or self._backend.size + cost < self.limit_bytes
