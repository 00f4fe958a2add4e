from __future__ import annotations

import pytest

from balsad.raft import (
    FOLLOWER,
    ConfState,
    HardState,
    Message,
    ProposalDroppedError,
    RawNode,
    ReadState,
    Snapshot,
)
from balsad.raft.kinds import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TRANSFER_LEADER,
)
from tests.unit.raft.raft_cluster import entry, make_log, make_node, stored, work


def follower(*terms: int, **settings: object) -> RawNode:
    """Node 1 with these terms in its log, following 2 at term 5."""
    node = make_node(1, (1, 2, 3), *terms, **settings)
    node.step(Message(MSG_HEARTBEAT, 1, 2, term=5))
    work(node)
    return node


def answer(node: RawNode, message: Message) -> Message:
    node.step(message)
    (sent,) = work(node)[0]
    return sent


@pytest.mark.parametrize(
    ("index", "log_term", "hint", "hint_term"),
    [
        # Our log: 1 1 3 3 (terms). What is beyond it, and what disagrees, gets a hint.
        (9, 5, 4, 3),
        (4, 2, 2, 1),
        (3, 2, 2, 1),
    ],
)
def test_an_append_that_does_not_fit_is_rejected_with_a_hint(
    index: int, log_term: int, hint: int, hint_term: int
) -> None:
    node = follower(1, 1, 3, 3)

    sent = answer(node, Message(MSG_APP, 1, 2, term=5, index=index, log_term=log_term))

    assert (sent.type, sent.reject, sent.index, sent.reject_hint, sent.log_term) == (
        MSG_APP_RESP,
        True,
        index,
        hint,
        hint_term,
    )


def test_conflicting_entries_are_replaced() -> None:
    """Raft paper 5.3."""
    node = follower(1, 2, 2)

    sent = answer(node, Message(MSG_APP, 1, 2, term=5, index=1, log_term=1, entries=stored(3, 3, first=2), commit=2))

    assert (sent.index, sent.reject) == (3, False)
    assert [made.term for made in node.raft.log.slice(1, 4, 10**9)] == [1, 3, 3]
    assert node.raft.log.committed == 2


def test_what_is_committed_is_not_looked_at_again() -> None:
    node = follower(1, 1)
    answer(node, Message(MSG_APP, 1, 2, term=5, index=2, log_term=1, commit=2))

    sent = answer(node, Message(MSG_APP, 1, 2, term=5, index=1, log_term=1, entries=stored(9, first=2)))

    assert (sent.index, sent.reject) == (2, False)
    assert node.raft.log.term(2) == 1


def test_a_heartbeat_is_answered_with_its_context() -> None:
    node = follower(1)

    sent = answer(node, Message(MSG_HEARTBEAT, 1, 2, term=5, commit=1, context=b"c"))

    assert (sent.type, sent.context, node.raft.log.committed) == (MSG_HEARTBEAT_RESP, b"c", 1)


def test_proposals_are_forwarded_as_they_are() -> None:
    node = follower()
    batch = [entry(b"a"), entry(b"b")]

    node.propose(batch)

    (sent,) = work(node)[0]
    assert (sent.type, sent.to, sent.from_, sent.term, sent.entries) == (MSG_PROP, 2, 1, 0, batch)


def test_proposals_are_not_forwarded_if_told_so() -> None:
    node = follower(disable_proposal_forwarding=True)

    with pytest.raises(ProposalDroppedError):
        node.propose([entry()])


def test_the_leaders_answer_to_a_read() -> None:
    node = follower()
    node.step(Message(MSG_READ_INDEX_RESP, 1, 2, term=5, index=7, entries=[entry(b"r")]))
    node.step(Message(MSG_READ_INDEX_RESP, 1, 2, term=5, index=7))

    assert node.ready().read_states == [ReadState(7, b"r")]


def snapshot(index: int = 9, term: int = 4, voters: tuple[int, ...] = (1, 2)) -> Snapshot:
    return Snapshot(index, term, ConfState(voters), b"state")


def test_a_snapshot_takes_the_place_of_the_log() -> None:
    node = follower(1, 1)
    given = snapshot()
    node.step(Message(MSG_SNAP, 1, 2, term=5, snapshot=given))
    ready = node.ready()
    assert ready.snapshot is given
    assert [(sent.type, sent.index) for sent in ready.messages] == [(MSG_APP_RESP, 9)]
    # It cannot lead before it has applied it.
    node.campaign()
    assert node.raft.role == FOLLOWER

    storage = node.raft.log.storage
    storage.apply_snapshot(given)  # type: ignore[attr-defined]
    node.advance(ready)

    status = node.status()
    assert (status.commit, status.applied, status.config.incoming) == (9, 9, (1, 2))
    assert (node.raft.log.first_index(), node.raft.log.last_index(), node.raft.log.term(9)) == (10, 9, 4)


def test_a_snapshot_of_what_we_have_only_commits() -> None:
    node = follower(1, 1)

    sent = answer(node, Message(MSG_SNAP, 1, 2, term=5, snapshot=snapshot(2, 1)))

    assert (sent.index, node.raft.log.committed, node.raft.log.first_index()) == (2, 2, 1)


@pytest.mark.parametrize("voters", [(2, 3), ()])
def test_a_snapshot_that_does_not_know_us_is_ignored(voters: tuple[int, ...]) -> None:
    node = follower(1, 1)

    sent = answer(node, Message(MSG_SNAP, 1, 2, term=5, snapshot=snapshot(voters=voters)))

    assert (sent.index, node.raft.log.last_index()) == (0, 2)


def test_an_old_snapshot_is_ignored() -> None:
    node = follower(1, 1)
    answer(node, Message(MSG_HEARTBEAT, 1, 2, term=5, commit=2))

    sent = answer(node, Message(MSG_SNAP, 1, 2, term=5, snapshot=snapshot(2, 1)))

    assert sent.index == 2


def test_a_transfer_is_forwarded_once() -> None:
    """Two followers that take each other for the leader would send it to and fro; etcd's raft panics."""
    node = follower(1)
    node.step(Message(MSG_TRANSFER_LEADER, 1, 3))
    assert [(sent.type, sent.to, sent.from_) for sent in work(node)[0]] == [(MSG_TRANSFER_LEADER, 2, 3)]

    node.step(Message(MSG_TRANSFER_LEADER, 1, 3, term=5))
    assert work(node)[0] == []


@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
@pytest.mark.parametrize("settings", [{"pre_vote": True}, {"check_quorum": True}])
def test_a_leader_of_an_older_term_is_told(settings: dict[str, bool], kind: int) -> None:
    """With leases or pre-votes nobody would follow our newer term otherwise: it has to step down."""
    node = follower(1, **settings)
    sent = answer(node, Message(kind, 1, 3, term=4))
    assert (sent.type, sent.to, sent.term) == (MSG_APP_RESP, 3, 5)


def test_a_leader_of_an_older_term_is_ignored_without_leases_and_pre_votes() -> None:
    node = follower(1)
    node.step(Message(MSG_APP, 1, 3, term=4))
    assert work(node)[0] == []


def test_a_snapshot_of_what_is_long_committed_changes_nothing() -> None:
    """It was sent long ago, and may be of what is compacted away here."""
    log = make_log((1, 2, 3), 1, 1, 1, 1, 1)
    log.create_snapshot(4, None, b"later")
    log.compact(4)
    log.set_hard_state(HardState(1, 0, 5))
    node = make_node(1, log=log)
    node.step(Message(MSG_HEARTBEAT, 1, 2, term=5))
    work(node)

    sent = answer(node, Message(MSG_SNAP, 1, 2, term=5, snapshot=Snapshot(2, 1, ConfState((1, 2, 3)), b"older")))

    assert (sent.type, sent.index) == (MSG_APP_RESP, 5)
    assert (node.raft.log.first_index(), node.raft.log.last_index(), node.status().commit) == (5, 5, 5)
