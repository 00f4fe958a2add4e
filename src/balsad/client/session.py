"""A session: a lease that is kept alive, and what waits on keys. Source: etcd client/v3/concurrency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.client.messages import Event, RangeRequest, ResponseHeader

if TYPE_CHECKING:
    from balsad.client.client import Client

TTL_S_DEFAULT = 60


class Session:
    """Holds a lease while it is open: `async with Session(client, ttl_s=10) as session`."""

    def __init__(self, client: Client, *, ttl_s: int = TTL_S_DEFAULT) -> None:
        self.client = client
        self.ttl_s = ttl_s
        self.lease_id = 0

    async def open(self) -> Session:
        """Grant the lease and keep it alive."""
        self.lease_id = (await self.client.lease.grant(self.ttl_s)).ID
        self._kept = self.client.lease.keep_alive(self.lease_id)
        return self

    @property
    def expired(self) -> bool:
        """Whether the lease was lost."""
        return self._kept.ended

    async def wait_expired(self) -> None:
        """Wait until the lease is lost."""
        await self._kept.wait_ended()

    async def close(self) -> None:
        """Revoke the lease; its keys are gone."""
        self._kept.stop()
        await self.client.lease.revoke(self.lease_id, timeout=float(self.ttl_s))

    async def __aenter__(self) -> Session:
        return await self.open()

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


async def wait_deletes(client: Client, prefix: bytes, max_create_revision: int) -> ResponseHeader:
    """Wait until no key with this prefix is left that was created up to the revision.

    The keys are waited for one by one, the youngest first, so that each
    waiter is woken by one key alone.
    """
    while True:
        response = await client.kv.get(
            prefix,
            prefix=True,
            limit=1,
            sort_order=RangeRequest.DESCEND,
            sort_target=RangeRequest.CREATE,
            max_create_revision=max_create_revision,
        )
        if not response.kvs:
            return response.header
        watcher = client.watch.watch(response.kvs[0].key, revision=response.header.revision, require_leader=False)
        try:
            await _wait_delete(client, watcher)
        finally:
            watcher.cancel()


async def _wait_delete(client: Client, watcher: object) -> None:
    from balsad.client.watch import Watcher

    assert isinstance(watcher, Watcher)
    async for response in watcher:
        if any(event.type == Event.DELETE for event in response.events):
            return
