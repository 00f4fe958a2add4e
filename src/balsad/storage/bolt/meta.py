"""The two meta pages of a bbolt file; the valid one with the higher txid says where everything else is.

    magic u32 0xED0CDAED | version u32 2 | page size u32 | flags u32 | root page u64 | root sequence u64 |
    freelist page u64 | high water u64 | txid u64 | checksum u64 (FNV-1a 64 of the 56 bytes before it)

They stand behind a page header, in page 0 and page 1; a commit writes page txid % 2.
"""

from __future__ import annotations

import struct
from typing import Final

from balsad.env.protocols import Disk
from balsad.storage.bolt.errors import CorruptDatabaseError
from balsad.storage.bolt.page import HEADER, HEADER_SIZE, META

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
NO_FREELIST: Final = 0xFFFFFFFFFFFFFFFF
"""In place of a freelist page: the freelist is not stored, open finds free pages by walking the tree."""

_META: Final = struct.Struct("<IIIIQQQQQQ")
_CHECKED_SIZE: Final = 56
_PAGE_SIZE_MIN: Final = 1024
_PAGE_SIZE_SHIFTS: Final = 15


class Meta:
    """One state of the file. Never changed once made."""

    __slots__ = ("freelist", "high_water", "page_size", "root", "sequence", "txid")

    def __init__(self, *, page_size: int, root: int, sequence: int, freelist: int, high_water: int, txid: int) -> None:
        self.page_size = page_size
        self.root = root
        self.sequence = sequence
        self.freelist = freelist
        self.high_water = high_water
        self.txid = txid


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def encode_meta(page_id: int, meta: Meta, txid: int) -> bytes:
    """The whole meta page `page_id` of `meta`, under another txid if need be."""
    body = _META.pack(
        MAGIC,
        VERSION,
        meta.page_size,
        0,
        meta.root,
        meta.sequence,
        meta.freelist,
        meta.high_water,
        txid & 0xFFFFFFFFFFFFFFFF,
        0,
    )[:_CHECKED_SIZE]
    page = HEADER.pack(page_id, META, 0, 0) + body + fnv1a(body).to_bytes(8, "little")
    return page.ljust(meta.page_size, b"\0")


def decode_meta(page: bytes) -> Meta | str:
    """The meta in a page's first bytes, or what is wrong with it."""
    if len(page) < HEADER_SIZE + _META.size:
        return f"only {len(page)} bytes"
    magic, version, page_size, _, root, sequence, freelist, high_water, txid, checksum = _META.unpack_from(
        page, HEADER_SIZE
    )
    if magic != MAGIC:
        return f"magic {magic:#010x} instead of {MAGIC:#010x}"
    if version != VERSION:
        return f"version {version} instead of {VERSION}"
    computed = fnv1a(page[HEADER_SIZE : HEADER_SIZE + _CHECKED_SIZE])
    if checksum != computed:
        return f"checksum {checksum:#018x} instead of {computed:#018x}"
    return Meta(page_size=page_size, root=root, sequence=sequence, freelist=freelist, high_water=high_water, txid=txid)


def read_metas(disk: Disk, fd: int, path: str) -> Meta:
    """The newest valid meta of the file.

    Raises: CorruptDatabaseError when neither is valid, or the file is shorter than the meta says.
    Source: bbolt getPageSize: where page 1 is follows from page 0, or else every size is tried.
    """
    size = disk.size(fd)
    first = decode_meta(disk.pread(fd, HEADER_SIZE + _META.size, 0))
    second: Meta | str = "no meta page at any page size"
    if isinstance(first, Meta):
        second = decode_meta(disk.pread(fd, HEADER_SIZE + _META.size, first.page_size))
    else:
        for shift in range(_PAGE_SIZE_SHIFTS):
            offset = _PAGE_SIZE_MIN << shift
            if offset >= size:
                break
            candidate = decode_meta(disk.pread(fd, HEADER_SIZE + _META.size, offset))
            if isinstance(candidate, Meta) and candidate.page_size == offset:
                second = candidate
                break
    metas = [meta for meta in (first, second) if isinstance(meta, Meta)]
    if not metas:
        raise CorruptDatabaseError(
            path,
            page=0,
            offset=0,
            expected="a valid meta page in page 0 or 1",
            found=f"{first} in page 0, {second} in page 1",
        )
    meta = max(metas, key=lambda found: found.txid)
    page_id = 0 if meta is first else 1
    offset = page_id * meta.page_size
    page_size = meta.page_size
    if page_size < _PAGE_SIZE_MIN or page_size & (page_size - 1):
        raise CorruptDatabaseError(
            path, page=page_id, offset=offset, expected="a power of two as page size", found=str(page_size)
        )
    if size < meta.high_water * page_size:
        raise CorruptDatabaseError(
            path,
            page=page_id,
            offset=offset,
            expected=f"a file of at least {meta.high_water} pages of {page_size} bytes",
            found=f"{size} bytes",
        )
    if meta.root >= meta.high_water or (meta.freelist >= meta.high_water and meta.freelist != NO_FREELIST):
        raise CorruptDatabaseError(
            path,
            page=page_id,
            offset=offset,
            expected=f"root and freelist pages below the high water {meta.high_water}",
            found=f"root {meta.root}, freelist {meta.freelist}",
        )
    return meta
