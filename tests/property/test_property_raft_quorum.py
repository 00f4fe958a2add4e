from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balsad.raft.quorum import (
    VOTE_LOST,
    VOTE_PENDING,
    VOTE_WON,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
)

voters = st.sets(st.integers(1, 12), min_size=1, max_size=9).map(lambda ids: tuple(sorted(ids)))
acks = st.dictionaries(st.integers(1, 12), st.integers(1, 20))
votes = st.dictionaries(st.integers(1, 12), st.booleans())


@given(voters=voters, acks=acks)
def test_committed_is_the_largest_index_that_more_than_half_have(voters: tuple[int, ...], acks: dict[int, int]) -> None:
    def enough(index: int) -> bool:
        return 2 * sum(acks.get(voter, 0) >= index for voter in voters) > len(voters)

    expected = max(index for index in range(21) if enough(index))

    assert majority_committed(voters, lambda voter: acks.get(voter, 0)) == expected


@given(one=voters, other=voters, acks=acks)
def test_a_joint_pair_commits_what_both_commit(
    one: tuple[int, ...], other: tuple[int, ...], acks: dict[int, int]
) -> None:
    def acked(voter: int) -> int:
        return acks.get(voter, 0)

    both = min(majority_committed(one, acked), majority_committed(other, acked))

    assert joint_committed(one, other, acked) == joint_committed(other, one, acked) == both
    assert joint_committed(one, (), acked) == joint_committed(one, one, acked) == majority_committed(one, acked)


@given(voters=voters, votes=votes)
def test_a_vote_is_decided_once_the_missing_ones_cannot_change_it(
    voters: tuple[int, ...], votes: dict[int, bool]
) -> None:
    def wins(missing: bool) -> bool:
        return 2 * sum(votes.get(voter, missing) for voter in voters) > len(voters)

    expected = {(True, True): VOTE_WON, (False, False): VOTE_LOST, (False, True): VOTE_PENDING}[
        (wins(False), wins(True))
    ]

    assert majority_vote(voters, votes) == expected


@given(one=voters, other=voters, votes=votes)
def test_a_joint_vote_needs_both(one: tuple[int, ...], other: tuple[int, ...], votes: dict[int, bool]) -> None:
    results = {majority_vote(one, votes), majority_vote(other, votes)}

    result = joint_vote(one, other, votes)

    assert result == joint_vote(other, one, votes)
    assert (result == VOTE_WON) == (results == {VOTE_WON})
    assert (result == VOTE_LOST) == (VOTE_LOST in results)
