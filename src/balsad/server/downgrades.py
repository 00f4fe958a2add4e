"""Taking a cluster one minor version down: asked for, judged, put on record in the log, and over once all are there.

    VALIDATE   could it begin?
    ENABLE     from now on members of the version below may join, and the cluster version follows them
    CANCEL     by an operator; or by the leader, when every member runs the target version

Source: etcd server/etcdserver/v3_server.go (Downgrade), server.go (monitorDowngrade); version/monitor.go of 3.6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.errors import (
    ClusterVersionUnavailableError,
    DowngradeInProcessError,
    InvalidDowngradeTargetVersionError,
    NoInflightDowngradeError,
    RequestError,
    WrongDowngradeVersionFormatError,
)
from balsad.membership import Version, allowed_downgrade, parse_cluster_version
from balsad.proto import membership_pb2

if TYPE_CHECKING:
    from balsad.server.publish import AskVersions
    from balsad.server.service import Service

log = logging.getLogger(__name__)

Done = Callable[[RequestError | None], None]


class Downgrades:
    def __init__(self, service: Service) -> None:
        self._service = service
        # Hands over the server versions of all members, where there are others.
        self.ask_others: AskVersions | None = None
        self._cancelling = False

    def validate(self, version: str, done: Done) -> None:
        """Raises: WrongDowngradeVersionFormatError."""
        target = _parsed(version)
        # What was decided elsewhere a moment ago counts.
        self._service.linearize(lambda error: done(error or self._refusal(target)))

    def enable(self, version: str, done: Done) -> None:
        """Raises: WrongDowngradeVersionFormatError."""
        target = _parsed(version)

        def go_on(error: RequestError | None) -> None:
            error = error or self._refusal(target)
            if error is None:
                self._propose(membership_pb2.DowngradeInfoSetRequest(enabled=True, ver=str(target)), finish)
            else:
                finish(error)

        def finish(error: RequestError | None) -> None:
            if error is not None:
                log.warning("reject downgrade request", extra={"error": error.text})
            done(error)

        self._service.linearize(go_on)

    def cancel(self, done: Done) -> None:
        def go_on(error: RequestError | None) -> None:
            if error is None and not self._service.cluster.downgrade.enabled:
                error = NoInflightDowngradeError()
            if error is None:
                self._propose(membership_pb2.DowngradeInfoSetRequest(enabled=False), done)
            else:
                done(error)

        self._service.linearize(go_on)

    def _refusal(self, target: Version) -> RequestError | None:
        cluster = self._service.cluster
        if cluster.version is None:
            return ClusterVersionUnavailableError()
        if target != allowed_downgrade(cluster.version):
            return InvalidDowngradeTargetVersionError()
        if cluster.downgrade.enabled:
            return DowngradeInProcessError()
        return None

    def _propose(self, request: membership_pb2.DowngradeInfoSetRequest, done: Done) -> None:
        def finish(result: object) -> None:
            done(result if isinstance(result, RequestError) else None)

        try:
            self._service.propose("downgrade_info_set", request, finish)
        except RequestError as error:
            done(error)

    # The leader's care.

    def check(self) -> None:
        """End the downgrade, if there is one and every member is where it leads to."""
        service = self._service
        if not service.driver.is_leader or not service.cluster.downgrade.enabled or self._cancelling:
            return
        if self.ask_others is None or len(service.members()) < 2:
            self._decide([str(service.cluster.server_version)])
        else:
            self.ask_others(self._decide)

    def _decide(self, server_versions: list[str | None]) -> None:
        service = self._service
        target = service.cluster.downgrade.target_version
        if target is None or not service.driver.is_leader or not all(_runs(text, target) for text in server_versions):
            return
        log.info("the cluster has been downgraded", extra={"cluster-version": str(target)})
        self._cancelling = True
        self.cancel(self._on_cancelled)

    def _on_cancelled(self, error: RequestError | None) -> None:
        self._cancelling = False
        if error is not None:
            log.warning("failed to cancel downgrade", extra={"error": error.text})


def _parsed(version: str) -> Version:
    try:
        return parse_cluster_version(version)
    except ValueError:
        raise WrongDowngradeVersionFormatError from None


def _runs(text: str | None, target: Version) -> bool:
    if text is None:
        return False
    try:
        return Version.parse(text).minor_only() == target.minor_only()
    except ValueError:
        return False
