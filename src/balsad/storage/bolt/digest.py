"""Hashes over a state's contents: bucket names, keys and values, as etcd hashes them."""

from __future__ import annotations

from collections.abc import Set

from crc32c import crc32c

from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF_ELEMENT,
    decode_leaf,
    leaf_flags,
    u32_table,
)
from balsad.storage.bolt.tree import View


class ContentHash:
    """`value` is the hash, `item_count` the items of all buckets."""

    __slots__ = ("item_count", "value")

    def __init__(self, value: int, item_count: int) -> None:
        self.value = value
        self.item_count = item_count


def hash_contents(view: View, ignored: Set[tuple[bytes, bytes]] = frozenset()) -> ContentHash:
    """crc32c over every bucket's name, keys and values but the ignored (bucket, key) pairs.

    Source: etcd backend.Hash (which ignores some of `meta`) and etcdutl snapshot status (which ignores nothing).
    """
    value = 0
    item_count = 0
    with_ignored = {bucket for bucket, _ in ignored}
    for name in sorted(view.buckets):
        value = crc32c(name, value)
        bucket = view.buckets[name]
        if bucket.root == 0:
            pages = iter((bucket.inline,))
        else:
            pages = (view.page(page_id) for page_id in view.leaf_pages(bucket.root))
        for page in pages:
            item_count += page[10] | page[11] << 8
            if name in with_ignored or BUCKET_FLAG in leaf_flags(page):
                value = _hash_items(page, name, ignored, value)
            else:
                value = _hash_page(page, value)
    return ContentHash(value, item_count)


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
