"""Who is wrong when members do not hold the same."""

from __future__ import annotations

import pytest

from balsad.server.corruption import minority


@pytest.mark.parametrize(
    ("hashes", "count", "wrong"),
    [
        ([(1, 7), (2, 7), (3, 7)], 3, []),
        ([(1, 7), (2, 7), (3, 8)], 3, [3]),
        ([(1, 7), (2, 8), (3, 8)], 3, [1]),
        ([(1, 7), (2, 8)], 2, [0]),
        ([(1, 7), (2, 8), (3, 9)], 3, [0]),
        ([(1, 7), (2, 8)], 3, [0]),  # the third did not tell: two of three do not agree
        ([(1, 7), (2, 7), (3, 7), (4, 8), (5, 9)], 5, [4, 5]),
        ([(1, 7), (2, 7), (3, 8), (4, 8)], 4, [0]),
        ([(1, 7)], 3, []),
    ],
)
def test_who_is_not_with_the_quorum_is_wrong(hashes: list[tuple[int, int]], count: int, wrong: list[int]) -> None:
    """etcd checkPeerHashes of 3.6."""
    assert minority(hashes, count) == wrong
