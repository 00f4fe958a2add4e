"""Keys and values: get, put, delete, transactions, compaction.

Keys and values are bytes; a str is taken as UTF-8. A range is one of: a key,
`range_end` (exclusive), `prefix=True`, `from_key=True`.

Source: etcd client/v3 op.go, kv.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from balsad.client.messages import (
    CompactionRequest,
    CompactionResponse,
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)

if TYPE_CHECKING:
    from balsad.client.channel import Channel

Key = bytes | str
OPEN_END: Final = b"\0"
"""As a range end: everything from the key on."""


def to_bytes(text: Key) -> bytes:
    """Bytes as they are, a str as UTF-8."""
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix: `a` ends at `b`, a prefix of 0xff alone at OPEN_END."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else OPEN_END


def key_range(key: Key, range_end: Key = b"", *, prefix: bool = False, from_key: bool = False) -> tuple[bytes, bytes]:
    """Key and range end for the wire."""
    first, end = to_bytes(key), to_bytes(range_end)
    if prefix or from_key:
        if not first:
            return OPEN_END, OPEN_END
        return first, prefix_end(first) if prefix else OPEN_END
    return first, end


def get_request(
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    limit: int = 0,
    revision: int = 0,
    sort_order: int = RangeRequest.NONE,
    sort_target: int = RangeRequest.KEY,
    serializable: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    min_create_revision: int = 0,
    max_create_revision: int = 0,
) -> RangeRequest:
    """What `KV.get` sends; also an operation of a transaction."""
    first, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    if sort_target == RangeRequest.KEY and sort_order == RangeRequest.ASCEND:
        # Keys come in this order anyway; asking for it makes the server fetch and sort all.
        sort_order = RangeRequest.NONE
    return RangeRequest(
        key=first,
        range_end=end,
        limit=limit,
        revision=revision,
        sort_order=sort_order,
        sort_target=sort_target,
        serializable=serializable,
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=min_mod_revision,
        max_mod_revision=max_mod_revision,
        min_create_revision=min_create_revision,
        max_create_revision=max_create_revision,
    )


def put_request(
    key: Key,
    value: Key = b"",
    *,
    lease: int = 0,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
) -> PutRequest:
    """What `KV.put` sends; also an operation of a transaction."""
    return PutRequest(
        key=to_bytes(key),
        value=to_bytes(value),
        lease=lease,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )


def delete_request(
    key: Key, range_end: Key = b"", *, prefix: bool = False, from_key: bool = False, prev_kv: bool = False
) -> DeleteRangeRequest:
    """What `KV.delete` sends; also an operation of a transaction."""
    first, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    return DeleteRangeRequest(key=first, range_end=end, prev_kv=prev_kv)


Operation = RangeRequest | PutRequest | DeleteRangeRequest | TxnRequest


def operation(request: Operation) -> RequestOp:
    """A request as one operation of a transaction."""
    if isinstance(request, RangeRequest):
        return RequestOp(request_range=request)
    if isinstance(request, PutRequest):
        return RequestOp(request_put=request)
    if isinstance(request, DeleteRangeRequest):
        return RequestOp(request_delete_range=request)
    return RequestOp(request_txn=request)


_RESULTS: Final = {"=": Compare.EQUAL, "!=": Compare.NOT_EQUAL, ">": Compare.GREATER, "<": Compare.LESS}


def compare(key: Key, target: str, result: str, value: int | Key) -> Compare:
    """A condition: `compare("k", "version", ">", 3)`.

    `target` is version, create_revision, mod_revision, value or lease; `result` is =, !=, > or <.
    """
    first = to_bytes(key)
    code = _RESULTS[result]
    if target == "value":
        assert not isinstance(value, int), "a value is compared with bytes"
        return Compare(result=code, target=Compare.VALUE, key=first, value=to_bytes(value))
    assert isinstance(value, int), f"a {target} is compared with a number"
    if target == "version":
        return Compare(result=code, target=Compare.VERSION, key=first, version=value)
    if target == "create_revision":
        return Compare(result=code, target=Compare.CREATE, key=first, create_revision=value)
    if target == "mod_revision":
        return Compare(result=code, target=Compare.MOD, key=first, mod_revision=value)
    if target == "lease":
        return Compare(result=code, target=Compare.LEASE, key=first, lease=value)
    raise ValueError(f"unknown target {target!r}")


class KV:
    """`client.kv`. `timeout` is in seconds; None waits as long as it takes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._channel.loop.time() + timeout

    async def get(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        from_key: bool = False,
        limit: int = 0,
        revision: int = 0,
        sort_order: int = RangeRequest.NONE,
        sort_target: int = RangeRequest.KEY,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        timeout: float | None = None,
    ) -> RangeResponse:
        """The keys of a range. Raises CompactedError, FutureRevError and other RequestErrors."""
        request = get_request(
            key,
            range_end,
            prefix=prefix,
            from_key=from_key,
            limit=limit,
            revision=revision,
            sort_order=sort_order,
            sort_target=sort_target,
            serializable=serializable,
            keys_only=keys_only,
            count_only=count_only,
            min_mod_revision=min_mod_revision,
            max_mod_revision=max_mod_revision,
            min_create_revision=min_create_revision,
            max_create_revision=max_create_revision,
        )
        return await self.do(request, timeout=timeout)

    async def put(
        self,
        key: Key,
        value: Key = b"",
        *,
        lease: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        timeout: float | None = None,
    ) -> PutResponse:
        """Set a key. Never sent twice unless the first surely was not seen."""
        request = put_request(
            key, value, lease=lease, prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease
        )
        return await self.do(request, timeout=timeout)

    async def delete(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        from_key: bool = False,
        prev_kv: bool = False,
        timeout: float | None = None,
    ) -> DeleteRangeResponse:
        """Delete the keys of a range."""
        request = delete_request(key, range_end, prefix=prefix, from_key=from_key, prev_kv=prev_kv)
        return await self.do(request, timeout=timeout)

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResponse:
        """Do `success` if all compares hold, else `failure`; in one step."""
        request = TxnRequest(
            compare=list(compares),
            success=[operation(one) for one in success],
            failure=[operation(one) for one in failure],
        )
        return await self.do(request, timeout=timeout)

    @overload
    async def do(self, request: RangeRequest, *, timeout: float | None = None) -> RangeResponse: ...
    @overload
    async def do(self, request: PutRequest, *, timeout: float | None = None) -> PutResponse: ...
    @overload
    async def do(self, request: DeleteRangeRequest, *, timeout: float | None = None) -> DeleteRangeResponse: ...
    @overload
    async def do(self, request: TxnRequest, *, timeout: float | None = None) -> TxnResponse: ...

    async def do(
        self, request: Operation, *, timeout: float | None = None
    ) -> RangeResponse | PutResponse | DeleteRangeResponse | TxnResponse:
        """Send a request that is already made."""
        unary, deadline = self._channel.unary, self._deadline(timeout)
        if isinstance(request, RangeRequest):
            return await unary("/etcdserverpb.KV/Range", request, RangeResponse, deadline=deadline, repeatable=True)
        if isinstance(request, PutRequest):
            return await unary("/etcdserverpb.KV/Put", request, PutResponse, deadline=deadline)
        if isinstance(request, DeleteRangeRequest):
            return await unary("/etcdserverpb.KV/DeleteRange", request, DeleteRangeResponse, deadline=deadline)
        # A transaction that only reads may be repeated.
        reads = all(one.request_range is not None for one in (*request.success, *request.failure))
        return await unary("/etcdserverpb.KV/Txn", request, TxnResponse, deadline=deadline, repeatable=reads)

    async def compact(
        self, revision: int, *, physical: bool = False, timeout: float | None = None
    ) -> CompactionResponse:
        """Forget what was superseded before `revision`; with `physical` wait until it is gone."""
        return await self._channel.unary(
            "/etcdserverpb.KV/Compact",
            CompactionRequest(revision=revision, physical=physical),
            CompactionResponse,
            deadline=self._deadline(timeout),
        )
