"""What other members ask of this one beside raft: who is in the cluster, leases, hashes, versions.

Source: etcd etcdhttp/peer.go, etcdhttp/base.go (serveVersion), leasehttp/http.go, corrupt.go (hashKVHandler),
server.go (downgradeEnabledHandler); of 3.5.33 where it fixed something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from balsad.config.versions import ETCD_VERSION
from balsad.errors import (
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    RequestError,
)
from balsad.go_json import loads, quote
from balsad.lease import LeaseExpiredError, NotPrimaryError
from balsad.membership import MemberRemovedError, encode_members, format_id, peer_text
from balsad.observe.logs import get_logger
from balsad.peer.exchange import PeerAnswer, PeerRequest, Route
from balsad.peer.greeting import CLUSTER_ID, CLUSTER_ID_MISMATCH
from balsad.proto import lease_pb2, rpc_pb2

if TYPE_CHECKING:
    from balsad.peer.backend import PeerBackend
    from balsad.peer.greeting import Identity
    from balsad.peer.transport import PeerTransport

log = get_logger(__name__)

PROMOTE: Final = "/members/promote/"
APPLY_S_MAX: Final = 1.0
LEASE_BYTES_MAX: Final = 64 << 10
JSON: Final = {"Content-Type": "application/json"}
PROTOBUF: Final = {"Content-Type": "application/protobuf"}

APPLY_TOO_SLOW: Final = "waiting for node to catch up its applied index has timed out"
LEASE_NOT_FOUND: Final = "lease not found"
NOT_PRIMARY: Final = "not a primary lessor"
"""What members say to each other of a lease, in other words than to clients."""


class MemberPages:
    """The handlers beside /raft."""

    def __init__(self, transport: PeerTransport, backend: PeerBackend) -> None:
        self._transport = transport
        self._identity: Identity = transport.identity
        self._backend = backend

    def routes(self) -> dict[str, Route]:
        """By path; those that end in a slash are for all below it."""
        return {
            "/members": Route(self._members),
            PROMOTE: Route(self._promote),
            "/members/hashkv": Route(self._hash_kv),
            "/leases": Route(self._renew, body_bytes_max=LEASE_BYTES_MAX),
            "/leases/internal": Route(self._time_to_live, body_bytes_max=LEASE_BYTES_MAX),
            "/version": Route(self._version),
            "/downgrade/enabled": Route(self._downgrade_enabled),
        }

    # Who and what.

    def _members(self, request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "GET"):
            return
        self._sign(answer)
        answer.respond(200, encode_members(self._backend.members()) + b"\n", JSON)

    def _version(self, request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "GET"):
            return
        cluster = self._backend.cluster_version or "not_decided"
        body = f'{{"etcdserver":{quote(ETCD_VERSION)},"etcdcluster":{quote(cluster)}}}'
        answer.respond(200, body.encode(), JSON)

    def _downgrade_enabled(self, request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "GET"):
            return
        self._sign(answer)

        async def tell() -> None:
            try:
                enabled = await self._backend.is_downgrade_enabled()
            except RequestError as error:
                answer.fail(500, f"failed linearized read: {error.text}")
                return
            answer.respond(200, b"true" if enabled else b"false", {"Content-Type": "text/plain"})

        self._start(tell(), "downgrade status")

    # Promoting a learner.

    def _promote(self, request: PeerRequest, _body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "POST"):
            return
        self._sign(answer)
        name = request.path.removeprefix(PROMOTE)
        if not (name.isascii() and name.isdigit()) or len(name) > 20 or int(name) >> 64:
            answer.fail(404, f"member {name} not found in cluster")
            return
        member_id = int(name)
        token = request.headers.get("authorization", "")

        async def promote() -> None:
            try:
                members = await self._backend.promote_member(member_id, token)
            except RequestError as error:
                _refuse_promotion(answer, error)
                log.warning(
                    "failed to promote a member", extra={"member-id": format_id(member_id), "error": peer_text(error)}
                )
                return
            answer.respond(200, encode_members(members) + b"\n", JSON)

        self._start(promote(), "promote a member")

    # Hashes.

    def _hash_kv(self, request: PeerRequest, body: bytes, answer: PeerAnswer) -> None:
        if not answer.allows(request, "GET"):
            return
        cluster_id = request.headers.get("x-etcd-cluster-id", "")
        if cluster_id and cluster_id != self._identity.cluster_id_text:
            answer.fail(412, CLUSTER_ID_MISMATCH)
            return
        try:
            revision = revision_of(body)
        except ValueError as error:
            log.warning("failed to unmarshal request", extra={"error": error})
            answer.fail(400, "error unmarshalling request")
            return

        async def tell() -> None:
            try:
                found = await self._backend.hash_kv(revision)
            except RequestError as error:
                text = error.text.removeprefix("etcdserver: ")
                log.warning("failed to get hashKV", extra={"requested-revision": revision, "error": text})
                answer.fail(400, text)
                return
            header = f'{{"revision":{found.current_revision}}}' if found.current_revision else "{}"
            fields = [f'"header":{header}']
            if found.hash:
                fields.append(f'"hash":{found.hash}')
            if found.compact_revision:
                fields.append(f'"compact_revision":{found.compact_revision}')
            self._sign(answer)
            answer.respond(200, ("{" + ",".join(fields) + "}").encode(), JSON)

        self._start(tell(), "hash for a peer")

    # Leases.

    def _renew(self, request: PeerRequest, body: bytes, answer: PeerAnswer) -> None:
        if request.method != "POST":
            answer.fail(405, "Method Not Allowed")
            return
        try:
            wanted = rpc_pb2.LeaseKeepAliveRequest.FromString(body)
        except DecodeError:
            answer.fail(400, "error unmarshalling request")
            return

        async def renew() -> None:
            if not await self._catch_up(answer):
                return
            try:
                ttl = await self._backend.renew_lease(wanted.ID)
            except LeaseNotFoundError:
                answer.fail(404, LEASE_NOT_FOUND)
            except NotPrimaryError:
                answer.fail(400, NOT_PRIMARY)
            except (RequestError, LeaseExpiredError) as error:
                answer.fail(400, str(error))
            else:
                renewed = rpc_pb2.LeaseKeepAliveResponse(ID=wanted.ID, TTL=ttl)
                answer.respond(200, renewed.SerializeToString(), PROTOBUF)

        self._start(renew(), "renew a lease")

    def _time_to_live(self, request: PeerRequest, body: bytes, answer: PeerAnswer) -> None:
        if request.method != "POST":
            answer.fail(405, "Method Not Allowed")
            return
        try:
            wanted = lease_pb2.LeaseInternalRequest.FromString(body).LeaseTimeToLiveRequest
        except DecodeError:
            answer.fail(400, "error unmarshalling request")
            return

        async def tell() -> None:
            if not await self._catch_up(answer):
                return
            try:
                lease = self._backend.lease_times(wanted.ID, with_keys=wanted.keys)
            except LeaseNotFoundError:
                answer.fail(404, LEASE_NOT_FOUND)
                return
            except NotPrimaryError:
                answer.fail(500, NOT_PRIMARY)
                return
            times = rpc_pb2.LeaseTimeToLiveResponse(
                header=rpc_pb2.ResponseHeader(), ID=wanted.ID, TTL=lease.ttl_s, grantedTTL=lease.granted_ttl_s
            )
            if wanted.keys:
                times.keys.extend(lease.keys)
            found = lease_pb2.LeaseInternalResponse(LeaseTimeToLiveResponse=times)
            answer.respond(200, found.SerializeToString(), PROTOBUF)

        self._start(tell(), "times of a lease")

    async def _catch_up(self, answer: PeerAnswer) -> bool:
        """Wait until what is committed is applied; False when that takes too long, which is answered here."""
        try:
            async with asyncio.timeout(APPLY_S_MAX):
                await self._backend.wait_applied()
        except TimeoutError:
            answer.fail(408, APPLY_TOO_SLOW)
            return False
        return True

    # All of them.

    def _sign(self, answer: PeerAnswer) -> None:
        answer.headers[CLUSTER_ID] = self._identity.cluster_id_text

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._transport.errands.start(work, name)


def revision_of(body: bytes) -> int:
    """The revision in `{"revision":N}`, 0 without one. Raises: ValueError. Source: Go's encoding/json."""
    fields = loads(body)
    if fields is None:
        return 0
    if not isinstance(fields, dict):
        raise ValueError("expected a JSON object")
    revision = 0
    for name, value in fields.items():
        # Go takes names in any case.
        if name.lower() != "revision" or value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"expected a number of 64 bits as revision, found {value!r}")
        revision = value
    return revision


def _refuse_promotion(answer: PeerAnswer, error: RequestError) -> None:
    if isinstance(error, MemberNotFoundError) and not isinstance(error, MemberRemovedError):
        answer.fail(404, peer_text(error))
    elif isinstance(error, (MemberNotLearnerError, LearnerNotReadyError)):
        answer.fail(412, peer_text(error))
    else:
        log.warning("unexpected v2 response error", extra={"internal-server-error": error.text})
        answer.fail_as_json(500, "Internal Server Error")
