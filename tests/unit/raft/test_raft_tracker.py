from __future__ import annotations

import pytest

from balsad.raft import Configuration, Progress, RaftPanic
from balsad.raft.quorum import VOTE_LOST, VOTE_PENDING, VOTE_WON
from balsad.raft.tracker import PROBE, REPLICATE, SNAPSHOT, Inflights, Tracker


def progress(match: int = 1, next: int = 5, *, window: int = 256) -> Progress:
    return Progress(match, next, Inflights(window), False, True)


def tracker(*voters: int, outgoing: tuple[int, ...] = (), learners: tuple[int, ...] = ()) -> Tracker:
    made = Tracker(10)
    everyone = {node_id: progress() for node_id in {*voters, *outgoing, *learners}}
    for node_id in learners:
        everyone[node_id].is_learner = True
    made.switch(Configuration(tuple(sorted(voters)), outgoing, learners), everyone)
    return made


def test_a_window_counts_messages_and_frees_them_in_order() -> None:
    window = Inflights(3)
    for index in (2, 4, 6):
        window.add(index, 10)
    assert window.is_full()
    with pytest.raises(RaftPanic, match="cannot add into a Full inflights"):
        window.add(8, 10)

    window.free_to(1)
    assert len(window) == 3
    window.free_to(5)
    assert (len(window), window.bytes, window.is_full()) == (1, 10, False)
    window.free_to(6)
    assert (len(window), window.bytes) == (0, 0)


def test_the_limit_of_bytes_is_soft() -> None:
    """Source: raft's TestInflightFull: the message that reaches the limit still goes."""
    window = Inflights(10, 100)

    window.add(1, 99)
    assert not window.is_full()
    window.add(2, 50)
    assert window.is_full()
    copied = window.copy()
    window.reset()
    assert not window.is_full()
    assert copied.is_full() and len(copied) == 2


def test_probing_sends_one_append_at_a_time() -> None:
    node = progress()
    node.become_probe()
    assert (node.state, node.next) == (PROBE, 2)

    node.sent_entries(0, 0)
    assert not node.is_paused()
    node.sent_entries(3, 30)
    assert node.is_paused()
    assert node.next == 2


def test_replicating_runs_ahead_until_the_window_is_full() -> None:
    node = progress(window=2)
    node.become_replicate()

    node.sent_entries(3, 30)
    assert (node.next, node.is_paused()) == (5, False)
    node.sent_entries(1, 10)
    assert (node.next, node.is_paused()) == (6, True)


def test_no_append_goes_out_while_a_snapshot_is_on_its_way() -> None:
    node = progress()
    node.become_snapshot(10)

    assert (node.state, node.next, node.is_paused()) == (SNAPSHOT, 11, True)
    with pytest.raises(RaftPanic, match="sending append in unhandled state StateSnapshot"):
        node.sent_entries(1, 1)
    node.become_probe()
    assert (node.state, node.next) == (PROBE, 11)


def test_a_failed_snapshot_is_not_probed_after() -> None:
    node = progress()
    node.become_snapshot(10)
    node.pending_snapshot = 0

    node.become_probe()

    assert node.next == 2


@pytest.mark.parametrize(
    ("acked", "match", "next", "news"), [(0, 3, 5, False), (3, 3, 5, False), (4, 4, 5, True), (5, 5, 6, True)]
)
def test_acks_move_match_forward_and_next_before_it(acked: int, match: int, next: int, news: bool) -> None:
    """Source: raft's TestProgressUpdate."""
    node = progress(3, 5)

    assert node.maybe_update(acked) is news
    assert (node.match, node.next) == (match, next)


@pytest.mark.parametrize(
    ("state", "match", "next", "rejected", "hint", "news", "then"),
    [
        # Replicating: what is matched already cannot be rejected.
        (REPLICATE, 5, 10, 5, 5, False, 10),
        (REPLICATE, 5, 10, 4, 4, False, 10),
        (REPLICATE, 5, 10, 9, 9, True, 6),
        # Probing: only the probe that is out can be.
        (PROBE, 0, 0, 0, 0, False, 0),
        (PROBE, 0, 10, 5, 5, False, 10),
        (PROBE, 0, 10, 9, 9, True, 9),
        (PROBE, 0, 2, 1, 1, True, 1),
        (PROBE, 0, 1, 0, 0, True, 1),
        (PROBE, 0, 10, 9, 2, True, 3),
        (PROBE, 0, 10, 9, 0, True, 1),
        (PROBE, 0, 10, 9, 20, True, 9),
    ],
)
def test_rejections_move_next_back(
    state: int, match: int, next: int, rejected: int, hint: int, news: bool, then: int
) -> None:
    """Source: raft's TestProgressMaybeDecr."""
    node = progress(match, next)
    node.state = state

    assert node.maybe_decrease(rejected, hint) is news
    assert (node.match, node.next) == (match, then)


def test_the_commit_index_is_worth_sending_once() -> None:
    """Source: raft's TestProgressCanBumpCommit."""
    node = progress(3, 6)
    assert node.can_bump_commit(4)

    node.sent_commit = 4
    assert not node.can_bump_commit(4)
    assert node.can_bump_commit(5)
    # It commits all that was sent already: more cannot help.
    node.sent_commit = 5
    assert not node.can_bump_commit(9)


def test_committed_is_what_a_quorum_matches() -> None:
    made = tracker(1, 2, 3, learners=(4,))
    for node_id, match in ((1, 9), (2, 5), (3, 2), (4, 9)):
        made.progress[node_id].match = match

    assert made.committed() == 5
    assert tracker(1).committed() == 1


def test_a_joint_configuration_needs_both_majorities() -> None:
    made = tracker(1, 2, 3, outgoing=(3, 4, 5))
    for node_id, match in ((1, 9), (2, 9), (3, 2), (4, 3), (5, 1)):
        made.progress[node_id].match = match

    assert made.committed() == 2


def test_a_quorum_of_active_voters() -> None:
    made = tracker(1, 2, 3, learners=(4,))
    made.progress[2].recent_active = False
    assert made.quorum_active()

    made.progress[3].recent_active = False
    assert not made.quorum_active()


def test_the_first_answer_of_a_voter_counts() -> None:
    """Source: raft's tracker.RecordVote, TallyVotes."""
    made = tracker(1, 2, 3, learners=(4,))
    made.record_vote(1, True)
    made.record_vote(4, True)
    assert made.tally() == (1, 0, VOTE_PENDING)

    made.record_vote(2, False)
    made.record_vote(2, True)
    assert made.tally() == (1, 1, VOTE_PENDING)
    made.record_vote(3, False)
    assert made.tally() == (1, 2, VOTE_LOST)

    made.reset_votes()
    for node_id in (1, 3):
        made.record_vote(node_id, True)
    assert made.tally() == (2, 0, VOTE_WON)


def test_progress_as_text() -> None:
    """Source: raft's TestProgressString."""
    node = Progress(2, 3, Inflights(1), True, False)
    node.become_snapshot(8)
    assert repr(node) == "StateSnapshot match=2 next=9 learner paused pendingSnap=8 inactive"

    node.become_replicate()
    node.sent_entries(1, 1)
    assert repr(node) == "StateReplicate match=2 next=4 learner paused inactive inflight=1[full]"
