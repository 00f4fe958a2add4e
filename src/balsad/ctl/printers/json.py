"""JSON as Go's encoding/json writes etcd's response structures: one line, fields in order, zeros left out.

Source: etcdctl printer_json.go; the json tags of client/v3's structures.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from balsad.client import messages as m
from balsad.client.codec import BOOL, BYTES, MESSAGE, STRING, Message
from balsad.ctl.printers.base import Health, Printer
from balsad.go_json import quote

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


def json_bytes(value: bytes) -> str:
    return f'"{b2a_base64(value, newline=False).decode()}"'


def json_strings(values: Sequence[str]) -> str:
    return f"[{','.join([quote(value) for value in values])}]"


def json_object(parts: Sequence[str]) -> str:
    return "{" + ",".join(parts) + "}"


def message_parts(message: Message) -> list[str]:
    """The members of a message's JSON object."""
    parts = []
    for item in message.FIELDS:
        value = getattr(message, item.name)
        if item.repeated:
            if value:
                inner = ",".join([_scalar(item.kind, one) for one in value])
                parts.append(f'"{item.name}":[{inner}]')
        elif item.kind == MESSAGE:
            if value is not None and item.name in message.__dict__:
                parts.append(f'"{item.name}":{json_message(value)}')
        elif value:
            parts.append(f'"{item.name}":{_scalar(item.kind, value)}')
    return parts


def json_message(message: Message) -> str:
    """A message as Go writes it."""
    if isinstance(message, m.ResponseOp):
        # A oneof is an interface in Go: a field of its own around the one that is set.
        return '{"Response":' + json_object(message_parts(message)) + "}"
    return json_object(message_parts(message))


def _scalar(kind: int, value: object) -> str:
    if kind == MESSAGE:
        assert isinstance(value, Message)
        return json_message(value)
    if kind == BYTES:
        assert isinstance(value, bytes)
        return json_bytes(value)
    if kind == STRING:
        assert isinstance(value, str)
        return quote(value)
    if kind == BOOL:
        return "true" if value else "false"
    return str(value)


class JsonPrinter(Printer):
    name: ClassVar[str] = "json"

    def response(self, response: Message) -> None:
        self.console.print(json_message(response))

    def _header_with(self, header: m.ResponseHeader, *parts: str) -> None:
        """Lease responses embed the header: its members and theirs are one object."""
        self.console.print(json_object([*message_parts(header), *parts]))

    def watch(self, response: m.WatchResponse) -> None:
        events = "null"
        if isinstance(response.events, list):
            events = "[" + ",".join([json_message(event) for event in response.events]) + "]"
        self.console.print(
            json_object(
                [
                    f'"Header":{json_message(response.header)}',
                    f'"Events":{events}',
                    f'"CompactRevision":{response.compact_revision}',
                    f'"Canceled":{_scalar(BOOL, response.canceled)}',
                    f'"Created":{_scalar(BOOL, response.created)}',
                ]
            )
        )

    def grant(self, response: m.LeaseGrantResponse) -> None:
        self._header_with(
            response.header,
            f'"ID":{response.ID}',
            f'"TTL":{response.TTL}',
            f'"Error":{quote(response.error)}',
        )

    def keep_alive(self, response: m.LeaseKeepAliveResponse) -> None:
        self._header_with(response.header, f'"ID":{response.ID}', f'"TTL":{response.TTL}')

    def time_to_live(self, response: m.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        listed = f"[{','.join([json_bytes(key) for key in response.keys])}]" if response.keys else "null"
        self._header_with(
            response.header,
            f'"id":{response.ID}',
            f'"ttl":{response.TTL}',
            f'"granted-ttl":{response.grantedTTL}',
            f'"keys":{listed}',
        )

    def leases(self, response: m.LeaseLeasesResponse) -> None:
        listed = ",".join([f'{{"id":{lease.ID}}}' for lease in response.leases])
        self._header_with(response.header, f'"leases":[{listed}]')

    def member_list(self, response: m.MemberListResponse) -> None:
        if not self.is_hex:
            self.response(response)
            return
        header = response.header
        # Names and the term are written as etcdctl writes them here: unescaped, and in hexadecimal too.
        text = f'{{"header":{{"cluster_id":"{header.cluster_id:x}","member_id":"{header.member_id:x}",'
        text += f'"raft_term":{header.raft_term:x}}}'
        members = [
            f'{{"ID":"{member.ID:x}","name":"{member.name}","peerURLs":{_urls(member.peerURLs)},'
            f'"clientURLS":{_urls(member.clientURLs)}}}'
            for member in response.members
        ]
        if members:
            text += f',"members":[{",".join(members)}]'
        self.console.print(text + "}")

    def endpoint_health(self, healths: list[Health]) -> None:
        parts = []
        for one in healths:
            fields = [
                f'"endpoint":{quote(one.endpoint)}',
                f'"health":{_scalar(BOOL, one.is_healthy)}',
                f'"took":{quote(one.took)}',
            ]
            if one.error:
                fields.append(f'"error":{quote(one.error)}')
            parts.append(json_object(fields))
        self.console.print(f"[{','.join(parts)}]")

    def endpoint_status(self, statuses: list[tuple[str, m.StatusResponse]]) -> None:
        self._per_endpoint("Status", statuses)

    def endpoint_hash_kv(self, hashes: list[tuple[str, m.HashKVResponse]]) -> None:
        self._per_endpoint("HashKV", hashes)

    def _per_endpoint(self, name: str, responses: Sequence[tuple[str, Message]]) -> None:
        parts = [
            f'{{"Endpoint":{quote(endpoint)},"{name}":{json_message(response)}}}' for endpoint, response in responses
        ]
        self.console.print(f"[{','.join(parts)}]")

    def snapshot_status(self, status: SnapshotStatus) -> None:
        self.console.print(
            f'{{"hash":{status.hash},"revision":{status.revision},'
            f'"totalKey":{status.total_key},"totalSize":{status.total_size}}}'
        )

    def db_hash_kv(self, result: HashKv) -> None:
        self.console.print(
            f'{{"hash":{result.hash},"hashRevision":{result.hash_revision},'
            f'"compactRevision":{result.compact_revision}}}'
        )


def _urls(urls: Sequence[str]) -> str:
    return json_strings(urls) if urls else "null"
