"""An election: candidates with values, one of them leads. Source: etcd client/v3/concurrency/election.go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from balsad.client.kv import Key, compare, delete_request, get_request, put_request, to_bytes
from balsad.client.messages import Event, KeyValue, RangeRequest, RangeResponse, ResponseHeader
from balsad.client.session import wait_deletes
from balsad.errors import UnknownError

if TYPE_CHECKING:
    from balsad.client.client import Client
    from balsad.client.session import Session


class NotLeaderInElectionError(UnknownError):
    """A proclamation by one who does not lead."""

    message = "election: not leader"


class Election:
    """A session's part in the election `name`."""

    def __init__(self, session: Session, name: Key) -> None:
        self.key = b""
        self.revision = 0
        self.header = ResponseHeader()
        self._session = session
        self._prefix = to_bytes(name) + b"/"

    async def campaign(self, value: Key) -> None:
        """Wait until this session leads with this value."""
        client = self._session.client
        lease_id = self._session.lease_id
        self.key = self._prefix + b"%x" % (lease_id & (1 << 64) - 1)
        response = await client.kv.txn(
            [compare(self.key, "create_revision", "=", 0)],
            [put_request(self.key, value, lease=lease_id)],
            [get_request(self.key)],
        )
        self.revision = response.header.revision
        try:
            if not response.succeeded:
                mine = (response.responses[0].response_range or RangeResponse()).kvs[0]
                self.revision = mine.create_revision
                if mine.value != to_bytes(value):
                    await self.proclaim(value)
            await wait_deletes(client, self._prefix, self.revision - 1)
        except BaseException:
            await self.resign()
            raise
        self.header = response.header

    async def proclaim(self, value: Key) -> None:
        """Lead with another value. Raises NotLeaderInElectionError."""
        if not self.key:
            raise NotLeaderInElectionError
        response = await self._session.client.kv.txn(
            [compare(self.key, "create_revision", "=", self.revision)],
            [put_request(self.key, value, lease=self._session.lease_id)],
        )
        if not response.succeeded:
            self.key = b""
            raise NotLeaderInElectionError
        self.header = response.header

    async def resign(self) -> None:
        """Lead, or wait to lead, no longer."""
        if self.key:
            key, self.key = self.key, b""
            response = await self._session.client.kv.txn(
                [compare(key, "create_revision", "=", self.revision)], [delete_request(key)]
            )
            self.header = response.header

    async def leader(self) -> KeyValue | None:
        """Who leads now, if anybody."""
        kvs = (await _oldest(self._session.client, self._prefix)).kvs
        return kvs[0] if kvs else None

    def observe(self) -> AsyncIterator[RangeResponse]:
        """Every leader, and every value a leader proclaims, from the present one on."""
        return observe(self._session.client, self._prefix[:-1])


async def _oldest(client: Client, prefix: bytes) -> RangeResponse:
    return await client.kv.get(
        prefix, prefix=True, limit=1, sort_order=RangeRequest.ASCEND, sort_target=RangeRequest.CREATE
    )


async def observe(client: Client, name: Key) -> AsyncIterator[RangeResponse]:
    """Every leader of the election `name`, and every value one proclaims, from the present one on."""
    prefix = to_bytes(name) + b"/"
    while True:
        response = await _oldest(client, prefix)
        if response.kvs:
            header, leader = response.header, response.kvs[0]
        else:
            header, leader = await _first_put(client, prefix, response.header.revision)
        yield RangeResponse(header=header, kvs=[leader])
        watcher = client.watch.watch(leader.key, revision=header.revision + 1, require_leader=False)
        try:
            async for update in watcher:
                gone = False
                for event in update.events:
                    if event.type == Event.DELETE:
                        gone = True
                        break
                    yield RangeResponse(header=update.header, kvs=[event.kv], more=response.more, count=response.count)
                if gone:
                    break
        finally:
            watcher.cancel()


async def _first_put(client: Client, prefix: bytes, revision: int) -> tuple[ResponseHeader, KeyValue]:
    watcher = client.watch.watch(prefix, prefix=True, revision=revision, require_leader=False)
    try:
        async for update in watcher:
            for event in update.events:
                if event.type == Event.PUT:
                    header = update.header
                    header.revision = event.kv.mod_revision
                    return header, event.kv
    finally:
        watcher.cancel()
    from balsad.client.errors import ClientClosedError

    raise ClientClosedError
