"""What leases have left, put on record in the log, so that a new leader does not give each its whole time again.

    leader, every 500 ms   leases whose record is due: LeaseCheckpoint with what they have left
    a renewal of one       LeaseCheckpoint of 0 first: from now on its whole time counts again

Followers keep the records; whether they also outlive a restart is `--experimental-enable-lease-checkpoint-persist`'s.

Source: etcd server/lease/lessor.go (checkpointScheduledLeases, Renew), server/etcdserver/server.go (SetCheckpointer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import RequestError
from balsad.proto import rpc_pb2

if TYPE_CHECKING:
    from balsad.server.propose import Result
    from balsad.server.service import Service

log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S: Final = 300
LOOK_S: Final = 0.5
BATCHES_UNDER_WAY_MAX: Final = 10


class LeaseCheckpoints:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._under_way = 0

    def check(self, now: float) -> None:
        """Propose the records that are due by `now`."""
        service = self._service
        if not service.lessor.is_primary:
            return
        while self._under_way < BATCHES_UNDER_WAY_MAX:
            due = service.lessor.due_checkpoints(now)
            if not due:
                return
            if not service.driver.leads_surely:
                # They come again an interval later. By then it is known who leads.
                log.warning("Ignore the checkpoint request because current member isn't a leader")
                return
            self._under_way += 1
            try:
                self._propose(due, self._on_recorded)
            except RequestError as error:
                self._on_recorded(error)
                return

    def clear(self, lease_id: int, done: Callable[[RequestError | None], None]) -> None:
        """Have a lease's record forgotten, for it is being renewed; `done(None)` once that is applied here."""
        try:
            self._propose([(lease_id, 0)], lambda result: done(result if isinstance(result, RequestError) else None))
        except RequestError as error:
            done(error)

    def _propose(self, checkpoints: list[tuple[int, int]], done: Callable[[Result], None]) -> None:
        request = rpc_pb2.LeaseCheckpointRequest(
            checkpoints=[rpc_pb2.LeaseCheckpoint(ID=lease_id, remaining_TTL=left) for lease_id, left in checkpoints]
        )
        # What a deposed leader believes is nothing that its successor should put on record.
        self._service.propose("lease_checkpoint", request, done, only_as_leader=True)

    def _on_recorded(self, result: Result) -> None:
        self._under_way -= 1
        if isinstance(result, RequestError):
            log.warning("failed to checkpoint leases", extra={"error": result.text})
