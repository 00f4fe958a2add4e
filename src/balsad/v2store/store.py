"""The v2 tree: files and folders with versions, TTLs and watchers.

    /0   the cluster: members, removed members, version (membership writes it)
    /1   what clients of the v2 keys API see as /
    /2   users and roles of the v2 auth API

Each write takes the next index, from 1. It has no clock: `now_ns` (Unix
nanoseconds) comes with each call and decides nothing but the `ttl` that views
show; what expires, and when, comes by `delete_expired_keys` from the log.

Some of etcd's slips are kept, as members of one cluster must count alike:
folders on the way stay when the creation then fails, and some refusals are
counted as successes.

Source: etcd v2store/store.go (3.5.1; updating a folder's TTL as in 3.4).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from balsad.v2store import events, paths
from balsad.v2store.errors import (
    DIR_NOT_EMPTY,
    KEY_NOT_FOUND,
    NODE_EXIST,
    NOT_DIR,
    NOT_FILE,
    ROOT_READ_ONLY,
    TEST_FAILED,
    V2Error,
)
from balsad.v2store.events import Event, NodeView
from balsad.v2store.node import PERMANENT, Node, TtlHeap, walk_children_first
from balsad.v2store.stats import Counters, Stats
from balsad.v2store.watcher_hub import Watcher, WatcherHub

CLUSTER_NAMESPACE: Final = "/0"
KEYS_NAMESPACE: Final = "/1"
STORE_VERSION: Final = 2

# 2000-01-01: who creates a node that expires before that means "never".
_EXPIRES_NS_MIN: Final = 946_684_800_000_000_000


class Keeper(Protocol):
    """Who goes through the tree bit by bit and wants it as it was at one index."""

    def keep(self, node: Node) -> None:
        """Called before the value, index or expiry of a node is changed."""

    def keep_children(self, folder: Node) -> None:
        """Called before a child is added to a folder, replaced or removed."""

    def close(self) -> None:
        """Called when the whole tree is replaced: it is of no use any more."""


class Store:
    def __init__(self, namespaces: tuple[str, ...] = (CLUSTER_NAMESPACE, KEYS_NAMESPACE)) -> None:
        self.version = STORE_VERSION
        self.current_index = 0
        self.root = Node("/", 0, None, is_dir=True)
        self.namespaces = namespaces
        self.add_namespaces()
        self.stats = Stats()
        self.counters = Counters()
        self.hub = WatcherHub()
        self.ttl_heap = TtlHeap()
        self.keepers: list[Keeper] = []
        self._read_only = frozenset((*namespaces, "/"))

    def add_namespaces(self) -> None:
        """Create the namespaces' folders where they are missing."""
        assert self.root.children is not None
        for path in self.namespaces:
            self.root.children.setdefault(path[1:], Node(path, 0, self.root, is_dir=True))

    def replace_tree(self, root: Node, ttl_heap: TtlHeap, current_index: int) -> None:
        """Have this tree, and this index, in place of one's own."""
        for keeper in tuple(self.keepers):
            keeper.close()
        self.root = root
        self.ttl_heap = ttl_heap
        self.current_index = current_index
        self.add_namespaces()

    # Reading.

    def get(self, path: str, *, recursive: bool = False, in_order: bool = False, now_ns: int = 0) -> Event:
        """The node at `path`: a folder with one level of what is in it, or all of it. Raises V2Error."""
        try:
            node = self._find(path)
        except V2Error:
            self.stats.gets_fail += 1
            self.counters.read(recursive=recursive, ok=False)
            raise
        view = node.listing(path, recursive=recursive, in_order=in_order, now_ns=now_ns)
        self.stats.gets_success += 1
        self.counters.read(recursive=recursive, ok=True)
        return Event(events.GET, view, etcd_index=self.current_index)

    def watch(
        self,
        path: str,
        *,
        recursive: bool = False,
        stream: bool = False,
        since_index: int = 0,
        wake: Callable[[], None] | None = None,
    ) -> Watcher:
        """Wait for the next event at `path`, or the first from `since_index` on. Raises V2Error 401."""
        self.counters.watch_requests += 1
        return self.hub.watch(
            paths.clean(path),
            recursive=recursive,
            stream=stream,
            since_index=since_index or self.current_index + 1,
            store_index=self.current_index,
            wake=wake,
        )

    def has_ttl_keys(self) -> bool:
        """True when the leader should go on proposing its clock."""
        return len(self.ttl_heap) > 0

    def encode_stats(self) -> bytes:
        """The JSON object of /v2/stats/store."""
        self.stats.watchers = self.hub.count
        return self.stats.encode().encode()

    # Writing.

    def create(
        self,
        path: str,
        *,
        value: str = "",
        is_dir: bool = False,
        unique: bool = False,
        expires_ns: int = PERMANENT,
        now_ns: int = 0,
    ) -> Event:
        """A new file or folder, with the folders on the way; `unique` gives it a name in `path` by its index.

        Raises: V2Error 105 when it is there, 104 when a file is in the way.
        """
        try:
            event = self._create(path, value, is_dir, unique, False, expires_ns, events.CREATE, now_ns)
        except V2Error:
            self.stats.create_fail += 1
            self.counters.write(events.CREATE, ok=False)
            raise
        self.hub.notify(event)
        self.stats.create_success += 1
        self.counters.write(events.CREATE, ok=True)
        return event

    def set(
        self,
        path: str,
        *,
        value: str = "",
        is_dir: bool = False,
        expires_ns: int = PERMANENT,
        refresh: bool = False,
        now_ns: int = 0,
    ) -> Event:
        """Create the node or replace the file at `path`; `refresh` keeps the value. Raises V2Error."""
        try:
            event = self._set(path, value, is_dir, expires_ns, refresh, now_ns)
        except V2Error:
            self.stats.sets_fail += 1
            self.counters.write(events.SET, ok=False)
            raise
        self._publish(event, refresh)
        self.stats.sets_success += 1
        self.counters.write(events.SET, ok=True)
        return event

    def _set(self, path: str, value: str, is_dir: bool, expires_ns: int, refresh: bool, now_ns: int) -> Event:
        node: Node | None = None
        try:
            node = self._find(path)
        except V2Error as error:
            if error.code != KEY_NOT_FOUND or refresh:
                raise
        prev: NodeView | None = None
        if node is not None:
            prev = node.listing(path, recursive=False, in_order=False, now_ns=now_ns)
            if refresh:
                value = node.value
        event = self._create(path, value, is_dir, False, True, expires_ns, events.SET, now_ns)
        event.prev_node = prev
        return event

    def update(
        self,
        path: str,
        *,
        value: str = "",
        expires_ns: int = PERMANENT,
        refresh: bool = False,
        now_ns: int = 0,
    ) -> Event:
        """Give a file a new value and TTL, or a folder a new TTL. Raises V2Error."""
        path = paths.clean(path)
        if path in self._read_only:
            self._count_update(ok=True)
            self._refuse(ROOT_READ_ONLY, "/")
        try:
            node = self._find(path)
        except V2Error:
            self._count_update(ok=False)
            raise
        if node.is_dir and value:
            self._count_update(ok=True)
            self._refuse(NOT_FILE, path)
        if refresh:
            value = node.value
        index = self.current_index + 1
        prev = node.view(now_ns)
        self._let_keep(node)
        if not node.is_dir:
            # A folder keeps its modified index: like etcd 3.4; 3.5 fails here with code 300.
            node.value = value
            node.modified_index = index
        self._set_expiry(node, expires_ns)
        view = node.view(now_ns)
        view.modified_index = index
        event = Event(events.UPDATE, view, prev_node=prev, etcd_index=index)
        # Before anybody is told: who is may ask what comes next.
        self.current_index = index
        self._publish(event, refresh)
        self._count_update(ok=True)
        return event

    def _count_update(self, *, ok: bool) -> None:
        if ok:
            self.stats.update_success += 1
        else:
            self.stats.update_fail += 1
        self.counters.write(events.UPDATE, ok=ok)

    def compare_and_swap(
        self,
        path: str,
        *,
        prev_value: str = "",
        prev_index: int = 0,
        value: str = "",
        expires_ns: int = PERMANENT,
        refresh: bool = False,
        now_ns: int = 0,
    ) -> Event:
        """Give a file a new value and TTL if it has that value and index ("" and 0 match all). Raises V2Error."""
        path = paths.clean(path)
        if path in self._read_only:
            self._count_swap(ok=True)
            self._refuse(ROOT_READ_ONLY, "/")
        try:
            node = self._comparable(path, prev_value, prev_index)
        except V2Error:
            self._count_swap(ok=False)
            raise
        self.current_index += 1
        prev = node.view(now_ns)
        self._let_keep(node)
        if not refresh:
            node.value = value
        node.modified_index = self.current_index
        self._set_expiry(node, expires_ns)
        view = node.view(now_ns)
        event = Event(events.COMPARE_AND_SWAP, view, prev_node=prev, etcd_index=self.current_index)
        self._publish(event, refresh)
        self._count_swap(ok=True)
        return event

    def _comparable(self, path: str, prev_value: str, prev_index: int) -> Node:
        node = self._find(path)
        if node.is_dir:
            self._refuse(NOT_FILE, path)
        difference = node.compare(prev_value, prev_index)
        if difference:
            self._refuse(TEST_FAILED, difference)
        return node

    def _count_swap(self, *, ok: bool) -> None:
        if ok:
            self.stats.compare_and_swap_success += 1
        else:
            self.stats.compare_and_swap_fail += 1
        self.counters.write(events.COMPARE_AND_SWAP, ok=ok)

    def delete(self, path: str, *, is_dir: bool = False, recursive: bool = False, now_ns: int = 0) -> Event:
        """Delete a file, an empty folder (`is_dir`) or a folder with all in it (`recursive`). Raises V2Error."""
        path = paths.clean(path)
        if path in self._read_only:
            self._count_delete(ok=True)
            self._refuse(ROOT_READ_ONLY, "/")
        index = self.current_index + 1
        try:
            node = self._find(path)
            if node.children is not None:
                if not (is_dir or recursive):
                    self._refuse(NOT_FILE, path)
                if node.children and not recursive:
                    self._refuse(DIR_NOT_EMPTY, path)
        except V2Error:
            self._count_delete(ok=False)
            raise
        prev = node.view(now_ns)
        view = NodeView(path, index, node.created_index, is_dir=node.is_dir)
        event = Event(events.DELETE, view, prev_node=prev, etcd_index=index)
        self.current_index = index
        self._remove(node, event)
        self.hub.notify(event)
        self._count_delete(ok=True)
        return event

    def _count_delete(self, *, ok: bool) -> None:
        if ok:
            self.stats.delete_success += 1
        else:
            self.stats.delete_fail += 1
        self.counters.write(events.DELETE, ok=ok)

    def compare_and_delete(self, path: str, *, prev_value: str = "", prev_index: int = 0, now_ns: int = 0) -> Event:
        """Delete a file if it has that value and index ("" and 0 match all). Raises V2Error."""
        path = paths.clean(path)
        try:
            self._find(path)
        except V2Error:
            self._count_compare_and_delete(ok=False)
            raise
        # From here on etcd counts a success, whatever comes.
        self._count_compare_and_delete(ok=True)
        node = self._comparable(path, prev_value, prev_index)
        self.current_index += 1
        prev = node.view(now_ns)
        view = NodeView(path, self.current_index, node.created_index)
        event = Event(events.COMPARE_AND_DELETE, view, prev_node=prev, etcd_index=self.current_index)
        self._remove(node, event)
        self.hub.notify(event)
        return event

    def _count_compare_and_delete(self, *, ok: bool) -> None:
        if ok:
            self.stats.compare_and_delete_success += 1
        else:
            self.stats.compare_and_delete_fail += 1
        self.counters.write(events.COMPARE_AND_DELETE, ok=ok)

    def delete_expired_keys(self, cutoff_ns: int, *, now_ns: int = 0, limit: int = sys.maxsize) -> list[Event]:
        """Delete what expired at or before `cutoff_ns`, the leader's clock when it proposed this: `limit` at most.

        Each is a step of the tree of its own: who sees some of them done sees the tree as it was at that index.
        """
        expired: list[Event] = []
        while len(expired) < limit:
            node = self.ttl_heap.soonest()
            if node is None or node.expires_ns > cutoff_ns:
                break
            self.current_index += 1
            prev = node.view(now_ns)
            view = NodeView(node.path, self.current_index, node.created_index, is_dir=node.is_dir)
            event = Event(events.EXPIRE, view, prev_node=prev, etcd_index=self.current_index)
            self._remove(node, event)
            self.stats.expire_count += 1
            self.counters.expires += 1
            self.hub.notify(event)
            expired.append(event)
        return expired

    # The tree.

    def _refuse(self, code: int, cause: str) -> NoReturn:
        raise V2Error(code, cause, self.current_index)

    def _find(self, path: str) -> Node:
        """The node at `path`. Raises V2Error 100, or 104 when a file is on the way."""
        path = paths.clean(path)
        node = self.root
        if path == "/":
            return node
        for name in path[1:].split("/"):
            if node.children is None:
                self._refuse(NOT_DIR, node.path)
            child = node.children.get(name)
            if child is None:
                self._refuse(KEY_NOT_FOUND, paths.join(node.path, name))
            node = child
        return node

    def _folder(self, path: str) -> Node:
        """The folder at `path`, created where missing. Raises V2Error 104 when a file is on the way."""
        node = self.root
        if path == "/":
            return node
        for name in path[1:].split("/"):
            assert node.children is not None
            child = node.children.get(name)
            if child is None:
                child = Node(paths.join(node.path, name), self.current_index + 1, node, is_dir=True)
                self._let_keep_children(node)
                node.children[name] = child
            elif child.children is None:
                self._refuse(NOT_DIR, child.path)
            node = child
        return node

    def _create(
        self,
        path: str,
        value: str,
        is_dir: bool,
        unique: bool,
        replace: bool,
        expires_ns: int,
        action: str,
        now_ns: int,
    ) -> Event:
        index = self.current_index + 1
        if unique:
            path += f"/{index:020d}"
        path = paths.clean(path)
        if path in self._read_only:
            self._refuse(ROOT_READ_ONLY, "/")
        if expires_ns < _EXPIRES_NS_MIN:
            expires_ns = PERMANENT
        folder_path, name = paths.split(path)
        try:
            folder = self._folder(folder_path)
        except V2Error:
            # Counted here, and once more by the operation itself.
            self.stats.sets_fail += 1
            self.counters.write(action, ok=False)
            raise
        assert folder.children is not None
        there = folder.children.get(name)
        if there is not None:
            if not replace:
                self._refuse(NODE_EXIST, path)
            if there.is_dir:
                self._refuse(NOT_FILE, path)
            self.ttl_heap.remove(there)
        node = Node(path, index, folder, value="" if is_dir else value, is_dir=is_dir, expires_ns=expires_ns)
        self._let_keep_children(folder)
        folder.children[name] = node
        if expires_ns != PERMANENT:
            self.ttl_heap.push(node)
        self.current_index = index
        return Event(action, node.view(now_ns), etcd_index=index)

    def _let_keep(self, node: Node) -> None:
        if self.keepers:
            for keeper in self.keepers:
                keeper.keep(node)

    def _let_keep_children(self, folder: Node) -> None:
        if self.keepers:
            for keeper in self.keepers:
                keeper.keep_children(folder)

    def _set_expiry(self, node: Node, expires_ns: int) -> None:
        if expires_ns == PERMANENT:
            self.ttl_heap.remove(node)
        node.expires_ns = expires_ns
        if expires_ns != PERMANENT:
            self.ttl_heap.push(node)

    def _remove(self, node: Node, event: Event) -> None:
        """Take `node` and all below it out, and tell who watches any of it."""
        assert node.parent is not None and node.parent.children is not None
        self._let_keep_children(node.parent)
        del node.parent.children[node.name]
        hub, heap = self.hub, self.ttl_heap
        if node.children and not (hub.is_idle() and len(heap) == 0):

            def forget(one: Node) -> None:
                hub.notify_path(event, one.path, deleted=True)
                heap.remove(one)

            walk_children_first(node, forget)
        else:
            hub.notify_path(event, node.path, deleted=True)
            heap.remove(node)

    def _publish(self, event: Event, refresh: bool) -> None:
        if refresh:
            event.is_refresh = True
            self.hub.history.add(event)
        else:
            self.hub.notify(event)

    # What membership keeps here, without its having to know events and errors.

    def read_tree(self, path: str) -> NodeView | None:
        """The node and all below it, sorted; None when there is none."""
        try:
            return self.get(path, recursive=True, in_order=True).node
        except V2Error as error:
            if error.code != KEY_NOT_FOUND:
                raise
            return None

    def read_file(self, path: str) -> str | None:
        try:
            return self.get(path).node.value
        except V2Error as error:
            if error.code != KEY_NOT_FOUND:
                raise
            return None

    def create_file(self, path: str, value: str) -> bool:
        """False when it is there already."""
        try:
            self.create(path, value=value)
        except V2Error as error:
            if error.code != NODE_EXIST:
                raise
            return False
        return True

    def set_file(self, path: str, value: str) -> None:
        self.set(path, value=value)

    def update_file(self, path: str, value: str) -> None:
        self.update(path, value=value)

    def delete_tree(self, path: str) -> bool:
        """False when it is not there."""
        try:
            self.delete(path, is_dir=True, recursive=True)
        except V2Error as error:
            if error.code != KEY_NOT_FOUND:
                raise
            return False
        return True

    def holds_only_cluster(self) -> bool:
        """True when nothing but membership is kept: no key, no v2 user.

        Source: etcd membership.IsMetaStoreOnly.
        """
        view = self.get("/", recursive=True).node
        return not any(child.nodes for child in view.nodes or () if child.key != CLUSTER_NAMESPACE)
