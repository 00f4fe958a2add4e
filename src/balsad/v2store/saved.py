"""The v2 tree as the JSON that .snap files and snapshots between members carry.

    {"Root": {"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
              "Children":{"0":{...},"1":{...}}},              null for a file
     "WatcherHub": {"EventHistory": {"Queue": {"Events":[{...},null,...],"Size":1,"Front":0,"Back":1,"Capacity":1000},
                                     "StartIndex":1,"LastIndex":1}},
     "CurrentIndex":1, "Stats":{...}, "CurrentVersion":2}

Byte for byte what etcd writes, on a machine whose time zone is UTC (elsewhere
etcd writes ExpireTime in local time). Who watches is not saved.

A save holds the tree as it was when it began, however long it takes and whatever is written meanwhile: who is about to
change a node, or what is in a folder, lets it keep first what it may not have come to yet.

`recovery` reads it.

Source: etcd v2store/store.go (Save).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from balsad import go_json
from balsad.merge_sort import MergeSort
from balsad.v2store import go_time
from balsad.v2store.events import event_json
from balsad.v2store.node import PERMANENT, Node
from balsad.v2store.store import Store

_SORTED_AT_ONCE: Final = 4096


def save(store: Store) -> bytes:
    """All of the tree but its watchers, in one piece."""
    job = SaveJob(store)
    job.step(sys.maxsize)
    return job.data


class _Folder:
    """A folder whose children are being written."""

    __slots__ = ("is_first", "names", "node")

    def __init__(self, node: Node, names: Iterator[str]) -> None:
        self.node = node
        self.names = names
        self.is_first = True


class SaveJob:
    """Writes a tree in slices. A store's `Keeper` until it has ended or is told to."""

    def __init__(self, store: Store) -> None:
        self.data = b""
        self._store = store
        self._chunks: list[bytes] = []
        self._open: list[_Folder] = []
        # What was there when the save began, of nodes and folders that changed since.
        self._heads: dict[Node, str] = {}
        self._children: dict[Node, dict[str, Node]] = {}
        self._sort: MergeSort[str] | None = None
        self._next: Node | None = store.root
        history = store.hub.history
        self._events = iter(list(history.events))
        self._history = (
            f'],"Size":{history.size},"Front":{history.front},"Back":{history.back},"Capacity":{history.capacity}}},'
            f'"StartIndex":{history.start_index},"LastIndex":{history.last_index}}}}}'
        )
        self._end = (
            f',"CurrentIndex":{store.current_index},"Stats":{store.stats.encode()},"CurrentVersion":{store.version}}}'
        )
        self._separator = '{"Root":'
        self._has_begun_history = False
        store.keepers.append(self)

    def keep(self, node: Node) -> None:
        """`node` is about to change."""
        if node not in self._heads:
            self._heads[node] = _head(node)

    def keep_children(self, folder: Node) -> None:
        """A child of `folder` is about to come or go."""
        if folder not in self._children:
            assert folder.children is not None
            self._children[folder] = dict(folder.children)

    def close(self) -> None:
        """The save has ended, or nobody wants it any more."""
        if self in self._store.keepers:
            self._store.keepers.remove(self)

    @property
    def is_closed(self) -> bool:
        return self not in self._store.keepers

    def step(self, count: int) -> bool:
        """Go on with about `count` nodes; True once `data` is all of it."""
        parts: list[str] = []
        while count > 0:
            if self._sort is not None:
                count -= self._sort_names(self._sort, count)
            elif self._next is not None:
                node, self._next = self._next, None
                count -= 1
                self._write(node, parts)
            elif self._open:
                self._go_on(self._open[-1], parts)
            elif not self._write_event(parts):
                self._chunks.append(_encoded(parts))
                self.data = b"".join(self._chunks)
                self.close()
                return True
            else:
                count -= 1
        self._chunks.append(_encoded(parts))
        return False

    def _children_of(self, node: Node) -> dict[str, Node] | None:
        kept = self._children.get(node)
        return node.children if kept is None else kept

    def _write(self, node: Node, parts: list[str]) -> None:
        """A node as far as its children."""
        parts.append(self._separator)
        parts.append(self._heads.pop(node, "") or _head(node))
        children = self._children_of(node)
        if not children:
            parts.append("null}" if children is None else "{}}")
            return
        parts.append("{")
        if len(children) > _SORTED_AT_ONCE and _goes_by_characters(children):
            # Nobody else has this list.
            self._sort = MergeSort(list(children))
            names: Iterator[str] = iter(())
        else:
            names = iter(sorted(children, key=go_json.byte_order))
        self._open.append(_Folder(node, names))

    def _sort_names(self, sort: MergeSort[str], count: int) -> int:
        count = max(1, min(count, _SORTED_AT_ONCE))
        if sort.step(count):
            self._sort = None
            self._open[-1].names = (name for stretch in sort.stretches for name in stretch)
        # To sort a name is a fraction of what it is to write a node.
        return max(1, count // 4)

    def _go_on(self, folder: _Folder, parts: list[str]) -> None:
        name = next(folder.names, None)
        if name is None:
            parts.append("}}")
            self._open.pop()
            return
        children = self._children_of(folder.node)
        assert children is not None
        self._separator = f"{go_json.quote(name)}:" if folder.is_first else f",{go_json.quote(name)}:"
        folder.is_first = False
        self._next = children[name]

    def _write_event(self, parts: list[str]) -> bool:
        """The next event of the history; False behind the last, when the end was written, too."""
        if not self._has_begun_history:
            parts.append(',"WatcherHub":{"EventHistory":{"Queue":{"Events":[')
        try:
            event = next(self._events)
        except StopIteration:
            parts += [self._history, self._end]
            return False
        if self._has_begun_history:
            parts.append(",")
        self._has_begun_history = True
        parts.append("null" if event is None else event_json(event))
        return True


def _goes_by_characters(names: Iterable[str]) -> bool:
    """Whether they are in the order of their bytes when they are in that of their characters.

    So it is for all text but that with bytes in it that are no UTF-8.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoded(parts: list[str]) -> bytes:
    return "".join(parts).encode("utf-8", "surrogateescape")


def _head(node: Node) -> str:
    expires = go_time.ZERO_TEXT if node.expires_ns == PERMANENT else go_time.format_ns(node.expires_ns)
    return (
        f'{{"Path":{go_json.quote(node.path)},"CreatedIndex":{node.created_index},'
        f'"ModifiedIndex":{node.modified_index},"ExpireTime":"{expires}","Value":{go_json.quote(node.value)},"Children":'
    )
