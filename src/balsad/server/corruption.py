"""Do all members hold the same? They compare hashes; who differs raises the CORRUPT alarm.

    at start (a flag)     own hash against the peers' at the same revision: a difference refuses the start
    now and then (a flag) the leader hashes, asks the peers, hashes again
    after compactions     the leader compares the hashes that compactions left behind

Source: etcd server/etcdserver/corrupt.go.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balsad.config import StartError
from balsad.errors import CompactedError, FutureRevError, RequestError
from balsad.membership import format_id
from balsad.proto import rpc_pb2
from balsad.server.alarms import CORRUPT

if TYPE_CHECKING:
    from balsad.membership import Member
    from balsad.mvcc import HashResult
    from balsad.server.service import Service

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHash:
    """What another member says of its keys up to a revision."""

    hash: int
    current_revision: int
    compact_revision: int


AskHash = Callable[["Member", int], Awaitable[PeerHash]]
"""Ask a member for its hash at a revision. Raises: RequestError, or any error when it does not answer."""


class CorruptionChecks:
    def __init__(self, service: Service, ask: AskHash) -> None:
        self._service = service
        self._ask = ask
        self._checked_revision = 0

    async def check_start(self) -> None:
        """Raises: StartError when a peer holds something else at the same revision."""
        own = self._service.store.hash_by_revision(0)
        fields = {
            "local-member-id": format_id(self._service.member_id),
            "local-member-revision": own.current_revision,
            "local-member-compact-revision": own.compact_revision,
            "local-member-hash": own.hash,
        }
        mismatches = 0
        for peer in self._peers():
            peer_fields = {**fields, "remote-peer-id": format_id(peer.id)}
            try:
                theirs = await self._ask(peer, own.current_revision)
            except (FutureRevError, CompactedError) as error:
                log.warning("cannot fetch hash from slow remote peer", extra={**peer_fields, "error": error.text})
                continue
            except Exception as error:
                log.warning("failed to get hash from remote peer", extra={**peer_fields, "error": str(error)})
                continue
            if theirs.hash == own.hash:
                continue
            if theirs.compact_revision == own.compact_revision:
                log.warning("found different hash values from remote peer", extra=peer_fields)
                mismatches += 1
            else:
                log.warning("found different compact revision values from remote peer", extra=peer_fields)
        if mismatches:
            member_id = format_id(self._service.member_id)
            raise StartError(f"{member_id} found data inconsistency with peers")
        log.info("initial corruption checking passed; no corruption", extra=fields)

    async def check_now(self) -> None:
        """One round of the leader. At most one alarm comes of it."""
        service = self._service
        if not service.driver.is_leader:
            return
        before = service.store.hash_by_revision(0)
        answers: list[tuple[Member, PeerHash]] = []
        for peer in self._peers():
            try:
                answers.append((peer, await self._ask(peer, before.current_revision)))
            except Exception as error:
                log.warning("failed hash kv request", extra={"remote-peer-id": format_id(peer.id), "error": str(error)})
        if not service.driver.is_leader:
            return
        after = service.store.hash_by_revision(0)
        suspect = _suspect(service.member_id, before, after, answers)
        if suspect is not None:
            self._raise(suspect)

    async def check_compactions(self) -> None:
        """Compare, newest first, the hashes of compactions that no round before has compared."""
        service = self._service
        if not service.driver.is_leader:
            return
        kept = sorted(service.store.hashes.all(), key=_revision_of, reverse=True)
        for own in kept:
            if own.revision <= self._checked_revision:
                break
            peers = self._peers()
            compared = 0
            for peer in peers:
                try:
                    theirs = await self._ask(peer, own.revision)
                except Exception:
                    continue  # too far ahead or behind, or away: another time
                if theirs.compact_revision != own.compact_revision:
                    continue
                if theirs.hash != own.hash:
                    log.error(
                        "failed compaction hash check",
                        extra={
                            "revision": own.revision,
                            "leader-hash": own.hash,
                            "follower-hash": theirs.hash,
                            "follower-peer-id": format_id(peer.id),
                        },
                    )
                    # Which of the two is wrong cannot be told: the alarm is everybody's.
                    self._raise(0)
                    return
                compared += 1
            if compared == len(peers):
                self._checked_revision = own.revision
                return

    def _peers(self) -> list[Member]:
        service = self._service
        return [member for member in service.members() if member.id != service.member_id]

    def _raise(self, member_id: int) -> None:
        log.error("found data inconsistency; raising the CORRUPT alarm", extra={"member-id": format_id(member_id)})
        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.ACTIVATE,
            memberID=member_id,
            alarm=CORRUPT,  # type: ignore[arg-type]
        )

        def done(result: object) -> None:
            if isinstance(result, RequestError):
                log.warning("failed to raise the CORRUPT alarm", extra={"error": result.text})

        try:
            self._service.propose("alarm", request, done)
        except RequestError as error:
            done(error)


def _suspect(own_id: int, before: HashResult, after: HashResult, answers: list[tuple[Member, PeerHash]]) -> int | None:
    """Whose data is wrong, if any: the member to raise the alarm for."""
    same_place = (before.current_revision, before.compact_revision) == (
        after.current_revision,
        after.compact_revision,
    )
    if same_place and before.hash != after.hash:
        return own_id
    for peer, theirs in answers:
        if theirs.current_revision > after.current_revision or theirs.compact_revision > after.compact_revision:
            return peer.id
        if theirs.compact_revision == before.compact_revision and theirs.hash != before.hash:
            return peer.id
    return None


def _revision_of(result: HashResult) -> int:
    return result.revision
