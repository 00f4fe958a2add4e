"""Reading one committed state of a bbolt file: buckets, keys, pages.

A View is what the file was when transaction `txid` ended. It stays readable while later transactions are built and
written, because those never touch a page it can reach; `Database.pin` makes that last.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from balsad.env.protocols import Mapping
from balsad.storage.bolt.errors import BucketNotFoundError, CorruptDatabaseError
from balsad.storage.bolt.meta import Meta
from balsad.storage.bolt.page import (
    BRANCH,
    BUCKET_FLAG,
    BUCKET_HEADER,
    BUCKET_HEADER_SIZE,
    ELEMENT_SIZE,
    HEADER,
    HEADER_SIZE,
    LEAF,
    LEAF_ELEMENT,
    Branch,
    decode_branch,
    decode_leaf,
    key_at,
    leaf_flags,
    packed_items,
    type_name,
)

Stretch = tuple[bytes, int, tuple[int, ...], tuple[int, ...]]
"""Items in order: bytes, where in them key, value, key, value, ... begin, sizes of the keys, sizes of the values."""

DEPTH_MAX: Final = 64
"""Branches over a leaf. With as many keys as can be a tree needs a fraction of it; one that is deeper has a loop."""


class BucketRoot:
    """Where a bucket is: its root page, or for a small one the leaf page itself (`inline`, root 0). Never changed."""

    __slots__ = ("inline", "root", "sequence")

    def __init__(self, root: int, sequence: int, inline: bytes) -> None:
        self.root = root
        self.sequence = sequence
        self.inline = inline


def decode_bucket(value: bytes) -> BucketRoot:
    """The bucket that a leaf's bucket element holds."""
    root, sequence = BUCKET_HEADER.unpack_from(value)
    return BucketRoot(root, sequence, b"" if root else value[BUCKET_HEADER_SIZE:])


class View:
    """One committed state of the file."""

    __slots__ = (
        "branches",
        "buckets",
        "buckets_read",
        "high_water",
        "mapping",
        "meta",
        "page_size",
        "path",
        "plain_leaves",
        "txid",
    )

    def __init__(self, path: str, meta: Meta, mapping: Mapping) -> None:
        self.path = path
        self.meta = meta
        self.mapping = mapping
        self.page_size = meta.page_size
        self.high_water = meta.high_water
        self.txid = meta.txid
        self.branches: dict[int, Branch] = {}
        self.buckets: dict[bytes, BucketRoot] = {}
        # Of pages already read: 1 for a leaf of one page that holds no bucket. Kept until free pages are known.
        self.plain_leaves: bytearray | None = None
        self.buckets_read: set[bytes] = set()

    def load_buckets(self) -> None:
        """Read the names and roots of the top buckets; a View is of no use before."""
        for page in self.leaves(self.meta.root):
            page_id = int.from_bytes(page[:8], "little")
            keys, values = decode_leaf(page)
            for key, value, flag in zip(keys, values, leaf_flags(page), strict=True):
                if flag != BUCKET_FLAG or len(value) < BUCKET_HEADER_SIZE:
                    raise self.broken(page_id, "a bucket", f"a value of {len(value)} bytes with flags {flag}")
                bucket = decode_bucket(value)
                inline = bucket.inline
                if bucket.root == 0 and (
                    len(inline) < HEADER_SIZE
                    or inline[8] != LEAF
                    or HEADER_SIZE + ELEMENT_SIZE * (inline[10] | inline[11] << 8) > len(inline)
                ):
                    raise self.broken(page_id, "an inline bucket to be a leaf", f"{inline[:HEADER_SIZE].hex()}")
                self.buckets[key] = bucket

    def broken(self, page_id: int, expected: str, found: str) -> CorruptDatabaseError:
        """The error that says so about a page."""
        return CorruptDatabaseError(
            self.path, page=page_id, offset=page_id * self.page_size, expected=expected, found=found
        )

    # ---- pages

    def page(self, page_id: int) -> bytes:
        """A branch or leaf page, with its overflow.

        Raises: CorruptDatabaseError when it lies outside, says another id, or is neither.
        """
        size = self.page_size
        offset = page_id * size
        page = self.mapping[offset : offset + size]
        if page_id < 2 or page_id >= self.high_water or len(page) < size:
            raise self.broken(page_id, f"a page from 2 to {self.high_water - 1}", f"a reference to page {page_id}")
        found, flags, count, overflow = HEADER.unpack_from(page)
        if found != page_id or (flags != LEAF and flags != BRANCH):
            raise self.broken(page_id, f"branch or leaf page {page_id}", f"{type_name(flags)} page {found}")
        if overflow:
            if page_id + overflow >= self.high_water:
                raise self.broken(page_id, f"an end before page {self.high_water}", f"{overflow} overflow pages")
            page = self.mapping[offset : offset + (overflow + 1) * size]
        if HEADER_SIZE + ELEMENT_SIZE * count > len(page):
            raise self.broken(page_id, f"elements on {len(page)} bytes", f"a count of {count}")
        return page

    def branch(self, page_id: int) -> Branch:
        """A branch page, decoded once."""
        branch = self.branches.get(page_id)
        if branch is None:
            page = self.page(page_id)
            if page[8] != BRANCH:
                raise self.broken(page_id, "a branch page", "a leaf page")
            branch = decode_branch(page)
            if not branch.pages:
                raise self.broken(page_id, "a branch page with children", "none")
            self.branches[page_id] = branch
        return branch

    def leaves(self, root: int) -> Iterator[bytes]:
        """The leaf pages of a tree, in key order."""
        stack = [root]
        left = self.high_water
        while stack:
            page_id = stack.pop()
            left -= 1
            if left < 0:
                raise self.broken(page_id, "every page once in a tree", "a page that leads back to itself")
            if page_id not in self.branches:
                page = self.page(page_id)
                if page[8] == LEAF:
                    yield page
                    continue
            stack.extend(reversed(self.branch(page_id).pages))

    # ---- keys

    def bucket(self, name: bytes) -> BucketRoot:
        """Raises: BucketNotFoundError."""
        try:
            return self.buckets[name]
        except KeyError:
            raise BucketNotFoundError(self.path, name) from None

    def get(self, name: bytes, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        bucket = self.bucket(name)
        page_id = bucket.root
        if page_id == 0:
            return find_in_leaf(bucket.inline, key)
        branches = self.branches
        for _ in range(DEPTH_MAX):
            branch = branches.get(page_id)
            if branch is None:
                page = self.page(page_id)
                if page[8] == LEAF:
                    return find_in_leaf(page, key)
                branch = self.branch(page_id)
            at = bisect_right(branch.keys, key) - 1
            page_id = branch.pages[at if at > 0 else 0]
        raise self._too_deep(page_id)

    def _too_deep(self, page_id: int) -> CorruptDatabaseError:
        return self.broken(page_id, f"a tree of at most {DEPTH_MAX} levels", "a page that leads back to itself")

    def scan(self, name: bytes, start: bytes, end: bytes | None, limit: int = 0) -> tuple[list[bytes], list[bytes]]:
        """Keys and values from `start` up to but without `end` (None: all), the first `limit` of them (0: all)."""
        bucket = self.bucket(name)
        keys: list[bytes] = []
        values: list[bytes] = []
        if bucket.root == 0:
            collect_from_leaf(bucket.inline, start, end, keys, values)
        else:
            self._collect(bucket.root, start, end, limit, keys, values, 0)
        if limit and len(keys) > limit:
            del keys[limit:]
            del values[limit:]
        return keys, values

    def _collect(
        self,
        page_id: int,
        start: bytes,
        end: bytes | None,
        limit: int,
        keys: list[bytes],
        values: list[bytes],
        depth: int,
    ) -> None:
        if depth > DEPTH_MAX:
            raise self._too_deep(page_id)
        branch = self.branches.get(page_id)
        if branch is None:
            page = self.page(page_id)
            if page[8] == LEAF:
                collect_from_leaf(page, start, end, keys, values)
                return
            branch = self.branch(page_id)
        children = branch.pages
        first = bisect_right(branch.keys, start) - 1
        if first < 0:
            first = 0
        last = len(children) if end is None else bisect_left(branch.keys, end)
        for at in range(first, last):
            self._collect(children[at], start, end, limit, keys, values, depth + 1)
            if limit and len(keys) >= limit:
                return

    def items(self, name: bytes) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """All keys and values of a bucket, a leaf at a time."""
        bucket = self.bucket(name)
        if bucket.root == 0:
            yield decode_leaf(bucket.inline)
            return
        for page in self.leaves(bucket.root):
            yield decode_leaf(page)

    def stretches(self, name: bytes) -> Iterator[Stretch]:
        """All items of a bucket, a leaf at a time, as they lie there. Raises: CorruptDatabaseError."""
        bucket = self.bucket(name)
        pages = self.leaves(bucket.root) if bucket.root else iter((bucket.inline,))
        for page in pages:
            start, key_sizes, value_sizes = packed_items(page)
            if start > 0:
                yield page, start, key_sizes, value_sizes
            elif start < 0:
                raise self.broken(int.from_bytes(page[:8], "little"), f"items on {len(page)} bytes", "some beyond them")
            else:
                yield stretch_of(*decode_leaf(page))

    def stretches_between(
        self, name: bytes, start: bytes, end: bytes, page_bytes: int
    ) -> tuple[list[Stretch], bytes | None]:
        """The items from `start` up to but without `end`, and the key from which to go on: None when that is all.

        It stops behind the leaf with which it has read `page_bytes`. Raises: CorruptDatabaseError.
        """
        bucket = self.bucket(name)
        pages: list[bytes] = []
        left = page_bytes
        if bucket.root:
            left = self._leaves_between(bucket.root, start, end, left, pages, 0)
        else:
            pages.append(bucket.inline)
        found: list[Stretch] = []
        following: bytes | None = None
        for page in pages:
            count = page[10] | page[11] << 8
            if not count:
                continue  # an inline bucket without items
            place, key_sizes, value_sizes = packed_items(page)
            if place < 0:
                raise self.broken(int.from_bytes(page[:8], "little"), f"items on {len(page)} bytes", "some beyond them")
            last = key_at(page, count - 1)
            if place > 0 and key_at(page, 0) >= start and last < end:
                found.append((page, place, key_sizes, value_sizes))
            else:
                keys: list[bytes] = []
                values: list[bytes] = []
                collect_from_leaf(page, start, end, keys, values)
                found.append(stretch_of(keys, values))
            following = last + b"\0"
        return found, following if left <= 0 and following is not None and following < end else None

    def _leaves_between(self, page_id: int, start: bytes, end: bytes, left: int, found: list[bytes], depth: int) -> int:
        """Add the leaves that may hold the keys until `left` bytes are read; gives how many are still left."""
        if depth > DEPTH_MAX:
            raise self._too_deep(page_id)
        branch = self.branches.get(page_id)
        if branch is None:
            page = self.page(page_id)
            if page[8] == LEAF:
                count = page[10] | page[11] << 8
                # The leaf that was read last does not count again.
                if not count or key_at(page, count - 1) < start:
                    return left
                found.append(page)
                return left - len(page)
            branch = self.branch(page_id)
        first = bisect_right(branch.keys, start) - 1
        if first < 0:
            first = 0
        for at in range(first, bisect_left(branch.keys, end)):
            left = self._leaves_between(branch.pages[at], start, end, left, found, depth + 1)
            if left <= 0:
                break
        return left


def stretch_of(keys: list[bytes], values: list[bytes]) -> Stretch:
    """Items one behind the other."""
    parts: list[bytes] = []
    for i in range(len(keys)):
        parts.append(keys[i])
        parts.append(values[i])
    return b"".join(parts), 0, tuple(map(len, keys)), tuple(map(len, values))


def find_in_leaf(page: bytes, key: bytes) -> bytes | None:
    """The value of a key on a leaf page, or None."""
    unpack = LEAF_ELEMENT.unpack_from
    high = page[10] | page[11] << 8
    if high == 0:
        return None
    _, position, key_size, value_size = unpack(page, HEADER_SIZE)
    at = HEADER_SIZE + position
    found = page[at : at + key_size]
    if found == key:
        at += key_size
        return page[at : at + value_size]
    low = 1
    middle = high >> 1
    if len(key) >= 17 and key_size >= 17:
        # Revisions on a leaf are mostly consecutive, by main or within one main by sub: guess the place.
        middle = int.from_bytes(key[:8], "big") - int.from_bytes(found[:8], "big")
        if middle == 0:
            middle = int.from_bytes(key[9:17], "big") - int.from_bytes(found[9:17], "big")
    if middle >= high:
        middle = high - 1
    if middle < low:
        middle = low
    while low < high:
        element = HEADER_SIZE + ELEMENT_SIZE * middle
        _, position, key_size, value_size = unpack(page, element)
        at = element + position
        found = page[at : at + key_size]
        if found == key:
            at += key_size
            return page[at : at + value_size]
        if found < key:
            low = middle + 1
        else:
            high = middle
        middle = (low + high) >> 1
    return None


def collect_from_leaf(page: bytes, start: bytes, end: bytes | None, keys: list[bytes], values: list[bytes]) -> None:
    """Append the items of a leaf page from `start` up to but without `end`."""
    leaf_keys, leaf_values = decode_leaf(page)
    if not leaf_keys:
        return
    first = 0 if start <= leaf_keys[0] else bisect_left(leaf_keys, start)
    last = len(leaf_keys) if end is None or leaf_keys[-1] < end else bisect_left(leaf_keys, end)
    if first or last < len(leaf_keys):
        keys.extend(leaf_keys[first:last])
        values.extend(leaf_values[first:last])
    else:
        keys.extend(leaf_keys)
        values.extend(leaf_values)
