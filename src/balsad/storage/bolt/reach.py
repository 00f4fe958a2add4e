"""Which pages a state does not use: what is free in a file that stores no freelist, as etcd's does not."""

from __future__ import annotations

from typing import Final

from balsad.storage.bolt.meta import NO_FREELIST
from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER_SIZE,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF,
    decode_leaf,
    leaf_flags,
    may_hold_buckets,
)
from balsad.storage.bolt.tree import View, decode_bucket

_NO_OVERFLOW: Final = bytes(4)


def unreachable_pages(view: View) -> list[int]:
    """The pages below the high water that the state does not use, ascending.

    Reads every page's header and the flags of every item, which may be a bucket, but for those leaves of which
    `view.plain_leaves` tells: others are looked into where they lie, and with that stay in memory.
    Raises: CorruptDatabaseError, also where a page is used twice.
    """
    mapping = view.mapping
    page_size = view.page_size
    high_water = view.high_water
    plain_leaves = view.plain_leaves
    used = bytearray(high_water)
    used[0:2] = b"\1\1"
    freelist = view.meta.freelist
    if freelist != NO_FREELIST:
        offset = freelist * page_size
        overflow = int.from_bytes(mapping[offset + 12 : offset + HEADER_SIZE], "little")
        if freelist + overflow >= high_water:
            raise view.broken(freelist, f"an end before page {high_water}", f"{overflow} overflow pages")
        used[freelist : freelist + overflow + 1] = b"\1" * (overflow + 1)
    stack = [view.meta.root]
    while stack:
        page_id = stack.pop()
        offset = page_id * page_size
        head = mapping[offset : offset + HEADER_SIZE]
        is_ordinary = (
            2 <= page_id < high_water
            and len(head) == HEADER_SIZE
            and int.from_bytes(head[:8], "little") == page_id
            and head[8] == LEAF
            and head[9] == 0
            and head[12:16] == _NO_OVERFLOW
            and not used[page_id]
        )
        if is_ordinary:
            elements = offset + HEADER_SIZE
            end = elements + ELEMENT_SIZE * (head[10] | head[11] << 8)
            if end <= offset + page_size and BUCKET_FLAG not in mapping[elements:end:ELEMENT_SIZE]:
                used[page_id] = 1
                continue
        page = view.page(page_id)
        length = len(page) // page_size
        if used[page_id]:
            # It may even lead back to itself: whoever went on would never come to an end.
            raise view.broken(page_id, "pages that are used once", "a second reference")
        used[page_id : page_id + length] = b"\1" * length
        if page[8] != LEAF:
            children = view.branch(page_id).pages
            if plain_leaves is None:
                stack.extend(children)
                continue
            for child in children:
                if 2 <= child < high_water and plain_leaves[child] and not used[child]:
                    used[child] = 1
                else:
                    stack.append(child)
            continue
        if not may_hold_buckets(page):
            continue
        for value, flag in zip(decode_leaf(page)[1], leaf_flags(page), strict=True):
            if flag == BUCKET_FLAG:
                if len(value) < BUCKET_HEADER_SIZE:
                    raise view.broken(page_id, "a bucket", f"a value of {len(value)} bytes")
                root = decode_bucket(value).root
                if root:
                    stack.append(root)
    free: list[int] = []
    page_id = used.find(b"\0")
    while page_id >= 0:
        free.append(page_id)
        page_id = used.find(b"\0", page_id + 1)
    return free
