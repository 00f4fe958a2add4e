"""Do all members hold the same? They compare hashes; who differs raises the CORRUPT alarm.

    at start (a flag)           own hash against the peers' at the same revision: a difference refuses the start
    now and then (a flag)       the leader hashes, asks the peers, hashes again
    after compactions (a flag)  the leader compares the hashes that compactions left behind: who is alone is wrong

Source: etcd server/etcdserver/corrupt.go; after compactions that of 3.6.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balsad.config import StartError
from balsad.errors import ClusterIDMismatchError, CompactedError, FutureRevError, RequestError
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
        self._doubted_revision = 0
        self._comparing = False  # a round takes as long as the slowest peer: the next one waits for its turn

    async def check_start(self) -> None:
        """Raises: StartError when a peer holds something else at the same revision."""
        local = format_id(self._service.member_id)
        log.info("starting initial corruption check", extra={"local-member-id": local})
        own = await self._own_hash()
        fields = {
            "local-member-id": local,
            "local-member-revision": own.current_revision,
            "local-member-compact-revision": own.compact_revision,
            "local-member-hash": own.hash,
        }
        mismatches = 0
        # The log was not replayed yet, so the tree may know of nobody. (etcd then asks nobody.)
        for peer, theirs in await self._ask_all(own.current_revision, self._service.cluster.stored_members()):
            peer_fields = {**fields, "remote-peer-id": format_id(peer.id)}
            if isinstance(theirs, FutureRevError):
                log.warning("cannot fetch hash from slow remote peer", extra=peer_fields)
            elif isinstance(theirs, CompactedError):
                log.warning("cannot fetch hash from remote peer; local member is behind", extra=peer_fields)
            elif isinstance(theirs, ClusterIDMismatchError):
                log.warning("cluster ID mismatch", extra=peer_fields)
            elif isinstance(theirs, Exception) or theirs.hash == own.hash:
                continue
            elif theirs.compact_revision == own.compact_revision:
                log.warning("found different hash values from remote peer", extra=peer_fields)
                mismatches += 1
            else:
                log.warning("found different compact revision values from remote peer", extra=peer_fields)
        if mismatches:
            raise StartError(f"{local} found data inconsistency with peers")
        log.info("initial corruption checking passed; no corruption", extra=fields)

    async def check_now(self) -> None:
        """One round of the leader. At most one alarm comes of it."""
        await self._in_turn(self._compare_all)

    async def check_compactions(self) -> None:
        """Compare, newest first, the hashes of compactions that no round before has compared."""
        await self._in_turn(self._compare_compactions)

    async def _in_turn(self, compare: Callable[[], Awaitable[None]]) -> None:
        if self._comparing or not self._service.driver.is_leader:
            return
        self._comparing = True
        try:
            await compare()
        except RequestError as error:
            log.warning("failed to check hash KV", extra={"error": error.text})
        finally:
            self._comparing = False

    async def _compare_all(self) -> None:
        service = self._service
        before = await self._own_hash()
        answers = [
            (peer, theirs)
            for peer, theirs in await self._ask_all(before.current_revision)
            if not isinstance(theirs, Exception)
        ]
        # Peers may have applied what is not applied here yet.
        error = await self._linearize()
        if error is not None:
            raise error
        after = await self._own_hash()
        if not service.driver.is_leader:
            return
        suspect = _suspect(service.member_id, before, after, answers)
        if suspect is not None:
            self._raise(suspect)
        log.info("finished peer corruption check", extra={"number-of-peers-checked": len(answers)})

    async def _compare_compactions(self) -> None:
        service = self._service
        kept = sorted(service.store.hashes.all(), key=_revision_of, reverse=True)
        for own in kept:
            if own.revision <= self._checked_revision:
                break
            answers = await self._ask_all(own.revision)
            if not answers:
                break
            same = [
                (peer.id, theirs.hash)
                for peer, theirs in answers
                if not isinstance(theirs, Exception) and theirs.compact_revision == own.compact_revision
            ]
            suspects = minority([(service.member_id, own.hash), *same], len(answers) + 1)
            if suspects == [0] and len(same) < len(answers) and own.revision != self._doubted_revision:
                # Somebody's compaction may just not be done: in a minute the quorum may be known. (etcd does not wait.)
                self._doubted_revision = own.revision
                return
            if suspects:
                facts = {"revision": own.revision, "leader-hash": own.hash}
                others = {format_id(peer_id): peer_hash for peer_id, peer_hash in same}
                log.error("Detected compaction hash mismatch", extra={**facts, "peer-hashes": others})
                for member_id in suspects:
                    self._raise(member_id)
                return
            if len(same) == len(answers):
                log.info("successfully checked hash on whole cluster", extra={"revision": own.revision})
                self._checked_revision = own.revision
                return
            # Some are too far ahead or behind, or away: an older one may do.

    async def _own_hash(self) -> HashResult:
        """Hash all that is held now, in slices: others want to be served meanwhile."""
        job = self._service.store.hash_job(0)
        while not job.step():
            await asyncio.sleep(0)
        return job.result

    async def _ask_all(
        self, revision: int, members: list[Member] | None = None
    ) -> list[tuple[Member, PeerHash | Exception]]:
        """What the others say, or why they say nothing."""
        service = self._service
        peers = [member for member in members or service.members() if member.id != service.member_id]
        answers: list[PeerHash | BaseException] = await asyncio.gather(
            *(self._ask(peer, revision) for peer in peers), return_exceptions=True
        )
        found: list[tuple[Member, PeerHash | Exception]] = []
        for peer, answer in zip(peers, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
            if isinstance(answer, Exception):
                facts = {"requested-revision": revision, "remote-peer-id": format_id(peer.id), "error": str(answer)}
                log.warning("failed hash kv request", extra=facts)
            found.append((peer, answer))
        return found

    async def _linearize(self) -> RequestError | None:
        finished: asyncio.Future[RequestError | None] = asyncio.get_running_loop().create_future()
        self._service.linearize(lambda error: None if finished.done() else finished.set_result(error))
        return await finished

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


def minority(hashes: list[tuple[int, int]], member_count: int) -> list[int]:
    """Whose hash differs from that of a quorum of all members: by (member id, hash) of those that told.

    0 stands for everybody: they differ, and no quorum agrees. Source: etcd checkPeerHashes (3.6).
    """
    by_hash: dict[int, list[int]] = {}
    for member_id, told in hashes:
        by_hash.setdefault(told, []).append(member_id)
    if len(by_hash) == 1:
        return []
    for members in by_hash.values():
        if len(members) >= member_count // 2 + 1:
            return [member_id for member_id, _ in hashes if member_id not in members]
    return [0]


def _suspect(own_id: int, before: HashResult, after: HashResult, answers: list[tuple[Member, PeerHash]]) -> int | None:
    """Whose data is wrong, if any: the member to raise the alarm for."""
    same_place = (before.current_revision, before.compact_revision) == (
        after.current_revision,
        after.compact_revision,
    )
    if same_place and before.hash != after.hash:
        log.warning("found hash mismatch", extra={"hash-1": before.hash, "hash-2": after.hash})
        return own_id
    for peer, theirs in answers:
        facts = {"follower-peer-id": format_id(peer.id), "leader-revision": after.current_revision}
        if theirs.current_revision > after.current_revision:
            message = "revision from follower must be less than or equal to leader's"
        elif theirs.compact_revision > after.compact_revision:
            message = "compact revision from follower must be less than or equal to leader's"
        elif theirs.compact_revision == before.compact_revision and theirs.hash != before.hash:
            message = "same compact revision then hashes must match"
        else:
            continue
        log.warning(message, extra={**facts, "leader-hash": before.hash, "follower-hash": theirs.hash})
        return peer.id
    return None


def _revision_of(result: HashResult) -> int:
    return result.revision
