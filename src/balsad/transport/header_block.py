"""HPACK without a dynamic table: decoding what a client sends once it obeys our table size of 0, and writing literals.

A block is then a pure function of its bytes, so what it decodes to can be
remembered by its bytes. Blocks of clients that have not shrunk their table
yet, or never do, go through the `hpack` package.

Source: RFC 7541.
"""

from __future__ import annotations

from typing import Final

from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Field = tuple[bytes, bytes]

_STATIC: Final[list[Field]] = [(b"", b"")] + [(bytes(a), bytes(b)) for a, b in list(HeaderTable.STATIC_TABLE)]
_STATIC_SIZE: Final = 61

# Huffman strings seen before; clients send the same few for ever.
_HUFFMAN_SEEN: Final[dict[bytes, bytes]] = {}
_HUFFMAN_SEEN_MAX: Final = 4096
_HUFFMAN_KEPT_BYTES: Final = 128

FIELD_OVERHEAD: Final = 32  # what a field counts beyond its bytes in a header list's size


_TIMEOUT_NAME: Final = b"grpc-timeout"
_TIMEOUT_PLAIN: Final = bytes((len(_TIMEOUT_NAME),)) + _TIMEOUT_NAME
_TIMEOUT_CODE: Final = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(_TIMEOUT_NAME)
_TIMEOUT_HUFFMAN: Final = bytes((len(_TIMEOUT_CODE) | 0x80,)) + _TIMEOUT_CODE


class HeaderBlockError(ValueError):
    """The bytes are not a header block that we can read."""


class HeaderListTooLargeError(HeaderBlockError):
    """The block decodes to more than we are willing to hold."""


def read_integer(data: bytes, pos: int, mask: int) -> tuple[int, int]:
    """The prefixed integer at `pos` and the place after it. Raises HeaderBlockError."""
    size = len(data)
    if pos >= size:
        raise HeaderBlockError("header block ends inside a field")
    value = data[pos] & mask
    pos += 1
    if value < mask:
        return value, pos
    shift = 0
    while pos < size:
        byte = data[pos]
        pos += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, pos
        shift += 7
        if shift > 28:
            raise HeaderBlockError("header block has an integer that is too large")
    raise HeaderBlockError("header block ends inside an integer")


def read_string(data: bytes, pos: int) -> tuple[bytes, int]:
    """The string literal at `pos` and the place after it. Raises HeaderBlockError."""
    length, start = read_integer(data, pos, 127)
    stop = start + length
    if stop > len(data):
        raise HeaderBlockError("header block ends inside a string")
    raw = data[start:stop]
    if data[pos] < 128:
        return raw, stop
    return read_huffman(raw), stop


def read_huffman(raw: bytes) -> bytes:
    """A Huffman-coded string in clear. Raises HeaderBlockError."""
    text = _HUFFMAN_SEEN.get(raw)
    if text is not None:
        return text
    text = decode_huffman_once(raw)
    if len(raw) <= _HUFFMAN_KEPT_BYTES:
        if len(_HUFFMAN_SEEN) >= _HUFFMAN_SEEN_MAX:
            _HUFFMAN_SEEN.clear()
        _HUFFMAN_SEEN[raw] = text
    return text


def decode_huffman_once(raw: bytes) -> bytes:
    """The same, for a string that will not come again."""
    try:
        return bytes(decode_huffman(raw))
    except HPACKError as error:
        raise HeaderBlockError(str(error)) from error


def decode_stateless(block: bytes, list_size_max: int) -> list[Field]:
    """The fields of a block that uses no dynamic table. Raises HeaderBlockError."""
    pos = 0
    size = len(block)
    room = list_size_max
    fields: list[Field] = []
    while pos < size:
        byte = block[pos]
        if byte & 0x80:
            index, pos = read_integer(block, pos, 127)
            if not 0 < index <= _STATIC_SIZE:
                raise HeaderBlockError(f"header block refers to entry {index}, which does not exist")
            field = _STATIC[index]
        elif byte & 0xE0 == 0x20:
            new_size, pos = read_integer(block, pos, 31)
            if new_size != 0:
                raise HeaderBlockError("header table grown beyond what was allowed")
            if fields:
                raise HeaderBlockError("header table resized inside a block")
            continue
        else:
            index, pos = read_integer(block, pos, 63 if byte & 0x40 else 15)
            if index == 0:
                name, pos = read_string(block, pos)
            elif index <= _STATIC_SIZE:
                name = _STATIC[index][0]
            else:
                raise HeaderBlockError(f"header block refers to entry {index}, which does not exist")
            value, pos = read_string(block, pos)
            field = (name, value)
        room -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        if room < 0:
            raise HeaderListTooLargeError("header list too large")
        fields.append(field)
    return fields


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    rest = size - 127
    head = bytearray((127,))
    while rest >= 128:
        head.append(rest & 127 | 128)
        rest >>= 7
    head.append(rest)
    return bytes(head) + value


def literal(name: bytes, value: bytes) -> bytes:
    """A field written without Huffman code and without touching any table."""
    return b"\x00" + _string(name) + _string(value)


def status_field(status: int) -> bytes:
    """The `:status` field of an answer."""
    if status == 200:
        return b"\x88"
    return literal(b":status", b"%d" % status)


def find_timeout(block: bytes) -> int:
    """Where the length of the grpc-timeout value stands in a block that may have one, or -1.

    Only the bytes are looked for: whether they are the name of a field there,
    and not part of some value, is for `is_field_boundary` to say.
    """
    pos = block.find(_TIMEOUT_HUFFMAN)
    if pos > 0:
        return pos + len(_TIMEOUT_HUFFMAN)
    pos = block.find(_TIMEOUT_PLAIN)
    if pos > 0:
        return pos + len(_TIMEOUT_PLAIN)
    return -1


def is_timeout_field(block: bytes, pos: int, list_size_max: int) -> bool:
    """Whether what `find_timeout` found is a grpc-timeout field written with its name."""
    plain = block.startswith(_TIMEOUT_PLAIN, pos - len(_TIMEOUT_PLAIN))
    start = pos - len(_TIMEOUT_PLAIN if plain else _TIMEOUT_HUFFMAN) - 1
    if start < 0 or block[start] not in (0x00, 0x10, 0x40):
        return False
    try:
        decode_stateless(block[:start], list_size_max)
    except HeaderBlockError:
        return False
    return True


def encode(fields: list[Field]) -> bytes:
    return b"".join([literal(name, value) for name, value in fields])
