"""Which of many leases is due first, when deadlines move all the time.

A heap with one entry per lease. Moving a deadline later, as every keep-alive
does, touches only a dict: the entry in the heap is then too early, and is put
right when it comes to the top.

    set(a, 5) set(b, 6)      heap (5 a) (6 b)
    set(a, 9)                heap unchanged, deadline a = 9
    first(now=7)             (5 a) is too early: becomes (9 a); (6 b) is due
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace


class ExpiryQueue:
    __slots__ = ("_deadlines", "_entries", "_heap")

    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        # The time of the one entry of a lease in the heap that counts; never after its deadline.
        self._entries: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._deadlines)

    def clear(self) -> None:
        self._deadlines.clear()
        self._entries.clear()
        self._heap.clear()

    def reset(self, deadlines: dict[int, float]) -> None:
        """Hold these leases and no others: quicker than one by one."""
        self._deadlines = deadlines
        self._rebuild()

    def set(self, lease_id: int, deadline: float) -> None:
        """Give a lease a deadline in place of any it had."""
        self._deadlines[lease_id] = deadline
        entry = self._entries.get(lease_id)
        if entry is None or deadline < entry:
            self._entries[lease_id] = deadline
            heappush(self._heap, (deadline, lease_id))
            if len(self._heap) > 2 * len(self._deadlines) + 64:
                self._rebuild()

    def remove(self, lease_id: int) -> None:
        """Forget a lease, if it is there."""
        if self._deadlines.pop(lease_id, None) is not None:
            del self._entries[lease_id]

    def deadline(self, lease_id: int) -> float | None:
        return self._deadlines.get(lease_id)

    def first(self, now: float) -> int | None:
        """The lease whose deadline is the earliest, if that is not after `now`. It stays in the queue."""
        heap = self._heap
        while heap:
            time, lease_id = heap[0]
            if time > now:
                return None
            if self._entries.get(lease_id) != time:
                heappop(heap)
                continue
            deadline = self._deadlines[lease_id]
            if deadline == time:
                return lease_id
            self._entries[lease_id] = deadline
            heapreplace(heap, (deadline, lease_id))
        return None

    def next_deadline(self) -> float | None:
        """A time before which nothing is due; None when the queue is empty."""
        heap = self._heap
        while heap and self._entries.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def _rebuild(self) -> None:
        self._heap = list(zip(self._deadlines.values(), self._deadlines, strict=True))
        heapify(self._heap)
        self._entries = dict(self._deadlines)
