"""Which alarms are raised, by kind and member.

Source: etcd server/etcdserver/api/v3alarm.
"""

from __future__ import annotations

from typing import Final

from balsad.proto import rpc_pb2
from balsad.storage import Backend, StorageError, schema

NONE: Final = 0
NOSPACE: Final = 1
CORRUPT: Final = 2


class Alarms:
    """The raised alarms, kept in the `alarm` bucket."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._raised: dict[int, list[int]] = {}
        self.nospace = False
        self.corrupt = False
        self.recover()

    def recover(self) -> None:
        """Take the alarms from the backend. Raises: StorageError."""
        self._raised = {}
        try:
            for member_id, kind in schema.read_alarms(self._backend):
                self._raised.setdefault(kind, []).append(member_id)
        except ValueError as error:
            raise StorageError(self._backend.path, f"bucket alarm: {error}") from error
        self._refresh()

    def _refresh(self) -> None:
        self.nospace = bool(self._raised.get(NOSPACE))
        self.corrupt = bool(self._raised.get(CORRUPT))

    def get(self, kind: int = NONE) -> list[rpc_pb2.AlarmMember]:
        """The alarms of a kind, of every kind for NONE."""
        return [
            rpc_pb2.AlarmMember(memberID=member_id, alarm=alarm)  # type: ignore[arg-type]
            for alarm, members in sorted(self._raised.items())
            if kind in (NONE, alarm)
            for member_id in members
        ]

    def activate(self, member_id: int, kind: int) -> rpc_pb2.AlarmMember:
        member = rpc_pb2.AlarmMember(memberID=member_id, alarm=kind)  # type: ignore[arg-type]
        members = self._raised.setdefault(kind, [])
        if member_id not in members:
            members.append(member_id)
            self._backend.put(schema.ALARM, member.SerializeToString(), b"")
            self._refresh()
        return member

    def deactivate(self, member_id: int, kind: int) -> rpc_pb2.AlarmMember | None:
        """The alarm that is no more, or None when it was not raised."""
        members = self._raised.get(kind, [])
        if member_id not in members:
            return None
        members.remove(member_id)
        member = rpc_pb2.AlarmMember(memberID=member_id, alarm=kind)  # type: ignore[arg-type]
        self._backend.delete(schema.ALARM, member.SerializeToString())
        self._refresh()
        return member
