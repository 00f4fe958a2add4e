"""What this member asks others, outside of raft: each question is asked once at every URL until one answers.

Source: etcd cluster_util.go, leasehttp/http.go, corrupt.go (HashByRev); of 3.5.33.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from balsad import go_json
from balsad.config import Url, parse_url
from balsad.errors import (
    ClusterIDMismatchError,
    CompactedError,
    FutureRevError,
    LearnerNotReadyError,
    LeaseNotFoundError,
    MemberNotFoundError,
    MemberNotLearnerError,
    RequestTimedOutError,
)
from balsad.membership import Member, MemberFormatError, decode_members, format_id, parse_id, peer_text
from balsad.observe.logs import get_logger
from balsad.peer.backend import HashKv, LeaseTimes
from balsad.peer.greeting import CLUSTER_ID, CLUSTER_ID_MISMATCH
from balsad.peer.http_client import Answer, Dialer, HttpClient, RequestFailedError
from balsad.proto import lease_pb2, rpc_pb2

if TYPE_CHECKING:
    from balsad.peer.tls import PeerTls

log = get_logger(__name__)

QUESTION_S_MAX: Final = 10.0
MEMBERS_BYTES_MAX: Final = 16 << 20
_PROTOBUF: Final = {"Content-Type": "application/protobuf"}


class PeerQuestionError(Exception):
    """Nobody answered, or nobody as expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCluster:
    """A cluster as one of its members describes it."""

    cluster_id: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What another member runs, and what its cluster has agreed on (`not_decided` at first)."""

    server: str
    cluster: str


class PeerClient:
    """Asks other members. Peer URLs are texts; what is no URL counts as one that does not answer."""

    def __init__(self, tls: PeerTls | None = None, *, dial_timeout_s: float = 2.0) -> None:
        self._client = HttpClient(Dialer(tls, dial_timeout_s))

    def close(self) -> None:
        """Drop the connections kept for later questions."""
        self._client.close()

    async def get_cluster_from_peers(
        self, urls: Iterable[str], *, timeout_s: float = QUESTION_S_MAX, log_errors: bool = True
    ) -> RemoteCluster:
        """The cluster of the first that answers. Raises: PeerQuestionError."""
        for url in urls:
            address = f"{url}/members"
            fields: dict[str, object] = {"address": address}
            problem = "failed to get cluster response"
            try:
                answer = await self._ask("GET", url, "/members", timeout_s=timeout_s)
                problem = "failed to unmarshal cluster response"
                members = decode_members(answer.body)
                problem = "failed to parse cluster ID"
                header = answer.headers.get(CLUSTER_ID.lower(), "")
                fields["header"] = header
                cluster_id = parse_id(header)
            except (RequestFailedError, MemberFormatError, ValueError) as error:
                if log_errors:
                    log.warning(problem, extra={**fields, "error": error})
                continue
            if not members:
                raise PeerQuestionError("failed to get raft cluster member(s) from the given URLs")
            return RemoteCluster(cluster_id=cluster_id, members=tuple(members))
        raise PeerQuestionError("could not retrieve cluster information from the given URLs")

    async def get_versions(
        self, members: Iterable[Member], *, timeout_s: float = QUESTION_S_MAX
    ) -> dict[int, Versions | None]:
        """The versions of these members by id, None of those that do not tell."""
        asked = list(members)
        answers = await asyncio.gather(*(self._version_of(member, timeout_s) for member in asked))
        return {member.id: versions for member, versions in zip(asked, answers, strict=True)}

    async def is_downgrade_enabled(self, members: Iterable[Member], *, timeout_s: float = QUESTION_S_MAX) -> bool:
        """Whether the cluster is being downgraded, as the first of these members says; False when none does."""
        for member in members:
            fields: dict[str, object] = {"remote-member-id": format_id(member.id)}
            for url in member.peer_urls:
                try:
                    answer = await self._ask("GET", url, "/downgrade/enabled", timeout_s=timeout_s)
                    return _flag(answer.body)
                except (RequestFailedError, ValueError) as error:
                    log.warning(
                        "failed to get downgrade enabled status",
                        extra={"address": f"{url}/downgrade/enabled", **fields, "error": error},
                    )
        return False

    async def renew_lease(self, urls: Iterable[str], lease_id: int, *, timeout_s: float = QUESTION_S_MAX) -> int:
        """Have the leader renew a lease; gives its TTL in seconds.

        Raises: LeaseNotFoundError; RequestTimedOutError when the leader lags behind; PeerQuestionError.
        """
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()

        def read(answer: Answer) -> int:
            _check_lease_answer(answer)
            renewed = rpc_pb2.LeaseKeepAliveResponse.FromString(answer.body)
            if lease_id != renewed.ID:
                raise PeerQuestionError("lease: renew id mismatch")
            return renewed.TTL

        last: Exception = PeerQuestionError("no peer URLs")
        for url in urls:
            try:
                return read(await self._ask("POST", url, "/leases", _PROTOBUF, request, timeout_s=timeout_s))
            except (RequestFailedError, PeerQuestionError, DecodeError, RequestTimedOutError) as error:
                last = error
        raise _as_question_error(last)

    async def lease_time_to_live(
        self, urls: Iterable[str], lease_id: int, keys: bool, *, timeout_s: float = QUESTION_S_MAX
    ) -> LeaseTimes:
        """What the leader knows of a lease.

        Raises: LeaseNotFoundError; RequestTimedOutError when the leader lags behind; PeerQuestionError.
        """
        wanted = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        request = lease_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=wanted).SerializeToString()

        def read(answer: Answer) -> LeaseTimes:
            _check_lease_answer(answer)
            found = lease_pb2.LeaseInternalResponse.FromString(answer.body).LeaseTimeToLiveResponse
            if lease_id != found.ID:
                raise PeerQuestionError("lease: renew id mismatch")
            return LeaseTimes(ttl_s=found.TTL, granted_ttl_s=found.grantedTTL, keys=tuple(found.keys))

        last: Exception = PeerQuestionError("no peer URLs")
        for url in urls:
            try:
                return read(await self._ask("POST", url, "/leases/internal", _PROTOBUF, request, timeout_s=timeout_s))
            except (RequestFailedError, PeerQuestionError, DecodeError, RequestTimedOutError) as error:
                last = error
        raise _as_question_error(last)

    async def promote_member(
        self, urls: Iterable[str], member_id: int, *, token: str = "", timeout_s: float = QUESTION_S_MAX
    ) -> list[Member]:
        """Have the leader promote a learner on behalf of the user of `token`; gives the members after it.

        Raises: MemberNotFoundError, MemberNotLearnerError, LearnerNotReadyError, RequestTimedOutError,
        PeerQuestionError.
        """
        headers = {"Authorization": token} if token else {}
        last: Exception = PeerQuestionError("no peer URLs")
        for url in urls:
            try:
                answer = await self._ask("POST", url, f"/members/promote/{member_id}", headers, timeout_s=timeout_s)
                _check_promotion(answer)
                return decode_members(answer.body)
            except (RequestFailedError, PeerQuestionError, MemberFormatError) as error:
                last = error
        raise _as_question_error(last)

    async def hashkv(
        self, urls: Iterable[str], revision: int, cluster_id: int, *, timeout_s: float = QUESTION_S_MAX
    ) -> HashKv:
        """Another member's hash at `revision`.

        Raises: CompactedError, FutureRevError, ClusterIDMismatchError, PeerQuestionError.
        """
        headers = {"Content-Type": "application/json", CLUSTER_ID: format_id(cluster_id)}
        body = b'{"revision":%d}' % revision if revision else b"{}"
        last: Exception = PeerQuestionError("no peer URLs")
        for url in urls:
            try:
                answer = await self._ask("GET", url, "/members/hashkv", headers, body, timeout_s=timeout_s)
                return _hash_of(answer)
            except (RequestFailedError, PeerQuestionError) as error:
                last = error
        raise _as_question_error(last)

    async def _version_of(self, member: Member, timeout_s: float) -> Versions | None:
        problem: Exception = PeerQuestionError("no peer URLs")
        for url in member.peer_urls:
            fields: dict[str, object] = {"address": f"{url}/version", "remote-member-id": format_id(member.id)}
            try:
                answer = await self._ask("GET", url, "/version", timeout_s=timeout_s)
            except RequestFailedError as error:
                problem = error
                log.warning("failed to reach the peer URL", extra={**fields, "error": error})
                continue
            try:
                return _versions_of(answer.body)
            except ValueError as error:
                problem = error
                log.warning("failed to unmarshal response", extra={**fields, "error": error})
        log.warning("failed to get version", extra={"remote-member-id": format_id(member.id), "error": problem})
        return None

    async def _ask(
        self,
        method: str,
        url: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        timeout_s: float,
    ) -> Answer:
        """Raises: RequestFailedError."""
        return await self._client.request(method, _parsed(url), path, headers, body, timeout_s=timeout_s)


def _parsed(url: str) -> Url:
    try:
        return parse_url(url)
    except ValueError as error:
        raise RequestFailedError(str(error)) from error


def _check_lease_answer(answer: Answer) -> None:
    if answer.status == 408:
        raise RequestTimedOutError
    if answer.status == 404:
        raise LeaseNotFoundError
    if answer.status != 200:
        raise PeerQuestionError(f"lease: unknown error({answer.text})")


def _check_promotion(answer: Answer) -> None:
    if answer.status == 200:
        return
    if answer.status == 408:
        raise RequestTimedOutError
    if answer.status == 404:
        raise MemberNotFoundError
    if answer.status == 412:
        for kind in (LearnerNotReadyError, MemberNotLearnerError):
            if peer_text(kind()) in answer.text:
                raise kind
    raise PeerQuestionError(f"member promote: unknown error({answer.text})")


def _hash_of(answer: Answer) -> HashKv:
    text = answer.text
    if answer.status == 400:
        for kind in (CompactedError, FutureRevError):
            if kind.message.removeprefix("etcdserver: ") in text:
                raise kind
    if answer.status == 412 and CLUSTER_ID_MISMATCH in text:
        raise ClusterIDMismatchError
    if answer.status != 200:
        raise PeerQuestionError(f"unknown error: {text}")
    try:
        fields = go_json.loads(answer.body)
        header = fields.get("header") or {}
        return HashKv(
            hash=int(fields.get("hash", 0)),
            current_revision=int(header.get("revision", 0)),
            compact_revision=int(fields.get("compact_revision", 0)),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise PeerQuestionError(f"unknown answer: {text[:64]!r}") from error


def _versions_of(body: bytes) -> Versions:
    """Raises: ValueError."""
    fields = go_json.loads(body)
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, found {body[:64]!r}")
    server, cluster = fields.get("etcdserver", ""), fields.get("etcdcluster", "")
    if not isinstance(server, str) or not isinstance(cluster, str):
        raise ValueError(f"expected versions, found {body[:64]!r}")
    return Versions(server=server, cluster=cluster)


def _flag(body: bytes) -> bool:
    """Raises: ValueError. Source: Go's strconv.ParseBool."""
    if body in (b"1", b"t", b"T", b"true", b"TRUE", b"True"):
        return True
    if body in (b"0", b"f", b"F", b"false", b"FALSE", b"False"):
        return False
    raise ValueError(f"expected true or false, found {body[:64]!r}")


def _as_question_error(error: Exception) -> Exception:
    return error if isinstance(error, (PeerQuestionError, RequestTimedOutError)) else PeerQuestionError(str(error))
