"""What fuzzing found, each find as it was made to happen; all of them are mended."""

from __future__ import annotations

import json
import struct
import time

import pytest

from balsad.api.gateway.pages import _read_messages
from balsad.api.gateway.routes import ROUTES
from balsad.client.grpc_status import status_of
from balsad.membership.member import MemberFormatError, decode_member
from balsad.peer.codec import FrameError, MessageDecoder
from balsad.peer.http_answer import HEAD_BYTES_MAX, AnswerReader, BrokenAnswerError
from balsad.peer.member_pages import revision_of
from balsad.proto import rpc_pb2
from balsad.raft.codec import MessageReader, decode_entry, decode_message, encode_message
from balsad.raft.messages import Entry, HardState, Message
from balsad.storage import Backend, CorruptDatabaseError
from balsad.storage.bolt import check
from balsad.storage.wal import INLINE, Wal, WalOptions, WalSnapshot, read_log
from balsad.storage.wal.record import encode_record
from balsad.storage.wal.replay import WalError
from balsad.transport.http1_request import CHUNK_LINE_MAX, BadRequestError, ChunkedBody
from balsad.v2store.go_time import format_ns, parse_ns
from balsad.wire import GROUPS_MAX, WireError, skip_field
from tests.fuzz.file_targets import PAGE, _database, _inode
from tests.property.memory_disk import MemoryDisk
from tests.unit.storage.bolt_disks import MappingDisk
from tests.unit.transport.wire_kit import END_HEADERS, HEADERS, PREFACE, RawClient, frame, settings

# The wire.


def test_groups_within_groups_end_somewhere() -> None:
    """Compiled there was no other end to them than the stack's, and with it the process's."""
    deep = b"\x0b" * 1_000_000 + b"\x0c" * 1_000_000
    with pytest.raises(WireError, match="groups within groups"):
        skip_field(deep, 1, 0x0B)
    with pytest.raises(WireError, match="groups within groups"):
        decode_entry(deep)
    stream = len(deep).to_bytes(8, "big") + deep
    with pytest.raises(FrameError, match="groups within groups"):
        MessageDecoder().feed(stream)
    enough = b"\x0b" * GROUPS_MAX + b"\x0c" * GROUPS_MAX
    assert skip_field(enough, 1, 0x0B) == len(enough)


def test_a_group_ends_with_its_own_number() -> None:
    assert skip_field(b"\x13\x08\x01\x14\x0c", 0, 0x0B) == 5
    with pytest.raises(WireError, match="another field number"):
        skip_field(b"\x13\x0c\x14", 0, 0x0B)


def test_a_field_number_that_there_can_not_be() -> None:
    with pytest.raises(WireError, match="field number"):
        skip_field(b"\0", 0, (1 << 29) << 3)


def test_a_tag_longer_than_it_need_be_is_not_passed_over() -> None:
    """Others would read the field."""
    assert decode_entry(b"\x18\x05").index == 5
    with pytest.raises(WireError, match="longer than it need be"):
        decode_entry(b"\x98\x00\x05")


def test_a_snapshot_in_two_pieces_is_refused() -> None:
    """Others would put both together; the second alone is not what was said."""
    twice = encode_message(Message(7, to=1)) + b"\x4a\x02\x0a\x00"
    reader = MessageReader()
    reader.decode(encode_message(Message(7, to=1)))
    for decode in (decode_message, reader.decode):
        with pytest.raises(WireError, match="in pieces"):
            decode(twice)


# HTTP.


def test_answers_that_are_interim_again_and_again() -> None:
    reader = AnswerReader()
    data = b"HTTP/1.1 100 Continue\r\n\r\n" * 2500
    assert len(data) < HEAD_BYTES_MAX
    assert reader.feed(data + b"HTTP/1.1 204 No Content\r\n\r\n") == b""
    assert reader.status == 204


def test_a_head_that_comes_byte_by_byte_is_looked_through_once() -> None:
    reader = AnswerReader()
    begun = time.process_time()
    with pytest.raises(BrokenAnswerError, match="too large"):
        for _ in range(HEAD_BYTES_MAX + 1):
            reader.feed(b"x")
    # It was 60 times as long.
    assert time.process_time() - begun < 10


def test_words_of_a_server_that_are_none() -> None:
    odd = status_of([(b":status", b"500"), (b"content-type", b"\xd0\x00")], True)
    assert odd is not None
    assert "\\xd0" in odd.text
    long = status_of([(b":status", b"200"), (b"grpc-status", b"9" * 5000)], True)
    assert long is not None
    assert long.code == 2


# JSON.


def test_json_deeper_than_pythons_reader_goes() -> None:
    deep = b'{"id":' * 100_000
    with pytest.raises(MemberFormatError, match="too deep"):
        decode_member(deep)
    with pytest.raises(ValueError, match="too deep"):
        revision_of(deep)


def test_a_txn_within_txns_is_gone_through_once() -> None:
    """It was gone through twice for every level: 400 KiB held the loop for 17 s."""
    route = ROUTES["/v3/kv/txn"]
    levels = 45
    opening, closing = b'{"success":[{"requestTxn":' * levels, b"}]}" * levels
    body = opening + b'{"other":[' + b"0," * 200_000 + b"0]}" + closing
    begun = time.process_time()
    (encoded,) = _read_messages(body, route)
    assert time.process_time() - begun < 4
    txn = rpc_pb2.TxnRequest.FromString(encoded)
    for _ in range(levels):
        txn = txn.success[0].request_txn
    assert txn == rpc_pb2.TxnRequest()


@pytest.mark.parametrize("text", [b'{"key":"YQ==","value":"Yg==" }', b' { "key" : "YQ==" ,\n"value":\t"Yg=="}'])
def test_bodies_are_read_wherever_the_spaces_are(text: bytes) -> None:
    (encoded,) = _read_messages(text, ROUTES["/v3/kv/put"])
    assert rpc_pb2.PutRequest.FromString(encoded) == rpc_pb2.PutRequest(key=b"a", value=b"b")
    assert json.loads(text)


# Files.


def test_years_of_fewer_digits_than_four() -> None:
    """They were written without their zeros, and the saved tree was not read again."""
    moment = parse_ns("0001-01-01T10:00:00Z")
    assert format_ns(moment) == "0001-01-01T10:00:00Z"
    assert parse_ns(format_ns(moment)) == moment
    assert format_ns(parse_ns("9999-12-31T23:59:59.5Z")) == "9999-12-31T23:59:59.5Z"
    for text in ("0001-01-01T00:30:00+01:00", "9999-12-31T23:59:59-00:01"):
        with pytest.raises(ValueError, match="not a time"):
            format_ns(parse_ns(text))


def test_a_record_of_type_0_is_not_the_end_of_the_log() -> None:
    """It was taken for the end; what was written behind it was gone at the next start."""
    disk = MemoryDisk()
    options = WalOptions(sync=INLINE, segment_bytes=4096, clock=lambda: 0.0)
    wal = Wal.create(disk, "/wal", b"whose", options)
    wal.save(HardState(1, 1, 0), [Entry(0, 1, 1, b"first")])
    inode = disk.names[f"/wal/{disk.listdir('/wal')[-1]}"]
    assert inode is not None
    end = wal._offset
    frame, _ = encode_record(0, b"", wal._crc)
    inode.content[end : end + len(frame)] = frame
    wal.close()

    with pytest.raises(WalError, match="unexpected block type 0") as refused:
        read_log(disk, "/wal", WalSnapshot())

    assert refused.value.offset == end


def _branches() -> list[int]:
    content = _database()
    heads = [struct.unpack_from("<QH", content, page * PAGE) for page in range(len(content) // PAGE)]
    return [page for page, (number, flags) in enumerate(heads) if number == page and flags == 1]


def _open(content: bytes) -> Backend:
    disk = MappingDisk()
    disk.makedirs("/snap")
    disk.names["/snap/db"] = _inode(content)
    return Backend.open(disk, "/snap/db")


def test_a_branch_that_leads_back_to_itself_is_found_at_open() -> None:
    content = bytearray(_database())
    branch = _branches()[-1]
    struct.pack_into("<Q", content, branch * PAGE + 16 + 8, branch)
    with pytest.raises(CorruptDatabaseError, match=r"leads back|used once") as refused:
        _open(bytes(content))
    assert refused.value.offset == branch * PAGE


def test_a_leaf_that_two_places_lead_to_is_found_at_open() -> None:
    content = bytearray(_database())
    elements = _branches()[-1] * PAGE + 16
    (first,) = struct.unpack_from("<Q", content, elements + 8)
    struct.pack_into("<Q", content, elements + 16 + 8, first)
    with pytest.raises(CorruptDatabaseError, match="used once") as refused:
        _open(bytes(content))
    assert refused.value.offset == first * PAGE


def test_a_branch_that_leads_back_to_itself_under_a_reader() -> None:
    """As in a file with a stored freelist, whose pages are not counted at open."""
    backend = _open(_database())
    branch = _branches()[-1]
    inode = backend.database.view.mapping._inode  # type: ignore[attr-defined]
    backend.database.view.branches.clear()
    for element in range(7):
        struct.pack_into("<Q", inode.content, branch * PAGE + 16 + 16 * element + 8, branch)
    with pytest.raises(CorruptDatabaseError, match="leads back"):
        backend.get(b"key", b"\0" * 8)
    with pytest.raises(CorruptDatabaseError, match="leads back"):
        backend.scan(b"key", b"", None)
    with pytest.raises(CorruptDatabaseError, match="leads back"):
        backend.hash()
    assert any("multiple references" in problem for problem in check(backend.database.view))


def test_a_freelist_that_is_said_to_have_four_billion_pages() -> None:
    backend = _open(_database())
    view = backend.database.view
    view.meta.freelist = 5
    inode = view.mapping._inode  # type: ignore[attr-defined]
    struct.pack_into("<QHHI", inode.content, 5 * PAGE, 5, 0x10, 0, (1 << 32) - 1)
    assert any("out of bounds" in problem for problem in check(view))


# Requests.


@pytest.mark.parametrize("step", [1000, 100_000])
def test_a_line_of_a_chunked_body_is_too_long_however_it_comes(step: int) -> None:
    """Come whole it was taken."""
    body = b"5\r\nhello\r\n0\r\nA: " + b"b" * CHUNK_LINE_MAX + b"\r\n\r\n"
    reader = ChunkedBody(1 << 20)
    rest = b""
    with pytest.raises(BadRequestError):
        for at in range(0, len(body), step):
            rest += body[at : at + step]
            _, used = reader.feed(rest, 0)
            rest = rest[used:]


@pytest.mark.parametrize("block", [b"\x3f" + b"\xff" * 12, b"\x7f\xff"])
def test_nobody_is_told_where_something_lies_in_memory(block: bytes) -> None:
    """hpack shows what it could not decode as `<memory at 0x...>`, and that went to the client."""
    client = RawClient().send(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, block))
    assert client.goaway is not None
    assert client.goaway[1] == 9
    assert client.goaway[2]
    assert b"0x" not in client.goaway[2]
