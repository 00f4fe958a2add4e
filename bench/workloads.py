"""What is asked of the servers, and how to see afterwards that they did it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench.connection import GRPC_PREFIX, LoadError, call
from bench.load import Load, Request

KEYS: Final = 1000
VALUE: Final = b"v" * 256
PUT: Final = "/etcdserverpb.KV/Put"
RANGE: Final = "/etcdserverpb.KV/Range"
TXN: Final = "/etcdserverpb.KV/Txn"


@dataclass(frozen=True, slots=True)
class Workload:
    """`kind` is what bars are for; `writes` is how many revisions each call makes; `check` looks at one answer."""

    kind: str
    name: str
    request: Request
    writes: int
    check: Callable[[bytes], bool]

    def probe(self, address: str) -> int:
        """The length of an answer, one call having been answered rightly. Raises LoadError."""
        answer = call(address, self.request.path, self.request.bodies[0])
        if not self.check(answer):
            raise LoadError(f"{self.name}: a wrong answer")
        return len(answer) + GRPC_PREFIX

    def judge(self, load: Load, expected_bytes: int, revisions: int) -> None:
        """Raises LoadError when a load shows that not every call did what it should.

        `expected_bytes` is the length of a right answer, `revisions` how many the store has gained.
        """
        if load.failed or not load.done:
            raise LoadError(f"{self.name}: {load.done} calls done, {load.failed} failed")
        # Numbers in an answer's header grow by a byte now and then; an error has no message at all.
        if not 0.95 * expected_bytes - 2 <= load.answer_bytes:
            raise LoadError(f"{self.name}: answers of {load.answer_bytes:.0f} bytes instead of {expected_bytes}")
        if revisions < load.done * self.writes or (revisions and not self.writes):
            raise LoadError(f"{self.name}: {load.done} calls made {revisions} revisions")


def stored_key(number: int) -> bytes:
    return b"stored/%04d" % number


def large_key(number: int) -> bytes:
    return b"large/%08d" % number


def large_value(number: int) -> bytes:
    """256 bytes, of each key its own."""
    return (b"value of %08d; " % number * 14)[:256]


def put_request(key: bytes, value: bytes = VALUE) -> bytes:
    return rpc.PutRequest(key=key, value=value).SerializeToString()


def fill(address: str) -> None:
    """Store the thousand keys that ranges ask for."""
    for first in range(0, KEYS, 100):
        call(address, TXN, puts_request([stored_key(number) for number in range(first, first + 100)]))


def puts_request(keys: list[bytes], value: bytes = VALUE) -> bytes:
    """A transaction that puts them all."""
    puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value)) for key in keys]
    return rpc.TxnRequest(success=puts).SerializeToString()


def revision(address: str) -> int:
    answer = call(address, RANGE, rpc.RangeRequest(key=b"no such key").SerializeToString())
    return rpc.RangeResponse.FromString(answer).header.revision


def _txn(key: bytes) -> bytes:
    """What clients write as a guarded update: compare, put, and read it again."""
    return rpc.TxnRequest(
        compare=[rpc.Compare(key=key, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, version=-1)],
        success=[
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=VALUE)),
            rpc.RequestOp(request_range=rpc.RangeRequest(key=key)),
        ],
    ).SerializeToString()


def is_put(answer: bytes) -> bool:
    return rpc.PutResponse.FromString(answer).header.revision > 1


def is_one_key(answer: bytes) -> bool:
    found = rpc.RangeResponse.FromString(answer)
    return found.count == 1 and found.kvs[0].value == VALUE


def _is_many_keys(answer: bytes) -> bool:
    found = rpc.RangeResponse.FromString(answer)
    return found.count == len(found.kvs) == KEYS and found.kvs[-1].key == stored_key(KEYS - 1)


def _is_txn(answer: bytes) -> bool:
    found = rpc.TxnResponse.FromString(answer)
    return found.succeeded and found.responses[1].response_range.kvs[0].value == VALUE


def _ranges(serializable: bool) -> tuple[bytes, ...]:
    return tuple(
        rpc.RangeRequest(key=stored_key(number), serializable=serializable).SerializeToString()
        for number in range(KEYS)
    )


_ALL = rpc.RangeRequest(key=b"stored/", range_end=b"stored0").SerializeToString()

PUT_ONE: Final = Workload(
    "put", "put", Request(PUT, tuple(put_request(b"put/%06d" % number) for number in range(KEYS))), 1, is_put
)
RANGE_LINEARIZABLE: Final = Workload(
    "range", "linearizable range of one key", Request(RANGE, _ranges(False)), 0, is_one_key
)
RANGE_SERIALIZABLE: Final = Workload(
    "range", "serializable range of one key", Request(RANGE, _ranges(True)), 0, is_one_key
)
RANGE_MANY: Final = Workload("range of 1000", "range of 1000 keys", Request(RANGE, (_ALL,)), 0, _is_many_keys)
TXN_ONE: Final = Workload(
    "txn",
    "txn (compare, put, range)",
    Request(TXN, tuple(_txn(b"txn/%06d" % number) for number in range(KEYS))),
    1,
    _is_txn,
)
