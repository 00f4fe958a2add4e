"""Protocol-buffer wire primitives, and the codecs of the few messages that every request touches.

Everything else goes through the generated classes in `balsad.proto`. What is
here exists because building a message object costs more than the whole rest
of a put: varints come from tables, stored bytes are spliced, never rebuilt.
"""

from __future__ import annotations

from typing import Final


def _two_bytes(bit: int) -> list[bytes]:
    """Two bytes for every number below 2**14: seven bits and a continuation bit, seven bits and `bit`."""
    both = bytearray(2 << 14)
    both[::2] = bytes(range(128, 256)) * 128
    both[1::2] = b"".join(bytes((high | bit,)) * 128 for high in range(128))
    table = bytes(both)
    return [table[at : at + 2] for at in range(0, len(table), 2)]


# Strings for every number below 2**14: LAST ends a varint, MORE carries the continuation bit,
# so a number below 2**28 costs two look-ups. Loops over numbers that grow look up the low 14 bits
# and keep the rest.
LAST: Final[list[bytes]] = [bytes((i,)) for i in range(128)] + _two_bytes(0)[128:]
MORE: Final[list[bytes]] = _two_bytes(128)

UINT64_MASK: Final = 0xFFFFFFFFFFFFFFFF
_FIELD_NUMBER_MAX: Final = (1 << 29) - 1
GROUPS_MAX: Final = 100
"""Groups that may lie in one another; no message of etcd has any."""


class WireError(ValueError):
    """The bytes are not the protocol-buffer message they should be."""


def uvarint(value: int) -> bytes:
    """The varint of a number 0 <= value < 2**64."""
    if value < 16384:
        return LAST[value]
    if value < 268435456:
        return MORE[value & 16383] + LAST[value >> 14]
    if value < 4398046511104:
        return MORE[value & 16383] + MORE[(value >> 14) & 16383] + LAST[value >> 28]
    return MORE[value & 16383] + MORE[(value >> 14) & 16383] + uvarint(value >> 28)


def varint(value: int) -> bytes:
    """The varint of an int64 (negative numbers take ten bytes, as protobuf has it)."""
    return uvarint(value & UINT64_MASK)


def read_uvarint(data: bytes, pos: int) -> tuple[int, int]:
    """The number at `pos` and the place after it. Raises WireError."""
    try:
        byte = data[pos]
        pos += 1
        if byte < 128:
            return byte, pos
        value = byte & 127
        shift = 7
        while True:
            byte = data[pos]
            pos += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & UINT64_MASK, pos
            shift += 7
            if shift > 63:
                raise WireError("varint overflows 64 bits")
    except IndexError:
        raise WireError("unexpected end of message") from None


def to_int64(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return value - (1 << 64) if value >> 63 else value


def skip_field(data: bytes, pos: int, tag: int) -> int:
    """The place after the field whose tag was just read. Raises WireError."""
    kind = tag & 7
    if kind == 3:
        return _skip_group(data, pos, tag)
    if not 0 < tag >> 3 <= _FIELD_NUMBER_MAX:
        raise WireError(f"field number {tag >> 3}")
    if kind == 0:
        return read_uvarint(data, pos)[1]
    if kind == 2:
        size, pos = read_uvarint(data, pos)
        pos += size
    elif kind == 5:
        pos += 4
    elif kind == 1:
        pos += 8
    else:
        raise WireError(f"illegal wire type {kind}")
    if pos > len(data):
        raise WireError("unexpected end of message")
    return pos


def skip_unknown(data: bytes, pos: int) -> int:
    """The place after the field at `pos`, for who knows its own fields by tags of one byte. Raises WireError."""
    tag, after = read_uvarint(data, pos)
    if tag < 128 and after > pos + 1:
        # One of its own, perhaps, written as nobody writes it.
        raise WireError("a tag longer than it need be")
    return skip_field(data, after, tag)


def _skip_group(data: bytes, pos: int, tag: int) -> int:
    """The place after the group that `tag` opens, and all that lies in it."""
    # A loop: calls within calls would end with the stack, and compiled with the process.
    open_tags = [tag]
    while True:
        if not 0 < tag >> 3 <= _FIELD_NUMBER_MAX:
            raise WireError(f"field number {tag >> 3}")
        tag, pos = read_uvarint(data, pos)
        kind = tag & 7
        if kind == 4:
            if open_tags.pop() != tag - 1:
                raise WireError("group ends with another field number")
            if not open_tags:
                return pos
        elif kind == 3:
            if len(open_tags) == GROUPS_MAX:
                raise WireError("groups within groups")
            open_tags.append(tag)
        else:
            pos = skip_field(data, pos, tag)


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field, also when it is empty."""
    return uvarint(number << 3 | 2) + uvarint(len(value)) + value


def key_value(key: bytes, *, create_revision: int, mod_revision: int, version: int, value: bytes, lease: int) -> bytes:
    """The bytes of a mvccpb.KeyValue, as etcd stores them."""
    parts = [b"\x0a", uvarint(len(key)), key, b"\x10", uvarint(create_revision)]
    parts += [b"\x18", uvarint(mod_revision), b"\x20", uvarint(version)]
    if value:
        parts += [b"\x2a", uvarint(len(value)), value]
    if lease:
        parts += [b"\x30", varint(lease)]
    return b"".join(parts)
