"""Interprets the commands that drive a cluster of raft nodes, and prints what etcd's raft prints for them.

Raft does not log, so the log lines in the files are left out of the comparison; the log level only
matters as `none`, which silences everything but errors.
"""

from __future__ import annotations

from collections.abc import Callable

from balsad.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    NO_LIMIT,
    ROLE_NAMES,
    ConfChange,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryLog,
    Message,
    RaftError,
    RawNode,
    Snapshot,
)
from balsad.raft.codec import decode_conf_change, decode_conf_change_v2
from balsad.raft.describe import describe_entries, describe_message, describe_ready
from balsad.raft.kinds import MESSAGE_NAMES, MSG_SNAP, MSG_STORAGE_APPEND, is_local_target
from balsad.raft.tracker import describe_progress
from tests.scenarios.scenario_confchange import parse_changes, parse_id
from tests.scenarios.scenario_files import Command

COMMANDS = frozenset(
    (
        "_breakpoint",
        "add-nodes",
        "campaign",
        "compact",
        "deliver-msgs",
        "forget-leader",
        "log-level",
        "process-append-thread",
        "process-apply-thread",
        "process-ready",
        "propose",
        "propose-conf-change",
        "raft-log",
        "raft-state",
        "report-unreachable",
        "send-snapshot",
        "set-randomized-election-timeout",
        "stabilize",
        "status",
        "tick-election",
        "tick-heartbeat",
        "transfer-leadership",
    )
)

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE")
TRANSITIONS = {"auto": 0, "implicit": 1, "explicit": 2}
ANY_TYPE = -1


TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class CommandError(Exception):
    """A command went wrong in a way that belongs to its output."""


def parse_bool(text: str) -> bool:
    """Raises: CommandError with Go's words."""
    if text not in TRUTHS:
        raise CommandError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return TRUTHS[text]


class HistoryLog:
    """A log whose snapshot is always the state machine's newest state."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.history: list[Snapshot] = []
        self.initial_state = self.log.initial_state
        self.entries = self.log.entries
        self.term = self.log.term
        self.first_index = self.log.first_index
        self.last_index = self.log.last_index

    def snapshot(self) -> Snapshot:
        return self.history[-1]


class Node:
    def __init__(self, config: Config, storage: HistoryLog) -> None:
        self.id = config.id
        self.config = config
        self.storage = storage
        self.raw = RawNode(config)
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []

    def append(self, state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        if state is not None and not state.is_empty():
            self.storage.log.set_hard_state(state)
        if snapshot is not None and not snapshot.is_empty():
            if entries:
                raise CommandError("can't apply snapshot and entries at the same time")
            self.storage.log.apply_snapshot(snapshot)
            return
        self.storage.log.append(entries)

    def apply(self, entries: list[Entry]) -> None:
        """The state is all that was ever proposed, one after the other."""
        for entry in entries:
            state: ConfState | None = None
            if entry.type == 1:
                change = decode_conf_change(entry.data)
                update = change.context
                state = self.raw.apply_conf_change(change)
            elif entry.type == 2:
                change_v2 = decode_conf_change_v2(entry.data)
                update = change_v2.context
                state = self.raw.apply_conf_change(change_v2)
            else:
                update = entry.data
            last = self.storage.history[-1]
            if state is None:
                state = last.conf_state
            self.storage.history.append(Snapshot(entry.index, entry.term, state, last.data + update))


class InteractionWorld:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self.output: list[str] = []
        self.level = 0

    # The frame

    def run(self, command: Command) -> str:
        self.output = []
        handler: Callable[[Command], None] | None = getattr(self, "_do_" + command.name.replace("-", "_"), None)
        error = ""
        try:
            if handler is None:
                raise CommandError("unknown command")
            handler(command)
        except (CommandError, RaftError) as failure:
            error = str(failure)
        if error and self._quiet():
            return error
        return "".join(self.output) + error or "ok"

    def _quiet(self) -> bool:
        return self.level == len(LEVELS) - 1

    def _write(self, text: str) -> None:
        if not self._quiet():
            self.output.append(text)

    def _indented(self, action: Callable[[], None]) -> None:
        outer = self.output
        self.output = []
        try:
            action()
        finally:
            text = "".join(self.output)
            self.output = outer
            self.output.extend(f"  {line}\n" for line in text.splitlines())

    def _node(self, command: Command) -> Node:
        return self.nodes[int(command.arguments[0].key) - 1]

    def _nodes(self, command: Command) -> list[Node]:
        return [self.nodes[int(key) - 1] for key in command.plain()]

    def _set_level(self, name: str) -> None:
        if name.upper() not in LEVELS:
            raise CommandError(f"log levels must be either of [{' '.join(LEVELS)}]")
        self.level = LEVELS.index(name.upper())

    # Making nodes

    def _do__breakpoint(self, command: Command) -> None:
        pass

    def _do_add_nodes(self, command: Command) -> None:
        voters: list[int] = []
        learners: list[int] = []
        snapshot = Snapshot()
        options: dict[str, int | bool] = {}
        for key, values in command.arguments[1:]:
            for value in values:
                if key == "voters":
                    voters.append(int(value))
                elif key == "learners":
                    learners.append(int(value))
                elif key == "inflight":
                    options["max_inflight_msgs"] = int(value)
                elif key == "index":
                    snapshot.index = int(value)
                    options["applied"] = snapshot.index
                elif key == "content":
                    snapshot.data = value.encode()
                elif key == "async-storage-writes":
                    options["async_storage_writes"] = parse_bool(value)
                elif key == "prevote":
                    options["pre_vote"] = parse_bool(value)
                elif key == "checkquorum":
                    options["check_quorum"] = parse_bool(value)
                elif key == "max-committed-size-per-ready":
                    options["max_committed_size_per_ready"] = int(value)
                elif key == "disable-conf-change-validation":
                    options["disable_conf_change_validation"] = parse_bool(value)
                elif key == "step-down-on-removal":
                    options["step_down_on_removal"] = parse_bool(value)
                elif key == "read-only":
                    if value not in ("safe", "lease-based"):
                        raise CommandError(f'invalid read-only option "{value}"')
                    options["read_only_lease_based"] = value == "lease-based"
        snapshot.conf_state = ConfState(tuple(voters), tuple(learners))
        begun = bool(voters or learners or snapshot.index or snapshot.data)
        if begun:
            if snapshot.index <= 1:
                raise CommandError("index must be specified as > 1 due to bootstrap")
            snapshot.term = 1
        for _ in range(int(command.arguments[0].key)):
            storage = HistoryLog()
            storage.history.append(snapshot)
            if begun:
                storage.log.apply_snapshot(snapshot)
            settings: dict[str, int | bool] = {"max_inflight_msgs": 2**31 - 1, **options}
            config = Config(
                id=len(self.nodes) + 1,
                storage=storage,
                random=lambda n: 0,
                election_tick=3,
                heartbeat_tick=1,
                **settings,  # type: ignore[arg-type]
            )
            self.nodes.append(Node(config, storage))

    # Input

    def _do_campaign(self, command: Command) -> None:
        self._node(command).raw.campaign()

    def _do_propose(self, command: Command) -> None:
        data = command.arguments[1].key.encode()
        self._node(command).raw.propose([Entry(0, 0, 0, data)])

    def _do_propose_conf_change(self, command: Command) -> None:
        is_v1 = False
        transition = 0
        for key, values in command.arguments[1:]:
            for value in values:
                if key == "v1":
                    is_v1 = parse_bool(value)
                elif key == "transition":
                    if value not in TRANSITIONS:
                        raise CommandError(f"unknown transition {value}")
                    transition = TRANSITIONS[value]
                else:
                    raise CommandError(f"unknown command {key}")
        try:
            changes = parse_changes(command.input)
        except ValueError as error:
            raise CommandError(str(error)) from None
        raw = self._node(command).raw
        if not is_v1:
            raw.propose_conf_change(ConfChangeV2(transition, changes))
            return
        if len(changes) > 1 or transition:
            raise CommandError("v1 conf change can only have one operation and no transition")
        raw.propose_conf_change(ConfChange(changes[0].type, changes[0].node_id))

    def _do_transfer_leadership(self, command: Command) -> None:
        leader, to = int(command.value("from") or 0), int(command.value("to") or 0)
        assert 0 < leader <= len(self.nodes) and 0 < to <= len(self.nodes), command
        self.nodes[leader - 1].raw.transfer_leader(to)

    def _do_forget_leader(self, command: Command) -> None:
        self._node(command).raw.forget_leader()

    def _do_report_unreachable(self, command: Command) -> None:
        nodes = self._nodes(command)
        if len(nodes) != 2:
            raise CommandError("must specify exactly two node indexes: node on which to report, and reported node")
        nodes[0].raw.report_unreachable(nodes[1].id)

    def _do_send_snapshot(self, command: Command) -> None:
        sender, receiver = self._nodes(command)
        message = Message(
            MSG_SNAP,
            to=receiver.id,
            from_=sender.id,
            term=sender.raw.status().term,
            snapshot=sender.storage.snapshot(),
        )
        self.messages.append(message)
        self._write(describe_message(message))

    def _do_set_randomized_election_timeout(self, command: Command) -> None:
        timeout = int(command.value("timeout") or 0)
        assert timeout, command
        self._node(command).raw.raft.randomized_election_timeout = timeout

    def _do_tick_election(self, command: Command) -> None:
        node = self._node(command)
        for _ in range(node.config.election_tick):
            node.raw.tick()

    def _do_tick_heartbeat(self, command: Command) -> None:
        node = self._node(command)
        for _ in range(node.config.heartbeat_tick):
            node.raw.tick()

    # Looking

    def _do_log_level(self, command: Command) -> None:
        self._set_level(command.arguments[0].key)

    def _do_raft_log(self, command: Command) -> None:
        self._raft_log(self._node(command))

    def _raft_log(self, node: Node) -> None:
        first, last = node.storage.first_index(), node.storage.last_index()
        if last < first:
            self._write(f"log is empty: first index={first}, last index={last}")
            return
        self._write(describe_entries(node.storage.entries(first, last + 1, NO_LIMIT)))

    def _do_raft_state(self, command: Command) -> None:
        for node in self.nodes:
            status = node.raw.status()
            voter = "(Voter)" if status.id in status.config.voters() else "(Non-Voter)"
            self._write(f"{status.id}: {ROLE_NAMES[status.role]} {voter} Term:{status.term} Lead:{status.lead}\n")

    def _do_status(self, command: Command) -> None:
        self._write(describe_progress(self._node(command).raw.status().progress))

    def _do_compact(self, command: Command) -> None:
        node = self._node(command)
        try:
            index = parse_id(command.arguments[1].key)
        except ValueError as error:
            raise CommandError(str(error)) from None
        node.storage.log.compact(index)
        self._raft_log(node)

    # Output

    def _each(self, command: Command, what: str, action: Callable[[Node], None]) -> None:
        nodes = self._nodes(command)
        for node in nodes:
            if len(nodes) > 1:
                self._headed(node, what, action)
            else:
                action(node)

    def _headed(self, node: Node, what: str, action: Callable[[Node], None]) -> None:
        self._write(f"> {node.id} {what}\n")
        self._indented(lambda: action(node))

    def _do_process_ready(self, command: Command) -> None:
        self._each(command, "handling Ready", self._process_ready)

    def _process_ready(self, node: Node) -> None:
        ready = node.raw.ready()
        self._write(describe_ready(ready))
        is_async = node.config.async_storage_writes
        if not is_async:
            node.append(ready.hard_state, ready.entries, ready.snapshot)
            node.apply(ready.committed_entries)
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                assert is_async and message.type == MSG_STORAGE_APPEND, message
                node.append_work.append(message)
            elif message.to == APPLY_THREAD:
                assert is_async, message
                node.apply_work.append(message)
            else:
                self.messages.append(message)
        if not is_async:
            node.raw.advance(ready)

    def _do_process_append_thread(self, command: Command) -> None:
        self._each(command, "processing append thread", self._process_append)

    def _process_append(self, node: Node) -> None:
        if not node.append_work:
            self._write("no append work to perform")
            return
        message = node.append_work.pop(0)
        responses, message.responses = message.responses, []
        self._write(f"Processing:\n{describe_message(message)}\n")
        state = HardState(message.term, message.vote, message.commit)
        node.append(state, message.entries, message.snapshot)
        self._answer(responses)

    def _do_process_apply_thread(self, command: Command) -> None:
        self._each(command, "processing apply thread", self._process_apply)

    def _process_apply(self, node: Node) -> None:
        if not node.apply_work:
            self._write("no apply work to perform")
            return
        message = node.apply_work.pop(0)
        responses, message.responses = message.responses, []
        self._write(f"Processing:\n{describe_message(message)}\n")
        node.apply(message.entries)
        self._answer(responses)

    def _answer(self, responses: list[Message]) -> None:
        self._write("Responses:\n" + "".join(f"{describe_message(response)}\n" for response in responses))
        self.messages.extend(responses)

    def _do_deliver_msgs(self, command: Command) -> None:
        kind = ANY_TYPE
        recipients: list[tuple[int, bool]] = []
        for key, values in command.arguments:
            if not values:
                recipients.append((int(key), False))
            for value in values:
                if key == "drop":
                    assert int(value) not in [node_id for node_id, _ in recipients], f"deliver and drop {value}"
                    recipients.append((int(value), True))
                elif key == "type":
                    kind = MESSAGE_NAMES.index(value)
        if sum([self._deliver(node_id, kind, drop) for node_id, drop in recipients]) == 0:
            self._write("no messages\n")

    def _split(self, to: int, kind: int, drop: bool) -> tuple[list[Message], list[Message]]:
        found: list[Message] = []
        rest: list[Message] = []
        for message in self.messages:
            # What the node tells itself is never lost.
            local = message.from_ == message.to or is_local_target(message.from_) or is_local_target(message.to)
            if message.to == to and not (drop and local) and kind in (ANY_TYPE, message.type):
                found.append(message)
            else:
                rest.append(message)
        return found, rest

    def _deliver(self, to: int, kind: int = ANY_TYPE, drop: bool = False) -> int:
        found, self.messages = self._split(to, kind, drop)
        for message in found:
            self._write(f"{'dropped: ' if drop else ''}{describe_message(message)}\n")
            # Nodes that do not exist yet lose what is sent to them.
            if not drop:
                try:
                    self.nodes[to - 1].raw.step(message)
                except RaftError as error:
                    self._write(f"{error}\n")
        return len(found)

    def _do_stabilize(self, command: Command) -> None:
        nodes = self._nodes(command) or self.nodes
        before = self.level
        try:
            for key, values in command.arguments:
                if key == "log-level" and values:
                    self._set_level(values[0])
            while self._stabilize_once(nodes):
                pass
        finally:
            self.level = before

    def _stabilize_once(self, nodes: list[Node]) -> bool:
        busy = False
        for node in nodes:
            if node.raw.has_ready():
                self._headed(node, "handling Ready", self._process_ready)
                busy = True
        for node in nodes:
            if self._split(node.id, ANY_TYPE, False)[0]:
                self._headed(node, "receiving messages", self._receive)
                busy = True
        for node in nodes:
            if node.append_work:
                self._write(f"> {node.id} processing append thread\n")
                while node.append_work:
                    self._indented(lambda node=node: self._process_append(node))  # type: ignore[misc]
                busy = True
        for node in nodes:
            if node.apply_work:
                self._write(f"> {node.id} processing apply thread\n")
                while node.apply_work:
                    self._indented(lambda node=node: self._process_apply(node))  # type: ignore[misc]
                busy = True
        return busy

    def _receive(self, node: Node) -> None:
        self._deliver(node.id)
