"""Adding, removing, updating and promoting members: judged here, decided in the log.

Source: etcd server/etcdserver/server.go (AddMember ... configure).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from balsad.errors import NotLeaderError, RequestError, UnhealthyError
from balsad.membership import (
    Connections,
    Member,
    check_add,
    check_learner_ready,
    check_promote,
    check_remove,
    encode_member,
    encode_promotion,
    format_id,
)
from balsad.raft import ConfChange, ConfChangeType
from balsad.server.propose import Pending

if TYPE_CHECKING:
    from balsad.server.propose import Result
    from balsad.server.service import Service

log = logging.getLogger(__name__)

Done = Callable[[RequestError | None], None]


class MemberChanges:
    def __init__(self, service: Service) -> None:
        self._service = service

    def add(self, member: Member, done: Done) -> None:
        """Raises: MemberNotEnoughStartedError, UnhealthyError."""
        service = self._service
        if service.config.strict_reconfig_check:
            voters = service.cluster.voters()
            with self._telling("add", member.id):
                check_add(voters, is_learner=member.is_learner, connections=self._connections())
        kind = ConfChangeType.ADD_LEARNER_NODE if member.is_learner else ConfChangeType.ADD_NODE
        self._propose(ConfChange(kind, member.id, encode_member(member)), done)

    def remove(self, member_id: int, done: Done) -> None:
        """Raises: MemberNotEnoughStartedError, UnhealthyError."""
        service = self._service
        if service.config.strict_reconfig_check:
            with self._telling("remove", member_id):
                check_remove(
                    service.cluster.voters(),
                    service.cluster.member(member_id),
                    member_id,
                    connections=self._connections(),
                )
        self._propose(ConfChange(ConfChangeType.REMOVE_NODE, member_id), done)

    def update(self, member_id: int, peer_urls: tuple[str, ...], done: Done) -> None:
        member = Member(id=member_id, peer_urls=peer_urls)
        self._propose(ConfChange(ConfChangeType.UPDATE_NODE, member_id, encode_member(member)), done)

    def promote(self, member_id: int, done: Done) -> None:
        """Make a voter of a learner; the leader alone knows whether it is ready.

        Raises: NotLeaderError, LearnerNotReadyError, MemberNotEnoughStartedError.
        """
        service = self._service
        if not service.driver.is_leader:
            raise NotLeaderError
        try:
            self._promote(member_id, self._counting(done))
        except RequestError as refusal:
            service.metrics.learner_promote_failures.of(refusal.text).inc()
            raise

    def _counting(self, done: Done) -> Done:
        metrics = self._service.metrics

        def finish(error: RequestError | None) -> None:
            if error is None:
                metrics.learner_promote_successes.inc()
            else:
                metrics.learner_promote_failures.of(error.text).inc()
            done(error)

        return finish

    def _promote(self, member_id: int, done: Done) -> None:
        service = self._service
        progress = service.driver.node.status().progress
        found = progress.get(member_id)
        check_learner_ready(None if found is None else found.match, progress[service.member_id].match)
        if service.config.strict_reconfig_check:
            with self._telling("promote", member_id):
                check_promote(service.cluster.voters())
        self._propose(ConfChange(ConfChangeType.ADD_NODE, member_id, encode_promotion(member_id)), done)

    @contextlib.contextmanager
    def _telling(self, what: str, member_id: int) -> Iterator[None]:
        """Tell of a change that strict reconfiguration refuses."""
        try:
            yield
        except RequestError as refusal:
            reason = "not enough healthy members"
            if isinstance(refusal, UnhealthyError):
                reason = "local member has not been connected to all peers, reconfigure breaks active quorum"
            log.warning(
                f"rejecting member {what} request; {reason}",
                extra={
                    "local-member-id": format_id(self._service.member_id),
                    f"requested-member-{what}": format_id(member_id),
                    "error": refusal.text,
                },
            )
            raise

    def _connections(self) -> Connections:
        service = self._service
        links = service.driver.links
        since = {
            member.id: active
            for member in service.cluster.members()
            if member.id != service.member_id and (active := links.active_since(member.id))
        }
        return Connections(service.member_id, since, service.env.clock.monotonic())

    def _propose(self, change: ConfChange, done: Done) -> None:
        service = self._service
        change.id = service.next_id()

        def finish(result: Result) -> None:
            if isinstance(result, RequestError):
                done(result)
                return
            log.info(
                "applied a configuration change through raft",
                extra={
                    "local-member-id": format_id(service.member_id),
                    "raft-conf-change": ConfChangeType(change.type).name,
                    "raft-conf-change-node-id": format_id(change.node_id),
                },
            )
            done(None)

        service.driver.propose_conf_change(change, Pending(change.id, None, finish))
