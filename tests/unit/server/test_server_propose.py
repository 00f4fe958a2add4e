"""Which puts go the short way, and how whoever waits is told."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from balsad.errors import KeyNotFoundError
from balsad.proto import rpc_pb2 as rpc
from balsad.server.propose import Pending, Result, plain_put
from balsad.wire import read_uvarint
from tests.unit.server.server_kit import new_call


def agrees_with_protobuf(raw: bytes) -> bool:
    """Whether `raw` is taken for a plain put; if so, it must decode to just that key and value."""
    found = plain_put(raw)
    if found is None:
        return False
    key, value_at = found
    size, at = read_uvarint(raw, value_at)
    request = rpc.PutRequest.FromString(raw)
    assert request == rpc.PutRequest(key=key, value=raw[at:])
    assert len(raw) - at == size
    assert key
    assert request.SerializeToString() == raw
    return True


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes) -> None:
    agrees_with_protobuf(raw)


@given(
    key=st.binary(min_size=1, max_size=130),
    size=st.sampled_from([0, 1, 2, 126, 127, 128, 129, 300, 16383, 16384, 16385, 70_000, 2_097_151, 2_097_152]),
    tail=st.sampled_from([b"", b"", b"\0", b"\x18\x01", b"\x20\x01", b"\x12\x01a", b"\x0a\x01b"]),
    cut=st.sampled_from([0, 0, 0, 1, 2, 5]),
)
def test_puts_cut_short_or_grown(key: bytes, size: int, tail: bytes, cut: int) -> None:
    raw = rpc.PutRequest(key=key, value=bytes(size)).SerializeToString() + tail
    agrees_with_protobuf(raw[: len(raw) - cut])


@given(
    start=st.binary(min_size=1, max_size=6),
    place=st.integers(0, 20),
    replacement=st.integers(0, 255),
    size=st.integers(0, 200),
)
@example(start=b"k", place=0, replacement=0x12, size=3)
def test_puts_with_one_byte_changed(start: bytes, place: int, replacement: int, size: int) -> None:
    raw = bytearray(rpc.PutRequest(key=start, value=b"\x18" * size).SerializeToString())
    raw[place % len(raw)] = replacement
    try:
        rpc.PutRequest.FromString(bytes(raw))
    except DecodeError:
        assert plain_put(bytes(raw)) is None
        return
    agrees_with_protobuf(bytes(raw))


def test_what_goes_the_short_way() -> None:
    for key, value in ((b"k", b"v"), (b"k" * 127, b"v" * 127), (b"k", b"v" * 128), (b"k", bytes(1 << 20))):
        assert agrees_with_protobuf(rpc.PutRequest(key=key, value=value).SerializeToString()), (len(key), len(value))


def test_what_does_not() -> None:
    for request in (
        rpc.PutRequest(),
        rpc.PutRequest(key=b"k"),
        rpc.PutRequest(value=b"v"),
        rpc.PutRequest(key=b"k" * 128, value=b"v"),
        rpc.PutRequest(key=b"k", value=b"v", lease=1),
        rpc.PutRequest(key=b"k", value=b"v", prev_kv=True),
        rpc.PutRequest(key=b"k", value=b"v", ignore_value=True),
        rpc.PutRequest(key=b"k", value=b"v", ignore_lease=True),
    ):
        assert plain_put(request.SerializeToString()) is None, request
    # Legal, but not how anybody writes it: the value twice, a length in more bytes than it needs.
    assert plain_put(b"\x0a\x01k\x12\x01a\x12\x01b") is None
    assert plain_put(b"\x0a\x01k\x12\x81\x00a") is None
    assert plain_put(b"\x0a\x01k\x12\x81\x80\x00a") is None


def test_a_pending_tells_its_call_or_its_callback() -> None:
    call = new_call()
    heard: list[Result] = []
    Pending(1, call.given).resolve(b"answer")
    Pending(2, None, heard.append).resolve(b"answer")
    refusal = KeyNotFoundError()
    Pending(3, None, heard.append).resolve(refusal)
    Pending(4, None).resolve(b"nobody waits")
    refused = new_call()
    Pending(5, refused.given).resolve(refusal)

    assert (call.messages, call.status) == ([b"answer"], (0, ""))
    assert heard == [b"answer", refusal]
    assert refused.status == (3, "etcdserver: key not found")


def test_a_callback_goes_before_the_call() -> None:
    call = new_call()
    heard: list[Result] = []

    Pending(1, call.given, heard.append).resolve(b"answer")

    assert heard == [b"answer"]
    assert call.status is None
