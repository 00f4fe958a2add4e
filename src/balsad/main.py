"""run(config, env): the one place where rooms become a member that serves.

bind sockets --> Member (files -> state, replay, election) --> publish --> listen --> ... --> stop
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from balsad.api import (
    CallTraces,
    Gateway,
    Handler,
    MemberPages,
    client_handler,
    monitoring_handler,
    pprof_pages,
    register_concurrency,
    register_services,
    v2_mounts,
)
from balsad.config import (
    ServerConfig,
    StartError,
    Url,
    check_bootstrap,
    resolve_patiently,
    start_fields,
)
from balsad.discovery import discovers, find_initial_cluster
from balsad.env.descriptors import descriptor_limit, raise_descriptor_limit
from balsad.env.real import real_env
from balsad.membership import IncompatibleVersionError, format_id
from balsad.observe import log_loop_exception
from balsad.observe.grpc_metrics import grpc_type
from balsad.peer import (
    PeerClient,
    PeerTls,
    PeerTransport,
    client_tls,
    connect_metrics,
    peer_server,
)
from balsad.peer.joining import check_not_bootstrapped, find_cluster
from balsad.peer.joint import MemberPeers
from balsad.raft import RaftPanic
from balsad.server.bootstrap import is_founding, needs_existing
from balsad.server.busy_poll import BusyPoll
from balsad.server.counts import copy_client_requests, copy_counts, copy_stream_failures, copy_v2_counts
from balsad.server.group_commit import GroupCommit
from balsad.server.member import Member
from balsad.server.systemd import notify
from balsad.storage import StorageError
from balsad.transport import (
    DESCRIPTORS_RESERVED,
    Limits,
    Listener,
    RpcServer,
    Shares,
    share_descriptors,
)

if TYPE_CHECKING:
    from balsad.env import Env
    from balsad.observe.cells import LabelledHistogram
    from balsad.transport import Method

log = logging.getLogger(__name__)

DRAIN_S: Final = 0.5
# What a put leaves behind is looked through twice, a few milliseconds' worth at a time, and then no more: to look
# through a million keys' is a pause that is felt.
RECOMMENDED_REQUEST_BYTES_MAX: Final = 10 << 20
RECOMMENDED_QUOTA_BYTES_MAX: Final = 8 << 30
GC_THRESHOLDS: Final = (3_000, 3, 1 << 30)
"""For calls under way; watchers hold theirs for ever, so with any of them it takes that long to stop."""


BACKLOG: Final = 1024


def _bind(url: Url, config: ServerConfig) -> socket.socket:
    """A socket on the address of `url`, which does not listen yet. Raises StartError."""
    if url.is_unix:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: Any = url.address
        with contextlib.suppress(FileNotFoundError):
            os.unlink(url.address)
    else:
        try:
            found = socket.getaddrinfo(
                url.host or None, url.port_number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise StartError(f"listen tcp: lookup {url.host}: {_reason(error)}") from None
        # `localhost` may be ::1 first, where no client looks that asks 127.0.0.1: prefer IPv4, as Go does.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.socket_reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(url, address, error) from None
    listener.setblocking(False)
    return listener


def _by_address(urls: tuple[Url, ...]) -> list[Url]:
    """One URL for each address: one that is named with and without TLS takes both, as a plain one does."""
    chosen: dict[str, Url] = {}
    for url in urls:
        if url.address not in chosen or not url.is_secure:
            chosen[url.address] = url
    return list(chosen.values())


def _listen(url: Url, bound: socket.socket) -> socket.socket:
    """Who connects from now on waits until the member is ready. Raises StartError."""
    try:
        # Another server may have bound the same address, as long as neither listens.
        bound.listen(BACKLOG)
    except OSError as error:
        raise _cannot_listen(url, bound.getsockname(), error) from None
    return bound


def _cannot_listen(url: Url, address: Any, error: OSError) -> StartError:
    if url.is_unix:
        return StartError(f"listen unix {url.address}: bind: {_reason(error)}")
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return StartError(f"listen tcp {host}:{url.port_number}: bind: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


async def run(config: ServerConfig, env: Env) -> None:
    """Run one member until cancelled; all that it starts has ended when it returns.

    Raises: StartError, StorageError.
    """
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def failed(error: BaseException) -> None:
        if isinstance(error, OSError):
            error = StorageError(error.filename or config.data_dir, _reason(error))
        if not broken.done():
            broken.set_exception(error)

    def on_loop_exception(loop: object, context: Mapping[str, object]) -> None:
        log_loop_exception(loop, context)
        error = context.get("exception")
        if isinstance(error, StorageError):
            # A client's read came upon it.
            failed(error)

    loop.set_exception_handler(on_loop_exception)
    with contextlib.ExitStack() as sockets:
        # Ports first: a member that cannot be reached must not touch its data.
        log.info("configuring peer listeners", extra={"listen-peer-urls": _texts(config.listen_peer_urls)})
        peers = [(url, sockets.enter_context(_bind(url, config))) for url in config.listen_peer_urls]
        log.info("configuring client listeners", extra={"listen-client-urls": _texts(config.listen_client_urls)})
        urls = _by_address(config.listen_client_urls)
        clients = [(url, _listen(url, sockets.enter_context(_bind(url, config)))) for url in urls]
        pages = [
            (url, _listen(url, sockets.enter_context(_bind(url, config)))) for url in config.listen_client_http_urls
        ]
        monitors = [
            (url, _listen(url, sockets.enter_context(_bind(url, config)))) for url in config.listen_metrics_urls
        ]
        shares = _share_descriptors()
        tls = client_tls(config, env)
        config = await _find_initial_cluster(config, env)
        initialized = env.disk.is_dir(config.member_dir)
        _warn_of_sizes(config)
        log.info("starting an etcd server", extra=start_fields(config, member_initialized=initialized))
        peer_tls = PeerTls.from_config(config, env)
        if peer_tls is not None and config.discovery_srv and not config.peer_tls.trusted_ca_file:
            # Whoever DNS names must be of the domain that was asked.
            peer_tls.server_name = config.discovery_srv
        asker = PeerClient(peer_tls, dial_timeout_s=config.peer_dial_timeout_s)
        if is_founding(config, env):
            await asyncio.to_thread(check_bootstrap, config, resolve_patiently)
            await check_not_bootstrapped(config, asker)
        existing = await find_cluster(config, asker) if needs_existing(config, env) else None
        # Not before the others were asked: members that found a cluster at the same time would wait for each other.
        for url, bound in peers:
            _listen(url, bound)
        joint = MemberPeers(asker)
        made: list[PeerTransport] = []

        def make_links(member: Member) -> PeerTransport:
            made.append(joint.make_links(member, peer_tls))
            return made[0]

        member = Member(config, env, failed, existing=existing, make_links=make_links)
        links = made[0]
        left: asyncio.Future[None] = loop.create_future()
        member.on_removed = lambda: None if left.done() else left.set_result(None)
        connect_metrics(member.metrics, links)
        server = RpcServer(limits=_limits(config, shares), scheduler=loop)
        # As up to etcd 3.5 the peer port answers gRPC too.
        snapshotter = member.booted.snapshotter
        peer_listener = peer_server(
            *(links, joint),
            disk=env.disk,
            snapshotter=snapshotter,
            tls=peer_tls,
            http2=server.adopt,
            connections_max=shares.peers,
        )
        monitoring = RpcServer(limits=_limits(config, shares), scheduler=loop)
        paged = server
        if pages:
            # Then client URLs have gRPC and nothing else.
            paged = RpcServer(limits=_limits(config, shares), scheduler=loop)
            paged.serves_grpc = server.serves_http = False
        _mount(member, server, paged, monitoring, links)

        def hang_up() -> None:
            for each in (server, paged, monitoring):
                each.abort()
            peer_listener.close()

        member.hang_up_by(hang_up)
        listeners: list[Listener] = []
        try:
            for url, bound in peers:
                await peer_listener.listen_bound(bound, secure=url.is_secure)
                log.info("serving peer traffic", extra={"address": url.address})
            if config.initial_corrupt_check and not member.booted.is_new:
                await joint.corruption.check_start()
            published: asyncio.Future[None] = loop.create_future()
            log.info(
                "now serving peer/client/metrics",
                extra={
                    "local-member-id": format_id(member.service.member_id),
                    "initial-advertise-peer-urls": _texts(config.initial_advertise_peer_urls),
                    "listen-peer-urls": _texts(config.listen_peer_urls),
                    "advertise-client-urls": _texts(config.advertise_client_urls),
                    "listen-client-urls": _texts(config.listen_client_urls),
                    "listen-metrics-urls": _texts(config.listen_metrics_urls),
                },
            )
            member.start(lambda: published.set_result(None))
            await _first(published, left, broken)
            if left.done():
                raise asyncio.CancelledError
            log.info("ready to serve client requests")
            for url, bound in clients:
                # Who asks a loopback address without a scheme speaks TLS to it as soon as certificates are named.
                listeners.append(await server.listen_bound(bound, tls if url.is_secure else None, tls))
                _tell_serving(url, "grpc" if pages else "grpc+http")
            for url, bound in pages:
                listeners.append(await paged.listen_bound(bound, tls if url.is_secure else None))
                _tell_serving(url, "http")
            for url, bound in monitors:
                listeners.append(await monitoring.listen_bound(bound, tls if url.is_secure else None))
            # What lives now lives long: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            if len(os.sched_getaffinity(0)) > 1:
                member.driver.busy_poll = BusyPoll()
                member.driver.group_commit = GroupCommit()
            notify()
            await _first(left, broken)
            raise asyncio.CancelledError
        except asyncio.CancelledError:
            whose = {"name": config.name, "data-dir": config.data_dir}
            log.info("closing etcd server", extra=whose)
            for listener in listeners:
                listener.close()
            await server.drain(DRAIN_S)
            for other in (paged, monitoring):
                await other.drain(0)
            await member.stop()
            joint.stop()
            peer_listener.close()
            await links.wait_closed()
            log.info("closed etcd server", extra=whose)
            if left.done():
                return
            raise
        except BaseException:
            for listener in listeners:
                listener.close()
            for each in (server, paged, monitoring):
                await each.drain(0)
            await member.abandon()
            joint.stop()
            peer_listener.close()
            await links.wait_closed()
            raise


async def _find_initial_cluster(config: ServerConfig, env: Env) -> ServerConfig:
    """The configuration as it is once the other members are known. Raises: StartError."""
    if is_founding(config, env) or needs_existing(config, env):
        return await find_initial_cluster(config)
    if discovers(config):
        log.warning(
            "discovery token is ignored since cluster already initialized; valid logs are found",
            extra={"wal-dir": config.wal_dir or os.path.join(config.member_dir, "wal")},
        )
    return config


def _tell_serving(url: Url, traffic: str) -> None:
    how = "securely" if url.is_secure else "insecurely; this is strongly discouraged!"
    log.info("serving client traffic " + how, extra={"traffic": traffic, "address": url.address})


def _mount(member: Member, server: RpcServer, paged: RpcServer, monitoring: RpcServer, links: PeerTransport) -> None:
    """Hang the member's API on its servers: gRPC on the first, web pages on the second."""
    services = register_services(server, member.service)
    register_concurrency(server)
    pages = MemberPages(member.service)
    metrics = member.metrics
    metrics.methods = lambda: server.methods
    handling_s = metrics.grpc_handling_s
    if handling_s is not None:
        for method in server.methods:
            method.time_calls(_observer(handling_s, method), server.stopwatch)
    metrics.on_scrape.append(
        lambda: copy_counts(metrics, member.service, member.lease_expiry, lambda: services.kv.ranges)
    )
    metrics.on_scrape.append(lambda: copy_stream_failures(metrics, server.methods))
    metrics.on_scrape.append(lambda: copy_v2_counts(metrics, member.v2.tree))
    metrics.on_scrape.append(lambda: copy_client_requests(metrics, services.door.client_requests))
    mounts: dict[str, Handler] = {}
    if member.config.enable_v2:
        mounts |= v2_mounts(member.service, member.v2, member.v2_auth, links.append_counts)
    if member.config.enable_grpc_gateway:
        mounts["/v3/"] = Gateway(server)
    if member.config.enable_pprof or member.config.log_level == "debug":
        log.info("pprof is enabled", extra={"path": "/debug/pprof"})
        mounts |= pprof_pages()
    if member.config.log_level == "debug":
        mounts |= CallTraces(server.methods, server.stopwatch).pages()
    paged.http = client_handler(
        pages,
        metrics,
        member.config,
        mounts=mounts,
        authenticates_by_certificate=member.config.client_tls.client_cert_auth and member.config.enable_grpc_gateway,
    )
    monitoring.http = monitoring_handler(pages, metrics)
    member.flush_by(server.flush)


def _observer(histograms: LabelledHistogram, method: Method) -> Callable[[float, bool], None]:
    """Those of a method are shown once one of its calls has ended."""
    labels = grpc_type(method.service, method.name), method.service, method.name
    return lambda seconds, _failed: histograms.of(*labels).observe(seconds)


def _texts(urls: tuple[Url, ...]) -> list[str]:
    return [str(url) for url in urls]


async def _first(*futures: asyncio.Future[None]) -> None:
    """Return when one of them is done. Raises what it ended with."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in futures:
        if future.done():
            await future


def _warn_of_sizes(config: ServerConfig) -> None:
    if config.max_request_bytes > RECOMMENDED_REQUEST_BYTES_MAX:
        log.warning(
            "exceeded recommended request limit",
            extra={
                "max-request-bytes": config.max_request_bytes,
                "recommended-request-bytes": RECOMMENDED_REQUEST_BYTES_MAX,
            },
        )
    if config.quota_backend_bytes > RECOMMENDED_QUOTA_BYTES_MAX:
        log.warning(
            "quota exceeds the maximum value",
            extra={
                "quota-size-bytes": config.quota_backend_bytes,
                "quota-maximum-size-bytes": RECOMMENDED_QUOTA_BYTES_MAX,
            },
        )


def _share_descriptors() -> Shares:
    """Raises: StartError. Source: embed configureClientListeners."""
    limit = descriptor_limit()
    if limit <= DESCRIPTORS_RESERVED:
        raise StartError(
            "file descriptor limit of etcd process is too low; please set higher: "
            f"limit {limit}, recommended-limit {DESCRIPTORS_RESERVED}"
        )
    return share_descriptors(limit)


def _limits(config: ServerConfig, shares: Shares) -> Limits:
    return Limits(
        connections_max=shares.clients,
        message_bytes_max=config.max_request_bytes + 512 * 1024,
        streams_max=config.max_concurrent_streams,
        ping_interval_s_min=config.grpc_keepalive_min_time_s,
        keepalive_time_s=config.grpc_keepalive_interval_s,
        keepalive_timeout_s=config.grpc_keepalive_timeout_s,
    )


def serve(config: ServerConfig) -> int:
    """Run a member until a signal ends it, or something it can't survive; the exit code."""
    # What was imported stays.
    gc.freeze()
    gc.enable()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config))


def serve_proxy(config: ServerConfig) -> int:
    """Pass HTTP on to a cluster's members until a signal ends it. Raises: StartError."""
    from balsad.proxy import serve_v2

    raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    env = real_env()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve_v2(config, env, client_tls(config, env)))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: ServerConfig) -> int:
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(run(config, real_env()))
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        log.info("received signal; shutting down", extra={"signal": (signal.strsignal(number) or str(number)).lower()})
        caught.append(number)
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await running
    except asyncio.CancelledError:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if os.getpid() == 1:
            return 0
        # The parent shall see by which signal it ended.
        signal.signal(caught[0], signal.SIG_DFL)
        os.kill(os.getpid(), caught[0])
    except (StorageError, RaftPanic, AssertionError, IncompatibleVersionError) as error:
        log.critical("the member cannot go on", extra={"error": error})
        return 1
    return 0
