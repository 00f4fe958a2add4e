"""How large entries are: on the wire, and as payloads.

Limits on messages and on entries being applied count wire bytes; the limit on
the uncommitted tail counts payload bytes, so that an empty entry, which every
new leader needs, is free.
"""

from __future__ import annotations

from typing import Final

from balsad.raft.kinds import NO_LIMIT
from balsad.raft.messages import Entry

# Type, term, index and the length of the data, at their longest.
OVERHEAD_MAX: Final = 2 + 11 + 11 + 11


def _varint_size(value: int) -> int:
    return (value.bit_length() + 6) // 7 if value else 1


def entry_size(entry: Entry) -> int:
    """Bytes of the entry as a protocol-buffer message; fields at their default count nothing."""
    size = 2 + _varint_size(entry.term) + _varint_size(entry.index)
    if entry.type:
        size += 2
    length = len(entry.data)
    if length:
        size += 1 + _varint_size(length) + length
    return size


def entries_size(entries: list[Entry]) -> int:
    size = 0
    for entry in entries:
        size += entry_size(entry)
    return size


def payloads_size(entries: list[Entry]) -> int:
    size = 0
    for entry in entries:
        size += len(entry.data)
    return size


def limit_size(entries: list[Entry], size_max: int) -> list[Entry]:
    """The longest prefix within `size_max` bytes, but at least one entry; the list itself if all fit."""
    count = len(entries)
    if count <= 1 or size_max >= NO_LIMIT:
        return entries
    # The usual batch is far below the limit, which a sum over the payloads shows. It ends where they are too many: at a
    # start all that is in the log is asked about again and again, for one MiB after the other.
    size = count * OVERHEAD_MAX
    for entry in entries:
        size += len(entry.data)
        if size > size_max:
            break
    else:
        return entries
    size = entry_size(entries[0])
    for i in range(1, count):
        size += entry_size(entries[i])
        if size > size_max:
            return entries[:i]
    return entries
