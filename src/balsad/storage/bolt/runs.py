"""Leaves that lie one behind the other in the file, read as one piece: what a whole bucket is read by at a start.

    branch -> 7 8 9 10 | 15 16 | 4      three runs: one copy out of the map and one look at all headers for each

A file that was filled in one go has its leaves in long runs. Where they do not lie so, a run is a single leaf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import accumulate, islice, repeat
from operator import add
from typing import Final

from balsad.storage.bolt.page import BRANCH, BUCKET_FLAG, ELEMENT_SIZE, HEADER_SIZE, LEAF, decode_leaf, packed_items
from balsad.storage.bolt.tree import Stretch, View, stretch_of

RUN_PAGES_MAX: Final = 128
_headers: Final[dict[int, struct.Struct]] = {}


def _header_of(page_size: int) -> struct.Struct:
    """Id, flags, count and overflow of a page, and the rest of it left out."""
    header = _headers.get(page_size)
    if header is None:
        header = _headers[page_size] = struct.Struct(f"<QHHI{page_size - HEADER_SIZE}x")
    return header


class LeafRun:
    """Leaves, one behind the other in `data`.

    `starts` says where in `data` each item's key begins, if all keys have the size that was asked for; else nothing.
    """

    __slots__ = ("_page_size", "_view", "data", "starts")

    def __init__(self, view: View, data: bytes, page_size: int, starts: list[int]) -> None:
        self._view = view
        self._page_size = page_size
        self.data = data
        self.starts = starts

    def stretches(self) -> Iterator[Stretch]:
        """The items, a leaf at a time. Raises: CorruptDatabaseError."""
        data = self.data
        for base in range(0, len(data), self._page_size):
            page = data[base : base + self._page_size]
            start, key_sizes, value_sizes = packed_items(page)
            if start > 0:
                yield page, start, key_sizes, value_sizes
            elif start < 0:
                page_id = int.from_bytes(page[:8], "little")
                raise self._view.broken(page_id, f"items on {len(page)} bytes", "some beyond them")
            else:
                yield stretch_of(*decode_leaf(page))


def leaf_runs(view: View, name: bytes, key_size: int, read: Callable[[int, int], bytes]) -> Iterator[LeafRun]:
    """All leaves of a bucket in key order; `key_size` is that of most keys, 0 for who does not ask where they begin.

    `read(count, offset)` gives bytes of the file; what is read by it need not stay in memory, as the map's pages do.
    `view.plain_leaves`, if there is such a table, learns which pages are leaves of a single page without buckets.
    Raises: CorruptDatabaseError, and what `read` raises.
    """
    bucket = view.bucket(name)
    if not bucket.root:
        yield LeafRun(view, bucket.inline, len(bucket.inline), [])
        return
    page_size = view.page_size
    high_water = view.high_water
    plain_leaves = view.plain_leaves
    places = _Places(page_size, key_size)
    # What is still to be read, by levels of the tree, the next page last; and whether leaves were met there.
    levels = [[bucket.root]]
    are_leaves = [False]
    left = high_water
    while levels:
        ids = levels[-1]
        if not ids:
            levels.pop()
            are_leaves.pop()
            continue
        page_id = ids.pop()
        count = 1
        if are_leaves[-1]:
            while count < RUN_PAGES_MAX and ids and ids[-1] == page_id + count:
                ids.pop()
                count += 1
        data = b""
        if page_id not in view.branches and page_id >= 2 and page_id + count <= high_water:
            data = read(count * page_size, page_id * page_size)
        length = _leading_leaves(data, page_id, count, page_size)
        # What lies behind them comes in its turn.
        ids.extend(range(page_id + count - 1, page_id + max(length, 1) - 1, -1))
        left -= max(length, 1)
        if left < 0:
            raise view.broken(page_id, "every page once in a tree", "a page that leads back to itself")
        if length:
            are_leaves[-1] = True
            data = data[: length * page_size]
            starts = places.find(data)
            if places.are_plain and plain_leaves is not None:
                plain_leaves[page_id : page_id + length] = b"\1" * length
            yield LeafRun(view, data, page_size, starts)
            continue
        page = view.page(page_id)
        if page[8] == BRANCH:
            levels.append(view.branch(page_id).pages[::-1])
            are_leaves.append(False)
        else:
            are_leaves[-1] = True
            yield LeafRun(view, page, len(page), [])
    view.buckets_read.add(name)


def read_all_leaves(view: View, read: Callable[[int, int], bytes]) -> None:
    """Have `view.plain_leaves` learn of all buckets that were not read yet. Raises: see `leaf_runs`."""
    for name in view.buckets:
        if name not in view.buckets_read:
            for _ in leaf_runs(view, name, 0, read):
                pass


def _leading_leaves(data: bytes, page_id: int, count: int, page_size: int) -> int:
    """How many of the pages `page_id` and following are leaves without overflow, up to the first that is not."""
    if len(data) != count * page_size or not data:
        return 0
    headers = list(_header_of(page_size).iter_unpack(data))
    ids, flags, counts, overflows = zip(*headers, strict=True)
    if (
        ids == tuple(range(page_id, page_id + count))
        and flags.count(LEAF) == count
        and HEADER_SIZE + ELEMENT_SIZE * max(counts) <= page_size
        and not any(overflows)
    ):
        return count
    for at, (number, kind, items, overflow) in enumerate(headers):
        if number != page_id + at or kind != LEAF or overflow or HEADER_SIZE + ELEMENT_SIZE * items > page_size:
            return at
    return count


class _Places:
    """Where the items of leaves begin. Leaves of items of the same sizes have the same table: it is read once."""

    __slots__ = ("_key_size", "_page_size", "_places", "_table", "are_plain")

    def __init__(self, page_size: int, key_size: int) -> None:
        self._page_size = page_size
        self._key_size = key_size
        self._table = b""
        self._places: list[int] = []
        # Whether no item of the leaves seen last is a bucket.
        self.are_plain = True

    def find(self, data: bytes) -> list[int]:
        """Where each key begins; nothing if one has another size than usual, or an item is not on its page."""
        self.are_plain = True
        if not self._key_size:
            self._look_for_buckets(data)
            return []
        starts: list[int] = []
        is_usual = True
        for base in range(0, len(data), self._page_size):
            count = data[base + 10] | data[base + 11] << 8
            table = data[base + HEADER_SIZE : base + HEADER_SIZE + ELEMENT_SIZE * count]
            if table != self._table:
                self._read(data[base : base + self._page_size], table, count)
            if not self._places:
                is_usual = False
            elif is_usual:
                starts += map(add, self._places, repeat(base))
        return starts if is_usual else []

    def _look_for_buckets(self, data: bytes) -> None:
        for base in range(0, len(data), self._page_size):
            first = base + HEADER_SIZE
            end = first + ELEMENT_SIZE * (data[base + 10] | data[base + 11] << 8)
            if BUCKET_FLAG in data[first:end:ELEMENT_SIZE]:
                self.are_plain = False

    def _read(self, page: bytes, table: bytes, count: int) -> None:
        """Note a leaf's table and the places in it. A leaf with buckets has none, and is not remembered."""
        self._table = b""
        self._places = []
        if not count or BUCKET_FLAG in table[::ELEMENT_SIZE]:
            self.are_plain = False
            return
        start, key_sizes, value_sizes = packed_items(page)
        if start > 0 and key_sizes.count(self._key_size) == count:
            self._table = table
            places = accumulate(map(add, key_sizes, value_sizes), initial=start)
            self._places = list(islice(places, count))
