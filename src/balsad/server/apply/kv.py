"""Puts, deletions and leases, applied to the store.

Everything here is deterministic: the same request on the same store gives the
same bytes on every member.

Source: etcd server/etcdserver/apply.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.errors import KeyNotFoundError, LeaseNotFoundError
from balsad.server.answers import delete_answer, inner_header, put_answer
from balsad.server.ranges import lease_of, value_of

if TYPE_CHECKING:
    from balsad.lease import Lessor
    from balsad.mvcc import WriteTxn
    from balsad.proto import rpc_pb2
    from balsad.server.apply.tally import Tally


def check_put(view: WriteTxn, lessor: Lessor, request: rpc_pb2.PutRequest) -> None:
    """Raises: KeyNotFoundError, LeaseNotFoundError."""
    if (request.ignore_value or request.ignore_lease) and view.meta(request.key) is None:
        raise KeyNotFoundError
    if request.lease and lessor.lookup(request.lease) is None:
        raise LeaseNotFoundError


def asks_first(request: rpc_pb2.PutRequest) -> bool:
    """Whether the put looks at what is there."""
    return bool(request.prev_kv or request.ignore_value or request.ignore_lease)


def put(txn: WriteTxn, request: rpc_pb2.PutRequest, tally: Tally) -> tuple[int, bytes | None]:
    """Put within `txn`, whose checks passed: the revision, and the previous KeyValue when it is wanted."""
    key = request.key
    value, lease = request.value, request.lease
    previous = None
    if asks_first(request):
        previous = txn.get(key)
        if previous is not None:
            if request.ignore_value:
                value = value_of(previous)
            if request.ignore_lease:
                lease = lease_of(previous)
    tally.put_bytes += len(key) + len(value)
    revision = txn.put(key, value, lease)
    return revision, previous if request.prev_kv else None


def put_in_txn(txn: WriteTxn, request: rpc_pb2.PutRequest, tally: Tally) -> bytes:
    """The PutResponse of an operation inside a txn."""
    revision, previous = put(txn, request, tally)
    return put_answer(inner_header(revision), previous)


def delete_range(txn: WriteTxn, request: rpc_pb2.DeleteRangeRequest) -> tuple[int, list[bytes]]:
    """How many keys were deleted, and their KeyValues when they are wanted."""
    previous = txn.range(request.key, request.range_end).kvs if request.prev_kv else []
    return txn.delete_range(request.key, request.range_end), previous


def delete_in_txn(txn: WriteTxn, request: rpc_pb2.DeleteRangeRequest) -> bytes:
    deleted, previous = delete_range(txn, request)
    return delete_answer(inner_header(txn.revision), deleted, previous)
