"""Rows of what both the simple format and tables print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.client.messages import HashKVResponse, MemberListResponse, StatusResponse
from balsad.ctl.go_text import humanize_bytes
from balsad.ctl.printers.base import Health

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


Rows = tuple[list[str], list[list[str]]]


def go_bool(value: bool) -> str:
    return "true" if value else "false"


def member_rows(response: MemberListResponse) -> Rows:
    header = ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"]
    return header, [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            go_bool(member.isLearner),
        ]
        for member in response.members
    ]


def health_rows(healths: list[Health]) -> Rows:
    header = ["endpoint", "health", "took", "error"]
    return header, [[one.endpoint, go_bool(one.is_healthy), one.took, one.error] for one in healths]


def status_rows(statuses: list[tuple[str, StatusResponse]]) -> Rows:
    header = ["endpoint", "ID", "version", "db size", "is leader", "is learner"]
    header += ["raft term", "raft index", "raft applied index", "errors"]
    return header, [
        [
            endpoint,
            f"{status.header.member_id:x}",
            status.version,
            humanize_bytes(status.dbSize),
            go_bool(status.leader == status.header.member_id),
            go_bool(status.isLearner),
            str(status.raftTerm),
            str(status.raftIndex),
            str(status.raftAppliedIndex),
            ", ".join(status.errors),
        ]
        for endpoint, status in statuses
    ]


def hash_kv_rows(hashes: list[tuple[str, HashKVResponse]]) -> Rows:
    return ["endpoint", "hash"], [[endpoint, str(response.hash)] for endpoint, response in hashes]


def snapshot_rows(status: SnapshotStatus) -> Rows:
    header = ["hash", "revision", "total keys", "total size"]
    row = [f"{status.hash:x}", str(status.revision), str(status.total_key), humanize_bytes(status.total_size)]
    return header, [row]


def db_hash_kv_rows(result: HashKv) -> Rows:
    row = [str(result.hash), str(result.hash_revision), str(result.compact_revision)]
    return ["hash", "hash revision", "compact revision"], [row]
