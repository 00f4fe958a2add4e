"""A cluster of raft nodes in one process: no time but ticks, no network but lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from balsad.raft import (
    ConfChange,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    MemoryLog,
    Message,
    RaftError,
    RawNode,
    Ready,
    Snapshot,
)
from balsad.raft.codec import decode_conf_change, decode_conf_change_v2


def entry(data: bytes = b"x", context: Any = None) -> Entry:
    return Entry(0, 0, 0, data, context)


def stored(*terms: int, first: int = 1) -> list[Entry]:
    """Entries with these terms, from index `first` on."""
    return [Entry(0, term, first + place, b"") for place, term in enumerate(terms)]


def make_log(voters: Iterable[int] = (), *terms: int, learners: Iterable[int] = ()) -> MemoryLog:
    """A stable log that knows its configuration, with entries of these terms from index 1 on."""
    log = MemoryLog()
    log.apply_snapshot(Snapshot(0, 0, ConfState(tuple(voters), tuple(learners))))
    log.append(stored(*terms))
    return log


def make_node(
    node_id: int = 1,
    voters: Iterable[int] = (1, 2, 3),
    *terms: int,
    learners: Iterable[int] = (),
    log: MemoryLog | None = None,
    **settings: Any,
) -> RawNode:
    if log is None:
        log = make_log(voters, *terms, learners=learners)
    settings = {"election_tick": 10, "heartbeat_tick": 1, "random": lambda n: 0, **settings}
    return RawNode(Config(id=node_id, storage=log, **settings))


def save(node: RawNode, ready: Ready) -> None:
    log: Any = node.raft.log.storage
    if ready.hard_state is not None:
        log.set_hard_state(ready.hard_state)
    if ready.snapshot is not None:
        log.apply_snapshot(ready.snapshot)
    log.append(ready.entries)


def change_in(committed: Entry) -> ConfChange | ConfChangeV2 | None:
    if committed.type == 1:
        return decode_conf_change(committed.data)
    if committed.type == 2:
        return decode_conf_change_v2(committed.data)
    return None


def work(node: RawNode) -> tuple[list[Message], list[Entry]]:
    """Do all that the node has to do; what it sent, and what it applied."""
    sent: list[Message] = []
    applied: list[Entry] = []
    while node.has_ready():
        ready = node.ready()
        save(node, ready)
        sent += ready.messages
        for committed in ready.committed_entries:
            change = change_in(committed)
            if change is not None:
                node.apply_conf_change(change)
        applied += ready.committed_entries
        node.advance(ready)
    return sent, applied


class Cluster:
    """Nodes that pass each other messages until there are none left."""

    def __init__(self, *ids: int, learners: Iterable[int] = (), **settings: Any) -> None:
        self.learners = tuple(learners)
        self.nodes = {
            node_id: make_node(node_id, ids, learners=self.learners, **settings) for node_id in (*ids, *self.learners)
        }
        self.applied: dict[int, list[Entry]] = {node_id: [] for node_id in self.nodes}
        self.lost: Callable[[Message], bool] = lambda message: False

    def add(self, node_id: int, voters: Iterable[int], **settings: Any) -> RawNode:
        """A node that was told of these voters, but is none of them yet."""
        self.nodes[node_id] = make_node(node_id, voters, **settings)
        self.applied[node_id] = []
        return self.nodes[node_id]

    def settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for node_id, node in self.nodes.items():
                sent, applied = work(node)
                self.applied[node_id] += applied
                for message in sent:
                    busy = True
                    if message.to in self.nodes and not self.lost(message):
                        try:
                            self.nodes[message.to].step(message)
                        except RaftError:
                            pass

    def elect(self, node_id: int) -> RawNode:
        self.nodes[node_id].campaign()
        self.settle()
        return self.nodes[node_id]

    def cut(self, *ids: int) -> None:
        """Lose everything from and to these nodes."""
        self.lost = lambda message: message.from_ in ids or message.to in ids

    def heal(self) -> None:
        self.lost = lambda message: False

    def tick(self, node_id: int, count: int = 1) -> None:
        for _ in range(count):
            self.nodes[node_id].tick()
            self.settle()
