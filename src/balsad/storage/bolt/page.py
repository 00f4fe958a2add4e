"""Pages of a bbolt file: their bytes, written and read.

A page is `page_size` bytes, or (overflow + 1) times that; all numbers are little-endian.

    header   id u64 | flags u16 | count u16 | overflow u32                     16 bytes
    branch   count x (pos u32 | key size u32 | page id u64), then the keys
    leaf     count x (flags u32 | pos u32 | key size u32 | value size u32), then key, value, key, value, ...
    freelist count x page id u64; a count of 0xFFFF means that the first id is the count

`pos` counts from the start of its own element. A leaf element with flag 1 is a bucket: its value is
(root page u64 | sequence u64), followed by a whole leaf page with id 0 when the root page is 0 (an inline bucket).
"""

from __future__ import annotations

import struct
from typing import Final

BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04
FREELIST: Final = 0x10

HEADER_SIZE: Final = 16
ELEMENT_SIZE: Final = 16
BUCKET_HEADER_SIZE: Final = 16
BUCKET_FLAG: Final = 0x01
KEY_SIZE_MAX: Final = 32768
DEFAULT_PAGE_SIZE: Final = 4096

HEADER: Final = struct.Struct("<QHHI")
LEAF_ELEMENT: Final = struct.Struct("<IIII")
BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
BUCKET_HEADER: Final = struct.Struct("<QQ")
U64: Final = struct.Struct("<Q")

_tables: Final[dict[int, struct.Struct]] = {}


def u32_table(count: int) -> struct.Struct:
    """The struct of `count` u32; kept, because leaves of few different sizes come by the thousand."""
    table = _tables.get(count)
    if table is None:
        table = struct.Struct(f"<{count}I")
        if len(_tables) < 4096:
            _tables[count] = table
    return table


class Branch:
    """A branch page in memory: child i holds the keys from keys[i] up to keys[i + 1]."""

    __slots__ = ("keys", "pages")

    def __init__(self, keys: list[bytes], pages: list[int]) -> None:
        self.keys = keys
        self.pages = pages


def pages_for(size: int, page_size: int) -> int:
    """How many pages `size` bytes take."""
    return (size + page_size - 1) // page_size


def leaf_size(keys: list[bytes], values: list[bytes]) -> int:
    """Bytes of a leaf with these items, header included."""
    return HEADER_SIZE + ELEMENT_SIZE * len(keys) + sum(map(len, keys)) + sum(map(len, values))


def branch_size(keys: list[bytes]) -> int:
    return HEADER_SIZE + ELEMENT_SIZE * len(keys) + sum(map(len, keys))


def encode_leaf(page_id: int, keys: list[bytes], values: list[bytes], flags: int, page_size: int) -> bytes:
    """A leaf with these items, padded to whole pages; not padded when `page_size` is 0 (an inline bucket)."""
    count = len(keys)
    elements: list[int] = []
    parts: list[bytes] = [b"", b""]
    position = ELEMENT_SIZE * count
    for i in range(count):
        key = keys[i]
        value = values[i]
        key_size = len(key)
        value_size = len(value)
        elements.append(flags)
        elements.append(position)
        elements.append(key_size)
        elements.append(value_size)
        position += key_size + value_size - ELEMENT_SIZE
        parts.append(key)
        parts.append(value)
    size = HEADER_SIZE + position + ELEMENT_SIZE * count
    overflow = 0
    if page_size:
        page_count = pages_for(size, page_size)
        overflow = page_count - 1
        parts.append(bytes(page_count * page_size - size))
    parts[0] = HEADER.pack(page_id, LEAF, count, overflow)
    parts[1] = u32_table(4 * count).pack(*elements)
    return b"".join(parts)


def encode_branch(page_id: int, keys: list[bytes], pages: list[int], page_size: int) -> bytes:
    """A branch to these children, padded to whole pages."""
    count = len(keys)
    parts: list[bytes] = [b""]
    position = ELEMENT_SIZE * count
    pack = BRANCH_ELEMENT.pack
    for i in range(count):
        key_size = len(keys[i])
        parts.append(pack(position, key_size, pages[i]))
        position += key_size - ELEMENT_SIZE
    size = HEADER_SIZE + position + ELEMENT_SIZE * count
    page_count = pages_for(size, page_size)
    parts[0] = HEADER.pack(page_id, BRANCH, count, page_count - 1)
    parts.extend(keys)
    parts.append(bytes(page_count * page_size - size))
    return b"".join(parts)


def decode_leaf(page: bytes, start: int = 0) -> tuple[list[bytes], list[bytes]]:
    """The keys and values of the leaf that begins at `start` of `page`; flags are not looked at."""
    count = page[start + 10] | page[start + 11] << 8
    table = u32_table(4 * count).unpack_from(page, start + HEADER_SIZE)
    keys: list[bytes] = []
    values: list[bytes] = []
    element = start + HEADER_SIZE
    for i in range(1, 4 * count, 4):
        key_at = element + table[i]
        value_at = key_at + table[i + 1]
        keys.append(page[key_at:value_at])
        values.append(page[value_at : value_at + table[i + 2]])
        element += ELEMENT_SIZE
    return keys, values


def packed_items(page: bytes) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Where a leaf's key, value, key, value, ... begin, the sizes of the keys, those of the values.

    The place is 0 when items lie with holes between them, as nobody writes them, and -1 when one ends outside the page.
    """
    count = page[10] | page[11] << 8
    if count == 0:
        return HEADER_SIZE, (), ()
    table = u32_table(4 * count).unpack_from(page, HEADER_SIZE)
    key_sizes: tuple[int, ...] = table[2::4]
    value_sizes: tuple[int, ...] = table[3::4]
    size = sum(key_sizes) + sum(value_sizes)
    start = HEADER_SIZE + int(table[1])
    end = HEADER_SIZE + ELEMENT_SIZE * (count - 1) + int(table[-3]) + key_sizes[-1] + value_sizes[-1]
    if end > len(page) or size > len(page):
        start = -1
    elif end - start != size:
        start = 0
    return start, key_sizes, value_sizes


def leaf_flags(page: bytes, start: int = 0) -> tuple[int, ...]:
    """The flags of a leaf's elements, in order."""
    count = page[start + 10] | page[start + 11] << 8
    return u32_table(4 * count).unpack_from(page, start + HEADER_SIZE)[0::4]


def may_hold_buckets(page: bytes, start: int = 0) -> bool:
    """Whether an element of the leaf may be a bucket; much quicker than a look at all flags."""
    count = page[start + 10] | page[start + 11] << 8
    return BUCKET_FLAG in page[start + HEADER_SIZE : start + HEADER_SIZE + ELEMENT_SIZE * count : ELEMENT_SIZE]


def key_at(page: bytes, index: int) -> bytes:
    """One key of a leaf page."""
    element = HEADER_SIZE + ELEMENT_SIZE * index
    _, position, key_size, _ = LEAF_ELEMENT.unpack_from(page, element)
    return page[element + position : element + position + key_size]


def decode_branch(page: bytes) -> Branch:
    count = page[10] | page[11] << 8
    keys: list[bytes] = []
    pages: list[int] = []
    element = HEADER_SIZE
    unpack = BRANCH_ELEMENT.unpack_from
    for _ in range(count):
        position, key_size, child = unpack(page, element)
        keys.append(page[element + position : element + position + key_size])
        pages.append(child)
        element += ELEMENT_SIZE
    return Branch(keys, pages)


def used_size(page: bytes) -> int:
    """Bytes of a branch or leaf page that hold something; they lie without holes."""
    count = page[10] | page[11] << 8
    if count == 0:
        return HEADER_SIZE
    element = HEADER_SIZE + ELEMENT_SIZE * (count - 1)
    if page[8] & LEAF:
        _, position, key_size, value_size = LEAF_ELEMENT.unpack_from(page, element)
        return int(element + position + key_size + value_size)
    position, key_size, _ = BRANCH_ELEMENT.unpack_from(page, element)
    return int(element + position + key_size)


def type_name(flags: int) -> str:
    """A page's type in words, for errors."""
    return {BRANCH: "branch", LEAF: "leaf", META: "meta", FREELIST: "freelist"}.get(flags, f"unknown type {flags:#x}")
