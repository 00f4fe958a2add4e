"""Names of places in the store's history, as they stand in the `key` bucket.

    0         8   9         17  18
    +---------+---+---------+---+
    |  main   | _ |   sub   | t |     big-endian, so bytes sort like revisions
    +---------+---+---------+---+
                              only on a tombstone

All changes of one write transaction share `main`; `sub` counts them from 0.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

KEY_BUCKET: Final = b"key"
META_BUCKET: Final = b"meta"
SCHEDULED_COMPACT_KEY: Final = b"scheduledCompactRev"
FINISHED_COMPACT_KEY: Final = b"finishedCompactRev"

# What the index knows of one change of a key: (mod, sub, create, version).
# Version 0 is a tombstone. A plain tuple of ints, which the garbage collector soon stops looking at.
KeyMeta = tuple[int, int, int, int]

SUB_MAX: Final = 1 << 62
ROW_KEY_SIZE: Final = 17
TOMBSTONE_KEY_SIZE: Final = 18
UNDERSCORE: Final = 0x5F

TOMBSTONE: Final = 0x74

pack_revision: Final = Struct(">QBQ").pack
pack_tombstone: Final = Struct(">QBQB").pack
unpack_revision: Final = Struct(">QxQ").unpack_from


def revision_key(main: int, sub: int) -> bytes:
    return pack_revision(main, UNDERSCORE, sub)


def tombstone_key(main: int, sub: int) -> bytes:
    return pack_revision(main, UNDERSCORE, sub) + b"t"


def meta_key(meta: KeyMeta) -> bytes:
    """The bucket key of a change, tombstone or not."""
    key = pack_revision(meta[0], UNDERSCORE, meta[1])
    return key if meta[3] else key + b"t"


def is_tombstone(key: bytes) -> bool:
    return len(key) == TOMBSTONE_KEY_SIZE and key[17] == TOMBSTONE
