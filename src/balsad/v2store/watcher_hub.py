"""Who watches what in the v2 tree.

A watcher is woken by the first event on its path, or below it when it is
recursive, or above it when that deletes its folder. A stream watcher stays for
more. Names with a leading underscore are hidden: they wake only watchers whose
own path leads into them.

Source: etcd v2store/watcher_hub.go, watcher.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from balsad.v2store import paths
from balsad.v2store.errors import V2Error
from balsad.v2store.event_history import EventHistory
from balsad.v2store.events import Event

PENDING_MAX: Final = 100


class Watcher:
    """What one client waits for; `wake` is called when events came or it was cut off.

    `start_index` is the tree's index when it began. A stream watcher with
    more than a hundred events untaken is cut off: `is_removed` with events left.
    """

    __slots__ = (
        "_hub",
        "events",
        "is_recursive",
        "is_removed",
        "is_stream",
        "path",
        "since_index",
        "start_index",
        "wake",
    )

    def __init__(
        self,
        hub: WatcherHub,
        path: str,
        *,
        recursive: bool,
        stream: bool,
        since_index: int,
        start_index: int,
        wake: Callable[[], None] | None,
    ) -> None:
        self.path = path
        self.is_recursive = recursive
        self.is_stream = stream
        self.since_index = since_index
        self.start_index = start_index
        self.wake = wake
        self.events: deque[Event] = deque()
        self.is_removed = False
        self._hub = hub

    def take(self) -> list[Event]:
        """The events so far; the watcher forgets them."""
        events = list(self.events)
        self.events.clear()
        return events

    def close(self) -> None:
        """The client went away."""
        self._hub.remove(self)


class WatcherHub:
    def __init__(self) -> None:
        self.history = EventHistory()
        self.count = 0
        self._watchers: dict[str, list[Watcher]] = {}

    def watch(
        self,
        key: str,
        *,
        recursive: bool,
        stream: bool,
        since_index: int,
        store_index: int,
        wake: Callable[[], None] | None,
    ) -> Watcher:
        """A watcher of `key`; it holds its first event already when the history has one.

        Raises: V2Error 401.
        """
        try:
            event = self.history.scan(key, recursive=recursive, since_index=since_index)
        except V2Error as error:
            error.index = store_index
            raise
        watcher = Watcher(
            self,
            key,
            recursive=recursive,
            stream=stream,
            since_index=since_index,
            start_index=store_index,
            wake=wake,
        )
        if event is not None:
            # Like etcd, a stream that finds its first event in the past gets no second one.
            watcher.events.append(event.at(store_index))
            watcher.is_removed = True
            return watcher
        self._watchers.setdefault(key, []).append(watcher)
        self.count += 1
        return watcher

    def remove(self, watcher: Watcher) -> None:
        if watcher.is_removed:
            return
        watcher.is_removed = True
        self.count -= 1
        same_path = self._watchers[watcher.path]
        same_path.remove(watcher)
        if not same_path:
            del self._watchers[watcher.path]

    def notify(self, event: Event) -> None:
        """Remember the event and wake who watches its path or, recursively, a folder above."""
        self.history.add(event)
        if not self._watchers:
            return
        path = "/"
        self.notify_path(event, path, deleted=False)
        for name in event.node.key.split("/"):
            if name:
                path = paths.join(path, name)
                self.notify_path(event, path, deleted=False)

    def notify_path(self, event: Event, path: str, *, deleted: bool) -> None:
        """Wake who watches exactly `path`; `deleted`: the path goes with the folder that the event names."""
        watchers = self._watchers.get(path)
        if watchers is None:
            return
        is_own_path = event.node.key == path
        if not is_own_path and paths.is_hidden(path, event.node.key):
            return
        for watcher in watchers[:]:
            if not (watcher.is_recursive or is_own_path or deleted) or event.index < watcher.since_index:
                continue
            if len(watcher.events) >= PENDING_MAX:
                self.remove(watcher)
            else:
                watcher.events.append(event)
                if not watcher.is_stream:
                    self.remove(watcher)
            if watcher.wake is not None:
                watcher.wake()

    def is_idle(self) -> bool:
        """True when nobody watches anything."""
        return not self._watchers
