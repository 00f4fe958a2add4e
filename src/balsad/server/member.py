"""One member: its rooms joined, and its life from the first replayed entry to the last write.

boot (files -> state) --> replay the log --> elect --> publish --> serve --> ... --> stop
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from balsad.auth import COST_DEFAULT, COST_MAX, COST_MIN, AuthStore, TokenOptionsError, make_tokens
from balsad.config import StartError
from balsad.errors import RequestError
from balsad.lease import Lessor
from balsad.membership import Attributes, MemberChange, MemberRemoved, MemberUpdated
from balsad.mvcc import Store
from balsad.observe.metrics import Metrics
from balsad.proto import rpc_pb2
from balsad.raft import Config as RaftConfig
from balsad.raft import ConfState, RawNode, Snapshot
from balsad.server import counts as counting
from balsad.server import lease_checkpoints
from balsad.server.access import Access
from balsad.server.alarms import Alarms
from balsad.server.answers import HeaderBytes
from balsad.server.apply.auth import AuthApplier
from balsad.server.apply.cluster import ClusterApplier, note_start
from balsad.server.apply.dispatch import Applier
from balsad.server.auto_compaction import AutoCompaction
from balsad.server.backend_commits import BackendCommits
from balsad.server.bootstrap import Booted, ExistingCluster, boot
from balsad.server.compactions import Compactions
from balsad.server.defrags import Defrags
from balsad.server.driver import Driver
from balsad.server.lease_expiry import INTERVAL_S as LEASE_INTERVAL_S
from balsad.server.lease_expiry import LeaseExpiry
from balsad.server.peer_links import NoPeers, PeerLinks
from balsad.server.publish import Publisher, VersionMonitor
from balsad.server.quota import Quota
from balsad.server.read_index import ReadIndex
from balsad.server.request_ids import RequestIds
from balsad.server.service import Service
from balsad.server.snapshot_exchange import SnapshotExchange
from balsad.server.snapshots import PURGE_INTERVAL_S, Snapshots
from balsad.server.tree_saves import TreeSaves
from balsad.server.v2_auth import V2Auth
from balsad.server.v2_requests import SYNC_INTERVAL_S, V2Requests
from balsad.storage import StorageError, schema
from balsad.storage.wal import AUTO, NO_SYNC, WalOptions

if TYPE_CHECKING:
    from balsad.config import ServerConfig
    from balsad.env import Env

log = logging.getLogger(__name__)

VERSION_CHECK_S: Final = 4.0
WATCH_SYNC_S: Final = 0.1
WATCH_SYNC_SOON_S: Final = 0.01
VICTIMS_S: Final = 0.01
REMOVAL_DELAY_S: Final = 1.0
MESSAGE_BYTES_MAX: Final = 1 << 20
INFLIGHT_MESSAGES_MAX: Final = 512


class Member:
    """One running member: its rooms, joined."""

    def __init__(
        self,
        config: ServerConfig,
        env: Env,
        failed: Callable[[BaseException], None],
        *,
        existing: ExistingCluster | None = None,
        make_links: Callable[[Member], PeerLinks] | None = None,
    ) -> None:
        """`failed` hears of what the member can't survive; `make_links` ties it to the others.

        Raises: StartError, StorageError.
        """
        self.config = config
        self.env = env
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stopped = False
        self.publisher: Publisher | None = None
        self.metrics = Metrics(extensive=config.extensive_metrics)
        self.booted = boot(config, env, self.wal_options(), existing)
        try:
            self._join(self.booted)
            self._link(make_links)
        except BaseException:
            self.booted.wal.close()
            self.booted.backend.close()
            raise

    def wal_options(self) -> WalOptions:
        """How the log is written. A simulator has a clock and a helper process of its own."""
        return WalOptions(
            sync=NO_SYNC if self.config.unsafe_no_fsync else AUTO,
            on_sync=counting.observe_sync(self.metrics),
            on_write=self.metrics.wal_write_bytes.inc,
        )

    def _join(self, booted: Booted) -> None:
        config, env = self.config, self.env
        backend = booted.backend
        member_id = booted.member_id
        cluster_id = booted.cluster.cluster_id
        self.header = HeaderBytes(cluster_id=cluster_id, member_id=member_id)
        self.lessor = Lessor(
            config.min_lease_ttl_s,
            backend,
            checkpoints=config.enable_lease_checkpoint,
            persist_checkpoints=config.enable_lease_checkpoint_persist,
            checkpoint_interval_s=lease_checkpoints.CHECKPOINT_INTERVAL_S,
        )
        # Leases first: restoring the store hangs its keys on them.
        self.lessor.recover()
        self.store = Store(
            backend,
            leases=self.lessor,
            cache_bytes_max=config.value_cache_bytes,
            compaction_batch=max(1, config.compaction_batch_limit),
            hash_compactions=config.compact_hash_check,
        )
        self.store.restore()
        backend.find_free_pages()
        log.info("kvstore restored", extra={"current-rev": self.store.current_revision})
        self.alarms = Alarms(backend)
        self.auth = self._open_auth(booted)
        index, term = schema.read_consistent_index(backend)
        self.applier = Applier(
            backend=backend,
            store=self.store,
            lessor=self.lessor,
            alarms=self.alarms,
            quota=Quota(backend, config.quota_backend_bytes),
            cluster=ClusterApplier(booted.cluster, booted.tree, env.clock),
            auth=AuthApplier(self.auth, self.lessor, env.clock),
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
            snapshotter=booted.snapshotter,
            applier=self.applier,
            clock=env.clock,
            flush=_nothing,
            failed=self._failed,
            request_bytes_max=config.max_request_bytes,
            request_timeout_s=config.request_timeout_s,
            hard_state=booted.hard_state,
            links=NoPeers(),
            election_timeout_s=config.election_timeout_s,
            tick_s=config.tick_s,
        )
        ids = RequestIds(member_id, unix_ms=int(env.clock.time() * 1000))
        read_index = ReadIndex(node, ids, timeout_s=config.request_timeout_s, wake=self.driver.wake)
        self.driver.read_index = self.read_index = read_index
        self.commits = BackendCommits(
            backend,
            interval_s=config.backend_batch_interval_s,
            operations_max=config.backend_batch_limit,
            failed=self._failed,
            observed=counting.observe_commit(self.metrics),
        )
        self.compactions = Compactions(
            self.commits,
            pause_s=config.compaction_sleep_interval_s,
            failed=self._failed,
            stepped=counting.observe_compaction_step(self.metrics),
            finished=counting.observe_compaction(self.metrics, env.clock),
        )
        self.defrags = Defrags(
            backend,
            self.commits,
            failed=self._failed,
            expect_rush=self.driver.expect_rush,
            observed=self.metrics.backend_defrag_s.observe,
        )
        self.applier.on_compaction = self.compactions.start
        backend.before_commit.append(self._before_commit)
        booted.snapshotter.on_fsync = self.metrics.snap_fsync_s.observe
        booted.snapshotter.on_db_fsync = self.metrics.snap_db_fsync_s.observe
        booted.snapshotter.on_db_save = self.metrics.snap_db_save_s.observe
        booted.snapshotter.on_marshalled = self.metrics.snap_save_marshalling_s.observe
        self.tree_saves = TreeSaves(booted.tree, failed=self._failed)
        self.snapshots = Snapshots(
            applier=self.applier,
            log_storage=booted.log_storage,
            saves=self.tree_saves,
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
            observed=self.metrics.snap_save_s.observe,
        )
        self.access = Access(
            self.auth,
            clock=env.clock,
            client_cert_auth=config.client_tls.client_cert_auth,
            applied_index=lambda: self.applier.applied_index,
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
            defrags=self.defrags,
            auth=self.auth,
            access=self.access,
            member_id=member_id,
            cluster_id=cluster_id,
            metrics=self.metrics,
        )
        self.driver.on_leader = self.service.on_leader
        self.driver.on_applied = self._after_batch
        # The others may be heard already while it is not sure yet whether this member may take part.
        self.driver.hold()
        self.service.feed_watchers = self._keep_watchers_fed
        self.applier.on_grant = self.metrics.lease_ttl_s.observe
        self.applier.on_applied = counting.observe_applied(self.metrics, config.warning_apply_duration_s)
        self.applier.on_empty_entry = self.service.on_empty_entry
        self.applier.on_voters = self.service.on_voters
        self.v2 = V2Requests(self.service, booted.tree)
        self.v2_auth = V2Auth(self.service, self.v2, client_cert_auth=config.client_tls.client_cert_auth)
        self.applier.cluster.on_v2_outcome = self.v2.on_outcome
        self.lease_expiry = LeaseExpiry(self.service)
        self.versions = VersionMonitor(self.service)
        self.auto_compaction = AutoCompaction.from_config(config)
        for job in self.store.compactions:
            self.compactions.start(job)

    def _open_auth(self, booted: Booted) -> AuthStore:
        """Users and roles, and the tokens that `--auth-token` wants. Raises: StartError, StorageError."""
        config = self.config
        cost = config.bcrypt_cost
        if not COST_MIN <= cost <= COST_MAX:
            log.warning(
                "use default bcrypt cost instead of the invalid given cost",
                extra={"min-cost": COST_MIN, "max-cost": COST_MAX, "default-cost": COST_DEFAULT, "given-cost": cost},
            )
            cost = COST_DEFAULT
        try:
            tokens = make_tokens(
                config.auth_token,
                simple_ttl_s=config.auth_token_ttl_s,
                read_file=lambda path: Path(path).read_bytes(),
            )
        except TokenOptionsError as error:
            log.warning("failed to create token provider", extra={"error": str(error)})
            raise StartError(str(error)) from None
        auth = AuthStore(booted.backend, tokens, bcrypt_cost=cost)
        auth.recover()
        return auth

    def _link(self, make_links: Callable[[Member], PeerLinks] | None) -> None:
        """Tie this member to the others it knows of, and to those it will hear of."""
        booted, driver = self.booted, self.driver
        cluster = booted.cluster
        self.exchange = SnapshotExchange(
            applier=self.applier,
            backend=booted.backend,
            store=self.store,
            lessor=self.lessor,
            alarms=self.alarms,
            cluster=cluster,
            tree=booted.tree,
            saves=self.tree_saves,
            snapshotter=booted.snapshotter,
            commits=self.commits,
            compactions=self.compactions,
            disk=self.env.disk,
            driver=driver,
            failed=self._failed,
            in_progress=self.metrics.snapshot_apply_in_progress.set,
        )
        self.on_removed: Callable[[], None] | None = None
        if make_links is not None:
            driver.links = make_links(self)
        links = driver.links
        for member in booted.remotes or cluster.members():
            if member.id != cluster.local_id:
                links.add_peer(member.id, member.peer_urls)
        driver.is_removed = cluster.is_removed
        driver.on_snapshot_wanted = lambda message: self.exchange.send(message, links)
        driver.on_snapshot = self.exchange.install
        self.exchange.on_installed = self._on_snapshot_installed
        self.applier.cluster.on_change = self._on_member_change
        self.applier.cluster.on_removed = self._on_own_removal

    def _on_member_change(self, change: MemberChange) -> None:
        links = self.driver.links
        if isinstance(change, MemberRemoved):
            if change.member_id != self.service.member_id:
                links.remove_peer(change.member_id)
        elif change.member is not None and change.member.id != self.service.member_id:
            if isinstance(change, MemberUpdated):
                links.update_peer(change.member.id, change.member.peer_urls)
            else:
                links.add_peer(change.member.id, change.member.peer_urls)

    def _on_snapshot_installed(self, snapshot: Snapshot) -> None:
        """Everybody may have changed: tie the links anew."""
        self.snapshots.note(snapshot.index)
        self.booted.wal.release_lock_to(snapshot.index)
        cluster, links = self.booted.cluster, self.driver.links
        for member_id in cluster.removed_ids():
            links.remove_peer(member_id)
        for member in cluster.members():
            if member.id != cluster.local_id:
                links.add_peer(member.id, member.peer_urls)
        if self.publisher is not None:
            self.publisher.after_snapshot()
        self._keep_watchers_fed()

    def _on_own_removal(self) -> None:
        """The others know of it a moment later; then this member has no more business here."""
        self._loop.call_later(REMOVAL_DELAY_S, self.leave)

    def leave(self) -> None:
        """Nobody wants this member any more: stop."""
        log.warning("the member has been permanently removed from the cluster")
        log.warning("data-dir used by this member must be removed")
        if self.on_removed is not None:
            self.on_removed()

    # Small joints between rooms.

    def flush_by(self, flush: Callable[[], None]) -> None:
        """`flush` writes the answers that piled up on the connections."""
        self.driver.flush = flush

    def hang_up_by(self, hang_up: Callable[[], None]) -> None:
        """`hang_up` drops all connections at once, with the answers that piled up on them."""

        def over(error: Exception) -> None:
            hang_up()
            self.commits.halt()
            self.booted.backend.refuse(error)

        self.driver.hang_up = over

    def _before_commit(self) -> None:
        """The backend is about to commit: what it holds must be known as committed to the WAL first."""
        self.driver.write_hard_state()
        applier = self.applier
        schema.write_consistent_index(self.booted.backend, applier.consistent_index, applier.consistent_term)
        if applier.conf_state.voters:
            schema.write_conf_state(self.booted.backend, applier.conf_state)

    def _after_batch(self) -> None:
        self.access.after_batch()
        self.commits.after_batch()
        self.snapshots.after_batch()
        self._keep_watchers_fed()

    # Life.

    def start(self, ready: Callable[[], None]) -> None:
        """Replay the log, become leader, and call `ready` once the cluster has heard of this member."""
        note_start(self.booted.cluster)
        fileno = self.booted.wal.fileno()
        if fileno >= 0:
            self._watch_wal(fileno, True)
        self.booted.wal.on_watch(self._watch_wal)
        self.booted.wal.failed = self._failed
        self.driver.drain()
        config = self.config
        self.every("raft tick", config.tick_s, self._tick)
        self.every("lease expiry", LEASE_INTERVAL_S, self._expire_leases)
        if config.enable_lease_checkpoint:
            self.every("lease checkpoints", lease_checkpoints.LOOK_S, self._checkpoint_leases)
        self.every("v2 expiry", SYNC_INTERVAL_S, self.v2.sync)
        self.every("cluster version", VERSION_CHECK_S, self.versions.check)
        if config.downgrade_check_time_s > 0:
            self.every("downgrade check", config.downgrade_check_time_s, self.service.downgrades.check)
        self.every("purge", PURGE_INTERVAL_S, self.snapshots.begin_purge)
        if self.auto_compaction is not None:
            self.auto_compaction.start(self.env.clock.monotonic(), self.store.current_revision)
            self.every("auto compaction", 1.0, self._auto_compact)
        if self.applier.conf_state.voters == (self.service.member_id,):
            # The only voter need not wait for anybody's silence.
            self.driver.node.campaign()
            self.driver.wake()
        elif config.initial_election_tick_advance:
            # Time enough passed while it was down; one tick is left for a leader's heartbeat.
            for _ in range(max(0, config.election_ticks - 2)):
                self.driver.node.tick()
        attributes = Attributes(
            name=config.name, client_urls=tuple(sorted(str(url) for url in config.advertise_client_urls))
        )

        def published() -> None:
            self.versions.check()
            ready()

        self.publisher = Publisher(self.service, attributes, published)
        self.publisher.start()

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
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

    def _checkpoint_leases(self) -> None:
        self.service.lease_checkpoints.check(self.env.clock.monotonic())

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
            self._timers["watch sync"] = self._loop.call_later(
                WATCH_SYNC_SOON_S if watchers.wants_sync_soon else WATCH_SYNC_S, self._sync_watchers
            )
        if watchers.wants_retry and "victims" not in self._timers:
            self._timers["victims"] = self._loop.call_later(VICTIMS_S, self._retry_victims)

    def _sync_watchers(self) -> None:
        self._timers.pop("watch sync", None)
        self.store.watchers.sync_step()
        self.driver.flush()
        self._keep_watchers_fed()

    def _retry_victims(self) -> None:
        self._timers.pop("victims", None)
        self.store.watchers.retry_victims()
        self.driver.flush()
        self._keep_watchers_fed()

    async def stop(self) -> None:
        """Write what is left to write and let go of all files."""
        if self._stopped:
            return
        await self._hand_over()
        self._stopped = True
        self.driver.links.stop()
        self.read_index.stop()
        self.exchange.stop()
        self.tree_saves.stop()
        self.compactions.stop()
        self.snapshots.stop()
        self.service.passwords.stop()
        for timer in self._timers.values():
            timer.cancel()
        try:
            self.driver.stop()
        finally:
            await self.defrags.stop()
            await self.commits.stop()
            self._close()

    async def _hand_over(self) -> None:
        """A leader among others gives the lead to one of them, so that nobody has to wait for an election."""
        service = self.service
        if not self.driver.is_leader or len(service.cluster.voters()) < 2:
            return
        if service.cluster.is_removed(service.member_id):
            # Nobody listens to it any more.
            return
        target = service.longest_connected()
        if not target:
            log.warning("leadership transfer failed: no other voter is connected")
            return
        finished: asyncio.Future[RequestError | None] = self._loop.create_future()
        try:
            service.move_leader(target, finished.set_result)
        except RequestError as error:
            log.warning("leadership transfer failed", extra={"error": error.text})
            return
        await finished

    def _watch_wal(self, fileno: int, is_wanted: bool) -> None:
        if is_wanted:
            self._loop.add_reader(fileno, self.booted.wal.on_readable)
        else:
            self._loop.remove_reader(fileno)

    def _close(self) -> None:
        fileno = self.booted.wal.fileno()
        if fileno >= 0:
            self._loop.remove_reader(fileno)
        try:
            self.booted.backend.close()  # which commits what is left
        finally:
            self.booted.wal.close()

    async def abandon(self) -> None:
        """Let go of everything without another write: memory and disk may not agree."""
        self._stopped = True
        self.driver.abandon()
        self.driver.links.stop()
        self.exchange.stop()
        self.tree_saves.stop()
        self.compactions.stop()
        self.snapshots.stop()
        self.service.passwords.stop()
        for timer in self._timers.values():
            timer.cancel()
        await self.defrags.stop()
        await self.commits.stop()
        fileno = self.booted.wal.fileno()
        if fileno >= 0:
            self._loop.remove_reader(fileno)
        self.booted.wal.abandon()
        self.booted.backend.abandon()


def _nothing() -> None:
    pass
