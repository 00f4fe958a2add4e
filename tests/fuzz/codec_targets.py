"""Codecs of our own beside google.protobuf: both refuse, or both read the same, and what we write it would write, too.

The generated classes of raftpb and walpb are proto2, where an enum value that is not in the .proto counts as an unknown
field; etcd's gogo-protobuf and we keep the number, so there messages with such values are compared without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from balsad.client import codec as client_codec
from balsad.client import messages as client_messages
from balsad.proto import etcdserver_pb2, raft_pb2, record_pb2, rpc_pb2
from balsad.raft import codec
from balsad.raft import messages as raft
from balsad.server.plain_txn import DELETE, GET, PUT, Operation, read_txn
from balsad.server.propose import plain_put
from balsad.storage.wal import WalSnapshot
from balsad.storage.wal.record import (
    decode_metadata,
    decode_record,
    decode_wal_snapshot,
    encode_metadata,
    encode_wal_snapshot,
)
from balsad.v2store.requests import Request, decode_request, encode_request
from balsad.wire import WireError
from tests.fuzz.engine import Target

_VARINTS: Final = (b"\x80\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 9 + b"\x7f", b"\x80" * 10)
_WORDS: Final = (*_VARINTS, b"\x00", b"\x0b\x0c", b"\x0b", b"\x08\x01", b"\x0a\x00", b"\x12\x00", b"\x4a\x00")
_LONG: Final = re.compile(rb"[\x80-\xff]{5}")
NOBODY: Final = 0xCE2A822CEA30BFCA


def _entry(theirs: Any) -> tuple[Any, ...]:
    return theirs.Type, theirs.Term, theirs.Index, theirs.Data


def _conf_state(theirs: Any) -> raft.ConfState:
    return raft.ConfState(
        tuple(theirs.voters),
        tuple(theirs.learners),
        tuple(theirs.voters_outgoing),
        tuple(theirs.learners_next),
        theirs.auto_leave,
    )


def _snapshot(theirs: Any) -> raft.Snapshot:
    meta = theirs.metadata
    return raft.Snapshot(meta.index, meta.term, _conf_state(meta.conf_state), theirs.data)


def entry_values(entry: raft.Entry) -> tuple[Any, ...]:
    return entry.type, entry.term, entry.index, entry.data


def message_values(message: raft.Message) -> tuple[Any, ...]:
    """All that a message says; an empty snapshot counts as none."""
    snapshot = message.snapshot
    return (
        message.type,
        message.to,
        message.from_,
        message.term,
        message.log_term,
        message.index,
        [entry_values(entry) for entry in message.entries],
        message.commit,
        None if snapshot is None or snapshot == raft.Snapshot() else snapshot,
        message.reject,
        message.reject_hint,
        message.context,
        message.vote,
        [message_values(response) for response in message.responses],
    )


def _message(theirs: Any) -> tuple[Any, ...]:
    snapshot = _snapshot(theirs.snapshot)
    return (
        theirs.type,
        theirs.to,
        getattr(theirs, "from"),
        theirs.term,
        theirs.logTerm,
        theirs.index,
        [_entry(entry) for entry in theirs.entries],
        theirs.commit,
        None if snapshot == raft.Snapshot() else snapshot,
        theirs.reject,
        theirs.rejectHint,
        theirs.context,
        theirs.vote,
        [_message(response) for response in theirs.responses],
    )


def _has_unknown_enums(values: Any) -> bool:
    """Whether one of our values has an enum number that proto2's classes would not keep."""
    if isinstance(values, raft.ConfChangeV2):
        return values.transition > 2 or any(change.type > 3 for change in values.changes)
    if isinstance(values, raft.ConfChange):
        return values.type > 3
    if isinstance(values, raft.Entry):
        return values.type > 2
    if isinstance(values, raft.Message):
        return (
            values.type > max(raft_pb2.MessageType.values())
            or any(map(_has_unknown_enums, values.entries))
            or any(map(_has_unknown_enums, values.responses))
        )
    return False


def _is_odd(error: WireError) -> bool:
    """Whether the bytes may be a message, but one that nobody writes, and are refused for that.

    Within groups google.protobuf takes a field number of 0.
    """
    return str(error).endswith((" in pieces", "longer than it need be", "groups within groups", "field number 0"))


def _beside(
    kind: type[Message],
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
    ours: Callable[[Any], Any],
    theirs: Callable[[Any], Any],
) -> Callable[[bytes], str]:
    """Both read the same of any bytes, and what we write of it both read again."""

    def check(data: bytes) -> str:
        expected: Any = None
        try:
            expected = kind.FromString(data)
        except DecodeError:
            pass
        try:
            found = decode(data)
        except WireError as error:
            assert expected is None or _is_odd(error), f"refused ({error}), protobuf has {expected}"
            return f"refused: {error}"
        if expected is None:
            # Tags of more than five bytes, which gogo-protobuf and we read.
            assert _LONG.search(data), f"accepted as {found!r}, protobuf refuses it"
            return "a long tag"
        again = encode(found)
        assert ours(decode(again)) == ours(found), f"{again.hex()} does not read as {found!r}"
        if _has_unknown_enums(found):
            return "unknown enum"
        assert ours(found) == theirs(expected), f"{found!r}, but protobuf has {expected}"
        assert ours(found) == theirs(kind.FromString(again)), f"{again.hex()} is read otherwise by protobuf"
        return "as written" if again == data else "written otherwise"

    return check


def _alike(found: Any) -> Any:
    return found


_ENTRIES: Final = (
    raft.Entry(0, 3, 17, b"data"),
    raft.Entry(1, 1 << 40, (1 << 64) - 1, b""),
    raft.Entry(2, 1, 300, bytes(200)),
)
_CONF_STATES: Final = (
    raft.ConfState((1, NOBODY), (3,), (1 << 63, 2), (4, 5), True),
    raft.ConfState((7,)),
)
_SNAPSHOTS: Final = (
    raft.Snapshot(5, 2, _CONF_STATES[0], b"tree"),
    raft.Snapshot(1 << 50, 9, _CONF_STATES[1], b""),
)


def _messages() -> list[raft.Message]:
    return [
        raft.Message(8, to=NOBODY, from_=7, term=5, commit=11),
        raft.Message(3, to=1, from_=2, term=5, log_term=4, index=10, entries=list(_ENTRIES), commit=9),
        raft.Message(4, to=1, from_=2, term=5, index=10, reject=True, reject_hint=7, log_term=3),
        raft.Message(7, to=1, from_=2, term=5, snapshot=_SNAPSHOTS[0]),
        raft.Message(15, to=1, from_=2, context=b"\0\1\2\3\4\5\6\7", entries=[_ENTRIES[0]]),
        raft.Message(19, to=1, vote=3, responses=[raft.Message(4, to=2, index=8), raft.Message(6, to=3)]),
    ]


def encoded_messages() -> list[bytes]:
    return [codec.encode_message(message) for message in _messages()]


def _check_reader(data: bytes) -> str:
    """Who has heard a sender before reads it as who has not."""
    size = int.from_bytes(data[:2], "big")
    before, data = data[2 : 2 + size], data[2 + size :]
    reader = codec.MessageReader()
    outcomes = []
    for piece in (before, data, data):
        try:
            expected: Any = message_values(codec.decode_message(piece))
        except WireError as error:
            expected = str(error)
        try:
            found: Any = message_values(reader.decode(piece))
        except WireError as error:
            found = str(error)
        assert found == expected
        outcomes.append("refused" if isinstance(found, str) else "read")
    return " ".join(reversed(outcomes))


def _pairs_of_messages() -> list[bytes]:
    encoded = encoded_messages()
    return [len(one).to_bytes(2, "big") + one + other for one in encoded for other in (one, encoded[0])]


def _decode_whole_record(data: bytes) -> tuple[int, int, bytes]:
    return decode_record(data, 0, len(data))


def _encode_whole_record(record: tuple[int, int, bytes]) -> bytes:
    kind, crc, content = record
    made = record_pb2.Record(type=kind - (1 << 64) if kind >> 63 else kind, crc=crc)
    made.data = content
    return made.SerializeToString()


_V2_TEXTS: Final = (("Method", "method"), ("Path", "path"), ("Val", "val"), ("PrevValue", "prev_value"))
_V2_NUMBERS: Final = (
    *(("ID", "id"), ("Dir", "dir"), ("PrevIndex", "prev_index"), ("Expiration", "expiration"), ("Wait", "wait")),
    *(("Since", "since"), ("Recursive", "recursive"), ("Sorted", "sorted"), ("Quorum", "quorum"), ("Time", "time")),
    ("Stream", "stream"),
)


def _check_v2(data: bytes) -> str:
    expected: Any = None
    try:
        expected = etcdserver_pb2.Request.FromString(data)
    except DecodeError:
        pass
    try:
        found = decode_request(data)
    except WireError as error:
        assert expected is None or str(error).startswith("wrong wire type"), f"refused ({error}): {expected}"
        return f"refused: {error}"[:40]
    # Text that is no UTF-8 is kept as it is by gogo-protobuf and us, and refused or mended by others.
    if expected is None:
        bad = [getattr(found, ours) for _, ours in _V2_TEXTS]
        is_odd = _LONG.search(data) or any(not text.isascii() for text in bad)
        assert is_odd, f"accepted as {found!r}, protobuf refuses it"
        return "no UTF-8"
    for theirs, ours in (*_V2_TEXTS, *_V2_NUMBERS):
        value = getattr(found, ours)
        if isinstance(value, str) and not value.isascii():
            continue
        assert value == getattr(expected, theirs), (ours, value, getattr(expected, theirs))
    assert decode_request(encode_request(found)) == found
    return f"read {len(data).bit_length()}"


# What clients send most, read without a message.


def _operations(theirs: Sequence[Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for op in theirs:
        which = op.WhichOneof("request")
        if which == "request_put":
            put = op.request_put
            assert not put.ignore_value and not put.ignore_lease
            rows.append((PUT, put.key, put.value, put.lease, put.prev_kv))
        elif which == "request_delete_range":
            rows.append((DELETE, op.request_delete_range.key, op.request_delete_range.range_end))
        else:
            assert which == "request_range"
            rows.append((GET, op.request_range.key))
    return rows


def _plain_operations(ours: Sequence[Operation]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for kind, key, third, value_field, lease, wants_previous, _ in ours:
        if kind == PUT:
            value = rpc_pb2.PutRequest.FromString(b"\x12" + value_field).value if value_field else b""
            rows.append((PUT, key, value, lease, wants_previous))
        elif kind == DELETE:
            rows.append((DELETE, key, third))
        else:
            rows.append((GET, key))
    return rows


def _check_txn(data: bytes) -> str:
    plain = read_txn(data, 128)
    if plain is None:
        return "refused"
    theirs = rpc_pb2.TxnRequest.FromString(data)
    assert theirs.SerializeToString(deterministic=True) == data, "written otherwise than protobuf writes it"
    assert _plain_operations(plain.success) == _operations(theirs.success)
    assert _plain_operations(plain.failure) == _operations(theirs.failure)
    compares = []
    for each in theirs.compare:
        assert not each.range_end
        union = each.WhichOneof("target_union")
        number = getattr(each, union) if union not in (None, "value") else 0
        compares.append((each.target, each.result, each.key, number, each.value))
    assert [tuple(compare[:3]) for compare in plain.compares] == [row[:3] for row in compares]
    for (target, _, _, number, value), row in zip(plain.compares, compares, strict=True):
        assert row[4 if target == 3 else 3] == (value if target == 3 else number), (target, number, value, row)
    return f"plain {len(plain.compares)} {len(plain.success)} {len(plain.failure)}"


def _txns() -> list[bytes]:
    txn = rpc_pb2.TxnRequest()
    txn.compare.add(key=b"a", target=rpc_pb2.Compare.VERSION, result=rpc_pb2.Compare.GREATER, version=300)
    txn.compare.add(key=b"b", target=rpc_pb2.Compare.VALUE, value=b"v")
    txn.compare.add(key=b"c", target=rpc_pb2.Compare.LEASE, lease=-7)
    txn.success.add().request_put.CopyFrom(rpc_pb2.PutRequest(key=b"a", value=b"v" * 140, lease=9, prev_kv=True))
    txn.success.add().request_delete_range.CopyFrom(rpc_pb2.DeleteRangeRequest(key=b"b", range_end=b"c", prev_kv=True))
    txn.failure.add().request_range.CopyFrom(rpc_pb2.RangeRequest(key=b"a", serializable=True))
    txn.failure.add().request_range.CopyFrom(rpc_pb2.RangeRequest(key=b"a", range_end=b"b", limit=5))
    small = rpc_pb2.TxnRequest()
    small.success.add().request_put.CopyFrom(rpc_pb2.PutRequest(key=b"k", value=b"v"))
    return [txn.SerializeToString(deterministic=True), small.SerializeToString(deterministic=True)]


def _check_put(data: bytes) -> str:
    plain = plain_put(data)
    if plain is None:
        return "refused"
    key, value_at = plain
    theirs = rpc_pb2.PutRequest.FromString(data)
    assert theirs.SerializeToString() == data, "written otherwise than protobuf writes it"
    assert theirs.key == key
    assert key
    assert not theirs.lease and not theirs.prev_kv and not theirs.ignore_value and not theirs.ignore_lease
    assert theirs.value == b"" or data.endswith(theirs.value)
    return f"plain {value_at > 0} {len(key).bit_length()}"


# The client's own classes.

_CLIENT_KINDS: Final = [
    (kind, getattr(rpc_pb2, name))
    for name, kind in sorted(vars(client_messages).items())
    if isinstance(kind, type) and issubclass(kind, client_codec.Message) and hasattr(rpc_pb2, name)
]


def _check_client(data: bytes) -> str:
    ours, theirs = _CLIENT_KINDS[data[0] % len(_CLIENT_KINDS)] if data else _CLIENT_KINDS[0]
    data = data[1:]
    expected: Any = None
    try:
        expected = theirs.FromString(data)
    except DecodeError:
        pass
    try:
        found = client_codec.decode(ours, data)
    except client_codec.CodecError as error:
        return f"refused: {error}"[:40]
    repr(found)
    again = client_codec.encode(found)
    assert client_codec.decode(ours, again) == found, again.hex()
    if expected is None:
        return "read by us alone"
    # What a server may write: each field once and in order, nothing unknown. That is read as protobuf reads it.
    expected.DiscardUnknownFields()
    if expected.SerializeToString(deterministic=True) == data:
        assert again == data, f"{again.hex()} instead of {data.hex()} for {expected}"
        return f"as written: {ours.__name__}"
    return f"otherwise: {ours.__name__}"


def filled(message: Message, depth: int = 0) -> Message:
    """A message with something in every field."""
    field: Any
    for number, field in enumerate(message.DESCRIPTOR.fields):
        if field.containing_oneof is not None and field.containing_oneof.fields[depth % 2] != field:
            continue
        if field.message_type is not None:
            if depth > 2:
                continue
            target = getattr(message, field.name)
            inner = target.add() if field.is_repeated else target
            inner.SetInParent() if not field.is_repeated else None
            filled(inner, depth + 1)
            continue
        value: Any = number + 1
        if field.cpp_type == field.CPPTYPE_STRING:
            value = b"bytes" if field.type == field.TYPE_BYTES else "text"
        elif field.cpp_type == field.CPPTYPE_BOOL:
            value = True
        elif field.cpp_type == field.CPPTYPE_ENUM:
            assert field.enum_type is not None
            value = field.enum_type.values[-1].number
        elif field.cpp_type == field.CPPTYPE_INT64:
            value = -number - 1
        if field.is_repeated:
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)
    return message


def _client_corpus() -> list[bytes]:
    return [
        bytes((number,)) + filled(theirs()).SerializeToString(deterministic=True)
        for number, (_, theirs) in enumerate(_CLIENT_KINDS)
    ]


def _target(
    name: str,
    kind: type[Message],
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
    values: Sequence[Any],
    theirs: Callable[[Any], Any],
    ours: Callable[[Any], Any] = _alike,
) -> Target:
    return Target(
        name, _beside(kind, decode, encode, ours, theirs), lambda: [encode(value) for value in values], _WORDS
    )


def _singles(change: raft.ConfChangeV2) -> tuple[Any, ...]:
    return change.transition, [(single.type, single.node_id) for single in change.changes], change.context


CODECS: Final = (
    _target("entry", raft_pb2.Entry, codec.decode_entry, codec.encode_entry, _ENTRIES, _entry, entry_values),
    _target(
        "hard_state",
        raft_pb2.HardState,
        codec.decode_hard_state,
        codec.encode_hard_state,
        [raft.HardState(1, 2, 3), raft.HardState(1 << 63, NOBODY, 300)],
        lambda theirs: raft.HardState(theirs.term, theirs.vote, theirs.commit),
    ),
    _target(
        "conf_state", raft_pb2.ConfState, codec.decode_conf_state, codec.encode_conf_state, _CONF_STATES, _conf_state
    ),
    _target("snapshot", raft_pb2.Snapshot, codec.decode_snapshot, codec.encode_snapshot, _SNAPSHOTS, _snapshot),
    _target(
        "conf_change",
        raft_pb2.ConfChange,
        codec.decode_conf_change,
        codec.encode_conf_change,
        [raft.ConfChange(0, NOBODY, b'{"id":1}', 5), raft.ConfChange(3, 1)],
        lambda theirs: (theirs.id, theirs.type, theirs.node_id, theirs.context),
        lambda found: (found.id, found.type, found.node_id, found.context),
    ),
    _target(
        "conf_change_v2",
        raft_pb2.ConfChangeV2,
        codec.decode_conf_change_v2,
        codec.encode_conf_change_v2,
        [raft.ConfChangeV2(1, (raft.ConfChangeSingle(0, 5), raft.ConfChangeSingle(3, NOBODY)), b"why")],
        lambda theirs: (
            theirs.transition,
            [(change.type, change.node_id) for change in theirs.changes],
            theirs.context,
        ),
        _singles,
    ),
    _target(
        "message",
        raft_pb2.Message,
        codec.decode_message,
        codec.encode_message,
        _messages(),
        _message,
        message_values,
    ),
    Target("message_reader", _check_reader, _pairs_of_messages, _WORDS),
    _target(
        "wal_record",
        record_pb2.Record,
        _decode_whole_record,
        _encode_whole_record,
        [(1, 7, b"whose"), (2, 0xFFFFFFFF, bytes(300)), (4, 0, b"")],
        lambda theirs: (theirs.type & (1 << 64) - 1, theirs.crc, theirs.data),
    ),
    _target(
        "wal_snapshot",
        record_pb2.Snapshot,
        decode_wal_snapshot,
        encode_wal_snapshot,
        [WalSnapshot(5, 2, _CONF_STATES[0]), WalSnapshot(1 << 60, 1, None)],
        lambda theirs: WalSnapshot(
            theirs.index, theirs.term, _conf_state(theirs.conf_state) if theirs.HasField("conf_state") else None
        ),
    ),
    _target(
        "wal_metadata",
        etcdserver_pb2.Metadata,
        decode_metadata,
        lambda ids: encode_metadata(*ids),
        [(NOBODY, 1 << 63)],
        lambda theirs: (theirs.NodeID, theirs.ClusterID),
    ),
    Target(
        "v2_request",
        _check_v2,
        lambda: [
            encode_request(Request(id=7, method="PUT", path="/1/a", val="v", expiration=-5, prev_exist=True)),
            encode_request(Request(id=1 << 63, method="QGET", path="/", recursive=True, sorted=True, quorum=True)),
        ],
        (*_WORDS, b"\x88\x01\x01", b"\xff"),
    ),
    Target("plain_txn", _check_txn, _txns, (*_WORDS, b"\x0a\x01a", b"\x0a\x03\x0a\x01a")),
    Target(
        "plain_put",
        _check_put,
        lambda: [
            rpc_pb2.PutRequest(key=b"k", value=b"v").SerializeToString(),
            rpc_pb2.PutRequest(key=b"k" * 100, value=b"v" * 20_000).SerializeToString(),
        ],
        _WORDS,
    ),
    Target("client_codec", _check_client, _client_corpus, _WORDS),
)
