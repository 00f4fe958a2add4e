"""Which keys changed after a revision, for readers at that revision who want a few of very many keys.

A listing asks for page after page at one revision while others write. What it has to know of the keys
beyond its page is how many there were: that is how many there are now, corrected by the keys that
changed since. Those are remembered, so that the next page looks only at what was written meanwhile.

    keys at revision 7:  a b c d        put 8 of b, delete 9 of c, put 10 of e
    now                  a b d e        changed since 7: b c e, of which b and c were there, b and e are
                                        4 now - 2 that are + 2 that were = 4

Source: our own; etcd walks all keys of the range for every page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.mvcc.key_value import key_of
from balsad.mvcc.revision import KeyMeta
from balsad.mvcc.rows import RowReader

if TYPE_CHECKING:
    from balsad.mvcc.store import Store

KEYS_MAX: Final = 20_000
"""Of more keys than these nothing is remembered: walking all of them is quicker then."""
REVISIONS_AT_ONCE: Final = 2000
BYTES_AT_ONCE: Final = 4 << 20
"""More than this is not read for one page, which others wait for; what was read is there for the next."""
ROWS_AT_ONCE: Final = 4000
"""As above: one transaction may write a thousand."""
_ROWS_AT_ONCE: Final = 32


class ChangedSince:
    """Knows one revision at a time, the one that was asked about last."""

    __slots__ = ("_keys", "_read_to", "_revision", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision = -1
        self._read_to = -1
        self._keys: set[bytes] = set()

    def forget(self) -> None:
        self._revision = self._read_to = -1
        self._keys = set()

    def keys(self, revision: int) -> set[bytes] | None:
        """All keys that changed after `revision`, and perhaps some that did not; None when there are too many."""
        store = self._store
        read_to = self._read_to if revision == self._revision else revision
        if store.head - read_to > REVISIONS_AT_ONCE:
            return None
        if revision != self._revision:
            self._revision = self._read_to = revision
            self._keys = set()
        keys = self._keys
        if read_to < store.head:
            reader = RowReader(store.backend, read_to + 1, store.head, _ROWS_AT_ONCE)
            size = count = 0
            while not reader.done:
                for _, kv in reader.rows():
                    keys.add(key_of(kv))
                    size += len(kv)
                    count += 1
                if (size > BYTES_AT_ONCE or count > ROWS_AT_ONCE) and not reader.done:
                    self._read_to = min(reader.read_to, store.current_revision)
                    return None
            # What is being written now is not complete yet.
            self._read_to = min(store.head, store.current_revision)
        return keys if len(keys) <= KEYS_MAX else None

    def select(
        self, key: bytes, end: bytes, revision: int, limit: int
    ) -> tuple[list[bytes], list[KeyMeta], int] | None:
        """As KeyIndex.select with a limit, without a walk over all keys; None when that is not possible."""
        changed = self.keys(revision)
        if changed is None:
            return None
        index = self._store.index
        live = index.live
        count = index.count(key, end)
        now = 0
        were: list[bytes] = []
        for one in changed:
            if one < key or (end != b"\0" and one >= end):
                continue
            if one in live:
                now += 1
            if index.at(one, revision) is not None:
                were.append(one)
        found = [one for one in index.keys(key, end, limit + now) if one not in changed]
        if were:
            found += were
            found.sort()
        del found[limit:]
        metas: list[KeyMeta] = []
        for one in found:
            meta = live.get(one)
            if meta is None or meta[0] > revision:
                meta = index.at(one, revision)
                assert meta is not None
            metas.append(meta)
        return found, metas, count - now + len(were)
