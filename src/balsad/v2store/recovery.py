"""Reading a saved v2 tree: the JSON that `saved` describes, node by node.

    {"Root": node, "WatcherHub": ...}     {"Path":...,"Children": null}     a file
       |      (a slice at a time)         {"Path":...,"Children":{          a folder, and
       v                                     "name": node, ...}}            what is in it
    the rest, in one piece

What etcd and this server write is gone through as text, as deep as it is, so that a hundred thousand nodes keep
nobody waiting. JSON in any other form is read as such, in one piece.

Source: etcd v2store/store.go (Recovery).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from balsad.v2store import deep_json, go_time
from balsad.v2store.event_history import EventHistory
from balsad.v2store.events import Event, NodeView
from balsad.v2store.node import PERMANENT, Node, TtlHeap
from balsad.v2store.stats import Stats
from balsad.v2store.store import Store

Fields: TypeAlias = dict[str, object]
_EMPTY: Final[Fields] = {}

_TEXT: Final = r'"([^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"'
_NODE: Final = (
    rf'{{"Path":{_TEXT},"CreatedIndex":(0|[1-9][0-9]{{0,18}}),"ModifiedIndex":(0|[1-9][0-9]{{0,18}}),'
    rf'"ExpireTime":{_TEXT},"Value":{_TEXT},"Children":(null}}|{{)'
)
_ROOT: Final = re.compile(rf'{{"Root":{_NODE}')
_CHILD: Final = re.compile(rf"{_TEXT}:{_NODE}")
_AT_ONCE: Final = 10_000


class SavedStoreError(ValueError):
    """The bytes are not a saved v2 tree; says where and what."""


def recover(store: Store, data: bytes) -> None:
    """Make `store` what was saved; its watchers and counters stay. Raises SavedStoreError, and then changes nothing."""
    job = RecoveryJob(data)
    while not job.step(_AT_ONCE):
        pass
    job.hand_over(store)


class OldTree:
    """A tree that is of no use any more. Its nodes know their folders: nothing of it goes by itself."""

    def __init__(self, root: Node) -> None:
        self._nodes = [root]

    def shed(self, count: int) -> int:
        """Let go of up to `count` nodes; gives of how many."""
        nodes = self._nodes
        shed = 0
        while nodes and shed < count:
            node = nodes.pop()
            node.parent = None
            if node.children:
                nodes.extend(node.children.values())
                node.children = None
            shed += 1
        return shed


class RecoveryJob:
    """Reads a saved tree in slices, into nodes of its own."""

    def __init__(self, data: bytes) -> None:
        self._text = data.decode("utf-8", "replace")
        self._place = 0
        self._heap = TtlHeap()
        # The folders that are open, the root first; none before it was found and when all is read.
        self._open: list[Node] = []
        self._root: Node | None = None
        self._rest: Fields = {}
        self._current_index = 0
        self._version = 0
        self._history = EventHistory()
        self._stats = Stats()

    def step(self, count: int) -> bool:
        """Go on with `count` nodes; True once all is read. Raises: SavedStoreError."""
        try:
            if self._root is None:
                self._begin()
            ended = self._read_some(count)
        except _OtherFormError:
            self._read_at_once()
            return True
        if not ended:
            return False
        # Behind the root comes a comma and the rest of the object, or its end.
        rest = self._text[self._place :]
        fields = _parse("{" + rest.removeprefix(","))
        if (rest[:1] == ",") != bool(fields) or "Root" in fields:
            self._read_at_once()
            return True
        self._text = ""
        self._read_rest(fields)
        return True

    def hand_over(self, store: Store) -> OldTree:
        """Make `store` what was read; gives the tree that it had."""
        root = self._root
        assert root is not None
        before = OldTree(store.root)
        store.replace_tree(root, self._heap, self._current_index)
        store.version = self._version
        store.hub.history = self._history
        store.stats = self._stats
        return before

    def _begin(self) -> None:
        match = _ROOT.match(self._text)
        if match is None or match[6] != "{":
            raise _OtherFormError
        self._root = root = _node_of(match.groups(), None, self._heap)
        root.children = {}
        self._open = [root]
        self._place = match.end()

    def _read_some(self, count: int) -> bool:
        """Read `count` nodes or a few more; True when the root has ended."""
        text, place, heap, folders = self._text, self._place, self._heap, self._open
        read_child = _CHILD.match
        while folders:
            char = text[place : place + 1]
            if char == "}":
                # The end of the children, and of their folder.
                if text[place + 1 : place + 2] != "}":
                    raise _OtherFormError
                place += 2
                folders.pop()
                continue
            if count <= 0:
                self._place = place
                return False
            if char == ",":
                place += 1
            match = read_child(text, place)
            folder = folders[-1]
            children = folder.children
            if match is None or children is None or (char == ",") != bool(children):
                raise _OtherFormError
            name, *fields = match.groups()
            node = _node_of(fields, folder, heap)
            children[_unquoted(name)] = node
            place = match.end()
            if fields[5] == "{":
                node.children = {}
                folders.append(node)
            count -= 1
        self._place = place
        return True

    def _read_at_once(self) -> None:
        top = _parse(self._text)
        self._text = ""
        self._heap = TtlHeap()
        root = _read_nodes(_fields(top.get("Root"), "Root"), self._heap)
        if root.children is None:
            raise SavedStoreError("Root: expected a folder, found a file")
        self._root = root
        self._read_rest(top)

    def _read_rest(self, top: Fields) -> None:
        self._current_index = _number(top, "CurrentIndex", "v2 tree")
        self._version = _number(top, "CurrentVersion", "v2 tree")
        hub = _fields(top.get("WatcherHub", _EMPTY), "WatcherHub")
        self._history = _read_history(_fields(hub.get("EventHistory", _EMPTY), "WatcherHub.EventHistory"))
        try:
            self._stats = Stats.decode(_fields(top.get("Stats", _EMPTY), "Stats"))
        except ValueError as error:
            raise SavedStoreError(str(error)) from error


class _OtherFormError(Exception):
    """It is not written as etcd writes it; it may be JSON all the same."""


def _unquoted(text: str) -> str:
    """What stands between the quotes of a JSON string."""
    if "\\" not in text:
        return text
    try:
        value: str = json.loads(f'"{text}"')
    except ValueError:
        raise _OtherFormError from None
    return value


def _node_of(fields: Sequence[str], parent: Node | None, heap: TtlHeap) -> Node:
    """A node from what `_NODE` found."""
    path, created, modified, expires, value, _ = fields
    node = Node(_unquoted(path), int(created), parent, value=_unquoted(value))
    node.modified_index = int(modified)
    if expires != go_time.ZERO_TEXT:
        try:
            node.expires_ns = go_time.parse_ns(_unquoted(expires)) if expires else PERMANENT
        except ValueError:
            raise _OtherFormError from None
        if node.expires_ns != PERMANENT:
            heap.push(node)
    return node


def _parse(text: str) -> Fields:
    try:
        value = deep_json.loads(text)
    except ValueError as error:
        raise SavedStoreError(f"v2 tree: expected JSON: {error}") from error
    return _fields(value, "v2 tree")


def _fields(value: object, place: str) -> Fields:
    if not isinstance(value, dict):
        raise SavedStoreError(f"{place}: expected an object, found {_shortened(value)}")
    return value


def _number(fields: Fields, name: str, place: str) -> int:
    value = fields.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SavedStoreError(f"{place}.{name}: expected a number, found {_shortened(value)}")
    return value


def _string(fields: Fields, name: str, place: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise SavedStoreError(f"{place}.{name}: expected a string, found {_shortened(value)}")
    return value


def _moment(fields: Fields, name: str, place: str) -> int:
    text = _string(fields, name, place)
    try:
        return go_time.parse_ns(text) if text else PERMANENT
    except ValueError as error:
        raise SavedStoreError(f"{place}.{name}: {error}") from error


def _shortened(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _read_nodes(top: Fields, heap: TtlHeap) -> Node:
    root = _read_node(top, None, heap)
    todo: list[tuple[Fields, Node]] = [(top, root)]
    while todo:
        fields, node = todo.pop()
        saved = fields.get("Children")
        if saved is None:
            continue
        node.children = {}
        for name, value in _fields(saved, f"{node.path} Children").items():
            child_fields = _fields(value, f"{node.path} Children.{name}")
            child = _read_node(child_fields, node, heap)
            node.children[name] = child
            todo.append((child_fields, child))
    return root


def _read_node(fields: Fields, parent: Node | None, heap: TtlHeap) -> Node:
    path = _string(fields, "Path", "node")
    node = Node(
        path,
        _number(fields, "CreatedIndex", path),
        parent,
        value=_string(fields, "Value", path),
        expires_ns=_moment(fields, "ExpireTime", path),
    )
    node.modified_index = _number(fields, "ModifiedIndex", path)
    if node.expires_ns != PERMANENT:
        heap.push(node)
    return node


def _read_history(fields: Fields) -> EventHistory:
    place = "WatcherHub.EventHistory"
    queue = _fields(fields.get("Queue", _EMPTY), f"{place}.Queue")
    saved = queue.get("Events", [])
    capacity = _number(queue, "Capacity", place)
    if not isinstance(saved, list) or len(saved) != capacity or capacity < 1:
        raise SavedStoreError(f"{place}.Queue.Events: expected an array of Capacity events")
    history = EventHistory(capacity)
    history.events = [None if item is None else _read_event(_fields(item, place)) for item in saved]
    history.size = _number(queue, "Size", place)
    history.front = _number(queue, "Front", place)
    history.back = _number(queue, "Back", place)
    history.start_index = _number(fields, "StartIndex", place)
    history.last_index = _number(fields, "LastIndex", place)
    ring_is_sound = (
        0 <= history.front < capacity
        and 0 <= history.back < capacity
        and history.back == (history.front + history.size) % capacity
        and all(history.events[(history.front + i) % capacity] is not None for i in range(min(history.size, capacity)))
        and history.size <= capacity
    )
    if not ring_is_sound:
        raise SavedStoreError(
            f"{place}.Queue: Size {history.size}, Front {history.front} and Back {history.back} do not fit its events"
        )
    return history


def _read_event(fields: Fields) -> Event:
    place = "WatcherHub.EventHistory.Queue.Events"
    node = fields.get("node")
    prev_node = fields.get("prevNode")
    return Event(
        _string(fields, "action", place),
        _read_view(_fields(node, f"{place} node")),
        prev_node=None if prev_node is None else _read_view(_fields(prev_node, f"{place} prevNode")),
        is_refresh=fields.get("refresh") is True,
    )


def _read_view(fields: Fields) -> NodeView:
    """A node of an event; those of the history have no children."""
    place = "WatcherHub.EventHistory.Queue.Events"
    return NodeView(
        _string(fields, "key", place),
        _number(fields, "modifiedIndex", place),
        _number(fields, "createdIndex", place),
        value=_string(fields, "value", place) if "value" in fields else None,
        is_dir=fields.get("dir") is True,
        expires_ns=_moment(fields, "expiration", place),
        ttl_s=_number(fields, "ttl", place),
    )
