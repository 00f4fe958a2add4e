from __future__ import annotations

from typing import Any

import pytest

from balsad.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    LEADER,
    ConfChange,
    ConfChangeType,
    ConfigError,
    ConfState,
    HardState,
    MemoryLog,
    Message,
    RaftPanic,
    RawNode,
    Snapshot,
    StepLocalMessageError,
    StepPeerNotFoundError,
)
from balsad.raft.codec import decode_conf_change
from balsad.raft.events import EVENTS_MAX
from balsad.raft.kinds import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
)
from tests.unit.raft.raft_cluster import entry, make_log, make_node, save, stored, work


def lone_leader(**settings: Any) -> RawNode:
    node = make_node(1, (1,), **settings)
    node.campaign()
    work(node)
    assert node.raft.role == LEADER
    return node


def test_a_lone_voter_commits_in_two_rounds() -> None:
    node = lone_leader()
    batch = [entry(b"a"), entry(b"b")]
    node.propose(batch)

    first = node.ready()
    assert (first.entries, first.committed_entries, first.hard_state, first.must_sync) == (batch, [], None, True)
    save(node, first)
    node.advance(first)
    second = node.ready()
    assert (second.entries, second.hard_state, second.must_sync) == ([], HardState(1, 1, 3), False)
    assert [made is given for made, given in zip(second.committed_entries, batch, strict=True)] == [True, True]
    node.advance(second)

    assert not node.has_ready()
    assert node.status().applied == 3


def test_only_a_lone_voter_that_leads_commits_alone() -> None:
    node = lone_leader()
    term = node.raft.term
    assert node.commits_alone(term)
    assert not node.commits_alone(term - 1)

    node.apply_conf_change(ConfChange(ConfChangeType.ADD_LEARNER_NODE, 2))
    assert node.commits_alone(term)
    node.apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, 2))
    assert not node.commits_alone(term)

    other = lone_leader()
    other.step(Message(MSG_HEARTBEAT, 1, 2, term=term + 1))
    assert not other.commits_alone(term)
    assert not other.commits_alone(term + 1)


def test_what_is_proposed_while_a_ready_is_out_comes_with_the_next() -> None:
    node = lone_leader()
    first, second = [entry(b"a")], [entry(b"b")]
    node.propose(first)
    ready = node.ready()
    node.propose(second)
    save(node, ready)
    node.advance(ready)

    ready = node.ready()

    assert (ready.entries, ready.committed_entries) == (second, first)


def test_lists_given_and_taken_stay_as_they_are() -> None:
    node = lone_leader()
    mine = [entry(b"a")]
    node.propose(mine)
    node.propose([entry(b"b")])
    node.propose([entry(b"c")])
    ready = node.ready()
    node.propose([entry(b"d")])

    assert [made.data for made in mine] == [b"a"]
    assert [made.data for made in ready.entries] == [b"a", b"b", b"c"]


def test_a_second_ready_before_advance_is_a_mistake() -> None:
    node = lone_leader()
    node.propose([entry()])
    node.ready()
    node.propose([entry()])

    with pytest.raises(RaftPanic, match="two accepted Ready structs without call to Advance"):
        node.ready()


def test_an_empty_proposal_is_a_mistake() -> None:
    with pytest.raises(RaftPanic, match="1 stepped empty MsgProp"):
        lone_leader().propose([])


def test_committed_entries_come_in_portions() -> None:
    """Source: raft's TestRawNodeCommitPaginationAfterRestart, TestNodeCommitPagination."""
    node = lone_leader(max_committed_size_per_ready=250)
    node.propose([entry(b"x" * 100) for _ in range(5)])
    portions: list[int] = []
    while node.has_ready():
        ready = node.ready()
        save(node, ready)
        portions.append(len(ready.committed_entries))
        node.advance(ready)

    assert portions == [0, 2, 2, 1]


def test_soft_state_comes_only_when_it_changed() -> None:
    node = make_node()
    assert not node.has_ready()
    node.step(Message(MSG_HEARTBEAT, 1, 2, term=1))

    ready = node.ready()
    assert ready.soft_state is not None and ready.soft_state.lead == 2
    node.advance(ready)
    node.step(Message(MSG_HEARTBEAT, 1, 2, term=1))
    assert node.ready().soft_state is None


def test_a_restarted_node_goes_on_where_it_was() -> None:
    """Source: raft's TestRawNodeRestart, TestRawNodeRestartFromSnapshot."""
    log = MemoryLog()
    log.apply_snapshot(Snapshot(2, 1, ConfState((1, 2))))
    log.append(stored(1, 1, first=3))
    log.set_hard_state(HardState(1, 1, 3))

    node = make_node(1, log=log, applied=2)

    status = node.status()
    assert (status.term, status.vote, status.commit, status.applied, status.config.incoming) == (1, 1, 3, 2, (1, 2))
    ready = node.ready()
    assert (ready.hard_state, ready.entries, ready.must_sync) == (None, [], False)
    assert [made.index for made in ready.committed_entries] == [3]


def test_a_commit_beyond_the_log_stops_a_restart() -> None:
    log = make_log((1,), 1)
    log.set_hard_state(HardState(1, 1, 2))

    with pytest.raises(RaftPanic, match=r"1 state.commit 2 is out of range \[0, 1\]"):
        make_node(1, log=log)


def test_bootstrap_brings_the_members_as_committed_changes() -> None:
    """Source: raft's TestRawNodeStart."""
    node = make_node(1, ())
    node.bootstrap([(1, b"one"), (2, b"two")])
    assert node.status().config.incoming == (1, 2)

    ready = node.ready()

    assert ready.hard_state == HardState(1, 0, 2)
    assert ready.entries == ready.committed_entries
    changes = [decode_conf_change(made.data) for made in ready.entries]
    assert [(change.type, change.node_id, change.context) for change in changes] == [(0, 1, b"one"), (0, 2, b"two")]
    assert [(made.type, made.term, made.index) for made in ready.entries] == [(1, 1, 1), (1, 1, 2)]
    save(node, ready)
    for change in changes:
        node.apply_conf_change(change)
    node.advance(ready)
    assert (node.status().applied, node.status().config.incoming) == (2, (1, 2))


def test_bootstrap_refuses_no_peers_or_a_used_log() -> None:
    with pytest.raises(ConfigError):
        make_node(1, ()).bootstrap([])
    with pytest.raises(ConfigError):
        make_node(1, (1,), 1).bootstrap([(1, b"")])


@pytest.mark.parametrize("kind", [MSG_HUP, MSG_BEAT, MSG_STORAGE_APPEND_RESP])
def test_local_messages_do_not_come_from_outside(kind: int) -> None:
    with pytest.raises(StepLocalMessageError, match="raft: cannot step raft local message"):
        make_node().step(Message(kind, 1, 2))


@pytest.mark.parametrize("kind", [MSG_APP_RESP, MSG_HEARTBEAT_RESP])
def test_responses_come_from_whom_we_know(kind: int) -> None:
    with pytest.raises(StepPeerNotFoundError, match="raft: cannot step as peer not found"):
        make_node().step(Message(kind, 1, 9))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"node_id": 0}, "cannot use none as id"),
        ({"node_id": APPLY_THREAD}, "cannot use local target as id"),
        ({"heartbeat_tick": 0}, "heartbeat tick must be greater than 0"),
        ({"election_tick": 1}, "election tick must be greater than heartbeat tick"),
        ({"max_inflight_msgs": 0}, "max inflight messages must be greater than 0"),
        ({"max_inflight_bytes": 9, "max_size_per_msg": 10}, "max inflight bytes must be >= max message size"),
        ({"read_only_lease_based": True}, "CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_node(**settings)


def test_events_leave_with_ready_but_do_not_make_one() -> None:
    node = make_node()
    node.transfer_leader(2)
    assert not node.has_ready()

    messages = [event.message for event in node.ready().events]
    assert messages[0] == "switched to configuration"
    assert messages[-1] == "no leader; dropping message to it"
    assert node.take_events() == []


def test_events_nobody_takes_do_not_pile_up() -> None:
    node = make_node()
    for _ in range(2 * EVENTS_MAX):
        node.transfer_leader(2)

    assert len(node.take_events()) == EVENTS_MAX


def test_status_is_a_copy() -> None:
    node = lone_leader()
    status = node.status()
    node.propose([entry()])
    work(node)

    assert (status.commit, status.progress[1].match) == (1, 1)
    assert make_node().status().progress == {}


class TestAsynchronousStorage:
    def leader(self) -> RawNode:
        node = make_node(1, (1,), async_storage_writes=True)
        node.campaign()
        self.run(node)
        assert node.raft.role == LEADER
        return node

    def run(self, node: RawNode) -> None:
        """Do the storage threads' work at once."""
        while node.has_ready():
            for message in node.ready().messages:
                self.do(node, message)

    def do(self, node: RawNode, message: Message) -> None:
        log = node.raft.log.storage
        assert isinstance(log, MemoryLog)
        if message.to == APPEND_THREAD:
            state = HardState(message.term, message.vote, message.commit)
            if not state.is_empty():
                log.set_hard_state(state)
            log.append(message.entries)
        for response in message.responses:
            node.step(response)

    def test_appends_and_applies_are_messages_with_answers(self) -> None:
        node = self.leader()
        node.propose([entry(b"a")])

        (append,) = node.ready().messages
        assert (append.type, append.to, append.entries[0].data) == (MSG_STORAGE_APPEND, APPEND_THREAD, b"a")
        assert [(one.type, one.from_, one.index) for one in append.responses] == [
            (MSG_APP_RESP, 1, 2),
            (MSG_STORAGE_APPEND_RESP, APPEND_THREAD, 2),
        ]
        self.do(node, append)
        commit, apply = node.ready().messages
        assert (commit.type, commit.commit, commit.responses) == (MSG_STORAGE_APPEND, 2, [])
        assert (apply.type, apply.to, apply.term) == (MSG_STORAGE_APPLY, APPLY_THREAD, 0)
        assert [one.type for one in apply.responses] == [MSG_STORAGE_APPLY_RESP]
        assert node.status().applied == 1
        self.do(node, apply)
        assert node.status().applied == 2

    def test_appends_may_overlap(self) -> None:
        node = self.leader()
        node.propose([entry(b"a")])
        (first,) = node.ready().messages
        node.propose([entry(b"b")])
        (second,) = node.ready().messages
        assert [made.data for made in second.entries] == [b"b"]

        self.do(node, first)
        self.do(node, second)
        self.run(node)

        assert node.status().applied == 3

    def test_there_is_no_advance(self) -> None:
        node = self.leader()
        with pytest.raises(RaftPanic, match="Advance must not be called"):
            node.advance(node.ready())

    def test_a_notice_from_before_a_change_of_term_is_void(self) -> None:
        """Source: raft's newStorageAppendRespMsg: other entries may be on their way to the same places."""
        node = make_node(1, async_storage_writes=True)
        node.step(Message(MSG_APP, 1, 2, term=1, entries=stored(1)))
        (first,) = node.ready().messages
        node.step(Message(MSG_APP, 1, 3, term=2, entries=stored(2)))
        node.step(Message(MSG_APP, 1, 2, term=3, entries=stored(1)))

        for response in first.responses:
            if response.to == 1:
                node.step(response)

        assert node.raft.log.unstable.entries == stored(1)
        assert node.raft.log.unstable.offset == 1


def test_a_v1_change_is_applied_as_one() -> None:
    node = lone_leader()

    assert node.apply_conf_change(ConfChange(3, 2)) == ConfState((1,), (2,))
