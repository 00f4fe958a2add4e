"""A file or a folder of the v2 tree, and the heap of those that will expire.

Folders may be nested deeper than Python may recurse: whatever walks a tree
here does it with a list of its own.

Source: etcd v2store/node.go, ttl_key_heap.go.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from balsad.go_json import byte_order
from balsad.v2store.events import NodeView
from balsad.v2store.go_time import NS

PERMANENT: Final = 0


class Node:
    """`children` is None for a file; `expires_ns` is Unix time, PERMANENT when it stays."""

    __slots__ = ("children", "created_index", "expires_ns", "modified_index", "parent", "path", "ttl_entry", "value")

    def __init__(
        self,
        path: str,
        created_index: int,
        parent: Node | None,
        *,
        value: str = "",
        is_dir: bool = False,
        expires_ns: int = PERMANENT,
    ) -> None:
        self.path = path
        self.created_index = created_index
        self.modified_index = created_index
        self.parent = parent
        self.expires_ns = expires_ns
        self.value = value
        self.children: dict[str, Node] | None = {} if is_dir else None
        self.ttl_entry: TtlEntry | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        return self.children is not None

    def ttl_s(self, now_ns: int) -> int:
        """Seconds left, rounded up; 0 for a permanent node."""
        if self.expires_ns == PERMANENT:
            return 0
        return -((now_ns - self.expires_ns) // NS)

    def listing(self, key: str, *, recursive: bool, in_order: bool, now_ns: int) -> NodeView:
        """The node as a get of `key` shows it: with one level of children, or with all."""
        top = self.view(now_ns)
        top.key = key
        if self.children is not None:
            _fill(top, self, recursive=recursive, in_order=in_order, now_ns=now_ns)
        return top

    def view(self, now_ns: int) -> NodeView:
        """The node as events show it, without what is in it."""
        is_dir = self.children is not None
        return NodeView(
            self.path,
            self.modified_index,
            self.created_index,
            value=None if is_dir else self.value,
            is_dir=is_dir,
            expires_ns=self.expires_ns,
            ttl_s=self.ttl_s(now_ns),
        )

    def compare(self, prev_value: str, prev_index: int) -> str:
        """What differs, in etcd's words, or "" when the node has this value and this index ("" and 0 match all)."""
        value_matches = not prev_value or self.value == prev_value
        index_matches = not prev_index or self.modified_index == prev_index
        if value_matches and index_matches:
            return ""
        if value_matches:
            return f"[{prev_index} != {self.modified_index}]"
        if index_matches:
            return f"[{prev_value} != {self.value}]"
        return f"[{prev_value} != {self.value}] [{prev_index} != {self.modified_index}]"


def _view_order(view: NodeView) -> bytes:
    return byte_order(view.key)


def _fill(top: NodeView, node: Node, *, recursive: bool, in_order: bool, now_ns: int) -> None:
    """Give `top` views of the children of `node`, and so on when `recursive`."""
    todo: list[tuple[NodeView, Node]] = [(top, node)]
    while todo:
        view, folder = todo.pop()
        assert folder.children is not None
        nodes: list[NodeView] = []
        for name, child in folder.children.items():
            if name[:1] == "_":
                continue
            if child.children is None and child.expires_ns == PERMANENT:
                nodes.append(NodeView(child.path, child.modified_index, child.created_index, value=child.value))
                continue
            child_view = child.view(now_ns)
            nodes.append(child_view)
            if recursive and child.children is not None:
                todo.append((child_view, child))
        if in_order:
            nodes.sort(key=_view_order)
        view.nodes = nodes


def walk_children_first(top: Node, visit: Callable[[Node], None]) -> None:
    """Visit `top` and all below it, each after its children."""
    found: list[Node] = []
    todo = [top]
    while todo:
        node = todo.pop()
        found.append(node)
        if node.children:
            todo.extend(node.children.values())
    for node in reversed(found):
        visit(node)


class TtlEntry:
    """A node's place in the heap; `node` is None when the place no longer counts."""

    __slots__ = ("expires_ns", "node", "path")

    def __init__(self, node: Node) -> None:
        self.expires_ns = node.expires_ns
        self.path = node.path
        self.node: Node | None = node

    def __lt__(self, other: TtlEntry) -> bool:
        # Two of one moment go in the order of their paths, so that all members agree.
        if self.expires_ns != other.expires_ns:
            return self.expires_ns < other.expires_ns
        return self.path < other.path


class TtlHeap:
    """The nodes that will expire, soonest first.

    Changed and removed nodes leave a dead entry behind, which goes when it
    comes up; when most are dead the heap is built anew.
    """

    __slots__ = ("_entries", "_live")

    def __init__(self) -> None:
        self._entries: list[TtlEntry] = []
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, node: Node) -> None:
        """Add a node, or move it to its new time."""
        self.remove(node)
        entry = TtlEntry(node)
        node.ttl_entry = entry
        self._live += 1
        if len(self._entries) > 2 * self._live + 64:
            self._entries = [one for one in self._entries if one.node is not None]
            heapq.heapify(self._entries)
        heapq.heappush(self._entries, entry)

    def remove(self, node: Node) -> None:
        """Forget a node; one that never expires is none of ours."""
        entry = node.ttl_entry
        if entry is not None:
            entry.node = None
            node.ttl_entry = None
            self._live -= 1

    def soonest(self) -> Node | None:
        entries = self._entries
        while entries:
            node = entries[0].node
            if node is not None:
                return node
            heapq.heappop(entries)
        return None
