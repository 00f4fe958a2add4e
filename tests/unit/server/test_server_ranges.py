"""A range's options, beside a model of a few lines; the order of ties is Go's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.errors import CompactedError, FutureRevError
from balsad.lease import Lessor
from balsad.mvcc import Store
from balsad.proto import kv_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.server.answers import inner_header
from balsad.server.ranges import answer_range, field_of, lease_of, value_of, without_value
from balsad.storage import schema
from tests.interop.servers import real, start
from tests.interop.v3 import connect
from tests.unit.mvcc.memory_backend import MemoryBackend


def new_store() -> Store:
    memory = MemoryBackend()
    schema.create_all_buckets(memory)
    lessor = Lessor(1, memory)
    lessor.grant(7, 100, 0.0)
    store = Store(memory, leases=lessor)
    store.restore()
    return store


def write(store: Store, *changes: tuple[bytes, bytes | None]) -> None:
    """Each change is a revision; None deletes."""
    for key, value in changes:
        txn = store.write()
        if value is None:
            txn.delete_range(key, b"")
        else:
            txn.put(key, value, 7 if value == b"leased" else 0)
        txn.end()


def ask(store: Store, request: rpc.RangeRequest) -> rpc.RangeResponse:
    return rpc.RangeResponse.FromString(answer_range(store, request, inner_header))


# The model


KEYS = [b"a", b"aa", b"ab", b"b", b"c", b"\xff"]
histories = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from([b"", b"1", b"2", b"leased", None, None])), max_size=14
)
optional = st.sampled_from([0, 0, 0, 2, 4, 6])
requests = st.builds(
    rpc.RangeRequest,
    key=st.sampled_from([*KEYS, b"\0"]),
    range_end=st.sampled_from([b"", b"\0", b"b", b"c", b"a", b"\xff"]),
    limit=st.sampled_from([0, 0, -1, 1, 2, 3]),
    revision=st.sampled_from([0, 0, 0, -1, 1, 3, 5]),
    sort_order=st.integers(0, 2),
    sort_target=st.integers(0, 4),
    keys_only=st.booleans(),
    count_only=st.booleans(),
    min_mod_revision=optional,
    max_mod_revision=optional,
    min_create_revision=optional,
    max_create_revision=optional,
)


def state_at(history: list[tuple[bytes, bytes | None]], wanted: int) -> tuple[dict[bytes, kv_pb2.KeyValue], int]:
    """All keys as of a revision (0: the newest), and the newest revision."""
    live: dict[bytes, kv_pb2.KeyValue] = {}
    past: dict[int, dict[bytes, kv_pb2.KeyValue]] = {1: {}}
    revision = 1
    for key, value in history:
        old = live.get(key)
        if value is None:
            if old is None:
                continue
            revision += 1
            del live[key]
        else:
            revision += 1
            live[key] = kv_pb2.KeyValue(
                key=key,
                value=value,
                create_revision=revision if old is None else old.create_revision,
                mod_revision=revision,
                version=1 if old is None else old.version + 1,
                lease=7 if value == b"leased" else 0,
            )
        past[revision] = dict(live)
    if wanted > revision:
        raise FutureRevError
    return past[wanted if wanted > 0 else revision], revision


SORT_FIELDS: list[Callable[[kv_pb2.KeyValue], Any]] = [
    lambda kv: kv.key,
    lambda kv: kv.version,
    lambda kv: kv.create_revision,
    lambda kv: kv.mod_revision,
    lambda kv: kv.value,
]


def model(history: list[tuple[bytes, bytes | None]], request: rpc.RangeRequest) -> tuple[list[Any], bool, int, int]:
    """The sort field of each row, `more`, `count` and the revision; rows with equal fields may come in any order."""
    live, revision = state_at(history, request.revision)
    end = request.range_end
    rows = [
        live[key]
        for key in sorted(live)
        if (key == request.key if not end else key >= request.key and (end == b"\0" or key < end))
    ]
    count = len(rows)
    if request.count_only:
        return [], False, count, revision
    filters = (
        request.max_mod_revision or request.min_mod_revision,
        request.max_create_revision or request.min_create_revision,
    )
    if not request.sort_order and not any(filters) and request.limit > 0:
        rows = rows[: request.limit + 1]  # sorted only after that, like etcd
    if request.max_mod_revision:
        rows = [row for row in rows if row.mod_revision <= request.max_mod_revision]
    if request.min_mod_revision:
        rows = [row for row in rows if row.mod_revision >= request.min_mod_revision]
    if request.max_create_revision:
        rows = [row for row in rows if row.create_revision <= request.max_create_revision]
    if request.min_create_revision:
        rows = [row for row in rows if row.create_revision >= request.min_create_revision]
    field = SORT_FIELDS[request.sort_target]
    if request.sort_order or request.sort_target:
        rows.sort(key=field, reverse=request.sort_order == rpc.RangeRequest.DESCEND)
    more = 0 < request.limit < len(rows)
    if more:
        rows = rows[: request.limit]
    return [field(row) for row in rows], more, count, revision


@given(history=histories, request=requests)
def test_every_option(history: list[tuple[bytes, bytes | None]], request: rpc.RangeRequest) -> None:
    store = new_store()
    write(store, *history)
    try:
        expected = model(history, request)
    except FutureRevError:
        with pytest.raises(FutureRevError):
            ask(store, request)
        return

    answer = ask(store, request)

    live, _ = state_at(history, request.revision)
    whole = [live[kv.key] for kv in answer.kvs]
    field = SORT_FIELDS[request.sort_target]
    assert ([field(kv) for kv in whole], answer.more, answer.count, answer.header.revision) == expected
    assert len({kv.key for kv in answer.kvs}) == len(answer.kvs)
    for kv, stored in zip(answer.kvs, whole, strict=True):
        if request.keys_only:
            stored = kv_pb2.KeyValue(
                key=stored.key,
                create_revision=stored.create_revision,
                mod_revision=stored.mod_revision,
                version=stored.version,
                lease=stored.lease,
            )
        assert kv == stored


def test_a_compacted_revision() -> None:
    store = new_store()
    write(store, (b"a", b"1"), (b"a", b"2"), (b"a", b"3"))
    job = store.compact(3)
    while not job.step():
        pass

    with pytest.raises(CompactedError):
        ask(store, rpc.RangeRequest(key=b"a", revision=2))
    assert ask(store, rpc.RangeRequest(key=b"a", revision=3)).kvs[0].value == b"2"


def test_unknown_orders_and_targets_change_nothing() -> None:
    """Like 3.5: an unknown order still fetches and counts all; an unknown target leaves the order of the keys."""
    store = new_store()
    write(store, *[(b"%d" % number, b"v") for number in range(5)])

    for fields in ({"sort_order": 9}, {"sort_target": 9}, {"sort_order": 2, "sort_target": 9}):
        answer = ask(store, rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=3, **fields))
        assert [kv.key for kv in answer.kvs] == [b"0", b"1", b"2"]
        assert (answer.more, answer.count) == (True, 5)


# Bytes of a KeyValue


@given(
    kv=st.builds(
        kv_pb2.KeyValue,
        key=st.binary(max_size=3),
        value=st.sampled_from([b"", b"v", bytes(200)]),
        create_revision=st.integers(0, 1 << 62),
        mod_revision=st.integers(0, 300),
        version=st.integers(0, 300),
        lease=st.integers(-(1 << 63), (1 << 63) - 1),
    )
)
def test_fields_of_stored_bytes(kv: kv_pb2.KeyValue) -> None:
    raw = kv.SerializeToString()

    assert (value_of(raw), lease_of(raw), field_of(raw, 0x0A)) == (kv.value, kv.lease, kv.key)
    kv.ClearField("value")
    assert without_value(raw) == kv.SerializeToString()


# Ties


TIED: list[list[bytes]] = [
    [b"1"] * 12,
    [b"2", b"1"] * 6,
    [b"1", b"2", b"3"] * 4,
    [b"2", b"2", b"1", b"1", b"3", b"1", b"2"],
    [b"3", b"1", b"3", b"1", b"3", b"1", b"3", b"1", b"2", b"2", b"1", b"3"],
    [b"b"] * 7,
    [b"2", b"1", b"2"],
    [b"1", b"1"],
]


@pytest.mark.real
def test_ties_of_up_to_twelve_rows_lie_as_in_the_real_etcd(tmp_path: Any) -> None:
    """Its sort is not stable; clients that compare two servers' lists must find no difference."""
    with start(real(), tmp_path / "data") as member, connect(member.address) as client:
        for values in TIED:
            store = new_store()
            client.delete(b"\0", range_end=b"\0")
            for number, value in enumerate(values):
                # Versions as uneven as the values.
                for _ in range(int(value[0]) % 3 + 1):
                    client.put(b"%02d" % number, value)
                    write(store, (b"%02d" % number, value))
            for target in (1, 4):
                for order in (0, 1, 2):
                    request = rpc.RangeRequest(
                        key=b"\0",
                        range_end=b"\0",
                        sort_target=target,  # type: ignore[arg-type]
                        sort_order=order,  # type: ignore[arg-type]
                    )
                    theirs = client.call("KV/Range", request, rpc.RangeResponse)
                    ours = ask(store, request)
                    assert [kv.key for kv in ours.kvs] == [kv.key for kv in theirs.kvs], (values, target, order)


def test_more_than_twelve_rows_are_in_order_too() -> None:
    store = new_store()
    write(store, *[(b"%03d" % number, b"%d" % (number * 7 % 10)) for number in range(200)])

    for order, reverse in ((1, False), (2, True)):
        request = rpc.RangeRequest(key=b"\0", range_end=b"\0", sort_target=4, sort_order=order)  # type: ignore[arg-type]
        found = [kv.value for kv in ask(store, request).kvs]
        assert found == sorted(found, reverse=reverse)
        assert len(found) == 200
