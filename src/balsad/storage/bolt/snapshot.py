"""A pinned state of the whole file, as the bytes of a file of its own."""

from __future__ import annotations

from balsad.storage.bolt.db import Database
from balsad.storage.bolt.meta import encode_meta
from balsad.storage.bolt.tree import View
from balsad.storage.errors import StorageError


class BackendSnapshot:
    """A state of the whole database as a file, unchanged by later commits: what `etcdctl snapshot save` sends.

    Two fresh meta pages, then all pages below the high water as they are in the file. Source: bbolt Tx.WriteTo.
    `read` may be called in any thread, `close` only in the backend's.
    """

    __slots__ = ("_closed", "_database", "_metas", "_view", "size", "txid")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._view: View = database.pin()
        self._closed = False
        meta = self._view.meta
        self._metas = encode_meta(0, meta, meta.txid) + encode_meta(1, meta, meta.txid - 1)
        self.size = meta.high_water * meta.page_size
        self.txid = meta.txid

    def read(self, offset: int, count: int) -> bytes:
        """The bytes from `offset`; fewer than `count` only at the end. Raises: StorageError."""
        assert not self._closed
        end = min(offset + count, self.size)
        if offset >= end:
            return b""
        parts: list[bytes] = []
        if offset < len(self._metas):
            parts.append(self._metas[offset:end])
            offset += len(parts[0])
        while offset < end:
            part = self._database.read(end - offset, offset)
            if not part:
                raise StorageError(self._database.path, f"read: the file ends before {self.size} bytes", offset=offset)
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of the pages."""
        if not self._closed:
            self._closed = True
            self._database.unpin(self._view)
