"""From flags to the initial cluster: by DNS, by a registry in another etcd, or by the URL of an older one.

    --discovery-srv                            SRV records name all members
    --discovery-endpoints, --discovery-token   each registers under the token and waits until enough have (v3)
    --discovery URL                            the same in the keys of etcd's API v2

Source: etcd server/embed/config.go (PeerURLsMapAndToken), server/etcdserver/bootstrap.go, etcdmain/etcd.go.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Final

from balsad.config import ClusterFullError, StartError, format_url_map, parse_url_map
from balsad.discovery import by_registry, by_srv, by_url
from balsad.discovery.refusals import DUPLICATE_ID, DUPLICATE_NAME, FULL, DiscoveryError
from balsad.membership import format_id, new_member
from balsad.observe.logs import get_logger

if TYPE_CHECKING:
    from balsad.config import ServerConfig

log = get_logger(__name__)

_FALLBACK: Final = "proxy"


def discovers(config: ServerConfig) -> bool:
    """Whether the cluster is to be found by a registry, of either kind."""
    return bool(config.discovery or config.discovery_endpoints)


async def find_initial_cluster(config: ServerConfig) -> ServerConfig:
    """The configuration with the cluster in it that discovery finds; as it is when its flags name the cluster.

    Waits for the other members. Raises: StartError.
    """
    if config.discovery_srv:
        try:
            found = await asyncio.to_thread(by_srv.cluster_by_srv, config)
        except StartError as problem:
            raise StartError(f"error setting up initial cluster: {problem}") from None
        return dataclasses.replace(config, initial_cluster=found)
    if not discovers(config):
        return config
    token = config.discovery or config.discovery_token
    if not config.is_new_cluster:
        what = "URL" if config.discovery else "endpoints"
        raise StartError(f"discovery {what} should not be set when joining existing initial cluster")
    try:
        found = await _join(config, token)
    except DiscoveryError as refusal:
        if refusal.reason == FULL and config.discovery and config.discovery_fallback == _FALLBACK:
            log.warning(
                "discovery cluster is full, falling back to proxy",
                extra={"fallback-proxy": _FALLBACK, "error": str(refusal)},
            )
            raise ClusterFullError(str(refusal)) from refusal
        _advise(config, token, refusal)
        raise
    try:
        peers = parse_url_map(found)
    except ValueError as problem:
        raise StartError(str(problem)) from None
    urls = [str(url) for each in peers.values() for url in each]
    if len(set(urls)) != len(urls):
        raise StartError(f"discovery cluster {format_url_map(peers)} has duplicate url")
    return dataclasses.replace(config, initial_cluster=found, initial_cluster_token=token)


async def find_members(config: ServerConfig) -> ServerConfig:
    """The configuration with the cluster in it that the registry at `--discovery` knows; its own place is in none.

    Waits until all have registered. Raises: StartError.
    """
    return dataclasses.replace(config, initial_cluster=await by_url.members(config))


async def _join(config: ServerConfig, token: str) -> str:
    """Raises: DiscoveryError, StartError."""
    urls = [str(url) for url in config.initial_advertise_peer_urls]
    member_id = format_id(new_member(config.name, urls, token).id)
    own = format_url_map({config.name: config.initial_advertise_peer_urls})
    if config.discovery:
        log.warning("V2 discovery is deprecated!")
        join = by_url.join(config, member_id, own)
    else:
        log.info("Bootstrapping cluster using v3 discovery.")
        join = by_registry.join(config, member_id, own)
    facts = {"discovery-token": token, "member-id": member_id}
    try:
        found = await join
    except StartError as refusal:
        log.error("discovery failed to join cluster", extra={**facts, "error": str(refusal)})
        raise
    log.info("discovery joined cluster successfully", extra={**facts, "cluster": found})
    return found


def _advise(config: ServerConfig, token: str, refusal: DiscoveryError) -> None:
    """What an operator can do about it."""
    facts = {"discovery-token": token, "error": refusal.reason}
    if refusal.reason == DUPLICATE_ID:
        log.warning("member has been registered with discovery service", extra={"name": config.name, **facts})
        log.warning("but could not find valid cluster configuration", extra={"data-dir": config.data_dir})
        log.warning("check data dir if previous bootstrap succeeded")
        log.warning("or use a new discovery token if previous bootstrap failed")
    elif refusal.reason == DUPLICATE_NAME:
        log.warning("member with duplicated name has already been registered", extra=facts)
        log.warning("do not reuse discovery token; generate a new one to bootstrap a cluster")
    else:
        log.warning("failed to bootstrap; discovery token was already used", extra=facts)
        log.warning("do not reuse discovery token; generate a new one to bootstrap a cluster")
