"""A whole database written in one go, as defrag does: the leaves of another in, densely filled pages out.

A leaf that is full already is taken over as it is, but for its number; the items of the others are packed anew.

    begin_bucket --> add_leaf ... --> end_bucket until it is True --> begin_bucket ... --> finish
                         write_out now and then, and at the end
"""

from __future__ import annotations

from typing import Final

from balsad.env.protocols import Disk
from balsad.storage.bolt.db import write_all
from balsad.storage.bolt.meta import NO_FREELIST, Meta, encode_meta
from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_SIZE,
    HEADER_SIZE,
    U64,
    branch_size,
    decode_leaf,
    encode_branch,
    encode_leaf,
    key_at,
    leaf_size,
    used_size,
)

_FILL: Final = 0.9
_WRITE_BYTES: Final = 1 << 20
_ALL: Final = 1 << 60


class BulkWriter:
    """Writes pages to an empty file. No call but `write_out` takes long, and that one may run in any thread.

    Does not sync.
    """

    __slots__ = (
        "_at",
        "_disk",
        "_fd",
        "_first_keys",
        "_keys",
        "_metas",
        "_name",
        "_names",
        "_next",
        "_page_size",
        "_pages",
        "_path",
        "_sequence",
        "_size",
        "_threshold",
        "_unwritten",
        "_up_keys",
        "_up_pages",
        "_values",
        "_wasted",
        "_written",
        "buffered",
    )

    def __init__(self, disk: Disk, path: str, fd: int, page_size: int) -> None:
        self._disk = disk
        self._path = path
        self._fd = fd
        self._page_size = page_size
        self._threshold = int(page_size * _FILL)
        self._unwritten: list[bytes] = []
        self._written = 2  # pages that are in the file; the metas come last
        self._next = 2
        self._metas: list[bytes] = []
        self._names: dict[bytes, bytes] = {}
        self.buffered = 0
        """Bytes that `write_out` has yet to write."""
        # The bucket under way: its items that are on no page yet, the pages of one level of its tree, and where
        # among these the branches of the next level have got to.
        self._name = b""
        self._sequence = 0
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._size = HEADER_SIZE
        self._first_keys: list[bytes] = []
        self._pages: list[int] = []
        self._at = 0
        self._wasted = 0
        self._up_keys: list[bytes] = []
        self._up_pages: list[int] = []

    def _append(self, page: bytes) -> int:
        """The id of a page that is added."""
        page_id = self._next
        self._unwritten.append(page)
        self.buffered += len(page)
        self._next += len(page) // self._page_size
        return page_id

    def write_out(self) -> None:
        """Write what is buffered; nothing may be added meanwhile. Raises: StorageError."""
        pages, self._unwritten = self._unwritten, []
        start = size = 0
        for at in range(len(pages)):
            size += len(pages[at])
            if size >= _WRITE_BYTES or at == len(pages) - 1:
                write_all(self._disk, self._path, self._fd, pages[start : at + 1], self._written * self._page_size)
                self._written += size // self._page_size
                start = at + 1
                size = 0
        self.buffered = 0
        if self._metas:
            write_all(self._disk, self._path, self._fd, self._metas, 0)

    def begin_bucket(self, name: bytes, sequence: int) -> None:
        self._name = name
        self._sequence = sequence
        self._first_keys = []
        self._pages = []

    def add_leaf(self, page: bytes) -> None:
        """Add the items of a leaf, all of which come after those that were added before."""
        count = page[10] | page[11] << 8
        if not count:
            return
        if self._is_full(page, count) and (not self._keys or self._may_waste(self._threshold - self._size)):
            if self._keys:
                self._put_leaf()
            self._first_keys.append(key_at(page, 0))
            self._pages.append(self._append(U64.pack(self._next) + page[8:]))
            return
        keys, values = decode_leaf(page)
        for i in range(count):
            key = keys[i]
            value = values[i]
            item = len(key) + len(value) + ELEMENT_SIZE
            if self._size + item > self._threshold and len(self._keys) >= 2:
                self._put_leaf()
            self._keys.append(key)
            self._values.append(value)
            self._size += item

    def _is_full(self, page: bytes, count: int) -> bool:
        """Whether there is no room for one more item such as the leaf's are."""
        if len(page) == self._page_size:
            size = used_size(page)
            return size + (size - HEADER_SIZE) // count > self._threshold
        return len(page) > self._page_size  # an inline one is shorter

    def _may_waste(self, size: int) -> bool:
        """Whether what waits may get a leaf that is not full, so that full ones can follow as they are."""
        # One in twenty bytes of the file at the most, for each such leaf is wasted but once.
        if self._wasted + size > self._next * self._page_size // 20:
            return False
        self._wasted += max(0, size)
        return True

    def _put_leaf(self) -> None:
        self._first_keys.append(self._keys[0])
        self._pages.append(self._append(encode_leaf(self._next, self._keys, self._values, 0, self._page_size)))
        self._keys = []
        self._values = []
        self._size = HEADER_SIZE

    def end_bucket(self, limit: int) -> bool:
        """Put up to `limit` branches over the bucket's leaves; True once it has a root."""
        if not self._pages and self._size <= self._page_size // 4:
            inline = encode_leaf(0, self._keys, self._values, 0, 0)
            self._names[self._name] = BUCKET_HEADER.pack(0, self._sequence) + inline
            self._keys = []
            self._values = []
            self._size = HEADER_SIZE
            return True
        if self._keys:
            self._put_leaf()
        if not self._put_branches(limit):
            return False
        self._names[self._name] = BUCKET_HEADER.pack(self._pages[0], self._sequence)
        return True

    def _put_branches(self, limit: int) -> bool:
        """Put up to `limit` branches over the pages; True once a single one is left, the root."""
        for _ in range(limit):
            if self._at == len(self._pages):
                self._first_keys, self._up_keys = self._up_keys, []
                self._pages, self._up_pages = self._up_pages, []
                self._at = 0
            keys = self._first_keys
            count = len(keys)
            if count == 1:
                return True
            start = self._at
            end = start + 2
            size = branch_size(keys[start:end])
            while end < count and size + len(keys[end]) + ELEMENT_SIZE <= self._threshold:
                size += len(keys[end]) + ELEMENT_SIZE
                end += 1
            if count - end == 1:  # a branch needs two children
                end = end - 1 if end - start > 2 else count
            page = encode_branch(self._next, keys[start:end], self._pages[start:end], self._page_size)
            self._up_keys.append(keys[start])
            self._up_pages.append(self._append(page))
            self._at = end
        return False

    def finish(self) -> None:
        """Make the root bucket and both metas, for the last `write_out`."""
        names = sorted(self._names)
        values = [self._names[name] for name in names]
        self._first_keys = []
        self._pages = []
        start = 0
        while start < len(names) or not self._pages:
            end = start
            while end < len(names) and (
                end - start < 2 or leaf_size(names[start : end + 1], values[start : end + 1]) <= self._page_size
            ):
                end += 1
            page = encode_leaf(self._next, names[start:end], values[start:end], BUCKET_FLAG, self._page_size)
            self._first_keys.append(names[start] if names else b"")
            self._pages.append(self._append(page))
            start = end
        self._at = 0
        self._put_branches(_ALL)
        meta = Meta(
            page_size=self._page_size,
            root=self._pages[0],
            sequence=0,
            freelist=NO_FREELIST,
            high_water=self._next,
            txid=1,
        )
        self._metas = [encode_meta(0, meta, 0), encode_meta(1, meta, 1)]
