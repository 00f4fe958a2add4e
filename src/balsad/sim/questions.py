"""What members ask each other outside of raft, without HTTP in between: the answers are the shipping ones.

A question travels to the other machine, is answered in its process, and the answer travels back. Where a
packet is lost, or nobody is at home, the asker finds out after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from balsad.config.versions import ETCD_VERSION
from balsad.errors import (
    CompactedError,
    FutureRevError,
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    RequestError,
    RequestTimedOutError,
)
from balsad.lease import LeaseExpiredError, NotPrimaryError
from balsad.membership import Member as ClusterMember
from balsad.peer.backend import HashKv, LeaseTimes
from balsad.peer.questions import QUESTION_S_MAX, PeerClient, PeerQuestionError, Versions

if TYPE_CHECKING:
    from balsad.peer.joint import MemberPeers
    from balsad.sim.machine import Machine
    from balsad.sim.world import World

T = TypeVar("T")

NOTICED_AFTER_S: Final = 1.0
APPLY_S_MAX: Final = 1.0
# The errors that HTTP tells apart.
_TOLD: Final = (
    CompactedError,
    FutureRevError,
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    RequestTimedOutError,
)

Ask = Callable[["MemberPeers"], Coroutine[Any, Any, T]]


class SimAsker(PeerClient):
    """peer.PeerClient over the simulated network."""

    def __init__(self, world: World, own: Machine) -> None:
        self._world = world
        self._own = own
        assert own.process is not None
        self._process = own.process

    def close(self) -> None:
        pass

    async def _ask_one(self, urls: Iterable[str], ask: Ask[T], timeout_s: float) -> T:
        """Raises: RequestError, PeerQuestionError."""
        error: Exception = PeerQuestionError("no peer URLs")
        for url in urls:
            try:
                return await self._ask_at(url, ask, timeout_s)
            except (PeerQuestionError, RequestTimedOutError) as raised:
                error = raised
        raise error

    async def _ask_at(self, url: str, ask: Ask[T], timeout_s: float) -> T:
        world, process = self._world, self._process
        network, timeline = world.network, world.timeline
        peer = world.peer_at(url)
        answered: asyncio.Future[T] = process.create_future()

        def settle(found: Any, error: Exception | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(found)

        def fail_in(seconds: float, why: str) -> None:
            timeline.put(process.now + seconds, process, settle, (None, PeerQuestionError(why)), None)

        def arrive(there: Machine) -> None:
            target, joint = there.process, there.joint
            if target is None or joint is None:
                fail_in(timeline.now - process.now + network.delay(), "connection refused")
                return

            async def answer() -> None:
                told = await _answer(ask, joint)
                if not network.is_lost(there.name, self._own.name):
                    timeline.put(target.now + network.delay(), process, settle, told, None)

            timeline.put(timeline.now, target, lambda: target.create_task(answer()), (), None)

        if peer is None or network.is_lost(self._own.name, peer.name):
            fail_in(NOTICED_AFTER_S, "no answer")
        else:
            timeline.at(process.now + network.delay(), arrive, peer)
        fail_in(timeout_s, "deadline exceeded")
        return await answered

    # The questions.

    async def renew_lease(self, urls: Iterable[str], lease_id: int, *, timeout_s: float = QUESTION_S_MAX) -> int:
        async def ask(joint: MemberPeers) -> int:
            await _catch_up(joint)
            return await joint.renew_lease(lease_id)

        return await self._ask_one(urls, ask, timeout_s)

    async def lease_time_to_live(
        self, urls: Iterable[str], lease_id: int, keys: bool, *, timeout_s: float = QUESTION_S_MAX
    ) -> LeaseTimes:
        async def ask(joint: MemberPeers) -> LeaseTimes:
            await _catch_up(joint)
            return joint.lease_times(lease_id, with_keys=keys)

        return await self._ask_one(urls, ask, timeout_s)

    async def promote_member(
        self, urls: Iterable[str], member_id: int, *, token: str = "", timeout_s: float = QUESTION_S_MAX
    ) -> list[ClusterMember]:
        async def ask(joint: MemberPeers) -> list[ClusterMember]:
            return list(await joint.promote_member(member_id, token))

        return await self._ask_one(urls, ask, timeout_s)

    async def hashkv(
        self, urls: Iterable[str], revision: int, cluster_id: int, *, timeout_s: float = QUESTION_S_MAX
    ) -> HashKv:
        async def ask(joint: MemberPeers) -> HashKv:
            return await joint.hash_kv(revision)

        return await self._ask_one(urls, ask, timeout_s)

    async def get_versions(
        self, members: Iterable[ClusterMember], *, timeout_s: float = QUESTION_S_MAX
    ) -> dict[int, Versions | None]:
        async def ask(joint: MemberPeers) -> Versions:
            return Versions(server=ETCD_VERSION, cluster=joint.cluster_version or "not_decided")

        found: dict[int, Versions | None] = {}
        for member in members:
            try:
                found[member.id] = await self._ask_one(member.peer_urls, ask, timeout_s)
            except PeerQuestionError:
                found[member.id] = None
        return found


async def _catch_up(joint: MemberPeers) -> None:
    async with asyncio.timeout(APPLY_S_MAX):
        await joint.wait_applied()


async def _answer(ask: Ask[Any], joint: MemberPeers) -> tuple[Any, Exception | None]:
    try:
        return await ask(joint), None
    except _TOLD as error:
        return None, error
    except TimeoutError:
        return None, RequestTimedOutError()
    except (RequestError, NotPrimaryError, LeaseExpiredError) as error:
        return None, PeerQuestionError(str(error))
