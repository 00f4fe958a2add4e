"""What clients ask and what they are told, as values: the words in which histories are written and judged."""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never

from balsad.proto import kv_pb2, rpc_pb2

VALUE: Final = "value"
VERSION: Final = "version"
CREATE: Final = "create"
MOD: Final = "mod"


class KeyValue(NamedTuple):
    key: bytes
    value: bytes
    create: int
    mod: int
    version: int
    lease: int


class Put(NamedTuple):
    key: bytes
    value: bytes
    lease: int = 0
    wants_previous: bool = False


class Delete(NamedTuple):
    key: bytes
    end: bytes = b""
    wants_previous: bool = False


class Range(NamedTuple):
    key: bytes
    end: bytes = b""
    revision: int = 0
    serializable: bool = False
    limit: int = 0


class Compare(NamedTuple):
    """That a key's `target` equals `operand`."""

    key: bytes
    target: str
    operand: int | bytes


class Txn(NamedTuple):
    compares: tuple[Compare, ...]
    success: tuple[Put | Delete | Range, ...]
    failure: tuple[Put | Delete | Range, ...] = ()


Request = Put | Delete | Range | Txn


class PutResult(NamedTuple):
    previous: KeyValue | None = None


class DeleteResult(NamedTuple):
    deleted: int
    previous: tuple[KeyValue, ...] = ()


class RangeResult(NamedTuple):
    kvs: tuple[KeyValue, ...]
    total: int


class TxnResult(NamedTuple):
    succeeded: bool
    results: tuple[PutResult | DeleteResult | RangeResult, ...]


Result = PutResult | DeleteResult | RangeResult | TxnResult


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def covers(key: bytes, end: bytes, candidate: bytes) -> bool:
    """Whether the range that a request names as `key` and `end` holds the candidate."""
    if not end:
        return candidate == key
    return candidate >= key and (end == b"\0" or candidate < end)


# To the wire.

PATHS: Final = {
    Put: "/etcdserverpb.KV/Put",
    Delete: "/etcdserverpb.KV/DeleteRange",
    Range: "/etcdserverpb.KV/Range",
    Txn: "/etcdserverpb.KV/Txn",
}


def _put(put: Put) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=put.key, value=put.value, lease=put.lease, prev_kv=put.wants_previous)


def _delete(delete: Delete) -> rpc_pb2.DeleteRangeRequest:
    return rpc_pb2.DeleteRangeRequest(key=delete.key, range_end=delete.end, prev_kv=delete.wants_previous)


def _range(asked: Range) -> rpc_pb2.RangeRequest:
    return rpc_pb2.RangeRequest(
        key=asked.key,
        range_end=asked.end,
        revision=asked.revision,
        serializable=asked.serializable,
        limit=asked.limit,
    )


def _compare(compare: Compare) -> rpc_pb2.Compare:
    message = rpc_pb2.Compare(key=compare.key, result=rpc_pb2.Compare.EQUAL)
    operand = compare.operand
    if compare.target == VALUE:
        assert isinstance(operand, bytes)
        message.target = rpc_pb2.Compare.VALUE
        message.value = operand
        return message
    assert isinstance(operand, int)
    if compare.target == VERSION:
        message.target = rpc_pb2.Compare.VERSION
        message.version = operand
    elif compare.target == CREATE:
        message.target = rpc_pb2.Compare.CREATE
        message.create_revision = operand
    else:
        message.target = rpc_pb2.Compare.MOD
        message.mod_revision = operand
    return message


def _operation(operation: Put | Delete | Range) -> rpc_pb2.RequestOp:
    match operation:
        case Put():
            return rpc_pb2.RequestOp(request_put=_put(operation))
        case Delete():
            return rpc_pb2.RequestOp(request_delete_range=_delete(operation))
        case Range():
            return rpc_pb2.RequestOp(request_range=_range(operation))
    assert_never(operation)


def encode(request: Request) -> bytes:
    """The request's message on the wire."""
    match request:
        case Put():
            return _put(request).SerializeToString()
        case Delete():
            return _delete(request).SerializeToString()
        case Range():
            return _range(request).SerializeToString()
        case Txn():
            return rpc_pb2.TxnRequest(
                compare=[_compare(compare) for compare in request.compares],
                success=[_operation(operation) for operation in request.success],
                failure=[_operation(operation) for operation in request.failure],
            ).SerializeToString()
    assert_never(request)


# From the wire.


def key_value(found: kv_pb2.KeyValue) -> KeyValue:
    return KeyValue(found.key, found.value, found.create_revision, found.mod_revision, found.version, found.lease)


def _put_result(response: rpc_pb2.PutResponse) -> PutResult:
    return PutResult(key_value(response.prev_kv) if response.HasField("prev_kv") else None)


def _delete_result(response: rpc_pb2.DeleteRangeResponse) -> DeleteResult:
    return DeleteResult(response.deleted, tuple(key_value(each) for each in response.prev_kvs))


def _range_result(response: rpc_pb2.RangeResponse) -> RangeResult:
    return RangeResult(tuple(key_value(each) for each in response.kvs), response.count)


def decode(request: Request, raw: bytes) -> tuple[int, Result]:
    """The header's revision and what the answer to `request` says."""
    match request:
        case Put():
            put = rpc_pb2.PutResponse.FromString(raw)
            return put.header.revision, _put_result(put)
        case Delete():
            deletion = rpc_pb2.DeleteRangeResponse.FromString(raw)
            return deletion.header.revision, _delete_result(deletion)
        case Range():
            found = rpc_pb2.RangeResponse.FromString(raw)
            return found.header.revision, _range_result(found)
        case Txn():
            txn = rpc_pb2.TxnResponse.FromString(raw)
            results: list[PutResult | DeleteResult | RangeResult] = []
            for response in txn.responses:
                kind = response.WhichOneof("response")
                if kind == "response_put":
                    results.append(_put_result(response.response_put))
                elif kind == "response_delete_range":
                    results.append(_delete_result(response.response_delete_range))
                else:
                    results.append(_range_result(response.response_range))
            return txn.header.revision, TxnResult(txn.succeeded, tuple(results))
    assert_never(request)
