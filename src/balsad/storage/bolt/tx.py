"""One write transaction: sorted batches of puts and deletes become new pages beside the old ones.

A batch is applied from the root down, one visit to each touched page, and rebuilds what it touched from the leaves up:

    _apply(branch) --> for each touched child: _apply(child)    --> a Run: the new pages that replace the child
                       between them: the untouched children     --> a Run of what was there
                       all joined, packed into branch pages     --> a Run, one level up

A Run is a row of subtrees of equal height. Deletes can leave a Run that is lower than its place (a branch must have at
least two children), so runs of different heights are joined by hanging the lower one into the edge of the higher one:

    join(level 1: [A B C], level 0: [x])  -->  level 1: [A B C'] where C' = the children of C and x

Nothing of the view below is overwritten: replaced pages are only noted, and a page made and dropped again inside the
same transaction goes straight back to the free pages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from balsad.storage.bolt.freelist import Freelist
from balsad.storage.bolt.meta import NO_FREELIST, Meta, encode_meta
from balsad.storage.bolt.page import (
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_SIZE,
    HEADER_SIZE,
    LEAF,
    Branch,
    branch_size,
    decode_leaf,
    encode_branch,
    encode_leaf,
    key_at,
    leaf_flags,
    leaf_size,
    pages_for,
    used_size,
)
from balsad.storage.bolt.tree import BucketRoot, View

FILL_APPEND: Final = 0.9
"""Where a page that overflows is cut when keys only ever grow, as etcd asks for in the `key` bucket."""
FILL_DEFAULT: Final = 0.5
KEYS_PER_PAGE_MIN: Final = 2
"""bbolt never cuts a page with fewer keys than twice this, so that large values share overflow pages."""
_LARGE_PAGES: Final = 8
"""A leaf of so many pages is cut after any key: it would only be copied around, and wastes little."""


class Run:
    """A row of subtrees of height `level` (0: leaves): their first keys and pages."""

    __slots__ = ("keys", "level", "pages", "shrunk")

    def __init__(self, level: int, keys: list[bytes], pages: list[int]) -> None:
        self.level = level
        self.keys = keys
        self.pages = pages
        self.shrunk = False  # deletes left a single page that is nearly empty


class WriteTx:
    """Builds the pages of the transaction after `view`. One at a time, and the only one to touch the freelist."""

    __slots__ = (
        "_fill",
        "_freelist",
        "_leaf_flags",
        "_merge_below",
        "_to_encode",
        "branches",
        "buckets",
        "freed",
        "high_water",
        "leaves",
        "meta",
        "page_size",
        "txid",
        "view",
    )

    def __init__(self, view: View, freelist: Freelist) -> None:
        self.view = view
        self.page_size = view.page_size
        self.txid = view.txid + 1
        self.high_water = view.high_water
        self.buckets: dict[bytes, BucketRoot] = dict(view.buckets)
        self.leaves: dict[int, bytes] = {}  # new pages, encoded
        self.branches: dict[int, Branch] = {}  # new branch pages, decoded; `encode` puts them among the leaves
        self.freed: list[tuple[int, int]] = []  # spans of the view that the new state does not reach
        self.meta = view.meta
        self._freelist = freelist
        self._fill = FILL_DEFAULT
        self._leaf_flags = 0
        self._merge_below = view.page_size // 4
        self._to_encode: list[int] = []

    # ---- pages

    def _allocate(self, count: int) -> int:
        start = self._freelist.take(count)
        if start == 0:
            start = self.high_water
            self.high_water += count
        self._freelist.allocated(start)
        return start

    def _free(self, page_id: int) -> None:
        """Give up a page of the view, or one that this transaction made."""
        new = self.leaves.pop(page_id, None)
        if new is not None:
            self._freelist.add(page_id, len(new) // self.page_size)
            return
        branch = self.branches.pop(page_id, None)
        if branch is not None:
            self._freelist.add(page_id, pages_for(branch_size(branch.keys), self.page_size))
            return
        self.freed.append((page_id, len(self.view.page(page_id)) // self.page_size))

    def _page(self, page_id: int) -> bytes:
        new = self.leaves.get(page_id)
        return new if new is not None else self.view.page(page_id)

    def _branch(self, page_id: int) -> Branch:
        new = self.branches.get(page_id)
        return new if new is not None else self.view.branch(page_id)

    def _is_branch(self, page_id: int) -> bool:
        if page_id in self.branches:
            return True
        if page_id in self.leaves:
            return False
        return page_id in self.view.branches or self.view.page(page_id)[8] != LEAF

    def _level(self, page_id: int) -> int:
        level = 0
        while self._is_branch(page_id):
            page_id = self._branch(page_id).pages[0]
            level += 1
        return level

    # ---- building

    def _put_leaves(self, keys: list[bytes], values: list[bytes]) -> Run:
        """Leaves with these items, cut as bbolt cuts them."""
        page_size = self.page_size
        run = Run(0, [], [])
        count = len(keys)
        if count == 0:
            return run
        sizes = [len(keys[i]) + len(values[i]) + ELEMENT_SIZE for i in range(count)]
        left = sum(sizes) + HEADER_SIZE  # bytes of one leaf with all that is left
        large = page_size * _LARGE_PAGES
        threshold = self._threshold()
        start = 0
        while start < count:
            end = start
            size = HEADER_SIZE
            if left <= page_size or (count - start <= 2 * KEYS_PER_PAGE_MIN and left <= large):
                end = count
                size = left
            else:
                while end < count:
                    item = sizes[end]
                    taken = end - start
                    if taken and size + item > threshold and (taken >= KEYS_PER_PAGE_MIN or size + item > large):
                        break
                    size += item
                    end += 1
            page_id = self._allocate(pages_for(size, page_size))
            self.leaves[page_id] = encode_leaf(page_id, keys[start:end], values[start:end], self._leaf_flags, page_size)
            run.keys.append(keys[start])
            run.pages.append(page_id)
            left -= size - HEADER_SIZE
            start = end
        return run

    def _put_branches(self, keys: list[bytes], pages: list[int], level: int) -> Run:
        """Branches of height `level` over these (two or more) children, each with two or more of them."""
        page_size = self.page_size
        run = Run(level, [], [])
        count = len(keys)
        left = branch_size(keys)
        threshold = self._threshold()
        start = 0
        while start < count:
            end = start
            size = HEADER_SIZE
            if left <= page_size or count - start <= 3:
                end = count
                size = left
            else:
                while end < count - 2:  # never leave a lone child over
                    item = len(keys[end]) + ELEMENT_SIZE
                    if end - start >= 2 and size + item > threshold:
                        break
                    size += item
                    end += 1
            page_id = self._allocate(pages_for(size, page_size))
            self.branches[page_id] = Branch(keys[start:end], pages[start:end])
            run.keys.append(keys[start])
            run.pages.append(page_id)
            left -= size - HEADER_SIZE
            start = end
        return run

    def _open(self, page_id: int, level: int) -> Run:
        """The children of a branch of height `level`; the branch itself is given up."""
        branch = self._branch(page_id)
        self._free(page_id)
        return Run(level - 1, list(branch.keys), list(branch.pages))

    def _join(self, left: Run, right: Run) -> Run:
        """One run of both; as high as the higher, which keeps all its branches at two children or more."""
        if not left.pages:
            return right
        if not right.pages:
            return left
        if left.level == right.level:
            small = right.pages[0] if right.shrunk else left.pages[0] if left.shrunk else 0
            left.keys.extend(right.keys)
            left.pages.extend(right.pages)
            left.shrunk = False
            if small:
                self._merge(left, small)
                left.shrunk = len(left.pages) == 1 and self._used(left.pages[0]) < self._merge_below
            return left
        if left.level > right.level:
            left.keys.pop()
            inner = self._join(self._open(left.pages.pop(), left.level), right)
            edge = self._put_branches(inner.keys, inner.pages, left.level)
            left.keys.extend(edge.keys)
            left.pages.extend(edge.pages)
            return left
        right.keys.pop(0)
        inner = self._join(left, self._open(right.pages.pop(0), right.level))
        edge = self._put_branches(inner.keys, inner.pages, right.level)
        edge.keys.extend(right.keys)
        edge.pages.extend(right.pages)
        return edge

    # ---- changing

    def _apply(
        self, page_id: int, level: int, keys: list[bytes], values: list[bytes | None], start: int, end: int
    ) -> Run:
        """What replaces a subtree after changes `start` to `end` - 1: a run of its height or lower."""
        if level == 0:
            return self._apply_to_leaf(page_id, keys, values, start, end)
        branch = self._branch(page_id)
        child_keys = branch.keys
        child_pages = branch.pages
        child_count = len(child_pages)
        run = Run(level - 1, [], [])
        child = 0
        while start < end:
            at = bisect_right(child_keys, keys[start], child) - 1
            if at < child:
                at = child
            cut = bisect_left(keys, child_keys[at + 1], start, end) if at + 1 < child_count else end
            if at > child:
                run = self._join(run, Run(level - 1, child_keys[child:at], child_pages[child:at]))
            run = self._join(run, self._apply(child_pages[at], level - 1, keys, values, start, cut))
            child = at + 1
            start = cut
        if child < child_count:
            run = self._join(run, Run(level - 1, child_keys[child:], child_pages[child:]))
        self._free(page_id)
        if run.level < level - 1 or len(run.pages) < 2:
            return run
        packed = self._put_branches(run.keys, run.pages, level)
        if len(packed.pages) == 1 and len(run.pages) < child_count:
            packed.shrunk = branch_size(run.keys) < self._merge_below
        return packed

    def _apply_to_leaf(self, page_id: int, keys: list[bytes], values: list[bytes | None], start: int, end: int) -> Run:
        page = self._page(page_id)
        count = page[10] | page[11] << 8
        if self._leaf_flags == 0 and any(leaf_flags(page)):
            raise self.view.broken(page_id, "plain keys in a bucket that is written to", "a bucket inside it")
        if count == 0 or keys[start] > key_at(page, count - 1):
            return self._append_to_leaf(page_id, page, keys, values, start, end)
        leaf_keys, leaf_values = decode_leaf(page)
        self._free(page_id)
        at = 0
        for i in range(start, end):
            key = keys[i]
            value = values[i]
            at = bisect_left(leaf_keys, key, at)
            if at < len(leaf_keys) and leaf_keys[at] == key:
                if value is None:
                    del leaf_keys[at]
                    del leaf_values[at]
                else:
                    leaf_values[at] = value
            elif value is not None:
                leaf_keys.insert(at, key)
                leaf_values.insert(at, value)
        run = self._put_leaves(leaf_keys, leaf_values)
        if len(run.pages) == 1 and len(leaf_keys) < count:
            run.shrunk = used_size(self.leaves[run.pages[0]]) < self._merge_below
        return run

    def _append_to_leaf(
        self, page_id: int, page: bytes, keys: list[bytes], values: list[bytes | None], start: int, end: int
    ) -> Run:
        """The changes all come after the leaf's keys; a leaf that has no room for more stays as it is."""
        new_keys: list[bytes] = []
        new_values: list[bytes] = []
        for i in range(start, end):
            value = values[i]
            if value is not None:
                new_keys.append(keys[i])
                new_values.append(value)
        count = page[10] | page[11] << 8
        if count:
            size = used_size(page)
            full = not new_keys or size + leaf_size(new_keys[:1], new_values[:1]) - HEADER_SIZE > self.page_size
            if full and (not new_keys or count >= 2 * KEYS_PER_PAGE_MIN or size > self.page_size * _LARGE_PAGES):
                run = Run(0, [key_at(page, 0)], [page_id])
                return self._join(run, self._put_leaves(new_keys, new_values))
        leaf_keys, leaf_values = decode_leaf(page)
        self._free(page_id)
        return self._put_leaves(leaf_keys + new_keys, leaf_values + new_values)

    def _threshold(self) -> int:
        return int(self.page_size * self._fill)

    def _used(self, page_id: int) -> int:
        branch = self.branches.get(page_id)
        return branch_size(branch.keys) if branch is not None else used_size(self._page(page_id))

    def _merge(self, run: Run, page_id: int) -> None:
        """Put a nearly empty page of the run together with a neighbour, when both fit into one page."""
        at = run.pages.index(page_id)
        if at == 0:
            at = 1
        if at >= len(run.pages):
            return
        left, right = run.pages[at - 1], run.pages[at]
        if self._used(left) + self._used(right) - HEADER_SIZE > self.page_size:
            return
        if run.level == 0:
            keys, values = decode_leaf(self._page(left))
            more_keys, more_values = decode_leaf(self._page(right))
            self._free(left)
            self._free(right)
            merged = self._put_leaves(keys + more_keys, values + more_values)
        else:
            children = self._join(self._open(left, run.level), self._open(right, run.level))
            merged = self._put_branches(children.keys, children.pages, run.level)
        run.keys[at - 1 : at + 1] = merged.keys
        run.pages[at - 1 : at + 1] = merged.pages

    def _root_of(self, run: Run) -> int:
        """The page of a tree over the run; an empty leaf when there is nothing in it."""
        while len(run.pages) > 1:
            run = self._put_branches(run.keys, run.pages, run.level + 1)
        if run.pages:
            return run.pages[0]
        page_id = self._allocate(1)
        self.leaves[page_id] = encode_leaf(page_id, [], [], 0, self.page_size)
        return page_id

    # ---- the face

    def create_bucket(self, name: bytes) -> None:
        """Make an empty bucket, unless there is one."""
        if name not in self.buckets:
            self.buckets[name] = BucketRoot(0, 0, encode_leaf(0, [], [], 0, 0))

    def delete_bucket(self, name: bytes) -> None:
        """Drop a bucket with all that is in it."""
        bucket = self.buckets.pop(name)
        if bucket.root:
            self._free_tree(bucket.root)

    def _free_tree(self, root: int) -> None:
        stack = [root]
        while stack:
            page_id = stack.pop()
            if self._is_branch(page_id):
                stack.extend(self._branch(page_id).pages)
            self._free(page_id)

    def is_append(self, name: bytes, key: bytes) -> bool:
        """Whether a key comes after all of the bucket's."""
        page_id = self.buckets[name].root
        if page_id == 0:
            return False
        while self._is_branch(page_id):
            page_id = self._branch(page_id).pages[-1]
        page = self._page(page_id)
        count = page[10] | page[11] << 8
        return count == 0 or key > key_at(page, count - 1)

    def update(
        self, name: bytes, keys: list[bytes], values: list[bytes | None], start: int, end: int, fill: float
    ) -> None:
        """Apply the changes `start` to `end` - 1 (ascending keys; a value of None deletes) to a bucket."""
        bucket = self.buckets[name]
        self._fill = fill
        if bucket.root == 0:
            inline_keys, inline_values = decode_leaf(bucket.inline)
            root = self._root_of(self._put_leaves(inline_keys, inline_values))
        else:
            root = bucket.root
        root = self._root_of(self._apply(root, self._level(root), keys, values, start, end))
        self.buckets[name] = BucketRoot(root, bucket.sequence, b"")

    def settle(self, name: bytes) -> None:
        """After a bucket's last change: a small one moves into the root leaf, as bbolt keeps it."""
        bucket = self.buckets[name]
        page = self.leaves.get(bucket.root)
        if page is not None:
            size = used_size(page)
            if size <= self.page_size // 4:
                self._free(bucket.root)
                self.buckets[name] = BucketRoot(0, bucket.sequence, bytes(8) + page[8:size])

    def seal(self) -> None:
        """Build the root bucket and the meta. Nothing may be changed after, `encode` has to follow."""
        self._fill = FILL_DEFAULT
        self._free_tree(self.meta.root)
        names = sorted(self.buckets)
        values: list[bytes] = []
        for name in names:
            bucket = self.buckets[name]
            values.append(BUCKET_HEADER.pack(bucket.root, bucket.sequence) + bucket.inline)
        self._leaf_flags = BUCKET_FLAG
        root = self._root_of(self._put_leaves(names, values))
        freelist = self.meta.freelist
        if freelist != NO_FREELIST:
            overflow = self._freelist_pages(freelist)
            self.freed.append((freelist, overflow))
        self.meta = Meta(
            page_size=self.page_size,
            root=root,
            sequence=self.meta.sequence,
            freelist=NO_FREELIST,
            high_water=self.high_water,
            txid=self.txid,
        )
        self._to_encode = list(self.branches)

    def encode(self, limit: int) -> bool:
        """After `seal`: encode up to `limit` branches more. True when that was the last."""
        for page_id in self._to_encode[-limit:]:
            branch = self.branches[page_id]
            self.leaves[page_id] = encode_branch(page_id, branch.keys, branch.pages, self.page_size)
        del self._to_encode[-limit:]
        return not self._to_encode

    def _freelist_pages(self, page_id: int) -> int:
        offset = page_id * self.page_size
        header = self.view.mapping[offset : offset + HEADER_SIZE]
        return int.from_bytes(header[12:16], "little") + 1

    def writes(self) -> list[tuple[int, list[bytes]]]:
        """After `encode`: offset and adjoining pages of every write but the meta's, ascending."""
        writes: list[tuple[int, list[bytes]]] = []
        next_page = -1
        for page_id in sorted(self.leaves):
            page = self.leaves[page_id]
            if page_id == next_page and len(writes[-1][1]) < 1000:
                writes[-1][1].append(page)
            else:
                writes.append((page_id * self.page_size, [page]))
            next_page = page_id + len(page) // self.page_size
        return writes

    def meta_page(self) -> tuple[int, bytes]:
        """After `encode`: offset and bytes of the meta page, to be written when all else is on disk."""
        page_id = self.txid & 1
        return page_id * self.page_size, encode_meta(page_id, self.meta, self.txid)
