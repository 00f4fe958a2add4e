"""Raft's small numbers as plain ints: message and entry types, roles, special ids.

`messages.MessageType` and `EntryType` name the same numbers for people. The
hot paths compare ints, because looking up an enum member costs more than the
comparison it serves.
"""

from __future__ import annotations

from typing import Final

MSG_HUP: Final = 0
MSG_BEAT: Final = 1
MSG_PROP: Final = 2
MSG_APP: Final = 3
MSG_APP_RESP: Final = 4
MSG_VOTE: Final = 5
MSG_VOTE_RESP: Final = 6
MSG_SNAP: Final = 7
MSG_HEARTBEAT: Final = 8
MSG_HEARTBEAT_RESP: Final = 9
MSG_UNREACHABLE: Final = 10
MSG_SNAP_STATUS: Final = 11
MSG_CHECK_QUORUM: Final = 12
MSG_TRANSFER_LEADER: Final = 13
MSG_TIMEOUT_NOW: Final = 14
MSG_READ_INDEX: Final = 15
MSG_READ_INDEX_RESP: Final = 16
MSG_PRE_VOTE: Final = 17
MSG_PRE_VOTE_RESP: Final = 18
MSG_STORAGE_APPEND: Final = 19
MSG_STORAGE_APPEND_RESP: Final = 20
MSG_STORAGE_APPLY: Final = 21
MSG_STORAGE_APPLY_RESP: Final = 22
MSG_FORGET_LEADER: Final = 23

MESSAGE_NAMES: Final[tuple[str, ...]] = (
    "MsgHup",
    "MsgBeat",
    "MsgProp",
    "MsgApp",
    "MsgAppResp",
    "MsgVote",
    "MsgVoteResp",
    "MsgSnap",
    "MsgHeartbeat",
    "MsgHeartbeatResp",
    "MsgUnreachable",
    "MsgSnapStatus",
    "MsgCheckQuorum",
    "MsgTransferLeader",
    "MsgTimeoutNow",
    "MsgReadIndex",
    "MsgReadIndexResp",
    "MsgPreVote",
    "MsgPreVoteResp",
    "MsgStorageAppend",
    "MsgStorageAppendResp",
    "MsgStorageApply",
    "MsgStorageApplyResp",
    "MsgForgetLeader",
)

ENTRY_NORMAL: Final = 0
ENTRY_CONF_CHANGE: Final = 1
ENTRY_CONF_CHANGE_V2: Final = 2

ENTRY_NAMES: Final[tuple[str, ...]] = ("EntryNormal", "EntryConfChange", "EntryConfChangeV2")

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2
PRE_CANDIDATE: Final = 3

ROLE_NAMES: Final[tuple[str, ...]] = ("StateFollower", "StateCandidate", "StateLeader", "StatePreCandidate")

# Whom the storage messages of asynchronous writes are for.
APPEND_THREAD: Final = 0xFFFFFFFFFFFFFFFF
APPLY_THREAD: Final = 0xFFFFFFFFFFFFFFFE

NO_LIMIT: Final = 0xFFFFFFFFFFFFFFFF

# What a vote request carries when a leader asked for it: voters then forget
# their leader lease.
CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"

_LOCAL: Final[frozenset[int]] = frozenset(
    (
        MSG_HUP,
        MSG_BEAT,
        MSG_UNREACHABLE,
        MSG_SNAP_STATUS,
        MSG_CHECK_QUORUM,
        MSG_STORAGE_APPEND,
        MSG_STORAGE_APPEND_RESP,
        MSG_STORAGE_APPLY,
        MSG_STORAGE_APPLY_RESP,
    )
)

_RESPONSES: Final[frozenset[int]] = frozenset(
    (
        MSG_APP_RESP,
        MSG_VOTE_RESP,
        MSG_HEARTBEAT_RESP,
        MSG_UNREACHABLE,
        MSG_READ_INDEX_RESP,
        MSG_PRE_VOTE_RESP,
        MSG_STORAGE_APPEND_RESP,
        MSG_STORAGE_APPLY_RESP,
    )
)


def is_local(message_type: int) -> bool:
    """Whether messages of this type never cross the network."""
    return message_type in _LOCAL


def is_response(message_type: int) -> bool:
    """Whether messages of this type mean something only from a node we track."""
    return message_type in _RESPONSES


def is_local_target(node_id: int) -> bool:
    """Whether this id names one of the node's own storage threads."""
    return node_id >= APPLY_THREAD
