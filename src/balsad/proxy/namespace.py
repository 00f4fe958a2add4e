"""Keys of a namespace: with its prefix towards members, without it towards clients.

    b"ns/"    "a" <-> "ns/a"    [a, c) <-> [ns/a, ns/c)    [a, no end) <-> [ns/a, ns0)

Source: etcd client/v3/namespace kv.go, lease.go, util.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from balsad.errors import EmptyKeyError
from balsad.proto import kv_pb2, rpc_pb2


class _Ranged(Protocol):
    key: bytes
    range_end: bytes


class Namespace:
    """An empty prefix leaves all as it is."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._end = _after(prefix)

    def inside(self, key: bytes, end: bytes) -> tuple[bytes, bytes]:
        """The range that members see."""
        if end == b"\0":
            end = self._end
        elif end:
            end = self.prefix + end
        return self.prefix + key, end

    # Requests; a key that is missing must be told before the prefix hides it.

    def enter(self, request: _Ranged) -> None:
        """Raises: EmptyKeyError."""
        if not request.key:
            raise EmptyKeyError
        request.key, request.range_end = self.inside(request.key, request.range_end)

    def enter_put(self, request: rpc_pb2.PutRequest) -> None:
        """Raises: EmptyKeyError."""
        if not request.key:
            raise EmptyKeyError
        request.key = self.prefix + request.key

    def enter_txn(self, request: rpc_pb2.TxnRequest) -> None:
        for compare in request.compare:
            compare.key, compare.range_end = self.inside(compare.key, compare.range_end)
        for operation in (*request.success, *request.failure):
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                operation.request_put.key = self.prefix + operation.request_put.key
            elif kind == "request_txn":
                self.enter_txn(operation.request_txn)
            elif kind == "request_range":
                self._enter_range(operation.request_range)
            elif kind == "request_delete_range":
                self._enter_range(operation.request_delete_range)

    def _enter_range(self, request: _Ranged) -> None:
        request.key, request.range_end = self.inside(request.key, request.range_end)

    # Answers.

    def leave(self, pairs: Iterable[kv_pb2.KeyValue]) -> None:
        size = len(self.prefix)
        for pair in pairs:
            pair.key = pair.key[size:]

    def leave_put(self, answer: rpc_pb2.PutResponse) -> None:
        if answer.HasField("prev_kv"):
            self.leave([answer.prev_kv])

    def leave_txn(self, answer: rpc_pb2.TxnResponse) -> None:
        for operation in answer.responses:
            kind = operation.WhichOneof("response")
            if kind == "response_put":
                self.leave_put(operation.response_put)
            elif kind == "response_txn":
                self.leave_txn(operation.response_txn)
            elif kind == "response_range":
                self.leave(operation.response_range.kvs)
            elif kind == "response_delete_range":
                self.leave(operation.response_delete_range.prev_kvs)

    def own(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of a lease's keys that are in here."""
        size = len(self.prefix)
        return [key[size:] for key in keys if key.startswith(self.prefix)]


def _after(prefix: bytes) -> bytes:
    """The end of the keys that begin with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b"\0"
