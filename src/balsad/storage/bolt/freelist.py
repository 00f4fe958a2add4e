"""Which pages of the file are free, which wait for readers, and where the next ones go.

Free pages are kept as spans, found by first page, by last page and by length, so that taking and giving back never
walk a list. Worked example: pages 4, 5 and 9 are free:

    forward  {4: 2, 9: 1}     first page -> length
    backward {5: 2, 9: 1}     last page -> length
    sizes    [1, 2]           lengths that exist, sorted: the shortest span that fits is taken

A page that transaction t replaced still belongs to the states before t. It waits in `pending` until no reader can
see such a state: readers of t and later do not need it, nor do readers older than the page itself.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort

from balsad.storage.bolt.errors import CorruptDatabaseError
from balsad.storage.bolt.page import FREELIST, HEADER, HEADER_SIZE, U64, type_name


class Freed:
    """Spans that transaction `txid` replaced. They were allocated after transaction `since` (-1: who knows when)."""

    __slots__ = ("since", "spans", "txid")

    def __init__(self, txid: int, since: int) -> None:
        self.txid = txid
        self.since = since
        self.spans: list[tuple[int, int]] = []


class Freelist:
    __slots__ = (
        "_backward",
        "_by_size",
        "_forward",
        "_sizes",
        "_young",
        "_young_since",
        "free_count",
        "pending",
        "readers",
    )

    def __init__(self) -> None:
        self._forward: dict[int, int] = {}
        self._backward: dict[int, int] = {}
        self._by_size: dict[int, dict[int, None]] = {}
        self._sizes: list[int] = []
        self.free_count = 0
        self.pending: list[Freed] = []
        self.readers: list[int] = []  # the txids that open readers see, in no order, repeated
        # Pages allocated after `_young_since`, the newest open reader: nobody sees their former content.
        self._young: set[int] = set()
        self._young_since = -1

    # ---- spans

    def add(self, start: int, length: int) -> None:
        """Make a span free and join it with its free neighbours."""
        self.free_count += length
        before = self._backward.get(start - 1)
        if before is not None:
            self._remove(start - before, before)
            start -= before
            length += before
        after = self._forward.get(start + length)
        if after is not None:
            self._remove(start + length, after)
            length += after
        self._forward[start] = length
        self._backward[start + length - 1] = length
        starts = self._by_size.get(length)
        if starts is None:
            self._by_size[length] = {start: None}
            insort(self._sizes, length)
        else:
            starts[start] = None

    def _remove(self, start: int, length: int) -> None:
        del self._forward[start]
        del self._backward[start + length - 1]
        starts = self._by_size[length]
        del starts[start]
        if not starts:
            del self._by_size[length]
            del self._sizes[bisect_left(self._sizes, length)]

    def take(self, count: int) -> int:
        """The first of `count` free pages in a row, or 0 when there is no such span. Best fit."""
        at = bisect_left(self._sizes, count)
        if at == len(self._sizes):
            return 0
        length = self._sizes[at]
        start = next(reversed(self._by_size[length]))
        self._remove(start, length)
        self.free_count -= length
        if length > count:
            self.add(start + count, length - count)
        return start

    def spans(self) -> list[tuple[int, int]]:
        """The free spans (first page, length), ascending."""
        return sorted(self._forward.items())

    def pending_count(self) -> int:
        return sum(length for freed in self.pending for _, length in freed.spans)

    # ---- transactions and readers

    def begin(self, txid: int) -> list[tuple[int, int]]:
        """Start write transaction `txid`: gives the spans that no reader needs any more, for the caller to `add`."""
        releasable: list[tuple[int, int]] = []
        waiting: list[Freed] = []
        for freed in self.pending:
            if any(freed.since < reader < freed.txid for reader in self.readers):
                waiting.append(freed)
            else:
                releasable.extend(freed.spans)
        self.pending = waiting
        newest = max(self.readers, default=-1)
        if newest != self._young_since:
            self._young = set()
            self._young_since = newest
        return releasable

    def allocated(self, start: int) -> None:
        """Note that the running transaction took the page run at `start`."""
        if self._young_since >= 0:
            self._young.add(start)

    def freed(self, txid: int, spans: list[tuple[int, int]]) -> None:
        """Note what transaction `txid` replaced, once it is committed."""
        old = Freed(txid, -1)
        young = Freed(txid, self._young_since)
        for span in spans:
            if span[0] in self._young:
                self._young.discard(span[0])
                young.spans.append(span)
            else:
                old.spans.append(span)
        if old.spans:
            self.pending.append(old)
        if young.spans:
            self.pending.append(young)


def read_freelist_page(path: str, page_id: int, page: bytes, page_size: int, high_water: int) -> list[int]:
    """The ids on a freelist page.

    Raises: CorruptDatabaseError.
    """
    offset = page_id * page_size
    found_id, flags, count, _ = HEADER.unpack_from(page)
    if flags != FREELIST or found_id != page_id:
        raise CorruptDatabaseError(
            path,
            page=page_id,
            offset=offset,
            expected=f"freelist page {page_id}",
            found=f"{type_name(flags)} page {found_id}",
        )
    start = HEADER_SIZE
    if count == 0xFFFF:
        (count,) = U64.unpack_from(page, start)
        start += 8
    if start + 8 * count > len(page):
        raise CorruptDatabaseError(
            path,
            page=page_id,
            offset=offset,
            expected=f"at most {(len(page) - start) // 8} ids",
            found=f"a count of {count}",
        )
    ids = array("Q", page[start : start + 8 * count])
    for free in ids:
        if free < 2 or free >= high_water:
            raise CorruptDatabaseError(
                path,
                page=page_id,
                offset=offset,
                expected=f"free pages from 2 to {high_water - 1}",
                found=f"page {free}",
            )
    return sorted(ids)


def freelist_of(ids: list[int]) -> Freelist:
    """A Freelist of the ascending page ids."""
    freelist = Freelist()
    start = length = 0
    for page_id in ids:
        if length and page_id == start + length:
            length += 1
            continue
        if length:
            freelist.add(start, length)
        start, length = page_id, 1
    if length:
        freelist.add(start, length)
    return freelist
