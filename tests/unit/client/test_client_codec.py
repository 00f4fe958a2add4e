"""The client's own messages against protobuf's: same fields, same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from balsad.client import codec, messages
from balsad.client.codec import BOOL, BYTES, INT64, MESSAGE, STRING, UINT64, CodecError, Message
from balsad.proto import auth_pb2, kv_pb2, rpc_pb2

KINDS = {
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_ENUM: INT64,
    FieldDescriptor.TYPE_UINT64: UINT64,
    FieldDescriptor.TYPE_UINT32: UINT64,
    FieldDescriptor.TYPE_BOOL: BOOL,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_STRING: STRING,
    FieldDescriptor.TYPE_MESSAGE: MESSAGE,
}
CLASSES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
]


def protobuf_class(kind: type[Message]) -> Any:
    for module in (rpc_pb2, kv_pb2, auth_pb2):
        if hasattr(module, kind.__name__):
            return getattr(module, kind.__name__)
    raise AssertionError(f"{kind.__name__} is no message of etcd's")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_fields_are_those_of_the_proto_files(kind: type[Message]) -> None:
    descriptor = protobuf_class(kind).DESCRIPTOR
    theirs = {(f.number, f.name, KINDS[f.type], f.is_repeated) for f in descriptor.fields}

    assert {(f.number, f.name, f.kind, f.repeated) for f in kind.FIELDS} == theirs
    assert [f.number for f in kind.FIELDS] == sorted(f.number for f in kind.FIELDS)
    for field in kind.FIELDS:
        if field.target is not None:
            assert field.target.__name__ == descriptor.fields_by_name[field.name].message_type.name


SCALARS: dict[int, st.SearchStrategy[Any]] = {
    INT64: st.integers(-(2**63), 2**63 - 1),
    UINT64: st.integers(0, 2**32 - 1),
    BOOL: st.booleans(),
    BYTES: st.binary(max_size=300),
    STRING: st.text(max_size=20),
}
ENUMS = st.integers(0, 3)


def values_of(kind: type[Message], depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages of a class with any of its fields set, at most one of a oneof."""
    descriptor = protobuf_class(kind).DESCRIPTOR
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.FIELDS:
        if field.target is not None:
            if depth == 2:
                continue
            one: st.SearchStrategy[Any] = values_of(field.target, depth + 1)
        elif descriptor.fields_by_name[field.name].type == FieldDescriptor.TYPE_ENUM:
            one = ENUMS
        else:
            one = SCALARS[field.kind]
        fields[field.name] = st.lists(one, max_size=3) if field.repeated else one
    groups = [[f.name for f in group.fields if f.name in fields] for group in descriptor.oneofs]
    plain = {name: one for name, one in fields.items() if not any(name in group for group in groups)}
    choices = [st.sampled_from([*group, None]) for group in groups if group]

    @st.composite
    def make(draw: st.DrawFn) -> Message:
        chosen = {name: draw(one) for name, one in plain.items() if draw(st.booleans())}
        for choice in choices:
            name = draw(choice)
            if name is not None:
                chosen[name] = draw(fields[name])
        return kind(**chosen)

    return make()


def to_protobuf(message: Message) -> Any:
    made = protobuf_class(type(message))()
    for field in message.FIELDS:
        value = message.__dict__.get(field.name)
        if value is None:
            continue
        if field.repeated:
            getattr(made, field.name).extend([to_protobuf(one) if field.target else one for one in value])
        elif field.target:
            getattr(made, field.name).CopyFrom(to_protobuf(value))
            getattr(made, field.name).SetInParent()
        else:
            setattr(made, field.name, value)
    return made


BIG_ONES = [
    messages.TxnRequest,
    messages.TxnResponse,
    messages.RangeResponse,
    messages.WatchRequest,
    messages.WatchResponse,
    messages.MemberAddResponse,
    messages.StatusResponse,
    messages.AuthRoleGetResponse,
    messages.AuthUserAddRequest,
    messages.LeaseTimeToLiveResponse,
]


@pytest.mark.parametrize("kind", BIG_ONES, ids=lambda kind: kind.__name__)
def test_bytes_are_protobufs(kind: type[Message]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(values_of(kind))
    def check(message: Message) -> None:
        theirs = to_protobuf(message).SerializeToString(deterministic=True)

        assert codec.encode(message) == theirs
        assert codec.decode(kind, theirs) == message

    check()


def test_unknown_fields_are_skipped() -> None:
    data = codec.encode(messages.PutRequest(key=b"k", lease=-5)) + b"\xf8\x07\x01" + b"\xfa\x07\x02ab" + b"\xfd\x07abcd"

    assert codec.decode(messages.PutRequest, data) == messages.PutRequest(key=b"k", lease=-5)


def test_numbers_may_come_packed_or_one_by_one() -> None:
    filters = messages.WatchCreateRequest(filters=[1, 0, 1])

    assert codec.encode(filters) == b"\x2a\x03\x01\x00\x01"
    assert codec.decode(messages.WatchCreateRequest, b"\x28\x01\x28\x00\x28\x01") == filters
    assert codec.decode(messages.WatchCreateRequest, b"\x28\x01\x2a\x02\x00\x01") == filters


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x80", b"\x18", b"\x18" + b"\xff" * 10, b"\x0b"],
    ids=["no size", "cut short", "no tag", "no number", "endless number", "a group"],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(messages.PutRequest, data)


def test_text_that_is_no_utf_8_survives() -> None:
    data = b"\x0a\x02\xff\xfe"

    decoded = codec.decode(messages.AuthUserGetRequest, data)

    assert codec.encode(decoded) == data


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(TypeError, match="no field 'kye'"):
        messages.PutRequest(kye=b"k")  # type: ignore[call-arg]


def test_a_set_message_is_written_even_if_it_is_empty() -> None:
    assert codec.encode(messages.AuthUserAddRequest(options=messages.UserAddOptions())) == b"\x1a\x00"
    assert codec.encode(messages.RequestOp(request_range=messages.RangeRequest())) == b"\x0a\x00"
    assert codec.encode(messages.Compare(value=b"")) == b"\x3a\x00"
    assert codec.encode(messages.PutResponse()) == b""


def test_packed_numbers_are_read_as_single_ones() -> None:
    """Of a repeated field: with their sign, and none that reaches beyond the field's end. Found by fuzzing."""
    minus_two = b"\xfe" + b"\xff" * 8 + b"\x01"
    packed = codec.decode(messages.WatchCreateRequest, b"\x2a\x0b\x01" + minus_two)
    single = codec.decode(messages.WatchCreateRequest, b"\x28\x01\x28" + minus_two)
    assert packed == single == messages.WatchCreateRequest(filters=[1, -2])
    with pytest.raises(CodecError):
        codec.decode(messages.WatchCreateRequest, b"\x2a\x01\x80\x01")
