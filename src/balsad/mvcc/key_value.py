"""Stored mvccpb.KeyValue bytes: looking into them and splicing them, without a message object.

    0a key   10 create_revision   18 mod_revision   20 version   [2a value]   [30 lease]

That is the order in which etcd writes the fields; a tombstone is `0a key` alone.
"""

from __future__ import annotations

from balsad.wire import WireError, read_uvarint, skip_field, to_int64, uvarint


def key_of(kv: bytes) -> bytes:
    """The key. Raises WireError when the first field is not one.

    A restore that bumps the revision leaves a row without any field: the empty key's.
    """
    if not kv:
        return b""
    if kv[0] != 0x0A:
        raise WireError("a stored KeyValue does not begin with its key")
    size = kv[1]
    if size < 128:
        return kv[2 : 2 + size]
    size, pos = read_uvarint(kv, 1)
    return kv[pos : pos + size]


def after_key(kv: bytes) -> int:
    """The place after the key field."""
    if not kv:
        return 0
    size = kv[1]
    if size < 128:
        return 2 + size
    size, pos = read_uvarint(kv, 1)
    return pos + size


def create_and_version(kv: bytes) -> tuple[int, int]:
    """create_revision and version of a stored KeyValue."""
    create = version = 0
    pos = after_key(kv)
    end = len(kv)
    while pos < end:
        tag = kv[pos]
        if tag > 0x20:
            break
        number, pos = read_uvarint(kv, pos + 1)
        if tag == 0x10:
            create = number
        elif tag == 0x20:
            version = number
    return create, version


def value_bounds(kv: bytes) -> tuple[int, int, int]:
    """Where the value's tag begins, where its bytes begin and end; three times the same place when it is empty."""
    pos = after_key(kv)
    end = len(kv)
    while pos < end:
        tag = kv[pos]
        if tag == 0x2A:
            size, start = read_uvarint(kv, pos + 1)
            return pos, start, start + size
        if tag > 0x2A:
            return pos, pos, pos
        pos = skip_field(kv, pos + 1, tag)
    return end, end, end


def value_of(kv: bytes) -> bytes:
    _, start, end = value_bounds(kv)
    return kv[start:end]


def lease_of(kv: bytes) -> int:
    """The lease id, 0 when there is none."""
    pos = value_bounds(kv)[2]
    if pos < len(kv) and kv[pos] == 0x30:
        return to_int64(read_uvarint(kv, pos + 1)[0])
    return 0


def without_value(kv: bytes) -> bytes:
    """The KeyValue with its value left out, as a keys-only range shows it."""
    tag, _, end = value_bounds(kv)
    return kv[:tag] + kv[end:]


def key_field(key: bytes) -> bytes:
    """Field 1 of a KeyValue, and all of a tombstone's."""
    return b"\x0a" + uvarint(len(key)) + key
