"""The bytes of raft messages on the streams between members; every number is a big-endian u64.

    message stream   length, raftpb.Message
    msgapp stream    00                                      link heartbeat
                     01  count, count x (length, Entry), commit
                     02  length, raftpb.Message

On the msgapp stream frame 02 says in full where its entries belong. Frame 01
is an append that follows right on the one before: sender and receiver both
know term and index, so only the entries and the commit index travel.

Decoders take the bytes as they come, split anywhere, and keep no more than the
frame that is under way. Encoded entries are kept for the next follower, who
mostly gets the same ones.

Source: etcd rafthttp msg_codec.go, msgappv2_codec.go.
"""

from __future__ import annotations

from typing import Final

from balsad.raft.codec import MessageReader, decode_entry, decode_message, encode_entry, encode_message
from balsad.raft.kinds import MSG_APP, MSG_HEARTBEAT
from balsad.raft.messages import Entry, Message
from balsad.wire import LAST, MORE, WireError, uvarint

FRAME_BYTES_MAX: Final = 512 << 20
"""The largest message that a stream carries."""

LINK_HEARTBEAT: Final = 0
APP_ENTRIES: Final = 1
APP: Final = 2

_BEAT: Final = b"\x00"
_TYPE_ENTRIES: Final = b"\x01"
_TYPE_APP: Final = b"\x02"
ENTRIES_MAX: Final = 1 << 20
"""The most entries of a frame 01: members send 1 MiB of entries at once, and an entry has six bytes at least."""

# What the msgapp decoder waits for.
_AT_TYPE: Final = 0
_AT_COUNT: Final = 1
_AT_ENTRY: Final = 2
_AT_COMMIT: Final = 3
_AT_MESSAGE: Final = 4


class FrameError(Exception):
    """What came is no frame of this stream; nothing behind it can be read."""


def is_link_heartbeat(message: Message) -> bool:
    """Whether the message only keeps the connection alive: raft sends none without sender and target."""
    return message.type == MSG_HEARTBEAT and message.from_ == 0 and message.to == 0


def frame_message(message: Message) -> bytes:
    """A frame of the message stream, and what /raft/snapshot begins with."""
    data = encode_message(message)
    return len(data).to_bytes(8, "big") + data


MESSAGE_STREAM_BEAT: Final = frame_message(Message(MSG_HEARTBEAT))


class MessageEncoder:
    """The sender's side of a message stream; it remembers nothing."""

    beat: Final = MESSAGE_STREAM_BEAT

    def encode(self, message: Message) -> bytes:
        return frame_message(message)


class EncodedEntries:
    """The entries encoded last; the next follower gets mostly the same ones."""

    __slots__ = ("_count", "_data", "_first", "_last")

    def __init__(self) -> None:
        self._first: Entry | None = None
        self._last: Entry | None = None
        self._count = 0
        self._data = b""

    def of(self, entries: list[Entry]) -> bytes:
        """Count and entries as frame 01 has them. `entries` follow on each other in one log."""
        count = len(entries)
        if not count:
            return b"\x00\x00\x00\x00\x00\x00\x00\x00"
        # Entries are shared between messages, never changed: the same ends mean the same run.
        if count == self._count and self._first is entries[0] and self._last is entries[-1]:
            return self._data
        data = b"".join([count.to_bytes(8, "big"), *_encode_run(entries)])
        self._first = entries[0]
        self._last = entries[-1]
        self._count = count
        self._data = data
        return data

    def forget(self) -> None:
        """Let go of the entries: no message is about to follow."""
        self._first = self._last = None
        self._count = 0
        self._data = b""


def _encode_run(entries: list[Entry]) -> list[bytes]:
    """The pieces of entries, each with its length before it. This runs for each put."""
    parts: list[bytes] = []
    kind = -1
    term = -1
    high = -1  # an index above its low 14 bits
    head = rest = b""
    head_size = 0
    for entry in entries:
        payload = entry.data
        size = len(payload)
        index = entry.index
        if not size or index < 16384:
            encoded = encode_entry(entry)
            parts.append(len(encoded).to_bytes(8, "big"))
            parts.append(encoded)
            continue
        if index >> 14 != high or entry.term != term or entry.type != kind:
            kind = entry.type
            term = entry.term
            high = index >> 14
            head = b"\x08%b\x10%b\x18" % (uvarint(kind), uvarint(term))
            rest = uvarint(high) + b'"'
            head_size = len(head) + 2 + len(rest)
        length = LAST[size] if size < 16384 else uvarint(size)
        whole = head_size + len(length) + size
        parts.append(b"%b%b%b%b%b" % (whole.to_bytes(8, "big"), head, MORE[index & 16383], rest, length))
        parts.append(payload)
    return parts


class AppEncoder:
    """The sender's side of a msgapp stream."""

    beat: Final = _BEAT

    def __init__(self, encoded: EncodedEntries) -> None:
        self._encoded = encoded
        self._term = 0
        self._index = 0

    def encode(self, message: Message) -> bytes:
        """The frame of a MsgApp."""
        entries = message.entries
        if message.index == self._index and message.log_term == self._term and message.log_term == message.term:
            self._index += len(entries)
            return b"%b%b%b" % (_TYPE_ENTRIES, self._encoded.of(entries), message.commit.to_bytes(8, "big"))
        self._term = message.term
        self._index = entries[-1].index if entries else message.index
        return _TYPE_APP + frame_message(message)


class _Decoder:
    """Gathers bytes until the piece that is wanted next is there."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 1

    def feed(self, data: bytes) -> list[Message]:
        """The messages that became complete. Raises: FrameError."""
        self._have += len(data)
        if self._have < self._need:
            self._parts.append(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts = []
        messages: list[Message] = []
        try:
            pos = self._parse(data, messages)
        except (WireError, RecursionError) as error:
            raise FrameError(f"broken message: {error}") from error
        self._have = len(data) - pos
        if self._have:
            self._parts.append(data[pos:])
        return messages

    @property
    def pending_bytes(self) -> int:
        """Held of a frame that is not complete."""
        return self._have

    def _parse(self, data: bytes, messages: list[Message]) -> int:
        """Take what is complete, set `_need`, and give the place of what is not."""
        raise NotImplementedError


class MessageDecoder(_Decoder):
    """The receiver's side of a message stream. Link heartbeats are dropped."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        super().__init__()
        self._frame_bytes_max = frame_bytes_max
        self._decode = MessageReader().decode

    def _parse(self, data: bytes, messages: list[Message]) -> int:
        pos = 0
        end = len(data)
        while end - pos >= 8:
            size = int.from_bytes(data[pos : pos + 8], "big")
            if size > self._frame_bytes_max:
                raise FrameError("rafthttp: error limit exceeded")
            stop = pos + 8 + size
            if stop > end:
                self._need = 8 + size
                return pos
            message = self._decode(data[pos + 8 : stop])
            if not is_link_heartbeat(message):
                messages.append(message)
            pos = stop
        self._need = 8
        return pos


class AppDecoder(_Decoder):
    """The receiver's side of a msgapp stream from `remote` to `local`. Link heartbeats are dropped."""

    def __init__(self, local: int, remote: int, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        super().__init__()
        self._local = local
        self._remote = remote
        self._frame_bytes_max = frame_bytes_max
        self._term = 0
        self._index = 0
        self._state = _AT_TYPE
        self._entries: list[Entry] = []
        self._entries_left = 0
        self._entries_bytes = 0

    def _parse(self, data: bytes, messages: list[Message]) -> int:
        pos = 0
        end = len(data)
        while True:
            state = self._state
            if state == _AT_TYPE:
                if pos == end:
                    self._need = 1
                    return pos
                kind = data[pos]
                pos += 1
                if kind == APP_ENTRIES:
                    self._state = _AT_COUNT
                elif kind == APP:
                    self._state = _AT_MESSAGE
                elif kind != LINK_HEARTBEAT:
                    raise FrameError(f"failed to parse type {kind} in msgappv2 stream")
                continue
            if state == _AT_ENTRY:
                pos = self._parse_entries(data, pos, end)
                if self._entries_left:
                    return pos
                state = self._state = _AT_COMMIT
            if end - pos < 8:
                self._need = 8
                return pos
            number = int.from_bytes(data[pos : pos + 8], "big")
            if state == _AT_COUNT:
                # No count is believed that could not be true; none of it is set aside in advance.
                if number > ENTRIES_MAX:
                    raise FrameError("rafthttp: error limit exceeded")
                self._entries_left = number
                self._state = _AT_ENTRY if number else _AT_COMMIT
                pos += 8
            elif state == _AT_COMMIT:
                messages.append(self._append(number))
                self._state = _AT_TYPE
                pos += 8
            else:
                if number > self._frame_bytes_max:
                    raise FrameError("rafthttp: error limit exceeded")
                stop = pos + 8 + number
                if stop > end:
                    self._need = 8 + number
                    return pos
                messages.append(self._full(decode_message(data[pos + 8 : stop])))
                self._state = _AT_TYPE
                pos = stop

    def _parse_entries(self, data: bytes, pos: int, end: int) -> int:
        """Take the entries that are complete; gives the place after them."""
        entries = self._entries
        left = self._entries_left
        room = self._frame_bytes_max - self._entries_bytes
        term = self._term
        index = self._index + len(entries)
        high = -1  # an index above its low 14 bits
        head = rest = b""
        while left:
            start = pos + 8
            if start > end:
                self._need = 8
                break
            size = int.from_bytes(data[pos:start], "big")
            if size > room:
                raise FrameError("rafthttp: error limit exceeded")
            stop = start + size
            if stop > end:
                self._need = 8 + size
                break
            # They mostly look as the next place in this term does, where every number is written the shortest way.
            index += 1
            if index >> 14 != high:
                high = index >> 14
                head = b"\x08\x00\x10%b\x18" % uvarint(term)
                rest = uvarint(high) + b'"'
            prefix = b"%b%b%b" % (head, MORE[index & 16383], rest)
            if high and data.startswith(prefix, start):
                at = start + len(prefix)
                length = -1
                if at + 2 < stop:
                    length = data[at]
                    at += 1
                    if length > 127:
                        length += (data[at] << 7) - 128
                        at += 1
                # A third byte of the length, and whatever else there may be, does not end where the payload would.
                if at + length == stop and length < 16384:
                    entries.append(Entry(0, term, index, data[at:stop]))
                else:
                    entries.append(decode_entry(data[start:stop]))
            else:
                entries.append(decode_entry(data[start:stop]))
            room -= 8 + size
            left -= 1
            pos = stop
        self._entries_left = left
        self._entries_bytes = self._frame_bytes_max - room
        return pos

    def _append(self, commit: int) -> Message:
        entries = self._entries
        message = Message(
            MSG_APP,
            to=self._local,
            from_=self._remote,
            term=self._term,
            log_term=self._term,
            index=self._index,
            entries=entries,
            commit=commit,
        )
        self._index += len(entries)
        self._entries = []
        self._entries_bytes = 0
        return message

    def _full(self, message: Message) -> Message:
        entries = message.entries
        self._term = message.term
        self._index = entries[-1].index if entries else message.index
        return message
