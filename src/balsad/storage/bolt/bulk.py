"""A whole database written in one go, as defrag does: sorted items in, densely filled pages out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balsad.env.protocols import Disk
from balsad.storage.bolt.db import write_all
from balsad.storage.bolt.meta import NO_FREELIST, Meta, encode_meta
from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_SIZE,
    HEADER_SIZE,
    branch_size,
    encode_branch,
    encode_leaf,
    leaf_size,
)

_FILL: Final = 0.9
_FLUSH_PAGES: Final = 256


class BulkWriter:
    """Streams pages to an empty file: `add_bucket` for each bucket, then `finish`. Does not sync."""

    __slots__ = ("_buffers", "_disk", "_fd", "_names", "_next", "_page_size", "_path", "_threshold", "_written")

    def __init__(self, disk: Disk, path: str, fd: int, page_size: int) -> None:
        self._disk = disk
        self._path = path
        self._fd = fd
        self._page_size = page_size
        self._threshold = int(page_size * _FILL)
        self._buffers: list[bytes] = []
        self._written = 2  # pages that are in the file; the metas come last
        self._next = 2
        self._names: dict[bytes, bytes] = {}

    def _append(self, page: bytes) -> None:
        self._buffers.append(page)
        self._next += len(page) // self._page_size
        if len(self._buffers) >= _FLUSH_PAGES:
            self._flush()

    def _flush(self) -> None:
        if self._buffers:
            write_all(self._disk, self._path, self._fd, self._buffers, self._written * self._page_size)
            self._buffers = []
            self._written = self._next

    def add_bucket(self, name: bytes, leaves: Iterable[tuple[list[bytes], list[bytes]]], sequence: int = 0) -> None:
        """Write a bucket from its keys and values, ascending, in pieces of any size. Raises: StorageError."""
        first_keys: list[bytes] = []
        pages: list[int] = []
        keys: list[bytes] = []
        values: list[bytes] = []
        size = HEADER_SIZE
        threshold = self._threshold
        for piece_keys, piece_values in leaves:
            for i in range(len(piece_keys)):
                key = piece_keys[i]
                value = piece_values[i]
                item = len(key) + len(value) + ELEMENT_SIZE
                if size + item > threshold and len(keys) >= 2:
                    first_keys.append(keys[0])
                    pages.append(self._next)
                    self._append(encode_leaf(self._next, keys, values, 0, self._page_size))
                    keys = []
                    values = []
                    size = HEADER_SIZE
                keys.append(key)
                values.append(value)
                size += item
        if not pages and leaf_size(keys, values) <= self._page_size // 4:
            self._names[name] = BUCKET_HEADER.pack(0, sequence) + encode_leaf(0, keys, values, 0, 0)
            return
        if keys:
            first_keys.append(keys[0])
            pages.append(self._next)
            self._append(encode_leaf(self._next, keys, values, 0, self._page_size))
        self._names[name] = BUCKET_HEADER.pack(self._tree(first_keys, pages), sequence)

    def _tree(self, keys: list[bytes], pages: list[int]) -> int:
        """Branches over these pages, up to a single one: its id."""
        while len(pages) > 1:
            up_keys: list[bytes] = []
            up_pages: list[int] = []
            start = 0
            count = len(pages)
            while start < count:
                end = start + 2
                size = branch_size(keys[start:end])
                while end < count and size + len(keys[end]) + ELEMENT_SIZE <= self._threshold:
                    size += len(keys[end]) + ELEMENT_SIZE
                    end += 1
                if count - end == 1:  # a branch needs two children
                    end = end - 1 if end - start > 2 else count
                up_keys.append(keys[start])
                up_pages.append(self._next)
                self._append(encode_branch(self._next, keys[start:end], pages[start:end], self._page_size))
                start = end
            keys, pages = up_keys, up_pages
        return pages[0]

    def finish(self) -> None:
        """Write the root bucket and both metas. Raises: StorageError."""
        names = sorted(self._names)
        values = [self._names[name] for name in names]
        keys: list[bytes] = []
        pages: list[int] = []
        start = 0
        while start < len(names) or not pages:
            end = start
            while end < len(names) and (
                end - start < 2 or leaf_size(names[start : end + 1], values[start : end + 1]) <= self._page_size
            ):
                end += 1
            page = encode_leaf(self._next, names[start:end], values[start:end], BUCKET_FLAG, self._page_size)
            keys.append(names[start] if names else b"")
            pages.append(self._next)
            self._append(page)
            start = end
        root = self._tree(keys, pages)
        self._flush()
        meta = Meta(
            page_size=self._page_size,
            root=root,
            sequence=0,
            freelist=NO_FREELIST,
            high_water=self._next,
            txid=1,
        )
        metas = [encode_meta(0, meta, 0), encode_meta(1, meta, 1)]
        write_all(self._disk, self._path, self._fd, metas, 0)
