"""The v2 tree as the JSON that .snap files and snapshots between members carry.

    {"Root": {"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
              "Children":{"0":{...},"1":{...}}},              null for a file
     "WatcherHub": {"EventHistory": {"Queue": {"Events":[{...},null,...],"Size":1,"Front":0,"Back":1,"Capacity":1000},
                                     "StartIndex":1,"LastIndex":1}},
     "CurrentIndex":1, "Stats":{...}, "CurrentVersion":2}

Byte for byte what etcd writes, on a machine whose time zone is UTC (elsewhere
etcd writes ExpireTime in local time). Who watches is not saved.

Source: etcd v2store/store.go (Save, Recovery).
"""

from __future__ import annotations

import json
from typing import Final, TypeAlias

from balsad import go_json
from balsad.v2store import deep_json, go_time
from balsad.v2store.event_history import EventHistory
from balsad.v2store.events import Event, NodeView, event_json
from balsad.v2store.node import PERMANENT, Node, TtlHeap
from balsad.v2store.stats import Stats
from balsad.v2store.store import Store

Fields: TypeAlias = dict[str, object]
_EMPTY: Final[Fields] = {}


class SavedStoreError(ValueError):
    """The bytes are not a saved v2 tree; says where and what."""


def save(store: Store) -> bytes:
    """All of the tree but its watchers."""
    history = store.hub.history
    events = ",".join(["null" if event is None else event_json(event) for event in history.events])
    parts = ['{"Root":']
    _write_nodes(store.root, parts)
    parts += [
        f',"WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[{events}],"Size":{history.size},'
        f'"Front":{history.front},"Back":{history.back},"Capacity":{history.capacity}}},'
        f'"StartIndex":{history.start_index},"LastIndex":{history.last_index}}}}}',
        f',"CurrentIndex":{store.current_index},"Stats":{store.stats.encode()},"CurrentVersion":{store.version}}}',
    ]
    return "".join(parts).encode("utf-8", "surrogateescape")


def _write_nodes(root: Node, parts: list[str]) -> None:
    quote = go_json.quote
    todo: list[tuple[str, Node | None]] = [("", root)]
    while todo:
        text, node = todo.pop()
        parts.append(text)
        if node is None:
            continue
        expires = go_time.ZERO_TEXT if node.expires_ns == PERMANENT else go_time.format_ns(node.expires_ns)
        head = (
            f'{{"Path":{quote(node.path)},"CreatedIndex":{node.created_index},"ModifiedIndex":{node.modified_index},'
            f'"ExpireTime":"{expires}","Value":{quote(node.value)},"Children":'
        )
        children = node.children
        if not children:
            parts.append(head + ("null}" if children is None else "{}}"))
            continue
        parts.append(head + "{")
        names = sorted(children, key=go_json.byte_order)
        todo.append(("}}", None))
        for name in reversed(names[1:]):
            todo.append((f",{quote(name)}:", children[name]))
        todo.append((f"{quote(names[0])}:", children[names[0]]))


def recover(store: Store, data: bytes) -> None:
    """Make `store` what was saved; its watchers and counters stay. Raises SavedStoreError, and then changes nothing."""
    try:
        text = data.decode("utf-8", "replace")
        value = deep_json.loads(text)
    except ValueError as error:
        raise SavedStoreError(f"v2 tree: expected JSON: {error}") from error
    top = _fields(value, "v2 tree")
    current_index = _number(top, "CurrentIndex", "v2 tree")
    version = _number(top, "CurrentVersion", "v2 tree")
    heap = TtlHeap()
    root = _read_nodes(_fields(top.get("Root"), "Root"), heap)
    if root.children is None:
        raise SavedStoreError("Root: expected a folder, found a file")
    hub = _fields(top.get("WatcherHub", _EMPTY), "WatcherHub")
    history = _read_history(_fields(hub.get("EventHistory", _EMPTY), "WatcherHub.EventHistory"))
    try:
        stats = Stats.decode(_fields(top.get("Stats", _EMPTY), "Stats"))
    except ValueError as error:
        raise SavedStoreError(str(error)) from error
    store.version = version
    store.current_index = current_index
    store.root = root
    store.add_namespaces()
    store.ttl_heap = heap
    store.hub.history = history
    store.stats = stats


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
