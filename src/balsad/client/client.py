"""The client: endpoints, user, and the services behind them.

async with Client(["http://127.0.0.1:2379"]) as client:
    await client.kv.put("greeting", "hello")
    async for response in client.watch.watch("greeting", revision=1):
        for event in response.events:
            print(event.kv.value)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from balsad.client.channel import Channel
from balsad.client.kv import KV, Key

if TYPE_CHECKING:
    from ssl import SSLContext

    from balsad.client.auth import Auth
    from balsad.client.cluster import Cluster
    from balsad.client.election import Election
    from balsad.client.lease import Leases
    from balsad.client.lock import Lock
    from balsad.client.loop_faces import Loop
    from balsad.client.maintenance import Maintenance
    from balsad.client.session import Session
    from balsad.client.watch import Watches


def _random() -> float:
    """A number in [0, 1), without the time that importing `random` takes."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class Client:
    """A client of one cluster.

    endpoints: `host:port`, `http://...`, `https://...`, `unix:///...`; they take turns.
    tls: a context of `balsad.client.tls.client_context`; endpoints without a scheme then use TLS.
    user, password: asked for a token before the first call, and again when it is refused.
    dial_timeout_s: how long asking for that token may take.
    keepalive_time_s: after this long without a word a waiting connection is pinged (0: never,
        at least 10), and given up `keepalive_timeout_s` later.
    loop: an event loop other than the running asyncio loop (`balsad.client.loops`).
    either_mode: an endpoint of this machine without a scheme is tried with and without TLS.
    channel: what to call through, instead of one of its own to the endpoints.
    server_name: what the certificates of all endpoints are checked for, in place of their addresses.
    """

    def __init__(
        self,
        endpoints: Sequence[str] = ("127.0.0.1:2379",),
        *,
        user: str = "",
        password: str = "",
        tls: SSLContext | None = None,
        dial_timeout_s: float | None = None,
        keepalive_time_s: float = 0.0,
        keepalive_timeout_s: float = 6.0,
        loop: Loop | None = None,
        either_mode: bool = False,
        server_name: str = "",
        random: Callable[[], float] = _random,
        channel: Channel | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("etcdclient: no available endpoints")
        if loop is None:
            import asyncio

            loop = asyncio.get_running_loop()
        self.loop = loop
        self._user = user
        self._password = password
        self._dial_timeout_s = dial_timeout_s
        self._tls = tls
        self._keepalive = (keepalive_time_s, keepalive_timeout_s)
        self._either_mode = either_mode
        self._server_name = server_name
        self._random = random
        self.channel = channel or Channel(
            loop,
            endpoints,
            tls=tls,
            either_mode=either_mode,
            server_name=server_name,
            keepalive_time_s=keepalive_time_s,
            keepalive_timeout_s=keepalive_timeout_s,
            random=random,
        )
        self.kv = KV(self.channel)
        if user and password:
            self.channel.authenticate = self._authenticate

    # Of the services a command of a tool needs one or two: each is imported when it is asked for.

    @cached_property
    def auth(self) -> Auth:
        from balsad.client.auth import Auth

        return Auth(self.channel)

    @cached_property
    def cluster(self) -> Cluster:
        from balsad.client.cluster import Cluster

        return Cluster(self.channel)

    @cached_property
    def lease(self) -> Leases:
        from balsad.client.lease import Leases

        return Leases(self.channel)

    @cached_property
    def maintenance(self) -> Maintenance:
        from balsad.client.maintenance import Maintenance

        return Maintenance(self.channel)

    @cached_property
    def watch(self) -> Watches:
        from balsad.client.watch import Watches

        return Watches(self.channel)

    @property
    def endpoints(self) -> list[str]:
        return self.channel.endpoints

    async def connect(self) -> Client:
        """Ask for a token if there is a user. Raises AuthFailedError, CallTimeoutError."""
        if self._user and self._password:
            await self._authenticate(None)
        return self

    async def _authenticate(self, deadline: float | None) -> None:
        from balsad.errors import AuthNotEnabledError

        try:
            timeout = self._dial_timeout_s
            if deadline is not None:
                left = max(0.0, deadline - self.loop.time())
                timeout = left if timeout is None else min(left, timeout)
            response = await self.auth.authenticate(self._user, self._password, timeout=timeout)
            self.channel.token = response.token
        except AuthNotEnabledError:
            self.channel.token = ""

    async def sync(self, *, timeout: float | None = None) -> None:
        """Use the client URLs of all present members as endpoints."""
        members = (await self.cluster.members(timeout=timeout)).members
        endpoints = [url for member in members for url in member.clientURLs]
        if endpoints:
            self.channel.set_endpoints(endpoints)

    def only(self, endpoint: str) -> Client:
        """A client like this one, of one endpoint alone; close it too."""
        one = Client(
            [endpoint],
            user=self._user,
            password=self._password,
            tls=self._tls,
            dial_timeout_s=self._dial_timeout_s,
            keepalive_time_s=self._keepalive[0],
            keepalive_timeout_s=self._keepalive[1],
            loop=self.loop,
            either_mode=self._either_mode,
            server_name=self._server_name,
            random=self._random,
        )
        # Some calls, as Defragment, are refused without a token in other words than those that ask for a new one.
        one.channel.token = self.channel.token
        one.channel.on_failure = self.channel.on_failure
        return one

    def session(self, *, ttl_s: int = 60) -> Session:
        """A lease that is kept alive while the session is open."""
        from balsad.client.session import Session

        return Session(self, ttl_s=ttl_s)

    def lock(self, session: Session, name: Key) -> Lock:
        """A lock that one session at a time holds."""
        from balsad.client.lock import Lock

        return Lock(session, name)

    def election(self, session: Session, name: Key) -> Election:
        """A session's part in an election."""
        from balsad.client.election import Election

        return Election(session, name)

    async def close(self) -> None:
        """End watches and keep-alives and disconnect."""
        self.watch.close()
        self.lease.close()
        self.channel.close()

    async def __aenter__(self) -> Client:
        return await self.connect()

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
