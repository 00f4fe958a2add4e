"""Rows of keys that were put once and never again, taken into the index many at a time.

    main | _ | sub          0a size key          10 V   18 V   20 01
    the row's name          the key              create_revision and mod_revision are the same, the version is 1

All of them at once are taken apart, compared and put into the index by calls that loop in C: what most of a start with
many keys is spent on takes half the time. Rows of any other kind are left to `restore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from balsad.mvcc.revision import ROW_KEY_SIZE, KeyMeta, unpack_revision
from balsad.wire import uvarint

_KEY_SIZE_AT: Final = ROW_KEY_SIZE + 1
_LONG_KEY: Final = 128
_heads: Final[dict[tuple[int, int], Struct]] = {}


def _head_of(key_size: int, varint_size: int) -> Struct:
    """A row as far as it is looked at: main, sub, tag and size of the key, the key, and the three numbers' fields."""
    head = _heads.get((key_size, varint_size))
    if head is None:
        head = Struct(f">QxQ2s{key_size}sB{varint_size}sB{varint_size}s2s")
        _heads[key_size, varint_size] = head
    return head


class PutTwiceError(Exception):
    """A key is put for the first time while it lives, which no etcd writes; what was known of it is lost."""


Parsed = tuple[Sequence[bytes], list[KeyMeta]]


def take_first_puts(live: dict[bytes, Any], rows: bytes, starts: list[int]) -> int:
    """Add rows that begin at `starts` to the newest revisions of live keys; gives the main revision of the last.

    Nothing is added, and 0 given, unless all are first puts. Raises: PutTwiceError.
    """
    if not starts:
        return 0
    oldest: int = unpack_revision(rows, starts[0])[0]
    newest: int = unpack_revision(rows, starts[-1])[0]
    varint_size = len(uvarint(newest))
    if len(uvarint(oldest)) != varint_size:
        return 0
    # Keys of the same size, and of those without any: of one size another key cannot be.
    found: list[Parsed] = []
    parsed = _parse(rows, starts, rows[starts[0] + _KEY_SIZE_AT], varint_size)
    if parsed is not None:
        found.append(parsed)
    else:
        for size, places in _by_key_size(rows, starts).items():
            parsed = _parse(rows, places, size, varint_size)
            if parsed is None:
                return 0
            found.append(parsed)
    before = len(live)
    for keys, metas in found:
        live.update(zip(keys, metas, strict=True))
    if len(live) != before + len(starts):
        raise PutTwiceError
    return newest


def _by_key_size(rows: bytes, starts: list[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for start in starts:
        places.setdefault(rows[start + _KEY_SIZE_AT], []).append(start)
    return places


def _parse(rows: bytes, starts: list[int], key_size: int, varint_size: int) -> Parsed | None:
    """Keys and metas, if all rows are first puts of keys of this size."""
    if key_size >= _LONG_KEY:
        return None
    try:
        heads = map(_head_of(key_size, varint_size).unpack_from, repeat(rows), starts)
        mains, subs, tags, keys, create_tags, creates, mod_tags, mods, versions = zip(*heads, strict=True)
    except StructError:
        return None
    count = len(starts)
    if (
        tags.count(bytes((0x0A, key_size))) != count
        or create_tags.count(0x10) != count
        or mod_tags.count(0x18) != count
        or versions.count(b"\x20\x01") != count
        or creates != mods
    ):
        return None
    # One object for all that one transaction wrote.
    known: dict[int, int] = {}
    shared = list(map(known.setdefault, mains, mains))
    return keys, list(zip(shared, subs, shared, repeat(1)))
