from __future__ import annotations

import pytest

from balsad.raft import (
    FOLLOWER,
    LEADER,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    MemoryLog,
    Message,
    ProposalDroppedError,
    RawNode,
    ReadState,
    Snapshot,
    SnapshotTemporarilyUnavailableError,
)
from balsad.raft.kinds import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_VOTE_RESP,
)
from balsad.raft.tracker import PROBE, REPLICATE, SNAPSHOT
from tests.unit.raft.raft_cluster import Cluster, entry, make_log, make_node, work


def lead(node: RawNode) -> RawNode:
    """Make it leader, by the votes of all others."""
    node.campaign()
    work(node)
    for voter in node.raft.tracker.config.voters():
        if voter != node.raft.id:
            node.step(Message(MSG_VOTE_RESP, node.raft.id, voter, term=node.raft.term))
    assert node.raft.role == LEADER
    return node


def leader_of(*voters: int, **settings: object) -> RawNode:
    """Node 1, with an empty log at its followers: entry 1 is on its way to them."""
    node = lead(make_node(1, voters, **settings))
    work(node)
    return node


def ack(node: RawNode, follower: int, index: int, **fields: int | bool) -> None:
    node.step(Message(MSG_APP_RESP, node.raft.id, follower, term=node.raft.term, index=index, **fields))  # type: ignore[arg-type]


def appends(messages: list[Message], to: int = 2) -> list[tuple[int, int, int]]:
    """(previous index, entries, commit) of each append to a node."""
    return [
        (message.index, len(message.entries), message.commit)
        for message in messages
        if message.type == MSG_APP and message.to == to
    ]


class TestProposing:
    def test_a_batch_is_one_append_with_the_very_same_entries(self) -> None:
        node = leader_of(1)
        batch = [entry(b"a", context="one"), entry(b"b", context="two")]

        node.propose(batch)
        ready = node.ready()

        assert [made is given for made, given in zip(ready.entries, batch, strict=True)] == [True, True]
        assert [(made.term, made.index, made.context) for made in ready.entries] == [(1, 2, "one"), (1, 3, "two")]

    def test_it_is_committed_once_a_quorum_has_it_on_disk(self) -> None:
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        work(node)
        node.propose([entry()])
        ready = node.ready()
        ack(node, 2, 2)
        assert node.raft.log.committed == 1

        node.advance(ready)
        assert node.raft.log.committed == 2

    def test_a_proposer_without_leader_is_refused(self) -> None:
        node = make_node()
        with pytest.raises(ProposalDroppedError) as caught:
            node.propose([entry()])
        assert (str(caught.value), caught.value.reason) == ("raft proposal dropped", "no leader")

        node.campaign()
        with pytest.raises(ProposalDroppedError):
            node.propose([entry()])

    def test_nothing_is_appended_while_leadership_is_being_handed_over(self) -> None:
        node = leader_of(1, 2, 3)
        node.transfer_leader(2)

        with pytest.raises(ProposalDroppedError):
            node.propose([entry()])

    def test_the_uncommitted_tail_has_a_limit(self) -> None:
        """Source: raft's TestUncommittedEntryLimit."""
        node = leader_of(1, 2, 3, max_uncommitted_entries_size=100)
        ack(node, 2, 1)
        work(node)
        # An empty tail takes anything, empty entries are always taken.
        node.propose([entry(b"x" * 200)])
        with pytest.raises(ProposalDroppedError) as caught:
            node.propose([entry(b"x")])
        assert caught.value.reason == "uncommitted entry size limit"
        node.propose([entry(b"")])

        work(node)
        ack(node, 2, 3)
        work(node)
        node.propose([entry(b"x" * 60), entry(b"x" * 40)])
        assert node.raft.uncommitted_size == 100

    def test_an_entry_of_an_earlier_term_is_committed_only_with_one_of_ours(self) -> None:
        """Raft paper 5.4.2."""
        node = make_node(1, (1, 2, 3), 1, 2)
        node.raft.term = 2
        lead(node)
        work(node)

        ack(node, 2, 2)
        assert node.raft.log.committed == 0
        ack(node, 2, 3)
        assert node.raft.log.committed == 3


class TestReplicating:
    def test_a_follower_is_probed_until_it_answers_then_sent_everything(self) -> None:
        node = leader_of(1, 2, 3)
        for _ in range(3):
            node.propose([entry()])
        assert appends(work(node)[0]) == []
        assert node.status().progress[2].state == PROBE

        ack(node, 2, 1)
        assert appends(work(node)[0]) == [(1, 3, 1)]
        node.propose([entry()])
        node.propose([entry()])
        assert appends(work(node)[0]) == [(4, 1, 1), (5, 1, 1)]
        assert node.status().progress[2].state == REPLICATE

    def test_messages_are_cut_by_size(self) -> None:
        node = leader_of(1, 2, 3, max_size_per_msg=250, max_committed_size_per_ready=10**6)
        for _ in range(5):
            node.propose([entry(b"x" * 100)])
        work(node)

        ack(node, 2, 1)

        assert appends(work(node)[0]) == [(1, 2, 1), (3, 2, 1), (5, 1, 1)]

    def test_the_window_limits_what_is_on_the_way(self) -> None:
        """Source: raft's TestMsgAppFlowControlFull, TestMsgAppFlowControlMoveForward."""
        node = leader_of(1, 2, 3, max_inflight_msgs=2)
        ack(node, 2, 1)
        work(node)
        for _ in range(4):
            node.propose([entry()])
        assert appends(work(node)[0]) == [(1, 1, 1), (2, 1, 1)]

        ack(node, 2, 2)
        assert [sent[:2] for sent in appends(work(node)[0])][:1] == [(3, 2)]

    def test_the_window_limits_bytes_too(self) -> None:
        node = leader_of(1, 2, 3, max_inflight_bytes=150, max_size_per_msg=100)
        ack(node, 2, 1)
        work(node)
        for _ in range(4):
            node.propose([entry(b"x" * 80)])

        assert [sent[:2] for sent in appends(work(node)[0])] == [(1, 1), (2, 1)]

    def test_a_full_window_is_tried_by_an_empty_append_on_each_heartbeat_answer(self) -> None:
        """Source: raft's TestMsgAppFlowControlRecvHeartbeat."""
        node = leader_of(1, 2, 3, max_inflight_msgs=1)
        ack(node, 2, 1)
        node.propose([entry()])
        node.propose([entry()])
        work(node)

        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert appends(work(node)[0]) == [(2, 0, 1)]
        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert appends(work(node)[0]) == [(2, 0, 1)]

    def test_a_rejection_is_answered_from_where_the_logs_may_agree(self) -> None:
        """The example of `leader._append_rejected`."""
        node = lead(make_node(1, (1, 2, 3), 1, 3, 3, 3, 5, 5, 5, 5, 5))
        work(node)

        ack(node, 2, 9, reject=True, reject_hint=6, log_term=2)

        assert appends(work(node)[0]) == [(1, 9, 0)]

    def test_an_old_rejection_is_ignored(self) -> None:
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        work(node)

        ack(node, 2, 1, reject=True, reject_hint=0)

        assert appends(work(node)[0]) == []
        assert node.status().progress[2].state == REPLICATE

    def test_what_could_not_be_sent_is_probed_again(self) -> None:
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        node.propose([entry()])
        work(node)

        node.report_unreachable(2)
        assert (node.status().progress[2].state, node.status().progress[2].next) == (PROBE, 2)

        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert appends(work(node)[0]) == [(1, 1, 1)]

    def test_heartbeats_do_not_commit_beyond_what_matches(self) -> None:
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        work(node)
        node.tick()

        beats = {message.to: message.commit for message in work(node)[0] if message.type == MSG_HEARTBEAT}

        assert beats == {2: 1, 3: 0}

    def test_who_is_not_in_the_configuration_is_ignored(self) -> None:
        node = leader_of(1, 2, 3)
        node.raft.step(Message(MSG_APP_RESP, 1, 9, term=1, index=1))

        assert work(node) == ([], [])


class TestSnapshots:
    def compacted_leader(self) -> RawNode:
        """A leader whose log begins after 3; followers have nothing."""
        log = make_log((1, 2, 3), 1, 1, 1, 1)
        log.create_snapshot(3, None, b"state")
        log.compact(3)
        node = lead(make_node(1, log=log))
        work(node)
        return node

    def test_a_follower_too_far_behind_gets_a_snapshot_once_it_shows_life(self) -> None:
        node = self.compacted_leader()
        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        work(node)

        ack(node, 2, 4, reject=True, reject_hint=0)

        (sent,) = work(node)[0]
        assert (sent.type, sent.to, sent.snapshot) == (MSG_SNAP, 2, Snapshot(3, 1, ConfState((1, 2, 3)), b"state"))
        assert node.status().progress[2].state == SNAPSHOT
        node.propose([entry()])
        assert appends(work(node)[0]) == []

    def test_its_ack_brings_it_back(self) -> None:
        node = self.compacted_leader()
        ack(node, 2, 4, reject=True, reject_hint=0)
        work(node)

        ack(node, 2, 3)

        assert node.status().progress[2].state == REPLICATE
        assert [sent[:2] for sent in appends(work(node)[0])][-1] == (3, 2)

    @pytest.mark.parametrize(("ok", "next"), [(True, 4), (False, 1)])
    def test_a_report_ends_the_waiting_but_the_next_probe_waits_for_a_heartbeat(self, ok: bool, next: int) -> None:
        """Source: raft's TestSnapshotSucceed, TestSnapshotFailure."""
        node = self.compacted_leader()
        ack(node, 2, 4, reject=True, reject_hint=0)
        work(node)

        node.report_snapshot(2, ok)

        progress = node.status().progress[2]
        assert (progress.state, progress.next, progress.is_paused()) == (PROBE, next, True)

    def test_none_goes_to_who_shows_no_life(self) -> None:
        """Making and sending one is dear."""
        node = self.compacted_leader()
        ack(node, 2, 4, reject=True, reject_hint=0)
        work(node)
        node.report_snapshot(2, False)
        progress = node.raft.tracker.progress[2]
        # An election timeout goes by without a word, and a heartbeat's answer would open the way again.
        progress.recent_active = False
        progress.paused = False

        node.propose([entry()])
        assert [message.type for message in work(node)[0] if message.to == 2] == []

        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert [message.type for message in work(node)[0] if message.to == 2] == [MSG_SNAP]

    def test_a_snapshot_that_must_be_made_first_is_asked_for_again(self) -> None:
        class SlowLog:
            """The log, whose snapshot takes its time."""

            def __init__(self, log: MemoryLog) -> None:
                self.log = log
                self.ready = False
                self.initial_state = log.initial_state
                self.entries = log.entries
                self.term = log.term
                self.first_index = log.first_index
                self.last_index = log.last_index
                self.append = log.append

            def snapshot(self) -> Snapshot:
                if not self.ready:
                    raise SnapshotTemporarilyUnavailableError
                return self.log.snapshot()

        node = self.compacted_leader()
        stored_log = node.raft.log.storage
        assert isinstance(stored_log, MemoryLog)
        log = SlowLog(stored_log)
        node.raft.log.storage = log
        ack(node, 2, 4, reject=True, reject_hint=0)
        assert work(node)[0] == []

        log.ready = True
        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert [message.type for message in work(node)[0]] == [MSG_SNAP]


class TestReading:
    def test_a_lone_voter_answers_at_once(self) -> None:
        node = leader_of(1)
        node.read_index(b"r")

        assert node.ready().read_states == [ReadState(1, b"r")]

    def test_a_read_waits_for_a_quorum_of_heartbeats(self) -> None:
        """Raft thesis 6.4."""
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        work(node)
        node.read_index(b"r")
        beats = [message for message in work(node)[0] if message.type == MSG_HEARTBEAT]
        assert [message.to for message in beats] == [2, 3]
        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1))
        assert node.raft.read_states == []

        node.step(Message(MSG_HEARTBEAT_RESP, 1, 3, term=1, context=beats[0].context))
        assert node.raft.read_states == [ReadState(1, b"r")]

    def test_a_new_leader_answers_only_after_its_first_commit(self) -> None:
        node = lead(make_node(1, (1, 2, 3), 1))
        work(node)
        node.read_index(b"r")
        assert work(node)[0] == []

        ack(node, 2, 2)
        beats = [message for message in work(node)[0] if message.type == MSG_HEARTBEAT]
        node.step(Message(MSG_HEARTBEAT_RESP, 1, 2, term=1, context=beats[0].context))
        assert node.raft.read_states == [ReadState(2, b"r")]

    def test_by_lease_it_answers_without_heartbeats(self) -> None:
        node = leader_of(1, 2, 3, check_quorum=True, read_only_lease_based=True)
        ack(node, 2, 1)
        node.read_index(b"r")

        assert node.raft.read_states == [ReadState(1, b"r")]

    @pytest.mark.parametrize("lease_based", [False, True])
    def test_a_follower_reads_through_the_leader(self, lease_based: bool) -> None:
        cluster = Cluster(1, 2, 3, check_quorum=True, read_only_lease_based=lease_based)
        cluster.elect(1)
        seen: list[ReadState] = []
        node = cluster.nodes[3]
        node.read_index(b"r")
        (request,) = work(node)[0]
        assert (request.type, request.to, request.term) == (MSG_READ_INDEX, 1, 0)

        cluster.nodes[1].step(request)
        for _ in range(3):
            for node_id in (1, 2):
                for message in work(cluster.nodes[node_id])[0]:
                    cluster.nodes[message.to].step(message)
            seen += node.raft.read_states
            node.raft.read_states = []
            for message in work(node)[0]:
                cluster.nodes[message.to].step(message)

        assert seen == [ReadState(1, b"r")]

    def test_a_read_without_leader_is_dropped(self) -> None:
        node = make_node()
        node.read_index(b"r")

        assert not node.has_ready()


class TestConfigurationChanges:
    def test_a_new_voter_is_probed_at_once(self) -> None:
        cluster = Cluster(1)
        leader = cluster.elect(1)
        cluster.add(2, (1,))

        leader.propose_conf_change(ConfChange(0, 2))
        cluster.settle()

        assert leader.status().config.incoming == (1, 2)
        assert leader.status().progress[2].match == leader.status().commit
        assert cluster.nodes[2].status().config.incoming == (1, 2)

    def test_a_new_leader_lets_nobody_change_before_it_has_applied_what_it_found(self) -> None:
        """There may be a change in the tail that it inherits. Source: raft's becomeLeader."""
        node = lead(make_node(1, (1, 2, 3), 1, 1))
        work(node)

        node.propose_conf_change(ConfChange(0, 4))
        assert [found.type for found in node.raft.log.entries(4, 1 << 20)] == [0]

        ack(node, 2, 4)
        work(node)
        node.propose_conf_change(ConfChange(0, 4))
        assert [found.type for found in node.raft.log.entries(5, 1 << 20)] == [1]

    def test_a_second_change_before_the_first_is_applied_becomes_an_empty_entry_with_its_context(self) -> None:
        node = leader_of(1, 2, 3)
        ack(node, 2, 1)
        work(node)
        node.propose_conf_change(ConfChange(0, 4))
        second = entry(b"\x08\x00\x10\x00\x18\x05")
        second.type = 1
        second.context = "waiter"

        node.propose([entry(b"a"), second])

        made = node.ready().entries
        assert [(one.type, one.data, one.context) for one in made[1:]] == [(0, b"a", None), (0, b"", "waiter")]
        assert made[-1].index == made[0].index + 2

    def test_a_change_that_cannot_be_read_never_gets_into_the_log(self) -> None:
        node = leader_of(1)
        broken = entry(b"\xff")
        broken.type = 2

        with pytest.raises(ProposalDroppedError):
            node.propose([broken])
        assert node.raft.log.last_index() == 1

    def test_a_joint_configuration_is_left_by_itself(self) -> None:
        cluster = Cluster(1)
        leader = cluster.elect(1)
        for node_id in (2, 3):
            cluster.add(node_id, (1,))

        leader.propose_conf_change(ConfChangeV2(0, (ConfChangeSingle(0, 2), ConfChangeSingle(0, 3))))
        cluster.settle()

        for node in cluster.nodes.values():
            assert repr(node.status().config) == "voters=(1 2 3)"

    def test_an_explicit_joint_configuration_waits_to_be_left(self) -> None:
        cluster = Cluster(1, 2, 3)
        leader = cluster.elect(1)
        leader.propose_conf_change(ConfChangeV2(2, (ConfChangeSingle(1, 3),)))
        cluster.settle()
        assert repr(leader.status().config) == "voters=(1 2)&&(1 2 3)"

        leader.propose_conf_change(ConfChangeV2())
        cluster.settle()
        assert repr(leader.status().config) == "voters=(1 2)"

    @pytest.mark.parametrize("step_down", [False, True])
    def test_a_removed_leader_steps_down_if_asked_to(self, step_down: bool) -> None:
        cluster = Cluster(1, 2, 3, step_down_on_removal=step_down)
        leader = cluster.elect(1)

        leader.propose_conf_change(ConfChange(1, 1))
        cluster.settle()

        assert leader.raft.role == (FOLLOWER if step_down else LEADER)
        with pytest.raises(ProposalDroppedError):
            leader.propose([entry()])

    def test_a_removed_transferee_ends_the_transfer(self) -> None:
        node = leader_of(1, 2, 3)
        node.transfer_leader(3)

        node.apply_conf_change(ConfChange(1, 3))

        assert node.raft.lead_transferee == 0

    def test_a_smaller_quorum_commits_what_waited(self) -> None:
        node = leader_of(1, 2)
        node.propose([entry()])
        work(node)
        assert node.raft.log.committed == 0

        node.apply_conf_change(ConfChange(1, 2))

        assert node.raft.log.committed == 2
