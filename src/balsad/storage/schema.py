"""Names and values of etcd 3.5's buckets.

    key              revision (17 bytes; 18 with a final `t` for a tombstone)  ->  mvccpb.KeyValue
    meta             consistent_index, term: u64 big-endian; confState: JSON; scheduledCompactRev, finishedCompactRev:
                     revision; storageVersion: text (3.6)
    lease            lease id, u64 big-endian  ->  leasepb.Lease
    alarm            etcdserverpb.AlarmMember  ->  nothing
    cluster          clusterVersion: text; downgrade: JSON
    members          member id in hex  ->  JSON
    members_removed  member id in hex  ->  removed
    auth             authEnabled: one byte; authRevision: u64 big-endian
    authUsers        name  ->  authpb.User
    authRoles        name  ->  authpb.Role

Source: etcd server/mvcc/buckets, cindex, membership/store.go, auth/store.go.
"""

from __future__ import annotations

import json
from typing import Final, Protocol

from balsad.raft.messages import ConfState
from balsad.wire import read_uvarint, uvarint

KEY: Final = b"key"
META: Final = b"meta"
LEASE: Final = b"lease"
ALARM: Final = b"alarm"
CLUSTER: Final = b"cluster"
MEMBERS: Final = b"members"
MEMBERS_REMOVED: Final = b"members_removed"
AUTH: Final = b"auth"
AUTH_USERS: Final = b"authUsers"
AUTH_ROLES: Final = b"authRoles"

ALL_BUCKETS: Final = (
    KEY,
    META,
    LEASE,
    ALARM,
    CLUSTER,
    MEMBERS,
    MEMBERS_REMOVED,
    AUTH,
    AUTH_USERS,
    AUTH_ROLES,
)
"""All that a member of 3.5.1 has after its first start."""

CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"
SCHEDULED_COMPACT: Final = b"scheduledCompactRev"
FINISHED_COMPACT: Final = b"finishedCompactRev"
STORAGE_VERSION: Final = b"storageVersion"
CLUSTER_VERSION: Final = b"clusterVersion"
DOWNGRADE: Final = b"downgrade"
REMOVED: Final = b"removed"
AUTH_ENABLED: Final = b"authEnabled"
AUTH_REVISION: Final = b"authRevision"

HASH_IGNORED: Final = frozenset({(META, CONSISTENT_INDEX), (META, TERM)})
"""What Maintenance.Hash leaves out: members apply at their own pace."""


class BucketStore(Protocol):
    """What these helpers need of the backend."""

    def get(self, bucket: bytes, key: bytes) -> bytes | None: ...

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None: ...

    def delete(self, bucket: bytes, key: bytes) -> None: ...

    def create_bucket(self, bucket: bytes) -> None: ...

    def scan(self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0) -> list[tuple[bytes, bytes]]: ...


def create_all_buckets(store: BucketStore) -> None:
    """Make whichever of etcd's buckets are missing."""
    for bucket in ALL_BUCKETS:
        store.create_bucket(bucket)


# ---- revisions


def encode_revision(main: int, sub: int) -> bytes:
    """The key of a revision; sorts as the revisions do."""
    return b"%b_%b" % (main.to_bytes(8, "big"), sub.to_bytes(8, "big"))


def decode_revision(key: bytes) -> tuple[int, int, bool]:
    """(main, sub, whether it is a tombstone's). Raises: ValueError."""
    if len(key) not in (17, 18) or key[8:9] != b"_" or key[17:] not in (b"", b"t"):
        raise ValueError(f"not a revision: {key!r}")
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[9:17], "big"), len(key) == 18


def encode_u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def decode_u64(name: bytes, value: bytes) -> int:
    """The number that stands in `meta` under this name. Raises: ValueError."""
    if len(value) != 8:
        raise ValueError(f"bucket meta, {name.decode()}: expected eight bytes, found {value[:32].hex()}")
    return int.from_bytes(value, "big")


# ---- meta


def read_consistent_index(store: BucketStore) -> tuple[int, int]:
    """(index, term) of the last entry whose effect is in the store; 0 for what is not there."""
    index = store.get(META, CONSISTENT_INDEX)
    if index is None:
        return 0, 0
    term = store.get(META, TERM)
    return decode_u64(CONSISTENT_INDEX, index), 0 if term is None else decode_u64(TERM, term)


def write_consistent_index(store: BucketStore, index: int, term: int) -> None:
    """Set both; an index of 0 is never written, nor a term of 0. Source: etcd cindex."""
    if index:
        store.put(META, CONSISTENT_INDEX, encode_u64(index))
        if term:
            store.put(META, TERM, encode_u64(term))


def encode_conf_state(state: ConfState) -> bytes:
    """As Go's encoding/json writes raftpb.ConfState: empty lists are left out."""
    fields: dict[str, object] = {}
    if state.voters:
        fields["voters"] = list(state.voters)
    if state.learners:
        fields["learners"] = list(state.learners)
    if state.voters_outgoing:
        fields["voters_outgoing"] = list(state.voters_outgoing)
    if state.learners_next:
        fields["learners_next"] = list(state.learners_next)
    fields["auto_leave"] = state.auto_leave
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_conf_state(value: bytes) -> ConfState:
    """Raises: ValueError."""
    fields = json.loads(value)
    if not isinstance(fields, dict):
        raise ValueError(f"not a ConfState: {value!r}")
    lists: list[tuple[int, ...]] = []
    for name in ("voters", "learners", "voters_outgoing", "learners_next"):
        ids = fields.get(name) or []
        if not isinstance(ids, list) or not all(isinstance(member, int) for member in ids):
            raise ValueError(f"not a ConfState: {value!r}")
        lists.append(tuple(ids))
    return ConfState(lists[0], lists[1], lists[2], lists[3], bool(fields.get("auto_leave", False)))


def read_conf_state(store: BucketStore) -> ConfState | None:
    """The stored configuration; None when an etcd before 3.5 wrote the store."""
    value = store.get(META, CONF_STATE)
    return None if value is None else decode_conf_state(value)


def write_conf_state(store: BucketStore, state: ConfState) -> None:
    store.put(META, CONF_STATE, encode_conf_state(state))


# ---- alarms


def encode_alarm(member_id: int, alarm: int) -> bytes:
    """AlarmMember as protobuf: the key under which an alarm stands."""
    key = b"\x08" + uvarint(member_id) if member_id else b""
    return key + b"\x10" + uvarint(alarm) if alarm else key


def decode_alarm(key: bytes) -> tuple[int, int]:
    """(member id, alarm type). Raises: ValueError."""
    member_id = alarm = position = 0
    while position < len(key):
        tag = key[position]
        if tag not in (0x08, 0x10):
            raise ValueError(f"not an AlarmMember: {key!r}")
        number, position = read_uvarint(key, position + 1)
        if tag == 0x08:
            member_id = number
        else:
            alarm = number
    return member_id, alarm


def read_alarms(store: BucketStore) -> list[tuple[int, int]]:
    """(member id, alarm type) of every raised alarm, by key."""
    return [decode_alarm(key) for key, _ in store.scan(ALARM, b"", None)]


def write_alarm(store: BucketStore, member_id: int, alarm: int) -> None:
    store.put(ALARM, encode_alarm(member_id, alarm), b"")


def delete_alarm(store: BucketStore, member_id: int, alarm: int) -> None:
    store.delete(ALARM, encode_alarm(member_id, alarm))
