"""Txns the short way and the long way: the same answers, errors, state, events; and nothing else gets in."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsad.api.v3.checks import check_txn
from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.errors import RequestError
from balsad.lease import Lessor
from balsad.mvcc import Store, WatchBatch
from balsad.mvcc.revision import KEY_BUCKET, meta_key
from balsad.mvcc.value_cache import ENTRY_OVERHEAD
from balsad.proto import raft_internal_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.server.answers import HeaderBytes
from balsad.server.apply import plain_txn
from balsad.server.apply import txn as txns
from balsad.server.apply.tally import Tally
from balsad.server.plain_txn import DELETE, GET, PUT, Operation, PlainTxn, read_txn
from balsad.server.quota import txn_cost
from balsad.storage import schema
from balsad.wire import UINT64_MASK, read_uvarint, uvarint
from tests.unit.mvcc.memory_backend import MemoryBackend
from tests.unit.server.server_kit import FakeCall, FakeHeaders, in_loop, running
from tests.unit.storage.bolt_disks import MappingDisk

OPERATIONS_MAX = 6
KEYS = [b"a", b"b", b"b\0", b"c", b"k" * 127, b"k" * 128, b"\xff" * 300]
LEASES = [7, -9]

keys = st.sampled_from([*KEYS, *[b"a", b"b", b"c"] * 3])
ends = st.sampled_from([b"", b"", b"\0", b"b", b"d", b"\xff"])
numbers = st.sampled_from([*range(8), *range(5), 1 << 14, 1 << 28, 1 << 62, -1, -(1 << 63)])
values = st.sampled_from([b"", b"v", b"w", b"v" * 127, b"v" * 128, b"v" * 20_000])
flags = st.sampled_from([False, False, True])


def compare(key: bytes, target: int, result: int, number: int, value: bytes, union: int, end: bytes) -> rpc.Compare:
    """`union` says what else it compares with than what it should: most often nothing."""
    made = rpc.Compare(key=key, target=target, result=result, range_end=end)  # type: ignore[arg-type]
    what = target if union == 0 else union - 2
    if what == rpc.Compare.VERSION:
        made.version = number
    elif what == rpc.Compare.CREATE:
        made.create_revision = number
    elif what == rpc.Compare.MOD:
        made.mod_revision = number
    elif what == rpc.Compare.VALUE:
        made.value = value
    elif what == rpc.Compare.LEASE:
        made.lease = number
    return made


compares = st.builds(
    compare,
    keys,
    st.integers(0, 4),
    st.integers(0, 3),
    numbers,
    values,
    st.sampled_from([0] * 12 + [1, 2, 3, 5]),
    st.sampled_from([b""] * 12 + [b"c", b"\0"]),
)
puts = st.builds(
    rpc.PutRequest,
    key=keys,
    value=values,
    lease=st.sampled_from([0, 0, 0, 0, *LEASES, 11]),
    prev_kv=flags,
    ignore_value=st.sampled_from([False] * 12 + [True]),
    ignore_lease=st.sampled_from([False] * 12 + [True]),
)
ranges = st.one_of(
    st.builds(rpc.RangeRequest, key=keys, serializable=flags),
    st.builds(
        rpc.RangeRequest,
        key=keys,
        range_end=ends,
        limit=st.sampled_from([0, 1, 2]),
        revision=st.sampled_from([0, 0, 0, 1, 2, 99]),
        sort_order=st.integers(0, 2),  # type: ignore[arg-type]
        sort_target=st.integers(0, 4),  # type: ignore[arg-type]
        keys_only=flags,
        count_only=flags,
    ),
)
deletes = st.builds(rpc.DeleteRangeRequest, key=keys, range_end=ends, prev_kv=flags)


def request_op(name: str, request: Any) -> rpc.RequestOp:
    return rpc.RequestOp(**{name: request})


operations = st.one_of(
    st.builds(request_op, st.just("request_put"), puts),
    st.builds(request_op, st.just("request_range"), ranges),
    st.builds(request_op, st.just("request_delete_range"), deletes),
)
plain_txns = st.builds(
    rpc.TxnRequest,
    compare=st.lists(compares, max_size=2),
    success=st.lists(operations, max_size=4),
    failure=st.lists(operations, max_size=2),
)
nests = st.builds(
    lambda inner, then: rpc.TxnRequest(success=[rpc.RequestOp(request_txn=inner), *then]),
    plain_txns,
    st.lists(operations, max_size=1),
)
requests = st.one_of(plain_txns, plain_txns, plain_txns, plain_txns, nests)


def counts_of(tally: Tally) -> tuple[int, ...]:
    return tally.ranges, tally.puts, tally.put_bytes, tally.deletes, tally.txns


class World:
    """A store, and two watchers who write down what they are told."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        schema.create_all_buckets(self.backend)
        self.lessor = Lessor(1, self.backend)
        for lease in LEASES:
            self.lessor.grant(lease, 100, 0.0)
        self.store = Store(self.backend, leases=self.lessor, cache_bytes_max=30_000)
        self.store.restore()
        self.header = HeaderBytes(cluster_id=0xCDF8181E3227AD54, member_id=8)
        self.header.set_term(2)
        self.tally = Tally()
        self.told: list[tuple[int, int, list[bytes]]] = []
        stream = self.store.watchers.open(self._hear)
        stream.watch(b"\0", b"\0", 0)
        stream.watch(b"b", b"", 0)

    def _hear(self, watch_id: int, batch: WatchBatch) -> bool:
        seen = [event.encoded_with_prev(self.store) for event in batch.events]
        self.told.append((watch_id, batch.revision, seen))
        return True

    def do(self, request: rpc.TxnRequest, plain: PlainTxn | None) -> bytes | tuple[str, str]:
        """Serve it as it is served; the answer, or the refusal."""
        at = self.header.at
        try:
            if plain is None:
                check_txn(request, OPERATIONS_MAX)
                if txns.is_readonly(request):
                    return txns.read(self.store, request, at, self.tally)
                return txns.apply(self.store, self.lessor, request, at, self.tally)
            if plain.is_readonly:
                return plain_txn.read(self.store, plain, at, self.tally)
            return plain_txn.apply(self.store, self.lessor, plain, at, self.tally)
        except RequestError as refusal:
            return type(refusal).__name__, refusal.text

    def compact(self) -> None:
        revision = self.store.current_revision - 1
        if revision > max(self.store.compact_revision, 0):
            job = self.store.compact(revision)
            while not job.step():
                pass

    def state(self) -> Any:
        """What must be the same; which values are cached need not be, but the cache must be right."""
        index = self.store.index
        cache = self.store.cache
        for key, kv in cache.kvs.items():
            assert kv == self.backend.buckets[KEY_BUCKET][meta_key(index.live[key])]
        assert cache.size == sum(len(kv) + ENTRY_OVERHEAD for kv in cache.kvs.values())
        return (
            self.store.current_revision,
            dict(self.backend.buckets[KEY_BUCKET]),
            index.live,
            index.history,
            list(index.live_sorted.between(b"", b"\0", 0)),
            self.lessor.lease_by_key,
            {lease.id: sorted(lease.sorted_keys()) for lease in self.lessor.leases()},
        )


@settings(deadline=None)
@given(history=st.lists(st.one_of(*[requests] * 8, st.just(None)), min_size=15, max_size=40))
def test_both_ways_do_the_same(history: list[rpc.TxnRequest | None]) -> None:
    """None compacts."""
    short, long = World(), World()
    for request in history:
        if request is None:
            for world in (short, long):
                world.compact()
            continue
        plain = read_txn(request.SerializeToString(), OPERATIONS_MAX)

        assert short.do(request, plain) == long.do(request, None), request

    assert short.state() == long.state()
    assert short.told == long.told
    assert counts_of(short.tally) == counts_of(long.tally)


def refused(request: rpc.TxnRequest) -> bool:
    try:
        check_txn(request, OPERATIONS_MAX)
    except RequestError:
        return True
    return False


def is_plain(request: rpc.TxnRequest) -> bool:
    """What should go the short way, said once more and otherwise."""

    def is_compare(one: rpc.Compare) -> bool:
        names = ("version", "create_revision", "mod_revision", "value", "lease")
        return not one.range_end and one.WhichOneof("target_union") in (None, names[one.target])

    def is_operation(one: rpc.RequestOp) -> bool:
        kind = one.WhichOneof("request")
        if kind == "request_put":
            return not one.request_put.ignore_value and not one.request_put.ignore_lease
        return kind != "request_txn"

    return (
        not refused(request)
        and all(map(is_compare, request.compare))
        and all(map(is_operation, [*request.success, *request.failure]))
    )


@settings(deadline=None)
@given(request=requests)
def test_what_goes_the_short_way(request: rpc.TxnRequest) -> None:
    raw = request.SerializeToString()
    assert (read_txn(raw, OPERATIONS_MAX) is not None) == is_plain(request)


def message_of(txn: PlainTxn) -> rpc.TxnRequest:
    """The request that was read."""
    request = rpc.TxnRequest()
    names = ("version", "create_revision", "mod_revision", "value", "lease")
    for target, result, key, number, value in txn.compares:
        one = request.compare.add(key=key, target=target, result=result)  # type: ignore[arg-type]
        setattr(one, names[target], value if target == rpc.Compare.VALUE else number)
    for branch, into in ((txn.success, request.success), (txn.failure, request.failure)):
        for operation in branch:
            into.append(operation_of(operation))
    return request


def operation_of(operation: Operation) -> rpc.RequestOp:
    kind, key, field, value_field, lease, flag, message = operation
    if kind == PUT:
        assert field == b"\x0a" + uvarint(len(key)) + key
        size, at = read_uvarint(value_field, 0) if value_field else (0, 0)
        assert len(value_field) == at + size
        put = rpc.PutRequest(key=key, value=value_field[at:], lease=lease, prev_kv=flag)
        return rpc.RequestOp(request_put=put)
    if kind == DELETE:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=field, prev_kv=flag))
    if kind == GET:
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, serializable=flag))
    assert message.key == key
    assert message.serializable == flag
    return rpc.RequestOp(request_range=message)


def with_unions(request: rpc.TxnRequest) -> rpc.TxnRequest:
    """What is compared with nothing is compared with zero."""
    names = ("version", "create_revision", "mod_revision", "value", "lease")
    copied = rpc.TxnRequest()
    copied.CopyFrom(request)
    for one in copied.compare:
        if one.WhichOneof("target_union") is None:
            setattr(one, names[one.target], b"" if one.target == rpc.Compare.VALUE else 0)
    return copied


def check_reading(raw: bytes) -> bool:
    """Whether `raw` is read as a plain txn; if so, protobuf must read and write the very same."""
    txn = read_txn(raw, OPERATIONS_MAX)
    if txn is None:
        return False
    request = rpc.TxnRequest.FromString(raw)
    request.DiscardUnknownFields()  # type: ignore[attr-defined]
    assert request.SerializeToString() == raw
    assert not refused(request)
    assert message_of(txn) == with_unions(request)
    assert txn.cost == txn_cost(request)
    assert txn.is_readonly == txns.is_readonly(request)
    if txn.is_readonly:
        assert txn.is_serializable == txns.is_serializable(request)
    return True


@settings(deadline=None)
@given(request=requests)
def test_what_is_read_is_what_was_written(request: rpc.TxnRequest) -> None:
    check_reading(request.SerializeToString())


# Messages as trees, to be written otherwise than protobuf would write them.

Node = list[list[Any]]
"""Fields: number, and an int, bytes, or the node of a message."""


def tree_of(message: Message) -> Node:
    fields: Node = []
    for descriptor, content in message.ListFields():
        for one in content if hasattr(content, "append") else [content]:
            fields.append([descriptor.number, tree_of(one) if isinstance(one, Message) else one])
    return fields


def nodes_of(node: Node) -> list[Node]:
    return [node, *(found for _, content in node if isinstance(content, list) for found in nodes_of(content))]


def padded(value: int, more: int) -> bytes:
    """A varint that is `more` bytes longer than it need be."""
    digits = uvarint(value & UINT64_MASK)
    if more and len(digits) + more <= 10:
        digits = digits[:-1] + bytes((digits[-1] | 128,)) + b"\x80" * (more - 1) + b"\0"
    return digits


def write(node: Node, odd: Node | None, more: int) -> bytes:
    """The bytes, in which the varints of the fields of `odd` are longer than they need be."""
    parts = []
    for number, content in node:
        pad = more if node is odd else 0
        if isinstance(content, int):
            parts.append(uvarint(number << 3) + padded(int(content), pad))
        else:
            inner = content if isinstance(content, bytes) else write(content, odd, more)
            parts.append(uvarint(number << 3 | 2) + padded(len(inner), pad) + inner)
    return b"".join(parts)


@settings(deadline=None, max_examples=300)
@given(request=plain_txns, data=st.data())
def test_what_protobuf_would_write_otherwise(request: rpc.TxnRequest, data: st.DataObject) -> None:
    """Fields moved, doubled, added, emptied; numbers longer than they need be."""
    tree = tree_of(request)
    node = data.draw(st.sampled_from(nodes_of(tree)))
    kind = data.draw(st.integers(0, 4))
    more = 0
    if kind == 0:
        more = data.draw(st.integers(1, 3))
    elif kind == 1:
        node[:] = data.draw(st.permutations(node))
    elif kind == 2 and node:
        node.append(data.draw(st.sampled_from(node)))
    elif kind == 3:
        place = data.draw(st.integers(0, len(node)))
        content = data.draw(st.sampled_from([0, 1, -1, b"", b"x"]))
        node.insert(place, [data.draw(st.sampled_from([*range(1, 14), 64, 100])), content])
    elif kind == 4 and node:
        field = data.draw(st.sampled_from(node))
        field[1] = data.draw(st.sampled_from([0, b""]))
    raw = write(tree, node, more)
    try:
        rpc.TxnRequest.FromString(raw)
    except DecodeError:
        assert read_txn(raw, OPERATIONS_MAX) is None
        return
    check_reading(raw)


@settings(deadline=None)
@given(request=plain_txns, place=st.integers(0, 1 << 20), byte=st.integers(0, 255), cut=flags)
def test_a_byte_that_is_not_as_it_should_be(request: rpc.TxnRequest, place: int, byte: int, cut: bool) -> None:
    raw = bytearray(request.SerializeToString())
    place %= len(raw) + 1
    raw[place : place + 1] = b"" if cut else bytes((byte,))
    try:
        rpc.TxnRequest.FromString(bytes(raw))
    except DecodeError:
        assert read_txn(bytes(raw), OPERATIONS_MAX) is None
        return
    check_reading(bytes(raw))


@given(raw=st.binary(max_size=30))
def test_any_bytes_at_all(raw: bytes) -> None:
    try:
        rpc.TxnRequest.FromString(raw)
    except DecodeError:
        assert read_txn(raw, OPERATIONS_MAX) is None
        return
    check_reading(raw)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(requests, min_size=8, max_size=16))
def test_a_member_logs_and_answers_the_same(history: list[rpc.TxnRequest]) -> None:
    """An unknown field at the end sends a request the long way, and does not get into the log."""

    async def scenario(tail: bytes) -> None:
        disk = MappingDisk()
        disk.makedirs("/d")
        heard: list[Any] = []
        async with running("/d", disk=disk, max_txn_ops=OPERATIONS_MAX) as life:
            door = Door(life.member.service)
            api = KvApi(life.member.service, door)
            known: Any = FakeHeaders({})
            door.admit(known)
            ways: set[bool] = set()
            for request in history:
                raw = request.SerializeToString() + tail
                at_once: Any = None
                call: Any = FakeCall()
                try:
                    at_once = api.txn_now(known, raw)
                    if at_once is None:
                        api.txn(call, raw)
                except RequestError as error:
                    call.fail(error.code, error.text)
                if at_once is None:
                    await life.answer(call)
                heard.append((call.status, call.messages) if at_once is None else ((0, ""), [at_once]))
                ways.add(at_once is not None)
            storage = life.member.booted.log_storage
            entries = storage.entries(storage.first_index(), storage.last_index() + 1)
            logged.append([txn_logged(entry.data) for entry in entries if entry.data[:1] == b"\x32"])
            hashes.append(life.member.store.hash_by_revision(0).hash)
            assert not tail or True not in ways
        answers.append(heard)

    answers: list[Any] = []
    logged: list[list[bytes]] = []
    hashes: list[int] = []
    in_loop(scenario(b""))
    in_loop(scenario(b"\x78\x01"))

    assert answers[0] == answers[1]
    assert logged[0] == logged[1]
    assert hashes[0] == hashes[1]


def txn_logged(data: bytes) -> bytes:
    """What an entry with a txn says beside its id."""
    message = raft_internal_pb2.InternalRaftRequest.FromString(data)
    assert message.HasField("txn")
    assert message.header.ID
    assert data == message.SerializeToString()
    message.header.ID = 0
    return message.SerializeToString()
