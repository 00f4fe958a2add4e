"""A leader whose process is known to be gone is followed in turn, by pre-vote, without waiting for its silence."""

from __future__ import annotations

from typing import Any

import pytest

from balsad.raft import FOLLOWER, LEADER, NO_TURN, PRE_CANDIDATE
from tests.unit.raft.raft_cluster import Cluster, entry


def led(*ids: int, **settings: Any) -> Cluster:
    """A cluster that 2 leads, and that has heard nothing of it for one tick. Then 2 is gone."""
    cluster = Cluster(*ids, **{"check_quorum": True, "pre_vote": True, **settings})
    cluster.elect(2)
    cluster.cut(2)
    for node_id in ids:
        if node_id != 2:
            cluster.tick(node_id)
    return cluster


def test_the_turns_go_by_id_and_the_first_follows_at_once() -> None:
    cluster = led(1, 2, 3, 4, 5)
    term = cluster.nodes[1].term

    assert [cluster.nodes[node_id].forget_gone_leader(2) for node_id in (1, 3, 4, 5)] == [0, 1, 2, 3]
    cluster.nodes[1].succeed(term)
    cluster.settle()

    assert cluster.nodes[1].raft.role == LEADER
    assert [cluster.nodes[node_id].raft.lead for node_id in (3, 4, 5)] == [1, 1, 1]
    # Whose turn comes later finds that there is a leader.
    cluster.nodes[3].succeed(term)
    assert (cluster.nodes[3].raft.role, cluster.nodes[3].raft.lead) == (FOLLOWER, 1)


def test_who_has_less_of_the_log_leaves_it_to_the_next() -> None:
    cluster = Cluster(1, 2, 3, check_quorum=True, pre_vote=True)
    cluster.elect(2)
    cluster.lost = lambda message: 1 in (message.from_, message.to)
    cluster.nodes[2].propose([entry()])
    cluster.settle()
    cluster.cut(2)
    term = cluster.nodes[1].term
    for node_id in (1, 3):
        cluster.tick(node_id)
        cluster.nodes[node_id].forget_gone_leader(2)

    cluster.nodes[1].succeed(term)
    cluster.settle()
    assert cluster.nodes[1].raft.role == PRE_CANDIDATE
    cluster.nodes[3].succeed(term)
    cluster.settle()

    assert (cluster.nodes[3].raft.role, cluster.nodes[1].raft.lead) == (LEADER, 3)


def test_who_does_not_know_that_the_leader_is_gone_refuses_and_nothing_has_changed() -> None:
    """Also when it is not gone: only the link from here is broken."""
    cluster = led(1, 2, 3)
    cluster.heal()
    cluster.lost = lambda message: {message.from_, message.to} == {1, 2}
    term = cluster.nodes[1].term
    cluster.nodes[1].forget_gone_leader(2)

    cluster.nodes[1].succeed(term)
    cluster.settle()

    assert [cluster.nodes[node_id].term for node_id in (1, 2, 3)] == [term] * 3
    assert (cluster.nodes[2].raft.role, cluster.nodes[3].raft.lead) == (LEADER, 2)
    cluster.heal()
    cluster.tick(2)
    assert (cluster.nodes[1].raft.role, cluster.nodes[1].raft.lead) == (FOLLOWER, 2)


def test_a_leader_that_was_forgotten_and_lives_answers_no_read_and_commits_nothing() -> None:
    cluster = led(1, 2, 3)
    term = cluster.nodes[1].term
    for node_id in (1, 3):
        cluster.nodes[node_id].forget_gone_leader(2)
    cluster.nodes[1].succeed(term)
    cluster.settle()
    old = cluster.nodes[2]
    committed = old.raft.log.committed
    assert old.raft.role == LEADER

    old.read_index(b"who leads?")
    old.propose([entry()])
    cluster.settle()

    assert old.raft.read_states == []
    assert old.raft.log.committed == committed
    cluster.heal()
    cluster.tick(1)
    assert (old.raft.role, old.raft.lead) == (FOLLOWER, 1)


@pytest.mark.parametrize(
    "settings",
    [{"pre_vote": False}, {"read_only_lease_based": True}],
    ids=["votes would raise terms", "the lease answers reads"],
)
def test_a_leader_is_not_forgotten_where_that_would_do_harm(settings: dict[str, Any]) -> None:
    cluster = led(1, 2, 3, **settings)

    assert cluster.nodes[1].forget_gone_leader(2) == NO_TURN
    cluster.nodes[1].succeed(cluster.nodes[1].term)

    assert (cluster.nodes[1].raft.role, cluster.nodes[1].raft.lead) == (FOLLOWER, 2)


def test_who_was_heard_a_moment_ago_is_not_gone_nor_is_another_the_leader() -> None:
    cluster = Cluster(1, 2, 3, check_quorum=True, pre_vote=True)
    cluster.elect(2)

    assert cluster.nodes[1].forget_gone_leader(2) == NO_TURN
    cluster.tick(1)
    assert cluster.nodes[1].forget_gone_leader(3) == NO_TURN
    assert cluster.nodes[2].forget_gone_leader(2) == NO_TURN

    assert [cluster.nodes[node_id].raft.lead for node_id in (1, 2, 3)] == [2, 2, 2]


def test_a_learner_forgets_and_has_no_turn() -> None:
    cluster = led(1, 2, 3, learners=[4])
    cluster.tick(4)

    assert cluster.nodes[4].forget_gone_leader(2) == NO_TURN

    assert cluster.nodes[4].raft.lead == 0


def test_a_turn_that_comes_in_another_term_is_void() -> None:
    cluster = led(1, 2, 3)
    term = cluster.nodes[3].term
    cluster.nodes[3].forget_gone_leader(2)
    cluster.nodes[3].raft.become_follower(term + 1, 0)

    cluster.nodes[3].succeed(term)

    assert cluster.nodes[3].raft.role == FOLLOWER


def test_a_quorum_is_counted_in_both_halves_of_a_joint_configuration() -> None:
    cluster = Cluster(1, 2, 3)
    node = cluster.nodes[1]

    assert node.is_quorum(lambda voter: voter == 3)
    assert not node.is_quorum(lambda voter: False)
    config = node.raft.tracker.config
    config.incoming, config.outgoing = (1, 2, 3), (1, 4, 5)
    assert not node.is_quorum(lambda voter: voter == 3)
    assert node.is_quorum(lambda voter: voter in (3, 5))
