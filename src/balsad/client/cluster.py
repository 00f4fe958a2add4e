"""Membership: list, add, remove, update, promote. Source: etcd client/v3 cluster.go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from balsad.client.messages import (
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MemberUpdateRequest,
    MemberUpdateResponse,
)

if TYPE_CHECKING:
    from balsad.client.channel import Channel


class Cluster:
    """`client.cluster`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._channel.loop.time() + timeout

    async def members(self, *, linearizable: bool = True, timeout: float | None = None) -> MemberListResponse:
        """All members; not linearizable: as the asked member knows them, which works without a quorum."""
        return await self._channel.unary(
            "/etcdserverpb.Cluster/MemberList",
            MemberListRequest(linearizable=linearizable),
            MemberListResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def add(
        self, peer_urls: Sequence[str], *, is_learner: bool = False, timeout: float | None = None
    ) -> MemberAddResponse:
        """Let a member in that will listen on these URLs."""
        return await self._channel.unary(
            "/etcdserverpb.Cluster/MemberAdd",
            MemberAddRequest(peerURLs=list(peer_urls), isLearner=is_learner),
            MemberAddResponse,
            deadline=self._deadline(timeout),
        )

    async def remove(self, member_id: int, *, timeout: float | None = None) -> MemberRemoveResponse:
        """Put a member out. Raises MemberNotFoundError."""
        return await self._channel.unary(
            "/etcdserverpb.Cluster/MemberRemove",
            MemberRemoveRequest(ID=member_id),
            MemberRemoveResponse,
            deadline=self._deadline(timeout),
        )

    async def update(
        self, member_id: int, peer_urls: Sequence[str], *, timeout: float | None = None
    ) -> MemberUpdateResponse:
        """Give a member other peer URLs."""
        return await self._channel.unary(
            "/etcdserverpb.Cluster/MemberUpdate",
            MemberUpdateRequest(ID=member_id, peerURLs=list(peer_urls)),
            MemberUpdateResponse,
            deadline=self._deadline(timeout),
        )

    async def promote(self, member_id: int, *, timeout: float | None = None) -> MemberPromoteResponse:
        """Make a learner a voter. Raises MemberNotLearnerError, LearnerNotReadyError."""
        return await self._channel.unary(
            "/etcdserverpb.Cluster/MemberPromote",
            MemberPromoteRequest(ID=member_id),
            MemberPromoteResponse,
            deadline=self._deadline(timeout),
        )
