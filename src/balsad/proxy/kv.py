"""KV through the proxy: keys of its namespace, and ranges remembered for who takes them old.

Source: etcd server/proxy/grpcproxy/kv.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from balsad.client.grpc_status import INTERNAL, OK, UNKNOWN, Status
from balsad.errors import CompactedError, EmptyKeyError
from balsad.proto import rpc_pb2
from balsad.proxy.namespace import Namespace
from balsad.proxy.range_cache import RangeCache
from balsad.proxy.upstream import Upstream, end
from balsad.transport import Call, RpcServer

if TYPE_CHECKING:
    from balsad.observe.metrics import Metrics

ATTEMPTS_PER_ENDPOINT: Final = 5
NO_GREATER_REVISION: Final = (
    "etcdclient: no cluster members have a revision higher than the previously received revision"
)
_KV: Final = "/etcdserverpb.KV/"
_TIME_TO_LIVE: Final = "/etcdserverpb.Lease/LeaseTimeToLive"


class KvProxy:
    """The handlers of KV, and of the one of Lease that tells keys.

    `is_ordered`: no range is answered at a revision before one that was told already, by whichever member.
    """

    def __init__(self, upstream: Upstream, namespace: Namespace, metrics: Metrics, *, is_ordered: bool = False) -> None:
        self._is_ordered = is_ordered
        self._told_revision = 0
        self._upstream = upstream
        self._namespace = namespace if namespace.prefix else None
        self._cache = RangeCache()
        self._metrics = metrics

    def register(self, server: RpcServer) -> None:
        server.unary(f"{_KV}Range", self._range)
        server.unary(f"{_KV}Put", self._put)
        server.unary(f"{_KV}DeleteRange", self._delete_range)
        server.unary(f"{_KV}Txn", self._txn)
        server.unary(f"{_KV}Compact", self._compact)
        server.unary(_TIME_TO_LIVE, self._time_to_live)

    def _range(self, call: Call, message: bytes) -> None:
        request = _decoded(rpc_pb2.RangeRequest, message)
        if request is None:
            self._pass_on(call, message)
            return
        was_serializable = request.serializable
        # Who asked the members themselves has asked for the newest, and serves those who take any.
        request.serializable = True
        question = _token(call), request.SerializeToString(deterministic=True)
        key, stop, revision = request.key, request.range_end, request.revision
        metrics = self._metrics
        if was_serializable:
            try:
                known = self._cache.get(question, revision)
            except CompactedError:
                metrics.proxy_cache_hits.inc()
                raise
            if known is not None and not (self._is_ordered and _revision(known) < self._told_revision):
                metrics.proxy_cache_hits.inc()
                call.respond(known)
                return
            metrics.proxy_cache_misses.inc()
        namespace = self._namespace
        if namespace is not None:
            if not key:
                _refuse_empty(call)
                return
            namespace.enter(request)
            request.serializable = was_serializable
            message = request.SerializeToString()

        def done(answer: bytes) -> bytes:
            if namespace is not None:
                found = rpc_pb2.RangeResponse.FromString(answer)
                namespace.leave(found.kvs)
                answer = found.SerializeToString()
            self._cache.add(question, key, stop, revision, answer)
            self._count()
            return answer

        if self._is_ordered:
            self._pass_on_in_order(call, message, done)
        else:
            self._pass_on(call, message, done)

    def _put(self, call: Call, message: bytes) -> None:
        request = _decoded(rpc_pb2.PutRequest, message)
        if request is None:
            self._pass_on(call, message)
            return
        key, namespace = request.key, self._namespace
        if namespace is not None:
            if not key:
                _refuse_empty(call)
                return
            namespace.enter_put(request)
            message = request.SerializeToString()

        def done(answer: bytes) -> bytes:
            # Once more: what was read while this was under way may be the value before.
            self._invalidate(key, b"")
            if namespace is not None:
                put = rpc_pb2.PutResponse.FromString(answer)
                namespace.leave_put(put)
                answer = put.SerializeToString()
            return answer

        self._invalidate(key, b"")
        self._pass_on(call, message, done)

    def _delete_range(self, call: Call, message: bytes) -> None:
        request = _decoded(rpc_pb2.DeleteRangeRequest, message)
        if request is None:
            self._pass_on(call, message)
            return
        key, stop, namespace = request.key, request.range_end, self._namespace
        if namespace is not None:
            if not key:
                _refuse_empty(call)
                return
            namespace.enter(request)
            message = request.SerializeToString()

        def done(answer: bytes) -> bytes:
            self._invalidate(key, stop)
            if namespace is not None:
                deleted = rpc_pb2.DeleteRangeResponse.FromString(answer)
                namespace.leave(deleted.prev_kvs)
                answer = deleted.SerializeToString()
            return answer

        self._invalidate(key, stop)
        self._pass_on(call, message, done)

    def _txn(self, call: Call, message: bytes) -> None:
        request = _decoded(rpc_pb2.TxnRequest, message)
        if request is None:
            self._pass_on(call, message)
            return
        token, namespace = _token(call), self._namespace
        if namespace is not None:
            inner = rpc_pb2.TxnRequest()
            inner.CopyFrom(request)
            namespace.enter_txn(inner)
            message = inner.SerializeToString()

        def done(answer: bytes) -> bytes:
            found = rpc_pb2.TxnResponse.FromString(answer)
            if namespace is not None:
                namespace.leave_txn(found)
                answer = found.SerializeToString()
            # It may have found a key to be other than what is known here.
            for compare in request.compare:
                self._cache.invalidate(compare.key, compare.range_end)
            self._learn(token, request.success if found.succeeded else request.failure, found.responses)
            self._count()
            return answer

        self._pass_on(call, message, done)

    def _learn(self, token: bytes, operations: Any, answers: Any) -> None:
        """What a txn's operations mean for what is kept."""
        for operation, answer in zip(operations, answers, strict=False):
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                self._cache.invalidate(operation.request_put.key, b"")
            elif kind == "request_delete_range":
                gone = operation.request_delete_range
                self._cache.invalidate(gone.key, gone.range_end)
            elif kind == "request_range":
                asked = rpc_pb2.RangeRequest()
                asked.CopyFrom(operation.request_range)
                asked.serializable = True
                question = token, asked.SerializeToString(deterministic=True)
                found = answer.response_range.SerializeToString()
                self._cache.add(question, asked.key, asked.range_end, asked.revision, found)
            elif kind == "request_txn":
                inner, found = operation.request_txn, answer.response_txn
                for compare in inner.compare:
                    self._cache.invalidate(compare.key, compare.range_end)
                self._learn(token, inner.success if found.succeeded else inner.failure, found.responses)

    def _compact(self, call: Call, message: bytes) -> None:
        request = _decoded(rpc_pb2.CompactionRequest, message)

        def done(answer: bytes) -> bytes:
            if request is not None:
                self._cache.compact(request.revision)
            return answer

        self._pass_on(call, message, done)

    def _time_to_live(self, call: Call, message: bytes) -> None:
        namespace = self._namespace
        if namespace is None:
            self._pass_on(call, message)
            return

        def done(answer: bytes) -> bytes:
            found = rpc_pb2.LeaseTimeToLiveResponse.FromString(answer)
            found.keys[:] = namespace.own(found.keys)
            return found.SerializeToString()

        self._pass_on(call, message, done)

    def _pass_on(self, call: Call, message: bytes, done: Callable[[bytes], bytes] | None = None) -> None:
        def ended(status: Status, answer: bytes) -> None:
            if status.code != OK:
                end(call, status, is_told_apart=False)
            else:
                _respond(call, answer, done)

        self._upstream.pass_on(call, message, ended)

    def _pass_on_in_order(self, call: Call, message: bytes, done: Callable[[bytes], bytes]) -> None:
        """Ask member after member until one is as far as what was told before. Source: client/v3/ordering."""
        told = self._told_revision
        left = ATTEMPTS_PER_ENDPOINT * len(self._upstream.channel.endpoints)

        def ended(status: Status, answer: bytes) -> None:
            nonlocal left
            if status.code != OK:
                end(call, status, is_told_apart=False)
                return
            revision = _revision(answer)
            if revision >= told:
                self._told_revision = max(self._told_revision, revision)
                _respond(call, answer, done)
            elif left > 0 and not call.closed:
                left -= 1
                self._upstream.pass_on(call, message, ended)
            else:
                call.fail(UNKNOWN, NO_GREATER_REVISION)

        self._upstream.pass_on(call, message, ended)

    def _invalidate(self, key: bytes, stop: bytes) -> None:
        self._cache.invalidate(key, stop)
        self._count()

    def _count(self) -> None:
        self._metrics.proxy_cache_keys.set(len(self._cache))


def _respond(call: Call, answer: bytes, done: Callable[[bytes], bytes] | None) -> None:
    try:
        call.respond(answer if done is None else done(answer))
    except DecodeError as error:
        call.fail(INTERNAL, f"grpc-proxy: the member's answer cannot be read: {error}")


def _decoded(kind: Any, message: bytes) -> Any:
    """None for what is no such message: the member says what is wrong with it."""
    try:
        return kind.FromString(message)
    except DecodeError:
        return None


def _revision(answer: bytes) -> int:
    """At which revision a range was answered; 0 of what cannot be read."""
    found = _decoded(rpc_pb2.RangeResponse, answer)
    return 0 if found is None else int(found.header.revision)


def _token(call: Call) -> bytes:
    return call.headers.metadata.get(b"token", b"")


def _refuse_empty(call: Call) -> None:
    call.fail(UNKNOWN, EmptyKeyError.message)
