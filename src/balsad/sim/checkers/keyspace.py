"""What etcd's keys do, as plain values: one part of the keys, at one moment, and what a request makes of it.

    State   the revision of the last write to these keys, the last revision known to have been
            reached, each key's KeyValue or None, the revision of its last deletion, what it
            was before it last changed, and the leases whose end took keys

put a=1 at revision 2, put a=2 at 3: value 2, create 2, mod 3, version 2. Delete at 4: None. put a=3
at 5: value 3, create 5, mod 5, version 1.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from balsad.sim.requests import (
    CREATE,
    VALUE,
    VERSION,
    Compare,
    Delete,
    DeleteResult,
    KeyValue,
    Put,
    PutResult,
    Range,
    RangeResult,
    Request,
    Result,
    Txn,
    TxnResult,
    covers,
)

Kvs = tuple[KeyValue | None, ...]


class State(NamedTuple):
    written: int
    reached: int
    kvs: Kvs
    deleted: tuple[int, ...]
    previous: Kvs
    ended: frozenset[int] = frozenset()

    def write(self, revision: int, kvs: Kvs, ended: frozenset[int] | None = None) -> State:
        """The state after a write made `revision`."""
        deleted, previous = list(self.deleted), list(self.previous)
        for at, (was, now) in enumerate(zip(self.kvs, kvs, strict=True)):
            if was != now:
                previous[at] = was
                if now is None:
                    deleted[at] = revision
        return State(revision, revision, kvs, tuple(deleted), tuple(previous), self.ended if ended is None else ended)

    def reach(self, revision: int) -> State:
        """The state when `revision` is known to have been reached."""
        return self._replace(reached=revision)


class Part:
    """Some of the keys, which no request ties to any other."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(keys)
        self._place = {key: at for at, key in enumerate(self.keys)}

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def empty(self) -> State:
        nothing = (None,) * len(self.keys)
        return State(1, 1, nothing, (0,) * len(self.keys), nothing)

    def touches(self, key: bytes, end: bytes) -> bool:
        return any(covers(key, end, candidate) for candidate in self.keys)

    def get(self, state: State, key: bytes) -> tuple[KeyValue | None, int, KeyValue | None]:
        """The key as it is, the revision at which it was last deleted, and what it was before it last changed."""
        at = self._place[key]
        return state.kvs[at], state.deleted[at], state.previous[at]

    # What a request does.

    def apply(self, kvs: Kvs, revision: int, request: Request) -> tuple[Kvs, Result]:
        """The keys after `request`, had it taken effect at `revision`, and what it would have been told."""
        changed = list(kvs)
        result = self._apply(changed, revision, request)
        return tuple(changed), result

    def _apply(self, kvs: list[KeyValue | None], revision: int, request: Request) -> Result:
        match request:
            case Put():
                at = self._place[request.key]
                before = kvs[at]
                kvs[at] = KeyValue(
                    request.key,
                    request.value,
                    revision if before is None else before.create,
                    revision,
                    1 if before is None else before.version + 1,
                    request.lease,
                )
                return PutResult(before if request.wants_previous else None)
            case Delete():
                gone = self._covered(kvs, request.key, request.end)
                for kv in gone:
                    kvs[self._place[kv.key]] = None
                return DeleteResult(len(gone), gone if request.wants_previous else ())
            case Range():
                found = self._covered(kvs, request.key, request.end)
                return RangeResult(found, len(found))
            case Txn():
                succeeded = all(self._holds(kvs, compare) for compare in request.compares)
                results: list[PutResult | DeleteResult | RangeResult] = []
                for each in request.success if succeeded else request.failure:
                    told = self._apply(kvs, revision, each)
                    assert not isinstance(told, TxnResult)
                    results.append(told)
                return TxnResult(succeeded, tuple(results))
        assert_never(request)

    def _covered(self, kvs: list[KeyValue | None], key: bytes, end: bytes) -> tuple[KeyValue, ...]:
        return tuple(kv for kv in kvs if kv is not None and covers(key, end, kv.key))

    def _holds(self, kvs: list[KeyValue | None], compare: Compare) -> bool:
        kv = kvs[self._place[compare.key]]
        if compare.target == VALUE:
            return kv is not None and kv.value == compare.operand
        if kv is None:
            return compare.operand == 0
        if compare.target == VERSION:
            return kv.version == compare.operand
        if compare.target == CREATE:
            return kv.create == compare.operand
        return kv.mod == compare.operand

    def expire(self, kvs: Kvs, lease: int) -> Kvs:
        """The keys without those of a lease."""
        return tuple(None if kv is not None and kv.lease == lease else kv for kv in kvs)

    # Of what a request was told, what is about these keys.

    def project(self, result: Result) -> Result:
        match result:
            case PutResult():
                return result
            case DeleteResult():
                return result
            case RangeResult():
                kvs = tuple(kv for kv in result.kvs if kv.key in self._place)
                return RangeResult(kvs, len(kvs))
            case TxnResult():
                return TxnResult(
                    result.succeeded,
                    tuple(
                        self.project(each) if isinstance(each, RangeResult) else each  # type: ignore[misc]
                        for each in result.results
                    ),
                )
        assert_never(result)


def written_keys(request: Request, universe: list[bytes]) -> set[bytes]:
    """The keys that belong together for the sake of this request: it may write some, and look at others to decide."""
    match request:
        case Put():
            return {request.key}
        case Delete():
            return {key for key in universe if covers(request.key, request.end, key)}
        case Range():
            return set()
        case Txn():
            keys: set[bytes] = set()
            for each in request.success + request.failure:
                keys |= written_keys(each, universe)
            if keys:
                keys |= {compare.key for compare in request.compares}
            return keys
    assert_never(request)


def is_write(request: Request, result: Result) -> bool:
    """Whether it changed anything: then it has a revision of its own."""
    match request, result:
        case Put(), _:
            return True
        case Delete(), DeleteResult():
            return result.deleted > 0
        case Txn(), TxnResult():
            branch = request.success if result.succeeded else request.failure
            return any(is_write(each, told) for each, told in zip(branch, result.results, strict=True))
        case _:
            return False


def named_keys(request: Request, result: Result | None) -> set[bytes]:
    """All keys that occur in a request or in what it was told."""
    keys: set[bytes] = set()
    match request:
        case Put():
            keys.add(request.key)
        case Delete() | Range():
            if not request.end:
                keys.add(request.key)
        case Txn():
            keys |= {compare.key for compare in request.compares}
            for each in request.success + request.failure:
                keys |= named_keys(each, None)
    match result:
        case RangeResult():
            keys |= {kv.key for kv in result.kvs}
        case DeleteResult():
            keys |= {kv.key for kv in result.previous}
        case TxnResult():
            for told in result.results:
                if isinstance(told, RangeResult):
                    keys |= {kv.key for kv in told.kvs}
    return keys
