"""A lock that one session at a time holds, in the order of asking.

    name/694d7d8d3a1c2f10   create_revision 7   holds
    name/694d7d8d3a1c2f2a   create_revision 9   waits for the key before it to go

Source: etcd client/v3/concurrency/mutex.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.client.kv import Key, compare, get_request, put_request, to_bytes
from balsad.client.messages import RangeRequest, RangeResponse, ResponseHeader
from balsad.client.session import wait_deletes

if TYPE_CHECKING:
    from balsad.client.session import Session


class Lock:
    """`async with Lock(session, "name")`: held from the beginning of the block to its end."""

    def __init__(self, session: Session, name: Key) -> None:
        self.key = b""
        self.revision = -1
        self.header = ResponseHeader()
        self._session = session
        self._prefix = to_bytes(name) + b"/"

    async def acquire(self) -> None:
        """Wait until it is ours. Raises LeaseExpiredError when the session is lost meanwhile."""
        client = self._session.client
        self.key = self._prefix + b"%x" % (self._session.lease_id & (1 << 64) - 1)
        mine = get_request(self.key)
        oldest = get_request(
            self._prefix, prefix=True, limit=1, sort_order=RangeRequest.ASCEND, sort_target=RangeRequest.CREATE
        )
        response = await client.kv.txn(
            [compare(self.key, "create_revision", "=", 0)],
            [put_request(self.key, lease=self._session.lease_id), oldest],
            [mine, oldest],
        )
        self.revision = response.header.revision
        if not response.succeeded:
            self.revision = (response.responses[0].response_range or RangeResponse()).kvs[0].create_revision
        owners = (response.responses[1].response_range or RangeResponse()).kvs
        self.header = response.header
        if not owners or owners[0].create_revision == self.revision:
            return
        try:
            await wait_deletes(client, self._prefix, self.revision - 1)
            held = await client.kv.get(self.key)
        except BaseException:
            await self.release()
            raise
        if not held.kvs:
            from balsad.client.errors import LeaseExpiredError

            raise LeaseExpiredError
        self.header = held.header

    async def release(self) -> None:
        """Give it to the next."""
        await self._session.client.kv.delete(self.key)
        self.key = b"\0"
        self.revision = -1

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.release()
