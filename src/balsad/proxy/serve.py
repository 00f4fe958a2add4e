"""A proxy from its first socket to its end."""

from __future__ import annotations

import asyncio
import os
from typing import Final
from urllib.parse import urlsplit

from balsad.api import pprof_pages
from balsad.client import Client
from balsad.client.channel import Channel
from balsad.env.descriptors import descriptor_limit
from balsad.errors import RequestError
from balsad.observe.logs import get_logger
from balsad.observe.metrics import Metrics
from balsad.proxy.broadcasts import Ranges
from balsad.proxy.cluster import METHOD, MemberList
from balsad.proxy.kv import KvProxy
from balsad.proxy.member_watches import METHOD as WATCH
from balsad.proxy.namespace import Namespace
from balsad.proxy.pages import Pages
from balsad.proxy.registry import Registry
from balsad.proxy.services import register
from balsad.proxy.settings import RECEIVED_BYTES_MAX, Settings
from balsad.proxy.sockets import bind
from balsad.proxy.upstream import Upstream
from balsad.proxy.watch import WatchStream
from balsad.server.systemd import notify
from balsad.transport import DESCRIPTORS_RESERVED, Limits, RpcServer

BACKOFF_MAX_S: Final = 5.0
"""Between attempts to reach a member: whoever waits behind a proxy waits for that, too."""
_log = get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until cancelled. Raises: StartError."""
    loop = asyncio.get_running_loop()
    server = RpcServer(limits=_limits(settings), scheduler=loop)
    monitoring = RpcServer(limits=_limits(settings), scheduler=loop)
    monitoring.serves_grpc = False
    bound = bind(settings.listen_address)
    _log.info("listening for gRPC proxy client requests", extra={"address": settings.listen_address})
    channel = Channel(loop, settings.endpoints, tls=settings.client_tls, random=_random, backoff_max_s=BACKOFF_MAX_S)
    upstream = Upstream(channel, send_bytes_max=settings.send_bytes_max, receive_bytes_max=settings.receive_bytes_max)
    proxy_client: Client | None = None
    if settings.advertise_client_url:
        proxy_client = Client([settings.advertise_client_url], tls=settings.proxy_tls)
        _log.info("create proxy client", extra={"grpcProxyAdvertiseClientURL": settings.advertise_client_url})
    metrics = Metrics()
    metrics.methods = lambda: server.methods
    client = Client(settings.endpoints, channel=channel)
    pages = Pages(settings, metrics, client, proxy_client)
    server.http = monitoring.http = mux = pages.mux()
    if settings.enable_pprof:
        for path, handler in pprof_pages().items():
            mux.add(path, handler)
        _log.info("gRPC proxy enabled pprof", extra={"path": "/debug/pprof"})
    register(server, upstream)
    namespace = Namespace(settings.namespace)
    KvProxy(upstream, namespace, metrics, is_ordered=settings.is_ordered).register(server)
    ranges = Ranges(upstream, namespace, metrics)
    server.stream(WATCH, lambda call: WatchStream(call, upstream, ranges))
    registry = Registry(
        client, namespace, settings.resolver_prefix, settings.advertise_client_url, settings.resolver_ttl_s
    )
    server.unary(METHOD, MemberList(upstream, settings.advertise_client_url, lambda: registry.members))
    channel.start()
    if settings.resolver_prefix:
        registry.start()
    try:
        if settings.is_ordered:
            await _recover_order(client)
        await server.listen_bound(bound, settings.tls)
        if settings.metrics_url:
            await _listen_for_metrics(monitoring, settings)
        _log.info("started gRPC proxy", extra={"address": settings.listen_address})
        notify()
        await loop.create_future()
    finally:
        pages.close()
        registry.close()
        for listener in (*server.listeners, *monitoring.listeners):
            listener.close()
        await server.drain(0)
        await monitoring.drain(0)
        ranges.close()
        upstream.close()
        await client.close()
        if proxy_client is not None:
            await proxy_client.close()


async def _recover_order(client: Client) -> None:
    """Return once the cluster has told what its present is."""
    _log.info("waiting for linearized read from cluster to recover ordering")
    while True:
        try:
            await client.kv.get("_", keys_only=True)
            return
        except RequestError as error:
            _log.warning("ordering recovery failed, retrying in 1s", extra={"error": error})
        await asyncio.sleep(1.0)


async def _listen_for_metrics(monitoring: RpcServer, settings: Settings) -> None:
    url = urlsplit(settings.metrics_url)
    await monitoring.listen_bound(bind(url.netloc), settings.tls if url.scheme == "https" else None)
    _log.info("gRPC proxy listening for metrics", extra={"address": settings.metrics_url})


def _random() -> float:
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _limits(settings: Settings) -> Limits:
    return Limits(
        connections_max=max(16, descriptor_limit() - DESCRIPTORS_RESERVED),
        message_bytes_max=RECEIVED_BYTES_MAX,
        ping_interval_s_min=settings.keepalive_min_time_s,
        keepalive_time_s=settings.keepalive_interval_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
    )
