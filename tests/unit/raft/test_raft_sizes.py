"""How many entries go into so many bytes."""

from __future__ import annotations

import pytest

from balsad.raft.kinds import NO_LIMIT
from balsad.raft.messages import Entry
from balsad.raft.sizes import entry_size, limit_size


def entries(*sizes: int) -> list[Entry]:
    return [Entry(0, 1 + 200 * (at % 2), at + 1, b"x" * size) for at, size in enumerate(sizes)]


@pytest.mark.parametrize("size_max", [0, 1, 30, 99, 100, 101, 500, 2000, 10_000, NO_LIMIT])
def test_the_longest_prefix_within_a_limit(size_max: int) -> None:
    """Never none; the limit counts what the entries are as messages. Source: raft limitSize."""
    for batch in (entries(), entries(5000), entries(*[0] * 60), entries(*range(0, 1000, 7)), entries(3, 5000, 3)):
        count = 0
        size = 0
        for entry in batch:
            size += entry_size(entry)
            if count and size > size_max:
                break
            count += 1

        assert limit_size(batch, size_max) == batch[:count]
