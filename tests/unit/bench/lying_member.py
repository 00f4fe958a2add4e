"""A server that answers puts, ranges and transactions from a dictionary, and can be told to do so badly."""

from __future__ import annotations

from balsad.errors import Code
from balsad.proto import rpc_pb2 as rpc
from balsad.transport import Call
from bench.workloads import PUT, RANGE
from tests.unit.transport.running_server import Running


class LyingMember(Running):
    """`loses`: puts are acknowledged and forgotten; `refuses_every`: so many calls, one error; `empties`: values go."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 1
        self.keys: dict[bytes, bytes] = {}
        self.loses = False
        self.empties = False
        self.refuses_every = 0
        self.calls = 0
        self.server.unary(PUT, self._put)
        self.server.unary(RANGE, self._range)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _is_refused(self, call: Call) -> bool:
        self.calls += 1
        if self.refuses_every and self.calls % self.refuses_every == 0:
            call.fail(Code.UNAVAILABLE, "etcdserver: not today")
            return True
        return False

    def _put(self, call: Call, body: bytes) -> None:
        if self._is_refused(call):
            return
        request = rpc.PutRequest.FromString(body)
        if not self.loses:
            self.keys[request.key] = request.value
            self.revision += 1
        call.respond(rpc.PutResponse(header=rpc.ResponseHeader(revision=max(self.revision, 2))).SerializeToString())

    def _range(self, call: Call, body: bytes) -> None:
        if self._is_refused(call):
            return
        key = rpc.RangeRequest.FromString(body).key
        answer = rpc.RangeResponse(header=rpc.ResponseHeader(revision=self.revision))
        if key in self.keys:
            answer.count = 1
            answer.kvs.add(key=key, value=b"" if self.empties else self.keys[key])
        call.respond(answer.SerializeToString())
