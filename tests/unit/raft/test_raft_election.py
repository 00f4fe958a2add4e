from __future__ import annotations

from typing import Any

import pytest

from balsad.raft import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, ConfChange, Entry, HardState, Message, RawNode
from balsad.raft.kinds import (
    CAMPAIGN_TRANSFER,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from tests.unit.raft.raft_cluster import Cluster, entry, make_node, work


def role_of(node: RawNode) -> int:
    return node.raft.role


def sent_by(node: RawNode) -> list[tuple[int, int, int, bool]]:
    return [(message.type, message.to, message.term, message.reject) for message in work(node)[0]]


def test_a_follower_that_hears_nothing_starts_an_election() -> None:
    """Raft paper 5.2."""
    node = make_node(random=lambda n: 4)
    for _ in range(13):
        node.tick()
    assert role_of(node) == FOLLOWER

    node.tick()
    assert (role_of(node), node.raft.term, node.raft.vote) == (CANDIDATE, 1, 1)
    assert sent_by(node) == [(MSG_VOTE, 2, 1, False), (MSG_VOTE, 3, 1, False)]


def test_the_election_timeout_is_drawn_anew_each_time() -> None:
    drawn = iter([0, 9, 3, 5, 5])
    asked: list[int] = []

    def random(n: int) -> int:
        asked.append(n)
        return next(drawn)

    node = make_node(random=random)
    node.raft.become_follower(1, 0)
    assert node.raft.randomized_election_timeout == 19
    node.campaign()
    assert node.raft.randomized_election_timeout == 13
    assert set(asked) == {10}


def test_a_heartbeat_puts_the_election_off() -> None:
    node = make_node()
    for _ in range(9):
        node.tick()
    node.step(Message(MSG_HEARTBEAT, 1, 2, term=1))
    for _ in range(9):
        node.tick()

    assert (role_of(node), node.raft.lead) == (FOLLOWER, 2)


def test_a_lone_voter_wins_once_its_vote_is_on_disk() -> None:
    node = make_node(1, (1,))
    node.campaign()
    assert role_of(node) == CANDIDATE

    ready = node.ready()
    assert (ready.hard_state, ready.must_sync) == (HardState(1, 1, 0), True)
    node.advance(ready)
    assert role_of(node) == LEADER


@pytest.mark.parametrize(
    ("answers", "role"),
    [
        ({2: True}, LEADER),
        ({2: False}, CANDIDATE),
        ({2: False, 3: True}, LEADER),
        ({2: False, 3: False}, FOLLOWER),
        ({}, CANDIDATE),
    ],
)
def test_a_majority_decides(answers: dict[int, bool], role: int) -> None:
    node = make_node()
    node.campaign()
    work(node)

    for voter, granted in answers.items():
        node.step(Message(MSG_VOTE_RESP, 1, voter, term=1, reject=not granted))

    assert (role_of(node), node.raft.term) == (role, 1)


@pytest.mark.parametrize("vote", [0, 2, 3])
def test_one_vote_a_term(vote: int) -> None:
    """Raft paper 5.2: first come, first served, and the same again for whom it was."""
    node = make_node()
    node.raft.term = 1
    node.raft.vote = vote

    node.step(Message(MSG_VOTE, 1, 2, term=1))

    granted = vote in (0, 2)
    assert sent_by(node) == [(MSG_VOTE_RESP, 2, 1, not granted)]
    assert node.raft.vote == (2 if granted else vote)


@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(1, 1, False), (2, 1, False), (3, 1, False), (1, 2, False), (2, 2, True), (3, 2, True), (1, 3, True)],
)
def test_no_vote_for_an_older_log(index: int, log_term: int, granted: bool) -> None:
    """Raft paper 5.4.1."""
    node = make_node(1, (1, 2, 3), 1, 2)

    node.step(Message(MSG_VOTE, 1, 2, term=3, index=index, log_term=log_term))

    assert sent_by(node) == [(MSG_VOTE_RESP, 2, 3, not granted)]


def test_a_vote_leaves_only_with_the_state_that_remembers_it() -> None:
    node = make_node(async_storage_writes=True)
    node.step(Message(MSG_VOTE, 1, 2, term=1))

    ready = node.ready()

    (append,) = ready.messages
    assert (append.term, append.vote) == (1, 2)
    assert [(message.type, message.to) for message in append.responses] == [(MSG_VOTE_RESP, 2)]


@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
@pytest.mark.parametrize("term", [1, 2])
def test_a_candidate_that_hears_of_a_leader_follows_it(kind: int, term: int) -> None:
    node = make_node()
    node.campaign()

    node.step(Message(kind, 1, 3, term=term))

    assert (role_of(node), node.raft.term, node.raft.lead) == (FOLLOWER, term, 3)


def test_a_learner_does_not_campaign_but_votes() -> None:
    node = make_node(4, (1, 2, 3), learners=(4,))
    for _ in range(40):
        node.tick()
    node.campaign()
    assert role_of(node) == FOLLOWER

    node.step(Message(MSG_VOTE, 4, 1, term=1))
    assert sent_by(node) == [(MSG_VOTE_RESP, 1, 1, False)]


def test_nobody_campaigns_with_a_configuration_change_not_applied() -> None:
    """Source: raft's hup: who votes may be about to change."""
    leader = make_node(1, (1,))
    leader.campaign()
    work(leader)
    leader.propose_conf_change(ConfChange(0, 2))
    ready = leader.ready()
    (change,) = ready.entries

    node = make_node(2)
    node.step(Message(MSG_APP, 2, 1, term=1, entries=[Entry(change.type, 1, 1, change.data)], commit=1))
    node.campaign()
    assert role_of(node) == FOLLOWER

    work(node)
    node.campaign()
    assert role_of(node) == CANDIDATE


class TestPreVote:
    def test_a_node_cut_off_does_not_raise_its_term(self) -> None:
        """Raft thesis 9.6."""
        cluster = Cluster(1, 2, 3, pre_vote=True)
        cluster.elect(1)
        cluster.cut(3)
        cluster.tick(3, 50)
        assert (role_of(cluster.nodes[3]), cluster.nodes[3].raft.term) == (PRE_CANDIDATE, 1)

        cluster.heal()
        cluster.tick(1)
        assert cluster.nodes[3].raft.lead == 1
        assert cluster.nodes[1].raft.term == 1

    def test_a_pre_vote_changes_neither_term_nor_vote_of_who_is_asked(self) -> None:
        node = make_node()
        node.step(Message(MSG_PRE_VOTE, 1, 2, term=5))

        assert sent_by(node) == [(MSG_PRE_VOTE_RESP, 2, 5, False)]
        assert (node.raft.term, node.raft.vote) == (0, 0)

    def test_a_pre_vote_of_an_older_term_is_refused_with_ours(self) -> None:
        node = make_node()
        node.raft.term = 3

        node.step(Message(MSG_PRE_VOTE, 1, 2, term=2))

        assert sent_by(node) == [(MSG_PRE_VOTE_RESP, 2, 3, True)]

    def test_a_pre_vote_won_is_followed_by_a_real_one(self) -> None:
        node = make_node(pre_vote=True)
        node.campaign()
        assert sent_by(node) == [(MSG_PRE_VOTE, 2, 1, False), (MSG_PRE_VOTE, 3, 1, False)]

        node.step(Message(MSG_PRE_VOTE_RESP, 1, 2, term=1))
        assert (role_of(node), node.raft.term) == (CANDIDATE, 1)
        # A late answer to the pre-vote is no vote.
        node.step(Message(MSG_PRE_VOTE_RESP, 1, 3, term=1))
        work(node)
        assert role_of(node) == CANDIDATE

    def test_a_refusal_with_a_newer_term_ends_it(self) -> None:
        node = make_node(pre_vote=True)
        node.campaign()
        work(node)

        node.step(Message(MSG_PRE_VOTE_RESP, 1, 2, term=4, reject=True))

        assert (role_of(node), node.raft.term) == (FOLLOWER, 4)


class TestCheckQuorum:
    def test_a_leader_without_a_quorum_steps_down(self) -> None:
        """Raft thesis 6.2."""
        cluster = Cluster(1, 2, 3, check_quorum=True)
        leader = cluster.elect(1)
        cluster.cut(1)

        cluster.tick(1, 10)
        assert role_of(leader) == LEADER
        cluster.tick(1, 10)
        assert (role_of(leader), leader.raft.lead, leader.raft.term) == (FOLLOWER, 0, 1)

    def test_one_other_of_three_is_a_quorum(self) -> None:
        cluster = Cluster(1, 2, 3, check_quorum=True)
        leader = cluster.elect(1)
        cluster.cut(3)

        cluster.tick(1, 40)

        assert role_of(leader) == LEADER

    @pytest.mark.parametrize("kind", [MSG_VOTE, MSG_PRE_VOTE])
    def test_no_vote_while_the_leader_has_our_lease(self, kind: int) -> None:
        cluster = Cluster(1, 2, 3, check_quorum=True)
        cluster.elect(1)
        request = Message(kind, 2, 3, term=9, index=9, log_term=9)

        cluster.nodes[2].step(request)
        assert sent_by(cluster.nodes[2]) == []
        assert cluster.nodes[2].raft.term == 1

        request.context = CAMPAIGN_TRANSFER
        cluster.nodes[2].step(request)
        assert [answer[3] for answer in sent_by(cluster.nodes[2])] == [False]

    def test_a_node_with_a_newer_term_makes_the_leader_step_down_so_that_it_can_join(self) -> None:
        """Source: raft's TestFreeStuckCandidateWithCheckQuorum."""
        cluster = Cluster(1, 2, 3, check_quorum=True)
        cluster.elect(1)
        cluster.cut(3)
        cluster.nodes[3].raft.become_follower(1, 0)
        cluster.nodes[3].campaign()
        cluster.settle()
        assert cluster.nodes[3].raft.term == 2
        cluster.heal()

        cluster.nodes[3].step(Message(MSG_HEARTBEAT, 3, 1, term=1))
        assert sent_by(cluster.nodes[3]) == [(MSG_APP_RESP, 1, 2, False)]
        cluster.nodes[1].step(Message(MSG_APP_RESP, 1, 3, term=2))

        assert (role_of(cluster.nodes[1]), cluster.nodes[1].raft.term) == (FOLLOWER, 2)

    def test_a_follower_that_forgets_its_leader_votes_for_another(self) -> None:
        cluster = Cluster(1, 2, 3, check_quorum=True)
        cluster.elect(1)
        cluster.nodes[2].forget_leader()
        assert cluster.nodes[2].raft.lead == 0

        cluster.nodes[2].step(Message(MSG_VOTE, 2, 3, term=2, index=1, log_term=1))

        assert [answer[3] for answer in sent_by(cluster.nodes[2])] == [False]

    def test_a_leader_is_not_forgotten_while_it_reads_by_its_lease(self) -> None:
        cluster = Cluster(1, 2, 3, check_quorum=True, read_only_lease_based=True)
        cluster.elect(1)

        cluster.nodes[2].forget_leader()

        assert cluster.nodes[2].raft.lead == 1


class TestTransfer:
    def test_leadership_goes_to_who_is_up_to_date_at_once(self) -> None:
        """Raft thesis 3.10."""
        cluster = Cluster(1, 2, 3, check_quorum=True, pre_vote=True)
        leader = cluster.elect(1)

        leader.transfer_leader(2)
        cluster.settle()

        assert [cluster.nodes[node_id].raft.lead for node_id in (1, 2, 3)] == [2, 2, 2]
        assert role_of(cluster.nodes[2]) == LEADER

    def test_who_is_behind_catches_up_first(self) -> None:
        cluster = Cluster(1, 2, 3)
        leader = cluster.elect(1)
        cluster.cut(3)
        leader.propose([entry()])
        cluster.settle()
        cluster.heal()

        leader.transfer_leader(3)
        cluster.settle()
        cluster.tick(1)

        assert role_of(cluster.nodes[3]) == LEADER

    def test_a_follower_passes_the_request_on(self) -> None:
        cluster = Cluster(1, 2, 3)
        cluster.elect(1)

        cluster.nodes[2].transfer_leader(2)
        cluster.settle()

        assert role_of(cluster.nodes[2]) == LEADER

    def test_to_itself_is_to_call_it_off(self) -> None:
        """Source: raft's TestLeaderTransferToSelf, TestLeaderTransferSecondTransferToAnotherNode."""
        cluster = Cluster(1, 2, 3)
        leader = cluster.elect(1)
        cluster.cut(3)
        leader.propose([entry()])
        cluster.settle()
        leader.transfer_leader(3)
        cluster.settle()
        assert leader.raft.lead_transferee == 3

        leader.transfer_leader(1)

        assert leader.raft.lead_transferee == 0
        leader.propose([entry()])

    @pytest.mark.parametrize("transferee", [1, 4, 9])
    def test_never_to_itself_a_learner_or_a_stranger(self, transferee: int) -> None:
        cluster = Cluster(1, 2, 3, learners=(4,))
        leader = cluster.elect(1)

        leader.transfer_leader(transferee)

        assert leader.raft.lead_transferee == 0
        leader.propose([entry()])

    def test_it_is_given_up_after_an_election_timeout(self) -> None:
        cluster = Cluster(1, 2, 3)
        leader = cluster.elect(1)
        cluster.cut(3)
        leader.transfer_leader(3)
        assert leader.status().lead_transferee == 3

        cluster.tick(1, 10)

        assert (role_of(leader), leader.raft.lead_transferee) == (LEADER, 0)

    def test_a_second_request_replaces_the_first(self) -> None:
        cluster = Cluster(1, 2, 3)
        leader = cluster.elect(1)
        cluster.cut(3)
        leader.transfer_leader(3)
        cluster.settle()

        leader.transfer_leader(2)
        cluster.settle()

        assert role_of(cluster.nodes[2]) == LEADER

    def test_who_is_told_to_campaigns_without_a_pre_vote(self) -> None:
        node = make_node(pre_vote=True)
        node.step(Message(MSG_TIMEOUT_NOW, 1, 2, term=1))

        assert role_of(node) == CANDIDATE
        assert [message.context for message in work(node)[0]] == [CAMPAIGN_TRANSFER, CAMPAIGN_TRANSFER]


@pytest.mark.parametrize("settings", [{}, {"pre_vote": True}, {"pre_vote": True, "check_quorum": True}])
def test_a_new_leader_has_all_that_was_committed(settings: dict[str, Any]) -> None:
    """Raft paper 5.4: leader completeness."""
    cluster = Cluster(1, 2, 3, **settings)
    leader = cluster.elect(1)
    cluster.cut(3)
    leader.propose([entry(b"a")])
    cluster.settle()
    cluster.heal()
    cluster.lost = lambda message: 1 in (message.from_, message.to)
    for node_id in (2, 3):
        cluster.nodes[node_id].raft.lead = 0

    cluster.nodes[3].campaign()
    cluster.settle()
    assert role_of(cluster.nodes[3]) != LEADER
    for node_id in (2, 3):
        cluster.nodes[node_id].raft.lead = 0
    cluster.nodes[2].campaign()
    cluster.settle()

    assert role_of(cluster.nodes[2]) == LEADER
    assert b"a" in [committed.data for committed in cluster.applied[3]]
