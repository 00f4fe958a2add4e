"""Whether a state is sound: every page used once or free, keys in order, branches true to their children.

The findings use bbolt's words where bbolt's own check knows the fault. Nothing is trusted here that reading takes for
granted; a page too broken to be walked is a finding too.
"""

from __future__ import annotations

from operator import ge

from balsad.storage.bolt.errors import CorruptDatabaseError
from balsad.storage.bolt.freelist import Freelist, read_freelist_page
from balsad.storage.bolt.meta import NO_FREELIST
from balsad.storage.bolt.page import (
    BRANCH_ELEMENT,
    BUCKET_FLAG,
    BUCKET_HEADER_SIZE,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF,
    LEAF_ELEMENT,
    u32_table,
)
from balsad.storage.bolt.tree import View, decode_bucket


class _Checker:
    def __init__(self, view: View) -> None:
        self.view = view
        self.problems: list[str] = []
        self.reachable = bytearray(view.high_water)
        self.reachable[0:2] = b"\1\1"

    def use(self, page_id: int, length: int) -> None:
        if page_id + length > len(self.reachable):
            self.problems.append(f"page {page_id + length - 1}: out of bounds: {len(self.reachable)}")
        for used in range(page_id, min(page_id + length, len(self.reachable))):
            if self.reachable[used]:
                self.problems.append(f"page {used}: multiple references")
            else:
                self.reachable[used] = 1

    def tree(self, page_id: int, low: bytes | None, high: bytes | None, *, is_root: bool, strict: bool) -> bytes | None:
        """Check a subtree whose keys must be from `low` up to but without `high`; gives its first key."""
        try:
            page = self.view.page(page_id)
        except CorruptDatabaseError as error:
            self.problems.append(error.reason)
            return None
        if self.reachable[page_id]:
            # Not read again: it may lead back to itself.
            self.problems.append(f"page {page_id}: multiple references")
            return low
        self.use(page_id, len(page) // self.view.page_size)
        if page[8] == LEAF:
            return self.leaf(page_id, page, low, high, is_root=is_root, strict=strict)
        keys, children = self.branch_elements(page_id, page)
        if strict and len(children) < 2:
            self.problems.append(f"page {page_id}: a branch with {len(children)} children")
        self.order(page_id, keys, low, high)
        for at, child in enumerate(children):
            after = keys[at + 1] if at + 1 < len(keys) else high
            first = self.tree(child, keys[at], after, is_root=False, strict=strict)
            if strict and first != keys[at]:
                self.problems.append(
                    f"page {page_id}: key {keys[at].hex()} for page {child}, whose first key is "
                    f"{'none' if first is None else first.hex()}"
                )
        return keys[0] if keys else None

    def branch_elements(self, page_id: int, page: bytes) -> tuple[list[bytes], list[int]]:
        keys: list[bytes] = []
        children: list[int] = []
        for at in range(page[10] | page[11] << 8):
            element = HEADER_SIZE + ELEMENT_SIZE * at
            if element + ELEMENT_SIZE > len(page):
                self.problems.append(f"page {page_id}: more elements than fit")
                break
            position, key_size, child = BRANCH_ELEMENT.unpack_from(page, element)
            if element + position + key_size > len(page):
                self.problems.append(f"page {page_id}: element {at} ends outside the page")
                break
            keys.append(page[element + position : element + position + key_size])
            children.append(child)
        return keys, children

    def leaf(
        self, page_id: int, page: bytes, low: bytes | None, high: bytes | None, *, is_root: bool, strict: bool
    ) -> bytes | None:
        keys = _sound_keys(page)
        for at in range(0 if keys else page[10] | page[11] << 8):
            element = HEADER_SIZE + ELEMENT_SIZE * at
            if element + ELEMENT_SIZE > len(page):
                self.problems.append(f"page {page_id}: more elements than fit")
                break
            flags, position, key_size, value_size = LEAF_ELEMENT.unpack_from(page, element)
            key_at = element + position
            value_at = key_at + key_size
            if value_at + value_size > len(page):
                self.problems.append(f"page {page_id}: element {at} ends outside the page")
                break
            keys.append(page[key_at:value_at])
            if flags == BUCKET_FLAG:
                self.bucket(page_id, page[value_at : value_at + value_size], strict=strict)
            elif flags:
                self.problems.append(f"page {page_id}: element {at} has flags {flags:#x}")
        if not keys and not is_root and strict:
            self.problems.append(f"page {page_id}: an empty leaf below a branch")
        self.order(page_id, keys, low, high)
        return keys[0] if keys else None

    def bucket(self, page_id: int, value: bytes, *, strict: bool) -> None:
        if len(value) < BUCKET_HEADER_SIZE:
            self.problems.append(f"page {page_id}: a bucket of {len(value)} bytes")
            return
        bucket = decode_bucket(value)
        if bucket.root:
            self.tree(bucket.root, None, None, is_root=True, strict=strict)
        elif len(bucket.inline) < HEADER_SIZE or bucket.inline[8] != LEAF:
            self.problems.append(f"page {page_id}: an inline bucket that is no leaf")
        else:
            self.leaf(page_id, bucket.inline, None, None, is_root=True, strict=strict)

    def order(self, page_id: int, keys: list[bytes], low: bytes | None, high: bytes | None) -> None:
        in_order = not any(map(ge, keys, keys[1:]))
        for at in range(1, 1 if in_order else len(keys)):
            if keys[at - 1] >= keys[at]:
                self.problems.append(f"page {page_id}: key {keys[at].hex()} after {keys[at - 1].hex()}")
        if keys and low is not None and keys[0] < low:
            self.problems.append(f"page {page_id}: key {keys[0].hex()} before its branch's {low.hex()}")
        if keys and high is not None and keys[-1] >= high:
            self.problems.append(f"page {page_id}: key {keys[-1].hex()} not before the next branch's {high.hex()}")
        if b"" in keys:
            self.problems.append(f"page {page_id}: an empty key")

    def freed(self, spans: list[tuple[int, int]], *, all_must_be: bool) -> None:
        """Free pages: none twice, none reachable; and if so said, every other page reachable."""
        free = bytearray(len(self.reachable))
        for start, length in spans:
            for page_id in range(start, start + length):
                if page_id >= len(free):
                    continue  # allocated and given back by a commit that is still being built
                if free[page_id]:
                    self.problems.append(f"page {page_id}: already freed")
                free[page_id] = 1
                if self.reachable[page_id]:
                    self.problems.append(f"page {page_id}: reachable freed")
        if all_must_be:
            for page_id in range(len(free)):
                if not free[page_id] and not self.reachable[page_id]:
                    self.problems.append(f"page {page_id}: unreachable unfreed")


def _sound_keys(page: bytes) -> list[bytes]:
    """The keys of a leaf whose elements are all plain and inside; none of another, which is to be looked at closely."""
    count = page[10] | page[11] << 8
    size = len(page)
    if HEADER_SIZE + ELEMENT_SIZE * count > size:
        return []
    table = u32_table(4 * count).unpack_from(page, HEADER_SIZE)
    if any(table[0::4]):
        return []
    keys: list[bytes] = []
    element = HEADER_SIZE
    for i in range(1, 4 * count, 4):
        key_at = element + table[i]
        value_at = key_at + table[i + 1]
        if value_at + table[i + 2] > size:
            return []
        keys.append(page[key_at:value_at])
        element += ELEMENT_SIZE
    return keys


def check(view: View, freelist: Freelist | None = None, *, strict: bool = False) -> list[str]:
    """What is wrong with a state, in words; nothing, if all is well.

    `freelist` is the live one of an open database between commits; without it only a stored one is looked at.
    `strict` adds what this writer and bbolt's keep to but bbolt's reader does not need: branches of two children or
    more, each under exactly its first key, and no empty leaves.
    """
    checker = _Checker(view)
    stored: list[int] | None = None
    freelist_page = view.meta.freelist
    if freelist_page != NO_FREELIST:
        offset = freelist_page * view.page_size
        header = view.mapping[offset : offset + HEADER_SIZE]
        length = int.from_bytes(header[12:16], "little") + 1
        checker.use(freelist_page, length)
        page = view.mapping[offset : offset + length * view.page_size]
        try:
            stored = read_freelist_page(view.path, freelist_page, page, view.page_size, view.high_water)
        except CorruptDatabaseError as error:
            checker.problems.append(error.reason)
    checker.tree(view.meta.root, None, None, is_root=True, strict=strict)
    if freelist is not None:
        spans = freelist.spans()
        if sum(length for _, length in spans) != freelist.free_count:
            checker.problems.append(f"{freelist.free_count} free pages counted, other than {spans} hold")
        for freed in freelist.pending:
            spans.extend(freed.spans)
        checker.freed(spans, all_must_be=True)
    elif stored is not None:
        checker.freed([(page_id, 1) for page_id in stored], all_must_be=True)
    return checker.problems
