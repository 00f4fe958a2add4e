"""The peer port as a whole: which path goes where.

Source: etcd etcdhttp/peer.go (newPeerHandler), rafthttp transport.go (Handler).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.peer.exchange import PeerAnswer, PeerRequest, Route
from balsad.peer.listener import PeerListener
from balsad.peer.member_pages import MemberPages
from balsad.peer.raft_pages import RaftPages

if TYPE_CHECKING:
    from balsad.env import Disk
    from balsad.peer.backend import PeerBackend
    from balsad.peer.tls import PeerTls
    from balsad.peer.transport import PeerTransport
    from balsad.storage import Snapshotter


def peer_server(
    transport: PeerTransport,
    backend: PeerBackend,
    *,
    disk: Disk,
    snapshotter: Snapshotter,
    tls: PeerTls | None = None,
    http2: Callable[[asyncio.Transport, bytes], None] | None = None,
    connections_max: int = 1 << 30,
) -> PeerListener:
    """The server of the peer URLs; `listen_bound` opens it.

    `http2` takes over a connection that speaks HTTP/2, with the bytes that came: gRPC, as etcd up to 3.5 has it there.
    """
    routes = {
        **RaftPages(transport, disk=disk, snapshotter=snapshotter).routes(),
        **MemberPages(transport, backend).routes(),
    }
    return PeerListener(Router(routes).route, tls, http2, connections_max)


class Router:
    """Finds the route of a path; one that ends in a slash is for all below it. Source: Go's http.ServeMux."""

    def __init__(self, routes: dict[str, Route]) -> None:
        self._routes = routes
        self._folders = sorted((path for path in routes if path.endswith("/")), key=len, reverse=True)
        self._unknown = Route(_not_found)

    def route(self, request: PeerRequest) -> Route:
        path = request.path
        found = self._routes.get(path)
        if found is not None:
            return found
        for folder in self._folders:
            if path.startswith(folder):
                return self._routes[folder]
        return self._unknown


def _not_found(_request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
    answer.fail(404, "404 page not found")
