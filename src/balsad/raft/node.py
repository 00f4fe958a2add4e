"""RawNode: one raft node without clock, disk or network of its own.

    node.tick() / node.step(message) / node.propose(entries) / node.read_index(context)
    while node.has_ready():
        ready = node.ready()
        save ready.hard_state, ready.entries, ready.snapshot    (and give them to the LogStorage)
        send ready.messages
        apply ready.committed_entries                           (node.apply_conf_change for changes)
        node.advance(ready)

A lone voter needs two rounds to commit: the first Ready has the entries, the second, once they are
saved, has them as committed. With Config.async_storage_writes there is no advance(): Ready.messages
then has work for APPEND_THREAD and APPLY_THREAD, and whoever does it delivers the responses in it.

Source: raft's RawNode.
"""

from __future__ import annotations

from collections.abc import Callable

from balsad.raft.codec import encode_conf_change, encode_conf_change_v2
from balsad.raft.config import Config
from balsad.raft.core import Raft
from balsad.raft.errors import ConfigError, RaftPanic, StepLocalMessageError, StepPeerNotFoundError
from balsad.raft.events import Event
from balsad.raft.kinds import (
    APPEND_THREAD,
    APPLY_THREAD,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    LEADER,
    MSG_FORGET_LEADER,
    MSG_HUP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP_STATUS,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    is_local,
    is_local_target,
    is_response,
)
from balsad.raft.leader import propose
from balsad.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from balsad.raft.quorum import VOTE_WON
from balsad.raft.ready import Ready, SoftState, Status
from balsad.raft.sizes import entries_size
from balsad.raft.succession import forget_gone_leader, succeed
from balsad.raft.tracker import Progress


class RawNode:
    __slots__ = (
        "_acks",
        "_acks_term",
        "_appended_index",
        "_appended_log_term",
        "_appended_snapshot",
        "_appended_term",
        "_applying",
        "_commit",
        "_lead",
        "_must_advance",
        "_role",
        "_term",
        "_vote",
        "_votes",
        "raft",
    )

    def __init__(self, config: Config) -> None:
        raft = Raft(config)
        self.raft = raft
        # What the last Ready told.
        self._lead = raft.lead
        self._role = raft.role
        self._term = raft.term
        self._vote = raft.vote
        self._commit = raft.log.committed
        # What advance() has to do for the Ready that is out: our own votes and acks, what is on disk, what is applied.
        self._must_advance = False
        self._votes: list[Message] = []
        self._acks: list[int] = []
        self._acks_term = 0
        self._appended_term = 0
        self._appended_index = 0
        self._appended_log_term = 0
        self._appended_snapshot: Snapshot | None = None
        self._applying: list[Entry] = []

    def bootstrap(self, peers: list[tuple[int, bytes]]) -> None:
        """Begin a new cluster of these (id, context): as if a change had added each, at term 1, committed.

        The changes come back in the first Ready, to be applied like any other.
        Raises: ConfigError without peers, or with a log that is not empty.
        """
        if not peers:
            raise ConfigError("must provide at least one peer to Bootstrap")
        raft = self.raft
        if raft.log.storage.last_index() != 0:
            raise ConfigError("can't bootstrap a nonempty Storage")
        # So that the first Ready has a HardState.
        self._term = 0
        self._vote = 0
        self._commit = 0
        raft.become_follower(1, 0)
        entries: list[Entry] = []
        for node_id, context in peers:
            data = encode_conf_change(ConfChange(ConfChangeType.ADD_NODE, node_id, context))
            entries.append(Entry(ENTRY_CONF_CHANGE, 1, len(entries) + 1, data))
        raft.log.append(entries)
        raft.log.committed = len(entries)
        # Known at once, so that the node may campaign before its first Ready. `applied` stays, so the
        # application gets to see the changes too.
        for node_id, _ in peers:
            raft.apply_conf_change(ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.ADD_NODE, node_id),)))

    # Input

    def tick(self) -> None:
        """One unit of time has passed."""
        self.raft.tick()

    def campaign(self) -> None:
        """Start an election now."""
        self.raft.step(Message(MSG_HUP))

    def propose(self, entries: list[Entry]) -> None:
        """Propose a batch in one step: all of it or nothing.

        A leader sets term and index in these very entries and hands them back in Ready.entries and
        committed_entries. A configuration change that cannot be now comes back as an empty entry in
        its place, with its context. A follower forwards the batch to the leader, and then sees
        entries of its own making come back, without context.

        Raises: ProposalDroppedError.
        """
        raft = self.raft
        if raft.role == LEADER:
            propose(raft, entries)
        else:
            raft.step(Message(MSG_PROP, from_=raft.id, entries=entries))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Propose a change of who votes and who learns. Raises: ProposalDroppedError."""
        if isinstance(change, ConfChange):
            entry = Entry(ENTRY_CONF_CHANGE, 0, 0, encode_conf_change(change))
        else:
            entry = Entry(ENTRY_CONF_CHANGE_V2, 0, 0, encode_conf_change_v2(change))
        self.propose([entry])

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Make a committed change take effect, unless the application refuses it.

        Raises: ConfChangeError if it does not fit the configuration.
        """
        return self.raft.apply_conf_change(change.as_v2() if isinstance(change, ConfChange) else change)

    def step(self, message: Message) -> None:
        """Take a message in from another node (or, with asynchronous writes, from a storage thread).

        Raises: ProposalDroppedError, StepLocalMessageError, StepPeerNotFoundError.
        """
        if not is_local_target(message.from_):
            if is_local(message.type):
                raise StepLocalMessageError
            if is_response(message.type) and message.from_ not in self.raft.tracker.progress:
                raise StepPeerNotFoundError
        self.raft.step(message)

    def read_index(self, context: bytes) -> None:
        """Ask from which index on a read is linearizable; the answer comes as a ReadState with this context.

        It may not come at all, when leadership changes: ask again then.
        """
        self.raft.step(Message(MSG_READ_INDEX, entries=[Entry(ENTRY_NORMAL, 0, 0, context)]))

    def transfer_leader(self, transferee: int) -> None:
        self.raft.step(Message(MSG_TRANSFER_LEADER, from_=transferee))

    def forget_leader(self) -> None:
        """As a follower, forget who leads, so as to vote for another before the election timeout."""
        self.raft.step(Message(MSG_FORGET_LEADER))

    def forget_gone_leader(self, node_id: int) -> int:
        """The process of this node has ended. If it led us: our place among those who may follow it, else NO_TURN."""
        return forget_gone_leader(self.raft, node_id)

    def succeed(self, term: int) -> None:
        """Our turn to follow the leader of `term` that was forgotten: start an election if nobody else has."""
        succeed(self.raft, term)

    def report_unreachable(self, node_id: int) -> None:
        """The last message to this node could not be sent."""
        self.raft.step(Message(MSG_UNREACHABLE, from_=node_id))

    def report_snapshot(self, node_id: int, ok: bool) -> None:
        """The snapshot for this node was sent, or not."""
        self.raft.step(Message(MSG_SNAP_STATUS, from_=node_id, reject=not ok))

    # Output

    def has_ready(self) -> bool:
        """Whether ready() has anything to do."""
        raft = self.raft
        log = raft.log
        unstable = log.unstable
        return (
            # Entries to be written, entries to be applied,
            unstable.offset + len(unstable.entries) > unstable.offset_in_progress
            or log.committed != self._commit
            or log.has_next_committed(not raft.is_async)
            # something to send or to answer,
            or len(raft.messages) > 0
            or len(raft.messages_after_append) > 0
            or len(raft.read_states) > 0
            # or news of ourselves.
            or raft.lead != self._lead
            or raft.role != self._role
            or raft.term != self._term
            or raft.vote != self._vote
            or unstable.next_snapshot() is not None
        )

    def commits_alone(self, term: int) -> bool:
        """Whether entries of `term` are committed once they are on disk here: its leader is the only voter."""
        raft = self.raft
        config = raft.tracker.config
        return (
            raft.role == LEADER
            and raft.term == term
            and len(config.incoming) == 1
            and config.incoming[0] == raft.id
            and not config.outgoing
        )

    def ready(self) -> Ready:
        """The work to be done now. It must be done, and then passed to advance() (but see the module's text)."""
        if self._must_advance:
            raise RaftPanic("two accepted Ready structs without call to Advance")
        raft = self.raft
        log = raft.log
        unstable = log.unstable

        entries = unstable.next_entries()
        committed = log.next_committed(not raft.is_async)
        snapshot = unstable.next_snapshot() if unstable.snapshot is not None else None
        messages = raft.messages
        raft.messages = []
        read_states = raft.read_states
        if read_states:
            raft.read_states = []
        events = raft.events
        if events:
            raft.events = []

        soft_state: SoftState | None = None
        if raft.lead != self._lead or raft.role != self._role:
            self._lead = raft.lead
            self._role = raft.role
            soft_state = SoftState(raft.lead, raft.role)
        hard_state: HardState | None = None
        must_sync = len(entries) > 0
        if raft.term != self._term or raft.vote != self._vote:
            must_sync = True
            self._term = raft.term
            self._vote = raft.vote
            self._commit = log.committed
            hard_state = HardState(raft.term, raft.vote, log.committed)
        elif log.committed != self._commit:
            self._commit = log.committed
            hard_state = HardState(raft.term, raft.vote, log.committed)

        if raft.is_async:
            self._hand_to_threads(messages, entries, committed, hard_state, snapshot)
        else:
            self._hold_for_advance(messages, committed, snapshot)
        unstable.accept_in_progress()
        if committed:
            size = entries_size(committed) if raft.is_async else 0
            log.accept_applying(committed[-1].index, size, not raft.is_async)
        return Ready(soft_state, hard_state, entries, committed, snapshot, messages, read_states, must_sync, events)

    def _hold_for_advance(self, messages: list[Message], committed: list[Entry], snapshot: Snapshot | None) -> None:
        """Sort out what may leave once the Ready is saved, and what is true here then."""
        raft = self.raft
        if raft.messages_after_append:
            for message in raft.messages_after_append:
                if message.to == raft.id:
                    self._votes.append(message)
                    self._must_advance = True
                else:
                    messages.append(message)
            raft.messages_after_append = []
        if raft.own_acks:
            self._must_advance = True
            self._acks = raft.own_acks
            self._acks_term = raft.own_acks_term
            raft.own_acks = []
        tail = raft.log.unstable.entries
        if tail or snapshot is not None:
            self._must_advance = True
            self._appended_term = raft.term
            self._appended_snapshot = snapshot
            if tail:
                last = tail[-1]
                self._appended_index = last.index
                self._appended_log_term = last.term
        if committed:
            self._must_advance = True
            self._applying = committed

    def advance(self, ready: Ready) -> None:
        """The work of this Ready is done: it is saved and applied."""
        raft = self.raft
        if raft.is_async:
            raise RaftPanic("Advance must not be called when using AsyncStorageWrites")
        self._must_advance = False
        if self._votes:
            votes = self._votes
            self._votes = []
            for message in votes:
                raft.step(message)
        if self._acks:
            acks = self._acks
            self._acks = []
            raft.own_appended(acks, self._acks_term)
        if self._appended_index or self._appended_snapshot is not None:
            index = self._appended_index
            snapshot = self._appended_snapshot
            self._appended_index = 0
            self._appended_snapshot = None
            raft.storage_appended(self._appended_term, index, self._appended_log_term, snapshot)
        if self._applying:
            applied = self._applying
            self._applying = []
            raft.storage_applied(applied)

    def _hand_to_threads(
        self,
        messages: list[Message],
        entries: list[Entry],
        committed: list[Entry],
        hard_state: HardState | None,
        snapshot: Snapshot | None,
    ) -> None:
        after_append = self.raft.messages_after_append
        self.raft.messages_after_append = []
        if entries or hard_state is not None or snapshot is not None or after_append:
            messages.append(self._storage_append(entries, hard_state, snapshot, after_append))
        if committed:
            messages.append(self._storage_apply(committed))

    def _storage_append(
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        snapshot: Snapshot | None,
        after_append: list[Message],
    ) -> Message:
        """The work for the append thread, with what to deliver when it is done.

        Our own notice that entries are on disk comes last, so that our acks find them still in
        memory. It carries our term and the end of the log as it is now, also if nothing is appended
        this time: a notice from before a change of term is void (other entries may have gone to the
        same places since), and the next one must make up for it.
        """
        raft = self.raft
        message = Message(MSG_STORAGE_APPEND, APPEND_THREAD, raft.id, entries=entries, snapshot=snapshot)
        if hard_state is not None:
            message.term = hard_state.term
            message.vote = hard_state.vote
            message.commit = hard_state.commit
        message.responses = after_append
        unstable = raft.log.unstable.entries
        if unstable or snapshot is not None:
            notice = Message(MSG_STORAGE_APPEND_RESP, raft.id, APPEND_THREAD, term=raft.term, snapshot=snapshot)
            if unstable:
                notice.index = raft.log.last_index()
                notice.log_term = raft.log.last_term()
            after_append.append(notice)
        return message

    def _storage_apply(self, committed: list[Entry]) -> Message:
        """The work for the apply thread. Committed entries belong to no term."""
        notice = Message(MSG_STORAGE_APPLY_RESP, self.raft.id, APPLY_THREAD, entries=committed)
        return Message(MSG_STORAGE_APPLY, APPLY_THREAD, self.raft.id, entries=committed, responses=[notice])

    def take_events(self) -> list[Event]:
        """What happened since the last Ready, for whoever does not want to wait for the next."""
        events = self.raft.events
        self.raft.events = []
        return events

    # State

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def leads(self) -> bool:
        """Whether it is the leader now, whatever the last Ready said."""
        return self.raft.role == LEADER

    @property
    def committed(self) -> int:
        """The last entry that is known to be committed."""
        return self.raft.log.committed

    @property
    def incoming_snapshot(self) -> Snapshot | None:
        """The leader's snapshot with which this node begins anew, until it is saved and installed."""
        return self.raft.log.unstable.snapshot

    def is_quorum(self, counts: Callable[[int], bool]) -> bool:
        """Whether this node, if it votes, and those other voters that count are enough to commit."""
        own = self.raft.id
        config = self.raft.tracker.config
        if self.raft.tracker.is_singleton() and config.incoming[0] == own:
            return True
        votes = {voter: voter == own or counts(voter) for voter in config.voters()}
        return self.raft.tracker.vote_result(votes) == VOTE_WON

    def status(self) -> Status:
        raft = self.raft
        progress: dict[int, Progress] = {}
        if raft.role == LEADER:
            for node_id in raft.tracker.ids:
                copy = raft.tracker.progress[node_id].copy()
                copy.inflights = copy.inflights.copy()
                progress[node_id] = copy
        return Status(
            raft.id,
            raft.term,
            raft.vote,
            raft.log.committed,
            raft.lead,
            raft.role,
            raft.log.applied,
            raft.lead_transferee,
            raft.tracker.config,
            progress,
        )
