"""Raft nodes on a network that loses, repeats and reorders, and that crash and restart, by chance.

Checked at every step: one leader a term (election safety); the same index and term mean the same
entry after the same entry (log matching); who leads has all that was committed before (leader
completeness); whoever applies an index applies the same entry (state-machine safety). Raft paper,
figure 3.
"""

from __future__ import annotations

import random
from typing import Any

from balsad.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    LEADER,
    ConfChangeSingle,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryLog,
    Message,
    ProposalDroppedError,
    RaftError,
    RawNode,
    Snapshot,
)
from balsad.raft.codec import decode_conf_change_v2
from balsad.raft.tracker import SNAPSHOT

ADD, REMOVE, ADD_LEARNER = 0, 1, 3


class Member:
    """A node with its disk. What was not written is lost in a crash."""

    def __init__(self, world: RaftWorld, node_id: int, voters: tuple[int, ...]) -> None:
        self.world = world
        self.id = node_id
        self.log = MemoryLog()
        self.log.apply_snapshot(Snapshot(0, 0, ConfState(voters)))
        self.start()

    def start(self) -> None:
        # The state machine is in memory: it begins from the snapshot.
        self.applied = self.log.snapshot().index
        self.conf_state = self.log.snapshot().conf_state
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []
        # With asynchronous storage the commit index may reach the disk later than a snapshot of what it committed.
        state, _ = self.log.initial_state()
        self.log.set_hard_state(HardState(state.term, state.vote, max(state.commit, self.applied)))
        world = self.world
        self.node = RawNode(
            Config(
                id=self.id,
                storage=self.log,
                random=world.random.randrange,
                election_tick=6,
                heartbeat_tick=1,
                applied=self.applied,
                max_size_per_msg=world.random.choice((0, 40, 10**6)),
                max_committed_size_per_ready=world.random.choice((30, 10**6)),
                max_inflight_msgs=world.random.choice((1, 3, 100)),
                **world.settings,
            )
        )

    def work(self) -> None:
        if not self.node.has_ready():
            return
        ready = self.node.ready()
        if self.world.is_async:
            for message in ready.messages:
                if message.to == APPEND_THREAD:
                    self.append_work.append(message)
                elif message.to == APPLY_THREAD:
                    self.apply_work.append(message)
                else:
                    self.world.send(message)
            return
        self._save(ready.hard_state, ready.entries, ready.snapshot)
        for message in ready.messages:
            self.world.send(message)
        self._apply(ready.committed_entries)
        self.node.advance(ready)

    def do_append(self) -> None:
        if self.append_work:
            message = self.append_work.pop(0)
            self._save(HardState(message.term, message.vote, message.commit), message.entries, message.snapshot)
            self._answer(message)

    def do_apply(self) -> None:
        if self.apply_work:
            message = self.apply_work.pop(0)
            self._apply(message.entries)
            self._answer(message)

    def _answer(self, message: Message) -> None:
        for response in message.responses:
            if response.to == self.id:
                self.node.step(response)
            else:
                self.world.send(response)

    def _save(self, state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        if state is not None and not state.is_empty():
            self.log.set_hard_state(state)
        if snapshot is not None:
            assert self.world.committed[snapshot.index][0] == snapshot.term, "a snapshot of what was never committed"
            self.log.apply_snapshot(snapshot)
            self.applied = snapshot.index
            self.conf_state = snapshot.conf_state
        self.log.append(entries)
        for entry in entries:
            self.world.check_appended(entry, self.log.term(entry.index - 1))

    def _apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.world.check_applied(entry, self.node.raft.term)
            # While entries wait for the apply thread, the append thread may bring a snapshot that has them.
            if self.world.is_async and entry.index <= self.log.snapshot().index:
                continue
            assert entry.index == self.applied + 1, "applied out of order"
            self.applied = entry.index
            if entry.type == 2:
                self.conf_state = self.node.apply_conf_change(decode_conf_change_v2(entry.data))

    def compact(self) -> None:
        if self.applied > self.log.snapshot().index:
            self.log.create_snapshot(self.applied, self.conf_state, b"")
            if self.applied >= self.log.first_index():
                self.log.compact(self.applied)


class RaftWorld:
    def __init__(self, seed: int, size: int, *, is_async: bool = False, changes: bool = False, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.is_async = is_async
        self.changes = changes
        self.settings = {"async_storage_writes": is_async, **settings}
        self.wire: list[Message] = []
        self.leaders: dict[int, int] = {}
        self.entries: dict[tuple[int, int], tuple[int, bytes, int]] = {}
        # index -> term, data, and the term of whoever applied it first
        self.committed: dict[int, tuple[int, bytes, int]] = {}
        self.proposed = 0
        self.cut = 0
        voters = tuple(range(1, size + 1))
        if changes:
            voters = voters[:3]
        self.members = {node_id: Member(self, node_id, voters) for node_id in range(1, size + 1)}

    def send(self, message: Message) -> None:
        self.wire.append(message)

    # The laws

    def check_appended(self, entry: Entry, previous_term: int) -> None:
        said = (entry.type, entry.data, previous_term)
        assert self.entries.setdefault((entry.index, entry.term), said) == said, "logs do not match"

    def check_applied(self, entry: Entry, term: int) -> None:
        known = self.committed.setdefault(entry.index, (entry.term, entry.data, term))
        assert known[:2] == (entry.term, entry.data), f"two entries applied at {entry.index}"

    def check_leader(self, member: Member) -> None:
        raft = member.node.raft
        if raft.role != LEADER or self.leaders.get(raft.term) == member.id:
            return
        assert raft.term not in self.leaders, f"two leaders at term {raft.term}"
        self.leaders[raft.term] = member.id
        for index, (term, _, committed_at) in self.committed.items():
            if committed_at < raft.term and index >= raft.log.first_index():
                assert raft.log.term(index) == term, f"the leader of term {raft.term} lacks {index}"

    # Chance

    def step(self) -> None:
        member = self.members[self.random.randint(1, len(self.members))]
        dice = self.random.random()
        if dice < 0.15:
            member.node.tick()
        elif dice < 0.50:
            self.deliver()
        elif dice < 0.75:
            member.work()
        elif dice < 0.82:
            member.do_append()
        elif dice < 0.88:
            member.do_apply()
        elif dice < 0.94:
            self.propose(member)
        elif dice < 0.95:
            member.compact()
        elif dice < 0.96:
            member.start()
        elif dice < 0.97:
            member.node.transfer_leader(self.random.randint(1, len(self.members)))
        elif dice < 0.975:
            member.node.report_unreachable(self.random.randint(1, len(self.members)))
        elif dice < 0.98:
            member.node.report_snapshot(self.random.randint(1, len(self.members)), self.random.random() < 0.5)
        elif dice < 0.99:
            # Now and then one of them, often the leader, can neither hear nor be heard.
            leader = self.leader()
            self.cut = self.random.choice((0, 0, member.id, leader.id if leader is not None else 0))
        elif self.changes:
            self.change(member)
        for one in self.members.values():
            self.check_leader(one)

    def deliver(self, reliably: bool = False) -> None:
        if not self.wire:
            return
        # Mostly in order, as a stream is.
        place = 0 if reliably or self.random.random() < 0.8 else self.random.randrange(len(self.wire))
        message = self.wire.pop(place)
        if not reliably:
            if self.cut in (message.from_, message.to):
                return
            dice = self.random.random()
            if dice < 0.05:
                return
            if dice < 0.08:
                self.wire.insert(self.random.randint(0, len(self.wire)), self.copy(message))
        try:
            self.members[message.to].node.step(message)
        except RaftError:
            pass

    def copy(self, message: Message) -> Message:
        """A message of its own, as another connection would bring it."""
        entries = [Entry(entry.type, entry.term, entry.index, entry.data) for entry in message.entries]
        return Message(
            message.type,
            message.to,
            message.from_,
            message.term,
            message.log_term,
            message.index,
            entries,
            message.commit,
            message.vote,
            message.snapshot,
            message.reject,
            message.reject_hint,
            message.context,
        )

    def propose(self, member: Member) -> None:
        batch = []
        for _ in range(self.random.randint(1, 3)):
            self.proposed += 1
            batch.append(Entry(0, 0, 0, b"%d" % self.proposed))
        try:
            member.node.propose(batch)
        except ProposalDroppedError:
            pass

    def change(self, member: Member) -> None:
        """Let the leader move to other voters and learners."""
        if member.node.raft.role != LEADER:
            return
        if member.node.raft.tracker.config.is_joint():
            change = ConfChangeV2()
        else:
            ids = sorted(self.members)
            self.random.shuffle(ids)
            voters = self.random.randint(1, len(ids))
            singles = [ConfChangeSingle(ADD, node_id) for node_id in ids[:voters]]
            for node_id in ids[voters:]:
                singles.append(ConfChangeSingle(self.random.choice((REMOVE, ADD_LEARNER)), node_id))
            change = ConfChangeV2(self.random.choice((0, 1, 2)), tuple(singles))
        try:
            member.node.propose_conf_change(change)
        except ProposalDroppedError:
            pass

    # Peace

    def settle(self) -> None:
        """Nothing is lost any more, time passes for all: they must agree in the end."""
        for _ in range(100):
            # A snapshot that was lost is sent again only when the leader is told.
            leader = self.leader()
            if leader is not None:
                for node_id, progress in leader.node.status().progress.items():
                    if progress.state == SNAPSHOT:
                        leader.node.report_snapshot(node_id, False)
            for member in self.members.values():
                member.node.tick()
            self.quiet()

    def quiet(self) -> None:
        busy = True
        while busy:
            busy = len(self.wire) > 0
            while self.wire:
                self.deliver(reliably=True)
            for member in self.members.values():
                busy = busy or member.node.has_ready() or bool(member.append_work) or bool(member.apply_work)
                member.work()
                member.do_append()
                member.do_apply()
                self.check_leader(member)

    def leader(self) -> Member | None:
        """The leader that all it can reach follow."""
        leads = [member for member in self.members.values() if member.node.raft.role == LEADER]
        return max(leads, key=lambda member: member.node.raft.term, default=None)
