"""The WAL's frames, held against bytes that etcd 3.5.1 wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balsad.env.real import RealDisk
from balsad.raft.codec import decode_entry, decode_hard_state, encode_entry
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.storage.wal import INLINE, Wal, WalOptions
from balsad.storage.wal.record import (
    CRC,
    ENTRY,
    JOINED_MAX,
    METADATA,
    SNAPSHOT,
    STATE,
    WalSnapshot,
    decode_frame_head,
    decode_metadata,
    decode_record,
    decode_wal_snapshot,
    encode_batch,
    encode_metadata,
    encode_record,
    encode_wal_snapshot,
    frame_record,
    is_torn,
)
from balsad.wire import WireError

# The head of a log of etcd 3.5.1: a new member "default", its election, one put ("k1", "v").
ETCD_LOG = bytes.fromhex(
    "040000000000008408041000000000001f00000000000081080110f8d583db0f1a1508f4b1d285f7a9b2999b01108adcf183"
    "9cf3edcd08000e00000000000082080510a6909885081a040800100000007500000000000083080210c8afecf30d1a6b0801"
    "1001180122630800100018f4b1d285f7a9b2999b0122527b226964223a31313138333232323136373734343834363036382c"
    "227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3537303231225d2c226e616d65223a2264656661"
    "756c74227d0000001000000000000000080310c785f3b9031a06080110001801100000000000000008021085c0a2cb031a06"
    "0800100218021900000000000087080310d3ac9b8d0f1a0f080210f4b1d285f7a9b2999b011802000000000000009f000000"
    "00000081080210f5a398e0011a9401080010021803228b010881a082caabc0a8fa980112035055541a262f302f6d656d6265"
    "72732f396233326339346637306234393866342f61747472696275746573223a7b226e616d65223a2264656661756c74222c"
    "22636c69656e7455524c73223a5b22687474703a2f2f3132372e302e302e313a3437343933225d7d28003200380048005000"
    "58006000680070007800800100004c000000000000840802108cbea1f80b1a42080010021804223a0884a082caabc0a8fa98"
    "0112035055541a0a2f302f76657273696f6e2205332e352e3028003200380048005000580060006800700078008001000000"
    "00001900000000000087080310f2d987ab0c1a0f080210f4b1d285f7a9b2999b011804000000000000002200000000000086"
    "080210938eeeba071a1808001002180522105200a2060b0886a082caabc0a8fa980100000000000018000000000000000803"
    "1087c49c091a0f080210f4b1d285f7a9b2999b0118052600000000000082080210e2d39ced031a1c08001002180622142204"
    "0a026b30a2060b0887a082caabc0a8fa980100001900000000000087080310b4d5eea40d1a0f080210f4b1d285f7a9b2999b"
    "011806000000000000002900000000000087080210bcb4879a0d1a1f080010021807221722070a026b31120176a2060b0888"
    "a082caabc0a8fa9801000000000000001900000000000087080310d297c793041a0f080210f4b1d285f7a9b2999b01180700"
    "000000000000"
)


def records(data: bytes) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    pos = 0
    while pos < len(data):
        size, padding = decode_frame_head(data, pos)
        found.append(decode_record(data, pos + 8, pos + 8 + size))
        pos += 8 + size + padding
    return found


def test_etcds_own_log_reads() -> None:
    found = records(ETCD_LOG)

    assert [kind for kind, _crc, _data in found[:5]] == [CRC, METADATA, SNAPSHOT, ENTRY, STATE]
    assert found[0][1] == 0
    assert decode_metadata(found[1][2]) == (11183222167744846068, 620291244680834570)
    assert decode_wal_snapshot(found[2][2]) == WalSnapshot()
    assert decode_entry(found[3][2]).type == 1
    assert decode_hard_state(found[4][2]) == HardState(1, 0, 1)


def test_etcds_own_log_is_written_again_byte_for_byte() -> None:
    found = records(ETCD_LOG)
    written = frame_record(CRC, 0, b"")
    running = 0
    for kind, _crc, data in found[1:]:
        if kind == ENTRY:
            frame, running = encode_batch([decode_entry(data)], None, running)
        elif kind == STATE:
            frame, running = encode_batch([], decode_hard_state(data), running)
        elif kind == METADATA:
            frame, running = encode_record(METADATA, encode_metadata(*decode_metadata(data)), running)
        else:
            frame, running = encode_record(SNAPSHOT, encode_wal_snapshot(decode_wal_snapshot(data)), running)
        written += frame

    assert written == ETCD_LOG
    assert running == found[-1][1]


def test_a_new_log_begins_like_etcds(tmp_path: Path) -> None:
    """Checksum 0, metadata, snapshot 0."""
    path = str(tmp_path / "wal")
    whose = encode_metadata(11183222167744846068, 620291244680834570)

    Wal.create(RealDisk(), path, whose, WalOptions(sync=INLINE, segment_bytes=4096)).close()

    with open(f"{path}/0000000000000000-0000000000000000.wal", "rb") as file:
        assert file.read(88) == ETCD_LOG[:80] + bytes(8)


def test_a_batch_without_anything_is_nothing() -> None:
    assert encode_batch([], None, 7) == (b"", 7)
    assert encode_batch([], HardState(), 7) == (b"", 7)


def test_a_snapshot_record_with_its_conf_state() -> None:
    """3.5 and up write who voted at the snapshot."""
    snapshot = WalSnapshot(5, 2, ConfState(voters=(3,)))

    assert encode_wal_snapshot(snapshot) == bytes.fromhex("080510021a0408032800")
    assert decode_wal_snapshot(bytes.fromhex("080510021a0408032800")) == snapshot


@pytest.mark.parametrize(
    ("frame", "offset", "torn"),
    [
        (b"\x01" * 100, 8, False),
        (bytes(100), 8, True),
        # 8 + 504 bytes fill the first sector; the second sector was never written.
        (b"\x01" * 504 + bytes(512) + b"\x01" * 10, 8, True),
        # The same zeros across a border leave no sector empty.
        (b"\x01" * 500 + bytes(512) + b"\x01" * 20, 8, False),
        # The few bytes in the last sector are missing.
        (b"\x01" * 504 + bytes(4), 8, True),
        (b"", 8, False),
    ],
)
def test_a_sector_of_zeros_is_a_torn_write(frame: bytes, offset: int, torn: bool) -> None:
    """Source: etcd server/wal/decoder.go isTornEntry."""
    assert is_torn(frame, offset) == torn


@pytest.mark.parametrize(
    "record",
    [
        b"\x08",  # a number is missing
        b"\x08\x02\x10\x05\x1a\x05abc",  # data goes beyond the record
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a length beyond 64 bits
        b"\x00\x01",  # field 0
        b"\x0f",  # no such wire type
    ],
)
def test_no_record(record: bytes) -> None:
    with pytest.raises(WireError):
        decode_record(record, 0, len(record))


def test_fields_of_a_newer_writer_are_skipped() -> None:
    record = b"\x22\x02hi\x08\x02\x10\x05\x1a\x01x\x28\x07"

    assert decode_record(record, 0, len(record)) == (ENTRY, 5, b"x")


def test_a_record_ends_where_its_frame_says() -> None:
    """What follows in the buffer is another record's."""
    with pytest.raises(WireError):
        decode_record(b"\x08\x02\x10\x05\x1a\x04abcd", 0, 8)


def test_an_entry_without_data() -> None:
    """A new leader's first entry."""
    frame, _crc = encode_batch([Entry(0, 2, 2, b"")], None, 0)

    assert records(frame)[0][2] == bytes.fromhex("080010021802")


@pytest.mark.parametrize("size", [0, 1, 5, JOINED_MAX - 1, JOINED_MAX, JOINED_MAX + 1, JOINED_MAX + 6, 1 << 20])
def test_entries_of_any_size_make_the_records_they_are_made_of(size: int) -> None:
    """Large ones are put together another way."""
    entries = [Entry(0, 3, 70_000 + number, os.urandom(size + number)) for number in range(9)]
    frames, crc = encode_batch(entries, HardState(3, 7, 70_000), 11)

    expected = b""
    running = 11
    for kind, data in [
        *((ENTRY, encode_entry(entry)) for entry in entries),
        (STATE, b"\x08\x03\x10\x07\x18\xf0\xa2\x04"),
    ]:
        record, running = encode_record(kind, data, running)
        expected += record
    assert frames == expected
    assert crc == running
