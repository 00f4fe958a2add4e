"""The bytes of a write-ahead log: frames, records, and a checksum that runs through all of them.

A segment is a row of frames, each a multiple of 8 bytes:

    length field, 8 bytes little-endian     bits 0-55: size of the record
                                            bits 56-63: 0, or 0x80 | padding (1-7)
    record, `size` bytes                    walpb.Record{type=1, crc=2, data=3}
    padding, zeros

A length field of zero is preallocated space: the log ends before it. `crc` is
CRC-32C over the `data` of all records so far, this one included. A record of
type CRC opens every segment and carries the checksum on from the segment
before; the first one carries 0.

    08 00 00 00 00 00 00 00   ->   an Entry{type 0, term 2, index 5, data "a"} that follows checksum 0:
    14 00 00 00 00 00 00 84   08 02   10 xx xx xx xx xx   1a 09 08 00 10 02 18 05 22 01 61   00 00 00 00
    20 bytes, 4 of padding    type    checksum            the entry

Source: etcd server/wal/encoder.go, decoder.go, walpb/record.proto.
"""

from __future__ import annotations

from typing import Final

from balsad.checksum import crc32c
from balsad.raft.codec import decode_conf_state, encode_conf_state
from balsad.raft.messages import ConfState, Entry, HardState
from balsad.wire import LAST, MORE, WireError, read_uvarint, skip_field, skip_unknown, uvarint

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

FRAME_HEAD_BYTES: Final = 8
SECTOR_BYTES: Final = 512

_SIZE_MASK: Final = 0x00FFFFFFFFFFFFFF
_PADDING: Final = (b"", b"\x00", b"\x00" * 2, b"\x00" * 3, b"\x00" * 4, b"\x00" * 5, b"\x00" * 6, b"\x00" * 7)
# What the padding adds to the length field, by its size.
_PADDING_BITS: Final = tuple(0 if padding == 0 else (0x80 | padding) << 56 for padding in range(8))


class WalSnapshot:
    """walpb.Snapshot: the log may be read from here. Index 0 is the log's very beginning."""

    __slots__ = ("conf_state", "index", "term")

    def __init__(self, index: int = 0, term: int = 0, conf_state: ConfState | None = None) -> None:
        self.index = index
        self.term = term
        self.conf_state = conf_state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WalSnapshot) and (self.index, self.term, self.conf_state) == (
            other.index,
            other.term,
            other.conf_state,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"WalSnapshot(index={self.index}, term={self.term}, {self.conf_state!r})"


# The frames of most entries are of few sizes.
_FRAME_HEADS: Final[dict[int, bytes]] = {}
_FRAME_HEADS_MAX: Final = 4096


def _frame_head(size: int) -> bytes:
    """The length field of a record."""
    head = (size | _PADDING_BITS[-size & 7]).to_bytes(8, "little")
    if len(_FRAME_HEADS) < _FRAME_HEADS_MAX:
        _FRAME_HEADS[size] = head
    return head


# A HardState up to its commit index, which alone changes between elections, by term and vote.
_STATE_HEADS: Final[dict[tuple[int, int], bytes]] = {}


# The same of an Entry up to its index, by type and term.
_ENTRY_HEADS: Final[dict[tuple[int, int], bytes]] = {}
_HEADS_MAX: Final = 64

# Payloads up to here are put together with what stands around them; larger ones are copied once, into the batch.
JOINED_MAX: Final = 64 * 1024


def _entry_head(kind: int, term: int) -> bytes:
    head = b"\x08%b\x10%b\x18" % (uvarint(kind), uvarint(term))
    if len(_ENTRY_HEADS) >= _HEADS_MAX:
        _ENTRY_HEADS.clear()
    _ENTRY_HEADS[kind, term] = head
    return head


def _state_head(term: int, vote: int) -> bytes:
    head = b"\x08%b\x10%b\x18" % (uvarint(term), uvarint(vote))
    if len(_STATE_HEADS) >= _HEADS_MAX:
        _STATE_HEADS.clear()
    _STATE_HEADS[term, vote] = head
    return head


def frame_record(kind: int, crc: int, data: bytes) -> bytes:
    """One whole frame, its checksum already computed; empty data is left out."""
    if data:
        record = b"\x08%b\x10%b\x1a%b%b" % (uvarint(kind), uvarint(crc), uvarint(len(data)), data)
    else:
        record = b"\x08%b\x10%b" % (uvarint(kind), uvarint(crc))
    size = len(record)
    return _frame_head(size) + record + _PADDING[-size & 7]


def encode_record(kind: int, data: bytes, crc: int) -> tuple[bytes, int]:
    """The frame of one record after running checksum `crc`, and the checksum after it."""
    crc = crc32c(data, crc)
    return frame_record(kind, crc, data), crc


def encode_batch(entries: list[Entry], hard_state: HardState | None, crc: int) -> tuple[bytes, int]:
    """The frames of entries and then of a HardState, and the running checksum after them.

    A record is put together with one format: this runs once for each put.
    """
    frames: list[bytes] = []
    kind = -1
    term = -1
    high = -1  # an index above its low 14 bits
    head = b""
    rest = b""
    low = LAST
    for entry in entries:
        if entry.term != term or entry.type != kind:
            kind = entry.type
            term = entry.term
            head = _ENTRY_HEADS.get((kind, term)) or _entry_head(kind, term)
        index = entry.index
        if index >> 14 != high:
            high = index >> 14
            low = MORE if high else LAST
            rest = uvarint(high) if high else b""
        payload = entry.data
        size = len(payload)
        large = b""
        if size > JOINED_MAX:
            data = b'%b%b%b"%b' % (head, low[index & 16383], rest, uvarint(size))
            large = payload
        elif size:
            data = b'%b%b%b"%b%b' % (
                head,
                low[index & 16383],
                rest,
                LAST[size] if size < 16384 else uvarint(size),
                payload,
            )
        else:
            data = b"%b%b%b" % (head, low[index & 16383], rest)
        crc = crc32c(data, crc)
        size = len(data)
        if large:
            crc = crc32c(large, crc)
            size += len(large)
        if crc >= 268435456:
            crc_varint = MORE[crc & 16383] + MORE[crc >> 14 & 16383] + LAST[crc >> 28]
        else:
            crc_varint = uvarint(crc)
        size_varint = LAST[size] if size < 16384 else uvarint(size)
        size += 4 + len(crc_varint) + len(size_varint)
        frame_head = _FRAME_HEADS.get(size)
        if frame_head is None:
            frame_head = _frame_head(size)
        if large:
            frames += (
                b"%b\x08\x02\x10%b\x1a%b%b" % (frame_head, crc_varint, size_varint, data),
                large,
                _PADDING[-size & 7],
            )
        else:
            frames.append(
                b"%b\x08\x02\x10%b\x1a%b%b%b" % (frame_head, crc_varint, size_varint, data, _PADDING[-size & 7])
            )
    if hard_state is not None and not hard_state.is_empty():
        head = _STATE_HEADS.get((hard_state.term, hard_state.vote)) or _state_head(hard_state.term, hard_state.vote)
        data = head + uvarint(hard_state.commit)
        crc = crc32c(data, crc)
        crc_varint = uvarint(crc)
        size = 5 + len(crc_varint) + len(data)
        frame_head = _FRAME_HEADS.get(size)
        if frame_head is None:
            frame_head = _frame_head(size)
        frames.append(b"%b\x08\x03\x10%b\x1a%c%b%b" % (frame_head, crc_varint, len(data), data, _PADDING[-size & 7]))
    return b"".join(frames), crc


def decode_frame_head(head: bytes, pos: int) -> tuple[int, int]:
    """Size of the record and of the padding, out of the length field at `pos`."""
    field = int.from_bytes(head[pos : pos + 8], "little")
    return field & _SIZE_MASK, (field >> 56) & 7 if field >> 63 else 0


def decode_record(buffer: bytes, pos: int, end: int) -> tuple[int, int, bytes]:
    """Type, checksum and data of the record in buffer[pos:end]. Raises WireError."""
    kind, crc, start, stop = locate_data(buffer, pos, end)
    return kind, crc, buffer[start:stop]


def locate_data(buffer: bytes, pos: int, end: int) -> tuple[int, int, int, int]:
    """Type and checksum of the record in buffer[pos:end], and where its data begins and ends. Raises WireError."""
    kind = 0
    crc = 0
    start = stop = pos
    while pos < end:
        tag = buffer[pos]
        if tag == 0x1A:
            size, pos = read_uvarint(buffer, pos + 1)
            if pos + size > end:
                raise WireError("unexpected end of message")
            start = pos
            pos += size
            stop = pos
        elif tag == 0x10:
            crc, pos = read_uvarint(buffer, pos + 1)
            crc &= 0xFFFFFFFF
        elif tag == 0x08:
            kind, pos = read_uvarint(buffer, pos + 1)
        else:
            pos = skip_unknown(buffer, pos)
    if pos != end:
        raise WireError("unexpected end of message")
    return kind, crc, start, stop


def is_torn(frame: bytes, offset: int) -> bool:
    """Whether part of a frame never reached the disk: some sector of it is still all zeros.

    `frame` is a record with its padding, found at `offset` of its segment. Frames
    start at multiples of 8, so a length field is never torn itself.
    """
    pos = 0
    while pos < len(frame):
        end = pos + SECTOR_BYTES - (offset + pos) % SECTOR_BYTES
        if not any(frame[pos:end]):
            return True
        pos = end
    return False


def encode_wal_snapshot(snapshot: WalSnapshot) -> bytes:
    """The bytes of walpb.Snapshot; conf_state only when there is one."""
    data = b"\x08%b\x10%b" % (uvarint(snapshot.index), uvarint(snapshot.term))
    if snapshot.conf_state is None:
        return data
    conf_state = encode_conf_state(snapshot.conf_state)
    return b"%b\x1a%b%b" % (data, uvarint(len(conf_state)), conf_state)


def decode_wal_snapshot(data: bytes) -> WalSnapshot:
    """The WalSnapshot of these bytes. Raises WireError."""
    snapshot = WalSnapshot()
    has_conf_state = False
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            snapshot.index, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            snapshot.term, pos = read_uvarint(data, pos)
        elif tag == 0x1A:
            size, pos = read_uvarint(data, pos)
            if pos + size > end:
                raise WireError("unexpected end of message")
            if has_conf_state:
                raise WireError("a conf state in pieces")
            has_conf_state = True
            snapshot.conf_state = decode_conf_state(data[pos : pos + size])
            pos += size
        else:
            pos = skip_field(data, pos, tag)
    return snapshot


def encode_metadata(node_id: int, cluster_id: int) -> bytes:
    """The bytes of etcdserverpb.Metadata, which say whose log this is at the head of every segment."""
    return b"\x08%b\x10%b" % (uvarint(node_id), uvarint(cluster_id))


def decode_metadata(data: bytes) -> tuple[int, int]:
    """Member id and cluster id. Raises WireError."""
    node_id = 0
    cluster_id = 0
    pos = 0
    while pos < len(data):
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            node_id, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            cluster_id, pos = read_uvarint(data, pos)
        else:
            pos = skip_field(data, pos, tag)
    return node_id, cluster_id
