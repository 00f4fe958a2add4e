"""How members introduce themselves in the headers of every request, and whom they turn away.

A member of another cluster, or of a version that cannot work with this one, gets 412 and learns why.
Source: etcd rafthttp util.go (checkVersionCompatibility), http.go (checkClusterCompatibilityFromHeader).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from balsad.config.versions import ETCD_VERSION, MIN_CLUSTER_VERSION
from balsad.membership import Version, format_id, parse_id
from balsad.observe.logs import get_logger

log = get_logger(__name__)

CLUSTER_ID: Final = "X-Etcd-Cluster-Id"
SERVER_FROM: Final = "X-Server-From"
SERVER_VERSION: Final = "X-Server-Version"
MIN_VERSION: Final = "X-Min-Cluster-Version"
PEER_URLS: Final = "X-Peerurls"
RAFT_TO: Final = "X-Raft-To"
"""As Go writes header names on the wire."""

INCOMPATIBLE_VERSION: Final = "incompatible version"
CLUSTER_ID_MISMATCH: Final = "cluster ID mismatch"

_OLDEST: Final = "2.0.0"
"""What a member is that does not tell its version."""
_LOCAL: Final = Version.parse(ETCD_VERSION)
_LOCAL_MIN: Final = Version.parse(MIN_CLUSTER_VERSION)
# Who speaks these streams: all from 2.1 on.
_STREAMS_SINCE: Final = Version(2, 1)


class Refusal(Exception):
    """The sender of a request is turned away, with a status and a text that it understands."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class BadGreetingError(Exception):
    """A version that is none; etcd breaks the connection off."""


class Identity:
    """Who this member is, as the others see it."""

    __slots__ = ("_common", "cluster_id", "cluster_id_text", "member_id", "member_id_text")

    def __init__(self, member_id: int, cluster_id: int, urls: Iterable[str]) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.member_id_text = format_id(member_id)
        self.cluster_id_text = format_id(cluster_id)
        self._common = {
            CLUSTER_ID: self.cluster_id_text,
            MIN_VERSION: MIN_CLUSTER_VERSION,
            PEER_URLS: ",".join(urls),
            SERVER_FROM: self.member_id_text,
            SERVER_VERSION: ETCD_VERSION,
        }

    def stream_headers(self, to: int) -> dict[str, str]:
        """The headers with which a stream is asked for."""
        return {**self._common, RAFT_TO: format_id(to)}

    def post_headers(self, content_type: str) -> dict[str, str]:
        """The headers of what is posted to /raft and /raft/snapshot."""
        return {"Content-Type": content_type, **self._common}


def check_greeting(identity: Identity, headers: Mapping[str, str]) -> None:
    """Judge a request by its headers (lower-case names).

    Raises: Refusal; BadGreetingError.
    """
    name = headers.get("x-server-from", "")
    server = _version(headers, "x-server-version")
    min_cluster = _version(headers, "x-min-cluster-version")
    fields = {
        "local-member-id": identity.member_id_text,
        "local-member-cluster-id": identity.cluster_id_text,
        "local-member-server-version": ETCD_VERSION,
        "local-member-server-minimum-cluster-version": MIN_CLUSTER_VERSION,
        "remote-peer-server-name": name,
        "remote-peer-server-version": str(server),
        "remote-peer-server-minimum-cluster-version": str(min_cluster),
    }
    too_low = ""
    if server.minor_only() < _LOCAL_MIN.minor_only():
        too_low = "remote"
    elif _LOCAL.minor_only() < min_cluster.minor_only():
        too_low = "local"
    if too_low:
        problem = f"{too_low} version is too low: remote[{name}]={server}, local={ETCD_VERSION}"
        log.warning("failed to check version compatibility", extra={**fields, "error": problem})
        raise Refusal(412, INCOMPATIBLE_VERSION)
    theirs = headers.get("x-etcd-cluster-id", "")
    if theirs != identity.cluster_id_text:
        log.warning("request cluster ID mismatch", extra={**fields, "remote-peer-cluster-id": theirs})
        raise Refusal(412, CLUSTER_ID_MISMATCH)


def speaks_streams(headers: Mapping[str, str]) -> bool:
    """Whether the member that answered with these headers has the streams. Raises: BadGreetingError."""
    return not _version(headers, "x-server-version").minor_only() < _STREAMS_SINCE


def sender_of(headers: Mapping[str, str]) -> tuple[int, list[str]] | None:
    """Id and peer URLs of the member that asks, if it tells both."""
    urls = headers.get("x-peerurls", "")
    try:
        sender = parse_id(headers.get("x-server-from", ""))
    except ValueError:
        return None
    return (sender, urls.split(",")) if urls else None


def _version(headers: Mapping[str, str], name: str) -> Version:
    text = headers.get(name) or _OLDEST
    try:
        return Version.parse(text)
    except ValueError as error:
        raise BadGreetingError(f"{name}: {text[:64]!r}") from error
