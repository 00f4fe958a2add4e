"""What the web pages ask, answered by a member's Service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from balsad.api.web.backend import ProgressStatus, RaftStatus
from balsad.errors import RequestError
from balsad.proto import rpc_pb2
from balsad.raft import ROLE_NAMES

if TYPE_CHECKING:
    from balsad.server.service import Service


class MemberPages:
    """A web.WebBackend."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def alarms(self) -> Sequence[tuple[int, str]]:
        return [(alarm.memberID, rpc_pb2.AlarmType.Name(alarm.alarm)) for alarm in self._service.alarms.get()]

    @property
    def leader(self) -> int:
        return self._service.leader

    @property
    def is_learner(self) -> bool:
        return self._service.is_learner

    @property
    def cluster_version(self) -> str:
        return self._service.cluster_version

    @property
    def is_auth_enabled(self) -> bool:
        return self._service.auth.enabled

    def read(self, *, serializable: bool, done: Callable[[str], None]) -> None:
        """Ask the store for a key that need not be there; what counts is that it answers."""

        def go_on(error: RequestError | None) -> None:
            if error is None:
                try:
                    self._service.store.range(b"\0", b"\0", limit=1, keys_only=True)
                except RequestError as refusal:
                    error = refusal
            done("" if error is None else error.text)

        if serializable:
            go_on(None)
        else:
            self._service.linearize(go_on)

    def raft_status(self) -> RaftStatus:
        status = self._service.driver.node.status()
        return RaftStatus(
            id=self._service.member_id,
            term=status.term,
            vote=status.vote,
            commit=status.commit,
            lead=status.lead,
            state=ROLE_NAMES[status.role],
            applied=self._service.applier.applied_index,
            progress={
                member: ProgressStatus(match=progress.match, next=progress.next, state=str(progress.state))
                for member, progress in status.progress.items()
            },
            lead_transferee=status.lead_transferee,
        )
