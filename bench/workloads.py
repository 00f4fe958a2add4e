"""What is asked of the servers, and how to see afterwards that they did it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balsad.proto import rpc_pb2 as rpc
from bench.load import LoadError, Request, call

KEYS: Final = 1000
VALUE: Final = b"v" * 256
PUT: Final = "/etcdserverpb.KV/Put"
RANGE: Final = "/etcdserverpb.KV/Range"
TXN: Final = "/etcdserverpb.KV/Txn"


@dataclass(frozen=True, slots=True)
class Workload:
    """`writes` is how many revisions each call makes; `check` looks at one answer."""

    name: str
    request: Request
    connections: int
    streams: int
    writes: int
    check: Callable[[bytes], bool]

    def probe(self, address: str) -> None:
        """One call whose answer must be right. Raises LoadError."""
        if not self.check(call(address, self.request.path, self.request.bodies[0])):
            raise LoadError(f"{self.name}: a wrong answer")


def stored_key(number: int) -> bytes:
    return b"stored/%04d" % number


def put_request(key: bytes) -> bytes:
    return rpc.PutRequest(key=key, value=VALUE).SerializeToString()


def fill(address: str) -> None:
    """Store the thousand keys that ranges ask for."""
    for first in range(0, KEYS, 100):
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=stored_key(number), value=VALUE))
            for number in range(first, first + 100)
        ]
        call(address, TXN, rpc.TxnRequest(success=puts).SerializeToString())


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


def _is_put(answer: bytes) -> bool:
    return rpc.PutResponse.FromString(answer).header.revision > 1


def _is_one_key(answer: bytes) -> bool:
    found = rpc.RangeResponse.FromString(answer)
    return found.count == 1 and found.kvs[0].value == VALUE


def _is_many_keys(answer: bytes) -> bool:
    # The last of many frames: the end of the message, where the value of the last key lies.
    return VALUE in answer


def _is_txn(answer: bytes) -> bool:
    found = rpc.TxnResponse.FromString(answer)
    return found.succeeded and found.responses[1].response_range.kvs[0].value == VALUE


_KEYS_PUT: Final = tuple(put_request(b"put/%06d" % number) for number in range(KEYS))
_KEYS_TXN: Final = tuple(_txn(b"txn/%06d" % number) for number in range(KEYS))
_KEYS_READ: Final = tuple(rpc.RangeRequest(key=stored_key(number)).SerializeToString() for number in range(KEYS))
_ALL: Final = (rpc.RangeRequest(key=b"stored/", range_end=b"stored0").SerializeToString(),)


def workloads() -> list[Workload]:
    return [
        Workload("put, 1 client", Request(PUT, _KEYS_PUT), 1, 1, 1, _is_put),
        Workload("put, 100 clients", Request(PUT, _KEYS_PUT), 10, 10, 1, _is_put),
        Workload("put, 1000 clients", Request(PUT, _KEYS_PUT), 100, 10, 1, _is_put),
        Workload("range of one key, 1 client", Request(RANGE, _KEYS_READ), 1, 1, 0, _is_one_key),
        Workload("range of one key, 100 clients", Request(RANGE, _KEYS_READ), 10, 10, 0, _is_one_key),
        Workload("range of 1000 keys, 10 clients", Request(RANGE, _ALL), 10, 1, 0, _is_many_keys),
        Workload("txn, 100 clients", Request(TXN, _KEYS_TXN), 10, 10, 1, _is_txn),
    ]
