"""The scenario files in `tests/scenarios/cases/confchange` say more."""

from __future__ import annotations

import pytest

from balsad.raft import ConfChangeError, ConfChangeSingle, ConfState
from balsad.raft.confchange import Changer, restore
from balsad.raft.tracker import Tracker

VOTER, REMOVE, UPDATE, LEARNER = 0, 1, 2, 3


def restored(*args: tuple[int, ...], auto_leave: bool = False) -> Tracker:
    tracker = Tracker(10)
    restore(tracker, 5, ConfState(*args, auto_leave=auto_leave))
    return tracker


@pytest.mark.parametrize(
    "state",
    [
        ConfState(),
        ConfState((1, 2, 3)),
        ConfState((1, 2, 3), (4, 5, 6)),
        ConfState((1, 2, 3), (5,), (1, 2, 4, 6), (4,)),
        ConfState((1, 2, 3), (), (3, 4), (), True),
        ConfState((3, 1, 2), (9, 7)),
    ],
)
def test_a_restored_configuration_is_the_one_described(state: ConfState) -> None:
    """Source: raft's TestRestore."""
    tracker = Tracker(10)

    restore(tracker, 20, state)

    assert tracker.config.conf_state() == state
    assert set(tracker.progress) == {*state.voters, *state.learners, *state.voters_outgoing}


def test_the_tracker_stays_as_it_is_until_switched() -> None:
    tracker = restored((1, 2, 3))

    config, progress = Changer(tracker, 9).simple((ConfChangeSingle(LEARNER, 3),))

    assert repr(config) == "voters=(1 2) learners=(3)"
    assert progress[3].is_learner
    assert repr(tracker.config) == "voters=(1 2 3)"
    assert not tracker.progress[3].is_learner


def test_a_demoted_voter_learns_once_the_joint_configuration_is_left() -> None:
    tracker = restored((1, 2, 3))
    changes = (ConfChangeSingle(LEARNER, 3), ConfChangeSingle(VOTER, 4))

    tracker.switch(*Changer(tracker, 9).enter_joint(True, changes))
    assert repr(tracker.config) == "voters=(1 2 4)&&(1 2 3) learners_next=(3) autoleave"
    assert not tracker.progress[3].is_learner

    tracker.switch(*Changer(tracker, 10).leave_joint())
    assert repr(tracker.config) == "voters=(1 2 4) learners=(3)"
    assert tracker.progress[3].is_learner


def test_a_new_node_counts_as_heard_of_and_is_probed_from_our_end() -> None:
    config, progress = Changer(restored((1,)), 9).simple((ConfChangeSingle(VOTER, 2),))

    assert config.incoming == (1, 2)
    assert (progress[2].match, progress[2].next, progress[2].recent_active) == (0, 9, True)


def test_a_change_of_node_zero_is_none() -> None:
    """The application sets the id to zero when it refuses a committed change."""
    config, _ = Changer(restored((1, 2)), 9).simple((ConfChangeSingle(REMOVE, 0), ConfChangeSingle(UPDATE, 2)))

    assert repr(config) == "voters=(1 2)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((ConfChangeSingle(VOTER, 4), ConfChangeSingle(VOTER, 5)), "more than one voter changed"),
        ((ConfChangeSingle(REMOVE, 1), ConfChangeSingle(REMOVE, 2), ConfChangeSingle(REMOVE, 3)), "removed all voters"),
        ((ConfChangeSingle(7, 1),), "unexpected conf type 7"),
    ],
)
def test_what_a_simple_change_cannot_do(changes: tuple[ConfChangeSingle, ...], words: str) -> None:
    with pytest.raises(ConfChangeError, match=words):
        Changer(restored((1, 2, 3)), 9).simple(changes)


def test_joint_and_simple_do_not_mix() -> None:
    joint = restored((1, 2), (), (1, 3))

    with pytest.raises(ConfChangeError, match="can't apply simple config change in joint config"):
        Changer(joint, 9).simple(())
    with pytest.raises(ConfChangeError, match="config is already joint"):
        Changer(joint, 9).enter_joint(False, ())
    with pytest.raises(ConfChangeError, match="can't leave a non-joint config"):
        Changer(restored((1, 2)), 9).leave_joint()
    with pytest.raises(ConfChangeError, match="can't make a zero-voter config joint"):
        Changer(restored(), 9).enter_joint(False, ())
