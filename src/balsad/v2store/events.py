"""What happens in the v2 tree, as clients and the event history see it.

    {"action":"set","node":{"key":"/a","value":"1","modifiedIndex":5,"createdIndex":5},"prevNode":{...}}

Source: etcd v2store/event.go, node_extern.go.
"""

from __future__ import annotations

from typing import Final

from balsad import go_json
from balsad.v2store import go_time

GET: Final = "get"
CREATE: Final = "create"
SET: Final = "set"
UPDATE: Final = "update"
DELETE: Final = "delete"
COMPARE_AND_SWAP: Final = "compareAndSwap"
COMPARE_AND_DELETE: Final = "compareAndDelete"
EXPIRE: Final = "expire"


class NodeView:
    """A node as it was at one moment. `value` None and `expires_ns` 0 mean that there is none."""

    __slots__ = ("created_index", "expires_ns", "is_dir", "key", "modified_index", "nodes", "ttl_s", "value")

    def __init__(
        self,
        key: str,
        modified_index: int,
        created_index: int,
        *,
        value: str | None = None,
        is_dir: bool = False,
        expires_ns: int = 0,
        ttl_s: int = 0,
        nodes: list[NodeView] | None = None,
    ) -> None:
        self.key = key
        self.value = value
        self.is_dir = is_dir
        self.expires_ns = expires_ns
        self.ttl_s = ttl_s
        self.nodes = nodes
        self.modified_index = modified_index
        self.created_index = created_index

    def __repr__(self) -> str:
        return f"NodeView({encode_view(self)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeView) and encode_view(self) == encode_view(other)

    __hash__ = None  # type: ignore[assignment]


class Event:
    """One step of the tree, or the answer to a get. Nothing changes it once it was handed out.

    `etcd_index` is the tree's index when it was made; `is_refresh` marks a
    change of nothing but the TTL, which wakes no watcher.
    """

    __slots__ = ("action", "etcd_index", "is_refresh", "node", "prev_node")

    def __init__(
        self,
        action: str,
        node: NodeView,
        *,
        prev_node: NodeView | None = None,
        etcd_index: int = 0,
        is_refresh: bool = False,
    ) -> None:
        self.action = action
        self.node = node
        self.prev_node = prev_node
        self.etcd_index = etcd_index
        self.is_refresh = is_refresh

    @property
    def index(self) -> int:
        return self.node.modified_index

    @property
    def is_created(self) -> bool:
        """True when a node came to be: HTTP answers 201 then."""
        return self.action == CREATE or (self.action == SET and self.prev_node is None)

    def at(self, etcd_index: int) -> Event:
        """The same event, for a watcher that began at `etcd_index`."""
        return Event(self.action, self.node, prev_node=self.prev_node, etcd_index=etcd_index)

    def without_prefix(self, prefix: str) -> Event:
        """The event with `prefix` cut off all keys; how clients see the tree below `/1`."""
        return Event(
            self.action,
            _without_prefix(self.node, prefix),
            prev_node=None if self.prev_node is None else _without_prefix(self.prev_node, prefix),
            etcd_index=self.etcd_index,
        )

    def __repr__(self) -> str:
        return f"Event({encode_event(self).decode('utf-8', 'replace')})"


def _without_prefix(view: NodeView, prefix: str) -> NodeView:
    top = _shallow(view, prefix)
    open_views = [top]
    while open_views:
        one = open_views.pop()
        if one.nodes:
            one.nodes = [_shallow(child, prefix) for child in one.nodes]
            open_views.extend(one.nodes)
    return top


def _shallow(view: NodeView, prefix: str) -> NodeView:
    return NodeView(
        view.key.removeprefix(prefix),
        view.modified_index,
        view.created_index,
        value=view.value,
        is_dir=view.is_dir,
        expires_ns=view.expires_ns,
        ttl_s=view.ttl_s,
        nodes=view.nodes,
    )


def encode_event(event: Event, *, with_nodes: bool = True, prefix: str = "") -> bytes:
    """The event as JSON for clients, without the newline behind it.

    `with_nodes` False leaves out both nodes, as noValueOnSuccess asks for. `prefix` is cut off all keys, as by
    `without_prefix`, but without a copy of all nodes.
    """
    return event_json(event, with_nodes=with_nodes, prefix=prefix).encode("utf-8", "surrogateescape")


def event_json(event: Event, *, with_nodes: bool = True, prefix: str = "") -> str:
    text = '{"action":' + go_json.quote(event.action)
    if with_nodes:
        text += ',"node":' + encode_view(event.node, prefix)
        if event.prev_node is not None:
            text += ',"prevNode":' + encode_view(event.prev_node, prefix)
    if event.is_refresh and not prefix:
        # etcd loses it where it cuts the prefix off: no client is told.
        text += ',"refresh":true'
    return text + "}"


def encode_view(view: NodeView, prefix: str = "") -> str:
    """The node as JSON. Trees may be deeper than a recursive function could go."""
    if not view.nodes:
        return _leaf(view, prefix)
    parts: list[str] = []
    todo: list[NodeView | str] = [view]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            parts.append(item)
        elif item.nodes:
            parts.append("{" + ",".join([*_before_nodes(item, prefix), '"nodes":[']))
            todo.append(",".join(["]", *_after_nodes(item)]) + "}")
            for child in reversed(item.nodes[1:]):
                todo.append(child)
                todo.append(",")
            todo.append(item.nodes[0])
        else:
            parts.append(_leaf(item, prefix))
    return "".join(parts)


def _leaf(view: NodeView, prefix: str) -> str:
    """A node with no others in it."""
    key = view.key.removeprefix(prefix)
    if view.value is not None and key and view.modified_index and view.created_index and not view.expires_ns:
        # As nearly all are: a file that stays.
        if not view.ttl_s and not view.is_dir:
            return (
                f'{{"key":{go_json.quote(key)},"value":{go_json.quote(view.value)},'
                f'"modifiedIndex":{view.modified_index},"createdIndex":{view.created_index}}}'
            )
    return "{" + ",".join(_before_nodes(view, prefix) + _after_nodes(view)) + "}"


def _before_nodes(view: NodeView, prefix: str) -> list[str]:
    """The fields that come before `nodes`; what is empty or zero is left out."""
    fields: list[str] = []
    key = view.key.removeprefix(prefix)
    if key:
        fields.append('"key":' + go_json.quote(key))
    if view.value is not None:
        fields.append('"value":' + go_json.quote(view.value))
    if view.is_dir:
        fields.append('"dir":true')
    if view.expires_ns:
        fields.append(f'"expiration":"{go_time.format_ns(view.expires_ns)}"')
    if view.ttl_s:
        fields.append(f'"ttl":{view.ttl_s}')
    return fields


def _after_nodes(view: NodeView) -> list[str]:
    fields: list[str] = []
    if view.modified_index:
        fields.append(f'"modifiedIndex":{view.modified_index}')
    if view.created_index:
        fields.append(f'"createdIndex":{view.created_index}')
    return fields
