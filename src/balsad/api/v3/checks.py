"""What is refused at the door, before anything is proposed.

Source: etcd server/etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.errors import (
    DuplicateKeyError,
    EmptyKeyError,
    InternalError,
    KeyNotFoundError,
    LeaseProvidedError,
    TooManyOpsError,
    ValueProvidedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from balsad.proto import rpc_pb2


NESTED_MAX: Final = 48
"""How deep txns may lie in a txn: protobuf reads 100 messages within each other, and in the log is one more around."""


def check_put(request: rpc_pb2.PutRequest) -> None:
    if not request.key:
        raise EmptyKeyError
    if request.ignore_value and request.value:
        raise ValueProvidedError
    if request.ignore_lease and request.lease:
        raise LeaseProvidedError


def check_key(request: rpc_pb2.RangeRequest | rpc_pb2.DeleteRangeRequest) -> None:
    if not request.key:
        raise EmptyKeyError


def check_txn(request: rpc_pb2.TxnRequest, operations_max: int) -> None:
    """Raises: TooManyOpsError, EmptyKeyError, ... and DuplicateKeyError."""
    _check_operations(request, operations_max, 0)
    _check_intervals(request.success)
    _check_intervals(request.failure)


def _check_operations(request: rpc_pb2.TxnRequest, operations_max: int, depth: int) -> None:
    if depth > NESTED_MAX:
        # What is in the log must be read again by every restart.
        raise InternalError("grpc: error unmarshalling request: txns are nested too deep")
    count = max(len(request.compare), len(request.success), len(request.failure))
    if count > operations_max:
        raise TooManyOpsError
    for compare in request.compare:
        if not compare.key:
            raise EmptyKeyError
    for branch in (request.success, request.failure):
        for operation in branch:
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                check_key(operation.request_range)
            elif kind == "request_put":
                check_put(operation.request_put)
            elif kind == "request_delete_range":
                check_key(operation.request_delete_range)
            elif kind == "request_txn":
                _check_operations(operation.request_txn, operations_max - count, depth + 1)
            else:
                raise KeyNotFoundError


class _Intervals:
    """Deleted ranges of one branch; 128 of them at most, so a list will do."""

    def __init__(self) -> None:
        self._ranges: list[tuple[bytes, bytes]] = []

    def add(self, key: bytes, end: bytes) -> None:
        # The open end b"\0" is taken literally, so that a put beside it passes: etcd does so too,
        # and clients have come to rely on "delete everything, then put".
        self._ranges.append((key, end or key + b"\0"))

    def union(self, other: _Intervals) -> None:
        self._ranges += other._ranges

    def hit(self, key: bytes) -> bool:
        return any(start <= key < end for start, end in self._ranges)


def _check_intervals(operations: Iterable[rpc_pb2.RequestOp]) -> tuple[set[bytes], _Intervals]:
    """The keys put and the ranges deleted by a branch, unless a key would be changed twice.

    Raises: DuplicateKeyError.
    """
    deleted = _Intervals()
    nested = []
    own_puts = []
    for operation in operations:
        kind = operation.WhichOneof("request")
        if kind == "request_delete_range":
            deleted.add(operation.request_delete_range.key, operation.request_delete_range.range_end)
        elif kind == "request_txn":
            nested.append(operation.request_txn)
        elif kind == "request_put":
            own_puts.append(operation.request_put.key)
    puts: set[bytes] = set()
    for txn in nested:
        puts_then, deleted_then = _check_intervals(txn.success)
        puts_else, deleted_else = _check_intervals(txn.failure)
        for key in puts_then:
            if key in puts or deleted.hit(key):
                raise DuplicateKeyError
        puts |= puts_then
        for key in puts_else:
            # One of the two branches runs, so they may put the same key.
            if (key in puts and key not in puts_then) or deleted.hit(key):
                raise DuplicateKeyError
        puts |= puts_else
        deleted.union(deleted_then)
        deleted.union(deleted_else)
    for key in own_puts:
        if key in puts or deleted.hit(key):
            raise DuplicateKeyError
        puts.add(key)
    return puts, deleted
