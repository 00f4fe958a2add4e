"""The queue of deadlines beside a plain dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balsad.lease.expiry_queue import ExpiryQueue

ids = st.integers(1, 6)
times = st.integers(0, 20)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), ids, times),
            st.tuples(st.just("remove"), ids, times),
            st.tuples(st.just("take"), ids, times),
        ),
        max_size=60,
    )
)
def test_the_earliest_deadline_that_has_come_is_first(steps: list[tuple[str, int, int]]) -> None:
    queue = ExpiryQueue()
    model: dict[int, int] = {}
    for what, lease_id, time in steps:
        if what == "set":
            queue.set(lease_id, time)
            model[lease_id] = time
        elif what == "remove":
            queue.remove(lease_id)
            model.pop(lease_id, None)
        else:
            first = queue.first(time)
            earliest = min(model.values(), default=99)
            if earliest > time:
                assert first is None
            else:
                assert first is not None
                assert model[first] == earliest
        assert len(queue) == len(model)
        assert queue.deadline(lease_id) == model.get(lease_id)
        next_deadline = queue.next_deadline()
        assert (next_deadline is None) == (not model)
        assert next_deadline is None or next_deadline <= min(model.values())


def test_keep_alives_do_not_make_the_heap_grow() -> None:
    """100,000 leases renewed again and again: one entry each, touched when its time comes."""
    queue = ExpiryQueue()
    for round_ in range(50):
        for lease_id in range(1000):
            queue.set(lease_id, 10.0 + round_)
    assert len(queue._heap) == 1000

    for time in range(50, 0, -1):
        for lease_id in range(1000):
            queue.set(lease_id, float(time))

    assert len(queue._heap) <= 2 * 1000 + 64
    assert queue.first(1.0) is not None
