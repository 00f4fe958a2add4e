"""etcdserverpb.Maintenance.

Source: etcd server/etcdserver/api/v3rpc/maintenance.go.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.api.v3.door import Door, decode
from balsad.config.versions import ETCD_VERSION
from balsad.errors import Code, CompactedError, NoLeaderError, RequestError, UnknownError
from balsad.proto import rpc_pb2
from balsad.storage import StorageError
from balsad.wire import bytes_field, uvarint, varint

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.storage import BackendSnapshot, ContentHashJob
    from balsad.transport import Call, RpcServer, StreamHandler

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 32 * 1024
QUEUED_BYTES_MAX: Final = 1 << 20
CHUNKS_PER_TURN: Final = 16


class MaintenanceApi:
    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    def register(self, server: RpcServer) -> None:
        prefix = "/etcdserverpb.Maintenance/"
        server.unary(prefix + "Alarm", self.alarm)
        server.unary(prefix + "Status", self.status)
        server.unary(prefix + "Defragment", self.defragment)
        server.unary(prefix + "Hash", self.hash)
        server.unary(prefix + "HashKV", self.hash_kv)
        server.unary(prefix + "MoveLeader", self.move_leader)
        server.unary(prefix + "Downgrade", self.downgrade)
        server.stream(prefix + "Snapshot", self.snapshot)

    def _header(self) -> bytes:
        service = self._service
        return service.header.at(service.store.current_revision)

    def alarm(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        self._service.alarm(call, decode(rpc_pb2.AlarmRequest, raw))

    def status(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers, serves_learner=True)
        decode(rpc_pb2.StatusRequest, raw)
        service = self._service
        response = rpc_pb2.StatusResponse(
            version=ETCD_VERSION,
            dbSize=service.backend.size,
            leader=service.leader,
            raftIndex=service.driver.committed_index,
            raftTerm=service.term,
            raftAppliedIndex=service.applier.applied_index,
            dbSizeInUse=service.backend.size_in_use,
            isLearner=service.is_learner,
        )
        if not service.leader:
            response.errors.append(NoLeaderError.message)
        for alarm in service.alarms.get():
            response.errors.append(_alarm_text(alarm))
        call.respond(self._header() + response.SerializeToString())

    def defragment(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        decode(rpc_pb2.DefragmentRequest, raw)
        service = self._service

        def go_on() -> None:
            service.defragment(lambda: call.respond(b""), lambda text: call.fail(Code.UNKNOWN, text))

        service.access.for_maintenance(call, go_on)

    def hash(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        decode(rpc_pb2.HashRequest, raw)
        service = self._service

        def begin() -> None:
            _HashCall(service.backend.hash_job(), call, self._header, service.metrics.hash_s.observe).go_on()

        service.access.for_maintenance(call, lambda: service.commit_then(begin))

    def hash_kv(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.HashKVRequest, raw)
        self._service.access.for_maintenance(call, lambda: self._hash_kv(call, request))

    def _hash_kv(self, call: Call, request: rpc_pb2.HashKVRequest) -> None:
        service = self._service
        if 0 < request.revision <= service.store.compact_revision:
            raise CompactedError
        job = service.store.hash_job(request.revision)
        loop = asyncio.get_running_loop()
        began = time.perf_counter()

        def go_on() -> None:
            # In slices: a large store takes a while, and others want to be served.
            if call.closed:
                return
            try:
                finished = job.step()
            except RequestError as error:
                call.fail(error.code, error.text)
                return
            if not finished:
                loop.call_soon(go_on)
                return
            service.metrics.hash_rev_s.observe(time.perf_counter() - began)
            found = job.result
            parts = [service.header.at(found.current_revision)]
            if found.hash:
                parts.append(b"\x10" + uvarint(found.hash))
            if found.compact_revision:
                parts.append(b"\x18" + varint(found.compact_revision))
            call.respond(b"".join(parts))

        go_on()

    def move_leader(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)

        def done(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
            else:
                call.respond(b"")

        target = decode(rpc_pb2.MoveLeaderRequest, raw).targetID
        service = self._service
        # Anybody's in 3.5.1, root's since 3.5.28: whoever moves leaders about keeps a cluster from working.
        service.access.for_maintenance(call, lambda: service.move_leader(target, done))

    def downgrade(self, call: Call, raw: bytes) -> None:
        self._door.admit(call.headers)
        request = decode(rpc_pb2.DowngradeRequest, raw)
        service = self._service

        def done(error: RequestError | None) -> None:
            if error is not None:
                call.fail(error.code, error.text)
            else:
                response = rpc_pb2.DowngradeResponse(version=service.cluster_version)
                call.respond(self._header() + response.SerializeToString())

        def go_on() -> None:
            if request.action == rpc_pb2.DowngradeRequest.VALIDATE:
                service.downgrades.validate(request.version, done)
            elif request.action == rpc_pb2.DowngradeRequest.ENABLE:
                service.downgrades.enable(request.version, done)
            elif request.action == rpc_pb2.DowngradeRequest.CANCEL:
                service.downgrades.cancel(done)
            else:
                raise UnknownError("etcdserver: unknown method")

        service.access.for_admin(call, go_on)

    def snapshot(self, call: Call) -> StreamHandler:
        self._door.admit(call.headers, kind="stream", serves_learner=True)
        return _SnapshotCall(self._service, call)


def _alarm_text(alarm: rpc_pb2.AlarmMember) -> str:
    """As protobuf's text form has it: without what is zero."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    return member + (f"alarm:{rpc_pb2.AlarmType.Name(alarm.alarm)} " if alarm.alarm else "")


class _HashCall:
    """The hash of all that is in the db file, on its way to a client: a slice in each turn of the loop."""

    def __init__(
        self, job: ContentHashJob, call: Call, header: Callable[[], bytes], observe: Callable[[float], None]
    ) -> None:
        self._observe = observe
        self._job = job
        self._call = call
        self._header = header
        self._loop = asyncio.get_running_loop()
        self._began = time.perf_counter()

    def go_on(self) -> None:
        try:
            if not self._call.closed and not self._job.step():
                self._loop.call_soon(self.go_on)
                return
        except StorageError as error:
            self._call.fail(Code.UNKNOWN, str(error))
        self._job.close()
        if not self._call.closed:
            self._observe(time.perf_counter() - self._began)
            value = self._job.value
            self._call.respond(self._header() + (b"\x10" + uvarint(value) if value else b""))


class _SnapshotCall:
    """The db file on its way to a client, in chunks, then the SHA-256 of all of it."""

    def __init__(self, service: Service, call: Call) -> None:
        self._service = service
        self._call = call
        self._snapshot: BackendSnapshot | None = None
        self._began = 0.0
        self._offset = 0
        self._digest = hashlib.sha256()
        self._asked = False
        self._pumping = False

    def on_message(self, raw: bytes) -> None:
        try:
            decode(rpc_pb2.SnapshotRequest, raw)
            if not self._asked:
                self._asked = True
                service = self._service
                service.expect_rush()
                service.access.for_maintenance(self._call, lambda: service.commit_then(self._begin))
        except RequestError as error:
            self._call.fail(error.code, error.text)

    def on_half_close(self) -> None:
        if not self._asked:
            self._call.fail(Code.INTERNAL, "EOF")

    def on_cancel(self) -> None:
        self._close()

    def _begin(self) -> None:
        if self._call.closed:
            return
        self._snapshot = self._service.backend.committed_snapshot()
        self._began = time.perf_counter()
        log.info("sending database snapshot to client", extra={"total-bytes": self._snapshot.size})
        self._call.on_writable = self._pump
        self._pump()

    def _pump(self) -> None:
        """Send some chunks, then let others have the loop."""
        snapshot = self._snapshot
        if snapshot is None or self._pumping:
            return
        call = self._call
        # Who stores it may do so on this very disk.
        self._service.expect_rush()
        for _ in range(CHUNKS_PER_TURN):
            if call.closed:
                self._close()
                return
            if call.pending_bytes > QUEUED_BYTES_MAX:
                return  # on_writable goes on
            if self._offset >= snapshot.size:
                call.send(bytes_field(3, self._digest.digest()))
                log.info("successfully sent database snapshot to client", extra={"total-bytes": snapshot.size})
                call.finish()
                self._close()
                return
            try:
                blob = snapshot.read(self._offset, CHUNK_BYTES)
            except Exception as error:
                call.fail(UnknownError.code, str(error))
                self._close()
                return
            self._offset += len(blob)
            self._digest.update(blob)
            left = snapshot.size - self._offset
            call.send((b"\x10" + uvarint(left) if left else b"") + bytes_field(3, blob))
        self._pumping = True
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._pumping = False
        self._pump()

    def _close(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()
            self._service.metrics.backend_snapshot_s.observe(time.perf_counter() - self._began)
