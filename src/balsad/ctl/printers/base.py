"""What every output format can be asked to print; what a format has no words for, it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from balsad.client import messages as m
from balsad.client.codec import Message
from balsad.ctl.console import EXIT_BAD_FEATURE, Console, Failure

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


class Health:
    """How an endpoint is: `took` is a duration as Go prints it, `error` empty when it is well."""

    __slots__ = ("endpoint", "error", "is_healthy", "took")

    def __init__(self, endpoint: str, *, is_healthy: bool, took: str = "", error: str = "") -> None:
        self.endpoint = endpoint
        self.is_healthy = is_healthy
        self.took = took
        self.error = error


class Printer:
    """Prints nothing by itself: a format overrides what it can print."""

    name: ClassVar[str] = ""

    def __init__(self, console: Console, is_hex: bool) -> None:
        self.console = console
        self.is_hex = is_hex
        self.values_only = False

    def unsupported(self) -> NoReturn:
        raise Failure(EXIT_BAD_FEATURE, f"{self.name} not supported as output format")

    def response(self, response: Message) -> None:
        """Any response a format has no words of its own for."""
        self.unsupported()

    # ---- keys

    def get(self, response: m.RangeResponse) -> None:
        self.response(response)

    def put(self, response: m.PutResponse) -> None:
        self.response(response)

    def delete(self, response: m.DeleteRangeResponse) -> None:
        self.response(response)

    def txn(self, response: m.TxnResponse) -> None:
        self.response(response)

    def watch(self, response: m.WatchResponse) -> None:
        self.response(response)

    # ---- leases

    def grant(self, response: m.LeaseGrantResponse) -> None:
        self.response(response)

    def revoke(self, lease_id: int, response: m.LeaseRevokeResponse) -> None:
        self.response(response)

    def keep_alive(self, response: m.LeaseKeepAliveResponse) -> None:
        self.response(response)

    def time_to_live(self, response: m.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        self.response(response)

    def leases(self, response: m.LeaseLeasesResponse) -> None:
        self.response(response)

    # ---- members

    def member_add(self, response: m.MemberAddResponse) -> None:
        self.response(response)

    def member_remove(self, member_id: int, response: m.MemberRemoveResponse) -> None:
        self.response(response)

    def member_update(self, member_id: int, response: m.MemberUpdateResponse) -> None:
        self.response(response)

    def member_promote(self, member_id: int, response: m.MemberPromoteResponse) -> None:
        self.response(response)

    def member_list(self, response: m.MemberListResponse) -> None:
        self.response(response)

    def move_leader(self, leader_id: int, target_id: int, response: m.MoveLeaderResponse) -> None:
        self.response(response)

    def downgrade(self, what: str, response: m.DowngradeResponse) -> None:
        self.response(response)

    def alarms(self, response: m.AlarmResponse) -> None:
        self.response(response)

    # ---- endpoints and files

    def endpoint_health(self, healths: list[Health]) -> None:
        self.unsupported()

    def endpoint_status(self, statuses: list[tuple[str, m.StatusResponse]]) -> None:
        self.unsupported()

    def endpoint_hash_kv(self, hashes: list[tuple[str, m.HashKVResponse]]) -> None:
        self.unsupported()

    def snapshot_status(self, status: SnapshotStatus) -> None:
        self.unsupported()

    def db_hash_kv(self, result: HashKv) -> None:
        self.unsupported()

    # ---- auth

    def role_add(self, role: str, response: m.AuthRoleAddResponse) -> None:
        self.response(response)

    def role_get(self, role: str, response: m.AuthRoleGetResponse) -> None:
        self.response(response)

    def role_delete(self, role: str, response: m.AuthRoleDeleteResponse) -> None:
        self.response(response)

    def role_list(self, response: m.AuthRoleListResponse) -> None:
        self.response(response)

    def role_grant_permission(self, role: str, response: m.AuthRoleGrantPermissionResponse) -> None:
        self.response(response)

    def role_revoke_permission(
        self, role: str, key: bytes, range_end: bytes, response: m.AuthRoleRevokePermissionResponse
    ) -> None:
        self.response(response)

    def user_add(self, user: str, response: m.AuthUserAddResponse) -> None:
        self.response(response)

    def user_get(self, user: str, response: m.AuthUserGetResponse) -> None:
        self.response(response)

    def user_list(self, response: m.AuthUserListResponse) -> None:
        self.response(response)

    def user_change_password(self, response: m.AuthUserChangePasswordResponse) -> None:
        self.response(response)

    def user_grant_role(self, user: str, role: str, response: m.AuthUserGrantRoleResponse) -> None:
        self.response(response)

    def user_revoke_role(self, user: str, role: str, response: m.AuthUserRevokeRoleResponse) -> None:
        self.response(response)

    def user_delete(self, user: str, response: m.AuthUserDeleteResponse) -> None:
        self.response(response)

    def auth_status(self, response: m.AuthStatusResponse) -> None:
        self.response(response)
