"""Looking after members: status, alarms, hashes, defragmentation, snapshots.

Each of these asks one member. A client of several endpoints picks any of them
for alarms, `move_leader` and `snapshot`; for the others make a client of the
one endpoint that is meant (`Client.only`).

Source: etcd client/v3 maintenance.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from balsad.client.messages import (
    ALARM_NONE,
    AlarmMember,
    AlarmRequest,
    AlarmResponse,
    DefragmentRequest,
    DefragmentResponse,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
    SnapshotRequest,
    SnapshotResponse,
    StatusRequest,
    StatusResponse,
)

if TYPE_CHECKING:
    from balsad.client.channel import Channel


class Maintenance:
    """`client.maintenance`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._channel.loop.time() + timeout

    async def status(self, *, timeout: float | None = None) -> StatusResponse:
        """Version, size, leader and progress of a member."""
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/Status",
            StatusRequest(),
            StatusResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def defragment(self, *, timeout: float | None = None) -> DefragmentResponse:
        """Give a member's free pages back to its file system; it serves nobody meanwhile."""
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/Defragment",
            DefragmentRequest(),
            DefragmentResponse,
            deadline=self._deadline(timeout),
        )

    async def hash_kv(self, revision: int = 0, *, timeout: float | None = None) -> HashKVResponse:
        """The hash of all keys up to `revision` (0: the current one)."""
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/HashKV",
            HashKVRequest(revision=revision),
            HashKVResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def move_leader(self, target_id: int, *, timeout: float | None = None) -> MoveLeaderResponse:
        """Hand leadership to another member; only the leader can. Raises NotLeaderError."""
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/MoveLeader",
            MoveLeaderRequest(targetID=target_id),
            MoveLeaderResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def alarms(self, *, timeout: float | None = None) -> AlarmResponse:
        """All alarms of all members."""
        return await self._alarm(AlarmRequest(action=AlarmRequest.GET), timeout)

    async def disarm(
        self, member_id: int = 0, alarm: int = ALARM_NONE, *, timeout: float | None = None
    ) -> AlarmResponse:
        """Disarm an alarm, or all of them; the answer lists those that were disarmed."""
        if member_id or alarm:
            request = AlarmRequest(action=AlarmRequest.DEACTIVATE, memberID=member_id, alarm=alarm)
            return await self._alarm(request, timeout)
        disarmed: list[AlarmMember] = []
        for one in (await self.alarms(timeout=timeout)).alarms:
            disarmed += (await self.disarm(one.memberID, one.alarm, timeout=timeout)).alarms
        return AlarmResponse(alarms=disarmed)

    async def _alarm(self, request: AlarmRequest, timeout: float | None) -> AlarmResponse:
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/Alarm",
            request,
            AlarmResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def downgrade(self, action: int, version: str, *, timeout: float | None = None) -> DowngradeResponse:
        """Validate, enable or cancel a downgrade (DowngradeRequest.VALIDATE, ENABLE, CANCEL)."""
        return await self._channel.unary(
            "/etcdserverpb.Maintenance/Downgrade",
            DowngradeRequest(action=action, version=version),
            DowngradeResponse,
            deadline=self._deadline(timeout),
        )

    async def snapshot(self, *, timeout: float | None = None) -> AsyncIterator[SnapshotResponse]:
        """A member's database in pieces: its bytes, then their SHA-256."""
        stream = await self._channel.stream("/etcdserverpb.Maintenance/Snapshot", deadline=self._deadline(timeout))
        try:
            stream.send(SnapshotRequest(), last=True)
            while (response := await stream.receive(SnapshotResponse)) is not None:
                yield response
        finally:
            stream.cancel()
