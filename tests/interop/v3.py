"""gRPC calls to a member by the generated classes alone, so that no client library smooths anything over."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import grpc

from balsad.proto import rpc_pb2 as rpc

TIMEOUT_S = 10.0


class V3:
    """One channel to one member."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def close(self) -> None:
        self.channel.close()

    def call(self, method: str, request: Any, response: Any, timeout: float = TIMEOUT_S) -> Any:
        """`method` is `Service/Name` of etcdserverpb."""
        stub = self.channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return stub(request, timeout=timeout)

    def put(self, key: bytes, value: bytes, **fields: Any) -> rpc.PutResponse:
        return self.call("KV/Put", rpc.PutRequest(key=key, value=value, **fields), rpc.PutResponse)

    def range(self, key: bytes, **fields: Any) -> rpc.RangeResponse:
        return self.call("KV/Range", rpc.RangeRequest(key=key, **fields), rpc.RangeResponse)

    def delete(self, key: bytes, **fields: Any) -> rpc.DeleteRangeResponse:
        return self.call("KV/DeleteRange", rpc.DeleteRangeRequest(key=key, **fields), rpc.DeleteRangeResponse)

    def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        return self.call("KV/Txn", request, rpc.TxnResponse)

    def compact(self, revision: int, physical: bool = True) -> rpc.CompactionResponse:
        return self.call(
            "KV/Compact", rpc.CompactionRequest(revision=revision, physical=physical), rpc.CompactionResponse
        )

    def hash_kv(self, revision: int = 0) -> rpc.HashKVResponse:
        return self.call("Maintenance/HashKV", rpc.HashKVRequest(revision=revision), rpc.HashKVResponse)

    def status(self) -> rpc.StatusResponse:
        return self.call("Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse)

    def defragment(self) -> rpc.DefragmentResponse:
        return self.call("Maintenance/Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse)

    def alarm(self, request: rpc.AlarmRequest) -> rpc.AlarmResponse:
        return self.call("Maintenance/Alarm", request, rpc.AlarmResponse)

    def lease_grant(self, lease_id: int, ttl: int) -> rpc.LeaseGrantResponse:
        return self.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl), rpc.LeaseGrantResponse)

    def lease_revoke(self, lease_id: int) -> rpc.LeaseRevokeResponse:
        return self.call("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id), rpc.LeaseRevokeResponse)

    def lease_keys(self, lease_id: int) -> rpc.LeaseTimeToLiveResponse:
        return self.call(
            "Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=True), rpc.LeaseTimeToLiveResponse
        )

    def leases(self) -> list[int]:
        answer = self.call("Lease/LeaseLeases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
        return sorted(lease.ID for lease in answer.leases)

    def members(self) -> rpc.MemberListResponse:
        return self.call("Cluster/MemberList", rpc.MemberListRequest(linearizable=True), rpc.MemberListResponse)

    def snapshot(self) -> bytes:
        """The whole backup that Maintenance.Snapshot streams, with its hash."""
        stub = self.channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc.SnapshotRequest.SerializeToString,
            response_deserializer=rpc.SnapshotResponse.FromString,
        )
        return b"".join(part.blob for part in stub(rpc.SnapshotRequest(), timeout=60))

    def watch(self, *requests: rpc.WatchCreateRequest) -> Watch:
        return Watch(self.channel, requests)


class Watch:
    """A watch stream with these watches; etcd ends it when the requesting side closes, so that stays open."""

    def __init__(self, channel: grpc.Channel, requests: tuple[rpc.WatchCreateRequest, ...]) -> None:
        self._requests: queue.SimpleQueue[rpc.WatchRequest | None] = queue.SimpleQueue()
        for request in requests:
            self.send(rpc.WatchRequest(create_request=request))
        stub = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )
        self._answers = stub(iter(self._requests.get, None), timeout=120)

    def send(self, request: rpc.WatchRequest) -> None:
        self._requests.put(request)

    def next(self) -> rpc.WatchResponse:
        return next(self._answers)

    def close(self) -> None:
        self._requests.put(None)
        self._answers.cancel()


@contextlib.contextmanager
def connect(address: str) -> Iterator[V3]:
    client = V3(address)
    try:
        yield client
    finally:
        client.close()
