"""Permission at apply, by the name and revision in the entry; and the requests about users and roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from balsad.auth import ANONYMOUS, AuthStore, Identity, encode_hash, hash_password, new_salt
from balsad.auth.simple_tokens import SimpleTokens
from balsad.errors import RequestError
from balsad.lease import Lessor
from balsad.mvcc import Store
from balsad.proto import auth_pb2, raft_internal_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.raft import ConfState, Entry
from balsad.server.alarms import Alarms
from balsad.server.answers import HeaderBytes
from balsad.server.apply.auth import AuthApplier
from balsad.server.apply.cluster import ClusterApplier
from balsad.server.apply.dispatch import PLAIN_PUT, PLAIN_TXN, Applier
from balsad.server.plain_txn import read_txn
from balsad.server.propose import Pending, Result
from balsad.server.quota import Quota
from balsad.storage import Backend, schema
from tests.property.memory_disk import MemoryDisk

HASHED = encode_hash(hash_password(b"pw", new_salt(bytes(16), 4)))
DENIED = "etcdserver: permission denied"


class StillClock:
    def monotonic(self) -> float:
        return 50.0

    def time(self) -> float:
        return 1_700_000_000.0


class NoCluster:
    """Takes no request for itself."""

    def apply_request(self, field: str, request: Any, is_new: bool) -> None:
        return None


class Member:
    """An applier over memory, fed entry by entry as the log would."""

    def __init__(self, *, user_permissions: tuple[auth_pb2.Permission, ...] = ()) -> None:
        backend = Backend.open(MemoryDisk(), "/db")
        schema.create_all_buckets(backend)
        self.lessor = Lessor(1, backend)
        self.lessor.recover()
        self.lessor.promote(0.0, 0.0)
        self.store = Store(backend, leases=self.lessor)
        self.store.restore()
        self.auth = AuthStore(backend, SimpleTokens(), bcrypt_cost=4)
        self.auth.recover()
        self.alarms = Alarms(backend)
        self.applier = Applier(
            backend=backend,
            store=self.store,
            lessor=self.lessor,
            alarms=self.alarms,
            quota=Quota(backend, -1),
            cluster=cast(ClusterApplier, NoCluster()),
            auth=AuthApplier(self.auth, self.lessor, StillClock()),
            header=HeaderBytes(cluster_id=1, member_id=2),
            clock=lambda: 50.0,
            consistent_index=0,
            consistent_term=0,
            applied_index=0,
            conf_state=ConfState(),
        )
        self.auth.add_user("root", hashed_password=HASHED)
        self.auth.grant_role("root", "root")
        self.auth.add_user("u", hashed_password=HASHED)
        self.auth.add_role("r")
        for permission in user_permissions:
            self.auth.grant_permission("r", permission)
        self.auth.grant_role("u", "r")
        self.auth.enable()

    def apply(self, field: str, request: Any, who: Identity = ANONYMOUS) -> Result:
        """What the one who proposed this hears; the entry is decoded from its bytes, as on any other member."""
        message = raft_internal_pb2.InternalRaftRequest()
        message.header.ID = 1
        message.header.username = who.username
        message.header.auth_revision = who.revision
        getattr(message, field).CopyFrom(request)
        getattr(message, field).SetInParent()
        heard: list[Result] = []
        pending = Pending(1, None, heard.append)
        self.applier.apply([Entry(0, 1, self.applier.applied_index + 1, message.SerializeToString())], {1: pending})
        return heard[0]

    def words(self, field: str, request: Any, who: Identity = ANONYMOUS) -> str:
        """The refusal, or nothing."""
        result = self.apply(field, request, who)
        return result.text if isinstance(result, RequestError) else ""

    @property
    def root(self) -> Identity:
        return Identity("root", self.auth.revision)

    @property
    def user(self) -> Identity:
        return Identity("u", self.auth.revision)


def permission(kind: int, key: bytes, end: bytes = b"") -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=kind, key=key, range_end=end)  # type: ignore[arg-type]


READ_R = permission(0, b"r")
WRITE_W = permission(1, b"w")
BOTH_X = permission(2, b"x")


def member() -> Member:
    made = Member(user_permissions=(READ_R, WRITE_W, BOTH_X))
    for key in (b"r", b"w", b"x", b"z"):
        made.apply("put", rpc.PutRequest(key=key, value=b"0"), made.root)
    return made


def put(key: bytes, **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, **fields))


def get(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end))


def delete(key: bytes, **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, **fields))


def nested(*operations: rpc.RequestOp) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=operations))


@pytest.mark.parametrize(
    ("field", "request_", "allowed"),
    [
        ("put", rpc.PutRequest(key=b"w"), True),
        ("put", rpc.PutRequest(key=b"r"), False),
        ("put", rpc.PutRequest(key=b"w", prev_kv=True), False),
        ("put", rpc.PutRequest(key=b"x", prev_kv=True), True),
        ("delete_range", rpc.DeleteRangeRequest(key=b"w"), True),
        ("delete_range", rpc.DeleteRangeRequest(key=b"w", prev_kv=True), False),
        ("delete_range", rpc.DeleteRangeRequest(key=b"x", prev_kv=True), True),
        ("delete_range", rpc.DeleteRangeRequest(key=b"w", range_end=b"z"), False),
        ("delete_range", rpc.DeleteRangeRequest(key=b"r"), False),
        ("txn", rpc.TxnRequest(compare=[rpc.Compare(key=b"r")], success=[put(b"w")]), True),
        ("txn", rpc.TxnRequest(compare=[rpc.Compare(key=b"w")], success=[put(b"w")]), False),
        ("txn", rpc.TxnRequest(compare=[rpc.Compare(key=b"r", range_end=b"s")], success=[put(b"w")]), False),
        ("txn", rpc.TxnRequest(success=[put(b"w"), get(b"w")]), False),
        ("txn", rpc.TxnRequest(success=[put(b"w"), get(b"r")]), True),
        ("txn", rpc.TxnRequest(success=[put(b"w")], failure=[put(b"z")]), False),
        ("txn", rpc.TxnRequest(success=[delete(b"w", prev_kv=True)]), False),
        ("txn", rpc.TxnRequest(success=[delete(b"z")]), False),
        # What 3.5.1 passes over, and later releases do not.
        ("txn", rpc.TxnRequest(success=[put(b"w", prev_kv=True)]), False),
        ("txn", rpc.TxnRequest(success=[nested(put(b"w"))]), True),
        ("txn", rpc.TxnRequest(success=[nested(put(b"z"))]), False),
        ("txn", rpc.TxnRequest(success=[nested(nested(get(b"w")))]), False),
        (
            "txn",
            rpc.TxnRequest(success=[rpc.RequestOp(request_txn=rpc.TxnRequest(compare=[rpc.Compare(key=b"z")]))]),
            False,
        ),
    ],
)
def test_every_key_that_is_touched_needs_its_right(field: str, request_: Any, allowed: bool) -> None:
    """etcd apply_auth.go: checked before anything is done, so a refusal leaves no trace."""
    at = member()
    before = at.store.current_revision

    assert at.words(field, request_, at.root) == ""
    assert at.words(field, request_, ANONYMOUS) == "etcdserver: user name is empty"
    after = at.store.current_revision
    assert at.words(field, request_, at.user) == ("" if allowed else DENIED)
    if not allowed:
        assert at.store.current_revision == after
    assert after >= before


def test_a_lease_is_revoked_by_who_may_write_all_its_keys() -> None:
    at = member()
    at.apply("lease_grant", rpc.LeaseGrantRequest(ID=7, TTL=100))
    at.apply("put", rpc.PutRequest(key=b"w", lease=7), at.user)
    at.apply("put", rpc.PutRequest(key=b"z", lease=7), at.root)

    assert at.words("lease_revoke", rpc.LeaseRevokeRequest(ID=7), at.user) == DENIED
    assert at.words("lease_revoke", rpc.LeaseRevokeRequest(ID=7)) == "etcdserver: user name is empty"
    # Nor may they hang more on what they could not revoke.
    assert at.words("put", rpc.PutRequest(key=b"w", lease=7), at.user) == DENIED
    assert at.words("txn", rpc.TxnRequest(success=[put(b"w", lease=7)]), at.user) == DENIED
    at.apply("delete_range", rpc.DeleteRangeRequest(key=b"z"), at.root)
    assert at.words("lease_revoke", rpc.LeaseRevokeRequest(ID=7), at.user) == ""
    assert at.store.get(b"w") is None


def test_who_was_known_at_an_older_revision_is_refused() -> None:
    at = member()
    early = at.user
    at.apply("auth_role_add", rpc.AuthRoleAddRequest(name="s"), at.root)

    assert at.words("put", rpc.PutRequest(key=b"w"), early) == "etcdserver: revision of auth store is old"
    assert at.words("put", rpc.PutRequest(key=b"w"), at.user) == ""


def test_an_alarm_for_space_does_not_let_anybody_in() -> None:
    """3.5.1 asks nobody while such an alarm is raised."""
    at = member()
    at.alarms.activate(2, 1)

    assert at.words("put", rpc.PutRequest(key=b"w"), at.user) == "etcdserver: mvcc: database space exceeded"
    assert at.words("delete_range", rpc.DeleteRangeRequest(key=b"z"), at.user) == DENIED
    assert at.words("auth_user_add", rpc.AuthUserAddRequest(name="v", hashedPassword=HASHED), at.user) == DENIED


def plain_put(key: bytes, index: int, heard: list[Result]) -> tuple[Entry, Pending]:
    request = rpc.PutRequest(key=key, value=b"1").SerializeToString()
    pending = Pending(index, None, heard.append, PLAIN_PUT, None, key, request, 2 + len(key) + 1)
    message = raft_internal_pb2.InternalRaftRequest(put=rpc.PutRequest.FromString(request))
    message.header.ID = index
    return Entry(0, 1, index, message.SerializeToString(), pending), pending


def plain_txn(key: bytes, index: int, heard: list[Result]) -> tuple[Entry, Pending]:
    request = rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"1"))])
    raw = request.SerializeToString()
    pending = Pending(index, None, heard.append, PLAIN_TXN, read_txn(raw, 128), b"", raw)
    message = raft_internal_pb2.InternalRaftRequest(txn=request)
    message.header.ID = index
    return Entry(0, 1, index, message.SerializeToString(), pending), pending


@pytest.mark.parametrize("make", [plain_put, plain_txn])
def test_a_write_under_way_while_authentication_is_enabled_is_nobodys(
    make: Callable[[bytes, int, list[Result]], tuple[Entry, Pending]],
) -> None:
    """It was proposed without a name, since nobody was asked then."""
    at = member()
    at.auth.disable()
    first = at.applier.applied_index + 1
    heard: list[Result] = []
    enable = raft_internal_pb2.InternalRaftRequest(auth_enable=rpc.AuthEnableRequest())
    enable.header.username, enable.header.auth_revision = "root", at.auth.revision
    entries = [Entry(0, 1, first, enable.SerializeToString())]
    waiting = {}
    for place in (1, 2):
        entry, pending = make(b"new", first + place, heard)
        entries.append(entry)
        waiting[pending.id] = pending

    at.applier.apply(entries, waiting)

    assert [result.text for result in heard if isinstance(result, RequestError)] == [
        "etcdserver: user name is empty"
    ] * 2
    assert at.store.get(b"new") is None
    assert (at.applier.applied_index, at.applier.consistent_index, waiting) == (first + 2, first + 2, {})


# The requests of the Auth service.

ADMIN = [
    ("auth_enable", rpc.AuthEnableRequest()),
    ("auth_disable", rpc.AuthDisableRequest()),
    ("auth_status", rpc.AuthStatusRequest()),
    ("auth_user_add", rpc.AuthUserAddRequest(name="v")),
    ("auth_user_get", rpc.AuthUserGetRequest(name="root")),
    ("auth_user_list", rpc.AuthUserListRequest()),
    ("auth_user_delete", rpc.AuthUserDeleteRequest(name="u")),
    ("auth_user_change_password", rpc.AuthUserChangePasswordRequest(name="u", hashedPassword=HASHED)),
    ("auth_user_grant_role", rpc.AuthUserGrantRoleRequest(user="u", role="root")),
    ("auth_user_revoke_role", rpc.AuthUserRevokeRoleRequest(name="u", role="r")),
    ("auth_role_add", rpc.AuthRoleAddRequest(name="s")),
    ("auth_role_get", rpc.AuthRoleGetRequest(role="other")),
    ("auth_role_list", rpc.AuthRoleListRequest()),
    ("auth_role_delete", rpc.AuthRoleDeleteRequest(role="r")),
    ("auth_role_grant_permission", rpc.AuthRoleGrantPermissionRequest(name="r", perm=permission(2, b"z"))),
    ("auth_role_revoke_permission", rpc.AuthRoleRevokePermissionRequest(role="r", key=b"r")),
]


@pytest.mark.parametrize(("field", "request_"), ADMIN, ids=[field for field, _ in ADMIN])
def test_only_root_manages_users_and_roles(field: str, request_: Any) -> None:
    at = member()
    at.auth.add_role("other")

    assert at.words(field, request_, at.user) == DENIED
    assert at.words(field, request_) == "etcdserver: user name is empty"
    assert at.words(field, request_, Identity("nosuch", 1)) == "etcdserver: user name not found"
    assert at.words(field, request_, at.root) == ""


def test_users_may_look_at_themselves_and_their_roles() -> None:
    at = member()

    itself = at.apply("auth_user_get", rpc.AuthUserGetRequest(name="u"), at.user)
    role = at.apply("auth_role_get", rpc.AuthRoleGetRequest(role="r"), at.user)

    assert isinstance(itself, bytes) and isinstance(role, bytes)
    assert list(rpc.AuthUserGetResponse.FromString(itself).roles) == ["r"]
    assert list(rpc.AuthRoleGetResponse.FromString(role).perm) == [READ_R, WRITE_W, BOTH_X]


def test_an_answer_names_the_member_and_the_stores_revision() -> None:
    at = member()

    answer = at.apply("auth_status", rpc.AuthStatusRequest(), at.root)

    assert isinstance(answer, bytes)
    status = rpc.AuthStatusResponse.FromString(answer)
    header = status.header
    assert (header.cluster_id, header.member_id, header.revision) == (1, 2, at.store.current_revision)
    assert (status.enabled, status.authRevision) == (True, at.auth.revision)


def test_a_login_gets_a_token_with_the_index_of_its_entry() -> None:
    at = member()
    login = raft_internal_pb2.InternalAuthenticateRequest(name="u", simple_token="p" * 16)

    answer = at.apply("authenticate", login)

    assert isinstance(answer, bytes)
    token = rpc.AuthenticateResponse.FromString(answer).token
    assert token == f"{'p' * 16}.{at.applier.applied_index}"
    assert at.auth.identify(token, now=50.0, unix_now=0.0) == at.user


def test_entries_that_left_their_mark_before_a_restart_are_passed_over() -> None:
    at = member()
    at.applier.consistent_index = 1 << 40
    revision = at.auth.revision

    message = raft_internal_pb2.InternalRaftRequest(auth_role_add=rpc.AuthRoleAddRequest(name="s"))
    at.applier.apply([Entry(0, 1, at.applier.applied_index + 1, message.SerializeToString())], {})

    assert at.auth.revision == revision
