"""Bugs to be planted into simulated members: each is one that was made before, by somebody, in some store.

They prove that the checkers would find them. A plant changes one member's collaborators for one life, in the
simulator only; the shipping code has no switch for any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from balsad.raft import ConfChange, ConfChangeType
from balsad.raft.log import RaftLog
from balsad.sim.plan import Plan

if TYPE_CHECKING:
    from balsad.errors import RequestError
    from balsad.mvcc.watcher_group import Watcher
    from balsad.raft import ConfChangeV2, ConfState, Entry
    from balsad.server.member import Member
    from balsad.server.propose import Pending
    from balsad.sim.machine import Machine
    from balsad.sim.world import Plant, World


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, the kind of world in which it shows, and a word of the sentence by which it is found."""

    plant: Plant
    plan: Plan
    shows_as: tuple[str, ...]


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


# Disks.


def acknowledge_before_fsync(world: World, machine: Machine, member: Member) -> None:
    """The log is written, and synced by whoever comes later."""
    _replace(member.booted.wal, "_no_sync", True)


def apply_twice_after_restart(world: World, machine: Machine, member: Member) -> None:
    """The index that says what the db has already is saved a little late."""
    applier = member.applier
    applier.consistent_index = max(0, applier.consistent_index - 3)


def snapshot_before_db(world: World, machine: Machine, member: Member) -> None:
    """A raft snapshot is made without waiting for the db to be as far."""
    commits = member.commits

    def commit_then(done: Callable[[], None]) -> None:
        member.booted.wal.sync()
        done()

    _replace(member.snapshots, "_commits", _Proxy(commits, commit_then=commit_then))


# Raft.


def forget_vote(world: World, machine: Machine, member: Member) -> None:
    """The vote is not read back after a restart."""
    member.driver.node.raft.vote = 0


class _CarelessLog(RaftLog):
    """Commits whatever a quorum has."""

    __slots__ = ()

    def maybe_commit(self, index: int, term: int) -> bool:
        if index <= self.committed:
            return False
        self.committed = index
        return True


def commit_old_term_by_counting(world: World, machine: Machine, member: Member) -> None:
    """Raft paper 5.4.2, figure 8."""
    raft = member.driver.node.raft
    raft.log.__class__ = _CarelessLog
    # One entry a message, so that there is a moment at which a quorum has the old ones only.
    raft.max_message_size = 0


def follower_answers_before_fsync(world: World, machine: Machine, member: Member) -> None:
    """A follower's log is synced after its answer is sent, and a power cut comes in between."""
    acknowledge_before_fsync(world, machine, member)


# Reads.


def read_without_quorum(world: World, machine: Machine, member: Member) -> None:
    """A linearizable read is answered from whatever this member has."""

    def linearize(done: Callable[[RequestError | None], None]) -> None:
        done(None)

    _replace(member.service, "linearize", linearize)


def read_by_believed_leadership(world: World, machine: Machine, member: Member) -> None:
    """Who thinks that it leads asks nobody."""
    ask = member.service.linearize

    def linearize(done: Callable[[RequestError | None], None]) -> None:
        if member.driver.is_leader:
            done(None)
        else:
            ask(done)

    _replace(member.service, "linearize", linearize)


def stale_lease_read(world: World, machine: Machine, member: Member) -> None:
    """Reads are answered by the leader lease, which no clock of these worlds deserves."""
    member.driver.node.raft.read_only.lease_based = True


def read_before_applied(world: World, machine: Machine, member: Member) -> None:
    """The quorum's index is asked for, but not waited for."""
    read_index = member.read_index
    on_applied = read_index.on_applied
    _replace(read_index, "on_applied", lambda index: on_applied(1 << 60))


# Watches.


def lose_events_at_compaction(world: World, machine: Machine, member: Member) -> None:
    """A watcher that is behind a compaction goes on after it as if nothing had been."""
    hub = member.store.watchers

    def go_on(watcher: Watcher, compact_revision: int) -> None:
        watcher.min_revision = compact_revision + 1

    _replace(hub, "_end_compacted", go_on)


def tell_events_twice(world: World, machine: Machine, member: Member) -> None:
    """A watcher that caught up is synced one revision too early."""
    hub = member.store.watchers
    make_synced = hub._make_synced

    def early(watcher: Watcher) -> None:
        was_behind = watcher in watcher.stream.unsynced
        make_synced(watcher)
        if was_behind and watcher.min_revision > max(2, watcher.start_revision):
            watcher.min_revision -= 1
            hub.synced.remove(watcher)
            hub._make_unsynced(watcher)

    _replace(hub, "_make_synced", early)


def split_revisions(world: World, machine: Machine, member: Member) -> None:
    """The events of one revision are told one by one."""
    hub = member.store.watchers
    notify = hub.notify

    def one_by_one(events: list[Any], revision: int) -> None:
        for event in events:
            notify([event], revision)

    _replace(hub, "notify", one_by_one)


# Leases.


def expire_leases_early(world: World, machine: Machine, member: Member) -> None:
    """A new leader counts on from nothing: it gives leases no new time."""
    lessor = member.lessor
    promote = lessor.promote

    def hasty(extend_s: float, now: float) -> None:
        promote(extend_s - 3.0, now)

    _replace(lessor, "promote", hasty)


def revoke_key_by_key(world: World, machine: Machine, member: Member) -> None:
    """The keys of a lease go one after the other."""
    applier, store = member.applier, member.store
    applier.long_writes.keys_min = 1 << 60

    def revoke(request: Any, who: Any) -> bytes:
        for key in member.lessor.revoke(request.ID):
            write = store.write()
            write.delete_range(key)
            write.end()
        return applier.header.at(store.current_revision)

    _replace(applier, "_revoke", revoke)


def forget_to_expire(world: World, machine: Machine, member: Member) -> None:
    """Nobody looks after the leases that were there when the member started."""
    lessor = member.lessor
    expired = lessor.expired
    found = {lease.id for lease in lessor.leases()}
    _replace(
        lessor, "expired", lambda now, limit: [lease_id for lease_id in expired(now, limit) if lease_id not in found]
    )


# Users.


def remember_permissions(world: World, machine: Machine, member: Member) -> None:
    """What a user may do is looked up once, and taking it away does not reach what was looked up."""
    auth = member.auth
    look_up = auth._grants_of
    found: dict[str, Any] = {}

    def remembered(name: str) -> Any:
        grants = found.get(name)
        if grants is None:
            grants = found[name] = look_up(name)
        return grants

    _replace(auth, "_grants_of", remembered)


# Members.


def apply_differently(world: World, machine: Machine, member: Member) -> None:
    """One member of several takes an entry for done that it has not seen."""
    applier = member.applier
    apply = applier.apply

    def forgetful(entries: list[Entry], waiting: dict[int, Pending]) -> None:
        if machine.name == "m2" and any(entry.index % 40 == 0 and entry.context is None for entry in entries):
            for entry in entries:
                if entry.index % 40 == 0 and entry.type == 0:
                    entry.data = b""
        apply(entries, waiting)

    _replace(applier, "apply", forgetful)


def change_members_twice(world: World, machine: Machine, member: Member) -> None:
    """After a restart, who was ever added is added once more with the first change that the log holds."""
    added: list[ConfChange | ConfChangeV2] = machine.__dict__.setdefault("planted_changes", [])
    again = list(added)
    apply = member.applier.apply_conf_change

    def twice(change: ConfChange | ConfChangeV2) -> ConfState:
        state = apply(change)
        if isinstance(change, ConfChange) and change.type == ConfChangeType.ADD_NODE:
            added.append(ConfChange(change.type, change.node_id, change.context))
        while again:
            state = apply(again.pop())
        return state

    _replace(member.applier, "apply_conf_change", twice)


class _Proxy:
    """An object with some methods of its own, the rest being another's."""

    def __init__(self, behind: object, **methods: object) -> None:
        self.__dict__.update(methods)
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


_RESTARTS: Final = ("power", "kill", "midst", "stop")
_ALONE: Final = Plan(members=1, seconds=20.0, faults=_RESTARTS, fault_every_s=1.5)
_THREE: Final = Plan(members=3, seconds=30.0, fault_every_s=1.5, keys=1, clients=8)
_GUESTS: Final = Plan(members=3, seconds=20.0, guests=2, think_s=0.05, fault_every_s=4.0)
_WATCHED: Final = replace(_ALONE, watchers=8, think_s=0.05, compact_chance=0.05)

PLANTS: Final[dict[str, Planted]] = {
    "acknowledge-before-fsync": Planted(acknowledge_before_fsync, _ALONE, ("the log ends", "applied", "durable")),
    "apply-twice-after-restart": Planted(apply_twice_after_restart, _ALONE, ("revision", "linearizable")),
    "snapshot-before-db": Planted(
        snapshot_before_db,
        replace(
            _ALONE,
            faults=("power", "midst"),
            settings=(("snapshot_count", 20), ("backend_batch_interval_s", 1.0), ("backend_batch_limit", 10_000)),
        ),
        ("does not match with snapshot",),
    ),
    "forget-vote": Planted(
        forget_vote,
        Plan(
            members=5,
            seconds=60.0,
            fault_every_s=1.0,
            delay_s=0.15,
            pre_vote=False,
            faults=("leader power", "voter", "heirs", "turmoil"),
        ),
        ("two leaders", "applied another"),
    ),
    "commit-old-term-by-counting": Planted(
        commit_old_term_by_counting,
        Plan(
            members=5,
            clients=12,
            timeout_s=2.0,
            seconds=60.0,
            fault_every_s=10.0,
            think_s=0.1,
            delay_s=0.02,
            faults=("figure 8",),
        ),
        ("applied another", "conflict"),
    ),
    "follower-answers-before-fsync": Planted(
        follower_answers_before_fsync,
        Plan(members=3, seconds=30.0, fault_every_s=1.5, faults=("power", "all power", "leader power")),
        ("the log ends", "applied", "durable"),
    ),
    "read-without-quorum": Planted(read_without_quorum, _THREE, ("linearizable",)),
    "read-by-believed-leadership": Planted(
        read_by_believed_leadership,
        replace(_THREE, readers=6, think_s=0.05, fault_every_s=3.0, faults=("leader isolated",)),
        ("linearizable",),
    ),
    "stale-lease-read": Planted(
        stale_lease_read,
        replace(_THREE, readers=6, think_s=0.05, fault_every_s=3.0, faults=("leader isolated",)),
        ("linearizable",),
    ),
    "read-before-applied": Planted(
        read_before_applied,
        replace(_THREE, readers=8, think_s=0.03, delay_s=0.002, stragglers=0.3, straggle_s=0.1),
        ("linearizable",),
    ),
    "lose-events-at-compaction": Planted(lose_events_at_compaction, _WATCHED, ("watch",)),
    "tell-events-twice": Planted(tell_events_twice, _ALONE, ("watch",)),
    "split-revisions": Planted(split_revisions, _ALONE, ("watch",)),
    "expire-leases-early": Planted(expire_leases_early, _ALONE, ("lease",)),
    "revoke-key-by-key": Planted(revoke_key_by_key, _ALONE, ("lease", "linearizable")),
    "forget-to-expire": Planted(forget_to_expire, _ALONE, ("lease",)),
    "remember-permissions": Planted(remember_permissions, _GUESTS, ("permission",)),
    "change-members-twice": Planted(
        change_members_twice,
        Plan(members=3, seconds=40.0, change_every_s=1.0, timeout_s=2.0, fault_every_s=1.5, faults=("kill", "power")),
        ("has other members",),
    ),
    "apply-differently": Planted(apply_differently, _THREE, ("converged", "revision", "linearizable", "applied")),
}
