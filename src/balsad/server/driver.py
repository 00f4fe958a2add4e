"""The sole owner of the RawNode: proposals in, Ready out, in the one right order.

What one turn of the event loop brought is one batch:

    inbox --propose--> RawNode --Ready--> (a leader sends) WAL write and fdatasync
          (a follower sends) --> apply committed entries --> advance --> answers flushed

Nothing is answered before it is on disk. While a slow disk works on one save,
further requests gather in the inbox and make the next batch. Where nobody else
votes and the disk is quick, plain puts and txns are applied while it writes:

    WAL write --> apply, answers made --> fdatasync --> answers flushed

The event loop stands still from the first to the last of it, so nobody sees what
is not on disk yet. If the sync fails, `hang_up` is called in the same breath:
no connection is left to see it, and the backend commits nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from balsad.errors import (
    NoLeaderError,
    NotLeaderError,
    RequestTooLargeError,
    StoppedError,
    TooManyRequestsError,
)
from balsad.membership import format_id
from balsad.observe import RAFT_LOGGER
from balsad.raft import (
    NO_TURN,
    ConfChange,
    Entry,
    EntryType,
    HardState,
    MemoryLog,
    MessageType,
    ProposalDroppedError,
    RaftPanic,
    RawNode,
    Ready,
    Snapshot,
    StepLocalMessageError,
    StepPeerNotFoundError,
)
from balsad.server.apply_steps import ApplySteps, stable_part
from balsad.server.group_commit import CLIENTS_MAX, GroupCommit
from balsad.server.late import why_late
from balsad.server.late_heartbeats import warn_of_late_heartbeats
from balsad.server.propose import Pending
from balsad.server.raft_words import leader_sentence, tell
from balsad.storage import StorageError
from balsad.storage.wal import WalSnapshot

if TYPE_CHECKING:
    from balsad.env import Clock
    from balsad.raft import Message
    from balsad.server.apply.dispatch import Applier
    from balsad.server.busy_poll import BusyPoll
    from balsad.server.peer_links import PeerLinks
    from balsad.server.read_index import ReadIndex
    from balsad.storage import Snapshotter
    from balsad.storage.wal import Wal

log = logging.getLogger(__name__)
raft_log = logging.getLogger(RAFT_LOGGER)

UNAPPLIED_MAX: Final = 5000
"""How far commit may run ahead of apply before requests are turned away."""
INBOX_BYTES_MAX: Final = 256 << 20
"""What may wait to be proposed, for a leader or for the disk, before requests are turned away; in etcd all may."""
TICKS_MISSED: Final = 3
"""Who has not ticked for so long has slept."""

RUSH_S: Final = 3.0
"""How long the disk is taken to be busy with what was written to it last, or by whom a backup was sent to."""


class Driver:
    """Runs one member's raft."""

    def __init__(
        self,
        *,
        member_id: int,
        node: RawNode,
        log_storage: MemoryLog,
        wal: Wal,
        snapshotter: Snapshotter,
        applier: Applier,
        clock: Clock,
        flush: Callable[[], None],
        failed: Callable[[BaseException], None],
        request_bytes_max: int,
        request_timeout_s: float,
        hard_state: HardState,
        links: PeerLinks,
        election_timeout_s: float,
        tick_s: float,
    ) -> None:
        """`flush` writes the answers that piled up; `failed` is told of what the member can't survive."""
        self.member_id = member_id
        self.node = node
        self.log_storage = log_storage
        self.wal = wal
        self._snapshotter = snapshotter
        self.applier = applier
        self.hard_state = hard_state
        self._written = hard_state
        self.committed_index = hard_state.commit
        self.leader = 0
        self.is_leader = False
        self.leader_changes = 0
        self.proposals_failed = 0
        self.waiting: dict[int, Pending] = {}
        self.on_leader: Callable[[], None] | None = None  # the leader, or our own role, changed
        self.on_applied: Callable[[], None] | None = None  # a batch was applied
        self.read_index: ReadIndex | None = None
        # Not on simulated time, which stands still while anybody is awake, nor where clients need the same core.
        self.busy_poll: BusyPoll | None = None
        self.group_commit: GroupCommit | None = None
        self._clock = clock
        self.flush = flush
        self._failed = failed
        self.links = links
        # It is over, and what is in memory may be more than is on the disk: nobody may be told, nor anything stored.
        self.hang_up: Callable[[Exception], None] = _nobody_is_there
        self.is_removed: Callable[[int], bool] = _nobody
        # A MsgSnap wants its db; a Ready brings a snapshot to install.
        self.on_snapshot_wanted: Callable[[Message], None] | None = None
        self.on_snapshot: Callable[[Snapshot], None] | None = None
        self._election_timeout_s = election_timeout_s
        self.led_since = 0.0
        self._tick_s = tick_s
        self._ticked_at = clock.monotonic()
        self.heartbeats_late = 0
        self._unsure_until = 0.0
        self._request_bytes_max = request_bytes_max
        self._request_timeout_s = request_timeout_s
        self._loop = asyncio.get_running_loop()
        self._inbox: list[Entry] = []
        self._inbox_bytes = 0
        self._only_as_leader: dict[int, Pending] = {}  # those in the inbox that nobody else may propose
        self._scheduled = False
        self._stirred = True  # something happened to the RawNode since it had nothing Ready
        self._now = 0.0  # when `drain` was scheduled
        self._are_few = False  # those whose requests are under way
        self._saving: Ready | None = None
        self._in_save = False
        self._saves_take_time = False  # others go on meanwhile
        self._handed = 0  # up to here entries were given to the applier before their Ready was saved
        self._unsaved: HardState | None = None
        self.steps = ApplySteps(
            applier, self.waiting, applied=self._note_applied, flush=self._flush, failed=self._give_up
        )
        self._stopped = False

    # Requests come in.

    def propose(self, data: bytes, pending: Pending, *, only_as_leader: bool = False) -> None:
        """Put `data` (an InternalRaftRequest, or a v2 Request) into the log on behalf of `pending`.

        `only_as_leader`: it is not forwarded to another leader, who may know better.
        Raises: RequestTooLargeError, TooManyRequestsError, StoppedError.
        """
        if len(data) > self._request_bytes_max and pending.field:
            # Like etcd, it lets requests of v2 pass, by which members name themselves.
            raise RequestTooLargeError
        if self._stopped:
            raise StoppedError
        if self.committed_index > self.applier.applied_index + UNAPPLIED_MAX or self._inbox_bytes > INBOX_BYTES_MAX:
            raise TooManyRequestsError
        self._inbox_bytes += len(data)
        if not self._scheduled:
            self._schedule()
            if self.busy_poll is not None:
                self.busy_poll.request(self._now)
        pending.born = self._now
        self.waiting[pending.id] = pending
        if only_as_leader:
            self._only_as_leader[pending.id] = pending
        self._inbox.append(Entry(0, 0, 0, data, pending))

    def _schedule(self) -> None:
        self._scheduled = True
        # One look at the clock for all that this turn of the loop brings.
        self._now = self._clock.monotonic()
        self._loop.call_soon(self.drain)

    def propose_conf_change(self, change: ConfChange, pending: Pending) -> None:
        """Put a change of membership into the log. Raises: StoppedError, TooManyRequestsError, NoLeaderError."""
        if self._stopped:
            raise StoppedError
        if self.committed_index > self.applier.applied_index + UNAPPLIED_MAX:
            raise TooManyRequestsError
        pending.born = self._clock.monotonic()
        self.waiting[pending.id] = pending
        try:
            self.node.propose_conf_change(change)
        except ProposalDroppedError:
            del self.waiting[pending.id]
            raise NoLeaderError from None
        self.wake()

    def step(self, messages: list[Message]) -> None:
        """Messages of other members came in."""
        if self._stopped:
            return
        node = self.node
        for message in messages:
            try:
                node.step(message)
            except (ProposalDroppedError, StepLocalMessageError, StepPeerNotFoundError) as refusal:
                log.debug("dropped raft message", extra={"from": message.from_, "error": str(refusal)})
            except RaftPanic as error:
                # What raft was told cannot be: going on would make it worse.
                self._give_up(error)
                return
        self.wake()

    def hold(self) -> None:
        """Take what comes in, but work on nothing of it, and answer nobody, before `drain` is called."""
        self._scheduled = True

    def wake(self) -> None:
        """Something changed in the RawNode: look for a Ready in the next turn."""
        self._stirred = True
        if not self._scheduled and not self._stopped:
            self._schedule()

    def tick(self) -> None:
        """One heartbeat interval has passed."""
        if self._stopped:
            return
        now = self._clock.monotonic()
        if now - self._ticked_at > TICKS_MISSED * self._tick_s:
            self._unsure_until = now + 2 * self._election_timeout_s
        if self.is_leader and now - self._ticked_at > 2 * self._tick_s:
            exceeded_s = now - self._ticked_at - 2 * self._tick_s
            self.heartbeats_late += warn_of_late_heartbeats(self.node.status(), self._tick_s, exceeded_s)
        self._ticked_at = now
        try:
            # Who reads the log beside this member, as an offline backup does, finds all that was answered committed.
            self.write_hard_state()
        except StorageError as error:
            self._give_up(error)
            return
        self.node.tick()
        if self.waiting:
            self._time_out()
        self.wake()

    @property
    def leads_surely(self) -> bool:
        """Whether this leader has not slept, nor been left: else there may be another by now, unknown to it.

        Who is not connected with a quorum may have been taken for gone (`on_gone`).
        Source: etcd ensureLeadership, isActive; but here one tick after a long sleep is not enough.
        """
        now = self._clock.monotonic()
        if not self.is_leader or now <= self._unsure_until or now - self._ticked_at > TICKS_MISSED * self._tick_s:
            return False
        return self.node.is_quorum(lambda voter: self.links.active_since(voter) > 0.0)

    def _time_out(self) -> None:
        limit = self._clock.monotonic() - self._request_timeout_s
        late: list[Pending] = []
        for pending in self.waiting.values():  # in the order they were made
            if pending.born > limit:
                break
            late.append(pending)
        if not late:
            return
        other = self.leader if not self.is_leader else 0
        since = self.links.active_since(other) if other else None
        for pending in late:
            del self.waiting[pending.id]
            pending.resolve(why_late(pending.born, self.led_since, self._election_timeout_s, since))
        self.proposals_failed += len(late)
        # What was never proposed need not be any more.
        self._keep_in_inbox([entry for entry in self._inbox if entry.context.id in self.waiting])
        self.flush()

    def _keep_in_inbox(self, entries: list[Entry]) -> None:
        self._inbox = entries
        self._inbox_bytes = sum(len(entry.data) for entry in entries)

    def on_gone(self, member_id: int) -> None:
        """Another member's process has ended. If it led, its followers need not wait for its silence."""
        if self._stopped or member_id != self.leader:
            return
        node = self.node
        term = node.term
        turn = node.forget_gone_leader(member_id)
        if turn != NO_TURN:
            log.warning(
                "the leader's process is gone; looking for another leader",
                extra={"leader-member-id": format_id(member_id), "turn": turn},
            )
            self._loop.call_later(turn * self._tick_s, self._succeed, term)
        self.wake()

    def _succeed(self, term: int) -> None:
        if not self._stopped:
            self.node.succeed(term)
            self.wake()

    # A batch goes through.

    def drain(self) -> None:
        """Propose what has gathered and work until nothing is Ready, or the disk has it."""
        self._scheduled = False
        if self._saving is not None or self._stopped:
            return
        try:
            self._work()
        except Exception as error:
            self._give_up(error)

    def _flush(self) -> None:
        self.flush()

    def _give_up(self, error: Exception) -> None:
        # Memory and disk may disagree now; nothing more may be answered.
        self._stopped = self.steps.stopped = True
        self.hang_up(error)
        self._failed(error)

    def _work(self) -> None:
        node = self.node
        while True:
            if self._stirred and node.has_ready():
                # What is committed now goes to the followers together with what comes next, and is applied while the
                # disk takes that. Where saving does not take time, it is applied and answered first.
                if self._inbox and self._saves_take_time and self._rides_along():
                    self._propose_gathered()
            else:
                self._stirred = False
                # What is committed is applied and answered before the next batch goes to the disk.
                # Without a leader proposals wait here, until one is found or they time out.
                if not self._inbox or not self.leader or self._gathers():
                    break
                if self._only_as_leader and not self.is_leader:
                    self._withdraw()
                    continue
                if not self._propose_gathered():
                    break
            ready = node.ready()
            self._stirred = True
            for event in ready.events:
                tell(raft_log, event)
            if not self._save(ready):
                return  # `_on_saved` goes on from here
            self._finish(ready)
        self.flush()
        if self._are_few and not self.waiting:
            self._are_few = False
            now = self._clock.monotonic()
            if self.group_commit is not None:
                self.group_commit.ended(now)
            if self.busy_poll is not None and self.busy_poll.idle(now):
                self._loop.call_soon(self._stay_awake)

    def _propose_gathered(self) -> bool:
        """Hand the inbox to raft; False when raft will not have it now."""
        batch = self._inbox
        self._inbox = []
        self._inbox_bytes = 0
        self._are_few = len(self.waiting) <= CLIENTS_MAX
        try:
            self.node.propose(batch)
        except ProposalDroppedError:
            self._keep_in_inbox(batch)
            return False
        if self._only_as_leader:
            self._only_as_leader.clear()
        return True

    def _rides_along(self) -> bool:
        """Whether what has gathered goes with what is Ready."""
        node = self.node
        return self.is_leader and node.leads and not node.commits_alone(node.term) and not self._gathers()

    def _gathers(self) -> bool:
        """Whether what is in the inbox waits for more."""
        group = self.group_commit
        if group is None or not self.is_leader:
            return False
        gathered = len(self._inbox)
        if not group.waits(gathered, self._clock.monotonic(), len(self.waiting) - gathered):
            return False
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.drain)
        return True

    def _stay_awake(self) -> None:
        # The loop does not sleep as long as there is something to call.
        if self.busy_poll is not None and self.busy_poll.look(self._clock.monotonic()):
            self._loop.call_soon(self._stay_awake)

    def _withdraw(self) -> None:
        """Take back what this member was to propose as the leader it no longer is."""
        mine, self._only_as_leader = self._only_as_leader, {}
        self._keep_in_inbox([entry for entry in self._inbox if entry.context.id not in mine])
        for pending in mine.values():
            if self.waiting.pop(pending.id, None) is not None:
                pending.resolve(NotLeaderError())

    def _save(self, ready: Ready) -> bool:
        """Write what must be durable before anything else happens. True when it is on disk now."""
        soft = ready.soft_state
        if soft is not None:
            self._note_leader(soft.lead, (ready.hard_state or self.hard_state).term)
        if ready.messages and self.is_leader:
            self._send(ready.messages)
        hard = ready.hard_state
        if hard is not None:
            self.hard_state = hard
            self._unsaved = None if hard == self._written else hard
            if hard.commit > self.committed_index:
                self.committed_index = hard.commit
            self.applier.set_term(hard.term)
        if ready.snapshot is not None:
            # The file first: a record in the log must not name a snapshot that is not there. It may be large.
            self._saving = ready
            saved = self._loop.run_in_executor(None, self._snapshotter.save, ready.snapshot)
            saved.add_done_callback(self._on_snapshot_saved)
            return False
        if not ready.entries and not ready.must_sync:
            # A commit index alone is a hint: it goes with the next batch, or before the backend commits.
            return True
        return self._write(ready)

    def _on_snapshot_saved(self, saved: asyncio.Future[None]) -> None:
        ready = self._saving
        if ready is None or ready.snapshot is None or self._stopped:
            return
        snapshot = ready.snapshot
        try:
            saved.result()
            self.wal.save_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))
            if self._write(ready):
                self._finish(ready)
                self._work()
        except Exception as error:
            self._give_up(error)

    def _write(self, ready: Ready) -> bool:
        """Write to the log. True when it is on disk now."""
        entries = ready.entries
        hard_state, self._unsaved = self._unsaved, None
        meanwhile: Callable[[], None] | None = None
        if entries and self.node.commits_alone(entries[-1].term) and all(e.type == EntryType.NORMAL for e in entries):
            # They are committed once they are on disk, and answered then: the record behind them says so already.
            # Without it a kill before the next batch or tick would leave them to --force-new-cluster as uncommitted.
            hard_state = HardState(self.hard_state.term, self.hard_state.vote, entries[-1].index)
            if entries[0].index == self.applier.applied_index + 1:
                meanwhile = self._apply_ahead
        if hard_state is not None:
            self._written = hard_state
        self._saving = ready
        self._in_save = True
        self.wal.save(hard_state, entries, True, self._on_saved, meanwhile)
        self._in_save = False
        self._saves_take_time = self._is_saving()
        if self._saves_take_time and ready.committed_entries and ready.snapshot is None:
            self._apply_stable(ready)
        return not self._saves_take_time

    def _apply_stable(self, ready: Ready) -> None:
        """Apply what is committed and was on disk before this Ready, and answer: etcd, too, does so while it saves."""
        stable = stable_part(ready)
        applier = self.applier
        if stable and stable[-1].index > applier.applied_index and not applier.is_long:
            self._handed = stable[-1].index
            applier.apply(stable, self.waiting)
            if applier.is_long:
                self.steps.later()
            self.flush()

    def _apply_ahead(self) -> None:
        """Apply what the disk is writing, and this member alone agrees to; nobody sees it before `_finish`."""
        ready = self._saving
        if ready is not None:
            self.applier.apply(ready.entries, self.waiting, only_plain=True)

    def _is_saving(self) -> bool:
        return self._saving is not None

    def _on_saved(self) -> None:
        ready = self._saving
        self._saving = None
        if self._in_save or ready is None or self._stopped:
            return
        try:
            self._finish(ready)
            self._work()
        except Exception as error:
            self._give_up(error)

    def _finish(self, ready: Ready) -> None:
        snapshot = ready.snapshot
        if snapshot is not None:
            self.applier.finish(self.waiting)
            self.log_storage.apply_snapshot(snapshot)
            assert self.on_snapshot is not None, "a snapshot came to a member without others"
            self.on_snapshot(snapshot)
        entries = ready.entries
        if entries:
            applier = self.applier
            last = entries[-1]
            if entries[0].index <= applier.applied_index + 1 and self.node.commits_alone(last.term):
                # Raft will say the same of them in its next Ready. Whoever waits need not wait for that.
                if applier.applied_index < last.index:
                    applier.apply(entries, self.waiting, only_requests=True)
                if applier.is_long:
                    self.steps.later()
                self.flush()
            self.log_storage.append(entries)
        committed = ready.committed_entries
        late_messages = ready.messages and not self.is_leader
        if late_messages and not any(entry.type != EntryType.NORMAL for entry in committed):
            self._send(ready.messages)
            late_messages = []
        fresh = committed
        if committed and self._handed >= committed[0].index:
            fresh = committed[self._handed + 1 - committed[0].index :]
        if fresh and fresh[-1].index > self.applier.applied_index:
            self.applier.apply(fresh, self.waiting)
            if self.applier.is_long:
                self.steps.later()
            # What is to be done besides is done while the clients read.
            self.flush()
        if late_messages:
            # Votes of a member that these very entries remove must not be counted.
            self._send(ready.messages)
        if ready.read_states and self.read_index is not None:
            self.read_index.on_read_states(ready.read_states)
        self.node.advance(ready)
        if committed:
            self._note_applied()

    def _note_applied(self) -> None:
        if self.read_index is not None:
            self.read_index.on_applied(self.applier.applied_index)
        if self.on_applied is not None:
            self.on_applied()

    def _send(self, messages: list[Message]) -> None:
        outgoing: list[Message] = []
        for message in messages:
            if self.is_removed(message.to):
                continue
            if message.type == MessageType.SNAP:
                assert self.on_snapshot_wanted is not None, "a snapshot is wanted by a member without others"
                self.on_snapshot_wanted(message)
            else:
                outgoing.append(message)
        if outgoing:
            self.links.send(outgoing)

    def _note_leader(self, leader: int, term: int) -> None:
        if leader != self.leader:
            raft_log.info(leader_sentence(self.member_id, self.leader, leader, term))
            if leader:
                self.leader_changes += 1
                self.led_since = self._clock.monotonic()
                if self.read_index is not None:
                    if self.leader:
                        self.read_index.on_leader_changed()
                    else:
                        self.read_index.on_leader_found(self.led_since)
            self.leader = leader
        self.is_leader = leader == self.member_id
        if self.on_leader is not None:
            self.on_leader()

    # What the rest of the member needs of the log.

    def write_hard_state(self) -> None:
        """Bring the commit index to the WAL: the backend may never be ahead of what the WAL says is committed."""
        if self._unsaved is None or self._saving is not None or self._stopped:
            return
        hard_state, self._unsaved = self._unsaved, None
        self._written = hard_state
        self.wal.save(hard_state, [], False, None)

    def expect_rush(self) -> None:
        """Much else is about to be written to the disk; whoever goes on with that says so again."""
        self.wal.expect_rush(RUSH_S)

    def abandon(self) -> None:
        """Neither write nor answer anything any more."""
        self._stopped = self.steps.stopped = True

    def stop(self) -> None:
        """Refuse all that waits and write what is left to write."""
        if not self._stopped:
            self._stopped = self.steps.stopped = True
            waiting = list(self.waiting.values())
            self.waiting.clear()
            for pending in waiting:
                pending.resolve(StoppedError())
            self.flush()
            if self._unsaved is not None and self._saving is None:
                self.wal.save(self._unsaved, [], True, None)
                self._unsaved = None


def _nobody_is_there(error: Exception) -> None:
    pass


def _nobody(member_id: int) -> bool:
    return False
