"""etcdserverpb.KV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3.checks import check_key, check_put, check_txn
from balsad.api.v3.door import Caller, Door, decode
from balsad.errors import RequestError
from balsad.proto import rpc_pb2
from balsad.server.apply import plain_txn
from balsad.server.apply import txn as txns
from balsad.server.long_ranges import LongRanges
from balsad.server.long_txns import LongTxns
from balsad.server.plain_txn import PlainTxn, read_txn
from balsad.server.propose import plain_put
from balsad.server.ranges import LargeAnswers
from balsad.wire import uvarint

if TYPE_CHECKING:
    from collections.abc import Callable

    from balsad.auth import Identity
    from balsad.server.service import Service
    from balsad.transport import Call, Headers, RpcServer


def fail(call: Call, error: RequestError) -> None:
    call.fail(error.code, error.text)


class KvApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door
        self._auth = service.auth
        self._store = service.store
        self._header_at = service.header.at
        self._tally = service.applier.counts
        self._large = LargeAnswers(service.store, service.header)
        self._long = LongRanges(service.store, service.header, self._large, flush=lambda: service.driver.flush())
        self._long_txns = LongTxns(service.store, self._header_at, self._tally, self._long)
        self._operations_max = service.config.max_txn_ops
        # What `txn_now` has read and `txn` is to answer.
        self._read_raw = b""
        self._read_txn: PlainTxn | None = None
        self.ranges = 0

    def register(self, server: RpcServer) -> None:
        server.unary("/etcdserverpb.KV/Range", self.range, self.range_now)
        server.unary("/etcdserverpb.KV/Put", self.put)
        server.unary("/etcdserverpb.KV/DeleteRange", self.delete_range)
        server.unary("/etcdserverpb.KV/Txn", self.txn, self.txn_now)
        server.unary("/etcdserverpb.KV/Compact", self.compact)

    # Reads.

    def range_now(self, headers: Headers, raw: bytes) -> bytes | None:
        """The answer, when this member needs nobody's word for it."""
        if not self._service.reads_are_free:
            return None
        caller: Caller | None = headers.memo
        if caller is None or caller.shows_token:
            return None
        caller.requests.value += 1
        self.ranges += 1
        size = len(raw)
        if size > 2 and raw[0] == 0x0A:
            # One key, linearizable or (0x38 0x01) serializable, which is the same here.
            end = raw[1] + 2
            if 2 < end < 130 and (end == size or (end + 2 == size and raw[end] == 0x38 and raw[end + 1] == 1)):
                store = self._store
                kv = store.get(raw[2:end])
                if kv is None:
                    return self._header_at(store.current_revision)
                return b"%b\x12%b%b\x20\x01" % (self._header_at(store.current_revision), uvarint(len(kv)), kv)
        answer = self._large.find(raw)
        if answer is not None:
            return answer
        request = decode(rpc_pb2.RangeRequest, raw)
        check_key(request)
        if self._long.is_long(request):
            # `range` comes next, and counts it.
            caller.requests.value -= 1
            self.ranges -= 1
            return None
        return self._large.answer(raw, request)

    def range(self, call: Call, raw: bytes) -> None:
        request = decode(rpc_pb2.RangeRequest, raw)
        self._door.admit(call.headers, serves_learner=request.serializable)
        check_key(request)
        self.ranges += 1
        self._read(
            call,
            request.serializable,
            lambda who: self._auth.check_range(who, request.key, request.range_end),
            lambda: self._answer_range(call, raw, request),
        )

    def _answer_range(self, call: Call, raw: bytes, request: rpc_pb2.RangeRequest) -> bytes | None:
        found = self._large.find(raw)
        if found is not None:
            return found
        if self._long.is_long(request):
            self._long.begin(call, raw, request)
            return None
        return self._large.answer(raw, request)

    def _read(
        self, call: Call, serializable: bool, check: Callable[[Identity], None], answer: Callable[[], bytes | None]
    ) -> None:
        """`answer` gives None when it answers the call itself, later."""

        def go_on(error: RequestError | None) -> None:
            if error is not None:
                fail(call, error)
                return
            try:
                if self._service.access.must_identify(call):
                    self._service.access.read(call, check, answer)
                else:
                    message = answer()
                    if message is not None:
                        call.respond(message)
            except RequestError as refusal:
                fail(call, refusal)

        if serializable:
            go_on(None)
        else:
            self._service.linearize(go_on)

    # Writes.

    def put(self, call: Call, raw: bytes) -> None:
        caller = self._door.admit(call.headers)
        plain = plain_put(raw)
        if plain is not None and not self._auth.enabled and not caller.shows_token:
            self._service.put_plain(call, raw, plain[0], plain[1])
            return
        request = decode(rpc_pb2.PutRequest, raw)
        check_put(request)
        self._service.put(call, request)

    def delete_range(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.DeleteRangeRequest, raw)
        check_key(request)
        self._service.delete_range(call, request)

    def txn_now(self, headers: Headers, raw: bytes) -> bytes | None:
        """The answer to a txn that changes nothing, when this member needs nobody's word for it."""
        if not self._service.reads_are_free:
            return None
        caller: Caller | None = headers.memo
        if caller is None or caller.shows_token:
            return None
        plain = read_txn(raw, self._operations_max)
        if plain is None or not plain.is_readonly:
            # `txn` comes next, with the very same bytes.
            self._read_raw = raw
            self._read_txn = plain
            return None
        if plain.has_ranges and self._long_txns.is_long_plain(plain):
            self._read_raw = raw
            self._read_txn = plain
            return None
        caller.requests.value += 1
        return plain_txn.read(self._store, plain, self._header_at, self._tally)

    def _plain_txn(self, raw: bytes, caller: Caller) -> PlainTxn | None:
        if raw is self._read_raw:
            plain = self._read_txn
            self._read_raw = b""
            self._read_txn = None
            return plain
        return None if self._auth.enabled or caller.shows_token else read_txn(raw, self._operations_max)

    def txn(self, call: Call, raw: bytes) -> None:
        caller = self._door.admit(call.headers)
        plain = self._plain_txn(raw, caller)
        if plain is not None:
            if plain.is_readonly:
                self._read(
                    call,
                    plain.is_serializable,
                    lambda who: self._service.applier.auth.check_txn(who, rpc_pb2.TxnRequest.FromString(raw)),
                    lambda: self._answer_plain_txn(call, raw, plain),
                )
            else:
                self._service.txn_plain(call, raw, plain)
            return
        request = decode(rpc_pb2.TxnRequest, raw)
        check_txn(request, self._operations_max)
        if txns.is_readonly(request):
            self._read(
                call,
                txns.is_serializable(request),
                lambda who: self._service.applier.auth.check_txn(who, request),
                lambda: self._answer_txn(call, request),
            )
        else:
            self._service.txn(call, request)

    def _answer_plain_txn(self, call: Call, raw: bytes, plain: PlainTxn) -> bytes | None:
        if plain.has_ranges and self._long_txns.is_long_plain(plain):
            self._long_txns.begin(call, rpc_pb2.TxnRequest.FromString(raw))
            return None
        return plain_txn.read(self._store, plain, self._header_at, self._tally)

    def _answer_txn(self, call: Call, request: rpc_pb2.TxnRequest) -> bytes | None:
        if self._long_txns.is_long(request):
            self._long_txns.begin(call, request)
            return None
        return txns.read(self._store, request, self._header_at, self._tally)

    def compact(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.compact(call, decode(rpc_pb2.CompactionRequest, raw))
