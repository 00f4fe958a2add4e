"""Raft's values as text, in the form that etcd's own tools and scenario files use."""

from __future__ import annotations

from balsad.raft.codec import decode_conf_change, decode_conf_change_v2
from balsad.raft.kinds import (
    APPEND_THREAD,
    APPLY_THREAD,
    ENTRY_CONF_CHANGE,
    ENTRY_NAMES,
    ENTRY_NORMAL,
    MESSAGE_NAMES,
    ROLE_NAMES,
)
from balsad.raft.messages import ConfChangeSingle, ConfState, Entry, HardState, Message, Snapshot
from balsad.raft.read_only import ReadState
from balsad.raft.ready import Ready, SoftState

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_CHANGE_LETTERS = "vrul"


def quote(data: bytes) -> str:
    """Bytes as a quoted string, escaped as Go does it."""
    parts: list[str] = []
    # A byte that is not UTF-8 comes out of the decoder as a surrogate.
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if code in _ESCAPES:
            parts.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            parts.append(char)
        elif code < 0x80:
            parts.append(f"\\x{code:02x}")
        elif code < 0x10000:
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(f"\\U{code:08x}")
    return '"' + "".join(parts) + '"'


def describe_changes(changes: tuple[ConfChangeSingle, ...]) -> str:
    """`v1 l2 r3 u4`: voter, learner, removal, update."""
    return " ".join([f"{_CHANGE_LETTERS[change.type]}{change.node_id}" for change in changes])


def describe_hard_state(state: HardState) -> str:
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"Term:{state.term}{vote} Commit:{state.commit}"


def describe_soft_state(state: SoftState) -> str:
    return f"Lead:{state.lead} State:{ROLE_NAMES[state.role]}"


def _ids(ids: tuple[int, ...]) -> str:
    return "[" + " ".join([str(node_id) for node_id in ids]) + "]"


def describe_conf_state(state: ConfState) -> str:
    return (
        f"Voters:{_ids(state.voters)} VotersOutgoing:{_ids(state.voters_outgoing)} Learners:{_ids(state.learners)} "
        f"LearnersNext:{_ids(state.learners_next)} AutoLeave:{'true' if state.auto_leave else 'false'}"
    )


def describe_snapshot(snapshot: Snapshot) -> str:
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{describe_conf_state(snapshot.conf_state)}"


def describe_entry(entry: Entry) -> str:
    if entry.type == ENTRY_NORMAL:
        text = quote(entry.data)
    elif entry.type == ENTRY_CONF_CHANGE:
        text = describe_changes(decode_conf_change(entry.data).as_v2().changes)
    else:
        text = describe_changes(decode_conf_change_v2(entry.data).changes)
    return f"{entry.term}/{entry.index} {ENTRY_NAMES[entry.type]}{' ' + text if text else ''}"


def describe_entries(entries: list[Entry]) -> str:
    return "".join([describe_entry(entry) + "\n" for entry in entries])


def _target(node_id: int) -> str:
    if node_id == 0:
        return "None"
    if node_id == APPEND_THREAD:
        return "AppendThread"
    if node_id == APPLY_THREAD:
        return "ApplyThread"
    return f"{node_id:x}"


def describe_message(message: Message, indent: str = "") -> str:
    text = (
        f"{indent}{_target(message.from_)}->{_target(message.to)} {MESSAGE_NAMES[message.type]} "
        f"Term:{message.term} Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        text += f" Commit:{message.commit}"
    if message.vote:
        text += f" Vote:{message.vote}"
    if len(message.entries) == 1:
        text += f" Entries:[{describe_entry(message.entries[0])}]"
    elif message.entries:
        text += " Entries:["
        text += "".join([f"\n{indent}  {describe_entry(entry)}" for entry in message.entries])
        text += f"\n{indent}]"
    if message.snapshot is not None and not message.snapshot.is_empty():
        text += f"\n{indent}  Snapshot: {describe_snapshot(message.snapshot)}"
    if message.responses:
        text += " Responses:["
        text += "".join(["\n" + describe_message(response, indent + "  ") for response in message.responses])
        text += f"\n{indent}]"
    return text


def _read_state(state: ReadState) -> str:
    return f"{{{state.index} [{' '.join([str(byte) for byte in state.context])}]}}"


def describe_ready(ready: Ready) -> str:
    text = ""
    if ready.soft_state is not None:
        text += describe_soft_state(ready.soft_state) + "\n"
    if ready.hard_state is not None and not ready.hard_state.is_empty():
        text += f"HardState {describe_hard_state(ready.hard_state)}\n"
    if ready.read_states:
        states = [
            f"{{{state.index} [{' '.join([str(byte) for byte in state.context])}]}}" for state in ready.read_states
        ]
        text += f"ReadStates [{' '.join(states)}]\n"
    if ready.entries:
        text += "Entries:\n" + describe_entries(ready.entries)
    if ready.snapshot is not None and not ready.snapshot.is_empty():
        text += f"Snapshot {describe_snapshot(ready.snapshot)}\n"
    if ready.committed_entries:
        text += "CommittedEntries:\n" + describe_entries(ready.committed_entries)
    if ready.messages:
        text += "Messages:\n" + "".join([describe_message(message) + "\n" for message in ready.messages])
    if not text:
        return "<empty Ready>"
    return f"Ready MustSync={'true' if ready.must_sync else 'false'}:\n{text}"
