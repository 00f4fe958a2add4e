"""One commit of the backend: what was pending becomes pages, in bounded pieces, and then the file's state."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from balsad.merge_sort import MergeSort
from balsad.storage import schema
from balsad.storage.bolt.tx import FILL_APPEND, FILL_DEFAULT, WriteTx
from balsad.storage.errors import StorageError
from balsad.storage.overlay import Changes

if TYPE_CHECKING:
    from balsad.storage.backend import Backend

_STEP_APPENDS: Final = 1024
_STEP_CHANGES: Final = 100
_SORTED_AT_ONCE: Final = 16_384
_STEP_BYTES: Final = 1 << 19
_STEP_BRANCHES: Final = 100
_STEP_SPANS: Final = 2000
FREED_AT_ONCE: Final = 50_000
"""Of a commit of more changes than that, the memory is to be given back bit by bit."""


class CommitJob:
    """One commit under way. `step` until it gives True, then `flush`, then `finish`; any of it may raise StorageError.

    `step` and `finish` belong to the thread that owns the backend, `flush` may run in any one. A commit that `is_large`
    at its end should be `shed`.
    """

    __slots__ = (
        "_append",
        "_backend",
        "_bucket",
        "_built",
        "_changes",
        "_finished",
        "_flushed",
        "_left",
        "_lock",
        "_names",
        "_position",
        "_release",
        "_sealed",
        "_sorting",
        "_stretch",
        "_stretches",
        "_tx",
    )

    def __init__(self, backend: Backend, tx: WriteTx, release: list[tuple[int, int]], names: list[bytes]) -> None:
        self._backend = backend
        self._tx = tx
        self._release = release
        self._names = names  # buckets still to do, the next one last
        self._bucket = b""
        self._changes: Changes = {}  # of that bucket
        self._sorting: MergeSort[bytes] | None = None
        self._stretches: list[list[bytes]] = []  # their keys, sorted; the next ones last
        self._stretch: list[bytes] = []  # the keys whose turn it is
        self._position = 0
        self._append = False
        self._sealed = False
        self._built = False
        self._flushed = False
        self._finished = False
        self._left: list[Changes] = []
        self._lock = threading.Lock()

    def step(self) -> bool:
        """Build some more, for a few milliseconds at most. True once all pages are built."""
        if self._built:
            return True
        try:
            self._step()
        except BaseException as error:
            # What was built so far cannot be taken back: the free pages are changed.
            database = self._backend.database
            if isinstance(error, StorageError):
                database.failure = error
            else:
                database.failure = StorageError(database.path, f"a commit broke off: {error}")
            raise
        return self._built

    def _step(self) -> None:
        if self._release:
            freelist = self._backend.database.freelist
            for start, length in self._release[-_STEP_SPANS:]:
                freelist.add(start, length)
            del self._release[-_STEP_SPANS:]
        elif self._position < len(self._stretch):
            self._apply_some()
        elif self._sorting is not None:
            if self._sorting.step(_SORTED_AT_ONCE):
                self._stretches = self._sorting.stretches[::-1]
                self._sorting = None
                self._begin_stretch()
        elif self._names:
            self._bucket = self._names.pop()
            changes = self._changes = self._backend.in_flight[self._bucket].changes
            self._append = False
            if len(changes) > _SORTED_AT_ONCE:
                self._sorting = MergeSort(changes)
            else:
                self._stretches = [sorted(changes)]
                self._begin_stretch()
        elif not self._sealed:
            self._changes = {}
            self._tx.seal()
            self._sealed = True
        else:
            self._built = self._tx.encode(_STEP_BRANCHES)

    def _begin_stretch(self) -> None:
        self._stretch = self._stretches.pop()
        self._position = 0

    def _apply_some(self) -> None:
        start = self._position
        stretch = self._stretch
        if not self._append:
            # Deletes of old revisions come first, then the puts, which are after all there is.
            self._append = self._tx.is_append(self._bucket, stretch[start])
        keys = stretch[start : start + (_STEP_APPENDS if self._append else _STEP_CHANGES)]
        changes = self._changes
        values: list[bytes | None] = []
        size = 0
        for key in keys:
            value = changes[key]
            values.append(value)
            if value is not None:
                size += len(value)
                if size > _STEP_BYTES:
                    break
        fill = FILL_APPEND if self._bucket == schema.KEY else FILL_DEFAULT
        self._tx.update(self._bucket, keys, values, 0, len(values), fill)
        self._position = start + len(values)
        if self._position == len(stretch):
            if self._stretches:
                self._begin_stretch()
            else:
                self._tx.settle(self._bucket)

    def flush(self) -> None:
        """Write the pages and the meta, each followed by a barrier. Safe beside puts and reads of the owner.

        Raises: StorageError; the backend takes no more commits then.
        """
        with self._lock:
            if not self._flushed:
                assert self._built, "flush before all is built"
                self._backend.database.write(self._tx)
                self._flushed = True

    @property
    def is_flushed(self) -> bool:
        return self._flushed

    def finish(self) -> None:
        """Show the new state. Without effect when somebody had to finish the commit earlier."""
        if self._finished:
            return
        assert self._flushed, "finish before flush"
        self._finished = True
        self._left = self._backend.finished(self, self._tx)

    @property
    def is_large(self) -> bool:
        """After `finish`: whether to give all of its memory back takes long."""
        return sum(map(len, self._left)) > FREED_AT_ONCE

    def shed(self, count: int) -> int:
        """After `finish`: let go of about `count` changes or pages; gives of how many, 0 once nothing is left."""
        done = 0
        while self._left and done < count:
            changes = self._left[-1]
            if changes:
                changes.popitem()
                done += 1
            else:
                self._left.pop()
        pages = self._tx.leaves
        while pages and done < count:
            pages.popitem()
            done += 1
        return done

    def complete(self) -> None:
        """All that is left to do, at once; waits for a flush under way elsewhere."""
        while not self.step():
            pass
        self.flush()
        self.finish()
