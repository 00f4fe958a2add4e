"""One `"Name" : value` line for each field. Source: etcdctl printer_fields.go."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from balsad.client import messages as m
from balsad.ctl.go_text import text_of
from balsad.ctl.printers.base import Health, Printer
from balsad.ctl.printers.rows import go_bool
from balsad.ctl.printers.simple import alarm_type, event_type
from balsad.go_quote import quote_go

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


_PERMISSIONS = {m.Permission.READ: "READ", m.Permission.WRITE: "WRITE", m.Permission.READWRITE: "READWRITE"}


class FieldsPrinter(Printer):
    name: ClassVar[str] = "fields"

    def _line(self, name: str, value: object) -> None:
        self.console.print(f'"{name}" : {value}')

    def _quoted(self, name: str, value: bytes | str) -> None:
        self._line(name, quote_go(text_of(value) if isinstance(value, bytes) else value))

    def _header(self, header: m.ResponseHeader) -> None:
        self._line("ClusterID", header.cluster_id)
        self._line("MemberID", header.member_id)
        self._line("Revision", header.revision)
        self._line("RaftTerm", header.raft_term)

    def _kv(self, prefix: str, kv: m.KeyValue) -> None:
        self._quoted(prefix + "Key", kv.key)
        self._line(prefix + "CreateRevision", kv.create_revision)
        self._line(prefix + "ModRevision", kv.mod_revision)
        self._line(prefix + "Version", kv.version)
        self._quoted(prefix + "Value", kv.value)
        self._line(prefix + "Lease", kv.lease)

    # ---- keys

    def get(self, response: m.RangeResponse) -> None:
        self._header(response.header)
        for kv in response.kvs:
            self._kv("", kv)
        self._line("More", go_bool(response.more))
        self._line("Count", response.count)

    def put(self, response: m.PutResponse) -> None:
        self._header(response.header)
        if response.prev_kv is not None:
            self._kv("Prev", response.prev_kv)

    def delete(self, response: m.DeleteRangeResponse) -> None:
        self._header(response.header)
        self._line("Deleted", response.deleted)
        for kv in response.prev_kvs:
            self._kv("Prev", kv)

    def txn(self, response: m.TxnResponse) -> None:
        self._header(response.header)
        self._line("Succeeded", go_bool(response.succeeded))
        for one in response.responses:
            if one.response_range is not None:
                self.get(one.response_range)
            elif one.response_put is not None:
                self.put(one.response_put)
            elif one.response_delete_range is not None:
                self.delete(one.response_delete_range)
            else:
                self._quoted("Unknown", repr(one))

    def watch(self, response: m.WatchResponse) -> None:
        self._header(response.header)
        for event in response.events:
            self._line("Type", event_type(event))
            if event.prev_kv is not None:
                self._kv("Prev", event.prev_kv)
            self._kv("", event.kv)

    # ---- leases

    def grant(self, response: m.LeaseGrantResponse) -> None:
        self._header(response.header)
        self._line("ID", response.ID)
        self._line("TTL", response.TTL)

    def revoke(self, lease_id: int, response: m.LeaseRevokeResponse) -> None:
        self._header(response.header)

    def keep_alive(self, response: m.LeaseKeepAliveResponse) -> None:
        self._header(response.header)
        self._line("ID", response.ID)
        self._line("TTL", response.TTL)

    def time_to_live(self, response: m.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        self._header(response.header)
        self._line("ID", response.ID)
        self._line("TTL", response.TTL)
        self._line("GrantedTTL", response.grantedTTL)
        for key in response.keys:
            self._quoted("Key", key)

    def leases(self, response: m.LeaseLeasesResponse) -> None:
        self._header(response.header)
        for lease in response.leases:
            self._line("ID", lease.ID)

    # ---- members

    def member_list(self, response: m.MemberListResponse) -> None:
        self._header(response.header)
        for member in response.members:
            self._line("ID", member.ID)
            self._quoted("Name", member.name)
            for url in member.peerURLs:
                self._quoted("PeerURL", url)
            for url in member.clientURLs:
                self._quoted("ClientURL", url)
            self._line("IsLearner", go_bool(member.isLearner))
            self.console.print("")

    def alarms(self, response: m.AlarmResponse) -> None:
        self._header(response.header)
        for alarm in response.alarms:
            self._line("MemberID", alarm.memberID)
            self._line("AlarmType", alarm_type(alarm.alarm))
            self.console.print("")

    # ---- endpoints and files

    def endpoint_health(self, healths: list[Health]) -> None:
        for one in healths:
            self._quoted("Endpoint", one.endpoint)
            self._line("Health", go_bool(one.is_healthy))
            self._line("Took", one.took)
            self._line("Error", one.error)
            self.console.print("")

    def endpoint_status(self, statuses: list[tuple[str, m.StatusResponse]]) -> None:
        for endpoint, status in statuses:
            self._header(status.header)
            self._quoted("Version", status.version)
            self._line("DBSize", status.dbSize)
            self._line("Leader", status.leader)
            self._line("IsLearner", go_bool(status.isLearner))
            self._line("RaftIndex", status.raftIndex)
            self._line("RaftTerm", status.raftTerm)
            self._line("RaftAppliedIndex", status.raftAppliedIndex)
            self._line("Errors", f"[{' '.join(status.errors)}]")
            self._quoted("Endpoint", endpoint)
            self.console.print("")

    def endpoint_hash_kv(self, hashes: list[tuple[str, m.HashKVResponse]]) -> None:
        for endpoint, response in hashes:
            self._header(response.header)
            self._quoted("Endpoint", endpoint)
            self._line("Hash", response.hash)
            self.console.print("")

    def snapshot_status(self, status: SnapshotStatus) -> None:
        self._line("Hash", status.hash)
        self._line("Revision", status.revision)
        self._line("Keys", status.total_key)
        self._line("Size", status.total_size)

    def db_hash_kv(self, result: HashKv) -> None:
        self._line("Hash", result.hash)
        self._line("Hash revision", result.hash_revision)
        self._line("Compact revision", result.compact_revision)

    # ---- auth

    def role_add(self, role: str, response: m.AuthRoleAddResponse) -> None:
        self._header(response.header)

    def role_get(self, role: str, response: m.AuthRoleGetResponse) -> None:
        self._header(response.header)
        for permission in response.perm:
            kind = _PERMISSIONS.get(permission.permType, str(permission.permType))
            self._line("PermType", f" {kind}")
            self._quoted("Key", permission.key)
            self._quoted("RangeEnd", permission.range_end)

    def role_delete(self, role: str, response: m.AuthRoleDeleteResponse) -> None:
        self._header(response.header)

    def role_list(self, response: m.AuthRoleListResponse) -> None:
        self._header(response.header)
        self.console.print('"Roles" :' + "".join(f" {quote_go(role)}" for role in response.roles))

    def role_grant_permission(self, role: str, response: m.AuthRoleGrantPermissionResponse) -> None:
        self._header(response.header)

    def role_revoke_permission(
        self, role: str, key: bytes, range_end: bytes, response: m.AuthRoleRevokePermissionResponse
    ) -> None:
        self._header(response.header)

    def user_add(self, user: str, response: m.AuthUserAddResponse) -> None:
        self._header(response.header)

    def user_change_password(self, response: m.AuthUserChangePasswordResponse) -> None:
        self._header(response.header)

    def user_grant_role(self, user: str, role: str, response: m.AuthUserGrantRoleResponse) -> None:
        self._header(response.header)

    def user_revoke_role(self, user: str, role: str, response: m.AuthUserRevokeRoleResponse) -> None:
        self._header(response.header)

    def user_delete(self, user: str, response: m.AuthUserDeleteResponse) -> None:
        self._header(response.header)
