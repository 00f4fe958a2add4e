"""MemberList: clients that sync their endpoints shall come back to the proxies, not to the members behind them.

Source: etcd server/proxy/grpcproxy/cluster.go.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from balsad.client.grpc_status import OK
from balsad.proto import rpc_pb2
from balsad.proxy.upstream import Upstream, end
from balsad.transport import Call

METHOD = "/etcdserverpb.Cluster/MemberList"


class MemberList:
    """The proxies that registered under a common prefix (name by URL), this one, or the members themselves."""

    def __init__(self, upstream: Upstream, advertised: str, registered: Callable[[], Mapping[str, str]]) -> None:
        self._upstream = upstream
        self._advertised = advertised
        self._registered = registered

    def __call__(self, call: Call, message: bytes) -> None:
        if not self._advertised:
            self._pass_on(call, message)
            return
        found = self._registered() or {self._advertised: socket.gethostname()}
        members = [rpc_pb2.Member(name=name, clientURLs=[url]) for url, name in found.items()]
        call.respond(rpc_pb2.MemberListResponse(members=members).SerializeToString())

    def _pass_on(self, call: Call, message: bytes) -> None:
        self._upstream.pass_on(
            call,
            message,
            lambda status, answer: (
                call.respond(answer) if status.code == OK else end(call, status, is_told_apart=False)
            ),
        )
