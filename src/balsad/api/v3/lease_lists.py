"""Lists of very many leases, or of very many keys of one: put in order and written a slice in a turn of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from balsad.merge_sort import MergeSort
from balsad.wire import bytes_field, varint

if TYPE_CHECKING:
    from balsad.lease import Lease
    from balsad.transport import Call

MANY: Final = 5000
"""Fewer are listed at once."""
AT_ONCE: Final = 4096
_LEASE: Final = 2
_KEY: Final = 5


def lease_rows(lease_ids: Iterable[int]) -> bytes:
    """The leases of a LeaseLeasesResponse."""
    return b"".join([bytes_field(_LEASE, b"\x08" + varint(lease_id)) for lease_id in lease_ids])


def leases_by_expiry(head: bytes, leases: list[Lease]) -> Iterator[bytes]:
    """Nothing after each slice, `head` and the leases in the end, the first to end first."""
    # A lease that is renewed meanwhile counts as it is found.
    sort = MergeSort((lease.expiry, lease.id) for lease in leases)
    parts = [head]
    while not sort.step(AT_ONCE):
        yield b""
    for stretch in sort.stretches:
        parts.append(lease_rows([lease_id for _, lease_id in stretch]))
        yield b""
    yield b"".join(parts)


def keys_in_order(head: bytes, keys: list[bytes]) -> Iterator[bytes]:
    """Nothing after each slice, `head` and the keys of a LeaseTimeToLiveResponse in the end."""
    sort = MergeSort(keys)
    parts = [head]
    while not sort.step(AT_ONCE):
        yield b""
    stretches = iter(sort.stretches)
    while some := list(islice(stretches, AT_ONCE // 1024)):
        parts += [bytes_field(_KEY, key) for stretch in some for key in stretch]
        yield b""
    yield b"".join(parts)


class LeaseLists:
    """Answers calls with the last that their works give, in turn."""

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` writes what was answered."""
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._running: deque[tuple[Call, Iterator[bytes]]] = deque()

    def begin(self, call: Call, work: Iterator[bytes]) -> None:
        if not self._running:
            self._loop.call_soon(self._step)
        self._running.append((call, work))

    def _step(self) -> None:
        call, work = self._running.popleft()
        if not call.closed:
            answer = next(work)
            if answer:
                call.respond(answer)
                self._flush()
            else:
                self._running.append((call, work))
        if self._running:
            self._loop.call_soon(self._step)
