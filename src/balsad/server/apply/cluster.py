"""The entries that say who is in the cluster, and those of the v2 tree, where members publish themselves.

Source: etcd server/etcdserver/server.go (applyConfChange), apply_v2.go.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from balsad.config.versions import ETCD_VERSION
from balsad.errors import RequestError
from balsad.membership import (
    Attributes,
    Cluster,
    Downgrade,
    MemberChange,
    MemberRemoved,
    MemberUpdated,
    Version,
    decode_attributes,
    format_id,
    parse_cluster_version,
)
from balsad.raft import ConfChange, ConfChangeV2, ConfState
from balsad.v2store import ClusterVersionPut, MemberAttributesPut, Outcome, V2Error, apply_request, decode_request

if TYPE_CHECKING:
    from balsad.env import Clock
    from balsad.server.propose import Result
    from balsad.v2store import Request
    from balsad.v2store import Store as V2Store

log = logging.getLogger(__name__)

EXPIRED_AT_ONCE: Final = 1000
"""v2 keys that a SYNC deletes in one turn of the event loop: 6 ms."""
_CLUSTER_FIELDS = frozenset(
    ("cluster_version_set", "cluster_member_attr_set", "downgrade_info_set", "downgrade_version_test")
)


def note_capabilities(version: Version) -> None:
    """The line by which scripts tell that a cluster has formed. Source: server/etcdserver/api/capability.go."""
    log.info("enabled capabilities for version", extra={"cluster-version": version.short()})


def note_start(cluster: Cluster) -> None:
    """Who starts, and of which version its cluster is known to be. Source: server/etcdserver/server.go."""
    version = cluster.version
    if version is not None:
        note_capabilities(version)
    log.info(
        "starting etcd server",
        extra={
            "local-member-id": format_id(cluster.local_id),
            "local-server-version": ETCD_VERSION,
            "cluster-version": "to_be_decided" if version is None else version.short(),
        },
    )


class ClusterApplier:
    def __init__(self, cluster: Cluster, tree: V2Store, clock: Clock) -> None:
        """`clock` only tells how long a v2 key has left when somebody looks; it decides nothing."""
        self.cluster = cluster
        self.tree = tree
        self._clock = clock
        self.last_v2_method = ""
        self.last_v2_failed = False
        """Of the request that was applied last."""
        self.expired_at_once = EXPIRED_AT_ONCE
        self._expiry: Iterator[bytes] | None = None
        self.on_v2_outcome: Callable[[int, Outcome], None] | None = None
        self.on_removed: Callable[[], None] | None = None  # this very member was removed
        self.on_change: Callable[[MemberChange], None] | None = None
        self.on_version: Callable[[Version], None] | None = None

    def apply_request(self, field: str, request: Any, is_new: bool) -> Result | None:
        """What an InternalRaftRequest changes in the cluster; None for a request about anything else."""
        if field not in _CLUSTER_FIELDS:
            return None
        if field == "cluster_version_set":
            self._set_version(request.ver, is_new)
        elif field == "cluster_member_attr_set":
            attributes = request.member_attributes
            self._set_attributes(
                request.member_ID,
                Attributes(name=attributes.name, client_urls=tuple(attributes.client_urls)),
                is_new,
            )
        elif field == "downgrade_info_set":
            downgrade = Downgrade(target=request.ver, enabled=True) if request.enabled else Downgrade()
            self.cluster.set_downgrade(downgrade, apply_v3=is_new)
            if downgrade.enabled:
                versions = {"target-version": downgrade.target, "server-version": ETCD_VERSION}
                log.info("The server is ready to downgrade", extra=versions)
        # The version test changes nothing: who can read it has passed.
        return b""

    def apply_conf_change(
        self,
        change: ConfChange | ConfChangeV2,
        apply_to_raft: Callable[[ConfChange | ConfChangeV2], ConfState],
        is_new: bool,
    ) -> tuple[Result, ConfState]:
        """Judge the change, then tell raft and the membership of it, or tell raft that it was refused."""
        if isinstance(change, ConfChangeV2):
            return b"", apply_to_raft(change)
        try:
            self.cluster.validate(change)
        except RequestError as refusal:
            change.node_id = 0
            return refusal, apply_to_raft(change)
        conf_state = apply_to_raft(change)
        outcome = self.cluster.apply(change, apply_v3=is_new)
        if self.on_change is not None:
            self.on_change(outcome)
        if isinstance(outcome, MemberRemoved):
            if outcome.member_id == self.cluster.local_id and self.on_removed is not None:
                self.on_removed()
        elif not isinstance(outcome, MemberUpdated):
            log.info(
                "added member",
                extra={
                    "cluster-id": format_id(self.cluster.cluster_id),
                    "local-member-id": format_id(self.cluster.local_id),
                    "added-peer-id": format_id(outcome.member.id),
                    "added-peer-peer-urls": list(outcome.member.peer_urls),
                },
            )
        return b"", conf_state

    def apply_v2(self, data: bytes, is_new: bool) -> tuple[int, Result]:
        """Apply a v2 Request to the tree; its id and an empty answer, or the refusal."""
        request = decode_request(data)
        self.last_v2_method = request.method
        before = self.tree.current_index
        # What the backend has already is applied in one piece.
        outcome = apply_request(
            self.tree, request, int(self._clock.time() * 1e9), self.expired_at_once if is_new else sys.maxsize
        )
        if is_new and request.method == "SYNC" and self.tree.current_index - before == self.expired_at_once:
            self._expiry = self._expire(request)
        self.last_v2_failed = isinstance(outcome, (V2Error, RequestError))
        if isinstance(outcome, MemberAttributesPut):
            self._set_attributes(outcome.member_id, decode_attributes(outcome.value), is_new)
        elif isinstance(outcome, ClusterVersionPut):
            self._set_version(outcome.version, is_new)
        elif isinstance(outcome, RequestError):
            return request.id, outcome
        elif self.on_v2_outcome is not None:
            self.on_v2_outcome(request.id, outcome)
        return request.id, b""

    def _expire(self, request: Request) -> Iterator[bytes]:
        """The rest of a SYNC, some keys at a time: whoever looks meanwhile sees the tree at one of its indices."""
        expired = self.expired_at_once
        while expired == self.expired_at_once:
            yield b""
            before = self.tree.current_index
            apply_request(self.tree, request, int(self._clock.time() * 1e9), self.expired_at_once)
            expired = self.tree.current_index - before

    def take_expiry(self) -> Iterator[bytes] | None:
        """What there is to do yet of the SYNC that was applied just now."""
        expiry, self._expiry = self._expiry, None
        return expiry

    def _set_attributes(self, member_id: int, attributes: Attributes, is_new: bool) -> None:
        self.cluster.update_attributes(member_id, attributes, apply_v3=is_new)

    def _set_version(self, text: str, is_new: bool) -> None:
        version = parse_cluster_version(text)
        before = self.cluster.version
        self.cluster.set_version(version, apply_v3=is_new)
        what = "set initial cluster version" if before is None else "updated cluster version"
        log.info(
            what,
            extra={
                "cluster-id": format_id(self.cluster.cluster_id),
                "local-member-id": format_id(self.cluster.local_id),
                "cluster-version": version.short(),
            },
        )
        if version != before:
            note_capabilities(version)
        if self.on_version is not None:
            self.on_version(version)
