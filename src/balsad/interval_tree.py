"""Half-open ranges of bytes: which of many hold a key, or touch another range.

A range is written as on the wire, `(key, end)`:

    end = b""      the key alone
    end = b"\\0"    every key >= key (no end)
    else           key <= k < end; nothing at all when end <= key

The tree is an AVL tree sorted by (start, end); every node knows the highest end
below it, so a search leaves out what ends too early. With a=[1,4), b=[2,9), c=[5,6):

        b [2,9) highest 9
       /                 \\
    a [1,4) highest 4   c [5,6) highest 6

`stab(5)` takes b and c, and never looks at a: nothing there ends after 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

OPEN_END: Final = b"\0"


class _Node(Generic[V]):
    __slots__ = ("end", "height", "highest", "highest_open", "is_open", "left", "right", "start", "value")

    def __init__(self, start: bytes, end: bytes, is_open: bool, value: V) -> None:
        self.start = start
        self.end = end
        self.is_open = is_open
        self.value = value
        self.height = 1
        self.highest = end
        self.highest_open = is_open
        self.left: _Node[V] | None = None
        self.right: _Node[V] | None = None


def _bounds(key: bytes, end: bytes) -> tuple[bytes, bytes, bool]:
    """Start, exclusive end, and whether there is no end."""
    if end == b"":
        return key, key + b"\0", False
    if end == OPEN_END:
        return key, b"", True
    return key, end, False


def _height(node: _Node[V] | None) -> int:
    return 0 if node is None else node.height


def _refresh(node: _Node[V]) -> None:
    left, right = node.left, node.right
    node.height = 1 + max(_height(left), _height(right))
    highest, is_open = node.end, node.is_open
    for child in (left, right):
        if child is not None:
            is_open = is_open or child.highest_open
            if child.highest > highest:
                highest = child.highest
    node.highest, node.highest_open = highest, is_open


def _rotate_right(node: _Node[V]) -> _Node[V]:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    _refresh(node)
    _refresh(top)
    return top


def _rotate_left(node: _Node[V]) -> _Node[V]:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    _refresh(node)
    _refresh(top)
    return top


def _balance(node: _Node[V]) -> _Node[V]:
    _refresh(node)
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        assert node.left is not None
        if _height(node.left.left) < _height(node.left.right):
            node.left = _rotate_left(node.left)
        return _rotate_right(node)
    if lean < -1:
        assert node.right is not None
        if _height(node.right.right) < _height(node.right.left):
            node.right = _rotate_right(node.right)
        return _rotate_left(node)
    return node


def _before(start: bytes, end: bytes, is_open: bool, node: _Node[V]) -> bool:
    """Whether the range sorts before the node's: by start, then by end, no end last."""
    if start != node.start:
        return start < node.start
    if is_open or node.is_open:
        return node.is_open and not is_open
    return end < node.end


class IntervalTree(Generic[V]):
    """A value per range; ranges may overlap. Insert, remove and searches are O(log n + found)."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[V] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        self._root = None
        self._size = 0

    def get(self, key: bytes, end: bytes) -> V | None:
        """The value of exactly this range."""
        node = self._find(key, end)
        return None if node is None else node.value

    def insert(self, key: bytes, end: bytes, value: V) -> None:
        """Give the range this value, in place of any it had."""
        node = self._find(key, end)
        if node is not None:
            node.value = value
            return
        start, stop, is_open = _bounds(key, end)
        self._root = self._insert(self._root, _Node(start, stop, is_open, value))
        self._size += 1

    def remove(self, key: bytes, end: bytes) -> bool:
        """Forget the range; False when it was not there."""
        if self._find(key, end) is None:
            return False
        start, stop, is_open = _bounds(key, end)
        assert self._root is not None
        self._root = self._remove(self._root, start, stop, is_open)
        self._size -= 1
        return True

    def stab(self, key: bytes) -> list[V]:
        """Values of all ranges that hold `key`, in the order of the ranges."""
        found: list[V] = []
        if self._root is not None:
            self._collect(self._root, key, key, True, False, found)
        return found

    def intersect(self, key: bytes, end: bytes) -> list[V]:
        """Values of all ranges that have a key in common with this one, in the order of the ranges."""
        start, stop, is_open = _bounds(key, end)
        found: list[V] = []
        if self._root is not None and (is_open or start < stop):
            self._collect(self._root, start, stop, False, is_open, found)
        return found

    def covers(self, key: bytes, end: bytes) -> bool:
        """Whether the ranges together hold every key of this one; an empty one is not covered."""
        start, stop, is_open = _bounds(key, end)
        if not is_open and start >= stop:
            return False
        reach = start
        # Only ranges that touch it matter, and they come sorted by start.
        for other_start, other_end, other_open in self._touching(start, stop, is_open):
            if other_start > reach:
                return False
            if other_open:
                return True
            reach = max(reach, other_end)
            if not is_open and reach >= stop:
                return True
        return False

    def items(self) -> Iterator[tuple[bytes, bytes, V]]:
        """All ranges in order as (start, exclusive end, value); b"" where there is no end."""
        stack: list[_Node[V]] = []
        node = self._root
        while node is not None or stack:
            while node is not None:
                stack.append(node)
                node = node.left
            node = stack.pop()
            yield node.start, node.end, node.value
            node = node.right

    def _find(self, key: bytes, end: bytes) -> _Node[V] | None:
        start, stop, is_open = _bounds(key, end)
        node = self._root
        while node is not None:
            if node.start == start and node.end == stop and node.is_open == is_open:
                return node
            node = node.left if _before(start, stop, is_open, node) else node.right
        return None

    def _insert(self, node: _Node[V] | None, new: _Node[V]) -> _Node[V]:
        if node is None:
            return new
        if _before(new.start, new.end, new.is_open, node):
            node.left = self._insert(node.left, new)
        else:
            node.right = self._insert(node.right, new)
        return _balance(node)

    def _remove(self, node: _Node[V], start: bytes, stop: bytes, is_open: bool) -> _Node[V] | None:
        if node.start == start and node.end == stop and node.is_open == is_open:
            if node.left is None:
                return node.right
            if node.right is None:
                return node.left
            heir = node.right
            while heir.left is not None:
                heir = heir.left
            rest = self._remove(node.right, heir.start, heir.end, heir.is_open)
            heir.left, heir.right = node.left, rest
            return _balance(heir)
        if _before(start, stop, is_open, node):
            assert node.left is not None
            node.left = self._remove(node.left, start, stop, is_open)
        else:
            assert node.right is not None
            node.right = self._remove(node.right, start, stop, is_open)
        return _balance(node)

    def _collect(
        self, node: _Node[V], start: bytes, stop: bytes, stop_included: bool, is_open: bool, found: list[V]
    ) -> None:
        left = node.left
        if left is not None and (left.highest_open or left.highest > start):
            self._collect(left, start, stop, stop_included, is_open, found)
        if not (is_open or node.start < stop or (stop_included and node.start == stop)):
            return  # it and all to its right begin too late
        if node.is_open or (node.end > start and node.end > node.start):
            found.append(node.value)
        right = node.right
        if right is not None and (right.highest_open or right.highest > start):
            self._collect(right, start, stop, stop_included, is_open, found)

    def _touching(self, start: bytes, stop: bytes, is_open: bool) -> Iterator[tuple[bytes, bytes, bool]]:
        """Ranges that begin before the stop and do not end before the start, by start."""
        stack: list[_Node[V]] = []
        node = self._root
        while node is not None or stack:
            while node is not None:
                stack.append(node)
                left = node.left
                node = left if left is not None and (left.highest_open or left.highest >= start) else None
            node = stack.pop()
            if not (is_open or node.start < stop):
                return
            if node.is_open or (node.end > start and node.end > node.start):
                yield node.start, node.end, node.is_open
            node = node.right
