"""The format for people. Source: etcdctl printer_simple.go."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from balsad.client import messages as m
from balsad.client.kv import OPEN_END, prefix_end
from balsad.ctl.go_text import text_of
from balsad.ctl.printers.base import Health, Printer

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


_ALARMS = {m.ALARM_NONE: "NONE", m.ALARM_NOSPACE: "NOSPACE", m.ALARM_CORRUPT: "CORRUPT"}


def event_type(event: m.Event) -> str:
    return {m.Event.PUT: "PUT", m.Event.DELETE: "DELETE"}.get(event.type, str(event.type))


def alarm_type(alarm: int) -> str:
    return _ALARMS.get(alarm, str(alarm))


class SimplePrinter(Printer):
    name: ClassVar[str] = "simple"

    def _kv(self, kv: m.KeyValue) -> None:
        key, value = kv.key, kv.value
        if self.is_hex:
            key = b"".join(b"\\x%02x" % byte for byte in key)
            value = b"".join(b"\\x%02x" % byte for byte in value)
        self.console.write(value + b"\n" if self.values_only else key + b"\n" + value + b"\n")

    # ---- keys

    def get(self, response: m.RangeResponse) -> None:
        for kv in response.kvs:
            self._kv(kv)

    def put(self, response: m.PutResponse) -> None:
        self.console.print("OK")
        if response.prev_kv is not None:
            self._kv(response.prev_kv)

    def delete(self, response: m.DeleteRangeResponse) -> None:
        self.console.print(str(response.deleted))
        for kv in response.prev_kvs:
            self._kv(kv)

    def txn(self, response: m.TxnResponse) -> None:
        self.console.print("SUCCESS" if response.succeeded else "FAILURE")
        for one in response.responses:
            self.console.print("")
            if one.response_range is not None:
                self.get(one.response_range)
            elif one.response_put is not None:
                self.put(one.response_put)
            elif one.response_delete_range is not None:
                self.delete(one.response_delete_range)
            else:
                self.console.print(f"unexpected response {one!r}")

    def watch(self, response: m.WatchResponse) -> None:
        for event in response.events:
            self.console.print(event_type(event))
            if event.prev_kv is not None:
                self._kv(event.prev_kv)
            self._kv(event.kv)

    # ---- leases

    def grant(self, response: m.LeaseGrantResponse) -> None:
        self.console.print(f"lease {response.ID:016x} granted with TTL({response.TTL}s)")

    def revoke(self, lease_id: int, response: m.LeaseRevokeResponse) -> None:
        self.console.print(f"lease {lease_id:016x} revoked")

    def keep_alive(self, response: m.LeaseKeepAliveResponse) -> None:
        self.console.print(f"lease {response.ID:016x} keepalived with TTL({response.TTL})")

    def time_to_live(self, response: m.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        if response.grantedTTL == 0 and response.TTL == -1:
            self.console.print(f"lease {response.ID:016x} already expired")
            return
        text = f"lease {response.ID:016x} granted with TTL({response.grantedTTL}s), remaining({response.TTL}s)"
        if keys:
            text += f", attached keys([{' '.join(text_of(key) for key in response.keys)}])"
        self.console.print(text)

    def leases(self, response: m.LeaseLeasesResponse) -> None:
        self.console.print(f"found {len(response.leases)} leases")
        for lease in response.leases:
            self.console.print(f"{lease.ID:016x}")

    # ---- members

    def member_add(self, response: m.MemberAddResponse) -> None:
        cluster_id = response.header.cluster_id
        self.console.print(f"Member {response.member.ID:16x} added to cluster {cluster_id:16x}")

    def member_remove(self, member_id: int, response: m.MemberRemoveResponse) -> None:
        self.console.print(f"Member {member_id:16x} removed from cluster {response.header.cluster_id:16x}")

    def member_update(self, member_id: int, response: m.MemberUpdateResponse) -> None:
        self.console.print(f"Member {member_id:16x} updated in cluster {response.header.cluster_id:16x}")

    def member_promote(self, member_id: int, response: m.MemberPromoteResponse) -> None:
        self.console.print(f"Member {member_id:16x} promoted in cluster {response.header.cluster_id:16x}")

    def _rows(self, rows: list[list[str]]) -> None:
        for row in rows:
            self.console.print(", ".join(row))

    def member_list(self, response: m.MemberListResponse) -> None:
        from balsad.ctl.printers.rows import member_rows

        self._rows(member_rows(response)[1])

    def move_leader(self, leader_id: int, target_id: int, response: m.MoveLeaderResponse) -> None:
        self.console.print(f"Leadership transferred from {leader_id:x} to {target_id:x}")

    def downgrade(self, what: str, response: m.DowngradeResponse) -> None:
        self.console.print(f"Downgrade {what} success, cluster version {response.version}")

    def alarms(self, response: m.AlarmResponse) -> None:
        for alarm in response.alarms:
            text = f"memberID:{alarm.memberID} " if alarm.memberID else ""
            text += f"alarm:{alarm_type(alarm.alarm)} " if alarm.alarm else ""
            self.console.print(text)

    # ---- endpoints and files

    def endpoint_health(self, healths: list[Health]) -> None:
        for one in healths:
            if one.error:
                self.console.error(f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}")
            else:
                self.console.print(f"{one.endpoint} is healthy: successfully committed proposal: took = {one.took}")

    def endpoint_status(self, statuses: list[tuple[str, m.StatusResponse]]) -> None:
        from balsad.ctl.printers.rows import status_rows

        self._rows(status_rows(statuses)[1])

    def endpoint_hash_kv(self, hashes: list[tuple[str, m.HashKVResponse]]) -> None:
        from balsad.ctl.printers.rows import hash_kv_rows

        self._rows(hash_kv_rows(hashes)[1])

    def snapshot_status(self, status: SnapshotStatus) -> None:
        from balsad.ctl.printers.rows import snapshot_rows

        self._rows(snapshot_rows(status)[1])

    def db_hash_kv(self, result: HashKv) -> None:
        from balsad.ctl.printers.rows import db_hash_kv_rows

        self._rows(db_hash_kv_rows(result)[1])

    # ---- auth

    def role_add(self, role: str, response: m.AuthRoleAddResponse) -> None:
        self.console.print(f"Role {role} created")

    def role_get(self, role: str, response: m.AuthRoleGetResponse) -> None:
        self.console.print(f"Role {role}")
        for title, kinds in (
            ("KV Read:", (m.Permission.READ, m.Permission.READWRITE)),
            ("KV Write:", (m.Permission.WRITE, m.Permission.READWRITE)),
        ):
            self.console.print(title)
            for permission in response.perm:
                if permission.permType in kinds:
                    self._permission(permission.key, permission.range_end)

    def _permission(self, key: bytes, range_end: bytes) -> None:
        line = b"\t" + key
        if range_end:
            line = b"\t[" + key + (b", <open ended>" if range_end == OPEN_END else b", " + range_end + b")")
            if prefix_end(key) == range_end:
                line += b" (prefix " + key + b")"
        self.console.write(line + b"\n")

    def role_delete(self, role: str, response: m.AuthRoleDeleteResponse) -> None:
        self.console.print(f"Role {role} deleted")

    def role_list(self, response: m.AuthRoleListResponse) -> None:
        for role in response.roles:
            self.console.print(role)

    def role_grant_permission(self, role: str, response: m.AuthRoleGrantPermissionResponse) -> None:
        self.console.print(f"Role {role} updated")

    def role_revoke_permission(
        self, role: str, key: bytes, range_end: bytes, response: m.AuthRoleRevokePermissionResponse
    ) -> None:
        if not range_end:
            what = f"key {text_of(key)}"
        elif range_end == OPEN_END:
            what = f"range [{text_of(key)}, <open ended>"
        else:
            what = f"range [{text_of(key)}, {text_of(range_end)})"
        self.console.print(f"Permission of {what} is revoked from role {role}")

    def user_add(self, user: str, response: m.AuthUserAddResponse) -> None:
        self.console.print(f"User {user} created")

    def user_get(self, user: str, response: m.AuthUserGetResponse) -> None:
        self.console.print(f"User: {user}")
        self.console.print("Roles:" + "".join(f" {role}" for role in response.roles))

    def user_list(self, response: m.AuthUserListResponse) -> None:
        for user in response.users:
            self.console.print(user)

    def user_change_password(self, response: m.AuthUserChangePasswordResponse) -> None:
        self.console.print("Password updated")

    def user_grant_role(self, user: str, role: str, response: m.AuthUserGrantRoleResponse) -> None:
        self.console.print(f"Role {role} is granted to user {user}")

    def user_revoke_role(self, user: str, role: str, response: m.AuthUserRevokeRoleResponse) -> None:
        self.console.print(f"Role {role} is revoked from user {user}")

    def user_delete(self, user: str, response: m.AuthUserDeleteResponse) -> None:
        self.console.print(f"User {user} deleted")

    def auth_status(self, response: m.AuthStatusResponse) -> None:
        self.console.print(f"Authentication Status: {'true' if response.enabled else 'false'}")
        self.console.print(f"AuthRevision: {response.authRevision}")
