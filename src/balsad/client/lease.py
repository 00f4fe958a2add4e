"""Leases: grant, revoke, ask, and keep alive.

One stream keeps all leases of a client alive. Each is renewed when a third of
its time is over, and given up when its time is over without an answer.

Source: etcd client/v3 lease.go.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from balsad.client.loops import sleep
from balsad.client.messages import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)

if TYPE_CHECKING:
    from balsad.client.channel import Channel, RpcStream

_KEEP_ALIVE_PATH: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
_TICK_S: Final = 0.5
_RECONNECT_WAIT_S: Final = 0.5
_RESPONSES_MAX: Final = 16


class KeepAlive:
    """A lease that is being kept alive; iterate over the answers, or only hold it.

    The iteration ends when the lease has expired or was revoked, and after
    `stop`. Answers nobody fetches are dropped beyond a few.
    """

    def __init__(self, leases: Leases, lease_id: int, first_deadline: float) -> None:
        self.id = lease_id
        self.ended = False
        self._leases = leases
        self._deadline = first_deadline
        self._next_send = 0.0
        self._responses: deque[LeaseKeepAliveResponse] = deque(maxlen=_RESPONSES_MAX)
        self._waiters: list[Any] = []

    def stop(self) -> None:
        """Renew it no longer; the lease itself lives on until its time is over."""
        self._leases._kept.discard(self)
        self._end()

    async def wait_ended(self) -> None:
        """Wait until the lease is lost, or was given up."""
        while not self.ended:
            await self._changed()
            self._responses.clear()

    def __aiter__(self) -> KeepAlive:
        return self

    async def __anext__(self) -> LeaseKeepAliveResponse:
        while not self._responses:
            if self.ended:
                raise StopAsyncIteration
            await self._changed()
        return self._responses.popleft()

    async def _changed(self) -> None:
        waiter = self._leases._channel.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _renewed(self, response: LeaseKeepAliveResponse, now: float) -> None:
        self._deadline = now + response.TTL
        self._next_send = now + response.TTL / 3
        self._responses.append(response)
        self._wake()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._wake()


class Leases:
    """`client.lease`. Lease ids are signed 64-bit numbers; people write them in hexadecimal."""

    def __init__(self, channel: Channel, *, first_timeout_s: float = 5.0) -> None:
        self._channel = channel
        self._first_timeout_s = first_timeout_s
        self._kept: set[KeepAlive] = set()
        self._task: Any = None
        self._stream: RpcStream | None = None

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._channel.loop.time() + timeout

    async def grant(self, ttl_s: int, lease_id: int = 0, *, timeout: float | None = None) -> LeaseGrantResponse:
        """A new lease of at least `ttl_s` seconds; the server picks the id unless one is given."""
        return await self._channel.unary(
            "/etcdserverpb.Lease/LeaseGrant",
            LeaseGrantRequest(TTL=ttl_s, ID=lease_id),
            LeaseGrantResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def revoke(self, lease_id: int, *, timeout: float | None = None) -> LeaseRevokeResponse:
        """End a lease and delete its keys. Raises LeaseNotFoundError."""
        return await self._channel.unary(
            "/etcdserverpb.Lease/LeaseRevoke",
            LeaseRevokeRequest(ID=lease_id),
            LeaseRevokeResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseTimeToLiveResponse:
        """What is left of a lease: TTL is -1 when there is none such."""
        return await self._channel.unary(
            "/etcdserverpb.Lease/LeaseTimeToLive",
            LeaseTimeToLiveRequest(ID=lease_id, keys=keys),
            LeaseTimeToLiveResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def list(self, *, timeout: float | None = None) -> LeaseLeasesResponse:
        """All leases there are."""
        return await self._channel.unary(
            "/etcdserverpb.Lease/LeaseLeases",
            LeaseLeasesRequest(),
            LeaseLeasesResponse,
            deadline=self._deadline(timeout),
            repeatable=True,
        )

    async def keep_alive_once(self, lease_id: int, *, timeout: float | None = None) -> LeaseKeepAliveResponse:
        """Renew a lease now. Raises LeaseNotFoundError."""
        from balsad.errors import Code, LeaseNotFoundError, RequestError

        deadline = self._deadline(timeout)
        while True:
            stream = await self._channel.stream(_KEEP_ALIVE_PATH, deadline=deadline)
            try:
                stream.send(LeaseKeepAliveRequest(ID=lease_id))
                response = await stream.receive(LeaseKeepAliveResponse)
            except RequestError as error:
                if getattr(error, "status", error.code) not in (Code.UNAVAILABLE, Code.INTERNAL):
                    raise
                await sleep(self._channel.loop, _RECONNECT_WAIT_S)
                continue
            finally:
                stream.cancel()
            if response is None:
                continue
            if response.TTL <= 0:
                raise LeaseNotFoundError
            return response

    def keep_alive(self, lease_id: int) -> KeepAlive:
        """Keep a lease alive from now on."""
        loop = self._channel.loop
        kept = KeepAlive(self, lease_id, loop.time() + self._first_timeout_s)
        self._kept.add(kept)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        else:
            self._send_due()
        return kept

    def close(self) -> None:
        """Keep nothing alive any longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for kept in list(self._kept):
            kept.stop()

    # ---- the one stream

    async def _run(self) -> None:
        ticker = self._channel.loop.create_task(self._tick())
        try:
            while self._kept:
                await self._serve_stream()
                if self._kept:
                    await sleep(self._channel.loop, _RECONNECT_WAIT_S)
        finally:
            ticker.cancel()

    async def _serve_stream(self) -> None:
        """Renew over one stream until it breaks or nothing is left to renew."""
        from balsad.errors import RequestError

        stream: RpcStream | None = None
        try:
            stream = await self._channel.stream(_KEEP_ALIVE_PATH, require_leader=True)
            self._stream = stream
            self._send_due()
            while self._kept:
                response = await stream.receive(LeaseKeepAliveResponse)
                if response is None:
                    return
                self._on_response(response)
        except RequestError:
            return
        finally:
            self._stream = None
            if stream is not None:
                stream.cancel()

    async def _tick(self) -> None:
        while True:
            await sleep(self._channel.loop, _TICK_S)
            now = self._channel.loop.time()
            for kept in sorted(self._kept, key=lambda one: one.id):
                if kept._deadline < now:
                    self._kept.discard(kept)
                    kept._end()
            if not self._kept and self._stream is not None:
                self._stream.cancel()
                return
            self._send_due()

    def _send_due(self) -> None:
        stream = self._stream
        if stream is None:
            return
        now = self._channel.loop.time()
        due = sorted({kept.id for kept in self._kept if kept._next_send <= now})
        for lease_id in due:
            stream.send(LeaseKeepAliveRequest(ID=lease_id))
        for kept in self._kept:
            if kept.id in due:
                # Ask again soon if no answer comes.
                kept._next_send = now + _TICK_S

    def _on_response(self, response: LeaseKeepAliveResponse) -> None:
        now = self._channel.loop.time()
        for kept in [one for one in self._kept if one.id == response.ID]:
            if response.TTL <= 0:
                self._kept.discard(kept)
                kept._end()
            else:
                kept._renewed(response, now)
