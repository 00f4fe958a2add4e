"""What the roles of a user allow, merged: ranges to read and ranges to write.

    roles grant [a, c) read, [c, e) read, [d, f) readwrite
    read    a single key, or a range within [a, f): touching ranges count as one
    write   the same within [d, f)

A permission is written as on the wire, `(key, range_end)`: no end for the key
alone, `\\0` for no end. One that holds no key (an empty key, an end not above
the key) allows nothing.

Source: etcd server/auth/range_perm_cache.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.interval_tree import OPEN_END, IntervalTree

if TYPE_CHECKING:
    from balsad.proto import auth_pb2

READ: Final = 0
WRITE: Final = 1
READWRITE: Final = 2

_GAP: Final = 6
_INSERTED_MAX: Final = 12


class Grants:
    """All that one user may do."""

    __slots__ = ("_read", "_write", "is_root")

    def __init__(self, *, is_root: bool) -> None:
        self.is_root = is_root
        self._read: IntervalTree[None] = IntervalTree()
        self._write: IntervalTree[None] = IntervalTree()

    def add(self, permission: auth_pb2.Permission) -> None:
        key, end = permission.key, permission.range_end
        if not key or (end not in (b"", OPEN_END) and end <= key):
            return
        kind: int = permission.permType
        if kind in (READ, READWRITE):
            self._read.insert(key, end, None)
        if kind in (WRITE, READWRITE):
            self._write.insert(key, end, None)

    def may_read(self, key: bytes, end: bytes) -> bool:
        return self.is_root or _covers(self._read, key, end)

    def may_write(self, key: bytes, end: bytes) -> bool:
        return self.is_root or _covers(self._write, key, end)


def _covers(ranges: IntervalTree[None], key: bytes, end: bytes) -> bool:
    if end not in (b"", OPEN_END) and end <= key:
        # The request touches no key at all; like etcd, judge it by where it stands.
        end = b""
    return ranges.covers(key, end)


def insert_permission(permissions: list[auth_pb2.Permission], new: auth_pb2.Permission) -> None:
    """Put `new` into a role's sorted list, or give a range that is there its new kind.

    The list is part of the role's bytes on disk, so two permissions for one key
    come in the order that Go 1.16's sort.Sort leaves them in: a pass with gap
    six, then insertion. Above twelve it sorts in another way; there the new one
    goes last among its equals.
    """
    at = 0
    while at < len(permissions) and permissions[at].key < new.key:
        at += 1
    if at < len(permissions) and permissions[at].key == new.key and permissions[at].range_end == new.range_end:
        permissions[at].permType = new.permType
        return
    permissions.append(new)
    last = len(permissions) - 1
    if _GAP <= last < _INSERTED_MAX and permissions[last].key < permissions[last - _GAP].key:
        permissions[last], permissions[last - _GAP] = permissions[last - _GAP], permissions[last]
    # Python's sort leaves equals where they are, as insertion does.
    permissions.sort(key=_key_of)


def _key_of(permission: auth_pb2.Permission) -> bytes:
    return permission.key
