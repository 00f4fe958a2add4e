"""Where the peer room and a Member meet: what others ask of it, and what it asks of them.

Source: etcd server/etcdserver/server.go (Process, ReportUnreachable), v3_server.go (LeaseRenew, LeaseTimeToLive).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from balsad.config.versions import ETCD_VERSION
from balsad.errors import (
    LeaseNotFoundError,
    NoLeaderError,
    NotLeaderError,
    RequestError,
    RequestTimedOutError,
    StoppedError,
)
from balsad.lease import NotPrimaryError
from balsad.peer.backend import HashKv, LeaseTimes
from balsad.peer.questions import PeerQuestionError
from balsad.peer.transport import PeerTransport
from balsad.server.corruption import CorruptionChecks, PeerHash

if TYPE_CHECKING:
    from balsad.membership import Member as ClusterMember
    from balsad.peer.questions import PeerClient
    from balsad.peer.tls import PeerTls
    from balsad.raft.messages import Message
    from balsad.server.member import Member

log = logging.getLogger(__name__)


class MemberPeers:
    """A RaftBackend and PeerBackend over a Member; and the questions of its followers to the leader."""

    def __init__(self, asker: PeerClient) -> None:
        self._asker = asker
        self._member: Member | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = False

    def make_links(self, member: Member, tls: PeerTls | None) -> PeerTransport:
        """The links of `member`, which this belongs to from now on."""
        self.attach(member)
        config, service = member.config, member.service
        return PeerTransport(
            member_id=service.member_id,
            cluster_id=service.cluster_id,
            urls=[str(url) for url in config.initial_advertise_peer_urls],
            backend=self,
            env=member.env,
            tls=tls,
            dial_timeout_s=config.peer_dial_timeout_s,
        )

    def attach(self, member: Member) -> None:
        """Ask and answer for `member` from now on, over whatever links it has."""
        self._member = member
        config = member.config
        service = member.service
        service.ask_leader_to_promote = self.ask_to_promote
        service.leader_leases = self
        member.versions.ask_others = service.downgrades.ask_others = self.ask_versions
        self.corruption = CorruptionChecks(service, self._hash_of)
        if config.corrupt_check_time_s:
            member.every("corruption check", config.corrupt_check_time_s, self._check_corruption)
        if config.compact_hash_check:
            member.every("compact hash check", config.compact_hash_check_time_s, self._check_compactions)

    @property
    def member(self) -> Member:
        assert self._member is not None, "links were not made yet"
        return self._member

    # A RaftBackend.

    def on_messages(self, messages: list[Message]) -> None:
        self.member.driver.step(messages)

    def on_snapshot(self, message: Message, answered: Callable[[str], None]) -> None:
        self.member.exchange.receive(message, answered)

    def on_unreachable(self, member_id: int) -> None:
        driver = self.member.driver
        driver.node.report_unreachable(member_id)
        driver.wake()

    def on_gone(self, member_id: int) -> None:
        self.member.driver.on_gone(member_id)

    def on_snapshot_result(self, member_id: int, ok: bool) -> None:
        driver = self.member.driver
        driver.node.report_snapshot(member_id, ok)
        driver.wake()

    def on_removed(self) -> None:
        if not self._left:
            self._left = True
            self.member.leave()

    def is_removed(self, member_id: int) -> bool:
        return self.member.booted.cluster.is_removed(member_id)

    # A PeerBackend.

    @property
    def cluster_version(self) -> str:
        return self.member.service.cluster_version

    def members(self) -> Iterable[ClusterMember]:
        return self.member.service.members()

    async def promote_member(self, member_id: int, token: str) -> Iterable[ClusterMember]:
        service = self.member.service
        error = await _answer(lambda done: service.member_changes.promote(member_id, done))
        if error is not None:
            raise error
        return service.members()

    async def hash_kv(self, revision: int) -> HashKv:
        job = self.member.store.hash_job(revision)
        while not job.step():
            await asyncio.sleep(0)
        found = job.result
        return HashKv(hash=found.hash, current_revision=found.current_revision, compact_revision=found.compact_revision)

    async def wait_applied(self) -> None:
        member = self.member
        wanted = member.driver.committed_index
        while member.applier.applied_index < wanted:
            await asyncio.sleep(0.01)

    async def renew_lease(self, lease_id: int) -> int:
        member = self.member
        service = member.service
        if member.lessor.is_primary:
            error = await _answer(service.make_sure_to_lead)
            if error is not None:
                raise error
        while member.lessor.wants_clear(lease_id, member.env.clock.monotonic()):
            error = await _answer(lambda done: service.lease_checkpoints.clear(lease_id, done))
            if error is not None:
                raise NotPrimaryError if isinstance(error, NotLeaderError) else error
        return member.lessor.renew(lease_id, member.env.clock.monotonic())

    def lease_times(self, lease_id: int, *, with_keys: bool) -> LeaseTimes:
        lessor = self.member.lessor
        if not lessor.is_primary:
            raise NotPrimaryError
        lease = lessor.lookup(lease_id)
        if lease is None:
            raise LeaseNotFoundError
        remaining = lessor.remaining(lease_id, self.member.env.clock.monotonic())
        keys = lease.sorted_keys() if with_keys else ()
        return LeaseTimes(ttl_s=int(remaining), granted_ttl_s=lease.ttl_s, keys=keys)

    async def is_downgrade_enabled(self) -> bool:
        error = await _answer(self.member.service.linearize)
        if error is not None:
            raise error
        return self.member.booted.cluster.downgrade.enabled

    # What a follower asks its leader.

    def ask_to_promote(self, member_id: int, done: Callable[[RequestError | None], None]) -> None:
        async def ask(urls: tuple[str, ...]) -> None:
            await self._asker.promote_member(urls, member_id)

        self._ask(ask, lambda _: done(None), done)

    def renew(self, lease_id: int, done: Callable[[int], None], failed: Callable[[RequestError], None]) -> None:
        """Have the leader renew a lease; `done` gets its TTL."""

        async def ask(urls: tuple[str, ...]) -> int:
            return await self._asker.renew_lease(urls, lease_id)

        self._ask(ask, done, failed)

    def times(
        self,
        lease_id: int,
        with_keys: bool,
        done: Callable[[int, int, Iterable[bytes]], None],
        failed: Callable[[RequestError], None],
    ) -> None:
        """Ask the leader what a lease has left: TTL, granted TTL, keys."""

        async def ask(urls: tuple[str, ...]) -> LeaseTimes:
            return await self._asker.lease_time_to_live(urls, lease_id, with_keys)

        self._ask(ask, lambda found: done(found.ttl_s, found.granted_ttl_s, found.keys), failed)

    def _ask(
        self,
        ask: Callable[[tuple[str, ...]], Coroutine[Any, Any, Any]],
        done: Callable[[Any], None],
        failed: Callable[[RequestError], None],
    ) -> None:
        async def run() -> None:
            member = self.member
            give_up_at = member.env.clock.monotonic() + member.config.request_timeout_s
            while True:
                leader = member.service.cluster.member(member.driver.leader)
                try:
                    if leader is None or not leader.peer_urls:
                        raise PeerQuestionError("no leader")
                    found = await ask(leader.peer_urls)
                except RequestError as error:
                    failed(error)
                    return
                except (PeerQuestionError, NotPrimaryError):
                    if member.env.clock.monotonic() >= give_up_at:
                        failed(NoLeaderError() if leader is None else RequestTimedOutError())
                        return
                    # The leader may be changing just now.
                    await asyncio.sleep(0.05)
                    continue
                except asyncio.CancelledError:
                    failed(StoppedError())
                    raise
                done(found)
                return

        self._start(run(), "question to the leader")

    # What a leader asks everybody.

    def ask_versions(self, done: Callable[[list[str | None]], None]) -> None:
        """`done` gets the server version of every member, None of those that do not tell."""

        async def run() -> None:
            service = self.member.service
            others = [member for member in service.members() if member.id != service.member_id]
            found = await self._asker.get_versions(others)
            done([ETCD_VERSION, *(None if versions is None else versions.server for versions in found.values())])

        self._start(run(), "versions of the members")

    async def _hash_of(self, other: ClusterMember, revision: int) -> PeerHash:
        found = await self._asker.hashkv(other.peer_urls, revision, self.member.service.cluster_id)
        return PeerHash(
            hash=found.hash, current_revision=found.current_revision, compact_revision=found.compact_revision
        )

    def _check_corruption(self) -> None:
        self._start(self.corruption.check_now(), "corruption check")

    def _check_compactions(self) -> None:
        self._start(self.corruption.check_compactions(), "compact hash check")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        self._asker.close()


async def _answer(ask: Callable[[Callable[[RequestError | None], None]], None]) -> RequestError | None:
    """What `ask` calls back with. Who waits may be cancelled meanwhile: nobody hears it then."""
    finished: asyncio.Future[RequestError | None] = asyncio.get_running_loop().create_future()
    ask(lambda error: None if finished.done() else finished.set_result(error))
    return await finished
