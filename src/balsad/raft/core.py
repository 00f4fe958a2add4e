"""Raft itself: terms, roles, elections, and the term check of every message.

                 times out, asks           a quorum would vote
    FOLLOWER  ---------------->  PRE_CANDIDATE  ------------->  CANDIDATE
       ^  ^                        |  (pre_vote only)             |    |
       |  +---- lost, or heard ----+------------------------------+    |
       |        of a leader                                            | won
       +---------- newer term, no quorum left, removed ----------  LEADER

What each role does with a message is in leader.py, candidate.py and follower.py; how a leader
sends its log in replication.py. Source: raft's raft.go; Raft paper; thesis 3, 4, 6.4, 9.6.
"""

from __future__ import annotations

from typing import Final

from balsad.raft import confchange
from balsad.raft.candidate import step_candidate
from balsad.raft.config import Config
from balsad.raft.election import answer_vote_request, hup
from balsad.raft.errors import ProposalDroppedError, RaftPanic
from balsad.raft.events import EVENTS_MAX, INFO, WARNING, Event, Fact
from balsad.raft.follower import step_follower
from balsad.raft.kinds import (
    CAMPAIGN_TRANSFER,
    CANDIDATE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    FOLLOWER,
    LEADER,
    MESSAGE_NAMES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY_RESP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    MSG_VOTE_RESP,
    PRE_CANDIDATE,
)
from balsad.raft.leader import append_acked, step_leader
from balsad.raft.log import RaftLog
from balsad.raft.messages import ConfChangeTransition, ConfChangeV2, ConfState, Entry, HardState, Message, Snapshot
from balsad.raft.read_only import ReadOnly, ReadState
from balsad.raft.replication import broadcast_append, maybe_send_append
from balsad.raft.sizes import entries_size, payloads_size
from balsad.raft.tracker import Configuration, Progress, Tracker

_VOTE_REQUESTS: Final = frozenset((MSG_VOTE, MSG_PRE_VOTE))
_VOTING: Final = frozenset((MSG_VOTE, MSG_PRE_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))
# These say that something is on disk.
_VOUCHING: Final = frozenset((MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))
_APPEND_OR_HEARTBEAT: Final = frozenset((MSG_APP, MSG_HEARTBEAT))
_FROM_LEADER: Final = frozenset((MSG_APP, MSG_HEARTBEAT, MSG_SNAP))


class Raft:
    __slots__ = (
        "check_quorum",
        "disable_conf_change_validation",
        "disable_proposal_forwarding",
        "election_elapsed",
        "election_timeout",
        "events",
        "heartbeat_elapsed",
        "heartbeat_timeout",
        "id",
        "is_async",
        "is_learner",
        "lead",
        "lead_transferee",
        "log",
        "max_message_size",
        "max_uncommitted_size",
        "messages",
        "messages_after_append",
        "own_acks",
        "own_acks_term",
        "pending_conf_index",
        "pending_reads",
        "pre_vote",
        "random",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "role",
        "step_down_on_removal",
        "term",
        "tracker",
        "uncommitted_size",
        "vote",
    )

    def __init__(self, config: Config) -> None:
        config.check()
        self.id = config.id
        self.random = config.random
        self.election_timeout = config.election_tick
        self.heartbeat_timeout = config.heartbeat_tick
        self.check_quorum = config.check_quorum
        self.pre_vote = config.pre_vote
        self.disable_proposal_forwarding = config.disable_proposal_forwarding
        self.disable_conf_change_validation = config.disable_conf_change_validation
        self.step_down_on_removal = config.step_down_on_removal
        self.max_message_size = config.max_size_per_msg
        self.max_uncommitted_size = config.max_uncommitted_entries_size

        self.term = 0
        self.vote = 0
        self.role = FOLLOWER
        self.lead = 0
        self.is_learner = False
        self.log = RaftLog(config.storage, config.max_committed_size_per_ready)
        self.tracker = Tracker(config.max_inflight_msgs, config.max_inflight_bytes)
        self.read_only = ReadOnly(config.read_only_lease_based)
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0

        # To be sent at once, and to be sent (also to ourselves) once all that is unstable now is on disk.
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        # Indexes that the leader acks to itself once they are on disk; messages do it if storage is asynchronous.
        self.is_async = config.async_storage_writes
        self.own_acks: list[int] = []
        self.own_acks_term = 0
        self.read_states: list[ReadState] = []
        self.events: list[Event] = []
        # Reads that wait for the first commit of this term.
        self.pending_reads: list[Message] = []

        # Whom leadership is being handed to.
        self.lead_transferee = 0
        # No change of the configuration may be proposed before this index is applied.
        self.pending_conf_index = 0
        # Payload bytes of the leader's uncommitted tail, at most what it really is. Kept only if there is a limit.
        self.uncommitted_size = 0

        hard_state, conf_state = config.storage.initial_state()
        confchange.restore(self.tracker, self.log.last_index(), conf_state)
        self._switch_to_restored(conf_state)
        if not hard_state.is_empty():
            self._load(hard_state)
        if config.applied > 0:
            self.log.applied_to(config.applied, 0)
        self.become_follower(self.term, 0)

    def _load(self, state: HardState) -> None:
        last = self.log.last_index()
        if state.commit < self.log.committed or state.commit > last:
            raise RaftPanic(f"{self.id:x} state.commit {state.commit} is out of range [{self.log.committed}, {last}]")
        self.log.committed = state.commit
        self.term = state.term
        self.vote = state.vote

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def note(self, level: int, message: str, facts: dict[str, Fact]) -> None:
        """Leave an event for whoever takes the next Ready."""
        if len(self.events) < EVENTS_MAX:
            facts["node"] = self.id
            facts["term"] = self.term
            self.events.append(Event(level, message, facts))

    # Sending

    def send(self, message: Message) -> None:
        """Queue a message; one that vouches for what we stored waits until that is on disk."""
        if message.from_ == 0:
            message.from_ = self.id
        kind = message.type
        if kind in _VOTING:
            # A vote is about a term of its own: the one campaigned for.
            if message.term == 0:
                raise RaftPanic(f"term should be set when sending {MESSAGE_NAMES[kind]}")
        elif message.term != 0:
            raise RaftPanic(f"term should not be set when sending {MESSAGE_NAMES[kind]} (was {message.term})")
        elif kind != MSG_PROP and kind != MSG_READ_INDEX:
            # What is forwarded to the leader has no term: it is as good as made there.
            message.term = self.term
        if kind in _VOUCHING:
            # Raft thesis 3.8: term, vote and entries must be on disk before anyone may count on them.
            # Refusals would be safe earlier, but they are rare.
            self.messages_after_append.append(message)
        else:
            if message.to == self.id:
                raise RaftPanic(f"message should not be self-addressed when sending {MESSAGE_NAMES[kind]}")
            self.messages.append(message)

    # Time

    def tick(self) -> None:
        if self.role == LEADER:
            self._tick_leader()
            return
        self.election_elapsed += 1
        if self.election_elapsed >= self.randomized_election_timeout and self.promotable():
            self.election_elapsed = 0
            self.step(Message(MSG_HUP, from_=self.id))

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        self.election_elapsed += 1
        if self.election_elapsed >= self.election_timeout:
            self.election_elapsed = 0
            if self.check_quorum:
                self.step(Message(MSG_CHECK_QUORUM, from_=self.id))
            # A transfer that takes longer than an election timeout has failed.
            if self.role == LEADER and self.lead_transferee != 0:
                self.lead_transferee = 0
        if self.role == LEADER and self.heartbeat_elapsed >= self.heartbeat_timeout:
            self.heartbeat_elapsed = 0
            self.step(Message(MSG_BEAT, from_=self.id))

    # Roles

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = 0
        self.lead = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self.election_timeout + self.random(self.election_timeout)
        self.lead_transferee = 0
        tracker = self.tracker
        tracker.reset_votes()
        last = self.log.last_index()
        for node_id in tracker.ids:
            tracker.progress[node_id].reset(last if node_id == self.id else 0, last + 1)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only.reset()

    def become_follower(self, term: int, lead: int) -> None:
        self._reset(term)
        self.lead = lead
        self.role = FOLLOWER
        self.note(INFO, "became follower", {"lead": lead})

    def become_candidate(self) -> None:
        if self.role == LEADER:
            raise RaftPanic("invalid transition [leader -> candidate]")
        self._reset(self.term + 1)
        self.vote = self.id
        self.role = CANDIDATE
        self.note(INFO, "became candidate", {})

    def become_pre_candidate(self) -> None:
        """Only ask: neither term nor vote changes."""
        if self.role == LEADER:
            raise RaftPanic("invalid transition [leader -> pre-candidate]")
        self.tracker.reset_votes()
        self.lead = 0
        self.role = PRE_CANDIDATE
        self.note(INFO, "became pre-candidate", {})

    def become_leader(self) -> None:
        if self.role == FOLLOWER:
            raise RaftPanic("invalid transition [follower -> leader]")
        self._reset(self.term)
        self.lead = self.id
        self.role = LEADER
        progress = self.tracker.progress[self.id]
        progress.become_replicate()
        progress.recent_active = True
        # There may be a configuration change somewhere in the tail. Looking for it could take long;
        # waiting until the tail is applied is safe.
        self.pending_conf_index = self.log.last_index()
        # An entry of our own term, to commit what was left by earlier ones. Raft paper 5.4.2.
        self.append([Entry(ENTRY_NORMAL, self.term, self.log.last_index() + 1, b"")])
        self.note(INFO, "became leader", {"last_index": self.log.last_index()})

    def append(self, entries: list[Entry]) -> None:
        """Take entries, with term and index set, into the leader's log; its own ack comes when they are on disk."""
        self.log.append(entries)
        if self.is_async:
            self.send(Message(MSG_APP_RESP, self.id, index=entries[-1].index))
            return
        # The same ack without the message. Acks of an earlier term are void.
        if self.own_acks_term != self.term:
            self.own_acks = []
            self.own_acks_term = self.term
        self.own_acks.append(entries[-1].index)

    def own_appended(self, acks: list[int], term: int) -> None:
        """The leader's own disk has all up to each of these indexes, appended at `term`."""
        for index in acks:
            if self.role == LEADER and self.term == term:
                progress = self.tracker.progress.get(self.id)
                if progress is not None:
                    progress.recent_active = True
                    append_acked(self, self.id, index, progress)

    def promotable(self) -> bool:
        """Whether we may become leader: a voter, with no snapshot still to be applied."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.unstable.snapshot is None

    # Stepping

    def step(self, message: Message) -> None:
        """Take one message in.

        Raises: ProposalDroppedError.
        """
        if message.term != 0 and message.term != self.term and not self._step_other_term(message):
            return
        kind = message.type
        if kind == MSG_HUP:
            hup(self, self.pre_vote, False)
        elif kind in _VOTE_REQUESTS:
            answer_vote_request(self, message)
        elif kind == MSG_STORAGE_APPEND_RESP:
            self.storage_appended(message.term, message.index, message.log_term, message.snapshot)
        elif kind == MSG_STORAGE_APPLY_RESP:
            self.storage_applied(message.entries)
        elif self.role == LEADER:
            step_leader(self, message)
        elif self.role == FOLLOWER:
            step_follower(self, message)
        else:
            step_candidate(self, message)

    def _step_other_term(self, message: Message) -> bool:
        """Deal with a message of another term; True if it is to be stepped all the same."""
        kind = message.type
        if message.term > self.term:
            if kind in _VOTE_REQUESTS and message.context != CAMPAIGN_TRANSFER:
                if self.check_quorum and self.lead != 0 and self.election_elapsed < self.election_timeout:
                    # We heard of a leader less than an election timeout ago: it has our lease.
                    self.note(
                        INFO,
                        "ignored vote request: lease is not expired",
                        {
                            "kind": MESSAGE_NAMES[kind],
                            "from": message.from_,
                            "remaining_ticks": self.election_timeout - self.election_elapsed,
                        },
                    )
                    return False
            if kind == MSG_PRE_VOTE or (kind == MSG_PRE_VOTE_RESP and not message.reject):
                # Both speak of a term that nobody has yet. A refusal carries the refuser's real one.
                return True
            self.note(
                INFO,
                "received a message with higher term",
                {"kind": MESSAGE_NAMES[kind], "from": message.from_, "message_term": message.term},
            )
            lead = message.from_ if kind in _FROM_LEADER else 0
            self.become_follower(message.term, lead)
            return True

        if (self.check_quorum or self.pre_vote) and kind in _APPEND_OR_HEARTBEAT:
            # A leader of an older term: perhaps a delayed message, perhaps we raised our term while cut
            # off. Nobody would follow our term by votes alone (leases, pre-votes), so tell the leader;
            # it steps down and an election brings us together. Removed nodes get no appends, so they
            # cannot disturb this way.
            self.send(Message(MSG_APP_RESP, message.from_))
        elif kind == MSG_PRE_VOTE:
            # Without an answer a cluster that has just switched pre-vote on could lock up: a candidate
            # with a higher term but an older log, and others that would win but are behind in term.
            self.note(INFO, "rejected vote request", {"kind": MESSAGE_NAMES[kind], "from": message.from_})
            self.send(Message(MSG_PRE_VOTE_RESP, message.from_, term=self.term, reject=True))
        elif kind == MSG_STORAGE_APPEND_RESP:
            self.storage_appended(message.term, message.index, message.log_term, message.snapshot)
        else:
            self.note(
                INFO,
                "ignored a message with lower term",
                {"kind": MESSAGE_NAMES[kind], "from": message.from_, "message_term": message.term},
            )
        return False

    # What the disk and the state machine have done

    def storage_appended(self, term: int, index: int, log_term: int, snapshot: Snapshot | None) -> None:
        """All up to (index, log_term), and the snapshot, were on disk when our term was `term`.

        After a change of term other entries may be on their way to the same places: what was
        written says nothing of them then. A snapshot is committed state and good in any term.
        """
        if index != 0 and (term == 0 or term >= self.term):
            self.log.unstable.stable_to(index, log_term)
        if snapshot is not None:
            self.log.unstable.stable_snapshot_to(snapshot.index)
            self.applied_to(snapshot.index, 0)

    def storage_applied(self, entries: list[Entry]) -> None:
        """These committed entries are applied."""
        if not entries:
            return
        self.applied_to(entries[-1].index, entries_size(entries) if self.log.applying_size else 0)
        if self.uncommitted_size:
            self.uncommitted_size = max(0, self.uncommitted_size - payloads_size(entries))

    def applied_to(self, index: int, size: int) -> None:
        log = self.log
        log.applied_to(index if index > log.applied else log.applied, size)
        config = self.tracker.config
        if config.auto_leave and log.applied >= self.pending_conf_index and self.role == LEADER:
            # Leave the joint configuration. The proposal is empty, so size cannot refuse it; a transfer of
            # leadership can, and then the next applied entry or the next leader comes here again.
            try:
                self.step(Message(MSG_PROP, entries=[Entry(ENTRY_CONF_CHANGE_V2, 0, 0, b"")]))
                self.note(INFO, "initiating automatic transition out of joint configuration", {"config": repr(config)})
            except ProposalDroppedError:
                pass

    def maybe_commit(self) -> bool:
        """Commit what a quorum has; True if that is more than before (then everyone should hear of it)."""
        return self.log.maybe_commit(self.tracker.committed(), self.term)

    def committed_in_term(self) -> bool:
        """Whether an entry of our term is committed: only then do we surely know all that is."""
        return self.log.term(self.log.committed) == self.term

    def reserve_uncommitted(self, size: int) -> bool:
        """Take room for payloads in the uncommitted tail. An empty tail takes any, and empty payloads always fit."""
        if self.uncommitted_size > 0 and size > 0 and self.uncommitted_size + size > self.max_uncommitted_size:
            return False
        self.uncommitted_size += size
        return True

    # Snapshots and configurations

    def restore(self, snapshot: Snapshot) -> bool:
        """Begin anew from a leader's snapshot; False if there is no need or it cannot be."""
        log = self.log
        if snapshot.index <= log.committed:
            return False
        if self.role != FOLLOWER:
            # Never so, as only followers get here; a leader that did this must not go on in its term.
            self.note(WARNING, "attempted to restore snapshot as leader; should never happen", {})
            self.become_follower(self.term + 1, 0)
            return False
        state = snapshot.conf_state
        # learners_next are among voters_outgoing.
        if self.id not in state.voters and self.id not in state.learners and self.id not in state.voters_outgoing:
            self.note(WARNING, "attempted to restore snapshot but it is not in the ConfState; should never happen", {})
            return False
        if log.match_term(snapshot.index, snapshot.term):
            # We have all of it already, only did not know that it is committed.
            self.note(INFO, "fast-forwarded commit to snapshot", {"index": snapshot.index})
            log.commit_to(snapshot.index)
            return False
        log.restore(snapshot)
        self.tracker = Tracker(self.tracker.inflight_max, self.tracker.inflight_bytes_max)
        confchange.restore(self.tracker, log.last_index(), state)
        self._switch_to_restored(state)
        self.note(INFO, "restored snapshot", {"index": snapshot.index, "snapshot_term": snapshot.term})
        return True

    def _switch_to_restored(self, state: ConfState) -> None:
        made = self._switch(self.tracker.config, self.tracker.progress)
        if made != state:
            raise RaftPanic(f"ConfStates not equivalent after sorting:\n{state}\n{made}")

    def apply_conf_change(self, change: ConfChangeV2) -> ConfState:
        changer = confchange.Changer(self.tracker, self.log.last_index())
        if change.transition == ConfChangeTransition.AUTO and not change.changes:
            config, progress = changer.leave_joint()
        elif change.transition != ConfChangeTransition.AUTO or len(change.changes) > 1:
            auto_leave = change.transition != ConfChangeTransition.JOINT_EXPLICIT
            config, progress = changer.enter_joint(auto_leave, change.changes)
        else:
            config, progress = changer.simple(change.changes)
        return self._switch(config, progress)

    def _switch(self, config: Configuration, progress: dict[int, Progress]) -> ConfState:
        tracker = self.tracker
        tracker.switch(config, progress)
        self.note(INFO, "switched to configuration", {"config": repr(config)})
        state = config.conf_state()
        own = progress.get(self.id)
        self.is_learner = own is not None and own.is_learner
        if self.role != LEADER:
            return state
        if own is None or self.is_learner:
            # Removed or demoted. Without stepping down it leads on until someone else does.
            if self.step_down_on_removal:
                self.become_follower(self.term, 0)
            return state
        if not config.incoming:
            return state
        if self.maybe_commit():
            # The new quorum is easier: more is committed now.
            broadcast_append(self)
        else:
            # New nodes need not wait for the next heartbeat.
            for node_id in tracker.ids:
                if node_id != self.id:
                    maybe_send_append(self, node_id, False)
        if self.lead_transferee != 0 and self.lead_transferee not in config.voters():
            self.lead_transferee = 0
        return state

    def timeout_now(self, node_id: int) -> None:
        """Tell a node to start an election at once."""
        self.send(Message(MSG_TIMEOUT_NOW, node_id))
