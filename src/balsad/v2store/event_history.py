"""The last thousand events, so that a client may watch from an index in the near past.

A ring: `front` is the oldest event, `back` the next free place. Each index of
the tree has exactly one event, so an event's place follows from its index:

    capacity 4, events 5 6 7 8 9:   [9 6 7 8]   front 1, back 1, start_index 6, last_index 9

Source: etcd v2store/event_history.go, event_queue.go.
"""

from __future__ import annotations

from typing import Final

from balsad.v2store.errors import EVENT_INDEX_CLEARED, V2Error
from balsad.v2store.events import DELETE, EXPIRE, Event

CAPACITY: Final = 1000


class EventHistory:
    __slots__ = ("back", "capacity", "events", "front", "last_index", "size", "start_index")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.events: list[Event | None] = [None] * capacity
        self.size = 0
        self.front = 0
        self.back = 0
        self.start_index = 0
        self.last_index = 0

    def add(self, event: Event) -> None:
        self.events[self.back] = event
        self.back = (self.back + 1) % self.capacity
        if self.size == self.capacity:
            self.front = (self.front + 1) % self.capacity
        else:
            self.size += 1
        self.last_index = event.index
        oldest = self.events[self.front]
        assert oldest is not None
        self.start_index = oldest.index

    def scan(self, key: str, *, recursive: bool, since_index: int) -> Event | None:
        """The first event at or after `since_index` that a watcher of `key` would get, None if it has yet to happen.

        Raises: V2Error 401 when the history no longer reaches back that far.
        """
        if since_index < self.start_index:
            raise V2Error(
                EVENT_INDEX_CLEARED, f"the requested history has been cleared [{self.start_index}/{since_index}]"
            )
        if since_index > self.last_index or self.size == 0:
            return None
        below = key if key.endswith("/") else key + "/"
        at = (self.front + since_index - self.start_index) % self.capacity
        while True:
            event = self.events[at]
            if event is not None and not event.is_refresh and _matches(event, key, below if recursive else ""):
                return event
            at = (at + 1) % self.capacity
            if at == self.back:
                return None


def _matches(event: Event, key: str, below: str) -> bool:
    if event.node.key == key or (below and event.node.key.startswith(below)):
        return True
    # Who watches something in a folder learns that the folder went. Like etcd,
    # by the bare text: deleting folder /a also wakes a watcher of /ab.
    prev = event.prev_node
    return event.action in (DELETE, EXPIRE) and prev is not None and prev.is_dir and key.startswith(prev.key)
