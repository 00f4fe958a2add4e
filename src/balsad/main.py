"""run(config, env): the one place where rooms become a member.

bind sockets --> boot (files -> state) --> replay the log --> elect --> publish --> serve --> ... --> stop
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.api import MemberPages, client_handler, monitoring_handler, register_services
from balsad.config import ServerConfig, StartError, Url
from balsad.env.real import real_env
from balsad.errors import RequestError
from balsad.lease import Lessor
from balsad.membership import Attributes
from balsad.mvcc import Store
from balsad.observe.metrics import Metrics
from balsad.proto import rpc_pb2
from balsad.raft import Config as RaftConfig
from balsad.raft import ConfState, RawNode
from balsad.server.alarms import Alarms
from balsad.server.answers import HeaderBytes
from balsad.server.apply.cluster import ClusterApplier
from balsad.server.apply.dispatch import Applier
from balsad.server.auto_compaction import AutoCompaction
from balsad.server.backend_commits import BackendCommits
from balsad.server.bootstrap import Booted, boot
from balsad.server.compactions import Compactions
from balsad.server.counts import copy_counts
from balsad.server.driver import Driver
from balsad.server.lease_expiry import INTERVAL_S as LEASE_INTERVAL_S
from balsad.server.lease_expiry import LeaseExpiry
from balsad.server.publish import Publisher, VersionMonitor
from balsad.server.quota import Quota
from balsad.server.read_index import ReadIndex
from balsad.server.request_ids import RequestIds
from balsad.server.service import Service
from balsad.server.snapshots import PURGE_INTERVAL_S, Snapshots
from balsad.server.systemd import notify
from balsad.storage import StorageError, schema
from balsad.storage.wal import AUTO, NO_SYNC, WalOptions
from balsad.transport import Limits, Listener, RpcServer, ServerTls

if TYPE_CHECKING:
    from balsad.env import Env

log = logging.getLogger(__name__)

VERSION_CHECK_S: Final = 4.0
WATCH_SYNC_S: Final = 0.1
VICTIMS_S: Final = 0.01
_TLS_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
DRAIN_S: Final = 2.0
MESSAGE_BYTES_MAX: Final = 1 << 20
INFLIGHT_MESSAGES_MAX: Final = 512


class Member:
    """One running member: its rooms, joined."""

    def __init__(self, config: ServerConfig, env: Env, failed: Callable[[BaseException], None]) -> None:
        """Raises: StartError, StorageError."""
        self.config = config
        self.env = env
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopped = False
        self.metrics = Metrics(extensive=config.extensive_metrics)
        options = WalOptions(
            sync=NO_SYNC if config.unsafe_no_fsync else AUTO,
            on_sync=self.metrics.wal_fsync_s.observe,
            on_write=self.metrics.wal_write_bytes.inc,
        )
        self.booted = boot(config, env, options)
        try:
            self._join(self.booted)
        except BaseException:
            self.booted.wal.close()
            self.booted.backend.close()
            raise

    def _join(self, booted: Booted) -> None:
        config, env = self.config, self.env
        backend = booted.backend
        member_id = booted.member_id
        cluster_id = booted.cluster.cluster_id
        self.header = HeaderBytes(cluster_id=cluster_id, member_id=member_id)
        self.lessor = Lessor(config.min_lease_ttl_s, backend)
        # Leases first: restoring the store hangs its keys on them.
        self.lessor.recover()
        self.store = Store(backend, leases=self.lessor, compaction_batch=config.compaction_batch_limit)
        self.store.restore()
        self.alarms = Alarms(backend)
        index, term = schema.read_consistent_index(backend)
        self.applier = Applier(
            backend=backend,
            store=self.store,
            lessor=self.lessor,
            alarms=self.alarms,
            quota=Quota(backend, config.quota_backend_bytes),
            cluster=ClusterApplier(booted.cluster, booted.tree, env.clock),
            header=self.header,
            clock=env.clock.monotonic,
            consistent_index=index,
            consistent_term=term,
            applied_index=booted.snapshot_index,
            conf_state=booted.log_storage.snapshot().conf_state or ConfState(),
        )
        node = RawNode(
            RaftConfig(
                id=member_id,
                storage=booted.log_storage,
                random=env.random.randrange,
                election_tick=config.election_ticks,
                heartbeat_tick=1,
                max_size_per_msg=MESSAGE_BYTES_MAX,
                max_inflight_msgs=INFLIGHT_MESSAGES_MAX,
                check_quorum=True,
                pre_vote=config.pre_vote,
            )
        )
        self.applier.apply_conf_change = node.apply_conf_change
        self.driver = Driver(
            member_id=member_id,
            node=node,
            log_storage=booted.log_storage,
            wal=booted.wal,
            applier=self.applier,
            clock=env.clock,
            flush=self._flush,
            failed=self._failed,
            request_bytes_max=config.max_request_bytes,
            request_timeout_s=config.request_timeout_s,
            hard_state=booted.hard_state,
        )
        ids = RequestIds(member_id, unix_ms=int(env.clock.time() * 1000))
        read_index = ReadIndex(node, ids, timeout_s=config.request_timeout_s, wake=self.driver.wake)
        self.driver.read_index = self.read_index = read_index
        self.commits = BackendCommits(
            backend,
            interval_s=config.backend_batch_interval_s,
            operations_max=config.backend_batch_limit,
            failed=self._failed,
            observed=self.metrics.backend_commit_s.observe,
        )
        self.compactions = Compactions(self.commits, pause_s=config.compaction_sleep_interval_s, failed=self._failed)
        self.applier.on_compaction = self.compactions.start
        backend.before_commit.append(self._before_commit)
        self.snapshots = Snapshots(
            applier=self.applier,
            log_storage=booted.log_storage,
            tree=booted.tree,
            wal=booted.wal,
            snapshotter=booted.snapshotter,
            commits=self.commits,
            disk=env.disk,
            data_dir=booted.data_dir,
            count=config.snapshot_count,
            catchup_entries=config.snapshot_catchup_entries,
            snaps_max=config.max_snapshots,
            wals_max=config.max_wals,
            last_index=booted.snapshot_index,
            failed=self._failed,
        )
        self.service = Service(
            config=config,
            env=env,
            backend=backend,
            store=self.store,
            lessor=self.lessor,
            alarms=self.alarms,
            applier=self.applier,
            driver=self.driver,
            read_index=read_index,
            cluster=booted.cluster,
            header=self.header,
            request_ids=ids,
            compactions=self.compactions,
            commits=self.commits,
            member_id=member_id,
            cluster_id=cluster_id,
        )
        self.driver.on_leader = self.service.on_leader
        self.driver.on_applied = self._after_batch
        self.service.feed_watchers = self._keep_watchers_fed
        self.applier.on_empty_entry = self.service.on_empty_entry
        self.lease_expiry = LeaseExpiry(self.service)
        self.versions = VersionMonitor(self.service)
        self.auto_compaction = AutoCompaction.from_config(config)
        self.flush_answers: Callable[[], None] | None = None
        for job in self.store.compactions:
            self.compactions.start(job)

    # Small joints between rooms.

    def _flush(self) -> None:
        if self.flush_answers is not None:
            self.flush_answers()

    def _before_commit(self) -> None:
        """The backend is about to commit: what it holds must be known as committed to the WAL first."""
        self.driver.write_hard_state()
        applier = self.applier
        schema.write_consistent_index(self.booted.backend, applier.consistent_index, applier.consistent_term)
        if applier.conf_state.voters:
            schema.write_conf_state(self.booted.backend, applier.conf_state)

    def _after_batch(self) -> None:
        self.commits.after_batch()
        self.snapshots.after_batch()
        self._keep_watchers_fed()

    # Life.

    def start(self, ready: Callable[[], None]) -> None:
        """Replay the log, become leader, and call `ready` once the cluster has heard of this member."""
        fileno = self.booted.wal.fileno()
        if fileno >= 0:
            self._loop.add_reader(fileno, self.booted.wal.on_readable)
        self.booted.wal.failed = self._failed
        self.driver.drain()
        config = self.config
        self._every("raft tick", config.tick_s, self._tick)
        self._every("lease expiry", LEASE_INTERVAL_S, self._expire_leases)
        self._every("cluster version", VERSION_CHECK_S, self.versions.check)
        self._every("purge", PURGE_INTERVAL_S, self.snapshots.purge)
        if self.auto_compaction is not None:
            self.auto_compaction.start(self.env.clock.monotonic(), self.store.current_revision)
            self._every("auto compaction", 1.0, self._auto_compact)
        if self.applier.conf_state.voters == (self.service.member_id,):
            # The only voter need not wait for anybody's silence.
            self.driver.node.campaign()
            self.driver.wake()
        attributes = Attributes(
            name=config.name, client_urls=tuple(sorted(str(url) for url in config.advertise_client_urls))
        )

        def published() -> None:
            self.versions.check()
            ready()

        Publisher(self.service, attributes, published).start()

    def _every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` every so many seconds until the member stops."""
        due = self._loop.time() + seconds

        def run() -> None:
            nonlocal due
            try:
                action()
            except (StorageError, OSError, AssertionError) as error:
                self._failed(error)
                return
            due = max(due + seconds, self._loop.time())
            self._timers[name] = self._loop.call_at(due, run)

        self._timers[name] = self._loop.call_at(due, run)

    def _tick(self) -> None:
        self.driver.tick()
        if not self.read_index.is_idle:
            self.read_index.tick(self.env.clock.monotonic())

    def _expire_leases(self) -> None:
        self.lease_expiry.check(self.env.clock.monotonic())

    def _auto_compact(self) -> None:
        assert self.auto_compaction is not None
        revision = self.auto_compaction.tick(
            self.env.clock.monotonic(), self.store.current_revision, self.driver.is_leader
        )
        if revision is None:
            return
        machine = self.auto_compaction
        log.info("starting auto compaction", extra=machine.fields(revision))

        def done(result: object) -> None:
            if isinstance(result, RequestError):
                machine.failed(revision)
                log.warning("failed auto compaction", extra={"revision": revision, "error": result.text})
            else:
                log.info("completed auto compaction", extra={"revision": revision})

        try:
            self.service.propose("compaction", rpc_pb2.CompactionRequest(revision=revision), done)
        except RequestError as error:
            done(error)

    def _keep_watchers_fed(self) -> None:
        """Arm the catching-up of watchers that are behind; timers run only while there are any."""
        watchers = self.store.watchers
        if watchers.wants_sync and "watch sync" not in self._timers:
            self._timers["watch sync"] = self._loop.call_later(WATCH_SYNC_S, self._sync_watchers)
        if watchers.wants_retry and "victims" not in self._timers:
            self._timers["victims"] = self._loop.call_later(VICTIMS_S, self._retry_victims)

    def _sync_watchers(self) -> None:
        self._timers.pop("watch sync", None)
        self.store.watchers.sync_step()
        self._flush()
        self._keep_watchers_fed()

    def _retry_victims(self) -> None:
        self._timers.pop("victims", None)
        self.store.watchers.retry_victims()
        self._flush()
        self._keep_watchers_fed()

    async def stop(self) -> None:
        """Write what is left to write and let go of all files."""
        if self._stopped:
            return
        self._stopped = True
        self.driver.stop()
        self.read_index.stop()
        self.compactions.stop()
        for timer in self._timers.values():
            timer.cancel()
        await self.commits.stop()
        try:
            self.booted.backend.commit()
        finally:
            self._close()

    def _close(self) -> None:
        fileno = self.booted.wal.fileno()
        if fileno >= 0:
            self._loop.remove_reader(fileno)
        self.booted.wal.close()
        self.booted.backend.close()

    def abandon(self) -> None:
        """Let go of everything without another write: memory and disk may not agree."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()


def _bind(url: Url, config: ServerConfig) -> socket.socket:
    """A bound socket for `url`. Raises StartError."""
    if url.is_unix:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(url.address)
            listener.bind(url.address)
        except OSError as error:
            listener.close()
            raise StartError(f"listen unix {url.address}: bind: {_reason(error)}") from None
    else:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                url.host or None, url.port_number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except OSError as error:
            raise StartError(f"listen tcp: lookup {url.host}: {_reason(error)}") from None
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.socket_reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            host = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
            raise StartError(f"listen tcp {host}:{url.port_number}: bind: {_reason(error)}") from None
    listener.setblocking(False)
    return listener


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


async def run(config: ServerConfig, env: Env) -> None:
    """Run one member until cancelled; all that it starts has ended when it returns.

    Raises: StartError, StorageError.
    """
    # Ports first: a member that cannot be reached must not touch its data.
    peer_sockets = [_bind(url, config) for url in config.listen_peer_urls]
    client_sockets = [(url, _bind(url, config)) for url in config.listen_client_urls]
    metrics_sockets = [(url, _bind(url, config)) for url in config.listen_metrics_urls]
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def failed(error: BaseException) -> None:
        if not broken.done():
            broken.set_exception(error)

    member = Member(config, env, failed)
    server = RpcServer(limits=_limits(config), scheduler=loop)
    services = register_services(server, member.service)
    pages = MemberPages(member.service)
    metrics = member.metrics
    metrics.methods = lambda: server.methods
    metrics.on_scrape.append(
        lambda: copy_counts(metrics, member.service, member.lease_expiry, lambda: services.kv.ranges)
    )
    server.http = client_handler(pages, metrics, config)
    monitoring = RpcServer(limits=_limits(config), scheduler=loop)
    monitoring.http = monitoring_handler(pages, metrics)
    member.flush_answers = server.flush
    listeners: list[Listener] = []
    try:
        published: asyncio.Future[None] = loop.create_future()
        member.start(lambda: published.set_result(None))
        await _first(published, broken)
        log.info("ready to serve client requests")
        tls = _server_tls(config)
        for url, bound in client_sockets:
            secure = url.is_secure
            listeners.append(await server.listen_bound(bound, tls if secure else None))
            if secure:
                log.info("serving client traffic securely", extra={"address": url.address})
            else:
                log.info(
                    "serving client traffic insecurely; this is strongly discouraged!", extra={"address": url.address}
                )
        for url, bound in metrics_sockets:
            listeners.append(await monitoring.listen_bound(bound, tls if url.is_secure else None))
            log.info("serving metrics", extra={"url": str(url)})
        # What lives now lives long: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 1000)
        notify()
        await broken
    except asyncio.CancelledError:
        for listener in listeners:
            listener.close()
        await server.drain(DRAIN_S)
        await member.stop()
        raise
    except BaseException:
        member.abandon()
        raise
    finally:
        for sock in peer_sockets:
            sock.close()


async def _first(wanted: asyncio.Future[None], broken: asyncio.Future[None]) -> None:
    await asyncio.wait((wanted, broken), return_when=asyncio.FIRST_COMPLETED)
    if broken.done():
        await broken


def _server_tls(config: ServerConfig) -> ServerTls | None:
    """What https listeners speak, if certificates are given."""
    tls = config.client_tls
    if tls.is_empty:
        return None
    return ServerTls(
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        trusted_ca_file=tls.trusted_ca_file,
        client_cert_auth=tls.client_cert_auth,
        crl_file=tls.crl_file,
        min_version=_TLS_VERSIONS[config.tls_min_version],
        max_version=_TLS_VERSIONS[config.tls_max_version] if config.tls_max_version else None,
        cipher_suites=config.cipher_suites,
    )


def _limits(config: ServerConfig) -> Limits:
    return Limits(
        message_bytes_max=config.max_request_bytes + 512 * 1024,
        streams_max=config.max_concurrent_streams,
        ping_interval_s_min=config.grpc_keepalive_min_time_s,
        keepalive_time_s=config.grpc_keepalive_interval_s,
        keepalive_timeout_s=config.grpc_keepalive_timeout_s,
    )


def serve(config: ServerConfig) -> int:
    """Run a member until a signal ends it, or something it can't survive; the exit code."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config))


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
        log.info("received signal; shutting down", extra={"signal": signal.strsignal(number)})
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
    except (StorageError, AssertionError) as error:
        log.critical("the member cannot go on", extra={"error": str(error)})
        return 1
    return 0
