"""`etcd --proxy on` and `--proxy readonly`: HTTP of v2 clients is passed on to the members; gRPC is not.

Source: etcd server/etcdmain/etcd.go startProxy.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from balsad.api import AccessController, Mux, metrics_page
from balsad.config import ServerConfig, StartError
from balsad.discovery import find_initial_cluster, find_members
from balsad.observe.logs import get_logger
from balsad.observe.metrics import Metrics
from balsad.peer import Dialer, PeerClient, PeerTls
from balsad.proxy.sockets import bind
from balsad.proxy.v2_director import ClusterFile, Director
from balsad.proxy.v2_forward import Forwarder
from balsad.server.systemd import notify
from balsad.transport import RpcServer, ServerTls

if TYPE_CHECKING:
    from balsad.env import Env

_log = get_logger(__name__)


async def serve_v2(config: ServerConfig, env: Env, tls: ServerTls | None) -> None:
    """Serve until cancelled. Raises: StartError."""
    _log.info("v2 API proxy starting")
    loop = asyncio.get_running_loop()
    folder = os.path.join(config.data_dir, "proxy")
    try:
        env.disk.makedirs(folder)
    except OSError as error:
        raise StartError(f"mkdir {folder}: {(error.strerror or str(error)).lower()}") from None
    peer_tls = PeerTls.from_config(config, env)
    # As of old, the members' certificates serve for both when there are no others.
    client_tls = PeerTls(config.client_tls) if not config.client_tls.is_empty else peer_tls
    file = ClusterFile(env.disk, folder)
    peer_urls = file.read()
    if peer_urls is None:
        if config.discovery_endpoints:
            raise StartError(
                f"--proxy={config.proxy} does not ask the discovery service of 3.6: name the members by "
                "--initial-cluster, or the service of old by --discovery"
            )
        config = await (find_members(config) if config.discovery else find_initial_cluster(config))
        urls = config.initial_cluster_urls()
        peer_urls = sorted(str(url) for each in urls.values() for url in each)
        _log.info("proxy using peer URLS", extra={"peer-urls": peer_urls})
    else:
        facts = {"peer-urls": peer_urls, "cluster-file": file.path}
        _log.info("proxy using peer URLS from cluster file", extra=facts)
    dial_timeout_s = config.proxy_dial_timeout_ms / 1000
    asker = PeerClient(peer_tls, dial_timeout_s=dial_timeout_s)
    director = Director(config, asker, file, peer_urls)
    metrics = Metrics()
    forwarder = Forwarder(
        director,
        Dialer(client_tls, dial_timeout_s),
        metrics,
        read_timeout_s=config.proxy_read_timeout_ms / 1000,
        write_timeout_s=config.proxy_write_timeout_ms / 1000,
        is_readonly=config.proxy == "readonly",
    )
    mux = Mux()
    mux.add("/metrics", metrics_page(metrics))
    mux.add("/v2/config/local/proxy", forwarder.config)
    mux.add("/", forwarder)
    server = RpcServer(scheduler=loop)
    server.serves_grpc = False
    server.http = AccessController(config, mux, refuses_names=lambda: False)
    bound = [(url, bind(url.address)) for url in config.listen_client_urls]
    directing = loop.create_task(director.run(), name="director")
    try:
        for url, sock in bound:
            await server.listen_bound(sock, tls if url.is_secure else None)
            _log.info("v2 proxy started listening on client requests", extra={"host": str(url)})
        notify()
        await directing
    finally:
        directing.cancel()
        forwarder.close()
        for listener in server.listeners:
            listener.close()
        await server.drain(0)
        asker.close()
