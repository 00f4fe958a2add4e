"""What a member says of itself when it starts, and the cluster version its leader decides.

Both are v2 requests in the log, as etcd up to 3.5 writes them, so that members
of that age understand them.

Source: etcd server/etcdserver/server.go (publish, monitorVersions, updateClusterVersionV2).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.errors import RequestError, StoppedError
from balsad.membership import (
    VERSION_PATH,
    Attributes,
    Version,
    attributes_path,
    decide_cluster_version,
    encode_attributes,
    format_id,
    next_cluster_version,
)
from balsad.v2store import Request, encode_request

if TYPE_CHECKING:
    from balsad.server.propose import Result
    from balsad.server.service import Service

log = logging.getLogger(__name__)

AskVersions = Callable[[Callable[[list[str | None]], None]], None]
"""Hands over the server versions of all members, None of those that do not tell."""


def v2_put(request_id: int, path: str, value: str) -> bytes:
    """The log entry of a v2 PUT."""
    return encode_request(Request(id=request_id, method="PUT", path=path, val=value))


class Publisher:
    """Publishes name and client URLs until the cluster has heard them; then `ready` is called, once."""

    def __init__(self, service: Service, attributes: Attributes, ready: Callable[[], None]) -> None:
        self._service = service
        self._attributes = attributes
        self._ready: Callable[[], None] | None = ready
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        service = self._service
        request_id = service.next_id()
        path = attributes_path(service.member_id)
        data = v2_put(request_id, path, encode_attributes(self._attributes))

        def done(result: Result) -> None:
            if isinstance(result, StoppedError) or self._ready is None:
                return
            if isinstance(result, RequestError):
                log.warning("failed to publish local member to cluster through raft", extra={"error": result.text})
                self._loop.call_later(0.1, self.start)
                return
            log.info(
                "published local member to cluster through raft",
                extra={
                    "local-member-id": format_id(service.member_id),
                    "local-member-attributes": encode_attributes(self._attributes),
                    "request-path": path,
                    "cluster-id": format_id(service.cluster_id),
                },
            )
            ready, self._ready = self._ready, None
            ready()

        try:
            service.propose_raw(data, request_id, done)
        except RequestError as error:
            done(error)

    def after_snapshot(self) -> None:
        """A leader's snapshot came in: if it holds what was published nobody will answer, so publish again.

        The real etcd waits out the request's timeout here, seven seconds by default.
        """
        if self._ready is not None:
            self.start()


class VersionMonitor:
    """The leader's care for the cluster version: it follows the oldest member."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._proposed: Version | None = None
        # Hands over the server versions of all members, where there are others.
        self.ask_others: AskVersions | None = None

    def check(self) -> None:
        """Propose a new cluster version, if one is due."""
        if not self._service.driver.is_leader:
            return
        if self.ask_others is None or len(self._service.members()) < 2:
            self._decide([str(self._service.cluster.server_version)])
        else:
            self.ask_others(self._decide)

    def _decide(self, server_versions: list[str | None]) -> None:
        service = self._service
        if not service.driver.is_leader:
            return
        current = service.cluster.version
        wanted = next_cluster_version(current, decide_cluster_version(server_versions))
        if wanted is None or wanted in (current, self._proposed):
            return
        self._proposed = wanted
        if current is None:
            log.info("setting up initial cluster version using v2 API", extra={"cluster-version": wanted.short()})
        else:
            log.info("updating cluster version using v2 API", extra={"from": current.short(), "to": wanted.short()})
        request_id = service.next_id()

        def done(result: Result) -> None:
            self._proposed = None
            if isinstance(result, StoppedError):
                return
            if isinstance(result, RequestError):
                log.warning("failed to update cluster version", extra={"error": result.text})
            else:
                log.info("cluster version is updated", extra={"cluster-version": wanted.short()})

        try:
            service.propose_raw(v2_put(request_id, VERSION_PATH, str(wanted)), request_id, done)
        except RequestError as error:
            done(error)
