"""v3lockpb.Lock and v3electionpb.Election.

A call may wait for long (a lock that another holds), so each is a task, which ends with its call.

Source: etcd server/etcdserver/api/v3lock/lock.go, v3election/election.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from balsad.api.concurrency.caller import client_for, orphan_session
from balsad.api.v3.door import decode
from balsad.client import Client, codec
from balsad.client.election import Election, observe
from balsad.client.lock import Lock
from balsad.client.messages import KeyValue, ResponseHeader
from balsad.errors import Code, EmptyKeyError, RequestError, UnknownError
from balsad.proto import kv_pb2, v3election_pb2, v3lock_pb2
from balsad.proto import rpc_pb2 as rpc
from balsad.transport import Call, RpcServer

RequestT = TypeVar("RequestT", bound=Message)


class MissingLeaderKeyError(UnknownError):
    message = '"leader" field must be provided'


class NoElectionLeaderError(UnknownError):
    message = "election: no leader"


def register_concurrency(server: RpcServer) -> None:
    """Make `server` serve both."""
    tasks = _Tasks(server)
    tasks.unary("/v3lockpb.Lock/Lock", v3lock_pb2.LockRequest, _lock)
    tasks.unary("/v3lockpb.Lock/Unlock", v3lock_pb2.UnlockRequest, _unlock)
    tasks.unary("/v3electionpb.Election/Campaign", v3election_pb2.CampaignRequest, _campaign)
    tasks.unary("/v3electionpb.Election/Proclaim", v3election_pb2.ProclaimRequest, _proclaim)
    tasks.unary("/v3electionpb.Election/Leader", v3election_pb2.LeaderRequest, _leader)
    tasks.unary("/v3electionpb.Election/Resign", v3election_pb2.ResignRequest, _resign)
    server.stream("/v3electionpb.Election/Observe", lambda call: _Observing(call, tasks))


class _Tasks:
    """What is under way; the event loop itself holds tasks only weakly."""

    def __init__(self, server: RpcServer) -> None:
        self.server = server
        self._running: set[asyncio.Task[None]] = set()

    def unary(self, path: str, kind: type[RequestT], work: Callable[[Client, RequestT], Awaitable[Message]]) -> None:
        def handle(call: Call, raw: bytes) -> None:
            request = decode(kind, raw)

            async def answer(client: Client) -> None:
                response = await work(client, request)
                call.respond(response.SerializeToString())

            self.start(call, answer)

        self.server.unary(path, handle)

    def start(self, call: Call, work: Callable[[Client], Awaitable[None]]) -> None:
        """Work for `call` until done, or until the caller gives up."""
        client = client_for(call, self.server)

        async def run() -> None:
            try:
                await work(client)
            except RequestError as error:
                # etcd's own client has taken the code off by then: only the words are left.
                call.fail(Code.UNKNOWN, error.text)
            finally:
                await client.close()

        task = asyncio.ensure_future(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

        def give_up() -> None:
            task.cancel()

        call.on_cancel = give_up


def _header(header: ResponseHeader) -> rpc.ResponseHeader:
    return rpc.ResponseHeader.FromString(codec.encode(header))


def _key_value(found: KeyValue) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue.FromString(codec.encode(found))


async def _lock(client: Client, request: v3lock_pb2.LockRequest) -> Message:
    lock = Lock(await orphan_session(client, request.lease), request.name)
    await lock.acquire()
    return v3lock_pb2.LockResponse(header=_header(lock.header), key=lock.key)


async def _unlock(client: Client, request: v3lock_pb2.UnlockRequest) -> Message:
    response = await client.kv.delete(request.key)
    return v3lock_pb2.UnlockResponse(header=_header(response.header))


async def _campaign(client: Client, request: v3election_pb2.CampaignRequest) -> Message:
    session = await orphan_session(client, request.lease)
    election = Election(session, request.name)
    await election.campaign(request.value)
    return v3election_pb2.CampaignResponse(
        header=_header(election.header),
        leader=v3election_pb2.LeaderKey(
            name=request.name, key=election.key, rev=election.revision, lease=session.lease_id
        ),
    )


async def _resumed(client: Client, request: v3election_pb2.ProclaimRequest | v3election_pb2.ResignRequest) -> Election:
    """The election as the leader's key in the request has it. Raises RequestError."""
    if not request.HasField("leader"):
        raise MissingLeaderKeyError
    leader = request.leader
    election = Election(await orphan_session(client, leader.lease), leader.name)
    if not leader.key:
        raise EmptyKeyError
    election.key = leader.key
    election.revision = leader.rev
    return election


async def _proclaim(client: Client, request: v3election_pb2.ProclaimRequest) -> Message:
    election = await _resumed(client, request)
    await election.proclaim(request.value)
    return v3election_pb2.ProclaimResponse(header=_header(election.header))


async def _resign(client: Client, request: v3election_pb2.ResignRequest) -> Message:
    election = await _resumed(client, request)
    await election.resign()
    return v3election_pb2.ResignResponse(header=_header(election.header))


async def _leader(client: Client, request: v3election_pb2.LeaderRequest) -> Message:
    found = await client.kv.get(
        request.name + b"/",
        prefix=True,
        limit=1,
        sort_order=rpc.RangeRequest.ASCEND,
        sort_target=rpc.RangeRequest.CREATE,
    )
    if not found.kvs:
        raise NoElectionLeaderError
    return v3election_pb2.LeaderResponse(header=_header(found.header), kv=_key_value(found.kvs[0]))


class _Observing:
    """A stream of leaders; the first message says of which election."""

    def __init__(self, call: Call, tasks: _Tasks) -> None:
        self._call = call
        self._tasks = tasks
        self._has_begun = False

    def on_message(self, raw: bytes) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        name = decode(v3election_pb2.LeaderRequest, raw).name
        call = self._call

        async def tell(client: Client) -> None:
            async for found in observe(client, name):
                answer = v3election_pb2.LeaderResponse(header=_header(found.header), kv=_key_value(found.kvs[0]))
                call.send(answer.SerializeToString())

        self._tasks.start(call, tell)

    def on_half_close(self) -> None:
        """A request of one message has only this end."""

    def on_cancel(self) -> None:
        """The task hears of it by the call."""
