"""The scenario files in `tests/scenarios/cases/quorum` say more."""

from __future__ import annotations

import pytest

from balsad.raft.quorum import (
    INFINITE,
    VOTE_LOST,
    VOTE_PENDING,
    VOTE_WON,
    describe_joint,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
    union,
)


@pytest.mark.parametrize(
    ("acks", "committed"),
    [({}, INFINITE), ({1: 7}, 7), ({1: 7, 2: 3}, 3), ({1: 7, 2: 3, 3: 5}, 5), ({1: 9, 2: 9, 3: 1, 4: 1}, 1)],
)
def test_the_index_that_most_have(acks: dict[int, int], committed: int) -> None:
    assert majority_committed(tuple(acks), lambda voter: acks[voter]) == committed


def test_an_empty_half_agrees_to_everything() -> None:
    assert joint_committed((1,), (), lambda voter: 4) == 4
    assert joint_committed((1,), (2,), lambda voter: voter) == 1
    assert joint_vote((1,), (), {1: True}) == VOTE_WON
    assert majority_vote((), {}) == VOTE_WON


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({}, VOTE_PENDING),
        ({1: True}, VOTE_PENDING),
        ({1: True, 2: True}, VOTE_WON),
        ({1: False, 2: True}, VOTE_PENDING),
        ({1: False, 2: False}, VOTE_LOST),
        ({4: True, 5: True}, VOTE_PENDING),
    ],
)
def test_a_vote_among_three(votes: dict[int, bool], result: int) -> None:
    assert majority_vote((1, 2, 3), votes) == result


def test_one_lost_half_loses_one_pending_half_waits() -> None:
    assert joint_vote((1,), (2,), {1: True}) == VOTE_PENDING
    assert joint_vote((1,), (2,), {2: False}) == VOTE_LOST
    assert joint_vote((1,), (2,), {1: True, 2: True}) == VOTE_WON


def test_ids_in_order_and_in_hex() -> None:
    assert union((1, 5), (2, 5)) == (1, 2, 5)
    assert describe_joint((1, 10), ()) == "(1 a)"
    assert describe_joint((1,), (2, 255)) == "(1)&&(2 ff)"
