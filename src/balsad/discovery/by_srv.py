"""The members that DNS names: SRV records of `_etcd-server-ssl._tcp.DOMAIN` and `_etcd-server._tcp.DOMAIN`.

A record whose address is one that this member advertises is this member, and gets its name; the others are numbered.

Source: etcd client/pkg/srv/srv.go (GetCluster), server/embed/config.go (GetDNSClusterNames).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from balsad.config import StartError, parse_url_map
from balsad.dns_srv import LookupFailedError, SrvRecord, look_up_srv
from balsad.go_quote import quote_go
from balsad.observe.logs import get_logger

if TYPE_CHECKING:
    from balsad.config import ServerConfig

log = get_logger(__name__)

LookUp = Callable[[str], list[SrvRecord]]
Resolve = Callable[[str, int], tuple[str, int]]
"""Address and port of a host name and port. Raises: OSError."""


def cluster_by_srv(config: ServerConfig, look_up: LookUp | None = None, resolve: Resolve | None = None) -> str:
    """The initial cluster, as `--initial-cluster` would name it. Blocks. Raises: StartError."""
    look_up = look_up_srv if look_up is None else look_up
    resolve = _resolve if resolve is None else resolve
    suffix = f"-{config.discovery_srv_name}" if config.discovery_srv_name else ""
    found: list[str] = []
    problems: list[str] = []
    for service, scheme, message in (
        (f"etcd-server-ssl{suffix}", "https", "get cluster for etcd-server-ssl SRV"),
        (f"etcd-server{suffix}", "http", "get cluster for etcd-server SRV"),
    ):
        facts: dict[str, object] = {
            "service-scheme": scheme,
            "service-name": service,
            "server-name": config.name,
            "discovery-srv": config.discovery_srv,
            "advertise-peer-urls": [str(url) for url in config.initial_advertise_peer_urls],
        }
        try:
            members = _members(config, service, scheme, look_up, resolve)
        except (StartError, OSError) as problem:
            problems.append(str(problem))
            log.info(message, extra={**facts, "error": str(problem)})
            continue
        log.info(message, extra={**facts, "found-cluster": members})
        found += members
    if problems:
        log.warning("failed to resolve during SRV discovery", extra={"error": "; ".join(problems)})
    if not found:
        raise StartError("; ".join(problems) or "no SRV records name a member")
    for member in found:
        log.info("got bootstrap from DNS for etcd-server", extra={"node": member})
    cluster = ",".join(found)
    try:
        names = parse_url_map(cluster)
    except ValueError as problem:
        raise StartError(str(problem)) from None
    if config.name not in names:
        raise StartError(f"cannot find local etcd member {quote_go(config.name)} in SRV records")
    return cluster


def _members(config: ServerConfig, service: str, scheme: str, look_up: LookUp, resolve: Resolve) -> list[str]:
    """`name=url` of each record that can be resolved. Raises: StartError, OSError."""
    own = {resolve(url.host, url.port_number): url for url in config.initial_advertise_peer_urls}
    try:
        records = look_up(f"_{service}._tcp.{config.discovery_srv}")
    except LookupFailedError as problem:
        raise _query_failed(service, str(problem)) from None
    members: list[str] = []
    last = ""
    unnamed = 0
    for record in records:
        try:
            advertised = own.get(resolve(record.target, record.port))
        except OSError as problem:
            last = str(problem)
            continue
        host = record.target.removesuffix(".")
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{record.port}"
        if advertised is not None and advertised.scheme != scheme:
            last = f"bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {advertised}"
        elif advertised is not None:
            members.append(f"{config.name}={url}")
        else:
            members.append(f"{unnamed}={url}")
            unnamed += 1
    if not members and last:
        raise _query_failed(service, last)
    return members


def _query_failed(service: str, problem: str) -> StartError:
    return StartError(f"error querying DNS SRV records for _{service} {problem}")


def _resolve(host: str, port: int) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as problem:
        reason = "no such host" if problem.errno == socket.EAI_NONAME else str(problem.strerror).lower()
        raise OSError(f"lookup {host}: {reason}") from problem
    # Like Go, the first IPv4 address if there is any.
    address = min(found, key=lambda info: info[0] != socket.AF_INET)[4]
    return str(address[0]), int(address[1])
