"""What a member without a log asks others before it begins: who is there, and may it take part?

    founding   is its place taken? It may have lost its disk, and would vote a second time in elections it voted in
    joining    the cluster as one of its members tells, at a version that this server can serve

Source: etcd server/etcdserver/cluster_util.go (isMemberBootstrapped, isCompatibleWithCluster), server.go (NewServer).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from balsad.config import ServerConfig, StartError, check_join
from balsad.config.versions import ETCD_VERSION
from balsad.membership import Cluster, Member, Version, allowed_range, format_id, is_compatible
from balsad.observe.logs import get_logger
from balsad.peer.questions import PeerClient, PeerQuestionError
from balsad.server.bootstrap import ExistingCluster, found_cluster, join_cluster

log = get_logger(__name__)

BOOTSTRAPPED_S_MAX: Final = 1.0
"""How long each of the others may take to say who is in the cluster, which may not be there yet."""


async def check_not_bootstrapped(config: ServerConfig, asker: PeerClient) -> None:
    """Refuse to found what was founded already, with this very member in it. Raises: StartError."""
    cluster = found_cluster(config)
    urls = _urls_of_others(config)
    try:
        running = await asker.get_cluster_from_peers(urls, timeout_s=BOOTSTRAPPED_S_MAX, log_errors=False)
    except PeerQuestionError:
        return
    if any(member.id == cluster.local_id and member.client_urls for member in running.members):
        raise StartError(f"member {format_id(cluster.local_id)} has already been bootstrapped")


async def find_cluster(config: ServerConfig, asker: PeerClient) -> ExistingCluster:
    """The running cluster that this member is to join, as one of its members tells. Raises: StartError."""
    check_join(config)
    try:
        found = await asker.get_cluster_from_peers(_urls_of_others(config))
    except PeerQuestionError as error:
        raise StartError(f"cannot fetch cluster info from peer urls: {error}") from None
    existing = ExistingCluster(found.cluster_id, list(found.members))
    joined = join_cluster(config, existing)
    await _check_compatible(joined, asker)
    return existing


async def _check_compatible(cluster: Cluster, asker: PeerClient) -> None:
    others = [member for member in cluster.members() if member.id != cluster.local_id]
    versions = await asker.get_versions(others)
    told = {member_id: None if found is None else found.cluster for member_id, found in versions.items()}
    lowest, highest = allowed_range(Version.parse(ETCD_VERSION), await asker.is_downgrade_enabled(others))
    if not is_compatible(told, lowest, highest):
        log.warning(
            "cluster version of remote members is not compatible",
            extra={
                "remote-cluster-versions": _told(others, told),
                "minimum-cluster-version-supported": str(lowest),
                "maximum-cluster-version-supported": str(highest),
            },
        )
        raise StartError("incompatible with current running cluster")


def _told(members: Iterable[Member], versions: dict[int, str | None]) -> dict[str, str]:
    return {format_id(member.id): versions[member.id] or "unknown" for member in members}


def _urls_of_others(config: ServerConfig) -> list[str]:
    names = config.initial_cluster_urls()
    return sorted(str(url) for name, urls in names.items() if name != config.name for url in urls)
