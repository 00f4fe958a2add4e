"""etcdserverpb.Lease.

Source: etcd server/etcdserver/api/v3rpc/lease.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3.door import Door, decode
from balsad.errors import LeaseNotFoundError, RequestError
from balsad.proto import rpc_pb2
from balsad.wire import bytes_field, uvarint, varint

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.transport import Call, RpcServer, StreamHandler


class LeaseApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    def register(self, server: RpcServer) -> None:
        server.unary("/etcdserverpb.Lease/LeaseGrant", self.grant)
        server.unary("/etcdserverpb.Lease/LeaseRevoke", self.revoke)
        server.unary("/etcdserverpb.Lease/LeaseTimeToLive", self.time_to_live)
        server.unary("/etcdserverpb.Lease/LeaseLeases", self.leases)
        server.stream("/etcdserverpb.Lease/LeaseKeepAlive", self.keep_alive)

    def _header(self) -> bytes:
        service = self._service
        return service.header.at(service.store.current_revision)

    def grant(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.lease_grant(call, decode(rpc_pb2.LeaseGrantRequest, raw))

    def revoke(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.lease_revoke(call, raw, decode(rpc_pb2.LeaseRevokeRequest, raw))

    def time_to_live(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.LeaseTimeToLiveRequest, raw)
        service = self._service
        lease = service.lessor.lookup(request.ID)
        if lease is None:
            response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        else:
            remaining = service.lessor.remaining(request.ID, service.env.clock.monotonic())
            response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=int(remaining), grantedTTL=lease.ttl_s)
            if request.keys:
                response.keys.extend(sorted(lease.keys))
        call.respond(self._header() + response.SerializeToString())

    def leases(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        decode(rpc_pb2.LeaseLeasesRequest, raw)
        parts = [self._header()]
        for lease in self._service.lessor.leases():
            parts.append(bytes_field(2, b"\x08" + varint(lease.id)))
        call.respond(b"".join(parts))

    def keep_alive(self, call: Call) -> StreamHandler:
        self._door.admit(call.headers, kind="stream")
        return _KeepAlive(self._service, call)


class _KeepAlive:
    """One stream of renewals, answered in order."""

    def __init__(self, service: Service, call: Call) -> None:
        self._service = service
        self._call = call

    def on_message(self, raw: bytes) -> None:
        service = self._service
        try:
            lease_id = decode(rpc_pb2.LeaseKeepAliveRequest, raw).ID
            # The header is from before the renewal: the lease was alive at that revision.
            header = service.header.at(service.store.current_revision)
            try:
                ttl = service.lessor.renew(lease_id, service.env.clock.monotonic())
            except LeaseNotFoundError:
                ttl = 0
        except RequestError as error:
            self._call.fail(error.code, error.text)
            return
        parts = [header]
        if lease_id:
            parts.append(b"\x10" + varint(lease_id))
        if ttl:
            parts.append(b"\x18" + uvarint(ttl))
        self._call.send(b"".join(parts))

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        pass
