"""etcdserverpb.Lease.

Source: etcd server/etcdserver/api/v3rpc/lease.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from balsad.api.v3.door import Door, decode
from balsad.api.v3.lease_lists import MANY, LeaseLists, keys_in_order, lease_rows, leases_by_expiry
from balsad.errors import (
    Code,
    LeaseNotFoundError,
    NoLeaderError,
    NotLeaderError,
    RequestError,
    RequestTimedOutError,
    TooManyRequestsError,
)
from balsad.lease import LeaseExpiredError, NotPrimaryError
from balsad.proto import rpc_pb2
from balsad.wire import WireError, read_uvarint, uvarint, varint

if TYPE_CHECKING:
    from balsad.auth import Identity
    from balsad.server.service import Service
    from balsad.transport import Call, RpcServer, StreamHandler

RETRY_S: Final = 0.05
RENEWALS_WAITING_MAX: Final = 10_000
LEASE_ID_BYTES_MAX: Final = 9
"""Of a varint below 2**63; ids below 0 take ten."""


class LeaseApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door
        self._lists = LeaseLists(lambda: service.driver.flush())

    def register(self, server: RpcServer) -> None:
        server.unary("/etcdserverpb.Lease/LeaseGrant", self.grant)
        server.unary("/etcdserverpb.Lease/LeaseRevoke", self.revoke)
        server.unary("/etcdserverpb.Lease/LeaseTimeToLive", self.time_to_live)
        server.unary("/etcdserverpb.Lease/LeaseLeases", self.leases)
        # To etcd whoever stops keeping alive looks like a leader that is lost.
        server.stream("/etcdserverpb.Lease/LeaseKeepAlive", self.keep_alive, code_when_gone=Code.UNAVAILABLE)

    def _header(self) -> bytes:
        service = self._service
        return service.header.at(service.store.current_revision)

    def grant(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.lease_grant(call, decode(rpc_pb2.LeaseGrantRequest, raw))

    def revoke(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.lease_revoke(call, decode(rpc_pb2.LeaseRevokeRequest, raw))

    def time_to_live(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.LeaseTimeToLiveRequest, raw)
        service = self._service
        lessor = service.lessor
        if not lessor.is_primary:
            if service.leader_leases is None:
                raise NoLeaderError
            # Only the leader knows how long a lease still lives.
            service.leader_leases.times(
                request.ID,
                request.keys,
                lambda ttl, granted, keys: self._tell_times(call, request.ID, ttl, granted, keys),
                lambda error: self._no_times(call, request.ID, error),
            )
            return
        lease = lessor.lookup(request.ID)
        if lease is None:
            self._no_times(call, request.ID, LeaseNotFoundError())
            return
        remaining = int(lessor.remaining(request.ID, service.env.clock.monotonic()))
        if request.keys and len(lease.keys) > MANY and not service.auth.enabled:
            times = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=remaining, grantedTTL=lease.ttl_s)
            self._lists.begin(call, keys_in_order(self._header() + times.SerializeToString(), list(lease.keys)))
            return
        self._tell_times(call, request.ID, remaining, lease.ttl_s, lease.sorted_keys() if request.keys else ())

    def _no_times(self, call: Call, lease_id: int, error: RequestError) -> None:
        if isinstance(error, LeaseNotFoundError):
            response = rpc_pb2.LeaseTimeToLiveResponse(ID=lease_id, TTL=-1)
            call.respond(self._header() + response.SerializeToString())
        else:
            call.fail(error.code, error.text)

    def _tell_times(self, call: Call, lease_id: int, ttl: int, granted: int, keys: Iterable[bytes]) -> None:
        service = self._service
        response = rpc_pb2.LeaseTimeToLiveResponse(ID=lease_id, TTL=ttl, grantedTTL=granted, keys=keys)
        message = self._header() + response.SerializeToString()
        if response.keys and service.auth.enabled:
            # What a key is called is told only to who may read it.
            def check(who: Identity) -> None:
                for key in response.keys:
                    service.auth.check_range(who, key, b"")

            try:
                service.access.read(call, check, lambda: message)
            except RequestError as error:
                # The leader's answer came first: nobody else is left who could tell the caller.
                call.fail(error.code, error.text)
        else:
            call.respond(message)

    def leases(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        decode(rpc_pb2.LeaseLeasesRequest, raw)
        lessor = self._service.lessor
        if len(lessor) > MANY:
            self._lists.begin(call, leases_by_expiry(self._header(), lessor.all_leases()))
        else:
            call.respond(self._header() + lease_rows([lease.id for lease in lessor.leases()]))

    def keep_alive(self, call: Call) -> StreamHandler:
        self._door.admit(call.headers, kind="stream")
        return self._door.keep_led(call, _KeepAlive(self._service, call))


class _KeepAlive:
    """One stream of renewals, answered in order.

    A renewal waits while its lease is over but not yet revoked, and those behind it wait with it.
    """

    def __init__(self, service: Service, call: Call) -> None:
        self._service = service
        self._call = call
        self._waiting: deque[int] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._give_up_at = 0.0
        self._half_closed = False
        self._asking = False  # the leader, about the first that waits

    def on_message(self, raw: bytes) -> None:
        if not self._waiting and self._retry is None and not self._asking and self._renew_at_once(raw):
            return
        try:
            lease_id = decode(rpc_pb2.LeaseKeepAliveRequest, raw).ID
        except RequestError as error:
            self._fail(error)
            return
        if len(self._waiting) >= RENEWALS_WAITING_MAX:
            self._fail(TooManyRequestsError())
            return
        self._waiting.append(lease_id)
        if self._retry is None and not self._asking:
            self._renew_waiting()

    def _renew_at_once(self, raw: bytes) -> bool:
        """What nearly every renewal is: of a lease that lives, at its leader. False, with nothing done, if not.

        Takes what protobuf itself would write, and gives the id's bytes back as they came.
        """
        size = len(raw)
        if not 2 <= size <= LEASE_ID_BYTES_MAX + 1 or raw[0] != 8 or raw[-1] == 0:
            return False
        service = self._service
        lessor = service.lessor
        try:
            lease_id, end = read_uvarint(raw, 1)
        except WireError:
            return False
        if end != size or not lessor.is_primary or not service.driver.leads_surely:
            return False
        now = service.env.clock.monotonic()
        if lessor.wants_clear(lease_id, now):
            return False
        header = service.header.at(service.store.current_revision)
        try:
            ttl = lessor.renew(lease_id, now)
        except LeaseNotFoundError:
            ttl = 0
        except LeaseExpiredError:
            return False
        self._call.send(header + b"\x10" + raw[1:] + (b"\x18" + uvarint(ttl) if ttl else b""))
        return True

    def on_half_close(self) -> None:
        self._half_closed = True
        if not self._waiting:
            self._call.finish()

    def on_cancel(self) -> None:
        self._stop()

    def _fail(self, error: RequestError) -> None:
        self._stop()
        self._call.fail(error.code, error.text)

    def _stop(self) -> None:
        self._waiting.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _renew_waiting(self) -> None:
        self._retry = None
        service = self._service
        if service.lessor.is_primary and not service.driver.leads_surely:
            self._asking = True
            service.make_sure_to_lead(self._on_sure)
        else:
            self._renew_all()

    def _on_sure(self, error: RequestError | None) -> None:
        """Whether this member leads is known now."""
        self._asking = False
        if error is not None:
            self._fail(error)
        else:
            self._renew_all()

    def _renew_all(self) -> None:
        service = self._service
        now = service.env.clock.monotonic()
        while self._waiting:
            lease_id = self._waiting[0]
            if service.lessor.wants_clear(lease_id, now):
                self._asking = True
                service.lease_checkpoints.clear(lease_id, self._on_cleared)
                return
            # The header is from before the renewal: the lease was alive at that revision.
            header = service.header.at(service.store.current_revision)
            try:
                ttl = service.lessor.renew(lease_id, now)
            except LeaseNotFoundError:
                ttl = 0
            except (LeaseExpiredError, NotPrimaryError) as problem:
                if isinstance(problem, NotPrimaryError) and service.leader_leases is not None:
                    self._asking = True
                    service.leader_leases.renew(lease_id, self._on_renewed, self._on_refused)
                    return
                if self._give_up_at and now >= self._give_up_at:
                    self._fail(RequestTimedOutError())
                    return
                if not self._give_up_at:
                    self._give_up_at = now + service.config.request_timeout_s
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._renew_waiting)
                return
            self._give_up_at = 0.0
            self._waiting.popleft()
            self._tell(header, lease_id, ttl)
        if self._half_closed:
            self._call.finish()

    def _on_cleared(self, error: RequestError | None) -> None:
        """The first that waits may count its whole time again, under whichever leader."""
        self._asking = False
        if isinstance(error, NotLeaderError):
            self._renew_waiting()
        elif error is not None:
            self._fail(error)
        else:
            self._renew_all()

    def _tell(self, header: bytes, lease_id: int, ttl: int) -> None:
        parts = [header]
        if lease_id:
            parts.append(b"\x10" + varint(lease_id))
        if ttl:
            parts.append(b"\x18" + uvarint(ttl))
        self._call.send(b"".join(parts))

    def _on_renewed(self, ttl: int) -> None:
        """The leader renewed the first that waits."""
        self._asking = False
        if not self._waiting:
            return
        service = self._service
        self._tell(service.header.at(service.store.current_revision), self._waiting.popleft(), ttl)
        self._renew_waiting()

    def _on_refused(self, error: RequestError) -> None:
        if isinstance(error, LeaseNotFoundError):
            self._on_renewed(0)
        else:
            self._asking = False
            self._fail(error)
