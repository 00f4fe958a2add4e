"""The bytes of raft's values: raftpb, as etcd's gogo-protobuf writes them.

Numbers and flags are written even when they are zero, empty bytes and lists
are not, fields stand in the order of their numbers. An Entry of term 2,
index 5, data "a":

    08 00   10 02   18 05   22 01 61
    type    term    index   data

Decoding takes fields in any order, knows packed and unpacked lists and skips
what it does not know. What is no message at all raises `wire.WireError`.

Source: etcd raft/raftpb/raft.proto and the encoders made from it.
"""

from __future__ import annotations

from typing import Final

from balsad.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from balsad.wire import WireError, read_uvarint, skip_field, skip_unknown, uvarint

# Fields that hold a length and as many bytes, as tag numbers on the wire.
_BYTES_1: Final = 0x0A
_BYTES_2: Final = 0x12
_BYTES_3: Final = 0x1A
_BYTES_4: Final = 0x22
_BYTES_7: Final = 0x3A
_BYTES_9: Final = 0x4A
_BYTES_12: Final = 0x62
_BYTES_14: Final = 0x72

_FLAG: Final = (b"\x00", b"\x01")

# A message that carries no snapshot: etcd 3.5 writes an empty one all the same.
_EMPTY_SNAPSHOT: Final = b"\x12\x08\x0a\x02\x28\x00\x10\x00\x18\x00"
_NO_SNAPSHOT: Final = b"\x4a\x0a" + _EMPTY_SNAPSHOT
# How an entry begins that is proposed to a leader: it has no place yet.
_PROPOSED: Final = b'\x08\x00\x10\x00\x18\x00"'
# Neither a snapshot nor a refusal.
_PLAIN: Final = _NO_SNAPSHOT + b"\x50\x00\x58\x00"


def _read_bytes(data: bytes, pos: int) -> tuple[bytes, int]:
    size, pos = read_uvarint(data, pos)
    end = pos + size
    if end > len(data):
        raise WireError("unexpected end of message")
    return data[pos:end], end


# Entry


def encode_entry(entry: Entry) -> bytes:
    """The bytes of raftpb.Entry, in the log, in the WAL and in messages."""
    payload = entry.data
    if payload:
        return b'\x08%b\x10%b\x18%b"%b%b' % (
            uvarint(entry.type),
            uvarint(entry.term),
            uvarint(entry.index),
            uvarint(len(payload)),
            payload,
        )
    return b"\x08%b\x10%b\x18%b" % (uvarint(entry.type), uvarint(entry.term), uvarint(entry.index))


def entry_size(entry: Entry) -> int:
    """How many bytes `encode_entry` gives; raft's size limits count these."""
    size = 3 + len(uvarint(entry.type)) + len(uvarint(entry.term)) + len(uvarint(entry.index))
    payload_size = len(entry.data)
    if payload_size:
        size += 1 + len(uvarint(payload_size)) + payload_size
    return size


def decode_entry(data: bytes) -> Entry:
    """The Entry of these bytes. Raises WireError."""
    return decode_entry_at(data, 0, len(data))


def decode_entry_at(data: bytes, pos: int, end: int) -> Entry:
    """The Entry in data[pos:end]. Raises WireError."""
    kind = 0
    term = 0
    index = 0
    payload = b""
    while pos < end:
        tag = data[pos]
        if tag == 0x08:
            kind, pos = read_uvarint(data, pos + 1)
        elif tag == 0x10:
            term, pos = read_uvarint(data, pos + 1)
        elif tag == 0x18:
            index, pos = read_uvarint(data, pos + 1)
        elif tag == _BYTES_4:
            payload, pos = _read_bytes(data, pos + 1)
        else:
            pos = skip_unknown(data, pos)
    if pos > end:
        raise WireError("unexpected end of message")
    return Entry(kind, term, index, payload)


# HardState


def encode_hard_state(state: HardState) -> bytes:
    """The bytes of raftpb.HardState."""
    return b"\x08%b\x10%b\x18%b" % (uvarint(state.term), uvarint(state.vote), uvarint(state.commit))


def decode_hard_state(data: bytes) -> HardState:
    """The HardState of these bytes. Raises WireError."""
    state = HardState()
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            state.term, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            state.vote, pos = read_uvarint(data, pos)
        elif tag == 0x18:
            state.commit, pos = read_uvarint(data, pos)
        else:
            pos = skip_field(data, pos, tag)
    return state


# ConfState


def encode_conf_state(state: ConfState) -> bytes:
    """The bytes of raftpb.ConfState; the lists keep their order."""
    parts: list[bytes] = []
    for tag, node_ids in (
        (b"\x08", state.voters),
        (b"\x10", state.learners),
        (b"\x18", state.voters_outgoing),
        (b"\x20", state.learners_next),
    ):
        for node_id in node_ids:
            parts.append(tag)
            parts.append(uvarint(node_id))
    parts.append(b"\x28\x01" if state.auto_leave else b"\x28\x00")
    return b"".join(parts)


def decode_conf_state(data: bytes) -> ConfState:
    """The ConfState of these bytes. Raises WireError."""
    # By field number: voters, learners, voters_outgoing, learners_next.
    lists: list[list[int]] = [[], [], [], []]
    auto_leave = False
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        number = tag >> 3
        kind = tag & 7
        if 1 <= number <= 4 and kind == 0:
            value, pos = read_uvarint(data, pos)
            lists[number - 1].append(value)
        elif 1 <= number <= 4 and kind == 2:
            packed, pos = _read_bytes(data, pos)
            at = 0
            while at < len(packed):
                value, at = read_uvarint(packed, at)
                lists[number - 1].append(value)
        elif tag == 0x28:
            value, pos = read_uvarint(data, pos)
            auto_leave = value != 0
        else:
            pos = skip_field(data, pos, tag)
    return ConfState(tuple(lists[0]), tuple(lists[1]), tuple(lists[2]), tuple(lists[3]), auto_leave)


# Snapshot


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The bytes of raftpb.Snapshot."""
    conf_state = encode_conf_state(snapshot.conf_state)
    metadata = b"\x0a%b%b\x10%b\x18%b" % (
        uvarint(len(conf_state)),
        conf_state,
        uvarint(snapshot.index),
        uvarint(snapshot.term),
    )
    data = snapshot.data
    if data:
        return b"\x0a%b%b\x12%b%b" % (uvarint(len(data)), data, uvarint(len(metadata)), metadata)
    return b"\x12%b%b" % (uvarint(len(metadata)), metadata)


def decode_snapshot(data: bytes) -> Snapshot:
    """The Snapshot of these bytes. Raises WireError."""
    snapshot = Snapshot()
    has_metadata = False
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == _BYTES_1:
            snapshot.data, pos = _read_bytes(data, pos)
        elif tag == _BYTES_2:
            if has_metadata:
                raise WireError("metadata in pieces")
            has_metadata = True
            metadata, pos = _read_bytes(data, pos)
            _decode_snapshot_metadata(metadata, snapshot)
        else:
            pos = skip_field(data, pos, tag)
    return snapshot


def _decode_snapshot_metadata(data: bytes, snapshot: Snapshot) -> None:
    has_conf_state = False
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == _BYTES_1:
            if has_conf_state:
                raise WireError("a conf state in pieces")
            has_conf_state = True
            conf_state, pos = _read_bytes(data, pos)
            snapshot.conf_state = decode_conf_state(conf_state)
        elif tag == 0x10:
            snapshot.index, pos = read_uvarint(data, pos)
        elif tag == 0x18:
            snapshot.term, pos = read_uvarint(data, pos)
        else:
            pos = skip_field(data, pos, tag)


# ConfChange


def encode_conf_change(change: ConfChange) -> bytes:
    """The bytes of raftpb.ConfChange, the data of an entry of type CONF_CHANGE."""
    head = b"\x08%b\x10%b\x18%b" % (uvarint(change.id), uvarint(change.type), uvarint(change.node_id))
    context = change.context
    if context:
        return b'%b"%b%b' % (head, uvarint(len(context)), context)
    return head


def decode_conf_change(data: bytes) -> ConfChange:
    """The ConfChange of these bytes. Raises WireError."""
    change = ConfChange(0, 0)
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            change.id, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            change.type, pos = read_uvarint(data, pos)
        elif tag == 0x18:
            change.node_id, pos = read_uvarint(data, pos)
        elif tag == _BYTES_4:
            change.context, pos = _read_bytes(data, pos)
        else:
            pos = skip_field(data, pos, tag)
    return change


def encode_conf_change_v2(change: ConfChangeV2) -> bytes:
    """The bytes of raftpb.ConfChangeV2, the data of an entry of type CONF_CHANGE_V2."""
    parts = [b"\x08", uvarint(change.transition)]
    for single in change.changes:
        inner = b"\x08%b\x10%b" % (uvarint(single.type), uvarint(single.node_id))
        parts += [b"\x12", uvarint(len(inner)), inner]
    context = change.context
    if context:
        parts += [b"\x1a", uvarint(len(context)), context]
    return b"".join(parts)


def decode_conf_change_v2(data: bytes) -> ConfChangeV2:
    """The ConfChangeV2 of these bytes; no bytes at all leave a joint configuration. Raises WireError."""
    transition = 0
    changes: list[ConfChangeSingle] = []
    context = b""
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            transition, pos = read_uvarint(data, pos)
        elif tag == _BYTES_2:
            inner, pos = _read_bytes(data, pos)
            changes.append(_decode_conf_change_single(inner))
        elif tag == _BYTES_3:
            context, pos = _read_bytes(data, pos)
        else:
            pos = skip_field(data, pos, tag)
    return ConfChangeV2(transition, tuple(changes), context)


def _decode_conf_change_single(data: bytes) -> ConfChangeSingle:
    kind = 0
    node_id = 0
    pos = 0
    end = len(data)
    while pos < end:
        tag, pos = read_uvarint(data, pos)
        if tag == 0x08:
            kind, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            node_id, pos = read_uvarint(data, pos)
        else:
            pos = skip_field(data, pos, tag)
    return ConfChangeSingle(kind, node_id)


# Message

# How deep messages may lie in messages: what a storage thread is to deliver holds no more of them.
_DEPTH_MAX: Final = 4
# Ids of members are long numbers, and few.
_ID_VARINTS: Final[dict[int, bytes]] = {}
_ID_VARINTS_MAX: Final = 1024


def _id_varint(member_id: int) -> bytes:
    known = _ID_VARINTS.get(member_id)
    if known is None:
        known = uvarint(member_id)
        if len(_ID_VARINTS) < _ID_VARINTS_MAX:
            _ID_VARINTS[member_id] = known
    return known


def encode_message(message: Message) -> bytes:
    """The bytes of raftpb.Message, as etcd 3.5 writes it: an absent snapshot is written as an empty one.

    `vote` and `responses`, which 3.5 does not know, are written only when set.
    """
    head = b"\x08%b\x10%b\x18%b\x20%b\x28%b\x30%b" % (
        uvarint(message.type),
        _id_varint(message.to),
        _id_varint(message.from_),
        uvarint(message.term),
        uvarint(message.log_term),
        uvarint(message.index),
    )
    snapshot = message.snapshot
    context = message.context
    plain = snapshot is None and not message.reject and not message.reject_hint
    if plain and not message.entries and not message.vote and not message.responses:
        # Answers and heartbeats: most of what members say.
        if context:
            return b"%b\x40%b%b\x62%b%b" % (head, uvarint(message.commit), _PLAIN, uvarint(len(context)), context)
        return b"%b\x40%b%b" % (head, uvarint(message.commit), _PLAIN)
    parts = [head]
    for entry in message.entries:
        size = len(entry.data)
        if size and not (entry.type or entry.term or entry.index):
            length = uvarint(size)
            parts.append(b"\x3a%b%b%b" % (uvarint(size + len(length) + len(_PROPOSED)), _PROPOSED, length))
            parts.append(entry.data)
            continue
        encoded = encode_entry(entry)
        parts += [b"\x3a", uvarint(len(encoded)), encoded]
    parts += [b"\x40", uvarint(message.commit)]
    if snapshot is None:
        parts.append(_NO_SNAPSHOT)
    else:
        encoded = encode_snapshot(snapshot)
        parts += [b"\x4a", uvarint(len(encoded)), encoded]
    parts += [b"\x50", _FLAG[1 if message.reject else 0], b"\x58", uvarint(message.reject_hint)]
    if context:
        parts += [b"\x62", uvarint(len(context)), context]
    if message.vote:
        parts += [b"\x68", uvarint(message.vote)]
    for response in message.responses:
        encoded = encode_message(response)
        parts += [b"\x72", uvarint(len(encoded)), encoded]
    return b"".join(parts)


def decode_message(data: bytes) -> Message:
    """The Message of these bytes; an empty snapshot in it reads as None. Raises WireError."""
    message = Message(0)
    _decode_fields(message, data, 0, 0, False)
    return message


def _decode_fields(message: Message, data: bytes, pos: int, depth: int, has_snapshot: bool) -> None:
    """Take in the fields from `pos` on, of a message that lies in so many others; its snapshot may lie before them."""
    end = len(data)
    while pos < end:
        tag = data[pos]
        pos += 1
        if tag >= 128:
            tag, pos = read_uvarint(data, pos - 1)
        if tag == _BYTES_7:
            size, pos = read_uvarint(data, pos)
            stop = pos + size
            if stop > end:
                raise WireError("unexpected end of message")
            if data.startswith(_PROPOSED, pos):
                size, at = read_uvarint(data, pos + len(_PROPOSED))
                if at + size == stop:
                    message.entries.append(Entry(0, 0, 0, data[at:stop]))
                    pos = stop
                    continue
            message.entries.append(decode_entry(data[pos:stop]))
            pos = stop
        elif tag == 0x08:
            message.type, pos = read_uvarint(data, pos)
        elif tag == 0x10:
            message.to, pos = read_uvarint(data, pos)
        elif tag == 0x18:
            message.from_, pos = read_uvarint(data, pos)
        elif tag == 0x20:
            message.term, pos = read_uvarint(data, pos)
        elif tag == 0x28:
            message.log_term, pos = read_uvarint(data, pos)
        elif tag == 0x30:
            message.index, pos = read_uvarint(data, pos)
        elif tag == 0x40:
            message.commit, pos = read_uvarint(data, pos)
        elif tag == _BYTES_9:
            if has_snapshot:
                # Others would read both as one; nobody writes that, and one is enough to hold.
                raise WireError("a snapshot in pieces")
            has_snapshot = True
            encoded, pos = _read_bytes(data, pos)
            message.snapshot = None if encoded == _EMPTY_SNAPSHOT else decode_snapshot(encoded)
        elif tag == 0x50:
            flag, pos = read_uvarint(data, pos)
            message.reject = flag != 0
        elif tag == 0x58:
            message.reject_hint, pos = read_uvarint(data, pos)
        elif tag == _BYTES_12:
            message.context, pos = _read_bytes(data, pos)
        elif tag == 0x68:
            message.vote, pos = read_uvarint(data, pos)
        elif tag == _BYTES_14:
            encoded, pos = _read_bytes(data, pos)
            if depth == _DEPTH_MAX:
                # Compiled, nothing else would end this before the stack does.
                raise WireError("messages within messages")
            response = Message(0)
            _decode_fields(response, encoded, 0, depth + 1, False)
            message.responses.append(response)
        else:
            pos = skip_field(data, pos, tag)


class MessageReader:
    """`decode_message` for the messages of one sender, most of which begin with what an earlier one began with.

        08 04   10 ...   18 ...   20 07   28 00   | 30 ...   40 00   4a 0a ...   50 00   58 00
        type    to       from     term    log term| index    commit  no snapshot, no refusal

    What stands before the index is looked up, and how it goes on is tried before it is read field by field.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By type. A head is known as a whole only, so whatever else a message has is read as it stands.
        self._known: dict[int, tuple[bytes, Message]] = {}

    def decode(self, data: bytes) -> Message:
        """Raises WireError."""
        known = self._known.get(data[1]) if len(data) > 1 else None
        if known is None or not data.startswith(known[0]):
            message = decode_message(data)
            self._learn(message)
            return message
        like = known[1]
        message = Message(like.type, like.to, like.from_, like.term, like.log_term)
        has_snapshot = False
        pos = len(known[0])
        end = len(data)
        if pos < end and data[pos] == 0x30:
            message.index, pos = read_uvarint(data, pos + 1)
            if pos < end and data[pos] == 0x40:
                message.commit, pos = read_uvarint(data, pos + 1)
                if data.startswith(_PLAIN, pos):
                    has_snapshot = True
                    pos += len(_PLAIN)
        if pos < end:
            _decode_fields(message, data, pos, 0, has_snapshot)
        return message

    def _learn(self, message: Message) -> None:
        kind = message.type
        if kind >= 128:
            return
        head = b"\x08%b\x10%b\x18%b\x20%b\x28%b" % (
            uvarint(kind),
            uvarint(message.to),
            uvarint(message.from_),
            uvarint(message.term),
            uvarint(message.log_term),
        )
        self._known[kind] = (head, Message(kind, message.to, message.from_, message.term, message.log_term))
