"""Reading the `key` bucket in order, in bounded pieces."""

from __future__ import annotations

from typing import Final

from balsad.mvcc.faces import StoreBackend
from balsad.mvcc.revision import KEY_BUCKET, revision_key, unpack_revision

# Of one look into the backend, in main revisions.
_WINDOW_MAX: Final = 1 << 40


class RowReader:
    """Rows of the main revisions `start` to `stop`, both included.

    Every look at the backend is bounded by a window of revisions as well as by a number of rows, so that
    what waits there for its commit is not gathered again and again by somebody who reads old revisions.
    """

    __slots__ = ("_backend", "_limit", "_next", "_stop", "_window", "done", "read_to")

    def __init__(self, backend: StoreBackend, start: int, stop: int, limit: int) -> None:
        self._backend = backend
        self._stop = stop
        self._limit = limit
        self._window = limit
        self._next = revision_key(start, 0)
        self.done = start > stop
        # The newest main revision all of whose rows were given.
        self.read_to = start - 1

    def rows(self) -> list[tuple[bytes, bytes]]:
        """The next rows, `limit` at most; maybe none although there are more to come, until it is `done`."""
        first: int = unpack_revision(self._next)[0]
        last = min(first + self._window - 1, self._stop)
        rows = self._backend.scan(KEY_BUCKET, self._next, revision_key(last + 1, 0), self._limit)
        if len(rows) == self._limit:
            last_key = rows[-1][0]
            self._next = last_key + b"\0"
            self.read_to = unpack_revision(last_key)[0] - 1
            return rows
        self._next = revision_key(last + 1, 0)
        self.read_to = last
        self.done = last == self._stop
        # Few rows: a stretch that was compacted. Take wider steps through it.
        self._window = min(self._window * 2, _WINDOW_MAX) if 2 * len(rows) < self._limit else self._limit
        return rows

    def whole_rows(self) -> list[tuple[bytes, bytes]]:
        """As `rows`, but a main revision is never cut in two, however many rows it has."""
        rows = self.rows()
        if rows and self._next == rows[-1][0] + b"\0":
            last: int = unpack_revision(rows[-1][0])[0]
            rows.extend(self._backend.scan(KEY_BUCKET, self._next, revision_key(last + 1, 0)))
            self._next = revision_key(last + 1, 0)
            self.read_to = last
            self.done = last == self._stop
        return rows
