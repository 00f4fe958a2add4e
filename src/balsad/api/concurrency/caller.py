"""A client of this very server that acts for somebody who called it: with the caller's token and certificate's name."""

from __future__ import annotations

import asyncio
import os

from balsad.api.loopback import Loopback
from balsad.client import Client
from balsad.client.channel import Channel
from balsad.client.link import Wire
from balsad.client.session import TTL_S_DEFAULT, Session
from balsad.transport import Call, RpcServer


class _OwnChannel(Channel):
    """Calls that go to this server without a socket."""

    def __init__(self, loopback: Loopback, token: str) -> None:
        super().__init__(asyncio.get_running_loop(), [], random=_random)
        self.token = token
        self._loopback = loopback

    async def _pick(self, deadline: float | None) -> Wire:
        return self._loopback.wire()

    def close(self) -> None:
        super().close()
        self._loopback.close()


def _random() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32


def client_for(call: Call, server: RpcServer) -> Client:
    """Close it when the call is over: it has a connection of its own, so that nobody's watches meet another's."""
    metadata = call.headers.metadata
    token = metadata.get(b"token") or metadata.get(b"authorization") or b""
    channel = _OwnChannel(Loopback(server, call.peer_name), token.decode("utf-8", "surrogateescape"))
    return Client(channel=channel)


async def orphan_session(client: Client, lease_id: int) -> Session:
    """A session of a lease that others keep alive; one of a minute, that nobody keeps alive, when none is named.

    Source: etcd v3lock/lock.go, v3election/election.go: NewSession, then Orphan.
    """
    session = Session(client)
    session.lease_id = lease_id or (await client.lease.grant(TTL_S_DEFAULT)).ID
    return session
