"""The leader's revoking of leases that ran out, through the log like any other write.

Source: etcd server/etcdserver/server.go (revokeExpiredLeases): every 500 ms, at most 16 under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import RequestError, StoppedError
from balsad.membership import format_id
from balsad.proto import rpc_pb2

if TYPE_CHECKING:
    from balsad.server.propose import Result
    from balsad.server.service import Service

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.5
PENDING_MAX: Final = 16
PER_PASS: Final = 500
"""1000 a second, as etcd."""


class LeaseExpiry:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._pending: set[int] = set()
        self._queue: dict[int, None] = {}  # in the order they ran out
        self._now = 0.0  # when they were last looked at
        self.expired_total = 0

    def check(self, now: float) -> None:
        """Take what ran out by `now` and propose its revoking."""
        service = self._service
        self._now = now
        if not service.driver.is_leader:
            self._queue.clear()
            return
        found = service.lessor.expired(now, PER_PASS)
        self.expired_total += len(found)
        # The lessor names a lease again while it is not revoked.
        self._queue.update(dict.fromkeys(lease_id for lease_id in found if lease_id not in self._pending))
        self._propose()

    def _propose(self) -> None:
        while self._queue and len(self._pending) < PENDING_MAX:
            lease_id = next(iter(self._queue))
            del self._queue[lease_id]
            lease = self._service.lessor.lookup(lease_id)
            if lease is None or lease.expiry > self._now:
                # Who lost the lead and has it again gave the lease time anew, as did whoever led meanwhile.
                continue
            self._pending.add(lease_id)
            try:
                # A leader that was deposed and does not know it yet must not have its successor revoke what that
                # one has renewed: so nobody forwards this.
                self._service.propose(
                    "lease_revoke",
                    rpc_pb2.LeaseRevokeRequest(ID=lease_id),
                    self._finisher(lease_id),
                    only_as_leader=True,
                )
            except RequestError as error:
                # Too much to do already: the lessor names the lease again in a few seconds.
                self._note(lease_id, error)
                return

    def _finisher(self, lease_id: int) -> Callable[[Result], None]:
        return lambda result: self._finish(lease_id, result)

    def _finish(self, lease_id: int, result: Result) -> None:
        self._note(lease_id, result)
        if not isinstance(result, StoppedError):
            self._propose()

    def _note(self, lease_id: int, result: Result) -> None:
        self._pending.discard(lease_id)
        if isinstance(result, RequestError) and not isinstance(result, StoppedError):
            log.warning("failed to revoke lease", extra={"lease-id": format_id(lease_id), "error": result.text})
