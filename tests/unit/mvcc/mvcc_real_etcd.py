"""A real etcd to compare with, spoken to with our own protocol classes over a plain gRPC channel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, TypeVar

import grpc

from balsad.proto import rpc_pb2
from tests.real import real_etcd

M = TypeVar("M")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealEtcd:
    """One member in a folder; `start` and `stop` it as often as needed."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "real.etcd"
        self.db = self.data_dir / "member" / "snap" / "db"
        self._log = folder / "real.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Any = None

    def start(self) -> None:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        arguments = [
            *("--data-dir", str(self.data_dir)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--log-level", "error", "--force-new-cluster=false"),
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen([real_etcd(), *arguments], stdout=log, stderr=log, env=environment)
        self._channel = grpc.insecure_channel(client.removeprefix("http://"))
        deadline = time.monotonic() + 30
        while True:
            try:
                self.range(rpc_pb2.RangeRequest(key=b"k"))
                return
            except grpc.RpcError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """End the member in order, so that all it applied is in its file."""
        if self._process is not None:
            self._channel.close()
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def _call(self, method: str, request: Any, answer: type[M]) -> M:
        call = self._channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        result: M = call(request, timeout=10)
        return result

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        return self._call("KV/Range", request, rpc_pb2.RangeResponse)

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        return self._call("KV/Put", request, rpc_pb2.PutResponse)

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        return self._call("KV/Txn", request, rpc_pb2.TxnResponse)

    def compact(self, revision: int) -> rpc_pb2.CompactionResponse:
        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        return self._call("KV/Compact", request, rpc_pb2.CompactionResponse)

    def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse:
        return self._call("Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=revision), rpc_pb2.HashKVResponse)

    def grant(self, lease: int, ttl: int) -> rpc_pb2.LeaseGrantResponse:
        request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)
        return self._call("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse)

    def revoke(self, lease: int) -> rpc_pb2.LeaseRevokeResponse:
        return self._call("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease), rpc_pb2.LeaseRevokeResponse)

    def lease_keys(self, lease: int) -> list[bytes]:
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)
        return sorted(self._call("Lease/LeaseTimeToLive", request, rpc_pb2.LeaseTimeToLiveResponse).keys)
