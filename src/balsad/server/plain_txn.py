"""Txns read straight from their bytes: what clients send most, without a message object.

    TxnRequest   0a compare ...   12 success ...   1a failure ...
    Compare      [08 result] [10 target] 1a key [20 28 30 3a 40: version, create, mod, value, lease]
    RequestOp    0a RangeRequest | 12 PutRequest | 1a DeleteRangeRequest

A request passes only if it is written as protobuf writes it: fields in order, each once, no number longer than
it need be, no zero where a field may be left out, nothing unknown. So its bytes are what decoding and encoding
it again would give: every member understands the same by them, and they may go into the log as they came.

Whatever else there is (a txn in a txn, a compare over a range, ignore_value, ...) takes the way of decoded
messages, and so does all that would be refused: there the errors are found, in etcd's order.

Source: etcd api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from balsad.proto import rpc_pb2
from balsad.server.quota import KEY_COST
from balsad.wire import to_int64

VERSION: Final = 0
CREATE: Final = 1
MOD: Final = 2
VALUE: Final = 3
LEASE: Final = 4

# Kinds of operations, by their tags in RequestOp; a range that is more than one key's is kept as a message.
GET: Final = 0x0A
PUT: Final = 0x12
DELETE: Final = 0x1A
RANGE: Final = 0

Compare = tuple[int, int, bytes, int, bytes]
"""Target, result, key; the number wanted, or the value wanted."""

Operation = tuple[int, bytes, bytes, bytes, int, bool, Any]
"""Kind, key, and of a put its key field, its value with the length (b"": none), its lease, and whether it wants the
previous KeyValue; of a delete the range's end in place of the key field, and the same wish; of ranges whether they are
serializable, and the RangeRequest of one that is more than a key."""


class PlainTxn:
    """A txn, read. `cost` is what its dearer branch may add to the backend, `has_ranges` of more than one key."""

    __slots__ = ("compares", "cost", "failure", "has_ranges", "is_readonly", "is_serializable", "success")

    def __init__(self, compares: list[Compare], success: list[Operation], failure: list[Operation]) -> None:
        self.compares = compares
        self.success = success
        self.failure = failure
        self.cost = 0
        self.is_readonly = True
        self.is_serializable = True
        self.has_ranges = False


def read_txn(raw: bytes, operations_max: int) -> PlainTxn | None:
    """The txn, if it is a plain one that nothing at the door would refuse."""
    compares: list[Compare] = []
    success: list[Operation] = []
    failure: list[Operation] = []
    pos = 0
    end = len(raw)
    last_tag = 0
    try:
        while pos < end:
            tag = raw[pos]
            if tag < last_tag:
                return None
            last_tag = tag
            start = pos + 2
            size = raw[pos + 1]
            if size >= 128:
                size, start = _number(raw, pos + 1)
            pos = start + size
            if pos > end or size < 0:
                return None
            if tag == 0x0A:
                compare = _compare(raw, start, pos)
                if compare is None:
                    return None
                compares.append(compare)
            elif tag == 0x12 or tag == 0x1A:
                operation = _operation(raw, start, pos)
                if operation is None:
                    return None
                if tag == 0x12:
                    success.append(operation)
                else:
                    failure.append(operation)
            else:
                return None
    except IndexError:
        return None
    if len(compares) > operations_max or len(success) > operations_max or len(failure) > operations_max:
        return None
    txn = PlainTxn(compares, success, failure)
    if not _weigh(txn, success) or not _weigh(txn, failure):
        return None
    return txn


def _weigh(txn: PlainTxn, operations: list[Operation]) -> bool:
    """Add a branch to what is known of the whole; False when it would change a key twice."""
    cost = puts = deletes = 0
    for operation in operations:
        kind = operation[0]
        if kind == PUT:
            puts += 1
            cost += KEY_COST + len(operation[1])
            value_field = operation[3]
            if value_field:
                cost += len(value_field) - length_bytes(value_field)
        elif kind == DELETE:
            deletes += 1
        else:
            if kind == RANGE:
                txn.has_ranges = True
            if not operation[5]:
                txn.is_serializable = False
    if puts or deletes:
        txn.is_readonly = False
        if cost > txn.cost:
            txn.cost = cost
        if puts and puts + deletes > 1:
            return _changes_once(operations)
    return True


def length_bytes(value_field: bytes) -> int:
    """How many of its bytes say how long it is."""
    at = 0
    while value_field[at] >= 128:
        at += 1
    return at + 1


def _changes_once(operations: list[Operation]) -> bool:
    puts: set[bytes] = set()
    for operation in operations:
        if operation[0] == PUT:
            if operation[1] in puts:
                return False
            puts.add(operation[1])
    for operation in operations:
        if operation[0] != DELETE:
            continue
        key, end = operation[1], operation[2]
        if not end:
            if key in puts:
                return False
        elif any(key <= put < end for put in puts):
            # The open end b"\0" is taken literally, as api.v3.checks has it.
            return False
    return True


def _number(data: bytes, pos: int) -> tuple[int, int]:
    """A varint as short as can be, and the place after it; -1 if it could be shorter, or is too long.

    Raises: IndexError at the end of the data.
    """
    byte = data[pos]
    if byte < 128:
        return byte, pos + 1
    value = byte & 127
    shift = 7
    while True:
        pos += 1
        byte = data[pos]
        if byte < 128:
            if byte == 0 or (shift == 63 and byte > 1):
                return -1, pos
            return value | byte << shift, pos + 1
        if shift == 63:
            return -1, pos
        value |= (byte & 127) << shift
        shift += 7


def _compare(raw: bytes, pos: int, stop: int) -> Compare | None:
    # What is read beyond `stop` belongs to whatever follows; then the end is not met, and nothing comes of it.
    result = target = 0
    if raw[pos] == 0x08:
        result = raw[pos + 1]
        pos += 2
        if not 0 < result <= 3:
            return None
    if raw[pos] == 0x10:
        target = raw[pos + 1]
        pos += 2
        if not 0 < target <= 4:
            return None
    if raw[pos] != 0x1A:
        return None
    start = pos + 2
    size = raw[pos + 1]
    if size >= 128:
        size, start = _number(raw, pos + 1)
    pos = start + size
    if size <= 0 or pos > stop:
        return None
    key = raw[start:pos]
    number = 0
    value = b""
    if pos < stop:
        # Of the other things that may be compared none: what is compared is read as 0 then, and that is rare.
        if raw[pos] != 0x20 + 8 * target + (2 if target == VALUE else 0):
            return None
        number, pos = _number(raw, pos + 1)
        if number < 0:
            return None
        if target == VALUE:
            start = pos
            pos += number
            value = raw[start:pos]
        elif number >> 63:
            number = to_int64(number)
    if pos != stop:
        return None
    return target, result, key, number, value


def _operation(raw: bytes, pos: int, stop: int) -> Operation | None:
    kind = raw[pos]
    start = pos + 2
    size = raw[pos + 1]
    if size >= 128:
        size, start = _number(raw, pos + 1)
    # The key first, in all three of them.
    if size <= 0 or start + size != stop or raw[start] != 0x0A:
        return None
    at = start + 2
    size = raw[start + 1]
    if size >= 128:
        size, at = _number(raw, start + 1)
    pos = at + size
    if size <= 0 or pos > stop:
        return None
    key = raw[at:pos]
    if kind == PUT:
        return _put(raw, key, raw[start:pos], pos, stop)
    if kind == GET:
        if pos == stop:
            return GET, key, b"", b"", 0, False, None
        if pos + 2 == stop and raw[pos] == 0x38 and raw[pos + 1] == 1:
            return GET, key, b"", b"", 0, True, None
        return _range(raw[start:stop], key)
    if kind == DELETE:
        return _delete(raw, key, pos, stop)
    return None


def _put(raw: bytes, key: bytes, key_field: bytes, pos: int, stop: int) -> Operation | None:
    value_field = b""
    lease = 0
    wants_previous = False
    if pos < stop and raw[pos] == 0x12:
        start = pos + 1
        size, pos = _number(raw, start)
        if size <= 0:
            return None
        pos += size
        value_field = raw[start:pos]
    if pos < stop and raw[pos] == 0x18:
        lease, pos = _number(raw, pos + 1)
        if lease <= 0:
            return None
        if lease >> 63:
            lease = to_int64(lease)
    if pos + 2 == stop and raw[pos] == 0x20 and raw[pos + 1] == 1:
        wants_previous = True
        pos = stop
    if pos != stop:
        return None
    return PUT, key, key_field, value_field, lease, wants_previous, None


def _delete(raw: bytes, key: bytes, pos: int, stop: int) -> Operation | None:
    end = b""
    wants_previous = False
    if pos < stop and raw[pos] == 0x12:
        size, start = _number(raw, pos + 1)
        if size <= 0:
            return None
        pos = start + size
        end = raw[start:pos]
    if pos + 2 == stop and raw[pos] == 0x18 and raw[pos + 1] == 1:
        wants_previous = True
        pos = stop
    if pos != stop:
        return None
    return DELETE, key, end, b"", 0, wants_previous, None


def _range(raw: bytes, key: bytes) -> Operation | None:
    """A range of more than its key: decoded, but only if its bytes are the only ones it could have."""
    try:
        request = rpc_pb2.RangeRequest.FromString(raw)
    except DecodeError:
        return None
    request.DiscardUnknownFields()
    if request.SerializeToString() != raw:
        return None
    return RANGE, key, b"", b"", 0, request.serializable, request
