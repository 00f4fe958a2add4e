"""raft.codec: raftpb's bytes, against the generated classes and against what real etcd wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsad.proto import raft_pb2
from balsad.raft.codec import (
    MessageReader,
    decode_conf_change,
    decode_conf_change_v2,
    decode_conf_state,
    decode_entry,
    decode_hard_state,
    decode_message,
    decode_snapshot,
    encode_conf_change,
    encode_conf_change_v2,
    encode_conf_state,
    encode_entry,
    encode_hard_state,
    encode_message,
    encode_snapshot,
    entry_size,
)
from balsad.raft.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from balsad.wire import WireError, uvarint

uint64 = st.integers(0, 2**64 - 1) | st.integers(0, 300)
blobs = st.binary(max_size=300)
ids = st.lists(uint64, max_size=4).map(tuple)

entries = st.builds(Entry, st.integers(0, 2), uint64, uint64, blobs)
hard_states = st.builds(HardState, uint64, uint64, uint64)
conf_states = st.builds(ConfState, ids, ids, ids, ids, st.booleans())
snapshots = st.builds(Snapshot, uint64, uint64, conf_states, blobs)
conf_changes = st.builds(ConfChange, st.integers(0, 3), uint64, blobs, uint64)
conf_changes_v2 = st.builds(
    ConfChangeV2,
    st.integers(0, 2),
    st.lists(st.builds(ConfChangeSingle, st.integers(0, 3), uint64), max_size=4).map(tuple),
    blobs,
)
messages = st.builds(
    Message,
    st.integers(0, 18),
    to=uint64,
    from_=uint64,
    term=uint64,
    log_term=uint64,
    index=uint64,
    entries=st.lists(entries, max_size=3),
    commit=uint64,
    vote=uint64,
    snapshot=st.none() | snapshots,
    reject=st.booleans(),
    reject_hint=uint64,
    context=blobs,
)


# The generated classes write a field that was set, zero or not, in the order of the
# numbers: set the ones gogo-protobuf always writes, and the bytes must be the same.


def generated_entry(entry: Entry) -> Any:
    made = raft_pb2.Entry(Type=entry.type, Term=entry.term, Index=entry.index)
    if entry.data:
        made.Data = entry.data
    return made


def generated_conf_state(state: ConfState) -> Any:
    return raft_pb2.ConfState(
        voters=state.voters,
        learners=state.learners,
        voters_outgoing=state.voters_outgoing,
        learners_next=state.learners_next,
        auto_leave=state.auto_leave,
    )


def generated_snapshot(snapshot: Snapshot) -> Any:
    made = raft_pb2.Snapshot(
        metadata=raft_pb2.SnapshotMetadata(
            conf_state=generated_conf_state(snapshot.conf_state), index=snapshot.index, term=snapshot.term
        )
    )
    if snapshot.data:
        made.data = snapshot.data
    return made


def generated_message(message: Message) -> Any:
    made = raft_pb2.Message(
        type=message.type,
        to=message.to,
        term=message.term,
        logTerm=message.log_term,
        index=message.index,
        entries=[generated_entry(entry) for entry in message.entries],
        commit=message.commit,
        snapshot=generated_snapshot(message.snapshot or Snapshot()),
        reject=message.reject,
        rejectHint=message.reject_hint,
        **{"from": message.from_},
    )
    if message.context:
        made.context = message.context
    if message.vote:
        made.vote = message.vote
    return made


@given(entries)
def test_entry(entry: Entry) -> None:
    encoded = encode_entry(entry)

    assert encoded == generated_entry(entry).SerializeToString()
    assert decode_entry(encoded) == entry
    assert entry_size(entry) == len(encoded)


@given(hard_states)
def test_hard_state(state: HardState) -> None:
    encoded = encode_hard_state(state)

    assert encoded == raft_pb2.HardState(term=state.term, vote=state.vote, commit=state.commit).SerializeToString()
    assert decode_hard_state(encoded) == state


@given(conf_states)
def test_conf_state(state: ConfState) -> None:
    encoded = encode_conf_state(state)
    decoded = decode_conf_state(encoded)

    assert encoded == generated_conf_state(state).SerializeToString()
    assert (decoded.voters, decoded.learners, decoded.voters_outgoing, decoded.learners_next, decoded.auto_leave) == (
        state.voters,
        state.learners,
        state.voters_outgoing,
        state.learners_next,
        state.auto_leave,
    )


@given(snapshots)
def test_snapshot(snapshot: Snapshot) -> None:
    encoded = encode_snapshot(snapshot)

    assert encoded == generated_snapshot(snapshot).SerializeToString()
    assert decode_snapshot(encoded) == snapshot


@given(conf_changes)
def test_conf_change(change: ConfChange) -> None:
    encoded = encode_conf_change(change)
    made = raft_pb2.ConfChange(type=change.type, node_id=change.node_id, id=change.id)
    if change.context:
        made.context = change.context
    decoded = decode_conf_change(encoded)

    assert encoded == made.SerializeToString()
    assert (decoded.id, decoded.type, decoded.node_id, decoded.context) == (
        change.id,
        change.type,
        change.node_id,
        change.context,
    )


@given(conf_changes_v2)
def test_conf_change_v2(change: ConfChangeV2) -> None:
    encoded = encode_conf_change_v2(change)
    made = raft_pb2.ConfChangeV2(
        transition=change.transition,
        changes=[raft_pb2.ConfChangeSingle(type=single.type, node_id=single.node_id) for single in change.changes],
    )
    if change.context:
        made.context = change.context
    decoded = decode_conf_change_v2(encoded)

    assert encoded == made.SerializeToString()
    assert (decoded.transition, decoded.context) == (change.transition, change.context)
    assert [(single.type, single.node_id) for single in decoded.changes] == [
        (single.type, single.node_id) for single in change.changes
    ]


@given(messages)
def test_message(message: Message) -> None:
    encoded = encode_message(message)
    decoded = decode_message(encoded)

    assert encoded == generated_message(message).SerializeToString()
    assert encode_message(decoded) == encoded
    assert decoded.entries == message.entries
    assert decoded.from_ == message.from_


def test_message_with_responses() -> None:
    """Storage messages carry the answers to send once they are done."""
    message = Message(19, to=1, responses=[Message(4, to=2, index=7), Message(20, to=1)])

    decoded = decode_message(encode_message(message))

    assert [(response.type, response.to, response.index) for response in decoded.responses] == [(4, 2, 7), (20, 1, 0)]


def test_an_absent_snapshot_is_written_as_an_empty_one_and_read_as_none() -> None:
    """etcd 3.5's Message.snapshot is not nullable."""
    encoded = encode_message(Message(8))

    assert encoded == bytes.fromhex("08081000180020002800300040004a0a12080a0228001000180050005800")
    assert decode_message(encoded).snapshot is None


@pytest.mark.parametrize(
    ("encoded", "entry"),
    [
        # The empty entry of a new leader, from a log that etcd 3.5.1 wrote.
        (bytes.fromhex("080010021802"), Entry(0, 2, 2, b"")),
        (bytes.fromhex("080010021805220161"), Entry(0, 2, 5, b"a")),
    ],
)
def test_entry_bytes_of_etcd(encoded: bytes, entry: Entry) -> None:
    assert encode_entry(entry) == encoded
    assert decode_entry(encoded) == entry


def test_packed_lists_are_read_too() -> None:
    """A newer writer may pack repeated numbers."""
    state = decode_conf_state(b"\x0a\x03\x01\xac\x02\x12\x01\x09\x28\x01")

    assert (state.voters, state.learners, state.auto_leave) == ((1, 300), (9,), True)


@given(entries, st.binary(max_size=20))
def test_unknown_fields_are_skipped(entry: Entry, noise: bytes) -> None:
    unknown = b"\x7a" + bytes([len(noise)]) + noise + b"\x85\x01\x01\x02\x03\x04"

    assert decode_entry(unknown + encode_entry(entry) + unknown) == entry


DECODERS = [
    decode_entry,
    decode_hard_state,
    decode_conf_state,
    decode_snapshot,
    decode_conf_change,
    decode_conf_change_v2,
    decode_message,
]


@given(st.binary(max_size=60), st.sampled_from(DECODERS))
def test_any_bytes_are_read_or_refused(noise: bytes, decode: Any) -> None:
    """No exception but WireError, whatever arrives."""
    try:
        decode(noise)
    except WireError:
        pass


@given(messages.filter(lambda message: bool(message.entries)), st.data())
def test_a_cut_off_message_is_refused_or_shorter(message: Message, data: st.DataObject) -> None:
    encoded = encode_message(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))

    try:
        decoded = decode_message(encoded[:cut])
    except WireError:
        return
    assert encode_message(decoded) != encoded


@given(st.lists(messages, min_size=1, max_size=3), st.data())
def test_a_reader_that_knows_beginnings_reads_the_same(several: list[Message], data: st.DataObject) -> None:
    """Also those that only look like what it knows: every message once more with bytes changed, cut off or added."""
    reader = MessageReader()
    for message in several:
        encoded = encode_message(message)
        at = data.draw(st.integers(0, len(encoded) - 1))
        changed = bytearray(encoded)
        changed[at] ^= data.draw(st.integers(1, 255))
        for one in (encoded, encoded, bytes(changed), encoded[:at], encoded + encoded[:at], encoded[at:]):
            try:
                expected = encode_message(decode_message(one))
            except (WireError, RecursionError):
                with pytest.raises((WireError, RecursionError)):
                    reader.decode(one)
            else:
                assert encode_message(reader.decode(one)) == expected


@given(
    sizes=st.lists(st.sampled_from([0, 1, 127, 128, 16383, 16384]), min_size=1, max_size=3),
    at=st.integers(0, 300),
    put_there=st.binary(max_size=3),
)
def test_proposals_are_written_and_read_as_entries_alone_are(sizes: list[int], at: int, put_there: bytes) -> None:
    """They have no place in the log yet, which is looked for as it is written."""
    message = Message(2, 1, 2, entries=[Entry(0, 0, 0, bytes(size)) for size in sizes])
    encoded = encode_message(message)
    assert encoded == generated_message(message).SerializeToString()
    assert decode_message(encoded).entries == message.entries
    broken = bytearray(encode_entry(message.entries[0]))
    broken[at % len(broken) : at % len(broken) + len(put_there)] = put_there
    one = b"\x3a" + uvarint(len(broken)) + bytes(broken)
    try:
        alone = decode_entry(bytes(broken))
    except WireError:
        with pytest.raises(WireError):
            decode_message(one)
    else:
        assert decode_message(one).entries == [alone]
