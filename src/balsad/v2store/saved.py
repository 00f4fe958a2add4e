"""The v2 tree as the JSON that .snap files and snapshots between members carry.

    {"Root": {"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
              "Children":{"0":{...},"1":{...}}},              null for a file
     "WatcherHub": {"EventHistory": {"Queue": {"Events":[{...},null,...],"Size":1,"Front":0,"Back":1,"Capacity":1000},
                                     "StartIndex":1,"LastIndex":1}},
     "CurrentIndex":1, "Stats":{...}, "CurrentVersion":2}

Byte for byte what etcd writes, on a machine whose time zone is UTC (elsewhere
etcd writes ExpireTime in local time). Who watches is not saved.

`recovery` reads it.

Source: etcd v2store/store.go (Save).
"""

from __future__ import annotations

from balsad import go_json
from balsad.v2store import go_time
from balsad.v2store.events import event_json
from balsad.v2store.node import PERMANENT, Node
from balsad.v2store.store import Store


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
