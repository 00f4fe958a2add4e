"""Hashes over a state's contents: bucket names, keys and values, as etcd hashes them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Final

from balsad.checksum import crc32c
from balsad.storage.bolt.db import Database
from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF_ELEMENT,
    decode_leaf,
    leaf_flags,
    may_hold_buckets,
    u32_table,
)
from balsad.storage.bolt.tree import View

STEP_PAGES: Final = 500
"""Of one step: about three milliseconds."""


class ContentHash:
    """`value` is the hash, `item_count` the items of all buckets."""

    __slots__ = ("item_count", "value")

    def __init__(self, value: int, item_count: int) -> None:
        self.value = value
        self.item_count = item_count


class ContentHasher:
    """Computes a ContentHash page by page: `step` until it gives True."""

    __slots__ = ("_by_items", "_ignored", "_name", "_names", "_pages", "_view", "item_count", "value")

    def __init__(self, view: View, ignored: Set[tuple[bytes, bytes]] = frozenset()) -> None:
        """`view` must stay readable as long as this steps."""
        self.value = 0
        self.item_count = 0
        self._view = view
        self._ignored = ignored
        self._names = sorted(view.buckets, reverse=True)
        self._name = b""
        self._by_items = False
        self._pages: Iterator[bytes] = iter(())

    def step(self, page_count: int) -> bool:
        """Hash so many pages more; True once all are done. Raises: CorruptDatabaseError."""
        for _ in range(page_count):
            page = next(self._pages, None)
            if page is not None:
                self._add(page)
            elif not self._names:
                return True
            else:
                self._begin_bucket(self._names.pop())
        return False

    def _begin_bucket(self, name: bytes) -> None:
        self._name = name
        self._by_items = any(bucket == name for bucket, _ in self._ignored)
        self.value = crc32c(name, self.value)
        bucket = self._view.buckets[name]
        if bucket.root:
            self._pages = self._view.leaves(bucket.root)
        else:
            self._add(bucket.inline)

    def _add(self, page: bytes) -> None:
        self.item_count += page[10] | page[11] << 8
        if self._by_items or may_hold_buckets(page):
            self.value = _hash_items(page, self._name, self._ignored, self.value)
        else:
            self.value = _hash_page(page, self.value)


def hash_contents(view: View, ignored: Set[tuple[bytes, bytes]] = frozenset()) -> ContentHash:
    """crc32c over every bucket's name, keys and values but the ignored (bucket, key) pairs.

    Source: etcd backend.Hash (which ignores some of `meta`) and etcdutl snapshot status (which ignores nothing).
    """
    hasher = ContentHasher(view, ignored)
    while not hasher.step(1 << 30):
        pass
    return ContentHash(hasher.value, hasher.item_count)


class ContentHashJob:
    """The hash of the database as its last commit left it, in slices, while commits go on.

    `step` until it gives True, then there is a `value`; `close` in any case, for it pins what it reads.
    """

    __slots__ = ("_closed", "_database", "_hasher", "_view")

    def __init__(self, database: Database, ignored: Set[tuple[bytes, bytes]]) -> None:
        self._database = database
        self._view: View = database.pin()
        self._hasher = ContentHasher(self._view, ignored)
        self._closed = False

    @property
    def value(self) -> int:
        return self._hasher.value

    def step(self) -> bool:
        """Hash some pages more. Raises: CorruptDatabaseError."""
        assert not self._closed
        return self._hasher.step(STEP_PAGES)

    def close(self) -> None:
        """Let go of the pages."""
        if not self._closed:
            self._closed = True
            self._database.unpin(self._view)


def _hash_page(page: bytes, value: int) -> int:
    """A leaf's data is key, value, key, value: one piece of bytes, if nobody left holes in it."""
    count = page[10] | page[11] << 8
    if count == 0:
        return value
    table = u32_table(4 * count).unpack_from(page, HEADER_SIZE)
    start = HEADER_SIZE + int(table[1])
    last = HEADER_SIZE + ELEMENT_SIZE * (count - 1)
    _, position, key_size, value_size = LEAF_ELEMENT.unpack_from(page, last)
    end = last + position + key_size + value_size
    if end - start == sum(table[2::4]) + sum(table[3::4]):
        return crc32c(page[start:end], value)
    return _hash_items(page, b"", frozenset(), value)


def _hash_items(page: bytes, name: bytes, ignored: Set[tuple[bytes, bytes]], value: int) -> int:
    keys, values = decode_leaf(page)
    for key, item, flag in zip(keys, values, leaf_flags(page), strict=True):
        if (name, key) not in ignored:
            value = crc32c(key, value)
            if flag != BUCKET_FLAG or len(item) < BUCKET_HEADER.size:  # a bucket inside has no value
                value = crc32c(item, value)
    return value
