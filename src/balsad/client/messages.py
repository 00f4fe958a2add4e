"""The messages of etcd's gRPC API, with the names that etcd gives them.

Numbers and names are those of rpc.proto, kv.proto and auth.proto; fields that
belong to a oneof are None while absent, and so is a message that may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from balsad.client.codec import BOOL, BYTES, ENUM, INT64, STRING, UINT64, Field, Message, field

ALARM_NONE = 0
ALARM_NOSPACE = 1
ALARM_CORRUPT = 2


class KeyValue(Message):
    FIELDS = (
        field(1, "key", BYTES),
        field(2, "create_revision", INT64),
        field(3, "mod_revision", INT64),
        field(4, "version", INT64),
        field(5, "value", BYTES),
        field(6, "lease", INT64),
    )
    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0


class Event(Message):
    FIELDS = (field(1, "type", ENUM), field(2, "kv", KeyValue), field(3, "prev_kv", KeyValue))
    type: int = 0
    kv: KeyValue = KeyValue()
    prev_kv: KeyValue | None = None

    PUT: ClassVar[int] = 0
    DELETE: ClassVar[int] = 1


class UserAddOptions(Message):
    FIELDS = (field(1, "no_password", BOOL),)
    no_password: bool = False


class Permission(Message):
    FIELDS = (field(1, "permType", ENUM), field(2, "key", BYTES), field(3, "range_end", BYTES))
    permType: int = 0
    key: bytes = b""
    range_end: bytes = b""

    READ: ClassVar[int] = 0
    WRITE: ClassVar[int] = 1
    READWRITE: ClassVar[int] = 2


class ResponseHeader(Message):
    FIELDS = (
        field(1, "cluster_id", UINT64),
        field(2, "member_id", UINT64),
        field(3, "revision", INT64),
        field(4, "raft_term", UINT64),
    )
    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


class RangeRequest(Message):
    FIELDS = (
        field(1, "key", BYTES),
        field(2, "range_end", BYTES),
        field(3, "limit", INT64),
        field(4, "revision", INT64),
        field(5, "sort_order", ENUM),
        field(6, "sort_target", ENUM),
        field(7, "serializable", BOOL),
        field(8, "keys_only", BOOL),
        field(9, "count_only", BOOL),
        field(10, "min_mod_revision", INT64),
        field(11, "max_mod_revision", INT64),
        field(12, "min_create_revision", INT64),
        field(13, "max_create_revision", INT64),
    )
    key: bytes = b""
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    sort_order: int = 0
    sort_target: int = 0
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0

    NONE: ClassVar[int] = 0
    ASCEND: ClassVar[int] = 1
    DESCEND: ClassVar[int] = 2
    KEY: ClassVar[int] = 0
    VERSION: ClassVar[int] = 1
    CREATE: ClassVar[int] = 2
    MOD: ClassVar[int] = 3
    VALUE: ClassVar[int] = 4


class RangeResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "kvs", KeyValue, repeated=True),
        field(3, "more", BOOL),
        field(4, "count", INT64),
    )
    header: ResponseHeader = ResponseHeader()
    kvs: Sequence[KeyValue] = ()
    more: bool = False
    count: int = 0


class PutRequest(Message):
    FIELDS = (
        field(1, "key", BYTES),
        field(2, "value", BYTES),
        field(3, "lease", INT64),
        field(4, "prev_kv", BOOL),
        field(5, "ignore_value", BOOL),
        field(6, "ignore_lease", BOOL),
    )
    key: bytes = b""
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


class PutResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "prev_kv", KeyValue))
    header: ResponseHeader = ResponseHeader()
    prev_kv: KeyValue | None = None


class DeleteRangeRequest(Message):
    FIELDS = (field(1, "key", BYTES), field(2, "range_end", BYTES), field(3, "prev_kv", BOOL))
    key: bytes = b""
    range_end: bytes = b""
    prev_kv: bool = False


class DeleteRangeResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "deleted", INT64),
        field(3, "prev_kvs", KeyValue, repeated=True),
    )
    header: ResponseHeader = ResponseHeader()
    deleted: int = 0
    prev_kvs: Sequence[KeyValue] = ()


class RequestOp(Message):
    FIELDS: ClassVar[tuple[Field, ...]] = (
        field(1, "request_range", RangeRequest),
        field(2, "request_put", PutRequest),
        field(3, "request_delete_range", DeleteRangeRequest),
    )
    request_range: RangeRequest | None = None
    request_put: PutRequest | None = None
    request_delete_range: DeleteRangeRequest | None = None
    request_txn: TxnRequest | None = None


class ResponseOp(Message):
    FIELDS: ClassVar[tuple[Field, ...]] = (
        field(1, "response_range", RangeResponse),
        field(2, "response_put", PutResponse),
        field(3, "response_delete_range", DeleteRangeResponse),
    )
    response_range: RangeResponse | None = None
    response_put: PutResponse | None = None
    response_delete_range: DeleteRangeResponse | None = None
    response_txn: TxnResponse | None = None


class Compare(Message):
    FIELDS = (
        field(1, "result", ENUM),
        field(2, "target", ENUM),
        field(3, "key", BYTES),
        field(4, "version", INT64),
        field(5, "create_revision", INT64),
        field(6, "mod_revision", INT64),
        field(7, "value", BYTES),
        field(8, "lease", INT64),
        field(64, "range_end", BYTES),
    )
    result: int = 0
    target: int = 0
    key: bytes = b""
    version: int | None = None
    create_revision: int | None = None
    mod_revision: int | None = None
    value: bytes | None = None
    lease: int | None = None
    range_end: bytes = b""

    EQUAL: ClassVar[int] = 0
    GREATER: ClassVar[int] = 1
    LESS: ClassVar[int] = 2
    NOT_EQUAL: ClassVar[int] = 3
    VERSION: ClassVar[int] = 0
    CREATE: ClassVar[int] = 1
    MOD: ClassVar[int] = 2
    VALUE: ClassVar[int] = 3
    LEASE: ClassVar[int] = 4


class TxnRequest(Message):
    FIELDS = (
        field(1, "compare", Compare, repeated=True),
        field(2, "success", RequestOp, repeated=True),
        field(3, "failure", RequestOp, repeated=True),
    )
    compare: Sequence[Compare] = ()
    success: Sequence[RequestOp] = ()
    failure: Sequence[RequestOp] = ()


RequestOp.FIELDS += (field(4, "request_txn", TxnRequest),)


class TxnResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "succeeded", BOOL),
        field(3, "responses", ResponseOp, repeated=True),
    )
    header: ResponseHeader = ResponseHeader()
    succeeded: bool = False
    responses: Sequence[ResponseOp] = ()


ResponseOp.FIELDS += (field(4, "response_txn", TxnResponse),)


class CompactionRequest(Message):
    FIELDS = (field(1, "revision", INT64), field(2, "physical", BOOL))
    revision: int = 0
    physical: bool = False


class CompactionResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class HashKVRequest(Message):
    FIELDS = (field(1, "revision", INT64),)
    revision: int = 0


class HashKVResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "hash", UINT64),
        field(3, "compact_revision", INT64),
        field(4, "hash_revision", INT64),
    )
    header: ResponseHeader = ResponseHeader()
    hash: int = 0
    compact_revision: int = 0
    hash_revision: int = 0


class SnapshotRequest(Message):
    """No fields."""


class SnapshotResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "remaining_bytes", UINT64),
        field(3, "blob", BYTES),
        field(4, "version", STRING),
    )
    header: ResponseHeader = ResponseHeader()
    remaining_bytes: int = 0
    blob: bytes = b""
    version: str = ""


class WatchCreateRequest(Message):
    FIELDS = (
        field(1, "key", BYTES),
        field(2, "range_end", BYTES),
        field(3, "start_revision", INT64),
        field(4, "progress_notify", BOOL),
        field(5, "filters", ENUM, repeated=True),
        field(6, "prev_kv", BOOL),
        field(7, "watch_id", INT64),
        field(8, "fragment", BOOL),
    )
    key: bytes = b""
    range_end: bytes = b""
    start_revision: int = 0
    progress_notify: bool = False
    filters: Sequence[int] = ()
    prev_kv: bool = False
    watch_id: int = 0
    fragment: bool = False

    NOPUT: ClassVar[int] = 0
    NODELETE: ClassVar[int] = 1


class WatchCancelRequest(Message):
    FIELDS = (field(1, "watch_id", INT64),)
    watch_id: int = 0


class WatchProgressRequest(Message):
    """No fields."""


class WatchRequest(Message):
    FIELDS = (
        field(1, "create_request", WatchCreateRequest),
        field(2, "cancel_request", WatchCancelRequest),
        field(3, "progress_request", WatchProgressRequest),
    )
    create_request: WatchCreateRequest | None = None
    cancel_request: WatchCancelRequest | None = None
    progress_request: WatchProgressRequest | None = None


class WatchResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "watch_id", INT64),
        field(3, "created", BOOL),
        field(4, "canceled", BOOL),
        field(5, "compact_revision", INT64),
        field(6, "cancel_reason", STRING),
        field(7, "fragment", BOOL),
        field(11, "events", Event, repeated=True),
    )
    header: ResponseHeader = ResponseHeader()
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: Sequence[Event] = ()


class LeaseGrantRequest(Message):
    FIELDS = (field(1, "TTL", INT64), field(2, "ID", INT64))
    TTL: int = 0
    ID: int = 0


class LeaseGrantResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "ID", INT64),
        field(3, "TTL", INT64),
        field(4, "error", STRING),
    )
    header: ResponseHeader = ResponseHeader()
    ID: int = 0
    TTL: int = 0
    error: str = ""


class LeaseRevokeRequest(Message):
    FIELDS = (field(1, "ID", INT64),)
    ID: int = 0


class LeaseRevokeResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class LeaseKeepAliveRequest(Message):
    FIELDS = (field(1, "ID", INT64),)
    ID: int = 0


class LeaseKeepAliveResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "ID", INT64), field(3, "TTL", INT64))
    header: ResponseHeader = ResponseHeader()
    ID: int = 0
    TTL: int = 0


class LeaseTimeToLiveRequest(Message):
    FIELDS = (field(1, "ID", INT64), field(2, "keys", BOOL))
    ID: int = 0
    keys: bool = False


class LeaseTimeToLiveResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "ID", INT64),
        field(3, "TTL", INT64),
        field(4, "grantedTTL", INT64),
        field(5, "keys", BYTES, repeated=True),
    )
    header: ResponseHeader = ResponseHeader()
    ID: int = 0
    TTL: int = 0
    grantedTTL: int = 0
    keys: Sequence[bytes] = ()


class LeaseLeasesRequest(Message):
    """No fields."""


class LeaseStatus(Message):
    FIELDS = (field(1, "ID", INT64),)
    ID: int = 0


class LeaseLeasesResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "leases", LeaseStatus, repeated=True))
    header: ResponseHeader = ResponseHeader()
    leases: Sequence[LeaseStatus] = ()


class Member(Message):
    FIELDS = (
        field(1, "ID", UINT64),
        field(2, "name", STRING),
        field(3, "peerURLs", STRING, repeated=True),
        field(4, "clientURLs", STRING, repeated=True),
        field(5, "isLearner", BOOL),
    )
    ID: int = 0
    name: str = ""
    peerURLs: Sequence[str] = ()
    clientURLs: Sequence[str] = ()
    isLearner: bool = False


class MemberAddRequest(Message):
    FIELDS = (field(1, "peerURLs", STRING, repeated=True), field(2, "isLearner", BOOL))
    peerURLs: Sequence[str] = ()
    isLearner: bool = False


class MemberAddResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "member", Member),
        field(3, "members", Member, repeated=True),
    )
    header: ResponseHeader = ResponseHeader()
    member: Member = Member()
    members: Sequence[Member] = ()


class MemberRemoveRequest(Message):
    FIELDS = (field(1, "ID", UINT64),)
    ID: int = 0


class MemberRemoveResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "members", Member, repeated=True))
    header: ResponseHeader = ResponseHeader()
    members: Sequence[Member] = ()


class MemberUpdateRequest(Message):
    FIELDS = (field(1, "ID", UINT64), field(2, "peerURLs", STRING, repeated=True))
    ID: int = 0
    peerURLs: Sequence[str] = ()


class MemberUpdateResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "members", Member, repeated=True))
    header: ResponseHeader = ResponseHeader()
    members: Sequence[Member] = ()


class MemberListRequest(Message):
    FIELDS = (field(1, "linearizable", BOOL),)
    linearizable: bool = False


class MemberListResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "members", Member, repeated=True))
    header: ResponseHeader = ResponseHeader()
    members: Sequence[Member] = ()


class MemberPromoteRequest(Message):
    FIELDS = (field(1, "ID", UINT64),)
    ID: int = 0


class MemberPromoteResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "members", Member, repeated=True))
    header: ResponseHeader = ResponseHeader()
    members: Sequence[Member] = ()


class DefragmentRequest(Message):
    """No fields."""


class DefragmentResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class MoveLeaderRequest(Message):
    FIELDS = (field(1, "targetID", UINT64),)
    targetID: int = 0


class MoveLeaderResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AlarmRequest(Message):
    FIELDS = (field(1, "action", ENUM), field(2, "memberID", UINT64), field(3, "alarm", ENUM))
    action: int = 0
    memberID: int = 0
    alarm: int = 0

    GET: ClassVar[int] = 0
    ACTIVATE: ClassVar[int] = 1
    DEACTIVATE: ClassVar[int] = 2


class AlarmMember(Message):
    FIELDS = (field(1, "memberID", UINT64), field(2, "alarm", ENUM))
    memberID: int = 0
    alarm: int = 0


class AlarmResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "alarms", AlarmMember, repeated=True))
    header: ResponseHeader = ResponseHeader()
    alarms: Sequence[AlarmMember] = ()


class DowngradeRequest(Message):
    FIELDS = (field(1, "action", ENUM), field(2, "version", STRING))
    action: int = 0
    version: str = ""

    VALIDATE: ClassVar[int] = 0
    ENABLE: ClassVar[int] = 1
    CANCEL: ClassVar[int] = 2


class DowngradeResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "version", STRING))
    header: ResponseHeader = ResponseHeader()
    version: str = ""


class StatusRequest(Message):
    """No fields."""


class DowngradeInfo(Message):
    FIELDS = (field(1, "enabled", BOOL), field(2, "targetVersion", STRING))
    enabled: bool = False
    targetVersion: str = ""


class StatusResponse(Message):
    FIELDS = (
        field(1, "header", ResponseHeader),
        field(2, "version", STRING),
        field(3, "dbSize", INT64),
        field(4, "leader", UINT64),
        field(5, "raftIndex", UINT64),
        field(6, "raftTerm", UINT64),
        field(7, "raftAppliedIndex", UINT64),
        field(8, "errors", STRING, repeated=True),
        field(9, "dbSizeInUse", INT64),
        field(10, "isLearner", BOOL),
        field(11, "storageVersion", STRING),
        field(12, "dbSizeQuota", INT64),
        field(13, "downgradeInfo", DowngradeInfo),
    )
    header: ResponseHeader = ResponseHeader()
    version: str = ""
    dbSize: int = 0
    leader: int = 0
    raftIndex: int = 0
    raftTerm: int = 0
    raftAppliedIndex: int = 0
    errors: Sequence[str] = ()
    dbSizeInUse: int = 0
    isLearner: bool = False
    storageVersion: str = ""
    dbSizeQuota: int = 0
    downgradeInfo: DowngradeInfo | None = None


class AuthEnableRequest(Message):
    """No fields."""


class AuthDisableRequest(Message):
    """No fields."""


class AuthStatusRequest(Message):
    """No fields."""


class AuthenticateRequest(Message):
    FIELDS = (field(1, "name", STRING), field(2, "password", STRING))
    name: str = ""
    password: str = ""


class AuthUserAddRequest(Message):
    FIELDS = (
        field(1, "name", STRING),
        field(2, "password", STRING),
        field(3, "options", UserAddOptions),
        field(4, "hashedPassword", STRING),
    )
    name: str = ""
    password: str = ""
    options: UserAddOptions | None = None
    hashedPassword: str = ""


class AuthUserGetRequest(Message):
    FIELDS = (field(1, "name", STRING),)
    name: str = ""


class AuthUserDeleteRequest(Message):
    FIELDS = (field(1, "name", STRING),)
    name: str = ""


class AuthUserChangePasswordRequest(Message):
    FIELDS = (field(1, "name", STRING), field(2, "password", STRING), field(3, "hashedPassword", STRING))
    name: str = ""
    password: str = ""
    hashedPassword: str = ""


class AuthUserGrantRoleRequest(Message):
    FIELDS = (field(1, "user", STRING), field(2, "role", STRING))
    user: str = ""
    role: str = ""


class AuthUserRevokeRoleRequest(Message):
    FIELDS = (field(1, "name", STRING), field(2, "role", STRING))
    name: str = ""
    role: str = ""


class AuthRoleAddRequest(Message):
    FIELDS = (field(1, "name", STRING),)
    name: str = ""


class AuthRoleGetRequest(Message):
    FIELDS = (field(1, "role", STRING),)
    role: str = ""


class AuthUserListRequest(Message):
    """No fields."""


class AuthRoleListRequest(Message):
    """No fields."""


class AuthRoleDeleteRequest(Message):
    FIELDS = (field(1, "role", STRING),)
    role: str = ""


class AuthRoleGrantPermissionRequest(Message):
    FIELDS = (field(1, "name", STRING), field(2, "perm", Permission))
    name: str = ""
    perm: Permission = Permission()


class AuthRoleRevokePermissionRequest(Message):
    FIELDS = (field(1, "role", STRING), field(2, "key", BYTES), field(3, "range_end", BYTES))
    role: str = ""
    key: bytes = b""
    range_end: bytes = b""


class AuthEnableResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthDisableResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthStatusResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "enabled", BOOL), field(3, "authRevision", UINT64))
    header: ResponseHeader = ResponseHeader()
    enabled: bool = False
    authRevision: int = 0


class AuthenticateResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "token", STRING))
    header: ResponseHeader = ResponseHeader()
    token: str = ""


class AuthUserAddResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthUserGetResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "roles", STRING, repeated=True))
    header: ResponseHeader = ResponseHeader()
    roles: Sequence[str] = ()


class AuthUserDeleteResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthUserChangePasswordResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthUserGrantRoleResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthUserRevokeRoleResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthRoleAddResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthRoleGetResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "perm", Permission, repeated=True))
    header: ResponseHeader = ResponseHeader()
    perm: Sequence[Permission] = ()


class AuthRoleListResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "roles", STRING, repeated=True))
    header: ResponseHeader = ResponseHeader()
    roles: Sequence[str] = ()


class AuthUserListResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader), field(2, "users", STRING, repeated=True))
    header: ResponseHeader = ResponseHeader()
    users: Sequence[str] = ()


class AuthRoleDeleteResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthRoleGrantPermissionResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()


class AuthRoleRevokePermissionResponse(Message):
    FIELDS = (field(1, "header", ResponseHeader),)
    header: ResponseHeader = ResponseHeader()
